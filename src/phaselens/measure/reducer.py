"""The one join of captured states and observables: tiles in, labelled rows out.

Observables that read hidden states are evaluated on blocks of a tile small enough to stay in cache, each with the few
earlier steps that they look back on; those that read the lens are evaluated on the recorded states only. Live
observation, chunks of any size and the whole at once go through the same code, and no observable is named here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError, StateError
from phaselens.measure.lenses import LensSpec, Pass, on_steps, passes_of, statistics_of, values_of
from phaselens.observables import LENS_STATISTICS, Observable, base_inputs, evaluate, settings_of
from phaselens.trace.lookback import Joined, Lookback
from phaselens.trace.tile import Tile
from phaselens.types import Readout

HIDDEN_INPUTS = frozenset({"hidden", "layers", "n_blocks"})
LENS_INPUTS = frozenset(LENS_STATISTICS) | {"layers", "n_blocks"}
BLOCK_BYTES = 4 * 2**20
GATHER_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Column:
    """One measured column of the table `steps` or `layers`: name, observable, lens (None: hidden states)."""

    table: str
    name: str
    observable: Observable
    lens: LensSpec | None


class Reducer:
    """Turns tiles of hidden states into rows of numbers; the memory it needs does not depend on their number.

    `update(tile)` measures a tile, `rows()` hands over what has been measured since the last call. `columns` says what
    the columns are. `output` asks for the distribution observables at the output (default: if there is any lens); it
    is read through the first plain final_norm lens, or on its own where there is none. `normalisation` is that of the
    state geometry.

    Raises InputError for an observable that cannot be measured tile by tile, layers without L under a lens, or two
    lenses with one label.
    """

    def __init__(
        self,
        observables: Iterable[Observable],
        layers: Iterable[int],
        readout: Readout | None = None,
        lenses: Iterable[LensSpec] = (),
        n_layers: int | None = None,
        *,
        output: bool | None = None,
        normalisation: str = "unit",
    ) -> None:
        observables = tuple(observables)
        self.layers = tuple(int(layer) for layer in layers)
        self.n_layers = max(self.layers, default=0) if n_layers is None else n_layers
        self._settings = {"normalisation": normalisation}
        on_hidden = tuple(one for one in observables if _reads(one) == "hidden")
        on_lens = tuple(one for one in observables if _reads(one) == "lens")
        # Two groups, so that what does not look back is computed on the new steps only.
        groups = (tuple(o for o in on_hidden if o.lookback), tuple(o for o in on_hidden if not o.lookback))
        self._groups = tuple(group for group in groups if group)
        self._lookback = Lookback(max((one.lookback or 0 for one in on_hidden), default=0))
        self._passes = passes_of(tuple(lenses), on_lens, readout, self.layers, self.n_layers, output)
        keys = dict.fromkeys(p.product for p in self._passes)
        self._products = [[p for p in self._passes if p.product == key] for key in keys]
        self.columns = _columns(self._groups, self._passes)
        self._buffers: dict[str, Tensor] = {}
        self._drained: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, tile: Tile) -> None:
        """Measure one tile. Tiles of one batch of runs come in the order of their positions.

        Raises StateError for a tile of other layers than announced.
        """
        if tuple(tile.layers) != self.layers:
            raise StateError(f"got a tile of layers {tile.layers}, wanted {self.layers} as announced to the reducer.")
        with torch.no_grad():
            joined = self._lookback.join(tile)
            if bool(tile.valid.any()):
                self._measure(tile, joined)

    def rows(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Rows measured since the last call, as columns sorted by (run, step) and (run, step, layer).

        `steps` has run, step, position, token, finite and the columns per step; `layers` has run, step, layer and the
        columns per layer, float32. Where a state is not finite, `finite` is False and its values are NaN.
        """
        ids, per_step, per_layer = self._collected()
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        ids, per_step, per_layer = ids[order], per_step[order], per_layer[order]
        steps = {name: ids[:, i] for i, name in enumerate(("run", "step", "position", "token"))}
        steps["finite"] = ids[:, 4].astype(bool)
        n_layers = len(self.layers)
        layers = {name: np.repeat(ids[:, i], n_layers) for i, name in enumerate(("run", "step"))}
        layers["layer"] = np.tile(np.array(self.layers, dtype=np.int64), len(ids))
        named = [c.name for c in self.columns if c.table == "steps"]
        steps |= {name: np.ascontiguousarray(per_step[:, i]) for i, name in enumerate(named)}
        named = [c.name for c in self.columns if c.table == "layers"]
        layers |= {name: per_layer[:, i].reshape(-1) for i, name in enumerate(named)}
        return steps, layers

    def _collected(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n_step = sum(c.table == "steps" for c in self.columns)
        n_layer = len(self.columns) - n_step
        empty = (
            np.empty((0, 5), np.int64),
            np.empty((0, n_step), np.float32),
            np.empty((0, n_layer, len(self.layers)), np.float32),
        )
        parts = self._drained or [empty]
        self._drained = []
        ids, steps, layers = (np.concatenate(part) if len(part) > 1 else part[0] for part in zip(*parts, strict=True))
        return ids, steps, layers

    def _measure(self, tile: Tile, joined: Joined) -> None:
        n_runs, n_layers, n_steps, width = tile.hidden.shape
        state_bytes = 4 * n_layers * width
        limit = BLOCK_BYTES if tile.hidden.device.type == "cpu" else GATHER_BYTES
        wide = min(n_steps, max(16, limit // state_bytes))
        tall = max(1, limit // (state_bytes * wide))
        for first in range(0, n_runs, tall):
            runs = slice(first, min(first + tall, n_runs))
            for start in range(0, n_steps, wide):
                block = slice(start, min(start + wide, n_steps))
                if bool(tile.valid[runs, block].any()):
                    self._measure_block(tile, joined, runs, block)

    def _measure_block(self, tile: Tile, joined: Joined, runs: slice, block: slice) -> None:
        """Rows of one block: values of all observables at its recorded states, moved off the device once."""
        at = tile.valid[runs, block].nonzero(as_tuple=True)
        states = tile.hidden[runs, :, block]
        finite = states.sum(-1).sum(1).isfinite()[at]
        ids = [tile.run[runs][at[0]]]
        ids += [label[runs, block][at] for label in (tile.step, tile.position, tile.token)]
        of_layers, of_steps = self._on_hidden(joined, runs, block, at)
        if self._passes:
            logits = None if tile.logits is None else tile.logits[runs, block][at]
            more_layers, more_steps = self._on_lens(states, at, finite, ids[3], logits)
            of_layers, of_steps = of_layers + more_layers, of_steps + more_steps
        n_rows, n_layers = len(at[0]), len(self.layers)
        per_layer = torch.stack(of_layers, 1) if of_layers else states.new_empty(n_rows, 0, n_layers)
        per_step = torch.stack(of_steps, 1) if of_steps else states.new_empty(n_rows, 0)
        if not bool(finite.all()):
            broken = ~finite
            per_layer = per_layer.masked_fill(broken[:, None, None], math.nan)
            per_step = per_step.masked_fill(broken[:, None], math.nan)
        labels = torch.stack([label.to("cpu", torch.int64) for label in (*ids, finite)], 1)
        self._drained.append((labels.numpy(), per_step.float().cpu().numpy(), per_layer.float().cpu().numpy()))

    def _on_hidden(
        self, joined: Joined, runs: slice, block: slice, at: tuple[Tensor, ...]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Values [row, layer] and [row] of the observables of hidden states; NaN where an earlier step is missing."""
        known = joined.known[runs, block][at]
        inputs = {"layers": torch.tensor(self.layers, device=known.device), "n_blocks": self.n_layers}
        of_layers: list[Tensor] = []
        of_steps: list[Tensor] = []
        for group in self._groups:
            back = max(one.lookback or 0 for one in group)
            inputs["hidden"] = joined.window(runs, block, back)
            values = evaluate(group, inputs, {k: v for k, v in self._settings.items() if k in settings_of(group)})
            for per, into in (("layer", of_layers), ("step", of_steps)):
                some = [one for one in group if one.per == per]
                if some:
                    into += self._at(torch.stack([values[one.name] for one in some])[..., back:], at, some, known)
        return of_layers, of_steps

    @staticmethod
    def _at(values: Tensor, at: tuple[Tensor, ...], observables: list[Observable], known: Tensor) -> tuple[Tensor, ...]:
        """Values [observable, run, (layer,) position] at the recorded states: one [row(, layer)] per observable.

        NaN where fewer earlier steps are known than the observable looks back on.
        """
        rows = values.movedim((1, -1), (0, 1))[at].movedim(1, 0)
        back = max(one.lookback or 0 for one in observables)
        if back and int(known.min()) < back:
            short = known < torch.tensor([one.lookback for one in observables], device=known.device)[:, None]
            rows = rows.masked_fill(short if rows.dim() == 2 else short.unsqueeze(-1), math.nan)
        return rows.unbind()

    def _on_lens(
        self, states: Tensor, at: tuple[Tensor, ...], finite: Tensor, token: Tensor, logits: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Values of the observables of the lens at the recorded states of a block."""
        return self._read(states.movedim(1, 2)[at], finite, token, logits)

    def read(
        self, states: Tensor, finite: Tensor, token: Tensor, logits: Tensor | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """What is measured on distributions alone, at states that no one keeps: for a monitor, step by step.

        Shapes: states [row, layer, d_model], finite bool [row], token [row], logits [row, vocab] of the network ->
        [row, column, layer] and [row, column], in the order of `columns`. NaN: rows that are not finite.
        """
        with torch.no_grad():
            of_layers, of_steps = self._read(states, finite, token, logits)
            layers, steps = (
                torch.stack(v, 1) if v else states.new_empty(len(states), 0) for v in (of_layers, of_steps)
            )
        return layers.cpu().numpy(), steps.cpu().numpy()

    def _read(
        self, rows: Tensor, finite: Tensor, token: Tensor, logits: Tensor | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Values of the observables of the lens, in passes over the finite rows; NaN elsewhere."""
        if not bool(finite.all()):
            rows, token = rows[finite], token[finite]
            logits = None if logits is None else logits[finite]
        read: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        for passes in self._products:
            found = statistics_of(passes, rows, token, self._buffers, logits)
            read |= {id(p): values_of(p, one, self.n_layers) for p, one in zip(passes, found, strict=True)}
        of_layers = [values for p in self._passes for values in read[id(p)][0]]
        of_steps = [values for p in self._passes for values in read[id(p)][1]]
        if len(rows) == len(finite):
            return of_layers, of_steps

        def spread(values: Tensor) -> Tensor:
            out = values.new_full((len(finite), *values.shape[1:]), math.nan)
            out[finite] = values
            return out

        return [spread(v) for v in of_layers], [spread(v) for v in of_steps]


def _reads(one: Observable) -> str:
    """Which kind of input an observable reads, `hidden` or `lens`."""
    base = base_inputs((one,))
    if one.lookback is None:
        raise InputError(f"{one.name} needs the whole run; measure it on a stored trace, not on tiles.")
    if base <= HIDDEN_INPUTS:
        return "hidden"
    if base <= LENS_INPUTS and one.lookback == 0:
        return "lens"
    raise InputError(
        f"{one.name} needs {sorted(base)} with lookback {one.lookback}; an observable reads either hidden states or "
        f"lens statistics of its own step ({', '.join(LENS_STATISTICS)})."
    )


def _columns(groups: tuple[tuple[Observable, ...], ...], passes: tuple[Pass, ...]) -> tuple[Column, ...]:
    """Columns in the order in which `_on_hidden` and `_on_lens` produce their values."""
    table = {"layer": "layers", "step": "steps"}
    made = [Column(table[one.per], one.name, one, None) for group in groups for one in group]
    for p in passes:
        if p.over_layers:
            made += [Column("layers", o.name + p.suffix, o, p.lens) for o in p.observables if o.per == "layer"]
        made += [Column("steps", o.name + p.step_suffix, o, p.lens) for o in on_steps(p)]
    return tuple(made)
