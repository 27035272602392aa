"""The S test's kind of evidence: does the panel fall into groups, and do they survive their controls?"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from phaselens.claims.overruling import controlled
from phaselens.claims.verdict_records import LEVEL, Decision, Numbers, Outcome
from phaselens.statistics.intervals import Interval
from phaselens.statistics.panel_groups import Split, gap_kept, same_grouping
from phaselens.statistics.separation import Separation

NO_SEPARATION = 0.75
SMALLEST_GAP = 6
ENOUGH_POWER = 0.8
HALF = 0.5


@dataclass(frozen=True)
class SplitEvidence:
    """All that decides one claim about a split.

    `split` is the tested one (of several versions the one with the largest p), `base` the split that should survive
    (None for a claim that there is one), `power` the power at 6, 8, 10 SD, `largest_p` the p that 95 % of panels with
    groups 6 SD apart stay below (`excluded`: it is larger, also without the lowest or highest model),
    `models_for_power` and `models_for_split` the numbers of models that would give power .8 at 8 SD and make this S
    significant (None: more than were tried), `lacking` what the panel lacks for the claim to be about anything ("" if
    nothing).
    """

    split: Split
    outcomes: tuple[Outcome, ...]
    power: Mapping[int, float]
    largest_p: float
    counts: Mapping[str, int]
    base: Split | None = None
    models_for_power: int | None = None
    models_for_split: int | None = None
    excluded: bool = False
    lacking: str = ""

    @property
    def p(self) -> float:
        """The larger p-value of twins in and twins dropped; NaN where the panel lacks what the claim is about."""
        return math.nan if self.lacking else self.split.p

    def numbers(self) -> Numbers:
        """S with its interval, the 5 % point under the null, and the p-values."""
        test, without = self.split.test, self.split.without_twins
        values: dict = {"estimate": test.s, "null": test.critical, "p": test.p, "p_without_twins": without.p}
        reason = test.reason or self.lacking
        reasons = {k: reason or without.reason for k, v in values.items() if math.isnan(v)}
        return Numbers(interval=self.split.interval, n=test.m, reasons=reasons, **values)

    def decide(self, p_holm: float) -> Decision:
        """The verdict by the rule of the S test."""
        test = self.split.test
        said = f"{_of(test)}, 5 % point {test.critical:.3f}, p = {self.split.p:.3g}, M = {test.m}"
        if self.lacking:
            return Decision("not applicable", "panel", self.lacking, self.lacking)
        if test.reason:
            few = "add models: the test needs four"
            needed = "; ".join(filter(None, [few if test.m else "", _unrecorded(self.outcomes)])) or few
            return Decision("not applicable", "panel", f"the S test is undefined: {test.reason}", needed)
        if self.base is None and self.excluded:
            why = f"{said}; 95 % of panels with groups {SMALLEST_GAP} SD apart have a p below {self.largest_p:.3g}"
            return Decision("rejected", f"{SMALLEST_GAP} SD excluded", why, "")
        tested = self.split if self.base is None else self.base
        if not tested.p <= LEVEL:
            what = "no split is established" if self.base is None else "there is no established split to survive"
            return Decision("open", "S test", f"{what}: {_said(tested)}", _needed(self, tested))
        return controlled(said, "S test", self.outcomes, _needed(self, self.split), self.split.p, p_holm)


def survives(name: str, base: Split, other: Split) -> Outcome:
    """Whether the split `base` is still there in the version `other`: same groups, same order, p <= .05.

    It "explains it away" if less than half of the gap is left, whatever the prompts (upper bound of the share below
    one half). Anything else is undecided, and all of it where `base` is no established split (p <= .05).
    """
    if not other.complete:
        return _incomplete(name, other, "defined for {} models")
    kept, interval, same, say = _compared(name, base, other, other.p)
    left = f"{kept:.2f} of the gap is left"
    if not base.p <= LEVEL:
        return say("undecided", f"no established split to test; here p = {other.p:.3g}, {left}")
    if other.p <= LEVEL and same and kept > 0:
        return say("survived", f"p = {other.p:.3g}, same groups, {left}")
    if interval.hi < HALF:
        return say("explains it away", f"{left}, at most {interval.hi:.2f}; p = {other.p:.3g}")
    return say("undecided", f"p = {other.p:.3g}, {'same' if same else 'other'} groups, {left}")


def absent_in_twins(name: str, base: Split, twins: Split) -> Outcome:
    """Whether the split is absent from the untrained twins (whose `models` carry the names of their originals).

    It "explains it away" if the twins fall into the same groups in the same order (p <= .05), or keep more than half
    of the gap (lower bound); it survived if they keep less than half (upper bound). Anything else is undecided, and all
    of it where `base` is no established split (p <= .05).
    """
    if not twins.complete:
        return _incomplete(name, twins, "untrained twins of {} models")
    p = twins.test.p
    kept, interval, same, say = _compared(name, base, twins, p)
    share = f"{kept:.2f} of the gap is there before training"
    if not base.p <= LEVEL:
        return say("undecided", f"no established split to test; {share} (p = {p:.3g})")
    if (p <= LEVEL and same and kept > 0) or interval.lo > HALF:
        return say("explains it away", f"{share}: architecture at initialisation makes the same groups (p = {p:.3g})")
    return say("survived", f"{share}, at most {interval.hi:.2f}") if interval.hi < HALF else say("undecided", share)


def _incomplete(name: str, split: Split, said: str) -> Outcome:
    seen = sum(math.isfinite(v) for v in split.values)
    return Outcome(name, "undecided" if seen else "missing", said.format(f"{seen} of {len(split.models)}"))


def _compared(name: str, base: Split, other: Split, p: float) -> tuple[float, Interval, bool, Callable[..., Outcome]]:
    """The share of the gap that is kept with its interval, whether groups are the same, and how to say an outcome."""
    agreement, (kept, interval) = same_grouping(base, other), gap_kept(base, other)
    facts: dict[str, Any] = {"p": p, "agreement": agreement, "gap_kept": kept, "gap_interval": interval}
    return kept, interval, agreement == 1.0, lambda word, why: Outcome(name, word, why, **facts)


def _said(tested: Split) -> str:
    t, w = tested.test, tested.without_twins
    apart = f"; twins dropped S = {w.s:.3f}, p = {w.p:.3g}" if tested.dropped else ""
    return f"{_of(t)}, 5 % point {t.critical:.3f}, p = {t.p:.3g}, M = {t.m}{apart}"


def _of(test: Separation) -> str:
    """S, and of how many groups where not two."""
    return f"S = {test.s:.3f}" if test.k == 2 else f"S = {test.s:.3f} of {test.k} groups"


def _needed(evidence: SplitEvidence, tested: Split) -> str:
    """What would settle it, in words: how many models, and which lens or control that was not recorded."""
    m = min(tested.test.m, tested.without_twins.m)
    low = min(tested.test.s, tested.without_twins.s) <= NO_SEPARATION
    parts = []
    if evidence.power[8] < ENOUGH_POWER:
        parts.append(f"{evidence.models_for_power or 'more than 40'} models for power .8 at 8 SD")
    if math.isnan(tested.p):
        parts.append("four models that are twins of none")
    elif tested.p > LEVEL and not low:
        count = evidence.models_for_split
        parts.append(f"{max(count, m + 1) if count else 'more than 120'} models if this S holds")
    elif tested.p > LEVEL and not parts:
        parts.append("other models: no number of them makes an S this low significant")
    parts += filter(None, [_unrecorded(evidence.outcomes)])
    if not parts:
        parts.append("more prompts, or models that are twins of none, to decide the control")
    return f"{'; '.join(parts)} (this panel: {m})"


def _unrecorded(outcomes: tuple[Outcome, ...]) -> str:
    missing = ", ".join(o.name for o in outcomes if o.outcome == "missing")
    return f"add to the study what was not recorded: {missing}" if missing else ""
