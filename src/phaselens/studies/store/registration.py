"""What was registered before the data, and what was not: claims that came or changed later are marked post hoc.

Holm's correction of a registered claim is over the claims that were registered with it, whatever came later; a claim
that came later is corrected over all. A claim is post hoc too where its family is not judged whole, or where other
draws than those declared decide it: both are choices that were made with the data at hand.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from phaselens.claims import (
    OWN,
    Claim,
    Evidence,
    OwnClaim,
    RegisteredOwn,
    Verdict,
    corrected_together,
    judge_all,
    ledger_rows,
    lock,
    registered_own,
)
from phaselens.claims.verdict_records import LedgerRow

CHANGED = "-changed"
NOT_JUDGED = "not judged"


def registration(claims: Sequence[Claim]) -> list[dict[str, object]]:
    """One row per claim for the manifest: its id, the document that it is a claim of, its statement, and its lock."""
    return [{"id": c.id, "document": c.seed_doc, "statement": c.statement, "lock": lock([c])} for c in claims]


def own_claims(declaration: Mapping[str, Any]) -> tuple[RegisteredOwn, ...]:
    """The study's own claims, from its declaration."""
    return tuple(registered_own(OwnClaim.model_validate(row)) for row in declaration.get("claims", ()))


def with_own(manifest: Mapping[str, Any], declaration: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with the study's own claims among those registered.

    The hash of the declaration in the manifest pins them: a declaration that was changed since is refused.
    """
    own = own_claims(declaration)
    there = {row["id"] for row in manifest.get("registered", ())}
    fresh = [c for c in own if c.id not in there]
    return {
        **manifest,
        "claims": [*manifest.get("claims", ()), *(c.id for c in fresh)],
        "registered": [*manifest.get("registered", ()), *registration(fresh)],
    }


def with_later(registered: Sequence[RegisteredOwn], later: Sequence[OwnClaim]) -> tuple[RegisteredOwn, ...]:
    """The registered own claims and those that came after the data.

    One that was changed stands beside the original under the id ID-changed; one given unchanged is the registered one.
    """
    before = {c.id: c for c in registered}
    out = list(registered)
    for own in later:
        if own.id not in before:
            out.append(registered_own(own))
        elif before[own.id].rule != own:
            out.append(registered_own(own.model_copy(update={"id": own.id + CHANGED})))
    return tuple(out)


def post_hoc(claims: Sequence[Claim], manifest: Mapping[str, Any], *, other_draws: bool = False) -> dict[str, str]:
    """Claim id -> why it is post hoc, for those of `claims` that are not judged as they were registered."""
    before = {row["id"]: row for row in manifest.get("registered", [])}
    there = {c.id for c in claims}
    out = {}
    for claim in claims:
        absent = sorted(i for i, row in before.items() if row["document"] == claim.seed_doc and i not in there)
        original = claim.id.removesuffix(CHANGED)
        if claim.id not in before and claim.id != original and original in before:
            out[claim.id] = f"changed since it was registered as {original}"
        elif claim.id not in before:
            out[claim.id] = "not registered before the data"
        elif before[claim.id]["lock"] != lock([claim]):
            out[claim.id] = "changed since it was registered"
        elif absent:
            out[claim.id] = f"judged without {', '.join(absent)}, registered as one family with it"
        elif other_draws:
            out[claim.id] = "judged with another seed than the study declares"
    return out


def judged(
    claims: Sequence[Claim], evidence: Mapping[str, Evidence], late: Mapping[str, str], registered: Sequence[str]
) -> list[LedgerRow]:
    """The rows of claims.json: every verdict, and whether it is post hoc (`late`, with the reason).

    `registered` are the ids that Holm's correction of a registered claim is over.
    """
    whole = judge_all(claims, evidence)
    if late:
        family = {v.id: v for v in judge_all([c for c in claims if c.id in set(registered)], evidence)}
        whole = tuple(v if v.id in late else family[v.id] for v in whole)
    rows: list[LedgerRow] = []
    for row in ledger_rows(whole):
        why = late.get(row["id"])
        reasons = row["reasons"] if why is None else {**row["reasons"], "post_hoc": why}
        after, over = _before(row, claims), _family(row, claims, whole, late)
        rows.append({**row, "reasons": reasons, "post_hoc": why is not None, "after": after, "family": over})
    return rows


def _before(row: LedgerRow, claims: Sequence[Claim]) -> str:
    """The claim after which this one is tested, out of Holm's correction ("": none that is judged here)."""
    together = {c.id for c in corrected_together(claims, row["seed_doc"])}
    return "" if row["id"] in together else next(c.after for c in claims if c.id == row["id"])


def _family(row: LedgerRow, claims: Sequence[Claim], verdicts: Sequence[Verdict], late: Mapping[str, str]) -> str:
    """What Holm's correction of one claim is over, in words."""
    if row["p"] is None:
        return "no p-value, so no correction"
    if before := _before(row, claims):
        return f"tested after {before}, which it presupposes: its p-value is at least the adjusted one of {before}"
    together = {c.id for c in corrected_together(claims, row["seed_doc"])}
    own = [v.id for v in verdicts if v.id in together and math.isfinite(v.p)]
    own = own if row["id"] in late else [i for i in own if i not in late]
    whose = "the study's own claims" if row["seed_doc"] == OWN else f"the claims of document {row['seed_doc']}"
    return f"Holm over {len(own)} of {whose} that have a p-value: {', '.join(own)}"


def unjudged(manifest: Mapping[str, Any], judged_ids: Collection[str]) -> list[LedgerRow]:
    """Rows of the ledger for claims that were registered and are not judged here: none can be deleted.

    Open, and every number null with the reason.
    """
    nothing = ("estimate", "interval", "null", "p", "p_without_twins", "p_holm")
    why = "registered before the data and not judged here: its experiment did not run, or its declaration is gone"
    return [
        {
            "id": row["id"],
            "seed_doc": row["document"],
            "statement": row.get("statement", f"(words not kept; lock {row['lock'][:12]})"),
            "verdict": "open",
            "estimate": None,
            "interval": None,
            "null": None,
            "p": None,
            "p_without_twins": None,
            "p_holm": None,
            "decided_by": NOT_JUDGED,
            "n": 0,
            "counts": {},
            "published": "",
            "needed": "run the experiment that judges it on these traces",
            "why": why,
            "controls": [],
            "reasons": dict.fromkeys(nothing, why),
            "post_hoc": False,
            "after": "",
            "family": "not judged, so not in any correction",
        }
        for row in manifest.get("registered", ())
        if row["id"] not in judged_ids
    ]
