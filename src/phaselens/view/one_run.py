"""One run as plain values: text, columns by step and by layer, states, and what one cell holds."""

import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from phaselens.dynamics.state_alphabets import BIFURCATION, bifurcation_states, marks, turbulence_threshold
from phaselens.errors import InputError, StateError
from phaselens.trace.schema import Column
from phaselens.trace.transcripts import Transcript, Transcripts
from phaselens.view.run_table import FIXED, Runs
from phaselens.view.stored_traces import Unit
from phaselens.web.pages import number

if TYPE_CHECKING:
    from phaselens.models import Model

FOR_STATES = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
TOP = 10


def facts_of(column: Column) -> dict[str, object]:
    """Name, unit and definition of a column."""
    return {"name": column.name, "unit": column.unit, "description": column.description}


class Reader:
    """Single runs of a `Runs`; with a model also what its lens reads at a cell."""

    def __init__(self, runs: Runs, lens: "Lens | None" = None) -> None:
        self.runs, self.lens = runs, lens
        self._threshold = lru_cache(maxsize=None)(self._turbulent)

    def run(self, at: int, cells: Sequence[str] | None = None) -> dict[str, Any]:
        """One run: `cells` names the columns by layer that are sent with it (None: all)."""
        unit, run = self.runs.place(at)
        said, described = unit.transcript(run), {t: unit.described(t) for t in ("steps", "layers")}
        told = ["text"] if "text" in unit.table("steps").names else []
        steps = unit.table("steps").of_run(run, ["step", "token", *told, *described["steps"]])
        n = len(steps["step"])
        shown = [c for c in (described["layers"] if cells is None else cells) if c in described["layers"]]
        rows = unit.table("layers").of_run(run, ["layer", *shown])
        layers = np.unique(rows["layer"]).tolist()
        return {
            "run": at,
            "title": {"model": unit.model, **{k: self._fixed(unit, run, k) for k in FIXED}},
            "prompt": said.get("prompt") or "",
            "completion": said.get("completion"),
            "pieces": _pieces(steps.get("text")),
            "step": steps["step"].tolist(),
            "token": steps["token"].tolist(),
            "layers": layers,
            "n_layers": unit.n_layers,
            "steps": {name: _numbers(steps[name]) for name in described["steps"]},
            "cells": {name: _grid(rows[name], n) for name in shown},
            "columns": {t: [facts_of(c) for c in described[t].values()] for t in described},
            "states": self._states(unit, run, n),
            "lens": self.lens is not None and self.lens.fits(unit),
        }

    def _fixed(self, unit: Unit, run: int, name: str) -> object:
        at = int(self.runs.starts[unit.number] + np.searchsorted(unit.table("runs").read("run"), run))
        value = self.runs.column(name)[at]
        return value.item() if isinstance(value, np.generic) else value

    def _turbulent(self, model: str) -> tuple[float, str]:
        """The turbulence above which a cell of this model is turbulent, and from which runs that was learned."""
        own = [u for u in self.runs.units if u.model == model and "turbulence" in u.table("layers").names]
        fitted = [u for u in own if u.calibration] or own
        values = [u.table("layers").read("turbulence") for u in fitted[:8]]
        cut = float(turbulence_threshold(np.concatenate(values))) if values else float("nan")
        source = "calibration runs of this model" if fitted and fitted[0].calibration else "these runs themselves"
        return cut, f"turbulent above {cut:.3g}, the upper quartile of {source}"

    def _states(self, unit: Unit, run: int, n: int) -> dict[str, object] | None:
        """The state of every cell (an index into `names`, None where undefined), and what they were read by."""
        if not set(FOR_STATES) <= set(unit.table("layers").names):
            return None
        cut, source = self._threshold(unit.model)
        rows = unit.table("layers").of_run(run, FOR_STATES)
        found = bifurcation_states(marks({k: rows[k] for k in FOR_STATES}, cut)).reshape(n, -1)
        named = [[int(s) if s >= 0 else None for s in row] for row in found]
        return {"names": list(BIFURCATION), "cells": named, "source": source}

    def cell(self, at: int, step: int, layer: int) -> dict[str, Any]:
        """All that is known at one step and layer, and the ten tokens that the lens reads there where a model is given.

        Raises InputError for a cell that was not recorded.
        """
        unit, run = self.runs.place(at)
        names = list(unit.described("layers"))
        rows = unit.table("layers").of_run(run, ["step", "layer", *names])
        here = np.flatnonzero((rows["step"] == step) & (rows["layer"] == layer))
        if not len(here):
            raise InputError(f"run {at} has no recorded step {step} at layer {layer}.")
        top = self.lens.top(unit, run, step, layer) if self.lens is not None and self.lens.fits(unit) else None
        return {"step": step, "layer": layer, "values": {n: number(float(rows[n][here[0]])) for n in names}, "top": top}


