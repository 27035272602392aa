"""The measures of a monitor on a processor, one step at a time: the same numbers with few calls.

The general path (`Reducer`) is made for tiles of many steps. Here the geometry of a step comes from `StepGeometry`, and
only what is measured on distributions goes through the reducers of the lens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phaselens.measure import Column, Reducer
from phaselens.observables.stepwise import StepGeometry
from phaselens.trace.tile import Tile

Columns = dict[str, np.ndarray]


class Quick:
    """Turns tiles of one step (or, after a restart, of the few before) into rows of the last one.

    `distributions` measures those at some of the recorded layers, or at L alone; None: none.
    """

    def __init__(self, geometry: StepGeometry, distributions: Reducer | None) -> None:
        self.geometry, self.layers = geometry, np.array(geometry.layers, np.int64)
        self._distributions = distributions
        self._places = [] if distributions is None else [geometry.layers.index(at) for at in distributions.layers]

    def measure(self, tile: Tile) -> tuple[Columns, Columns]:
        """Columns of `steps` and `layers` at the last position of the tile, of its valid runs in their order."""
        hidden, run = tile.hidden.numpy(), tile.run.numpy()
        for at in range(hidden.shape[2]):
            found = self.geometry.push(run, tile.step[:, at].numpy(), hidden[:, :, at])
        alive = tile.valid[:, -1]
        rows = slice(None) if bool(alive.all()) else alive.nonzero().squeeze(1).numpy()
        run, step, position, token = (
            v.numpy()[rows] for v in (tile.run, tile.step[:, -1], tile.position[:, -1], tile.token[:, -1])
        )
        states = hidden[rows, :, -1]
        finite = np.isfinite(states.sum((1, 2)))
        steps = {"run": run, "step": step, "position": position, "token": token, "finite": finite}
        n_layers = len(self.layers)
        layers = {"run": np.repeat(run, n_layers), "step": np.repeat(step, n_layers)}
        layers["layer"] = np.tile(self.layers, len(run))
        broken = None if finite.all() else ~finite
        for name, values in found.items():
            values = values[rows]
            if broken is not None:
                values = np.where(broken[:, None], np.float32(np.nan), values)
            layers[name] = values.reshape(-1)
        if self._distributions is not None:
            logits = None if tile.logits is None else tile.logits[:, -1][rows]
            self._read(
                torch.from_numpy(states), torch.from_numpy(finite), torch.from_numpy(token), logits, steps, layers
            )
        return steps, layers

    def _read(
        self, states: Tensor, finite: Tensor, token: Tensor, logits: Tensor | None, steps: Columns, layers: Columns
    ) -> None:
        """Add what is measured on distributions; NaN at layers that are not read."""
        columns = self._distributions.columns
        of_layers, of_steps = self._distributions.read(states[:, self._places], finite, token, logits)
        steps |= _named(columns, "steps", of_steps.T)
        if of_layers.shape[1]:
            wide = np.full((of_layers.shape[1], *states.shape[:2]), np.nan, np.float32)
            wide[:, :, self._places] = of_layers.swapaxes(0, 1)
            layers |= _named(columns, "layers", wide.reshape(len(wide), -1))


def _named(columns: Sequence[Column], table: str, values: np.ndarray) -> Columns:
    return dict(zip((c.name for c in columns if c.table == table), values, strict=True))
