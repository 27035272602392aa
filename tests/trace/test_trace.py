"""The record: what goes in comes out, in every form, and malformed rows are refused with the place."""

import re
import sys

import numpy as np
import pytest

from phaselens.errors import InputError, MissingExtra, StateError
from phaselens.trace.trace import Trace


def rows(n_runs=2, n_steps=3, n_layers=2):
    """Row keys of a full grid, and one measure with NaN and both infinities in it."""
    run, step, layer = (a.ravel() for a in np.indices((n_runs, n_steps, n_layers)))
    x = np.arange(run.size, dtype=np.float32)
    x[:3] = np.nan, np.inf, -np.inf
    first = layer == 0
    steps = {
        "run": run[first],
        "step": step[first],
        "position": step[first] + 4,
        "token": step[first] + 7,
        "finite": step[first] != 1,
        "entropy": x[first] + 100,
    }
    return steps, {"run": run, "step": step, "layer": layer, "entropy": x, "entropy__raw": -x}


def run_rows(n_runs=2):
    return [
        {
            "run": r,
            "prompt_id": f"p{r}",
            "category": "sums",
            "sample": r + 1,
            "seed": 3,
            "arm": "t0.7",
            "n_prompt": 5,
            "n_generated": 3,
            "finish": "length",
        }
        for r in range(n_runs)
    ]


def make(**changes):
    steps, layers = rows()
    given = {"steps": steps, "layers": layers, "runs": run_rows(), "meta": {"model": "tiny"}} | changes
    return Trace.from_rows(**given)


def test_columns_come_out_as_they_went_in():
    trace = make()
    _, layers = rows()
    for name, values in layers.items():
        np.testing.assert_array_equal(trace.numpy("layers")[name], values)
    assert list(trace.numpy("steps", ["step", "run"])) == ["step", "run"]


def test_runs_count_steps_that_are_not_finite():
    assert make().runs.column("n_nonfinite").to_pylist() == [1, 1]


def test_pandas_and_polars_keep_nan_and_infinity():
    trace = make()
    want = trace.numpy("layers")["entropy"]
    np.testing.assert_array_equal(trace.to_pandas("layers")["entropy"].to_numpy(), want)
    polars = trace.to_polars("layers")["entropy"]
    assert polars.null_count() == 0
    np.testing.assert_array_equal(polars.to_numpy(), want)


def test_xarray_has_the_cells_of_the_rows_and_the_units():
    steps, layers = rows()
    keep = layers["layer"] + layers["step"] > 0
    trace = make(
        layers={k: v[keep] for k, v in layers.items()}, columns=[{"name": "entropy", "unit": "nats", "bounds": (0, 9)}]
    )
    data = trace.to_xarray()
    assert data["entropy"].dims == ("run", "step", "layer")
    assert data["entropy"].sel(run=1, step=2, layer=1) == layers["entropy"][-1]
    assert np.isnan(data["entropy"].sel(run=1, step=0, layer=0))
    assert data["entropy_output"].sel(run=1, step=2) == steps["entropy"][-1]
    assert data["entropy"].attrs["units"] == "nats"
    assert list(data["prompt_id"].values) == ["p0", "p1"]


@pytest.mark.parametrize(("package", "method"), [("polars", "to_polars"), ("xarray", "to_xarray")])
def test_a_missing_package_is_said_when_it_is_used(monkeypatch, package, method):
    monkeypatch.setitem(sys.modules, package, None)
    args = () if method == "to_xarray" else ("steps",)
    with pytest.raises(MissingExtra, match=f"Trace.to_{package} needs {package}: pip install"):
        getattr(make(), method)(*args)


def test_position_0_is_flagged_and_tables_have_the_name_of_the_model():
    steps, layers = rows()
    trace = make(steps={**steps, "position": steps["step"], "text": list("abcdef")}, meta={"model": {"name": "tiny"}})
    assert trace.numpy("steps")["sink"].tolist() == [s == 0 for s in steps["step"].tolist()]
    assert not make().numpy("steps")["sink"].any()
    for name in ("runs", "steps", "layers"):
        frame = trace.to_pandas(name)
        assert frame.columns[0] == "model" and set(frame["model"]) == {"tiny"}
    assert trace.to_pandas("steps")["text"].tolist() == list("abcdef")
    assert "model" not in make().to_pandas("layers")


def test_runs_may_be_columns_and_answers_may_be_missing():
    columns = {key: [row[key] for row in run_rows()] for key in run_rows()[0]} | {"correct": [True, None]}
    runs = make(runs=columns).runs
    assert runs.column("correct").to_pylist() == [True, None]
    assert runs.column("answer").to_pylist() == [None, None]


def test_rows_of_an_unknown_run_are_refused():
    with pytest.raises(StateError, match="'steps' has rows of runs that are not in `runs`"):
        make(runs=run_rows(1))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.pop("token"), "table 'steps' lacks the column 'token'"),
        (lambda s: s.update(token=s["token"][1:]), "columns of unequal length"),
        (lambda s: s.update(finite=["yes"] * 6), "table 'steps', column 'finite'"),
    ],
)
def test_malformed_rows_are_refused(spoil, says):
    steps, _ = rows()
    spoil(steps)
    with pytest.raises(StateError, match=re.escape(says)):
        make(steps=steps)


def test_an_unknown_table_is_said():
    with pytest.raises(InputError, match="no table 'tokens'"):
        make().table("tokens")


def test_a_trace_without_rows_is_a_trace():
    steps, layers = ({k: v[:0] for k, v in table.items()} for table in rows())
    assert make(steps=steps, layers=layers, runs=[]).steps.num_rows == 0
