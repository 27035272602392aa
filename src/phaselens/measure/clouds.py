"""Clouds of states beside the other measures: one window of 64 steps and one running sum a run, whatever its length.

A cloud has its value at the step that closes a window, in `layers`; elsewhere it is NaN. A chain-of-embedding score
has one at every step, in `steps`: that of the states so far, so the value at the last step is that of the run.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.measure.reducer import Column
from phaselens.observables import Observable, evaluate
from phaselens.observables.cloud import WINDOW
from phaselens.trace.tile import Tile


@dataclass
class _Seen:
    """What is kept of one run: states since the last closed window [layer, step, d], and the sum of all of them."""

    window: Tensor
    total: Tensor
    count: int = 0


class Clouds:
    """Measures observables of whole runs on tiles; its memory does not depend on the length of the runs.

    Rows are those of a `Reducer` that saw the same tiles, in its order. Tiles of one batch of runs come in the order of
    their positions.
    """

    def __init__(self, observables: Sequence[Observable], layers: Sequence[int], n_layers: int) -> None:
        self._windowed = tuple(o for o in observables if o.per == "run_layer")
        self._chained = tuple(o for o in observables if o.per == "run")
        self._layers, self._n_layers = tuple(layers), n_layers
        self._runs: dict[int, _Seen] = {}
        self._ids: list[np.ndarray] = []
        self._of_layers: list[np.ndarray] = []
        self._of_steps: list[np.ndarray] = []
        self.columns = (
            *(Column("layers", o.name, o, None) for o in self._windowed),
            *(Column("steps", o.name, o, None) for o in self._chained),
        )

    def update(self, tile: Tile) -> None:
        """Measure one tile."""
        runs = tile.run.tolist()
        self._runs = {run: self._runs[run] for run in runs if run in self._runs}
        with torch.no_grad():
            for i, run in enumerate(runs):
                if bool(tile.valid[i].any()):
                    self._take(run, tile.hidden[i][:, tile.valid[i]], tile.step[i][tile.valid[i]])

    def _take(self, run: int, hidden: Tensor, step: Tensor) -> None:
        """New states [layer, step, d] of one run."""
        n_layers, n, width = hidden.shape
        if run not in self._runs or int(step[0]) == 0:
            nothing = hidden.new_zeros(n_layers, width, dtype=torch.float64)
            self._runs[run] = _Seen(hidden[:, :0], nothing)
        seen = self._runs[run]
        self._ids.append(np.stack([np.full(n, run), step.cpu().numpy()], axis=1))
        self._of_steps.append(self._chain(seen, hidden))
        self._of_layers.append(self._windows(seen, hidden))

    def _windows(self, seen: _Seen, hidden: Tensor) -> np.ndarray:
        """Values [step, column, layer] of the windows that these states close; NaN at all other steps."""
        out = np.full((hidden.shape[1], len(self._windowed), len(self._layers)), np.nan, dtype=np.float32)
        before = seen.window.shape[1]
        held = torch.cat((seen.window, hidden), dim=1)
        whole = held.shape[1] // WINDOW
        for k in range(whole if self._windowed else 0):
            values = evaluate(self._windowed, {"hidden": held[:, k * WINDOW : (k + 1) * WINDOW]})
            closes = (k + 1) * WINDOW - 1 - before
            out[closes] = np.stack([values[o.name].float().cpu().numpy() for o in self._windowed])
        seen.window = held[:, whole * WINDOW :].clone()
        return out

    def _chain(self, seen: _Seen, hidden: Tensor) -> np.ndarray:
        """Values [step, column] of the states up to and with each step."""
        if not self._chained:
            return np.empty((hidden.shape[1], 0), dtype=np.float32)
        finite = hidden.isfinite().all(-1).all(0)
        sums = seen.total.unsqueeze(1) + hidden.double().masked_fill(~finite[:, None], 0.0).cumsum(1)
        count = seen.count + finite.cumsum(0)
        seen.total, seen.count = sums[:, -1], int(count[-1])
        means = (sums / count[:, None]).movedim(1, 0).unsqueeze(-2)
        layers = torch.tensor(self._layers, device=hidden.device)
        values = evaluate(self._chained, {"hidden": means, "layers": layers, "n_blocks": self._n_layers})
        return np.stack([values[o.name].float().cpu().numpy() for o in self._chained], axis=1)

    def drain(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The measured columns of `steps` and `layers` since the last call, sorted as the rows of a reducer."""
        if not self._ids:
            nothing = np.empty(0, np.float32)
            empty = {t: {c.name: nothing for c in self.columns if c.table == t} for t in ("steps", "layers")}
            return empty["steps"], empty["layers"]
        ids = np.concatenate(self._ids)
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        per_step, per_layer = np.concatenate(self._of_steps)[order], np.concatenate(self._of_layers)[order]
        self._ids, self._of_steps, self._of_layers = [], [], []
        steps = {o.name: np.ascontiguousarray(per_step[:, i]) for i, o in enumerate(self._chained)}
        return steps, {o.name: per_layer[:, i].reshape(-1) for i, o in enumerate(self._windowed)}
