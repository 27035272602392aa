"""What lies in a folder: every trace, by units, with the transcripts that belong to it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from phaselens.errors import StudyFileError
from phaselens.trace.schema import TABLES, Column, read_columns
from phaselens.trace.store import StoredColumns, read_facts, stored_columns, trace_paths

RUNS = ".runs.parquet"
NUMBER = re.compile(rb',"run":(\d+),"sample":')  # of our own lines; inside a text its quotes would be escaped


@lru_cache(maxsize=4096)
def columns_of(path: Path) -> StoredColumns:
    """The footer of one file, parsed once."""
    return stored_columns(path)


@dataclass(frozen=True)
class Unit:
    """One trace: its place in the listing, the folder asked for, where its tables lie, of which model and what for."""

    number: int
    folder: Path
    stem: Path
    model: str
    arm: str
    calibration: bool
    transcripts: Path | None

    def table(self, name: str) -> StoredColumns:
        """One of its three tables, none of it read yet."""
        return columns_of(trace_paths(self.stem.parent, self.stem.name)[name])

    def described(self, table: str) -> dict[str, Column]:
        """Columns that hold measures, with their units and definitions."""
        fixed = {c.name for c in TABLES[table]}
        found = read_columns(self.table(table).footer.schema.to_arrow_schema(), table)
        return {c.name: c for c in found if c.name not in fixed}

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What the trace says about how it was made."""
        return read_facts(self.table("runs").path).get("meta", {})

    @cached_property
    def n_layers(self) -> int:
        """L, as the model has it; where that is not said, the last layer that was recorded."""
        return int(self.facts.get("model", {}).get("n_layers") or self.table("layers").read("layer").max(initial=1))

    @cached_property
    def n_runs(self) -> int:
        """How many runs it holds."""
        return self.table("runs").footer.num_rows

    @cached_property
    def _lines(self) -> dict[int, tuple[int, int]]:
        """Where the transcript of each run begins and how long it is, in bytes."""
        found, at = {}, 0
        if self.transcripts is not None:
            with open(self.transcripts, "rb") as file:
                for line in file:
                    if named := NUMBER.search(line):
                        found[int(named[1])] = (at, len(line))
                    at += len(line)
        return found

    def transcript(self, run: int) -> dict[str, Any]:
        """What was said in one run: the fields of its line, {} where no transcript is stored."""
        if run not in self._lines:
            return {}
        at, length = self._lines[run]
        with open(self.transcripts, "rb") as file:
            file.seek(at)
            return json.loads(file.read(length))

    def saying(self, words: str) -> set[int]:
        """Runs whose prompt or completion holds these words, in whatever case."""
        wanted = words.casefold()
        quick = json.dumps(wanted, ensure_ascii=False)[1:-1]
        if self.transcripts is None:
            return set()
        with open(self.transcripts, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file if quick in line.casefold()]
        said = [(one["run"], [one.get(k) or "" for k in ("prompt", "completion")]) for one in lines if "run" in one]
        return {run for run, texts in said if any(wanted in text.casefold() for text in texts)}


def shelf(folders: Sequence[Path]) -> tuple[Unit, ...]:
    """Every trace under the folders: those of a study in its order, else all that are found, by name.

    Raises StudyFileError for a place that is no folder, or holds no trace.
    """
    units: list[Unit] = []
    for folder in folders:
        if not folder.is_dir():
            raise StudyFileError(f"{folder} is not a folder. Give what `phaselens run`, `observe` or `measure` wrote.")
        found = _of_study(folder) if (folder / "units.json").is_file() else _of_folder(folder)
        for one in found:
            units.append(Unit(len(units), folder, **one))
    if not units:
        raise StudyFileError(
            f"no trace in {', '.join(map(str, folders))}: no file ends in {RUNS}. Traces are written by `phaselens "
            "run`, `observe` and `measure`."
        )
    return tuple(units)


def _of_study(folder: Path) -> list[dict[str, Any]]:
    try:
        listed = json.loads((folder / "units.json").read_text(encoding="utf-8"))
        return [
            {
                "stem": folder / unit["trace"],
                "model": unit["model"],
                "arm": unit.get("arm", ""),
                "calibration": bool(unit.get("calibration")),
                "transcripts": _there(folder / unit["transcripts"]),
            }
            for unit in listed
            if Path(f"{folder / unit['trace']}{RUNS}").is_file()
        ]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyFileError(f"{folder / 'units.json'} cannot be read ({error!r}). Run the study again.") from error


def _of_folder(folder: Path) -> list[dict[str, Any]]:
    found = []
    for path in sorted(folder.rglob(f"*{RUNS}")):
        stem = path.with_name(path.name.removesuffix(RUNS))
        meta = read_facts(path).get("meta", {})
        model = str(meta.get("model", {}).get("name") or meta.get("name") or folder.name)
        near = [stem.with_suffix(".jsonl"), path.parent / "transcripts.jsonl"]
        found.append(
            {
                "stem": stem,
                "model": model,
                "arm": "",
                "calibration": bool(meta.get("calibration")),
                "transcripts": next((p for p in near if p.is_file()), None),
            }
        )
    return found


def _there(path: Path) -> Path | None:
    return path if path.is_file() else None
