"""The measures of a monitor: the same reducers as offline, over one step at a time, with the output read from logits.

Two sets of layers: those whose trajectory is followed, and those that are read through the lens.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from phaselens.errors import InputError
from phaselens.measure.reducer import Column, LensSpec, Reducer
from phaselens.models import Model
from phaselens.models.hooks import check_layers
from phaselens.observables import Observable
from phaselens.observing.recording import as_observables, reads_lens
from phaselens.trace.tile import Tile

Columns = dict[str, np.ndarray]
DEPTHS = (1.0, 0.75, 0.5, 0.25)


class Meters:
    """Turns tiles into rows: observables of states at `layers`, of the output at every step, of the lens at few layers.

    `lens_layers` empty: no lens. L is always among them, since a lens compares with it. Raises InputError for layers
    that do not exist, a lens observable asked for without lens layers, or one that needs the whole run.
    """

    def __init__(
        self,
        model: Model,
        observables: Iterable[str | Observable] | None = None,
        layers: Iterable[int] | None = None,
        lens_layers: Iterable[int] = (),
    ) -> None:
        chosen = as_observables(observables, with_lens=True)
        late = [one.name for one in chosen if one.lookback is None]
        if late:
            raise InputError(f"{late[0]} needs the whole run and is not shown live; measure it with observe.")
        lens = tuple(sorted(set(check_layers(lens_layers, model.n_layers)) | {model.n_layers})) if lens_layers else ()
        read = tuple(one for one in chosen if reads_lens(one))
        at_output = tuple(one for one in read if one.axis == "vocabulary")
        if observables is not None and not lens and read != at_output:
            name = next(one.name for one in read if one.axis != "vocabulary")
            raise InputError(
                f"{name} compares layers under a lens; say which with lens_layers=(..., {model.n_layers})."
            )
        on_states = tuple(one for one in chosen if not reads_lens(one))
        self.lens_layers = lens
        self.layers = tuple(sorted(set(check_layers(layers, model.n_layers)) | set(lens) | {model.n_layers}))
        self.back = max((one.lookback or 0 for one in on_states), default=0)
        self._places = [self.layers.index(layer) for layer in lens]
        self._lens = None
        if lens and read:
            # The lens reads L anyway, so the output is taken from it, as offline.
            self._lens = Reducer(read, lens, model.readout, (LensSpec(),), model.n_layers, output=True)
            at_output = ()
        self._states = Reducer(
            (*on_states, *at_output), self.layers, model.readout, n_layers=model.n_layers, output=bool(at_output)
        )

    @property
    def columns(self) -> tuple[Column, ...]:
        """All columns: of states and output, then of the lens."""
        return (*self._states.columns, *(self._lens.columns if self._lens else ()))

    def update(self, tile: Tile) -> None:
        """Measure one tile of the recorded layers."""
        self._states.update(tile)
        if self._lens is not None:
            some = tile.hidden[:, self._places]
            self._lens.update(replace(tile, layers=self.lens_layers, hidden=some))

    def rows(self) -> tuple[Columns, Columns]:
        """Rows of the last update; columns of the lens are NaN at layers that it does not read."""
        steps, layers = self._states.rows()
        if self._lens is not None:
            of_steps, of_layers = self._lens.rows()
            steps |= {c.name: of_steps[c.name] for c in self._lens.columns if c.table == "steps"}
            shape = (len(steps["run"]), len(self.layers))
            for column in (c for c in self._lens.columns if c.table == "layers"):
                wide = np.full(shape, np.nan, np.float32)
                wide[:, self._places] = of_layers[column.name].reshape(shape[0], -1)
                layers[column.name] = wide.reshape(-1)
        return steps, layers


def readable_logits(model: Model) -> bool:
    """Whether the network's logits are the lens at layer L as they are: no token is ruled out by its bias."""
    bias = model.readout.bias
    return bias is None or not bool(torch.isneginf(bias).any())


def default_lens_layers(n_layers: int, count: int = 4) -> Sequence[int]:
    """Up to `count` layers in neighbouring pairs, so that turbulence is defined: at L, round(.75 L), .5 L and .25 L."""
    wanted: list[int] = []
    for depth in DEPTHS:
        first = min(round(depth * n_layers), n_layers - 1)
        wanted += [layer for layer in (first + 1, first) if layer not in wanted]
    return tuple(sorted(wanted[: max(1, count)]))
