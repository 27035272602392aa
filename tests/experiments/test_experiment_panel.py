"""The panel: columns come back where they belong, mistakes are refused, the same seed gives the same draws."""

import numpy as np
import planted
import pytest

from phaselens.errors import InputError, StateError, UnknownNameError
from phaselens.experiments import (
    DEFAULT,
    EXPERIMENTS,
    ModelData,
    ModelInfo,
    Panel,
    experiments_by_name,
    registered_claims,
)
from phaselens.experiments.result_tables import TYPES, _held, _meanings, arrow_table, json_value, meaning
from phaselens.experiments.separations import enough_models, panel_power

RUNS = {
    "run": np.array([3, 7]),
    "prompt_id": np.array(["a", "b"]),
    "category": np.array(["x", "y"]),
    "arm": np.array(["greedy", "greedy"]),
    "sample": np.array([0, 0]),
    "calibration": np.array([False, True]),
    "n_generated": np.array([2, 3]),
    "finish": np.array(["length", "eos"]),
}
STEPS = {"run": np.array([3, 3, 7]), "step": np.array([0, 1, 2]), "entropy": np.array([1.0, 2.0, 3.0], "f4")}
LAYERS = {
    "run": np.array([3, 3, 7]),
    "step": np.array([0, 1, 2]),
    "layer": np.array([2, 4, 4]),
    "top1": np.array([0.1, 0.2, 0.3]),
}
INFO = ModelInfo(name="m", family="f", n_layers=6, d_model=8, vocab_size=10, parameters=5)


def data(**changes):
    return ModelData(**{"info": INFO, "runs": RUNS, "steps": STEPS, "layers": LAYERS} | changes)


def test_columns_return_to_their_cells_and_the_rest_is_undefined():
    m = data()
    steps, layers = m.per_step("entropy"), m.per_layer("top1")
    assert steps.shape == (2, 3) and steps[0, :2].tolist() == [1, 2] and steps[1, 2] == 3 and np.isnan(steps).sum() == 3
    assert m.recorded_layers == (2, 4) and layers.shape == (2, 3, 2)
    assert layers[0, 0, 0] == 0.1 and layers[1, 2, 1] == 0.3 and np.isfinite(layers).sum() == 3
    at = m.at_layer("top1", 4)
    assert at[0, 1] == 0.2 and np.isnan(at[0, 0])
    assert m.at_layer("top1", 3) is None and m.at_layer("rivalry", 4) is None


def test_layer_of_record_rounds_as_python_does():
    assert data().layer_of_record == 4  # .75 * 6 = 4.5, to the even number
    assert round(0.75 * 8) == 6 and round(0.75 * 7) == 5


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"runs": {k: v for k, v in RUNS.items() if k != "arm"}}, "lacks"),
        ({"runs": RUNS | {"run": np.array([7, 3])}}, "ascending"),
        ({"completions": ((1,),)}, "one per run"),
    ],
)
def test_a_broken_model_is_refused(changes, error):
    with pytest.raises(StateError, match=error):
        data(**changes)


def test_rows_of_unknown_runs_are_refused():
    with pytest.raises(StateError, match="belongs to no run"):
        data(steps=STEPS | {"run": np.array([3, 3, 8])}).per_step("entropy")
    with pytest.raises(UnknownNameError, match="Did you mean 'entropy'"):
        data().per_step("entropi")


def test_panels_need_distinct_models_and_known_twins():
    with pytest.raises(InputError, match="must differ"):
        Panel((data(), data()))
    stray = ModelInfo(
        name="n", family="f", n_layers=6, d_model=8, vocab_size=10, parameters=5, twin=True, twin_of="nobody"
    )
    with pytest.raises(UnknownNameError, match="nobody"):
        Panel((data(), data(info=stray)))


def test_only_measured_prompts_are_units():
    panel = Panel((data(),), n_boot=10)
    assert panel.units == ("a",) and panel.unit_index(panel.models[0]).tolist() == [0, -1]
    assert panel.weights.shape == (10, 1)


def test_draws_depend_on_seed_and_purpose_only():
    draw = [Panel((), seed=s).generator(label).random() for s, label in ((1, "a"), (1, "a"), (1, "b"), (2, "a"))]
    assert draw[0] == draw[1] and len(set(draw)) == 3


def test_names_are_resolved_with_a_hint():
    assert [e.name for e in experiments_by_name(["gd", "regimes"])] == ["regimes", "gd"]
    assert [c.id for c in registered_claims(["regimes", "gd"])] == ["R1", "G1", "G2", "G3", "G4"]
    asked = {c for e in experiments_by_name(DEFAULT) for c in e.claims}
    assert {c.id for c in registered_claims()} == asked >= {"V1", "R2", "G7", "C1"}
    assert [c.id for c in registered_claims(["gd"])] == ["G1", "G2", "G3", "G4"]
    with pytest.raises(UnknownNameError, match="Did you mean 'regimes'"):
        experiments_by_name(["regime"])


def test_tables_keep_their_columns_when_empty_and_refuse_others():
    table = arrow_table("a:str b:float c:bool d:int", [])
    assert table.column_names == ["a", "b", "c", "d"] and table.num_rows == 0
    with pytest.raises(StateError):
        arrow_table("a:str", [{"a": "x", "b": 1}])
    assert json_value({"a": np.float64("nan"), "b": [np.int64(2), (True,)]}) == {"a": None, "b": [2, [True]]}


def test_power_is_a_constant_of_the_number_of_models():
    assert panel_power(8)[8] == pytest.approx(0.83, abs=0.02) and enough_models() == 8
    assert panel_power(5)[8] < 0.8 and np.isnan(panel_power(3)[8])


def test_planted_models_hold_what_they_say():
    g = np.random.default_rng(0)
    m = planted.model("m", planted.logits(g, scale=3.0), g, target=0.6)
    assert m.per_layer("entropy_norm__tmatch")[:, :, -1].mean() == pytest.approx(0.6, abs=1e-6)


def test_every_column_of_every_table_says_its_unit_and_meaning_and_no_line_is_stale():
    tables = [table for e in EXPERIMENTS for table in e.tables]
    assert len({table.name for table in tables}) == len(tables)
    used = {name for t in tables for column in t.names for name in (column, f"{t.name}.{column}")}
    for table in tables:
        assert table.about and [f.name for f in table.fields] == list(table.names)
        assert all(f.meaning and f.kind in TYPES for f in table.fields), table.name
        assert table.arrow([]).column_names == list(table.names)
    assert not [name for name in (*_meanings(), *_held()) if name not in used and "*" not in name]
    with pytest.raises(StateError, match="columns.txt"):
        meaning("panel", "never heard of")
