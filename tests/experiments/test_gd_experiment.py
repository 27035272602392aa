"""GD on planted panels: what is a matter of logit scale is caught, what is not survives; closed forms; reasons."""

import json
import math
from dataclasses import replace

import numpy as np
import planted
import pyarrow as pa
import pytest

from phaselens.claims import REGISTER, judge_all
from phaselens.experiments import run_experiments
from phaselens.experiments.gd import analyse_gd
from phaselens.statistics.separation import separation

M = 9


def build(seed, *, twin_lead=0.0, twin_of=None, **of_model):
    """Nine models and their untrained twins; `of_model` maps settings of `planted.logits` to one value per model."""
    g = np.random.default_rng(seed)
    settings = [{k: v[i] for k, v in of_model.items()} for i in range(M)]
    models = [
        planted.model(f"m{i}", planted.logits(g, **s), g, target=0.5, twin_of=(twin_of or {}).get(i))
        for i, s in enumerate(settings)
    ]
    twins = [
        planted.model(
            f"m{i} (untrained)",
            planted.logits(g, scale=0.1 if i < 4 else 0.1 + twin_lead),
            g,
            target=0.5,
            twin=True,
            twin_of=f"m{i}",
        )
        for i in range(M)
    ]
    return planted.panel(models + twins)


def verdicts(panel):
    claims = [c for c in REGISTER if c.id in ("G1", "G2", "G3", "G4")]
    return {v.id: v for v in judge_all(claims, analyse_gd(panel).evidence)}


SCALES = [1.0] * 4 + [4.0] * 5
LEADS = [0.0] * 4 + [3.0] * 5


@pytest.fixture(scope="module")
def fake():
    """A split made by nothing but each model's logit scale."""
    return verdicts(build(1, scale=SCALES))


@pytest.fixture(scope="module")
def true():
    """A split in the shape of the distribution: in five models one token leads far more."""
    return verdicts(build(2, scale=[1.5] * M, lead=LEADS))


def test_a_split_by_logit_scale_is_seen_and_caught_by_the_common_temperature(fake):
    assert fake["G1"].verdict == "supported"
    assert fake["G2"].verdict == "rejected" and fake["G2"].decided_by == "common temperature"
    control = fake["G2"].controls[0]
    assert control["outcome"] == "explains it away" and control["gap_interval"][1] < 0.5


def test_a_true_split_survives_the_common_temperature_and_the_vocabulary(true):
    assert [true[c].verdict for c in ("G1", "G2", "G3")] == ["supported"] * 3
    assert true["G2"].controls[0]["agreement"] == 1.0


def test_lenses_survive_but_the_missing_tuned_lens_keeps_it_open(true):
    outcomes = {c["name"]: c["outcome"] for c in true["G4"].controls}
    assert outcomes == {
        "raw lens": "survived",
        "final-norm lens": "survived",
        "output only": "survived",
        "tuned lens": "missing",
    }
    assert true["G4"].verdict == "open" and true["G4"].decided_by == "tuned lens"


def test_a_split_that_is_there_before_training_is_explained_by_architecture():
    v = verdicts(build(2, scale=[1.5] * M, lead=LEADS, twin_lead=0.6))
    assert v["G1"].verdict == "rejected" and v["G1"].decided_by == "untrained twin"
    assert "initialisation" in v["G1"].why


def test_twins_of_one_recipe_cannot_carry_a_split(true):
    twin_of = {1: "m0", 2: "m0", 3: "m0", 5: "m4", 6: "m4", 7: "m4", 8: "m4"}
    v = verdicts(build(2, scale=[1.5] * M, lead=LEADS, twin_of=twin_of))
    assert v["G1"].verdict == "open" and v["G1"].reasons["p_without_twins"]
    assert true["G1"].verdict == "supported"


def test_panels_without_a_split_pass_at_most_at_the_level():
    g = np.random.default_rng(11)
    passed = [separation(0.3 * g.standard_normal(8), g, n_draws=2000).p <= 0.05 for _ in range(200)]
    assert np.mean(passed) <= 0.05


def test_a_panel_without_a_split_supports_nothing():
    found = verdicts(build(5, scale=list(np.linspace(1.0, 1.6, M))))
    assert not {v.verdict for v in found.values()} & {"supported"}
    assert all(v.needed for v in found.values() if v.verdict == "open")


def test_the_ratio_is_of_means_over_layers_above_the_embedding():
    g = np.random.default_rng(0)
    m = planted.model("m", planted.logits(g), g, calibration=2)
    first = np.asarray(m.layers["layer"]) == 1
    layers = dict(m.layers) | {"layer": np.asarray(m.layers["layer"]) - 1}  # layer 1 becomes the embedding output
    panel = planted.panel([replace(m, layers=layers)])
    rows = analyse_gd(panel).tables["gd_models"].to_pylist()
    row = next(r for r in rows if r["version"] == "final_norm")
    measured = ~first & (np.asarray(m.layers["run"]) < 6)
    top1, rivalry = np.asarray(m.layers["top1"])[measured], np.asarray(m.layers["rivalry"])[measured]
    assert row["G"] == pytest.approx(top1.mean()) and row["D"] == pytest.approx(rivalry.mean())
    assert row["GD_ratio"] == pytest.approx(top1.mean() / rivalry.mean())
    assert row["n_runs"] == 6 and row["n_prompts"] == 6 and row["lo"] < row["GD_ratio"] < row["hi"]
    depth = analyse_gd(panel).tables["gd_depth"].to_pylist()
    assert {r["layer"] for r in depth} == {1} and depth[0]["depth"] == pytest.approx(0.5)


