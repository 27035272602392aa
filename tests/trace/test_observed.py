"""Every variable that an observation stores, through the store and back, with its definition; and older files."""

from pathlib import Path

import numpy as np
import pytest

from phaselens.capture import generate
from phaselens.measure.reducer import LensSpec
from phaselens.models import load
from phaselens.observables import DEFAULT
from phaselens.observing.recording import observe
from phaselens.trace.schema import SCHEMA_VERSION
from phaselens.trace.store import read_facts, read_trace, trace_paths, write_trace
from tiny_panel import save_model

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    model = load(save_model(tmp_path_factory.mktemp("m") / "m"))
    said = generate(model, ["a b c", "d"], max_new_tokens=6)
    lenses = (LensSpec(), LensSpec("raw", label="raw"), LensSpec(tokens=(1, 2, 3, 9), label="shared"))
    return observe(model, said, lens=lenses, keep_hidden=True)


def test_every_observed_variable_survives_bit_by_bit_with_its_definition(trace, tmp_path):
    write_trace(trace, tmp_path, "u")
    back = read_trace(tmp_path, "u", hidden=True, verify=True)
    for name in ("runs", "steps", "layers"):
        assert back.table(name).equals(trace.table(name)) or name != "runs"
        assert back.columns(name) == trace.columns(name)
        for column, values in trace.numpy(name).items():
            np.testing.assert_array_equal(back.numpy(name)[column], values)
    assert {k: v.shape for k, v in back.hidden.items()} == {"run0": (6, 5, 32), "run1": (6, 5, 32)}
    assert all(np.array_equal(back.hidden[k], v) for k, v in trace.hidden.items())


def test_every_observable_has_a_column_with_its_unit_bounds_and_summary(trace):
    for one in DEFAULT:
        table = "layers" if one.per == "layer" else "steps"
        columns = {c.name: c for c in trace.columns(table)}
        assert one.name in columns, one.name
        column = columns[one.name]
        assert (column.unit, column.kind, column.description) == (one.unit, one.dtype, one.summary)
        assert set(column.keeps) == one.keeps
        values = trace.numpy(table)[one.name]
        if one.bounds is not None:
            seen = values[np.isfinite(values)]
            assert column.bounds == tuple(map(float, one.bounds))
            assert (seen >= one.bounds[0] - 1e-4).all() and (seen <= one.bounds[1] + 1e-4).all(), one.name


def test_columns_of_further_lenses_say_which_lens(trace):
    columns = {c.name: c for c in trace.columns("layers")}
    assert columns["entropy__raw"].lens == "raw"
    assert columns["entropy__shared"].lens == "final_norm, 4 tokens"


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_file_of_every_schema_version_still_opens(version):
    old = read_trace(DATA, f"v{version}", verify=True)
    assert read_facts(trace_paths(DATA, f"v{version}")["runs"])["schema_version"] == version
    assert old.steps.num_rows == 4
    assert np.isnan(old.numpy("layers")["turning_angle"][0])
    assert old.columns("layers")[-1].unit == "rad"
