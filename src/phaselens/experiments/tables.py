"""Rows to Arrow tables with fixed columns, so that an empty result still has its columns and types."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from phaselens.errors import StateError

TYPES = {"str": pa.string(), "float": pa.float64(), "int": pa.int64(), "bool": pa.bool_()}


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


def json_value(value: object) -> object:
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
