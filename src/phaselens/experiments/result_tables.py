"""The tables of `results/`: declared with unit and meaning, and filled so that an empty one keeps its columns."""

import math
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
import pyarrow as pa

from phaselens.errors import StateError
from phaselens.statistics.intervals import Interval

TYPES = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}
HOLDS = {"str": "open", "float": "number", "int": "number", "bool": "truth"}


@dataclass(frozen=True)
class Field:
    """A column of a table of `results/`: name, type (str, float, int, bool), unit ("" has none), what it means.

    The report does without a column that is not `required`: folders of earlier versions lack some.
    """

    name: str
    kind: str
    unit: str
    meaning: str
    required: bool


@dataclass(frozen=True)
class Table:
    """A table of `results/`: name, what it holds, columns as "name:type", with a ? where not required.

    Declared in `declared.toml`; units and meanings stand in `columns.txt`. `always` tables are made by every study.
    """

    name: str
    about: str
    columns: str
    always: bool = False

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its columns in order. Raises StateError for one without a meaning."""
        parts = [part.rstrip("?").split(":") + [part] for part in self.columns.split()]
        return tuple(Field(name, kind, *meaning(self.name, name), not part.endswith("?")) for name, kind, part in parts)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its columns."""
        return tuple(part.partition(":")[0] for part in self.columns.split())

    @property
    def required(self) -> tuple[str, ...]:
        """The columns without which the report does not draw it."""
        return tuple(part.partition(":")[0] for part in self.columns.split() if not part.endswith("?"))

    @property
    def holds(self) -> dict[str, str | list[str]]:
        """What every column holds: `number`, `truth`, `place`, `said`, `open` (names of the study), or fixed names."""
        parts = (part.rstrip("?").split(":") for part in self.columns.split())
        return {n: _held().get(f"{self.name}.{n}") or _held().get(n) or HOLDS[kind] for n, kind in parts}

    def arrow(self, rows: Sequence[Mapping[str, object]]) -> pa.Table:
        """Rows as Arrow, also where there are none. Raises StateError where a row has other columns than declared."""
        return arrow_table(self.columns.replace("?", ""), rows)


def _text(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def declarations() -> dict[str, dict]:
    """The records of `declared.toml`, by experiment."""
    return tomllib.loads(_text("declared.toml"))


def tables_of(experiment: str) -> tuple[Table, ...]:
    """The tables of an experiment."""
    return tuple(Table(name, **facts) for name, facts in declarations()[experiment]["tables"].items())


TABLES: dict[str, Table] = {table.name: table for experiment in declarations() for table in tables_of(experiment)}


def filled(**rows: Sequence[Mapping[str, object]]) -> dict[str, pa.Table]:
    """Tables by name from their rows. Raises StateError where a row has other columns than declared."""
    return {name: TABLES[name].arrow(own) for name, own in rows.items()}


ENDS = {"_lo": "lower end of the 95 % interval of {}", "_hi": "upper end of the 95 % interval of {}"}


@cache
def _lines() -> list[str]:
    return _text("columns.txt").splitlines()[3:]


@cache
def _meanings() -> dict[str, tuple[str, str]]:
    lines = [line.split("|", 2) for line in _lines() if "|" in line]
    return {name.strip(): (unit.strip(), words.strip()) for name, unit, words in lines}


@cache
def _held() -> dict[str, str | list[str]]:
    lines = [line.split(" = ", 1) for line in _lines() if line and "|" not in line]
    found = {name: [v.strip() for v in said.split(";")] for names, said in lines for name in names.split()}
    return {name: said[0] if said[0] in ("place", "said") else said for name, said in found.items()}


def meaning(table: str, column: str) -> tuple[str, str]:
    """Unit and meaning of a column: of this table where it says so, else of the name, else of a pattern with *.

    Raises StateError where `columns.txt` has none.
    """
    known = _meanings()
    found = known.get(f"{table}.{column}") or known.get(column)
    if found is None and (end := ENDS.get(column[-3:])):
        unit = known.get(f"{table}.{column[:-3]}", known.get(column[:-3], ("", "")))[0]
        return unit, end.format(column[:-3])
    found = found or next((words for name, words in known.items() if "*" in name and fnmatch(column, name)), None)
    if found is None:
        raise StateError(f"column {column!r} of {table!r} has no line in experiments/columns.txt.")
    return found


def bounds(interval: Interval, of: str = "") -> dict[str, float]:
    """The columns of an interval: `lo` and `hi`, those of the value `of` with its name before them."""
    before = f"{of}_" if of else ""
    return {f"{before}lo": interval.lo, f"{before}hi": interval.hi}


def picked(record: object, names: str) -> dict[str, object]:
    """Some attributes of a record as columns of their names, which are parted by spaces."""
    return {name: getattr(record, name) for name in names.split()}


def arrow_table(columns: str, rows: Sequence[Mapping[str, object]]) -> pa.Table:
    """An Arrow table from rows; `columns` is "name:type name:type ..." with types str, float, int, bool.

    Raises StateError where a row has other columns than declared. NaN stays NaN.
    """
    spec = [part.split(":") for part in columns.split()]
    names = [name for name, _ in spec]
    for row in rows:
        if set(row) != set(names):
            raise StateError(f"a row has columns {sorted(row)}, the table declares {sorted(names)}.")
    arrays = [pa.array([_value(row[name], kind) for row in rows], TYPES[kind]) for name, kind in spec]
    return pa.Table.from_arrays(arrays, names=names)


def _value(value: object, kind: str) -> object:
    return {"str": str, "float": float, "int": int, "bool": bool}[kind](value)


def json_value(value: Any) -> Any:
    """The value as plain JSON: NaN and infinity become None, NumPy scalars Python ones."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): json_value(v) for k, v in value.items()}
    return [json_value(v) for v in value] if isinstance(value, (list, tuple)) else value


def concatenated(documents: Iterable[Mapping[str, list]]) -> dict[str, list]:
    """Lists of rows of the same name, one after the other."""
    out: dict[str, list] = {}
    for document in documents:
        for name, rows in document.items():
            out.setdefault(name, []).extend(rows)
    return out
