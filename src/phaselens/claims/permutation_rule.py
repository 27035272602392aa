"""The permutation's kind of evidence: is a statistic larger than moving the labels about makes it?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from phaselens.claims.overruling import Requirement, controlled, unready, why_none
from phaselens.claims.verdict_records import LEVEL, Decision, Numbers, Outcome
from phaselens.statistics.intervals import undefined_interval


@dataclass(frozen=True)
class PermutationEvidence:
    """A statistic with its permutation p-value, and everything that can overrule it.

    `null` is the 95 % point of the permuted values, `p_without_twins` the p-value with declared twins dropped (NaN: no
    twins, or undefined without them; `twins` says whether there are any). There is no region that rejects: a large p
    is no evidence of absence. `requirements`, `lacking`, `needed` and `of` as in `IntervalEvidence`.
    """

    estimate: float
    null: float
    p_with_twins: float
    counts: Mapping[str, int]
    n: int
    needed: str
    p_without_twins: float = math.nan
    twins: bool = False
    outcomes: tuple[Outcome, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    lacking: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    of: str = ""

    @property
    def p(self) -> float:
        """The larger p-value of twins in and twins dropped; NaN where the panel lacks what the claim is about."""
        if self.lacking or math.isnan(self.p_with_twins):
            return math.nan
        return max(self.p_with_twins, self.p_without_twins) if self.twins else self.p_with_twins

    def numbers(self) -> Numbers:
        """The statistic, the 95 % point of its null, and the p-values; a permutation gives no interval."""
        reasons = why_none(self.reasons, self.lacking)
        no_interval = undefined_interval("a permutation test gives a p-value and no interval")
        return Numbers(self.estimate, no_interval, self.null, self.p, self.p_without_twins, n=self.n, reasons=reasons)

    def decide(self, p_holm: float) -> Decision:
        """The verdict by the rule of the permutation, its requirements and its controls."""
        said = f"{self.of}: " if self.of else ""
        said += f"{self.estimate:.3g}, 95 % point {self.null:.3g}, p = {self.p:.3g}, n = {self.n}"
        if (early := unready(said, self.lacking, self.requirements)) is not None:
            return early
        if not self.p <= LEVEL:
            return Decision("open", "permutation", f"{said}: no more than moved labels give", self.needed)
        return controlled(said, "permutation", self.outcomes, self.needed, self.p, p_holm)
