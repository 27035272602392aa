"""The state that a minimal pair opens with: how near the ambiguous prompt is to its two disambiguations.

Runs are of a pair by their prompts' ids, `PAIR/ambiguous`, `PAIR/first` and `PAIR/second`, as batteries give them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from phaselens.dynamics.ambiguity import twin_cosine_difference
from phaselens.measure.reducer import Column
from phaselens.trace import Trace
from phaselens.trace.schema import Column as Stored
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript

READINGS = ("ambiguous", "first", "second")
NAME = "twin_cosine"
STORED = Stored(
    NAME,
    ("run",),
    "float32",
    "1",
    "NaN",
    "mean cosine of the run's state at step 0 and l* to those of its pair: an ambiguous prompt to both others, a "
    "disambiguation to the other one",
)


class Openings:
    """Keeps the state at step 0 of one layer for the runs of minimal pairs: a reducer without columns."""

    columns: tuple[Column, ...] = ()

    def __init__(self, transcripts: Iterable[Transcript], layer: int) -> None:
        self.layer, self.states = layer, dict[int, Tensor]()
        self._pair: dict[str, dict[str, list[int]]] = {}
        for said in transcripts:
            pair, _, reading = said.prompt_id.rpartition("/")
            if pair and reading in READINGS:
                self._pair.setdefault(pair, {}).setdefault(reading, []).append(said.run)
        self._wanted = {run for of in self._pair.values() for runs in of.values() for run in runs}

    def __bool__(self) -> bool:
        """Whether there is a run of a pair at all."""
        return bool(self._wanted)

    def update(self, tile: Tile) -> None:
        """Keep what one tile has of them."""
        if self.layer not in tile.layers:
            return
        at = tile.layers.index(self.layer)
        for i, run in enumerate(tile.run.tolist()):
            here = torch.nonzero((tile.step[i] == 0) & tile.valid[i])
            if run in self._wanted and len(here):
                self.states[run] = tile.hidden[i, at, int(here[0])].float().cpu().clone()

    def drain(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """No column of steps or layers."""
        return {}, {}

    def cosines(self) -> dict[int, float]:
        """By run: mean cosine to both twins for an ambiguous prompt, to the other twin for a disambiguation (1).

        Their difference is `twin_cosine_difference`. NaN: not all three prompts are in the transcripts, or a state is 0
        or not finite. With several runs of a reading the first stands for it.
        """
        found: dict[int, float] = {}
        for of in self._pair.values():
            runs = [of.get(reading, []) for reading in READINGS]
            whole = all(own and own[0] in self.states for own in runs)
            values = self._values([own[0] for own in runs]) if whole else (np.nan,) * 3
            found |= {run: value for own, value in zip(runs, values, strict=True) for run in own}
        return found

    def _values(self, runs: list[int]) -> tuple[float, float, float]:
        ambiguous, first, second = (self.states[run] for run in runs)
        to_first, to_second, between = (_cosine(*p) for p in ((ambiguous, first), (ambiguous, second), (first, second)))
        mean = float(twin_cosine_difference(*map(np.asarray, (to_first, to_second, between)))) + between
        return mean, between, between


def _cosine(one: Tensor, other: Tensor) -> float:
    a, b = one.double(), other.double()
    size = float(a.norm() * b.norm())
    return float(a @ b) / size if size > 0 and np.isfinite(size) else float("nan")


def with_cosines(trace: Trace, cosines: Mapping[int, float]) -> Trace:
    """The same trace with the column `twin_cosine` in its runs; NaN for runs that are of no pair."""
    values = [cosines.get(run, np.nan) for run in trace.runs.column("run").to_pylist()]
    runs = trace.runs.append_column(STORED.field(), pa.array(values, pa.float32(), from_pandas=False))
    return replace(trace, runs=runs)
