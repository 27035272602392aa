"""P1: signatures that differ are told apart, one model under three names is not; each control decides and is named."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge, judge_all
from phaselens.claims.verdict_records import Outcome
from phaselens.experiments.perturbation import (
    analysed,
    compared,
    evidence,
    reproduced_rows,
    signature_rows,
    through_rows,
    weights_of,
)
from phaselens.experiments.result_tables import TABLES
from phaselens.interventions.outcome_records import Signature

(P1,) = claims_by_id(["P1"])
STRENGTHS, N, L = (0.03, 0.1, 0.3), 16, 4


def stored(name, family, slope, seed, identity=0.0, noise=0.1):
    g = np.random.default_rng(seed)
    depth = np.arange(L) / L
    base = np.log(0.5) + slope[0] * depth
    gains = base[:, None, None] + noise * g.standard_normal((N, L, len(STRENGTHS), 2))
    drift = slope[1] * depth[:, None] + 2 * np.log(STRENGTHS)
    kl = np.exp(drift[:, :, None] + noise * g.standard_normal((N, L, len(STRENGTHS), 2)))
    through = np.zeros((N, L, L + 1))
    beside = {"unmatched": np.stack([gains[:, :, 1], kl[:, :, 1]])}
    ones = np.ones(L + 1)
    return Signature(
        name,
        family,
        L,
        "resid_post",
        tuple(f"p{i}" for i in range(N)),
        tuple(range(L)),
        depth,
        STRENGTHS,
        0.1,
        gains,
        kl,
        through,
        ones,
        ones,
        ones,
        ones,
        identity,
        beside,
        np.stack([gains[:, 0, 0], kl[:, 0, 0]]),
    )


DIFFERENT = [stored(n, n, s, i) for i, (n, s) in enumerate((("a", (2, 0)), ("b", (-1, 3)), ("c", (0, -4))))]
SAME = [stored(n, n, (1, 1), 10 + i) for i, n in enumerate("abc")]


def verdict(models, **change):
    found = replace(evidence(models, compared(models, 0, n_boot=300), 0), **change)
    return judge_all([P1], {"P1": found})[0]


def test_different_signatures_are_supported_and_one_signature_three_times_is_open():
    assert verdict(DIFFERENT).verdict == "supported"
    same = verdict(SAME)
    assert same.verdict == "open" and same.interval[0] <= 0


def test_a_bootstrap_of_few_prompts_decides_nothing():
    few = [replace(s, prompts=s.prompts[:4], log_gain=s.log_gain[:4], kl=s.kl[:4], beside={}) for s in DIFFERENT]
    v = verdict(few)
    assert v.verdict == "open" and v.decided_by == "prompts" and "4 prompts" in v.why


def test_one_family_is_not_applicable_and_says_what_to_add():
    v = verdict([replace(s, family="a") for s in DIFFERENT])
    assert v.verdict == "not applicable" and "two families" in v.needed


def test_a_hook_that_is_not_neutral_explains_it_away_and_missing_noise_leaves_it_open():
    v = verdict([replace(DIFFERENT[0], identity=1e-6), *DIFFERENT[1:]])
    assert v.verdict == "rejected" and v.decided_by == "identity null"
    v = verdict([replace(s, beside={}) for s in DIFFERENT])
    assert v.verdict == "open" and v.decided_by == "unmatched noise"


def test_similarity_below_that_with_others_rejects():
    from phaselens.statistics.intervals import Interval

    found = evidence(DIFFERENT, compared(DIFFERENT, 0, n_boot=100), 0)
    assert judge(P1, replace(found, interval=Interval(-0.5, -0.1, 0.95)), np.nan).verdict == "rejected"
    v = judge(P1, replace(found, outcomes=(Outcome("distance version", "undecided", "x"),)), np.nan)
    assert v.verdict == "open" and v.decided_by == "distance version"


def test_nothing_stored_gives_empty_tables_and_says_what_to_add():
    made = analysed([], 0)
    assert all(table.num_rows == 0 for table in made.tables.values())
    assert judge(P1, made.evidence["P1"], np.nan).verdict == "not applicable"
    whole = analysed(DIFFERENT, 0, 100)
    assert set(whole.tables) == {"signatures", "reproducibility", "through"} and whole.tables["through"].num_rows


def test_rows_hold_the_planted_gain_and_say_what_it_is():
    rows = signature_rows(DIFFERENT, weights_of(DIFFERENT, 0, 300))
    TABLES["signatures"].arrow(rows)
    first = next(r for r in rows if r["model"] == "a" and r["strength"] == 0.1 and r["layer"] == 0)
    assert first["gain"] == pytest.approx(0.5, rel=0.1) and first["word"] == "absorb" and first["lo"] < first["hi"]
    last = next(r for r in rows if r["model"] == "a" and r["strength"] == 0.1 and r["layer"] == 3)
    assert last["word"] == "amplify" and last["gain"] == pytest.approx(0.5 * np.exp(1.5), rel=0.1)
    assert {r["condition"] for r in rows} == {"matched", "unmatched", "token substitution"}
    assert len(through_rows(DIFFERENT[:1])) == L * (L + 1) // 2
    near = reproduced_rows(DIFFERENT, compared(DIFFERENT, 0, n_boot=50))
    assert all(r["reproducibility"] > 0.6 and r["nearest_other"] for r in near)
