"""Rates on rules whose truth is trivial, the document, and that the judge is the one of real studies."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.stats import norm

from phaselens.claims import REGISTER, judge_all, overruling
from phaselens.claims import split_rule as rule
from phaselens.errors import InputError, UnknownNameError
from phaselens.experiments import EXPERIMENTS, separations
from phaselens.validity import (
    SCENARIOS,
    Ruling,
    Scenario,
    by_experiment,
    claim_rows,
    markdown,
    scenario_rows,
    simulated_answers,
    simulated_gd,
    simulated_regimes,
    tally,
    validate,
    wilson,
)


def coin(value: float) -> dict[str, Ruling]:
    """A rule that supports where a uniform number is below .3, and else leaves it open."""
    return {"X": Ruling("supported" if value < 0.3 else "open", "coin")}


def toy(kind="null", make=lambda g: g.random(), **more):
    return Scenario(f"toy {kind}", kind, ("X",), "a uniform number", "0", make, coin, **more)


def test_a_rule_of_known_rate_has_that_rate():
    (found,) = tally(toy(), 2000, 0)
    assert found.rate == pytest.approx(0.3, abs=0.03) and 0.3 in found.interval
    assert found.verdicts["supported"] + found.verdicts["open"] == found.n == 2000
    assert found.decided_by["open"] == {"coin": found.verdicts["open"]}


def test_more_studies_only_add_and_another_seed_is_another_draw():
    assert tally(toy(), 40, 0)[0].hits == tally(toy(), 40, 0)[0].hits
    hits = [tally(toy(), n, 0)[0].hits for n in range(1, 30)]
    assert set(np.diff(hits)) == {0, 1}
    assert hits != [tally(toy(), n, 1)[0].hits for n in range(1, 30)]


def test_unmoved_counts_verdicts_that_differ_from_those_without():
    same = toy("unmoved", without=lambda g: g.random())
    other = toy("unmoved", without=lambda g: 0.9 * g.random())
    assert tally(same, 200, 0)[0].hits == 0
    assert tally(other, 2000, 0)[0].rate == pytest.approx(0.3 / 0.9 - 0.3, abs=0.015)
    with pytest.raises(InputError):
        toy("unmoved")
    with pytest.raises(InputError):
        toy("null", without=lambda g: g.random())


def test_wilson_has_its_closed_form():
    z, n, p = norm.ppf(0.975), 40, 3 / 40
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    found = wilson(3, 40)
    assert (found.lo, found.hi) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)))
    assert wilson(0, 0).reason == "no trials"


def test_a_rule_that_supports_too_much_fails_and_one_without_power_too():
    found = validate([toy(), toy("effect", headline=True), toy("artefact", make=lambda g: 1.0)], studies=400)
    x = found["claims"]["X"]
    assert x["fails"] == ["toy null"] and x["n"] == x["n_power"] == 400
    assert x["power"] == pytest.approx(0.3, abs=0.08) and x["power_at"] == "0"
    weak = validate([toy("effect", make=lambda g: 1.0, headline=True)], studies=400)["claims"]["X"]
    assert weak["power"] == 0 and weak["fails"] == ["toy effect"] and weak["false_positive_rate"] is None
    text = markdown(found)
    assert (
        "toy null" in text and "open: coin" in text and len(claim_rows(found)) == 1 and len(scenario_rows(found)) == 3
    )
    json.dumps(found, allow_nan=False)


def test_bad_input_is_one_clear_error():
    with pytest.raises(InputError, match="at least one"):
        validate([toy()], studies=0)
    with pytest.raises(UnknownNameError, match="Known: X"):
        validate([toy()], claims=["Y"])


def test_every_registered_claim_has_a_null_an_effect_and_an_artefact():
    ids = [s.id for s in SCENARIOS]
    assert len(set(ids)) == len(ids)
    for claim in ("R1", "G1", "G2", "G3", "G4"):
        kinds = [s.kind for s in SCENARIOS if claim in s.claims]
        assert {"null", "effect"} <= set(kinds) and {"artefact", "unmoved"} & set(kinds), claim
        assert sum(s.headline for s in SCENARIOS if claim in s.claims) == 1
        controls = next(c for c in REGISTER if c.id == claim).controls
        assert {s.control for s in SCENARIOS if claim in s.claims and s.control} <= set(controls)


CASES = {
    "regimes": (partial(simulated_regimes.with_regimes, gap=10, m=12), ("R1",)),
    "gd": (partial(simulated_gd.with_split, gap=10, m=12), ("G1", "G2", "G3", "G4")),
}


@pytest.mark.parametrize("name", CASES)
def test_studies_are_judged_as_the_whole_experiment_judges_them(name):
    make, ids = CASES[name]
    panel = make(np.random.default_rng(4))
    experiment = next(e for e in EXPERIMENTS if e.name == name)
    registered = [c for c in REGISTER if c.id in ids]
    verdicts = judge_all(registered, experiment.function(panel).evidence)
    assert by_experiment(name)(panel) == {v.id: Ruling(v.verdict, v.decided_by) for v in verdicts}
    assert verdicts[0].verdict == "supported", verdicts[0].why


def test_the_rates_are_those_of_the_registered_rule(monkeypatch):
    null = next(s for s in SCENARIOS if s.id == "R1 null, normal, M = 12")
    (strict,) = tally(null, 4, 0)
    monkeypatch.setattr(rule, "LEVEL", 1.0)
    monkeypatch.setattr(overruling, "LEVEL", 1.0)
    monkeypatch.setattr(separations, "LEVEL", 1.0)
    monkeypatch.setattr(rule, "NO_SEPARATION", 0.0)
    (loose,) = tally(null, 4, 0)
    assert strict.hits == 0 and loose.hits >= 3  # a control may still leave one open


def test_artefacts_are_caught_by_the_control_that_is_named():
    for id in ("R1 outlier state", "R1 frozen tails", "R1 architecture", "G architecture"):
        scenario = next(s for s in SCENARIOS if s.id == id)
        found = tally(scenario, 2, 0)[0]
        assert found.hits == 0 and found.decided_by["rejected"] == {scenario.control: 2}, id


def test_runs_of_unlike_length_are_judged_at_equal_lengths_as_a_study_does():
    """Columns rise over a run and wrong answers are longer: over whole runs that is a trap, at equal lengths not."""
    (longer,) = (s for s in SCENARIOS if s.id == "answers, longer when wrong")
    panel = longer.make(np.random.default_rng(4))
    (correctness,) = (e for e in EXPERIMENTS if e.name == "correctness")
    whole = judge_all([c for c in REGISTER if c.id == "S1"], correctness.evidence_of(panel, ("S1",)))
    assert whole[0].verdict == "supported"
    found = longer.judge(panel)["S1"]
    assert (found.verdict, found.decided_by) == ("open", "equal lengths")


def test_what_cut_off_answers_make_is_open_and_what_ended_ones_say_too_stands():
    """Cut-off answers are wrong and look different: a trap over all answers, and none among those that ended."""
    (scenario,) = (s for s in SCENARIOS if s.id == "answers, cut off")
    panel = scenario.make(np.random.default_rng(5))
    (correctness,) = (e for e in EXPERIMENTS if e.name == "correctness")
    (all_of_them,) = judge_all([c for c in REGISTER if c.id == "S1"], correctness.evidence_of(panel, ("S1",)))
    assert all_of_them.verdict == "supported"
    found = scenario.judge(panel)["S1"]
    assert (found.verdict, found.decided_by) == ("open", "answers that ended")
    real = simulated_answers.linked(np.random.default_rng(5), links={"trap": 0.5}, prompts=600)
    (model,) = real.models
    finish = np.where(np.random.default_rng(6).uniform(size=len(model.runs["run"])) < 0.3, "length", "eos")
    mixed = replace(real, models=(replace(model, runs=dict(model.runs) | {"finish": finish}),))
    assert scenario.judge(mixed)["S1"].verdict == "supported"


def test_one_model_far_from_all_others_does_not_exclude_groups():
    rng = np.random.default_rng(0)
    apart = rng.standard_normal(12) + 10 * (np.arange(12) < 5)
    judge, of_medians = by_experiment("regimes", ("R1",)), simulated_regimes._of_medians
    assert judge(of_medians(apart, rng))["R1"].verdict == "supported"
    apart[-1] += 30
    assert judge(of_medians(apart, rng))["R1"].verdict == "open"
    one_clump = np.r_[-6, -4, -2, np.linspace(-0.5, 0.5, 6), 2, 4, 6]
    assert judge(of_medians(one_clump, rng))["R1"].verdict == "rejected"
