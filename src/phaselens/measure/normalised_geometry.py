"""Geometry of normalised states beside that of the states themselves: one tile, several reducers, one set of rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from phaselens.errors import InputError, unknown_name
from phaselens.measure.reducer import Column, Reducer
from phaselens.observables import by_name
from phaselens.observables.state_normalisation import METHODS, Calibration, normalise
from phaselens.trace.tile import Tile

GEOMETRY = ("step_length", "turning_angle", "instability")
SUFFIX = "__"


@dataclass(frozen=True, eq=False)
class Normalised:
    """The geometry under one state normalisation: what `normalise` leaves is read as it is."""

    method: str
    calibration: Calibration | None
    reducer: Reducer

    def update(self, tile: Tile) -> None:
        """Measure one tile of states, normalised first."""
        hidden = tile.hidden if self.calibration is None else normalise(tile.hidden, self.calibration)
        self.reducer.update(replace(tile, hidden=hidden))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns with the method as suffix."""
        return tuple(replace(c, name=c.name + SUFFIX + self.method) for c in self.reducer.columns)

    def drain(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The measured columns of `steps` (none) and `layers` since the last call."""
        _, rows = self.reducer.rows()
        return {}, {c.name + SUFFIX + self.method: rows[c.name] for c in self.reducer.columns}


def normalised(
    wanted: Mapping[str, Calibration | None], layers: Sequence[int], n_layers: int
) -> tuple[Normalised, ...]:
    """One reducer a method; `unit` needs none, since the plain columns are under it.

    Raises UnknownNameError for a method that does not exist, InputError for one that lacks its calibration.
    """
    out = []
    for method, calibration in wanted.items():
        if method not in METHODS:
            raise unknown_name("state normalisation", method, METHODS)
        if method == "unit":
            continue
        if calibration is None and method != "raw":
            raise InputError(f"the state normalisation {method} needs a calibration: fit_normalisation makes it.")
        reducer = Reducer(by_name(GEOMETRY), layers, n_layers=n_layers, normalisation="raw")
        out.append(Normalised(method, calibration, reducer))
    return tuple(out)


class Beside(Protocol):
    """What stands beside a `Reducer`: it takes the same tiles, and hands out columns for the same rows (or none)."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that it hands out."""

    def update(self, tile: Tile) -> None:
        """Measure one tile."""

    def drain(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Columns of steps and of layers since the last call."""


class Together:
    """Several reducers as one: each takes every tile, and their columns stand side by side."""

    def __init__(self, first: Reducer, others: Sequence[Beside] = ()) -> None:
        self.first, self.others = first, tuple(others)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of all."""
        return (*self.first.columns, *(c for one in self.others for c in one.columns))

    def update(self, tile: Tile) -> None:
        """Measure one tile by all."""
        self.first.update(tile)
        for one in self.others:
            one.update(tile)

    def rows(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Rows since the last call, as those of `Reducer.rows`; all reducers have the same ones in the same order."""
        steps, layers = self.first.rows()
        for one in self.others:
            of_steps, of_layers = one.drain()
            steps |= of_steps
            layers |= of_layers
        return steps, layers
