"""A reducer that keeps every state under its label, and says how far two recordings are apart."""

import numpy as np
import torch


class Keep:
    """Takes tiles; each (run, step) may come once."""

    def __init__(self):
        self.states = {}
        self.fixed_run = None

    def as_run(self, number):
        self.fixed_run = number
        return self

    def update(self, tile):
        for i, run in enumerate(tile.run.tolist()):
            for j in range(tile.step.shape[1]):
                if bool(tile.valid[i, j]):
                    key = (run if self.fixed_run is None else self.fixed_run, int(tile.step[i, j]))
                    assert key not in self.states
                    label = (int(tile.position[i, j]), int(tile.token[i, j]))
                    self.states[key] = (label, tile.hidden[i, :, j].clone())

    def rows(self):
        return {"run": np.array([k[0] for k in self.states])}, {}

    def labels(self):
        return {key: label for key, (label, _) in self.states.items()}

    def state(self, run, step):
        return self.states[run, step][1]

    def furthest(self, other):
        """Largest distance between two recordings of a state, in its own norm, layer by layer."""
        assert self.states.keys() == other.states.keys()
        gaps = [(self.states[k][1] - other.states[k][1]).norm(dim=-1) for k in self.states]
        norms = [other.states[k][1].norm(dim=-1) for k in self.states]
        worst = torch.stack([g / n for g, n in zip(gaps, norms, strict=True)])
        assert bool(worst.isfinite().all())
        return float(worst.max())
