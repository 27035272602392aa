"""The schema: the table for people equals the table for machines, and a table that breaks it is refused."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from phaselens.errors import InputError, StateError
from phaselens.trace.schema import SCHEMA_VERSION, TABLES, columns_of, fixed, measured, read_columns, validate

DOCS = Path(__file__).parents[2] / "docs" / "schema.md"


def documented() -> dict[str, list[tuple[str, ...]]]:
    """Rows of the tables of docs/schema.md, by table name."""
    out: dict[str, list[tuple[str, ...]]] = {}
    table = None
    for line in DOCS.read_text().splitlines():
        if heading := re.match(r"### `(\w+)`", line):
            table = heading.group(1)
        elif line.startswith("## "):
            table = None
        elif table and line.startswith("| `"):
            out.setdefault(table, []).append(tuple(cell.strip().strip("`") for cell in line.strip("|").split("|")))
    return out


def test_the_documented_tables_equal_the_schema():
    want = {
        name: [(c.name, ", ".join(c.dims), c.dtype, c.unit, c.missing, str(c.since), c.description) for c in columns]
        for name, columns in TABLES.items()
    }
    assert documented() == want


def test_the_documented_version_is_the_version():
    assert f"Schema version {SCHEMA_VERSION}." in DOCS.read_text()


def test_field_metadata_gives_the_column_back():
    info = {
        "name": "entropy",
        "unit": "nats",
        "bounds": (0, 9.5),
        "keeps": {"b", "a"},
        "kind": "float",
        "summary": "S.",
    }
    columns = columns_of("layers", ["entropy", "entropy__raw"], [info])
    schema = pa.schema([c.field() for c in columns])
    assert read_columns(schema, "layers") == columns
    entropy, raw = columns[-2:]
    assert (entropy.unit, entropy.bounds, entropy.keeps, entropy.description) == ("nats", (0.0, 9.5), ("a", "b"), "S.")
    assert (raw.lens, raw.unit) == ("raw", "nats")


def test_a_name_may_mean_something_else_per_table():
    infos = [{"name": "rank", "table": "steps", "unit": "a"}, {"name": "rank", "table": "layers", "unit": "b"}]
    assert columns_of("steps", ["rank"], infos)[-1].unit == "a"
    assert columns_of("layers", ["rank"], infos)[-1].unit == "b"


def good() -> pa.Table:
    keys = {"run": [0, 0, 1], "step": [0, 1, 0], "layer": [2, 0, 0]}
    columns = columns_of("layers", ["x"])
    values = [keys.get(c.name, [1.0, np.nan, 3.0]) for c in columns]
    return pa.table([pa.array(v, type=c.arrow) for v, c in zip(values, columns, strict=True)], names=[*keys, "x"])


def test_a_sorted_table_with_nan_is_valid():
    validate("layers", good())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda t: t.drop_columns("step"), "lacks the column 'step'"),
        (lambda t: t.set_column(0, "run", t["run"].cast(pa.int64())), "'run': type int64, wanted int32"),
        (lambda t: t.set_column(1, "step", pa.array([0, None, 0], pa.int32())), "'step': a null"),
        (lambda t: t.set_column(3, "x", t["x"].cast(pa.float64())), "'x': type double, measures are float32"),
        (lambda t: t.take([1, 0, 2]), "row 1 is not above"),
        (lambda t: t.take([0, 1, 1]), "row 2 is not above"),
    ],
)
def test_a_table_that_breaks_the_schema_is_refused(spoil, says):
    with pytest.raises(StateError, match=re.escape(says)):
        validate("layers", spoil(good()))


def test_unknown_table_and_kind_are_said():
    with pytest.raises(InputError, match="no table 'token'; it has runs, steps, layers"):
        fixed("token")
    with pytest.raises(InputError, match="kind 'complex' is none of"):
        measured("steps", "x", {"kind": "complex"})
