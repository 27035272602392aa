"""Read what a study folder holds for the report; what is absent or cannot be read becomes a sentence for the page."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import pyarrow
import pyarrow.parquet

from phaselens.errors import StudyFileError
from phaselens.experiments.result_tables import TABLES
from phaselens.trace.result_hashes import edited

RESULTS = MappingProxyType(
    {
        "separation": "the S tests (how far the models fall into two groups)",
        "temperature": "the common temperature and what it did to each model",
        "trajectory": "the picture of one run, layer by step",
        "notes": "the notes of the experiments",
        "grading": "how answers were graded, with examples",
        "references": "the sources that the functions used name",
        "validity": "what the rules said about simulated studies",
    }
)
"""JSON files of `results/` and what each holds."""

WHAT = MappingProxyType(
    {
        "claims.json": "the verdicts",
        "manifest.json": "what was run (models, versions, seeds)",
        "study.toml": "the declaration of the study",
        **{f"results/{table.name}.parquet": table.about for table in TABLES.values()},
        **{f"results/{name}.json": what for name, what in RESULTS.items()},
    }
)
OPTIONAL = frozenset(
    {
        *(f"results/{name}.json" for name in ("notes", "references", "validity")),
        *(f"results/{table.name}.parquet" for table in TABLES.values() if not table.always),
    }
)
"""Files whose absence, or whose lack of rows, means that there was nothing to say."""

Row = Mapping[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Folder:
    """What a study folder holds: parsed files, tables as lists of rows, a sentence per missing file."""

    where: Path
    name: str
    manifest: Row
    declaration: Row
    claims: list[dict]
    tables: Mapping[str, list[Row]]
    results: Row
    missing: Mapping[str, str]

    def rows(self, table: str) -> list[Row]:
        """Give the rows of a table of `results/`, none if it is missing."""
        return self.tables[table]

    def has(self, table: str) -> bool:
        """Whether the folder holds the file of a table."""
        return (self.where / "results" / f"{table}.parquet").is_file()

    def lack(self, *names: str) -> list[str]:
        """Give the sentences for those of the named files that are missing."""
        return [self.missing[name] for name in names if name in self.missing]


class _Tables(dict[str, list[Row]]):
    """Rows by table, each read when it is first asked for; none where it is missing, which `missing` then says."""

    def __init__(self, where: Path, missing: dict[str, str]) -> None:
        super().__init__()
        self._read = partial(_table, where, missing=missing)

    def __missing__(self, name: str) -> list[Row]:
        self[name] = self._read(name) or []
        return self[name]


def read_folder(where: Path) -> Folder:
    """Read a study folder.

    Raises StudyFileError if the place is no folder, or holds none of the files that a study writes.
    """
    if not where.is_dir():
        raise StudyFileError(f"{where} is not a folder. Give the folder of a study, as made by `phaselens run --out`.")
    if not any((where / name).exists() for name in WHAT):
        if list(where.glob("*.steps.parquet")):
            raise StudyFileError(
                f"{where} holds the trace of one model, as `phaselens observe` and `measure` write it; a report is "
                f"that of a study: `phaselens run --model MODEL --prompts FILE --out DIR`. The trace is read in Python "
                f"by phaselens.read_trace({str(where)!r})."
            )
        raise StudyFileError(
            f"{where} holds nothing that a study writes (study.toml, manifest.json, claims.json, results/). Give the "
            "folder of a study, as made by `phaselens run --out`."
        )
    missing: dict[str, str] = edited(where)
    manifest = _document(where, "manifest.json", missing, dict) or {}
    return Folder(
        where=where,
        name=where.resolve().name,
        manifest=manifest,
        declaration=_document(where, "study.toml", missing, dict) or {},
        claims=_claims(where, missing, manifest.get("claims") or ()),
        tables=_Tables(where, missing),
        results={
            name: content
            for name in RESULTS
            if (content := _document(where, f"results/{name}.json", missing, dict, list)) is not None
        },
        missing=missing,
    )


def records(content: object) -> list[dict]:
    """The records of a list in a document; none where it holds anything else."""
    return [row for row in content if isinstance(row, dict)] if isinstance(content, (list, tuple)) else []


def _claims(where: Path, missing: dict[str, str], registered: Sequence[str]) -> list[dict]:
    claims = _document(where, "claims.json", missing, list) or []
    whole = [c for c in records(claims) if {"id", "verdict"} <= c.keys()]
    if len(whole) < len(claims):
        missing["claims.json"] = f"claims.json holds {len(claims) - len(whole)} rows without id or verdict: not shown."
    elif whole and (gone := gone_from(registered, whole)):
        missing["claims.json"] = gone
    return whole


def gone_from(registered: Sequence[str], rows: Sequence[Row]) -> str:
    """What to say where claims that a study registered before its data have no verdict; "" where all have one."""
    there = {row["id"] for row in rows}
    gone = [claim for claim in registered if claim not in there]
    return (
        ""
        if not gone
        else (
            f"claims.json lacks {', '.join(gone)}, registered before the data: taken out by hand. "
            "`phaselens run --from DIR` judges all of them again."
        )
    )


def _document(where: Path, name: str, missing: dict[str, str], *kinds: type[T]) -> T | None:
    """Parse a JSON or TOML file of the folder; None, with a sentence in `missing`, if it cannot be used."""
    file = where / name
    if not file.is_file():
        if name not in OPTIONAL:
            missing[name] = f"{name} is not in this folder: {WHAT[name]} cannot be shown."
        return None
    try:
        content = file.read_text(encoding="utf-8")
        parsed = tomllib.loads(content) if name.endswith(".toml") else json.loads(content)
    except ValueError as error:  # both parsers' errors, and bytes that are not UTF-8
        missing[name] = f"{name} cannot be read ({error}): {WHAT[name]} cannot be shown."
        return None
    if not isinstance(parsed, kinds):
        missing[name] = f"{name} holds a {type(parsed).__name__}: {WHAT[name]} cannot be shown."
        return None
    return parsed


def _table(where: Path, name: str, missing: dict[str, str]) -> list[Row] | None:
    """Read a table of `results/`; None, with a sentence in `missing`, if it cannot be used."""
    file, title = where / "results" / f"{name}.parquet", f"results/{name}.parquet"
    if not file.is_file():
        if title in OPTIONAL:
            return None
        missing[title] = f"{title} is not in this folder: {WHAT[title]} cannot be shown."
        return None
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        missing[title] = f"{title} cannot be read ({str(error).splitlines()[0]}): {WHAT[title]} cannot be shown."
        return None
    absent = [column for column in TABLES[name].required if column not in table.column_names]
    if absent:
        missing[title] = f"{title} lacks {', '.join(absent)}: {WHAT[title]} cannot be shown."
        return None
    if table.num_rows == 0 and title not in OPTIONAL:
        missing[title] = f"{title} has no rows: {WHAT[title]} cannot be shown."
    return table.to_pylist()
