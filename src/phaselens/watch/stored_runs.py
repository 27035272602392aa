"""The stored runs of a study folder, one at a time, in the form of live steps."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from phaselens.dynamics.alarms import running
from phaselens.errors import StudyFileError
from phaselens.models import Model
from phaselens.trace import Trace
from phaselens.trace.store import read_table, read_trace, trace_paths
from phaselens.trace.transcripts import Transcript, read_jsonl
from phaselens.watch.high_values import Thresholds, layer_of_record, learned
from phaselens.watch.step_view import BY_LAYER, OUTPUT, View, alarm_words
from phaselens.web.door import Refusal

LISTED = ("run", "prompt_id", "category", "arm", "sample", "n_generated")
MOST_LISTED = 5_000


@dataclass(frozen=True)
class StoredRuns:
    """The runs of one study folder: units that `units.json` lists and whose trace is there.

    Raises StudyFileError where the folder is not that of a study.
    """

    folder: Path
    units: tuple[dict[str, Any], ...]

    @classmethod
    def read(cls, folder: Path) -> "StoredRuns":
        """Find the units of a study folder."""
        path = folder / "units.json"
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            kept = [unit for unit in found if all(p.is_file() for p in trace_paths(folder, unit["trace"]).values())]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise StudyFileError(f"{folder} is no study folder: {path.name} cannot be read ({error}).") from error
        if not kept:
            raise StudyFileError(f"{folder} holds no traces yet; run the study first.")
        return cls(folder, tuple(kept))

    def listed(self) -> dict[str, Any]:
        """All runs, by unit and number; at most 5,000, and how many were left out."""
        rows = []
        for number, unit in enumerate(self.units):
            table = read_table(trace_paths(self.folder, unit["trace"])["runs"], LISTED)
            rows += [{"unit": number, "model": unit["model"], **row} for row in table.to_pylist()]
        return {"study": self.folder.name, "runs": rows[:MOST_LISTED], "left_out": max(0, len(rows) - MOST_LISTED)}

    def steps(self, number: int, run: int, model: Model) -> dict[str, Any]:
        """One run as steps. Raises Refusal (404) where there is none of these numbers."""
        if not 0 <= number < len(self.units):
            raise Refusal(404, f"no unit {number}; the study has {len(self.units)}.", code="run_not_found")
        unit = self.units[number]
        trace = read_trace(self.folder, unit["trace"])
        said = next((t for t in read_jsonl(self.folder / unit["transcripts"]) if t.run == run), None)
        steps = _of_run(trace, "steps", run)
        if said is None or not len(steps["step"]):
            raise Refusal(404, f"no run {run} in unit {number}.", code="run_not_found")
        rows = _of_run(trace, "layers", run)
        layers = tuple(np.unique(rows["layer"]).tolist())
        view = View(layers, layers, self._thresholds(unit["model"], max(layers)))
        return {
            "title": {
                "model": unit["model"],
                **{k: getattr(said, k) for k in ("prompt_id", "category", "arm", "sample")},
            },
            "prompt": said.prompt,
            "dynamics": view.to_dict(),
            "steps": _steps(view, steps, rows, _texts(said, model)),
        }

    def _thresholds(self, label: str, n_layers: int) -> Thresholds:
        """Thresholds from the calibration runs that the study holds of one model; NaN where it holds none."""
        layer = layer_of_record(n_layers)
        own = [u for u in self.units if u["model"] == label and u.get("calibration")]
        if not own:
            return Thresholds(layer, math.nan, math.nan, math.nan, 0, "none: the study holds no calibration run of it")
        traces = [read_trace(self.folder, u["trace"]) for u in own]
        return learned(traces, layer, "the calibration runs of this model in the study")


def _of_run(trace: Trace, table: str, run: int) -> dict[str, np.ndarray]:
    rows = trace.numpy(table)
    return {name: values[rows["run"] == run] for name, values in rows.items()}


def _steps(
    view: View, steps: dict[str, np.ndarray], rows: dict[str, np.ndarray], texts: list[str | None]
) -> list[dict[str, object]]:
    n = len(steps["step"])
    wide = {name: rows[name].reshape(n, -1) for name in (*BY_LAYER, "n_above_1pct", "agrees") if name in rows}
    score = view.thresholds.score
    ct = wide.get("instability", np.full((n, len(view.layers)), np.nan))
    known = not math.isnan(view.thresholds.tau)
    at = view.layers.index(score.layer) if score.layer in view.layers else None
    debts = running(ct[:, at], score) if known and at is not None else np.full(n, np.nan)
    out, beyond = [], False
    for i, step in enumerate(steps["step"].tolist()):
        output = {name: float(steps[name][i]) for name in OUTPUT if name in steps}
        values = {name: column[i] for name, column in wide.items()}
        shown = view.shown(
            step, int(steps["token"][i]), texts[i], output, rows=values, recorded=view.layers, debt=float(debts[i])
        )
        crossed = [rule for rule in view.thresholds.rules if rule.alarms(float(debts[i]), step)]
        fresh, beyond = ([] if beyond else crossed), bool(crossed)
        alarms = [alarm_words(step, rule, float(debts[i])) for rule in fresh]
        out.append({**shown, "alarms": alarms})
    return out


def _texts(said: Transcript, model: Model) -> list[str | None]:
    """The text of each token, where the tokenizer of the watched model gives the stored completion back; else None."""
    tokenizer, ids = model.tokenizer, list(said.completion_ids)
    nothing: list[str | None] = [None] * len(ids)
    if said.completion is None or max(ids, default=0) >= model.vocab_size:
        return nothing
    ends = [tokenizer.decode(ids[:i], clean_up_tokenization_spaces=False) for i in range(len(ids) + 1)]
    if ends[-1].strip() != said.completion.strip():
        return nothing
    return [after[len(before) :] for before, after in zip(ends, ends[1:], strict=False)]
