"""The ledger: the lock before the data, the verdicts after it, and how they are written."""

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from typing import Any

from phaselens.claims.declared import REGISTER
from phaselens.claims.verdict_records import Claim, Decision, Evidence, LedgerRow, Outcome, Verdict
from phaselens.errors import StateError, unknown_name
from phaselens.statistics.multiplicity import holm


def claims_by_id(ids: Sequence[str]) -> tuple[Claim, ...]:
    """The registered claims of these ids, in the order of the register. Raises UnknownNameError for any other id."""
    known = {c.id: c for c in REGISTER}
    for name in ids:
        if name not in known:
            raise unknown_name("claim", name, known)
    return tuple(c for c in REGISTER if c.id in set(ids))


def lock(claims: Sequence[Claim]) -> str:
    """SHA-256 over the canonical JSON of the claims: what the manifest holds before the data.

    A word changed, another lock.
    """
    canonical = json.dumps([c.model_dump(mode="json") for c in claims], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def judge(claim: Claim, evidence: Evidence, p_holm: float, before: Verdict | None = None) -> Verdict:
    """The verdict of one claim by its registered rule; `p_holm` is its p-value after Holm within the family.

    `before` is the verdict of the claim that this one presupposes (None: it presupposes none): it is decided by its own
    p-value then, and is supported only where the other is.
    """
    decision, numbers = _in_order(evidence.decide(p_holm if before is None else evidence.p), before), evidence.numbers()
    names = [o.name for o in evidence.outcomes]
    if not set(names) <= set(claim.controls):
        raise StateError(
            f"claim {claim.id}: outcomes {names} are not all among its registered controls {claim.controls}."
        )
    values: dict = {
        "estimate": numbers.estimate,
        "null": numbers.null,
        "p": numbers.p,
        "p_without_twins": numbers.p_without_twins,
        "p_holm": p_holm,
    }
    unsaid = next(iter(numbers.reasons.values()), "not part of this claim's rule")
    reasons = {k: numbers.reasons.get(k, unsaid) for k, v in values.items() if math.isnan(v)}
    if numbers.interval.reason:
        reasons["interval"] = numbers.interval.reason
    return Verdict(
        id=claim.id,
        seed_doc=claim.seed_doc,
        statement=claim.statement,
        verdict=decision.word,
        interval=(numbers.interval.lo, numbers.interval.hi),
        decided_by=decision.decided_by,
        n=numbers.n,
        counts=dict(evidence.counts),
        published=claim.published,
        needed=decision.needed,
        why=decision.why,
        controls=tuple(_row(o) for o in evidence.outcomes),
        reasons=reasons,
        **values,
    )


def _in_order(decision: Decision, before: Verdict | None) -> Decision:
    """What is presupposed and not supported leaves a claim open at best."""
    if before is None or decision.word != "supported" or before.verdict == "supported":
        return decision
    why = f"{decision.why}; it presupposes {before.id}, which is {before.verdict}"
    return Decision("open", before.id, why, before.needed or f"a panel in which {before.id} is supported")


def _row(outcome: Outcome) -> dict:
    bounds = [outcome.gap_interval.lo, outcome.gap_interval.hi]
    return {
        "name": outcome.name,
        "outcome": outcome.outcome,
        "why": outcome.why,
        "p": outcome.p,
        "agreement": outcome.agreement,
        "gap_kept": outcome.gap_kept,
        "gap_interval": bounds,
    }


def judge_all(claims: Sequence[Claim], evidence: Mapping[str, Evidence]) -> tuple[Verdict, ...]:
    """Verdicts of the claims, in order, with Holm over the claims of one document that have a p-value.

    The p-value of a claim is the larger of those with twins in and dropped, over all versions that it asks for. A claim
    that presupposes another of `claims` is tested after it (a fixed sequence): it is in no correction, its adjusted
    p-value is at least that of the other, and it is supported only where the other is.
    Raises StateError for a claim without evidence: no claim may be passed over in silence.
    """
    silent = [c.id for c in claims if c.id not in evidence]
    if silent:
        raise StateError(
            f"claims {silent} were registered, but no experiment gave evidence; run the experiments they need."
        )
    adjusted: dict[str, float] = {}
    for document in {c.seed_doc for c in claims}:
        family = corrected_together(claims, document)
        values = holm([evidence[c.id].p for c in family])
        adjusted |= {c.id: float(value) for c, value in zip(family, values, strict=True)}
    found: dict[str, Verdict] = {}
    known = {c.id: c for c in claims}

    def verdict(claim: Claim) -> Verdict:
        if claim.id not in found:
            before = verdict(known[claim.after]) if claim.after in known else None
            own = adjusted.get(claim.id, evidence[claim.id].p)
            p_holm = own if before is None or math.isnan(own) else max(own, before.p_holm)
            found[claim.id] = judge(claim, evidence[claim.id], p_holm, before)
        return found[claim.id]

    return tuple(verdict(c) for c in claims)


def corrected_together(claims: Sequence[Claim], document: int) -> tuple[Claim, ...]:
    """Those of `claims` that Holm's correction of one document is over: all that presuppose no other of them."""
    ids = {c.id for c in claims}
    return tuple(c for c in claims if c.seed_doc == document and c.after not in ids)


def ledger_rows(verdicts: Sequence[Verdict]) -> list[LedgerRow]:
    """The ledger as plain JSON values: NaN is null, with its reason in `reasons`.

    An interval without bounds is null.
    """
    rows: list[LedgerRow] = []
    for verdict in verdicts:
        row = _plain(verdict.model_dump())
        row["interval"] = None if None in row["interval"] else row["interval"]
        rows.append(row)
    return rows


def held_against(
    rows: Sequence[LedgerRow],
    again: Sequence[LedgerRow] | None,
    ids: Collection[str],
    *,
    where: str,
    said: str,
    needed: str,
) -> list[LedgerRow]:
    """Rows of the ledger held against those of a stricter panel: a verdict that does not stand there is open.

    `again` are its rows, in the same order (None: there is none), `ids` the claims that must stand there, `where` in
    words ("at equal lengths", decided by "equal lengths"), `said` over what. Other claims and open verdicts stay.
    """
    out: list[LedgerRow] = []
    for row, other in zip(rows, again or repeat(None, len(rows)), strict=True):
        if row["id"] not in ids or row["verdict"] not in ("supported", "rejected"):
            out.append(row.copy())
        elif other is not None and other["verdict"] == row["verdict"]:
            out.append({**row, "why": f"{row['why']}; the same {where} ({said})"})
        else:
            found = "cannot be told" if other is None else f"is {other['verdict']} ({other['why']})"
            why = f"{row['why']}; over whole runs {row['verdict']}, but {where} ({said}) it {found}"
            settles = (other["needed"] if other else "") or needed
            by = where.partition(" ")[2]
            out.append({**row, "verdict": "open", "decided_by": by, "why": why, "needed": settles})
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
