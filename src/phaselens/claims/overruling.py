"""What overrules the number of a rule, the same for every kind of evidence: requirements, controls, multiplicity."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from phaselens.claims.verdict_records import LEVEL, Decision, Outcome


@dataclass(frozen=True)
class Requirement:
    """What must hold before a rule may decide: its name, whether it does, and what would make it hold."""

    name: str
    met: bool
    why: str
    needed: str


def why_none(reasons: Mapping[str, str], lacking: str) -> dict[str, str]:
    """The reasons of a rule's numbers, with that of the estimate where what it lacks is the reason."""
    return {**reasons, "estimate": reasons.get("estimate", lacking)} if lacking else dict(reasons)


def unready(said: str, lacking: str, requirements: Sequence[Requirement]) -> Decision | None:
    """The verdict where the rule may not decide at all; None where it may."""
    if lacking:
        return Decision("not applicable", "panel", lacking, lacking)
    missed = next((r for r in requirements if not r.met), None)
    return None if missed is None else Decision("open", missed.name, f"{said}; {missed.why}", missed.needed)


def controlled(
    said: str, decided_by: str, outcomes: Sequence[Outcome], needed: str, p: float, p_holm: float
) -> Decision:
    """The verdict where the number supports: controls may explain it away or leave it open, and so may its p-value.

    `p_holm` is the p-value after Holm, `p` itself where the claim is in no correction; NaN: the rule has none.
    """
    for outcome in outcomes:
        if outcome.outcome == "explains it away":
            return Decision("rejected", outcome.name, f"{said}; {outcome.name}: {outcome.why}")
    for outcome in outcomes:
        if outcome.outcome in ("undecided", "missing"):
            need = f"{outcome.name}: add it" if outcome.outcome == "missing" else needed
            return Decision("open", outcome.name, f"{said}; {outcome.name} is {outcome.outcome}: {outcome.why}", need)
    if math.isfinite(p) and not p_holm <= LEVEL:
        if p_holm > p:
            return Decision("open", "Holm", f"{said}; after Holm within the family p = {p_holm:.3g}", needed)
        return Decision("open", "p", f"{said}; p = {p_holm:.3g}, without any correction", needed)
    return Decision("supported", decided_by, f"{said}; every control survived" if outcomes else said)
