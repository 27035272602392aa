"""The flag's kind of evidence: in how many models of the panel does an effect show, or is it shown to be small?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from phaselens.claims.overruling import controlled, why_none
from phaselens.claims.verdict_records import Decision, Numbers, Outcome
from phaselens.statistics.intervals import Interval


@dataclass(frozen=True)
class FlagEvidence:
    """A flag over models (YES, PARTIAL, NO, UNDETERMINED), the flags that support and reject, and the controls.

    `estimate` is the median over models of the effect in SDs of its paired differences, with `interval`; `said` is the
    flag with its counts in words; `p` belongs to the flag that supports. `lacking` says what the panel lacks for the
    claim to be about anything ("" if nothing), `needed` what would settle an open verdict.
    """

    flag: str
    supported: str
    rejected: str
    said: str
    estimate: float
    interval: Interval
    counts: Mapping[str, int]
    n: int
    needed: str
    outcomes: tuple[Outcome, ...] = ()
    p: float = math.nan
    null: float = 0.0
    lacking: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)

    def numbers(self) -> Numbers:
        """The median effect over models with its interval, and p."""
        reasons = why_none(self.reasons, self.lacking or self.interval.reason)
        return Numbers(self.estimate, self.interval, self.null, self.p, math.nan, n=self.n, reasons=reasons)

    def decide(self, p_holm: float) -> Decision:
        """The verdict by the flag and its controls."""
        if self.lacking:
            return Decision("not applicable", "panel", self.lacking, self.lacking)
        if self.flag == self.rejected:
            return Decision("rejected", "flag", self.said)
        if self.flag != self.supported:
            return Decision("open", "flag", self.said, self.needed)
        return controlled(self.said, "flag", self.outcomes, self.needed, self.p, p_holm)
