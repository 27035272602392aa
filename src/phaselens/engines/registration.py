"""What was registered before the data, and what was not: claims that came or changed later are marked post hoc.

Holm's correction of a registered claim is over the claims that were registered with it, whatever came later; a claim
that came later is corrected over all. A claim is post hoc too where its family is not judged whole, or where other
draws than those declared decide it: both are choices that were made with the data at hand.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from phaselens.claims import Claim, Evidence, judge_all, ledger_rows, lock


def registration(claims: Sequence[Claim]) -> list[dict[str, Any]]:
    """One row per claim for the manifest: its id, the document that it is a claim of, and the lock of its words."""
    return [{"id": c.id, "document": c.seed_doc, "lock": lock([c])} for c in claims]


def post_hoc(claims: Sequence[Claim], manifest: Mapping[str, Any], *, other_draws: bool = False) -> dict[str, str]:
    """Claim id -> why it is post hoc, for those of `claims` that are not judged as they were registered."""
    before = {row["id"]: row for row in manifest.get("registered", [])}
    there = {c.id for c in claims}
    out = {}
    for claim in claims:
        absent = sorted(i for i, row in before.items() if row["document"] == claim.seed_doc and i not in there)
        if claim.id not in before:
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
) -> list[dict[str, Any]]:
    """The rows of claims.json: every verdict, and whether it is post hoc (`late`, with the reason).

    `registered` are the ids that Holm's correction of a registered claim is over.
    """
    whole = judge_all(claims, evidence)
    if late:
        family = {v.id: v for v in judge_all([c for c in claims if c.id in set(registered)], evidence)}
        whole = tuple(v if v.id in late else family[v.id] for v in whole)
    rows = []
    for row in ledger_rows(whole):
        why = late.get(row["id"])
        reasons = row["reasons"] if why is None else {**row["reasons"], "post_hoc": why}
        rows.append({**row, "reasons": reasons, "post_hoc": why is not None})
    return rows
