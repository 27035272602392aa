"""The interval's kind of evidence: does an estimate's interval lie where the claim puts it, or where it may not?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from phaselens.claims.overruling import Requirement, controlled, unready, why_none
from phaselens.claims.verdict_records import Decision, Numbers, Outcome
from phaselens.statistics.intervals import Interval


@dataclass(frozen=True)
class Region:
    """The open range (lo, hi) of a number; an interval lies in it if both its bounds do."""

    lo: float = -math.inf
    hi: float = math.inf

    def holds(self, interval: Interval) -> bool:
        """Whether the whole interval lies inside; an undefined interval lies nowhere."""
        return self.lo < interval.lo and interval.hi < self.hi

    def __str__(self) -> str:
        if math.isinf(self.lo):
            return f"below {self.hi:g}"
        return f"above {self.lo:g}" if math.isinf(self.hi) else f"inside ({self.lo:g}, {self.hi:g})"


def above(bound: float) -> tuple[Region, ...]:
    """The interval's lower bound is above `bound`."""
    return (Region(lo=bound),)


def below(bound: float) -> tuple[Region, ...]:
    """The interval's upper bound is below `bound`."""
    return (Region(hi=bound),)


def inside(margin: float, centre: float = 0.0) -> tuple[Region, ...]:
    """The interval lies within `margin` of `centre` (as two one-sided tests at half its error rate say)."""
    return (Region(centre - margin, centre + margin),)


def outside(margin: float, centre: float = 0.0) -> tuple[Region, ...]:
    """The interval lies beyond `margin` of `centre`, on one side of it."""
    return (Region(hi=centre - margin), Region(lo=centre + margin))


@dataclass(frozen=True)
class IntervalEvidence:
    """An estimate with its interval, the regions that support and reject, and everything that can overrule them.

    `p` is the p-value of the rule (NaN: the rule has none; then Holm cannot overrule it), `null` the value that the
    null gives. `requirements` not met leave the claim open whatever the interval; `lacking` says what the panel lacks
    for the claim to be about anything ("" if nothing); `needed` what would settle an open verdict; `of` names what the
    estimate is of, where one of several versions decides, and `beside` says numbers that decide nothing.
    """

    estimate: float
    interval: Interval
    supported: tuple[Region, ...]
    rejected: tuple[Region, ...]
    counts: Mapping[str, int]
    n: int
    needed: str
    outcomes: tuple[Outcome, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    p: float = math.nan
    null: float = math.nan
    p_without_twins: float = math.nan
    lacking: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    of: str = ""
    beside: str = ""

    def numbers(self) -> Numbers:
        """The estimate with its interval, its null and its p-values."""
        reasons = why_none(self.reasons, self.lacking or self.interval.reason)
        return Numbers(self.estimate, self.interval, self.null, self.p, self.p_without_twins, n=self.n, reasons=reasons)

    def _number(self) -> str:
        if math.isnan(self.estimate):
            return "no estimate"
        if self.interval.reason:
            return f"{self.estimate:.3g} without an interval"
        return f"{self.estimate:.3g} [{self.interval.lo:.3g}, {self.interval.hi:.3g}]"

    def decide(self, p_holm: float) -> Decision:
        """The verdict by the rule of the interval, its requirements and its controls."""
        said = f"{self.of}: " if self.of else ""
        said += f"{self._number()}, n = {self.n}" + (f" ({self.beside})" if self.beside else "")
        if (early := unready(said, self.lacking, self.requirements)) is not None:
            return early
        if self.interval.reason:
            return Decision("open", "interval", f"the interval is undefined: {self.interval.reason}", self.needed)
        for region in self.rejected:
            if region.holds(self.interval):
                return Decision("rejected", "interval", f"{said}: {region}")
        where = next((region for region in self.supported if region.holds(self.interval)), None)
        if where is None:
            wanted, unwanted = _words(self.supported), _words(self.rejected)
            why = f"{said}: neither {wanted}" + (f" nor {unwanted}" if unwanted else "")
            return Decision("open", "interval", why, self.needed)
        return controlled(f"{said}: {where}", "interval", self.outcomes, self.needed, self.p, p_holm)


def _words(regions: Sequence[Region]) -> str:
    return " or ".join(map(str, regions))
