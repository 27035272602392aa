"""V1 to V3: known shares are found and judged, length explains what it made, small panels are said to be small."""

from functools import partial

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments import Panel
from phaselens.experiments.base import ModelData
from phaselens.experiments.crossed_design import MEAN_CT, MEASURES, RATIO, cells, mean_ct, ratio, sampled_arm
from phaselens.experiments.variance import VARIANCE, analyse_variance, fit, science_of, variance_evidence
from phaselens.statistics.variance import TERMS
from phaselens.validity import simulated_variance as simulated

PLANTED = {"model": 0.1, "category": 0.3, "model:category": 0.1, "prompt": 0.1, "model:prompt": 0.1, "residual": 0.3}


def verdicts(found):
    return {v.id: v for v in judge_all(claims_by_id(list(found)), found)}


def rng(seed=0):
    return np.random.default_rng(seed)


def part_of(panel, models=None, keep=None):
    """Some of the models, and of their runs those that `keep(runs)` names; the columns stay as they are."""
    chosen = []
    for m in panel.models[:models]:
        use = np.ones(len(m.runs["run"]), bool) if keep is None else keep(m.runs)
        runs = {k: np.asarray(v)[use] for k, v in m.runs.items()}
        rows = np.isin(m.layers["run"], runs["run"])
        layers, steps = ({k: v[np.isin(t["run"], runs["run"])] for k, v in t.items()} for t in (m.layers, m.steps))
        assert rows.any()
        chosen.append(ModelData(m.info, runs, steps, layers))
    return Panel(tuple(chosen), panel.seed, panel.n_boot)


def test_cells_hold_what_was_planted_where_it_was_planted():
    g = rng()
    level, value = (simulated.planted(PLANTED, g, models=3, prompts=2) for _ in range(2))
    panel = simulated.study_of_cells(level, value, g)
    found = cells(panel, mean_ct)
    assert found.models == ("m0", "m1", "m2") and found.categories == simulated.CATEGORIES and found.arm == "t0.7"
    assert found.y == pytest.approx(simulated.SCALE * level)
    assert cells(panel, ratio).y == pytest.approx(simulated.CENTRE + simulated.SCALE * value)
    assert found.prompts[2] == ("science/0", "science/1") and found.n_runs == level.size


def test_the_arm_with_most_samples_is_analysed():
    panel = simulated.with_shares(rng(), models=2, prompts=2, residual=1.0)
    for m in panel.models:
        m.runs["arm"] = np.where(np.asarray(m.runs["sample"]) == 0, "greedy", "t0.4")
    assert sampled_arm(panel) == "t0.4"
    found = cells(panel, mean_ct)
    assert np.isnan(found.y[..., 0]).all() and np.isfinite(found.y[..., 1:]).all()
    assert sampled_arm(Panel(())) == ""


def test_shares_of_these_levels_are_found_with_intervals_and_add_to_one():
    panel = simulated.with_shares(rng(3), **{k.replace(":", "_"): v for k, v in PLANTED.items()})
    rows = analyse_variance(panel).tables["variance_shares"].to_pylist()
    for measure in MEASURES:
        own = {r["term"]: r for r in rows if r["measure"] == measure and r["population"] == "these"}
        assert sum(r["share"] for r in own.values()) == pytest.approx(1)
        for term in ("model", "category", "model:category", "residual"):
            assert own[term]["share"] == pytest.approx(PLANTED[term], abs=0.08), term
            assert own[term]["lo"] < own[term]["share"] < own[term]["hi"]
        levels = {r["term"]: r["levels"] for r in own.values()}
        assert levels == {
            "model": 8,
            "category": 6,
            "model:category": 48,
            "prompt": 48,
            "model:prompt": 384,
            "residual": 1152,
        }
        three = {r["term"]: r for r in rows if r["measure"] == measure and r["population"] == "three-way"}
        assert sum(r["share"] for r in three.values()) == pytest.approx(1)
        assert three["rest"]["share"] > own["residual"]["share"] + 0.1  # it swallows prompts and interactions


def test_a_share_of_nothing_may_come_out_negative_and_is_not_clipped():
    found = [
        fit(simulated.with_shares(rng(k), models=4, residual=1.0), MEAN_CT).components.shares[0] for k in range(12)
    ]
    assert min(found) < 0 < max(found)


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ({"model": 0.05, "category": 0.4, "prompt": 0.05, "residual": 0.5}, "supported"),
        ({"model": 0.4, "category": 0.02, "prompt": 0.05, "residual": 0.53}, "rejected"),
        ({"prompt": 0.3, "residual": 0.7}, "open"),
    ],
)
def test_v1_by_planted_shares(terms, expected):
    verdict = verdicts(variance_evidence(simulated.with_shares(rng(3), **terms), ("V1",)))["V1"]
    assert verdict.verdict == expected, verdict.why
    assert (verdict.needed != "") == (expected == "open")
    assert verdict.counts["prompts per category"] == 8 and verdict.counts["seeds"] == 3


