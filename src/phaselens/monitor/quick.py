"""The measures of a monitor on a processor, one step at a time: the same numbers with few calls.

The general path (`Reducer`) is made for tiles of many steps. Here the geometry of a step comes from `StepGeometry`, and
what is measured on few distributions from `StepLens`; more of them go through the reducers of the lens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phaselens.measure import Column, Reducer
from phaselens.observables import Observable
from phaselens.observables.lens import FEW_ROWS, logits_of_few
from phaselens.observables.packed import packed_head
from phaselens.observables.steplens import StepLens
from phaselens.observables.stepwise import StepGeometry
from phaselens.trace.tile import Tile
from phaselens.types import Readout

Columns = dict[str, np.ndarray]
NAN = np.float32(np.nan)


class Distributions:
    """What is measured on distributions at some layers, or at L alone (`over_layers` False), one step at a time.

    Few of them are read by `StepLens`, more by `reducer`, which measures the same observables.
    """

    def __init__(
        self, reducer: Reducer, observables: Sequence[Observable], readout: Readout, *, n_blocks: int, over_layers: bool
    ) -> None:
        self.layers, self.over_layers = reducer.layers, over_layers
        self._reducer, self._readout, self._buffers = reducer, readout, {}
        # A bias of -inf takes tokens out of the vocabulary: left to the general path.
        possible = readout.bias is None or not bool(readout.bias.isneginf().any())
        self._few = StepLens(observables, self.layers, n_blocks) if possible and StepLens.knows(observables) else None

    def read(self, states: Tensor, token: np.ndarray, logits: Tensor | None) -> tuple[Columns, Columns]:
        """Columns of `steps` [row] and of `layers` [row, layer] from finite states [row, layer, d_model].

        `logits` [row, vocab] are those of the network, taken where L alone is read.
        """
        if self._few is None or states.shape[0] * states.shape[1] > FEW_ROWS:
            tokens = torch.from_numpy(token)
            of_layers, of_steps = self._reducer.read(states, torch.ones_like(tokens, dtype=torch.bool), tokens, logits)
            columns = self._reducer.columns
            return _named(columns, "steps", of_steps.T), _named(columns, "layers", of_layers.swapaxes(0, 1))
        if logits is None or self.over_layers:
            packed = packed_head(self._readout.weight)
            finished = logits_of_few(states, self._readout, self._buffers, packed)
        else:
            finished = logits.float()[:, None]
        emitted = np.where(token < finished.shape[-1], token, -1)
        layers, steps = self._few.measure(finished, emitted)
        return steps, layers if self.over_layers else {}


class Quick:
    """Turns tiles of one step (or, after a restart, of the few before) into rows of the last one.

    `distributions` measures those at some of the recorded layers, or at L alone; None: none.
    """

    def __init__(self, geometry: StepGeometry, distributions: Distributions | None) -> None:
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
                values = np.where(broken[:, None], NAN, values)
            layers[name] = values.reshape(-1)
        if self._distributions is not None:
            logits = None if tile.logits is None else tile.logits[:, -1][rows]
            self._read(states, finite, token, logits, steps, layers)
        return steps, layers

    def _read(
        self, states: np.ndarray, finite: np.ndarray, token: np.ndarray, logits: Tensor | None, steps: Columns,
        layers: Columns,
    ) -> None:  # fmt: skip
        """Add what is measured on distributions; NaN at layers that are not read and in rows that are not finite."""
        some = torch.from_numpy(states[:, self._places])
        if not finite.all():
            kept = torch.from_numpy(finite)
            some, token, logits = some[kept], token[finite], None if logits is None else logits[kept]
        of_steps, of_layers = self._distributions.read(some, token, logits)
        if not finite.all():
            of_steps = {name: _spread(values, finite) for name, values in of_steps.items()}
            of_layers = {name: _spread(values, finite) for name, values in of_layers.items()}
        steps |= of_steps
        if of_layers:
            wide = np.full((len(of_layers), *states.shape[:2]), NAN)
            wide[:, :, self._places] = list(of_layers.values())
            layers |= dict(zip(of_layers, wide.reshape(len(wide), -1), strict=True))


def _spread(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values of some rows among all, the others NaN."""
    out = np.full((len(rows), *values.shape[1:]), NAN)
    out[rows] = values
    return out


def _named(columns: Sequence[Column], table: str, values: np.ndarray) -> Columns:
    return dict(zip((c.name for c in columns if c.table == table), values, strict=True))
