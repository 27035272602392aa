"""Experiment: does acting on the dynamics change ct, does it change answers, and are the two the same thing?

Change of ct and change of correctness stand side by side for every arm; evidence for X1, X2, X4 and S6.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Region, Requirement, above, below, claims_by_id, inside, judge
from phaselens.claims.verdict_records import word_of
from phaselens.experiments.base import Panel, Result, declared, of_interventions
from phaselens.experiments.pooled import Asked, Change, Pooled, beyond, each_model, identity, pooled
from phaselens.experiments.result_tables import bounds, filled
from phaselens.interventions.outcome_records import ARMS, Control
from phaselens.statistics.intervals import undefined_interval

MARGIN, LEAST, NO_CHANGE = 0.05, 700, 0.1
TURBULENT = 0.75


def change(values: np.ndarray, units: np.ndarray, seed: int) -> Change:
    """Mean of paired values [question] of one model (their unit), NaN left out, with intervals over units."""
    return pooled([Asked("", values, units)], seed).whole


def equivalent(found: Change, margin: float = MARGIN) -> bool:
    """Whether two one-sided tests at 5 % place the mean within the margin: its 90 % interval lies inside."""
    return -margin < found.narrow.lo and found.narrow.hi < margin


def rows_of(stored: Control, seed: int) -> list[dict[str, object]]:
    """One row per arm: change of correctness and of ct against no intervention, and its cost in tokens."""
    rows = []
    for arm in (a for a in ARMS if a in stored.right):
        right = change(gain_of(stored, arm), stored.units, seed)
        ct = change(stored.ct[arm] - stored.ct["none"], stored.units, seed)
        rows.append(
            {
                "model": stored.model,
                "arm": arm,
                "n": len(stored.units),
                "triggered": float(stored.triggered[arm].mean()),
                "in_time": float(stored.in_time[arm].mean()),
                "right": float(stored.right[arm].mean()),
                "change_right": right.value,
                **bounds(right.interval, "right"),
                "equivalent": equivalent(right),
                "change_ct": ct.value,
                **bounds(ct.interval, "ct"),
                "extra_tokens": float(stored.tokens[arm].sum() / stored.tokens["none"].sum() - 1),
            }
        )
    return rows


def gain_of(stored: Control, arm: str, other: str = "none") -> np.ndarray:
    """Right answers of one arm less those of another, by question (-1, 0, 1) [question]."""
    return stored.right[arm].astype(float) - stored.right[other]


def _over(stored: Sequence[Control], values: Callable[[Control], np.ndarray], seed: int) -> Pooled:
    return pooled([Asked(s.model, v := values(s), s.units[: len(v)]) for s in stored], seed)


def _counts(stored: Sequence[Control]) -> dict[str, int]:
    units = {str(unit) for s in stored for unit in s.units}
    return {"models": len(stored), "questions": sum(len(s.units) for s in stored), "units": len(units)}


def _lacking(stored: Sequence[Control], why: str, supported: tuple[Region, ...]) -> IntervalEvidence:
    why = why if stored else "no arms are stored: add the experiment 'control' to a study"
    none = undefined_interval(why)
    return IntervalEvidence(math.nan, none, supported, (), counts=_counts(stored), n=0, needed=why, lacking=why)


def dynamic(stored: Sequence[Control], seed: int) -> IntervalEvidence:
    """Evidence for X1: absolute change of ct by the calm direction less that by random ones (SDs over questions)."""
    some = [s for s in stored if len(s.steered) and len(s.random_steered)]
    if not some:
        return _lacking(stored, "no run was steered: let the control study steer", above(0))
    found = _over(some, lambda s: _moved(s, s.steered) - _moved(s, s.random_steered).mean(axis=0), seed)
    own = float(np.mean([np.nanmean(_moved(s, s.steered)) for s in some]))
    least = min(len(s.random_steered) for s in some)
    random = np.mean([np.nanmean(_moved(s, s.random_steered[:least]), axis=1) for s in some], axis=0)
    outcomes = (
        identity([s.identity for s in some]),
        beyond(own, random, "random directions", "random directions of equal norm"),
        each_model(found, below(0)),
    )
    return IntervalEvidence(
        **found.whole.against_zero(),
        supported=above(0),
        rejected=inside(NO_CHANGE),
        counts=_counts(some),
        needed="more questions, or more random directions",
        outcomes=outcomes,
        of="change of ct in SDs",
    )


def _moved(stored: Control, steered: np.ndarray) -> np.ndarray:
    """Absolute change of mean ct against no intervention in SDs over questions, [..., question]."""
    plain = stored.ct["none"]
    return np.abs(steered - plain[: steered.shape[-1]]) / float(np.nanstd(plain))


def semantic(stored: Sequence[Control], seed: int, *, dynamic_supported: bool) -> IntervalEvidence:
    """Evidence for X2: change of correctness under the monitor, equivalent to none within 5 points in every model.

    Repair is rejected at 95 % by the mean over models; equivalence is shown by the 90 % interval of the model whose
    interval reaches furthest. An action that comes after the answer cannot change it: where it came in time for fewer
    than the margin, the test could not have failed.
    """
    if not stored:
        return _lacking(stored, "", inside(MARGIN))
    found = _over(stored, lambda s: gain_of(s, "monitor"), seed)
    aside = _over(stored, lambda s: gain_of(s, "monitor", "random"), seed)
    n = min(len(s.units) for s in stored)
    lo, hi = aside.whole.interval.lo, aside.whole.interval.hi
    said = f"monitor less random trigger [{lo:.3g}, {hi:.3g}]"
    word = word_of(equivalent(aside.whole), lo > 0)
    needs = (
        Requirement("n", n >= LEAST, f"{n} paired questions; no power below {LEAST}", f"{LEAST} questions"),
        Requirement("X1", dynamic_supported, "X1 is not supported: ct was not changed", "an action that changes ct"),
    )
    name, furthest = max(found.each, key=lambda one: max(-one[1].narrow.lo, one[1].narrow.hi))
    repaired = found.whole.interval.lo > MARGIN and lo > 0
    shown, interval = (found.whole, found.whole.interval) if repaired else (furthest, furthest.narrow)
    of = "change of correctness" + (f", {name}, the furthest" if len(stored) > 1 and not repaired else "")
    return IntervalEvidence(
        shown.value,
        interval,
        inside(MARGIN),
        (Region(lo=MARGIN),) if repaired else (),
        counts=_counts(stored),
        n=n,
        needed="more questions, or longer answers",
        outcomes=(Outcome("random trigger", word, said), _in_time(stored, seed)),
        requirements=needs,
        p=float(np.max([change.p_inside(MARGIN) for _, change in found.each])),
        null=0.0,
        of=of,
    )


def _in_time(stored: Sequence[Control], seed: int) -> Outcome:
    """Whether the action came before the answer was settled in more than 5 % of the questions, and repaired none there.

    Repairs there: the interval of the change lies above 0 (undecided), or above the margin (explains it away).
    """
    share = _over(stored, lambda s: s.in_time["monitor"].astype(float), seed).whole
    found = _over(stored, lambda s: np.where(s.in_time["monitor"], gain_of(s, "monitor"), np.nan), seed).whole
    lo, hi = found.interval.lo, found.interval.hi
    said = (
        f"in time for {100 * share.value:.3g} % of the questions, change there {found.value:.3g} [{lo:.3g}, {hi:.3g}]"
    )
    word = word_of(share.interval.lo > MARGIN and lo <= 0, lo > MARGIN)
    return Outcome("answers in time", word, said)


def necessary(stored: Sequence[Control], seed: int) -> IntervalEvidence:
    """Evidence for X4: net repairs by the guard prompt where ct does not fall, less those of another seed alone.

    Net: answers repaired less answers lost. Where the guard prompt repairs nothing on the whole, or nothing where ct
    does not fall, a difference from another seed says how chance flips go with ct and no more: the claim stays open.
    """
    some = [s for s in stored if "guard" in s.right and "again" in s.right]
    if not some:
        return _lacking(stored, "no guard prompt was given: name one", ())
    own = _over(some, lambda s: _still(s, "guard"), seed).whole
    net = _over(some, lambda s: gain_of(s, "guard"), seed).whole
    found = _over(some, lambda s: _still(s, "guard") - _still(s, "again"), seed).whole
    said = f"guard prompt: {net.value:.3g} net on the whole, {own.value:.3g} where ct does not fall"
    needs = (
        _repairs("guard prompt", net, "the guard prompt repairs no answers on the whole"),
        _repairs("without a fall of ct", own, "nothing is repaired where ct does not fall"),
    )
    return IntervalEvidence(
        **found.against_zero(),
        supported=(),
        rejected=(Region(lo=0),),
        counts=_counts(some),
        needed="more questions, or a prompt that repairs more",
        outcomes=(Outcome("guard prompt", "survived", said),),
        requirements=needs,
        of="net repairs without a fall of ct",
    )


def _still(stored: Control, arm: str) -> np.ndarray:
    """Repairs less losses of an arm, 0 where mean ct falls or is not defined (-1, 0, 1) [question]."""
    return np.where(stored.ct[arm] >= stored.ct["none"], gain_of(stored, arm), 0.0)


def _repairs(name: str, found: Change, why: str) -> Requirement:
    said = f"{why} ({found.value:.3g} [{found.interval.lo:.3g}, {found.interval.hi:.3g}])"
    return Requirement(name, found.interval.lo > 0, said, "a guard prompt that repairs answers")


def damping(stored: Sequence[Control], seed: int) -> IntervalEvidence:
    """Evidence for S6: low less normal temperature in turbulent questions, beside calm ones that are as hard.

    A low temperature makes easy questions easier and hard ones harder whatever the dynamics, and turbulent questions
    are hard ones; so calm questions are weighted to be right as often in a run of its own.
    """
    some = [s for s in stored if {"cool", "again"} <= set(s.right) and len(s.turbulence)]
    if not some:
        return _lacking(stored, "no arm of low temperature, or no turbulence", below(0))
    found = _over(some, lambda s: np.where(turbulent(s), gain_of(s, "cool"), np.nan), seed)
    aside = _over(some, against_calm, seed).whole
    lo, hi = aside.interval.lo, aside.interval.hi
    word = word_of(hi < 0, aside.value >= 0)
    outcomes = (
        Outcome("calm runs", word, f"turbulent less calm questions that are as hard [{lo:.3g}, {hi:.3g}]"),
        _easy(some, seed),
        each_model(found, above(0)),
    )
    return IntervalEvidence(
        **found.whole.against_zero(),
        supported=below(0),
        rejected=above(0),
        counts=_counts(some),
        needed="more questions",
        outcomes=outcomes,
        of="change of correctness, turbulent questions",
    )


def _easy(stored: Sequence[Control], seed: int) -> Outcome:
    """Whether turbulent questions fall that were right in a run of its own too.

    A low temperature takes right answers from hard questions and gives them to easy ones; these it should help.
    """
    values = lambda s: np.where(turbulent(s) & s.right["again"], gain_of(s, "cool"), np.nan)  # noqa: E731
    found = _over(stored, values, seed).whole
    said = f"turbulent questions right in a run of its own [{found.interval.lo:.3g}, {found.interval.hi:.3g}]"
    word = word_of(found.interval.hi < 0, found.value >= 0)
    return Outcome("easy turbulent questions", word, said)


def turbulent(stored: Control) -> np.ndarray:
    """The quarter of the questions whose run of its own was most turbulent (bool [question])."""
    return stored.turbulence > np.nanquantile(stored.turbulence, TURBULENT)


def against_calm(stored: Control) -> np.ndarray:
    """Values [question] whose mean is the change of turbulent questions less that of calm ones that are as hard.

    Within each stratum of the run of its own (right, wrong) the calm questions' mean is taken from the turbulent ones.
    """
    low, high = gain_of(stored, "cool"), turbulent(stored)
    out = np.full(len(low), np.nan)
    for right in (False, True):
        mine = stored.right["again"] == right
        if (mine & ~high).any():
            out[mine & high] = low[mine & high] - low[mine & ~high].mean()
    return out


def evidence(stored: Sequence[Control], seed: int) -> dict[str, IntervalEvidence]:
    """The evidence for X1, X2, X4 and S6; X2 asks whether X1 is supported by itself."""
    first = dynamic(stored, seed)
    moved = judge(claims_by_id(["X1"])[0], first, first.p).verdict == "supported"
    return {
        "X1": first,
        "X2": semantic(stored, seed, dynamic_supported=moved),
        "X4": necessary(stored, seed),
        "S6": damping(stored, seed),
    }


def analysed(stored: Sequence[Control], seed: int) -> Result:
    """The table of the arms and the evidence for X1, X2, X4 and S6, from stored records."""
    rows = [row for one in stored for row in rows_of(one, seed)]
    return Result(filled(control=rows), evidence=evidence(stored, seed))


def _analyse(panel: Panel) -> Result:
    return of_interventions(panel, "control", analysed)


CONTROL = declared("control", _analyse)