@pytest.mark.parametrize(("residual", "expected"), [(0.75, "supported"), (0.25, "rejected")])
def test_v2_by_planted_shares(residual, expected):
    terms = {"model": 0.1, "category": 0.1, "prompt": 0.05, "model_category": 0.0, "residual": residual}
    terms["model_category"] = 1 - sum(terms.values())
    verdict = verdicts(variance_evidence(simulated.with_shares(rng(1), **terms), ("V2",)))["V2"]
    assert verdict.verdict == expected, verdict.why


def test_v3_amplification_is_found_and_length_explains_what_it_made():
    one = verdicts(variance_evidence(simulated.with_amplification(rng(2), amplify=5.0), ("V3",)))["V3"]
    assert one.verdict == "supported", one.why
    quiet = verdicts(variance_evidence(simulated.with_amplification(rng(2), amplify=0.1), ("V3",)))["V3"]
    assert quiet.verdict == "rejected" and quiet.decided_by == "interval"
    wordy = verdicts(variance_evidence(simulated.of_length(rng(2)), ("V3",)))["V3"]
    assert wordy.verdict == "rejected" and wordy.decided_by == "answer length", wordy.why


def test_which_category_is_scientific_reasoning():
    assert science_of(("factual", "science")) == 1 and science_of(("reasoning", "science")) == 0
    assert science_of(("x", "y")) is None


def test_few_prompts_leave_it_open_and_a_missing_category_is_not_applicable():
    panel = simulated.with_shares(rng(), model=0.05, category=0.5, residual=0.45, prompts=4)
    found = verdicts(variance_evidence(panel))
    assert found["V1"].verdict == "open" and found["V1"].decided_by == "prompts per category"
    without = part_of(panel, keep=lambda runs: runs["category"] != "science")
    assert verdicts(variance_evidence(without))["V3"].verdict == "not applicable"


@pytest.mark.parametrize("models", [1, 2])
def test_small_panels_are_judged_without_a_crash(models):
    whole = simulated.with_shares(rng(), models=2, prompts=2, residual=1.0)
    for keep in (None, lambda runs: runs["sample"] == 0, lambda runs: np.asarray(runs["category"]) == "open"):
        result = VARIANCE.function(part_of(whole, models, keep))
        for verdict in verdicts(result.evidence).values():
            assert verdict.verdict in ("open", "not applicable") and verdict.needed, verdict
            assert set(result.tables) == {table.name for table in VARIANCE.tables}


@pytest.mark.slow
def test_an_unbalanced_design_is_fitted_by_reml_and_the_table_says_so():
    pytest.importorskip("statsmodels")
    whole = simulated.with_shares(rng(), models=3, prompts=3, model=0.4, prompt=0.2, residual=0.4)

    def kept(runs, i):
        """Two categories; every prompt is missing in some model, so that no balanced part is left."""
        return np.isin(runs["category"], ("open", "format")) & ((np.arange(len(runs["run"])) // 3 + i) % 3 > 0)

    models = tuple(part_of(Panel((m,)), keep=partial(kept, i=i)).models[0] for i, m in enumerate(whole.models))
    panel = Panel(models, n_boot=200)
    assert fit(panel, RATIO).y is None
    result = analyse_variance(panel)
    rows = result.tables["variance_shares"].to_pylist()
    assert {r["estimator"] for r in rows} == {"REML (statsmodels)"} and {r["term"] for r in rows} == set(TERMS)
    assert all(np.isnan(r["lo"]) and "REML" in r["reason"] for r in rows)
    found = verdicts(result.evidence)
    assert found["V1"].verdict == found["V2"].verdict == "open" and "REML" in found["V1"].reasons["interval"]


def test_one_seed_and_a_second_call_give_the_same_numbers():
    panel = simulated.with_shares(rng(), models=3, prompts=3, residual=1.0)
    first, second = analyse_variance(panel), analyse_variance(panel)
    assert str([t.to_pylist() for t in first.tables.values()]) == str([t.to_pylist() for t in second.tables.values()])
    assert verdicts(first.evidence) == verdicts(second.evidence)
