"""What stands in a trace: names, dimensions, units, dtypes, and how a missing value is written.

Three tables. `runs` has one row per run, `steps` one per (run, step), `layers` one per (run, step, layer). The columns
below are fixed; those of observables come as metadata from whoever measured them, so this file knows none of them.
`docs/schema.md` is the same table for people, and a test holds the two equal.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from phaselens.errors import InputError, StateError

SCHEMA_VERSION = 3
LENS_SEPARATOR = "__"
KINDS = ("float", "bool", "int")


@dataclass(frozen=True)
class Column:
    """One column of one table.

    `missing` says how "undefined" is written: `never`, `null`, or `NaN` (measures). `kind` says what a measure is when
    it is stored as float32: a number, a truth value (0 or 1) or a count. `since` is the schema version that brought it.
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str = ""
    missing: str = "never"
    description: str = ""
    since: int = 1
    kind: str = "float"
    bounds: tuple[float, float] | None = None
    keeps: tuple[str, ...] = ()
    lens: str = ""

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of the column."""
        return pa.type_for_alias(self.dtype)

    def field(self) -> pa.Field:
        """The Arrow field, with unit, dimensions and definition as metadata."""
        facts = {
            "unit": self.unit,
            "dims": ",".join(self.dims),
            "missing": self.missing,
            "description": self.description,
            "since": str(self.since),
            "kind": self.kind,
            "bounds": "" if self.bounds is None else json.dumps([float(x) for x in self.bounds]),
            "keeps": ",".join(self.keeps),
            "lens": self.lens,
        }
        return pa.field(self.name, self.arrow, metadata={k: v for k, v in sorted(facts.items()) if v})


RUN, STEP, LAYER = ("run",), ("run", "step"), ("run", "step", "layer")

RUNS = (
    Column("run", RUN, "int32", "", "never", "number of the run in this unit, from 0"),
    Column("prompt_id", RUN, "string", "", "never", "name of the prompt"),
    Column("unit", RUN, "string", "", "never", "what the prompt is about: the unit of resampling", since=3),
    Column("category", RUN, "string", "", "never", "category of the prompt; empty where it has none"),
    Column("sample", RUN, "int32", "", "never", "which of several generations of one prompt, from 0"),
    Column("seed", RUN, "int64", "", "never", "seed of the generation; -1 where it came from elsewhere"),
    Column("arm", RUN, "string", "", "never", "sampling arm, e.g. t0.7, greedy, given"),
    Column("n_prompt", RUN, "int32", "tokens", "never", "tokens of the prompt, P"),
    Column("n_generated", RUN, "int32", "tokens", "never", "generated tokens, n"),
    Column("finish", RUN, "string", "", "never", "why it ended: length, eos, stopped or given"),
    Column("answer", RUN, "string", "", "null", "the expected answer, where the battery has one"),
    Column("aliases", RUN, "string", "", "null", "other answers that count as right, one a line", since=2),
    Column("tag", RUN, "string", "", "null", "kind of the prompt within its category, e.g. 2 steps", since=2),
    Column("correct", RUN, "bool", "", "null", "whether the generation is right, by the grader of the study"),
    Column("model", RUN, "string", "", "null", "name of the model that was measured", since=3),
    Column("n_nonfinite", RUN, "int32", "steps", "never", "recorded steps with a hidden state that is not finite"),
)
STEPS = (
    Column("run", STEP, "int32", "", "never", "number of the run in this unit"),
    Column("step", STEP, "int32", "", "never", "s = position - (P - 1), from 0"),
    Column("position", STEP, "int32", "tokens", "never", "place in prompt + generation, from 0, padding not counted"),
    Column("token", STEP, "int32", "", "never", "id of the token emitted at this step"),
    Column("finite", STEP, "bool", "", "never", "all hidden states of the step are finite; else its measures are NaN"),
    Column("text", STEP, "string", "", "null", "what the token adds to the text; whole at a character's end", since=3),
    Column("sink", STEP, "bool", "", "never", "the state is that of position 0, the attention sink (P = 1)", since=3),
)
LAYERS = (
    Column("run", LAYER, "int32", "", "never", "number of the run in this unit"),
    Column("step", LAYER, "int32", "", "never", "s = position - (P - 1), from 0"),
    Column("layer", LAYER, "int16", "", "never", "0 = embedding output, l = residual stream after block l"),
)
TABLES: dict[str, tuple[Column, ...]] = {"runs": RUNS, "steps": STEPS, "layers": LAYERS}
KEYS: dict[str, tuple[str, ...]] = {"runs": RUN, "steps": STEP, "layers": LAYER}


def fixed(table: str) -> tuple[Column, ...]:
    """The fixed columns of `table`.

    Raises:
        InputError: no such table.

    """
    if table not in TABLES:
        raise InputError(f"a trace has no table {table!r}; it has {', '.join(TABLES)}.")
    return TABLES[table]


def measured(table: str, name: str, info: Mapping[str, object] | None = None) -> Column:
    """The column of one observable in `table`, from its metadata `info` (keys of `Column`, all optional).

    A measure is stored as float32: NaN is "undefined", truth values are 0 and 1, counts are whole numbers.
    """
    facts: dict[str, Any] = dict(info or {})
    kind = str(facts.get("kind", "float"))
    if kind not in KINDS:
        raise InputError(f"column {name!r}: kind {kind!r} is none of {', '.join(KINDS)}.")
    bounds = facts.get("bounds")
    return Column(
        name=name,
        dims=KEYS[table],
        dtype="float32",
        unit=str(facts.get("unit", "")),
        missing="NaN",
        description=str(facts.get("description", facts.get("summary", ""))),
        since=int(facts.get("since", 1)),
        kind=kind,
        bounds=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        keeps=tuple(sorted(facts.get("keeps", ()))),
        lens=str(facts.get("lens", "")),
    )


def columns_of(table: str, names: Iterable[str], infos: Iterable[Mapping[str, object]] = ()) -> tuple[Column, ...]:
    """Fixed and measured columns of `table` for the given `names`, in their order, fixed ones first.

    `infos` are metadata dicts with at least `name`, and `table` where a name means something else per table. A name
    with a lens suffix (`entropy__raw`) takes the metadata of its own name if there is one, else that of `entropy`.
    """
    by_name: dict[str, Mapping[str, object]] = {}
    for info in infos:
        if info.get("table", table) == table:
            by_name[str(info["name"])] = info
    own = {column.name for column in fixed(table)}
    out = list(fixed(table))
    for name in names:
        if name in own:
            continue
        base, _, lens = name.partition(LENS_SEPARATOR)
        info = by_name.get(name) or {**by_name.get(base, {}), **({"lens": lens} if lens else {})}
        out.append(measured(table, name, info))
    return tuple(out)


def read_columns(schema: pa.Schema, table: str) -> tuple[Column, ...]:
    """The columns of a stored table, from the metadata of its fields."""
    known = {column.name: column for column in fixed(table)}
    out = []
    for field in schema:
        if field.name in known:
            out.append(known[field.name])
            continue
        facts = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        if "bounds" in facts:
            facts["bounds"] = json.loads(facts["bounds"])
        if "keeps" in facts:
            facts["keeps"] = facts["keeps"].split(",")
        out.append(measured(table, field.name, facts))
    return tuple(out)


def validate(name: str, table: pa.Table) -> None:
    """Check that `table` is a well-formed `name` table; return nothing.

    Fixed columns are there with their types, nothing is null that may not be, every measure is float32, and the keys
    are sorted and occur once.

    Raises:
        StateError: says which column or row is wrong.

    """
    for column in fixed(name):
        if column.name not in table.column_names and column.since > 1:
            continue  # a file of an earlier version
        if column.name not in table.column_names:
            raise StateError(f"table {name!r} lacks the column {column.name!r}; has {', '.join(table.column_names)}.")
        got = table.schema.field(column.name).type
        if got != column.arrow:
            raise StateError(f"table {name!r}, column {column.name!r}: type {got}, wanted {column.dtype}.")
        if column.missing == "never" and table.column(column.name).null_count:
            raise StateError(f"table {name!r}, column {column.name!r}: a null where none may be.")
    own = {column.name for column in fixed(name)}
    for field in table.schema:
        if field.name not in own and field.type != pa.float32():
            raise StateError(f"table {name!r}, column {field.name!r}: type {field.type}, measures are float32.")
    _check_keys(name, table)


def _check_keys(name: str, table: pa.Table) -> None:
    """Keys sorted and unique: every row's key is lexicographically above the one before."""
    if table.num_rows < 2:
        return
    rises = np.zeros(table.num_rows - 1, dtype=bool)
    for key in reversed(KEYS[name]):
        step = np.diff(table.column(key).to_numpy().astype(np.int64))
        rises = (step > 0) | ((step == 0) & rises)
    if not rises.all():
        row = int(np.flatnonzero(~rises)[0]) + 1
        raise StateError(f"table {name!r}: row {row} is not above the one before it by ({', '.join(KEYS[name])}).")
