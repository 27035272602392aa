"""The user's own word on which runs are right: a table to fill in, and its way into a panel."""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from phaselens.batteries.file_rows import read_table
from phaselens.errors import StudyFileError
from phaselens.experiments import Panel
from phaselens.monitor.learned_card import model_of
from phaselens.studies.store.panel_record import Record
from phaselens.trace.store import atomic_write
from phaselens.trace.transcripts import read_jsonl

NAMES = {"run": ("run",), "prompt_id": ("prompt_id", "prompt", "id"), "right": ("right", "correct", "label")}
WORDS = {"yes": 1.0, "true": 1.0, "right": 1.0, "1": 1.0, "no": 0.0, "false": 0.0, "wrong": 0.0, "0": 0.0}
EMPTY = ("", "none", "null", "nan")
COLUMNS = ("run", "prompt_id", "arm", "sample", "prompt", "completion", "right")


def relabelled(panel: Panel, model: str | None, file: Path) -> Panel:
    """The panel with the runs of one model as right and wrong as a file says; runs that it leaves out have no grade.

    Rows have `run` (the number that `write_to_grade` gives) or `prompt_id` (all runs of the prompt), and `right`.
    Raises StudyFileError for a file without these, a word that is neither yes nor no, or ids that match no run.
    """
    data = model_of(panel, model)
    rows = _rows(file)
    found = {name: next((n for n in known if n in rows[0]), None) for name, known in NAMES.items()}
    key = "run" if found["run"] else "prompt_id"
    if found["right"] is None or found[key] is None:
        raise StudyFileError(f"{file} has the columns {', '.join(rows[0])}; wanted run or prompt_id, and right.")
    said = {str(row[found[key]]): _truth(row.get(found["right"]), f"{file}, row {i}") for i, row in enumerate(rows, 1)}
    ids = [str(value) for value in data.runs[key].tolist()]
    strange = [name for name in said if name not in set(ids)]
    if strange:
        raise StudyFileError(
            f"{file}: {key} {strange[0]!r} is none of {data.info.name} ({len(strange)} of {len(said)} match nothing); "
            "`phaselens calibrate DIR --to-grade FILE` writes the runs with their names."
        )
    right = np.array([said.get(name, np.nan) for name in ids])
    other = replace(data, runs={**data.runs, "correct": right})
    return replace(panel, models=tuple(other if m is data else m for m in panel.models))


def write_to_grade(panel: Panel, folder: Path, record: Record, model: str | None, out: Path) -> int:
    """Write the measured runs of one model with prompt and text as CSV, `right` as graded so far; how many.

    Raises OutputError where the place cannot be written.
    """
    data = model_of(panel, model)
    said = [t for u in record.units_of(data.info.name) if not u.paired for t in read_jsonl(folder / u.transcripts)]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    rows = [i for i in range(len(said)) if data.measured[i]]
    for i in rows:
        t, right = said[i], data.runs["correct"][i]
        grade = "" if np.isnan(right) else "yes" if right else "no"
        table.writerow((int(data.runs["run"][i]), t.prompt_id, t.arm, t.sample, t.prompt, t.completion, grade))
    atomic_write(out, text.getvalue())
    return len(rows)


def _rows(file: Path) -> list[Mapping[str, object]]:
    """The rows of a CSV, TSV, JSON, JSON Lines or Parquet file. Raises StudyFileError."""
    if file.suffix != ".parquet":
        return [row.values for row in read_table(file).rows]
    try:
        rows = pq.read_table(file).to_pylist()
    except (OSError, ValueError) as error:
        raise StudyFileError(f"cannot read {file} as Parquet: {error}.") from error
    if not rows:
        raise StudyFileError(f"{file} has no rows.")
    return rows


def _truth(value: Any, where: str) -> float:
    word = str(value if value is not None else "").strip().lower().removesuffix(".0")
    if word in EMPTY:
        return float("nan")
    if word not in WORDS:
        raise StudyFileError(f"{where}: right is {value!r:.40}; wanted yes or no, or nothing where that is not known.")
    return WORDS[word]
