"""The table of all runs: filters, sorting, pages and distributions, each reading only the columns that it needs.

A run-level number is named by a measure: `entropy` is its mean over the steps of the run, `layers.instability` over
steps and layers, and `layers.instability@7` over one of 21 bins of relative depth (`entropy@s3`: one of at most 64 bins
of steps). None of the tables of a trace is held; what is kept is one number per run, of the names asked for last.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from phaselens.dynamics.collapse import collapses
from phaselens.errors import InputError, unknown_name
from phaselens.trace.schema import Column
from phaselens.view.stored_traces import Unit
from phaselens.web.pages import number

FIXED = tuple("prompt_id unit category arm sample n_prompt n_generated finish answer tag correct".split())
DEPTHS, MOST_STEPS = 21, 64
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_GROUPS = 7
NOTHING = "–"


class Runs:
    """All runs of some units, numbered through in their order."""

    def __init__(self, units: Sequence[Unit]) -> None:
        self.units = tuple(units)
        self.starts = np.cumsum([0, *(u.n_runs for u in units)])
        self.column = lru_cache(maxsize=64)(self._column)
        self._binned = lru_cache(maxsize=4)(self._bins)
        self._said = lru_cache(maxsize=8)(self._saying)
        self.texts = lru_cache(maxsize=16)(self._texts)

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def described(self) -> dict[str, dict[str, Column]]:
        """Measures of both tables over all units, with units and definitions."""
        kinds = {tuple(u.table(t).names for t in ("steps", "layers")): u for u in self.units}
        return {t: {n: c for u in kinds.values() for n, c in u.described(t).items()} for t in ("steps", "layers")}

    @cached_property
    def numbers(self) -> np.ndarray:
        """The number of each run in its unit."""
        return np.concatenate([u.table("runs").read("run") for u in self.units])

    def place(self, at: int) -> tuple[Unit, int]:
        """Unit and number of the run at a place. Raises InputError where there is none."""
        if not 0 <= at < len(self):
            raise InputError(f"no run {at}; there are {len(self):,}, from 0.")
        unit = self.units[int(np.searchsorted(self.starts, at, side="right")) - 1]
        return unit, int(self.numbers[at])

    def _column(self, name: str) -> np.ndarray:
        if name in ("model", "folder", "calibration"):
            said = [{"model": u.model, "folder": u.folder.name, "calibration": u.calibration}[name] for u in self.units]
            return np.repeat(np.array(said, dtype=object), np.diff(self.starts))
        if name == "run":
            return np.arange(len(self))
        if name == "collapsed":
            return np.concatenate([self._collapsed(u) for u in self.units])
        if name in FIXED:
            found = [self._fixed(u, name) for u in self.units]
            return np.concatenate(found)
        base, _, bin_of = name.partition("@")
        if bin_of:
            axis = "step" if bin_of.startswith("s") else "depth"
            values, at = self._binned(base, axis), bin_of.removeprefix("s")
            if not at.isdecimal() or int(at) >= values.shape[1]:
                raise InputError(f"{name}: {axis} has bins 0 to {values.shape[1] - 1}.")
            return values[:, int(at)]
        table, measure = self._measure(base)
        return self._means(table, measure, 1, lambda unit, n: np.zeros(n, int))[:, 0]

    def _fixed(self, unit: Unit, name: str) -> np.ndarray:
        if name not in unit.table("runs").names:
            return np.full(unit.n_runs, None, dtype=object)
        found = unit.table("runs").read(name)
        return found if name in ("sample", "n_prompt", "n_generated") else found.astype(object)

    def _collapsed(self, unit: Unit) -> np.ndarray:
        rows, tokens = unit.table("steps").read("run"), unit.table("steps").read("token")
        runs = unit.table("runs").read("run")
        cuts = np.searchsorted(rows, runs), np.searchsorted(rows, runs, side="right")
        ended = unit.table("runs").read("finish") == "eos"
        found = collapses([tokens[a:z].tolist() for a, z in zip(*cuts, strict=True)], ended.tolist())
        return np.array([one.collapsed for one in found], dtype=object)

    def _measure(self, name: str) -> tuple[str, str]:
        table, _, measure = name.rpartition(".")
        table = table or "steps"
        if table not in self.described or measure not in self.described[table]:
            known = [*FIXED, *self.described["steps"], *(f"layers.{n}" for n in self.described["layers"])]
            raise unknown_name("column", name, known)
        return table, measure

    def _means(self, table: str, measure: str, n_bins: int, bins: Callable[[Unit, int], np.ndarray]) -> np.ndarray:
        """Means of a measure per run and bin of its rows, float32 [run, bin]; NaN where nothing is defined."""
        out = np.full((len(self), n_bins), np.nan, np.float32)
        for unit, start in zip(self.units, self.starts, strict=False):
            stored = unit.table(table)
            if measure not in stored.names:
                continue
            values = stored.read(measure).astype(float)
            cell = np.searchsorted(unit.table("runs").read("run"), stored.read("run")) * n_bins
            cell += bins(unit, len(values))
            known, size = np.isfinite(values), unit.n_runs * n_bins
            count = np.bincount(cell[known], minlength=size)
            total = np.bincount(cell[known], values[known], size)
            found = np.where(count > 0, total / np.maximum(count, 1), np.nan)
            out[int(start) : int(start) + unit.n_runs] = found.reshape(-1, n_bins)
        return out

    def _bins(self, name: str, axis: str) -> np.ndarray:
        table, measure = self._measure(name)
        if axis == "step":
            n = len(self.step_bins)
            return self._means(table, measure, n, lambda unit, _: unit.table(table).read("step") // self.width)
        if table != "layers":
            raise InputError(f"{name} has one value per step; by depth only columns of `layers` can be shown.")

        def depth(unit: Unit, _: int) -> np.ndarray:
            return np.rint(unit.table("layers").read("layer") / unit.n_layers * (DEPTHS - 1)).astype(int)

        return self._means(table, measure, DEPTHS, depth)

    @cached_property
    def width(self) -> int:
        """Steps in one bin of steps."""
        return max(1, math.ceil(int(self.column("n_generated").max(initial=1)) / MOST_STEPS))

    @cached_property
    def step_bins(self) -> list[int]:
        """The first step of every bin of steps."""
        return list(range(0, max(1, int(self.column("n_generated").max(initial=1))), self.width))

    def _saying(self, words: str) -> np.ndarray:
        found = np.zeros(len(self), bool)
        for unit, start in zip(self.units, self.starts, strict=False):
            runs = unit.saying(words)
            found[int(start) : int(start) + unit.n_runs] = np.isin(unit.table("runs").read("run"), list(runs))
        return found

    def chosen(self, asked: Mapping[str, str]) -> np.ndarray:
        """Places of the runs that pass the filters, sorted: int [n].

        `is.COLUMN` is a list of values parted by the sign U+001F, `q` words of the text, `where` a list of NAME>NUMBER
        and NAME<NUMBER parted by commas, `sort` a name, with a minus before it for the greatest first.
        """
        kept = np.ones(len(self), bool)
        for name, values in asked.items():
            if name.startswith("is."):
                kept &= np.isin(self.texts(name[3:]), values.split("\x1f"))
        if words := asked.get("q", "").strip():
            kept &= self._said(words)
        for part in filter(None, asked.get("where", "").split(",")):
            kept &= self._passes(part)
        places = np.flatnonzero(kept)
        if not (sort := asked.get("sort", "")):
            return places
        keys = self.column(sort.removeprefix("-"))[places]
        if keys.dtype == object:
            keys = np.unique(np.array([_text(k) for k in keys]), return_inverse=True)[1]
        keys = keys.astype(float)
        return places[np.argsort(-keys if sort.startswith("-") else keys, kind="stable")]  # NaN comes last

    def _passes(self, part: str) -> np.ndarray:
        name, sign, bound = part.partition(">") if ">" in part else part.partition("<")
        try:
            value = float(bound)
        except ValueError as error:
            raise InputError(f"a condition is NAME>NUMBER or NAME<NUMBER; got {part[:80]!r}.") from error
        held = self.column(name.strip())
        if held.dtype == object:
            raise InputError(f"{name.strip()} holds words; choose among its values instead.")
        return held > value if sign == ">" else held < value

    def _texts(self, name: str) -> np.ndarray:
        return np.array([_text(v) for v in self.column(name)])

    def facets(self) -> dict[str, dict[str, int]]:
        """The values of the columns that are filtered by choosing, and how many runs have each."""
        out = {}
        for name in ("folder", "model", "arm", "category", "correct", "finish", "calibration"):
            values, counts = np.unique(self.texts(name), return_counts=True)
            if len(values) > 1 and len(values) <= 400:
                out[name] = dict(zip(values.tolist(), counts.tolist(), strict=True))
        return out

    def page(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """One page of the runs chosen: rows of plain values, how many there are in all."""
        size = min(max(int(asked.get("size", 50)), 1), 1000)
        places = self.chosen(asked)
        at = min(max(int(asked.get("page", 0)), 0), max(0, (len(places) - 1) // size))
        names = [n for n in asked.get("columns", "").split(",") if n]
        shown = places[at * size : (at + 1) * size]
        columns = {name: self.column(name)[shown] for name in ("model", "folder", *FIXED, *names)}
        rows = [{"run": int(p), **{n: _plain(v[i]) for n, v in columns.items()}} for i, p in enumerate(shown)]
        for row in rows:
            unit, run = self.place(row["run"])
            said = unit.transcript(run)
            row["prompt"], row["completion"] = ((said.get(k) or "")[:240] for k in ("prompt", "completion"))
        return {"rows": rows, "n": len(places), "all": len(self), "page": at, "size": size}

    def many(self, asked: Mapping[str, str]) -> dict[str, Any]:
        """Quantiles over the runs chosen, by bins of depth or steps, for each value of the column `by`."""
        axis = "depth" if asked.get("axis") == "depth" else "step"
        values, places = self._binned(asked.get("column", ""), axis), self.chosen({**asked, "sort": ""})
        by = asked.get("by", "")
        labels = self.texts(by)[places] if by else np.full(len(places), "all runs")
        names, counts = np.unique(labels, return_counts=True)
        kept = [str(n) for n in names[np.argsort(-counts, kind="stable")][:MOST_GROUPS]]
        groups = []
        for name in sorted(kept):
            own = values[places[labels == name]].astype(float)
            known = np.isfinite(own).sum(axis=0)
            lines = np.full((len(QUANTILES), own.shape[1]), np.nan)
            lines[:, known > 0] = np.nanquantile(own[:, known > 0], QUANTILES, axis=0)
            told = [[number(v) for v in line] for line in lines.tolist()]
            groups.append({"name": name, "n": int((labels == name).sum()), "quantiles": told, "known": known.tolist()})
        ticks = [f"{k / (DEPTHS - 1):.2f}" for k in range(DEPTHS)] if axis == "depth" else self.step_bins
        return {"groups": groups, "axis": [str(t) for t in ticks], "left_out": len(names) - len(kept)}


def _text(value: object) -> str:
    return NOTHING if value is None or value == "" else str(value)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return number(value) if isinstance(value, float) else value