def _pieces(texts: np.ndarray | None) -> list[str] | None:
    """What each token adds to the text; None where it was not stored, as before schema version 3."""
    known = texts is not None and any(t is not None for t in texts)
    return [t or "" for t in texts.tolist()] if known else None


def _numbers(values: np.ndarray) -> list[float | None]:
    return [number(v) for v in values.tolist()]


def _grid(values: np.ndarray, n: int) -> list[list[float | None]]:
    """Values by layer for every step; rows come sorted by step and layer, all layers at each."""
    return [_numbers(row) for row in values.reshape(n, -1)]


class Lens:
    """A model, to read states of stored runs through its lens: the run is replayed once and its states kept."""

    def __init__(self, model: "Model") -> None:
        self.model, self._turn = model, threading.Lock()
        self._states = lru_cache(maxsize=4)(self._replayed)

    def fits(self, unit: Unit) -> bool:
        """Whether the runs of a unit are of this very model, by its fingerprint."""
        return unit.facts.get("model", {}).get("fingerprint") == self.model.fingerprint

    def top(self, unit: Unit, run: int, step: int, layer: int) -> list[dict[str, Any]]:
        """The ten likeliest tokens at a cell, each with its words and its probability (1)."""
        with self._turn:
            hidden = self._states(unit, run)
            if not 0 <= step < hidden.shape[0] or not 0 <= layer < hidden.shape[1]:
                raise InputError(f"the replayed run has {hidden.shape[0]} steps and layers 0 to {hidden.shape[1] - 1}.")
            return self._read(hidden[step, layer])

    def _read(self, state: np.ndarray) -> list[dict[str, object]]:
        import torch

        with torch.no_grad():
            probs = self.model.readout.logits(torch.from_numpy(state).to(self.model.device)).softmax(-1)
        found = probs.topk(min(TOP, len(probs)))
        return [
            {"token": int(i), "text": self.model.tokenizer.decode([int(i)]), "p": number(float(p))}
            for i, p in zip(found.indices, found.values, strict=True)
        ]

    def _replayed(self, unit: Unit, run: int) -> np.ndarray:
        """States of a stored run, float32 [step, layer, d_model]. Raises StateError where no transcript is stored."""
        from phaselens.capture import replay

        said: Mapping[str, Any] = unit.transcript(run)
        if not said:
            raise StateError("the lens replays a run, and no transcript of this one is stored.")
        ids: dict[str, Any] = {k: tuple(said[k]) for k in ("prompt_ids", "completion_ids")}
        kept: dict[str, np.ndarray] = {}
        replay(self.model, Transcripts((Transcript(0, **ids),)), _Nothing(), keep_hidden=kept)
        return kept["run0"]


class _Nothing:
    """A reducer without columns: the states are kept by the replay itself."""

    def update(self, tile: object) -> None:
        """Take no notice."""

    def rows(self) -> tuple[dict, dict]:
        """No rows."""
        return {}, {}
