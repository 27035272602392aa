"""What a claim, a control's outcome, evidence and a verdict are."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypedDict

from pydantic import BaseModel, ConfigDict

from phaselens.statistics.intervals import Interval, undefined_interval

LEVEL = 0.05
ELSEWHERE = 9  # the family of claims that come from no seed document but from papers of others

VerdictWord = Literal["supported", "rejected", "open", "not applicable"]
OutcomeWord = Literal["survived", "explains it away", "undecided", "missing"]


def word_of(survived: bool, explained: bool) -> OutcomeWord:
    """The word for a control that was made: what it left standing, what it explains away, else undecided."""
    return "survived" if survived else "explains it away" if explained else "undecided"


class Claim(BaseModel):
    """One registered claim: what is said, by which statistic and rule it is judged, and what could fool it.

    `after` names a claim that this one presupposes ("": none): it is tested only where that one is supported, and then
    takes no part in Holm's correction, since an error in it needs one in the other first.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    seed_doc: int
    statement: str
    statistic: str
    supported: str
    rejected: str
    controls: tuple[str, ...]
    nulls: tuple[str, ...]
    published: str
    after: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one control, or one version, did to what a claim says."""

    name: str
    outcome: OutcomeWord
    why: str
    p: float = math.nan
    agreement: float = math.nan
    gap_kept: float = math.nan
    gap_interval: Interval = field(default_factory=lambda: undefined_interval("not computed"))


@dataclass(frozen=True)
class Decision:
    """The verdict of one claim: the word, what decided it, why, and what would settle it ("" where it is settled)."""

    word: VerdictWord
    decided_by: str
    why: str
    needed: str = ""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a row of the ledger, NaN with a reason where the claim's rule has none.

    `null` is the 5 % point, or the value that the null gives; `n` the number of units the estimate stands on.
    """

    estimate: float
    interval: Interval
    null: float
    p: float
    p_without_twins: float
    n: int
    reasons: Mapping[str, str] = field(default_factory=dict)


class Evidence(Protocol):
    """All that decides one claim: a kind of rule with its numbers filled in.

    `p` takes part in Holm over the claims of one document (NaN: the rule has none, or nothing was tested).
    """

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """What each control did."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Numbers of models, prompts, runs, events."""

    @property
    def p(self) -> float:
        """The p-value of the claim before Holm."""

    def numbers(self) -> Numbers:
        """The numbers of its row."""

    def decide(self, p_holm: float) -> Decision:
        """The verdict by the registered rule, given the p-value after Holm."""


class Verdict(BaseModel):
    """One row of the ledger.

    NaN is written as null, and `reasons` says why, field by field; it is never written as 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=True)

    id: str
    seed_doc: int
    statement: str
    verdict: VerdictWord
    estimate: float
    interval: tuple[float, float]
    null: float
    p: float
    p_without_twins: float
    p_holm: float
    decided_by: str
    n: int
    counts: dict[str, int]
    published: str
    needed: str
    why: str
    controls: tuple[dict, ...]
    reasons: dict[str, str]


class LedgerRow(TypedDict, total=False):
    """A row of claims.json: a verdict as JSON (NaN is null), and what a study adds to it, from `post_hoc` on."""

    id: str
    seed_doc: int
    statement: str
    verdict: str
    estimate: float | None
    interval: list[float] | None
    null: float | None
    p: float | None
    p_without_twins: float | None
    p_holm: float | None
    decided_by: str
    n: int
    counts: dict[str, int]
    published: str
    needed: str
    why: str
    controls: list[dict]
    reasons: dict[str, str]
    post_hoc: bool
    after: str
    family: str
