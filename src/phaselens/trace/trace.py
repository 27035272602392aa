"""The record of an observation: three Arrow tables and what they were made from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from phaselens.errors import InputError, StateError, missing_extra
from phaselens.trace import notebook
from phaselens.trace.schema import KEYS, TABLES, Column, columns_of, read_columns, validate

if TYPE_CHECKING:
    from types import ModuleType

    import pandas
    import polars
    import xarray
    from matplotlib.axes import Axes

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Trace:
    """What was observed: `runs`, `steps` and `layers` as Arrow tables, `meta` as JSON-able facts.

    Measures are float32 with NaN for "undefined". `hidden` (only where kept) maps a name to an array, one per run:
    `run0` is [step, layer, d_model] float32.
    """

    runs: pa.Table
    steps: pa.Table
    layers: pa.Table
    meta: dict[str, Any]
    hidden: Mapping[str, np.ndarray] | None = field(default=None, repr=False)

    @classmethod
    def from_rows(
        cls,
        steps: Rows,
        layers: Rows,
        runs: Mapping[str, Sequence] | Sequence[Mapping[str, Any]],
        meta: Mapping[str, Any],
        columns: Iterable[Mapping[str, Any]] = (),
        hidden: Mapping[str, np.ndarray] | None = None,
    ) -> "Trace":
        """Build and check a trace from columns of arrays.

        `runs` is a dict of columns or a list of dicts; `unit` is `prompt_id` and `n_nonfinite` is counted from
        `steps["finite"]` where they are not given. `columns` is metadata per observable, dicts with `name` and any of
        `table, unit, kind, bounds, description, keeps, lens`.

        Raises:
            StateError: the rows are not well-formed; says which column or row.

        """
        columns = list(columns)
        run_rows = _run_columns(runs)
        if "unit" not in run_rows and "prompt_id" in run_rows:
            run_rows["unit"] = run_rows["prompt_id"]
        if "n_nonfinite" not in run_rows:
            run_rows["n_nonfinite"] = _count_nonfinite(run_rows["run"], steps)
        if name := _model_of(meta):
            run_rows.setdefault("model", [name] * len(run_rows["run"]))
        steps = {"sink": np.asarray(steps["position"]) == 0, **steps}
        out = cls(
            runs=_table("runs", run_rows, columns),
            steps=_table("steps", steps, columns),
            layers=_table("layers", layers, columns),
            meta=dict(meta),
            hidden=hidden,
        )
        out.validate()
        return out

    def validate(self) -> None:
        """Check all three tables against the schema, and that no row speaks of an unknown run.

        Raises:
            StateError: says what is wrong and where.

        """
        for name in TABLES:
            validate(name, self.table(name))
        known = np.unique(self.runs.column("run").to_numpy())
        for name in ("steps", "layers"):
            strange = np.setdiff1d(self.table(name).column("run").to_numpy(), known)
            if strange.size:
                raise StateError(f"table {name!r} has rows of runs that are not in `runs`: {strange[:5]}.")

    def table(self, name: str) -> pa.Table:
        """The Arrow table `name`: runs, steps or layers."""
        if name not in TABLES:
            raise InputError(f"a trace has no table {name!r}; it has {', '.join(TABLES)}.")
        return getattr(self, name)

    def columns(self, name: str) -> tuple[Column, ...]:
        """The columns of table `name`, with unit, bounds and definition."""
        return read_columns(self.table(name).schema, name)

    def numpy(self, name: str, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """Columns of table `name` as NumPy arrays; all of them unless `columns` says which."""
        table = self.table(name)
        return {c: table.column(c).to_numpy() for c in (table.column_names if columns is None else columns)}

    def __repr__(self) -> str:
        name, n = _model_of(self.meta), [t.num_rows for t in (self.runs, self.steps, self.layers)]
        return f"Trace({f'{name}: ' if name else ''}{n[0]:,} runs, {n[1]:,} steps, {n[2]:,} rows by layer)"

    def _repr_html_(self) -> str:
        return notebook.heat_html(self)

    def plot(self, observable: str = "instability", run: int = 0, ax: "Axes | None" = None) -> "Axes":
        """One run as an image, layers by tokens; returns the matplotlib axes (extra `plot`).

        Raises UnknownNameError for a column that `layers` lacks, InputError for a run that is not there.
        """
        return notebook.plot(self, observable, run, ax)

    def plot_layers(self, observable: str = "instability", ax: "Axes | None" = None) -> "Axes":
        """Median and quartiles over runs and steps, by layer; errors as of `plot`."""
        return notebook.plot_layers(self, observable, ax)

    def plot_runs(self, observable: str = "instability", layer: int | None = None, ax: "Axes | None" = None) -> "Axes":
        """One line per run at one layer (None: the layer of record, round(0.75 L)); errors as of `plot`."""
        return notebook.plot_runs(self, observable, layer, ax)

    def view(self, run: int = 0, observable: str = "instability") -> object:
        """One run as a widget for Jupyter and marimo: text and heat map on one cursor; a still without `notebook`.

        Raises UnknownNameError for a column that `layers` lacks, InputError for a run that is not there.
        """
        from phaselens.trace.widget import widget

        return widget(self, run, observable)

    def to_pandas(self, name: str = "steps") -> "pandas.DataFrame":
        """Table `name` as a pandas frame, first column the name of the model where it is known; NaN stays NaN."""
        frame = self.table(name).to_pandas()
        if model := _model_of(self.meta):
            frame = frame.drop(columns="model", errors="ignore")
            frame.insert(0, "model", model)
            frame["model"] = frame["model"].astype("category")
        return frame

    def to_polars(self, name: str = "steps") -> "polars.DataFrame":
        """Table `name` as a Polars frame; NaN stays NaN (not null).

        Raises:
            MissingExtra: polars is not installed.

        """
        return _need("polars").from_arrow(self.table(name).replace_schema_metadata(None))

    def to_xarray(self) -> "xarray.Dataset":
        """The trace as one Dataset with dimensions run, step and layer; cells without a row are NaN.

        Measures of `layers` are [run, step, layer]; measures of `steps` are [run, step], named with the suffix
        `_output` where a name stands in both tables. Units and definitions are attributes.

        Raises:
            MissingExtra: xarray is not installed.

        """
        xr = _need("xarray")
        axes = {key: np.unique(self.layers.column(key).to_numpy()) for key in KEYS["layers"]}
        for key in KEYS["steps"]:
            axes[key] = np.union1d(axes[key], np.unique(self.steps.column(key).to_numpy()))
        axes["run"] = self.runs.column("run").to_numpy()
        per_layer = set(self.layers.column_names)
        data = {}
        for name in ("steps", "layers"):
            keys = KEYS[name]
            table = self.table(name)
            where = tuple(np.searchsorted(axes[key], table.column(key).to_numpy()) for key in keys)
            for column in self.columns(name):
                if column.name in KEYS["layers"] or column.dtype == "string":
                    continue
                grid = np.full([len(axes[key]) for key in keys], np.nan, dtype=np.float32)
                grid[where] = table.column(column.name).to_numpy().astype(np.float32)
                label = f"{column.name}_output" if name == "steps" and column.name in per_layer else column.name
                data[label] = (keys, grid, {"units": column.unit, "description": column.description})
        runs = {c: ("run", self.runs.column(c).to_numpy()) for c in self.runs.column_names if c != "run"}
        return xr.Dataset(data, coords={**axes, **runs})


def _model_of(meta: Mapping[str, object]) -> str | None:
    """The name of the model that a trace was made with; None where it is not known."""
    model = meta.get("model")
    return model.get("name") if isinstance(model, Mapping) else None


def _need(package: str) -> "ModuleType":
    """Import an optional `package` now that it is used."""
    try:
        return __import__(package)
    except ImportError as error:
        raise missing_extra(f"Trace.to_{package}", package, "tables") from error


def _run_columns(runs: Mapping[str, Sequence] | Sequence[Mapping[str, Any]]) -> dict[str, Sequence]:
    """The runs as a dict of columns, from columns or from rows."""
    if isinstance(runs, Mapping):
        return dict(runs)
    rows = list(runs)
    names = [c.name for c in TABLES["runs"] if c.name != "n_nonfinite" or any(c.name in row for row in rows)]
    absent = [name for name in names if rows and not any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in names if name not in absent}


def _count_nonfinite(runs: Sequence, steps: Rows) -> list[int]:
    """Steps per run that hold a state that is not finite."""
    bad = np.asarray(steps["run"])[~np.asarray(steps["finite"], dtype=bool)]
    return [int((bad == run).sum()) for run in runs]


def _table(name: str, rows: Mapping[str, Any], infos: list[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table with the schema's types and the metadata of each column."""
    columns = columns_of(name, rows, infos)
    arrays, lengths = [], {}
    for column in columns:
        if column.name not in rows and column.missing == "null":
            values: Any = [None] * len(rows["run"])
        elif column.name in rows:
            values = rows[column.name]
        else:
            raise StateError(f"table {name!r} lacks the column {column.name!r}; got {', '.join(rows)}.")
        if isinstance(values, np.ndarray) and column.dtype not in ("string", "bool"):
            values = np.ascontiguousarray(values).astype(column.arrow.to_pandas_dtype(), copy=False)
        try:
            arrays.append(pa.array(values, type=column.arrow, from_pandas=False))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise StateError(f"table {name!r}, column {column.name!r}: {error}; wanted {column.dtype}.") from error
        lengths[column.name] = len(arrays[-1])
    if len(set(lengths.values())) > 1:
        raise StateError(f"table {name!r}: columns of unequal length: {lengths}.")
    return pa.table(arrays, schema=pa.schema([column.field() for column in columns]))