def test_what_was_not_recorded_is_undefined_with_a_reason_and_claims_are_not_applicable():
    g = np.random.default_rng(0)
    models = []
    for i in range(5):
        m = planted.model(f"m{i}", planted.logits(g), g)
        models.append(replace(m, layers={k: v for k, v in m.layers.items() if "tmatch" not in k}))
    result = analyse_gd(planted.panel(models))
    rows = [r for r in result.tables["gd_models"].to_pylist() if r["version"] in ("tmatch", "nucleus")]
    assert rows and all(math.isnan(r["GD_ratio"]) and r["reason"] == "not recorded" for r in rows)
    v = {x.id: x for x in judge_all([c for c in REGISTER if c.id in ("G1", "G2", "G3", "G4")], result.evidence)}
    assert v["G2"].verdict == "not applicable" and "common temperature" in v["G2"].needed
    assert "tmatch" in result.notes[0]


def test_the_nucleus_is_bounded_where_not_recorded_and_tested_where_it_is():
    g = np.random.default_rng(2)
    models = [planted.model(f"m{i}", planted.logits(g, lead=lead), g) for i, lead in enumerate(LEADS)]
    bounded = analyse_gd(planted.panel(models)).evidence["G3"].outcomes[0]
    assert bounded.outcome == "survived" and "1 %" in bounded.why
    whole = [replace(m, layers=dict(m.layers) | {"nucleus_mass": np.full(len(m.layers["run"]), 0.99)}) for m in models]
    tested = analyse_gd(planted.panel(whole))
    assert tested.evidence["G3"].outcomes[0].outcome == "survived"
    assert "1 %" not in tested.evidence["G3"].outcomes[0].why
    rows = {r["version"]: r for r in tested.tables["gd_models"].to_pylist() if r["model"] == "m0"}
    assert rows["nucleus"]["GD_ratio"] == pytest.approx(rows["final_norm"]["GD_ratio"] / 0.99)


def test_results_do_not_depend_on_what_runs_beside():
    panel = build(1, scale=SCALES)
    alone, beside = analyse_gd(panel), run_experiments(panel)
    assert repr(beside.tables["gd_models"].to_pylist()) == repr(alone.tables["gd_models"].to_pylist())
    assert [r for r in beside.documents["separation"] if r["claim"] != "R1"] == alone.documents["separation"]


def test_tables_have_the_agreed_columns():
    tables = run_experiments(build(1, scale=SCALES), ("regimes", "gd")).tables
    agreed = {
        "panel": "model family twin parameters n_layers d_model vocab_size n_prompts n_runs n_tokens ratio_norm "
        "ratio_norm_lo ratio_norm_hi mean_ct frozen_fraction collapse_share entropy_norm GD_ratio GD_lo GD_hi "
        "noise_floor",
        "gd_models": "model twin version lens control G D GD_ratio lo hi n_prompts n_runs",
        "gd_depth": "model twin version layer depth GD_ratio lo hi",
        "depth": "model twin layer depth observable value lo hi n_prompts",
        "regimes_runs": "model twin arm run prompt_id category ratio_norm ratio_norm_32 ratio_norm_128 "
        "q95_over_median n_values frozen_fraction mean_ct late_ct label outside_published label_panel collapsed reason",
        "regimes_models": "model twin layer_choice ratio_norm lo hi n_prompts n_runs share_underactive share_adaptive "
        "share_transition share_chaotic share_underactive_panel boot_share_underactive boot_share_chaotic_panel",
        "regimes_nulls": "null model ratio_norm lo hi description",
    }
    assert set(tables) == set(agreed)
    for name, columns in agreed.items():
        assert set(columns.split()) <= set(tables[name].column_names), name
        assert isinstance(tables[name], pa.Table) and tables[name].num_rows


def test_every_version_has_a_row_of_separation_that_json_can_hold():
    rows = run_experiments(build(1, scale=SCALES), ("regimes", "gd")).documents["separation"]
    json.dumps(rows, allow_nan=False)
    keys = {"claim", "version", "S", "p", "groups", "S_without_twins", "p_without_twins", "M"}
    assert all(keys | {"power_6", "power_8", "power_10"} <= set(r) for r in rows)
    assert {r["claim"] for r in rows} == {"R1", "G1", "G2", "G3", "G4"}
    base = next(r for r in rows if (r["claim"], r["version"]) == ("G1", "final_norm"))
    assert base["groups"] == {f"m{i}": int(i < 4) for i in range(M)} or base["groups"] == {
        f"m{i}": int(i >= 4) for i in range(M)
    }
    absent = next(r for r in rows if r["version"] == "nucleus")
    assert absent["S"] is None and absent["reason"] and absent["M"] == 0
