"""The ledger: registered claims are frozen and locked, and every verdict follows its rule, each beside its opposite."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from phaselens.claims import (
    REGISTER,
    IntervalEvidence,
    Outcome,
    Requirement,
    SplitEvidence,
    above,
    absent_in_twins,
    below,
    claims_by_id,
    inside,
    judge,
    judge_all,
    ledger_rows,
    lock,
    outside,
    survives,
)
from phaselens.claims.flag_rule import FlagEvidence
from phaselens.errors import StateError, UnknownNameError
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.panel_groups import split

R1, G1, G2, G3, G4 = claims_by_id(["R1", "G1", "G2", "G3", "G4"])
GROUPED = np.array([0.0, 0.1, 0.2, 0.05, 4.0, 4.1, 4.2, 4.05, 4.15])
EVEN = np.linspace(0, 1, 9)
CLUMPED = np.array([-3.0, -0.1, 0.0, 0.0, 0.05, 0.1, 0.12, 0.2, 3.0])  # S = .31: one clump, two outliers apart


def made(values, *, version="v", noise=0.02, twins=None, n_prompts=8):
    values = np.asarray(values, float)
    g = np.random.default_rng(1)
    draws = values + noise * g.standard_normal((300, len(values)))
    names = tuple(f"m{i}" for i in range(len(values)))
    return split(version, names, values, draws, g, twins=twins or (False,) * len(values), n_prompts=n_prompts)


def evidence(tested, outcomes=(), *, base=None, power=0.9, largest_p=0.2, lacking=""):
    return SplitEvidence(
        split=tested,
        outcomes=tuple(outcomes),
        power={6: 0.5, 8: power, 10: 0.99},
        largest_p=largest_p,
        counts={"models": 9, "prompts": 8},
        base=base,
        models_for_power=8,
        models_for_split=20,
        excluded=tested.test.p > max(largest_p, 0.05),
        lacking=lacking,
    )


def verdict(claim, found, p_holm=None):
    return judge(claim, found, found.split.p if p_holm is None else p_holm)


FINE = Outcome("untrained twin", "survived", "none of it before training")


def test_a_split_whose_controls_survive_is_supported():
    v = verdict(G1, evidence(made(GROUPED), [FINE]))
    assert v.verdict == "supported" and v.estimate > 0.99 and v.p <= 0.05 and v.needed == ""
    assert v.interval[0] <= v.estimate and v.null == pytest.approx(0.918, abs=0.01)


@pytest.mark.parametrize(
    ("word", "expected"), [("explains it away", "rejected"), ("undecided", "open"), ("missing", "open")]
)
def test_a_control_decides_and_is_named(word, expected):
    v = verdict(G1, evidence(made(GROUPED), [Outcome("untrained twin", word, "because")]))
    assert v.verdict == expected and v.decided_by == "untrained twin" and "because" in v.why
    assert (v.needed != "") == (expected == "open")


def test_a_lens_that_was_not_recorded_is_named_and_no_models_are_asked_for():
    none, lens = made([np.nan] * 9, version="tuned"), Outcome("tuned lens", "missing", "not recorded")
    v = verdict(G4, evidence(none, [lens], base=made(GROUPED)), 1.0)
    assert v.verdict == "not applicable" and v.needed == "add to the study what was not recorded: tuned lens"
    v = verdict(G4, evidence(made(EVEN), [lens], base=made(EVEN)))
    assert v.verdict == "open" and "recorded: tuned lens" in v.needed
    few = verdict(G4, evidence(made(GROUPED[:3]), [], base=made(GROUPED[:3])), 1.0)
    assert few.verdict == "not applicable" and few.needed == "add models: the test needs four"


def test_a_control_cannot_explain_away_what_is_not_there():
    v = verdict(G1, evidence(made(EVEN), [Outcome("untrained twin", "explains it away", "because")], largest_p=1.0))
    assert v.verdict == "open" and v.decided_by == "S test"


def test_no_separation_is_rejected_only_with_power():
    found = verdict(G1, evidence(made(CLUMPED), [FINE], largest_p=0.2))
    assert found.verdict == "rejected" and found.decided_by == "6 SD excluded"
    weak = verdict(G1, evidence(made(CLUMPED), [FINE], power=0.4, largest_p=1.0))
    assert weak.verdict == "open" and "8 models for power .8" in weak.needed


def test_in_between_is_open_and_says_how_many_models():
    v = verdict(G1, evidence(made([0, 0.1, 0.2, 0.3, 0.7, 0.8, 0.9, 1.1, 1.2]), [FINE], largest_p=1.0))
    assert v.verdict == "open" and "20 models if this S holds (this panel: 9)" in v.needed


def test_dropping_twins_can_open_a_verdict():
    near = np.array([0.0, 0.7, 0.35, 4.2, 5.1, 4.6])
    assert verdict(G1, evidence(made(near), [FINE])).verdict == "supported"
    v = verdict(G1, evidence(made(near, twins=(False, False, True, False, False, True)), [FINE]))
    assert v.verdict == "open" and v.p <= 0.05 < v.p_without_twins and "twins dropped" in v.why


def test_too_few_models_without_twins_say_what_to_add():
    v = verdict(G1, evidence(made(GROUPED, twins=(True,) * 3 + (False,) * 3 + (True,) * 3), [FINE]))
    assert v.verdict == "open" and v.reasons["p_without_twins"] and "four models that are twins of none" in v.needed


def test_holm_can_open_a_verdict():
    assert verdict(G1, evidence(made(GROUPED), [FINE]), p_holm=0.06).decided_by == "Holm"


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [math.nan] * 6, [2.0] * 6])
def test_an_undefined_test_is_not_applicable_with_reasons(values):
    v = verdict(G1, evidence(made(values, noise=0.0), []), p_holm=math.nan)
    assert v.verdict == "not applicable" and v.needed
    assert {"estimate", "null", "p", "p_holm", "interval"} <= set(v.reasons)


def test_what_the_panel_lacks_is_said():
    v = verdict(R1, evidence(made([math.nan] * 6), [], lacking="generate at least 66 tokens"), p_holm=math.nan)
    assert v.verdict == "not applicable" and v.needed == "generate at least 66 tokens"


def test_a_survivor_keeps_groups_order_and_significance():
    base = made(GROUPED)
    assert survives("c", base, made(GROUPED * 0.6 + 1)).outcome == "survived"
    assert survives("c", base, made(-GROUPED)).outcome == "explains it away"
    moved = GROUPED.copy()
    moved[0] = 4.0
    assert survives("c", base, made(moved)).outcome == "undecided"


def test_a_control_explains_away_only_if_most_of_the_gap_is_surely_gone():
    base = made(GROUPED)
    gone = survives("c", base, made(EVEN[::-1] * 0.3))
    assert gone.outcome == "explains it away" and gone.gap_interval.hi < 0.5
    half = survives("c", base, made(GROUPED * 0.45 + 1.2 * (-1.0) ** np.arange(9), noise=1.5))
    assert half.outcome == "undecided"
    assert survives("c", made(EVEN), made(-EVEN)).outcome == "undecided"  # nothing was there to be explained


def test_incomplete_and_missing_versions_are_not_survivors():
    partly, nothing = GROUPED.copy(), np.full(9, np.nan)
    partly[0] = np.nan
    assert survives("c", made(GROUPED), made(partly)).outcome == "undecided"
    assert survives("c", made(GROUPED), made(nothing)).outcome == "missing"
    assert absent_in_twins("c", made(GROUPED), made(partly)).outcome == "undecided"
    assert absent_in_twins("c", made(GROUPED), made(nothing)).outcome == "missing"


def test_untrained_twins_explain_the_same_groups_and_not_others():
    base = made(GROUPED)
    assert absent_in_twins("t", base, made(GROUPED * 0.2)).outcome == "explains it away"  # smaller, but the same groups
    assert absent_in_twins("t", base, made(EVEN[[4, 0, 8, 2, 6, 1, 5, 3, 7]] * 0.1)).outcome == "survived"
    assert absent_in_twins("t", base, made(GROUPED * 0.4, noise=4.0)).outcome == "explains it away"
    shaky = absent_in_twins("t", base, made(EVEN * 3.5, noise=2.5))
    assert shaky.outcome == "undecided"


def test_surviving_needs_something_to_survive():
    base = made(EVEN)
    v = verdict(G2, evidence(made(EVEN), [survives("common temperature", base, made(EVEN))], base=base))
    assert v.verdict == "open" and "to survive" in v.why


def test_a_missing_tuned_lens_keeps_g4_open():
    base = made(GROUPED)
    names = ("raw lens", "final-norm lens", "output only")
    outcomes = [survives(n, base, base) for n in names] + [Outcome("tuned lens", "missing", "not in this study")]
    v = verdict(G4, evidence(base, outcomes, base=base))
    assert v.verdict == "open" and v.decided_by == "tuned lens" and "not in this study" in v.why
    assert verdict(G4, evidence(base, outcomes[:3], base=base)).verdict == "supported"


def test_outcomes_must_be_registered_controls():
    with pytest.raises(StateError, match="registered controls"):
        verdict(G1, evidence(made(GROUPED), [Outcome("phase of the moon", "survived", "")]))


def test_holm_runs_within_a_document_and_no_claim_is_passed_over():
    some = claims_by_id(["R1", "G1", "G2", "G3", "G4"])
    found = {c.id: evidence(made(GROUPED), [], base=None) for c in some}
    alone = [c.model_copy(update={"after": ""}) for c in some]
    verdicts = {v.id: v for v in judge_all(alone, found)}
    assert verdicts["R1"].p_holm == verdicts["R1"].p
    assert verdicts["G1"].p_holm == pytest.approx(4 * verdicts["G1"].p)
    with pytest.raises(StateError, match="G4"):
        judge_all(some, {k: v for k, v in found.items() if k != "G4"})


def test_a_claim_that_presupposes_another_is_in_no_correction_and_never_ahead_of_it():
    some = claims_by_id(["G1", "G2", "G3"])
    found = {c.id: evidence(made(GROUPED), [], base=None) for c in some}
    verdicts = {v.id: v for v in judge_all(some, found)}
    assert {v.verdict for v in verdicts.values()} == {"supported"}
    assert {v.p_holm for v in verdicts.values()} == {verdicts["G1"].p}
    weak = found | {"G1": evidence(made(CLUMPED), [], base=None)}
    verdicts = {v.id: v for v in judge_all(some, weak)}
    assert verdicts["G1"].verdict != "supported"
    assert verdicts["G2"].verdict == verdicts["G3"].verdict == "open"
    assert verdicts["G2"].p_holm == verdicts["G1"].p > verdicts["G2"].p
    assert verdicts["G2"].decided_by == "G1" and "Holm" not in verdicts["G2"].why
    twins = found | {
        "G1": evidence(
            made(GROUPED), [Outcome("untrained twin", "explains it away", "there before training")], base=None
        )
    }
    verdicts = {v.id: v for v in judge_all(some, twins)}
    assert (verdicts["G1"].verdict, verdicts["G2"].verdict) == ("rejected", "open")
    assert verdicts["G2"].decided_by == "G1" and "presupposes G1, which is rejected" in verdicts["G2"].why
    alone = {v.id: v for v in judge_all(claims_by_id(["G2", "G3"]), found)}
    assert alone["G2"].verdict == "supported" and alone["G2"].p_holm == pytest.approx(2 * alone["G2"].p)


def test_the_ledger_has_no_nan_and_says_why():
    found = {"R1": evidence(made([math.nan] * 6), [], lacking="add tokens"), "G1": evidence(made(GROUPED), [FINE])}
    rows = ledger_rows(judge_all([R1, G1], found))
    text = json.dumps(rows, allow_nan=False)
    assert text == json.dumps(ledger_rows(judge_all([R1, G1], found)), allow_nan=False)
    keys = {"id", "statement", "verdict", "estimate", "interval", "null", "p", "decided_by", "n", "published", "needed"}
    assert all(keys <= set(r) for r in rows)
    empty, full = rows
    assert empty["estimate"] is None and empty["interval"] is None and empty["reasons"]["estimate"]
    assert full["interval"] and full["n"] == 9 and full["reasons"] == {}
    assert ledger_rows(judge_all([G1], found))[0]["id"] == "G1"


def test_one_prompt_gives_an_estimate_without_an_interval():
    row = ledger_rows([verdict(G1, evidence(made(GROUPED, n_prompts=1), [FINE]))])[0]
    assert row["estimate"] is not None and row["interval"] is None and "two units" in row["reasons"]["interval"]


def test_claims_are_frozen_and_the_lock_moves_with_every_word():
    with pytest.raises(ValidationError):
        G1.statement = "something easier"
    with pytest.raises(ValidationError):
        type(G1)(**G1.model_dump(), extra=1)
    changed = [c.model_copy(update={"published": "else"}) if c.id == "G3" else c for c in REGISTER]
    assert lock(REGISTER) == lock(REGISTER) != lock(changed) and len(lock(REGISTER)) == 64
    assert lock(REGISTER) != lock(REGISTER[:-1])


def test_claims_are_found_by_id():
    assert [c.id for c in claims_by_id(["G2", "R1"])] == ["R1", "G2"]
    with pytest.raises(UnknownNameError, match="Did you mean"):
        claims_by_id(["G11"])


def test_every_kind_of_evidence_words_its_controls_alike():
    outcome = Outcome("untrained twin", "missing", "no twin")
    flagged = FlagEvidence("YES", "YES", "NO", "4 of 4 models", 0.5, Interval(0.4, 0.6), {}, 4, "more", (outcome,))
    said = [e.decide(math.nan) for e in (flagged, interval_evidence(0.1, 0.5, outcomes=(outcome,)))]
    assert {(d.word, d.decided_by, d.needed) for d in said} == {("open", "untrained twin", "untrained twin: add it")}


def interval_evidence(lo, hi, **more):
    facts = {"supported": above(0.0), "rejected": below(0.0), "counts": {"models": 4}, "n": 8, "needed": "more prompts"}
    interval = Interval(lo, hi) if math.isfinite(lo) else undefined_interval("one prompt")
    return IntervalEvidence(estimate=(lo + hi) / 2, interval=interval, **{**facts, **more})


def test_a_number_without_an_interval_is_said_in_words():
    few = {"requirements": (Requirement("events", False, "3 events", "10 events"),)}
    none = interval_evidence(math.nan, math.nan, **few)
    assert judge(REGISTER[0], none, math.nan).why == "no estimate, n = 8; 3 events"
    some = judge(REGISTER[0], replace(none, estimate=0.25), math.nan)
    assert some.why == "0.25 without an interval, n = 8; 3 events"


@pytest.mark.parametrize(
    ("lo", "hi", "more", "word", "decided_by"),
    [
        (0.1, 0.5, {}, "supported", "interval"),
        (-0.5, -0.1, {}, "rejected", "interval"),
        (-0.1, 0.5, {}, "open", "interval"),
        (0.1, 0.5, {"p": 0.2}, "open", "p"),
        (0.1, 0.5, {"p": 0.01}, "supported", "interval"),
        (0.1, 0.5, {"outcomes": (Outcome("length", "explains it away", "equal lengths"),)}, "rejected", "length"),
        (0.1, 0.5, {"outcomes": (Outcome("length", "undecided", "few"),)}, "open", "length"),
        (0.1, 0.5, {"outcomes": (Outcome("length", "survived", "kept"),)}, "supported", "interval"),
        (0.1, 0.5, {"requirements": (Requirement("events", False, "3 events", "10 events"),)}, "open", "events"),
        (0.1, 0.5, {"lacking": "two families"}, "not applicable", "panel"),
        (-0.04, 0.03, {"supported": outside(0.05), "rejected": inside(0.05)}, "rejected", "interval"),
        (-0.4, -0.1, {"supported": outside(0.05), "rejected": inside(0.05)}, "supported", "interval"),
        (-0.4, 0.1, {"supported": outside(0.05), "rejected": inside(0.05)}, "open", "interval"),
    ],
)
def test_interval_rules_each_beside_its_opposite(lo, hi, more, word, decided_by):
    found = interval_evidence(lo, hi, **more)
    decision = found.decide(found.p)
    assert (decision.word, decision.decided_by) == (word, decided_by)
    assert bool(decision.needed) == (word in ("open", "not applicable"))


def test_interval_evidence_in_the_ledger_has_a_reason_for_every_missing_number():
    claim = R1.model_copy(update={"controls": ()})
    row = ledger_rows([judge(claim, interval_evidence(0.1, 0.5), math.nan)])[0]
    assert row["p"] is None and row["p_holm"] is None and row["null"] is None
    assert set(row["reasons"]) >= {"p", "p_holm", "null", "p_without_twins"} and all(row["reasons"].values())
    unseen = interval_evidence(math.nan, math.nan)
    row = ledger_rows([judge(claim, unseen, math.nan)])[0]
    assert row["interval"] is None and row["verdict"] == "open" and "one prompt" in row["reasons"]["interval"]
