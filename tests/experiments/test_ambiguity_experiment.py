"""A1-A3 on planted pairs: effects, none, in some models only, artefacts of entropy and length, and without pairs."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments.ambiguity import analyse_ambiguity, at_equal, pairs_of
from phaselens.validity import simulated_ambiguity as simulated


def judged(panel):
    result = analyse_ambiguity(panel)
    return {v.id: v for v in judge_all(claims_by_id(["A1", "A2", "A3"]), result.evidence)}, result


def test_effects_are_found_and_their_absence_is_shown_not_assumed():
    found, result = judged(
        simulated.study_with(np.random.default_rng(0), m=7, effects={"turning_angle": 0.7, "commit_depth": 0.7})
    )
    assert [found[c].verdict for c in ("A1", "A2", "A3")] == ["supported"] * 3, {c: v.why for c, v in found.items()}
    assert found["A1"].estimate == pytest.approx(0.7, abs=0.15) and found["A1"].counts["pairs"] == simulated.PAIRS
    flags = {r["outcome"]: r for r in result.tables["ambiguity_flags"].to_pylist()}
    assert flags["turning_angle"]["flag"] == "YES" and flags["instability"]["flag"] == "NO"
    found, _ = judged(simulated.study_with(np.random.default_rng(1), m=7, effects={"instability": 0.5}))
    assert found["A1"].verdict == found["A2"].verdict == "rejected" and found["A3"].verdict in ("rejected", "open")


def test_an_effect_in_half_of_the_models_is_partial_and_open():
    found, _ = judged(
        simulated.in_some(np.random.default_rng(0), m=7, effects={"turning_angle": 0.8, "commit_depth": 0.8})
    )
    assert found["A1"].verdict == found["A3"].verdict == "open" and "PARTIAL" in found["A1"].why


def test_a_delay_that_is_the_entropys_is_caught_by_the_entropy_match():
    found, _ = judged(simulated.study_with(np.random.default_rng(0), m=7, effects={"entropy_norm": 0.8}, slope=2.0))
    assert found["A3"].verdict != "supported" and found["A3"].decided_by == "entropy match"


def test_pairs_of_unequal_length_take_no_part():
    panel = simulated.study_with(np.random.default_rng(0), m=7, long=6.0)
    pairs = pairs_of(panel.models[0], float("nan"))
    assert pairs.comparable.sum() == simulated.PAIRS * 7 // 8
    found, result = judged(panel)
    assert found["A1"].verdict != "supported" and found["A3"].verdict != "supported"
    assert {r["n_excluded"] for r in result.tables["ambiguity"].to_pylist()} == {simulated.PAIRS // 8}
    assert next(c for c in found["A1"].controls if c["name"] == "length match")["outcome"] == "survived"


def test_a_reading_that_is_missing_leaves_its_pair_out():
    panel = simulated.study_with(np.random.default_rng(0), m=1, effects={"turning_angle": 0.7, "commit_depth": 0.7})
    seen = panel.models[0].pairs
    keep = np.asarray(seen.runs["prompt_id"]) != "q5/second"
    runs = {k: np.asarray(v)[keep] for k, v in seen.runs.items()}
    tables = ({k: np.asarray(v)[keep] for k, v in t.items()} for t in (seen.steps, seen.layers))
    fewer = replace(panel.models[0], pairs=replace(seen, runs=runs, steps=(t := list(tables))[0], layers=t[1]))
    pairs = pairs_of(fewer, float("nan"))
    assert not pairs.comparable[pairs.ids.index("q5")] and pairs.comparable.sum() == simulated.PAIRS - 1


def test_without_pairs_the_claims_say_what_to_set():
    panel = simulated.study_with(np.random.default_rng(0), m=2, effects={"turning_angle": 0.7, "commit_depth": 0.7})
    found, result = judged(replace(panel, models=tuple(replace(m, pairs=None) for m in panel.models)))
    assert all(v.verdict == "not applicable" and "minimal_pairs = 60" in v.needed for v in found.values())
    assert not result.tables["ambiguity"].num_rows


def test_the_effect_at_equal_covariate_is_the_intercept():
    g = np.random.default_rng(0)
    e = 1 + g.standard_normal(200)
    d = 0.5 + 2 * e + 0.1 * g.standard_normal(200)
    found = at_equal(d, e, g, 400)
    slope, intercept = np.polyfit(e, d, 1)
    assert found.mean == pytest.approx(intercept) and 0.5 in found.interval and slope == pytest.approx(2, abs=0.05)
    flat = at_equal(d, np.zeros(200), g, 400)
    assert flat.mean == pytest.approx(d.mean()) and flat.mean in flat.interval
