"""The ledger and its summary in sentences: what was asked, what was found, what was not, and what would change it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from phaselens.report.models_shown import Member
from phaselens.report.study_files import Row, records
from phaselens.report.template_files import text
from phaselens.report.written_values import (
    DASH,
    count,
    defined,
    fixed,
    is_number,
    listing,
    number,
    places,
    sentence,
    value,
    visible,
)

VERDICTS = ("supported", "rejected", "open", "not applicable")
PHRASES = {
    "supported": "supported",
    "rejected": "rejected",
    "open": "left open",
    "not applicable": "not applicable to this panel",
}
EXPLAINED = {
    "supported": "its rule was met and every control survived",
    "rejected": "its rejection region was met, or a control explains it away",
    "open": "neither; absence of power is never evidence",
    "not applicable": "the panel lacks what the claim is about",
}


@dataclass(frozen=True)
class Entry:
    """One row of the ledger, every field written out for the page."""

    anchor: str
    id: str
    statement: str
    verdict: str
    style: str
    estimate: str
    interval: str
    null: str
    p: str
    decided_by: str
    n: str
    counts: str
    published: str
    needed: str
    why: str
    more: tuple[str, ...]
    controls: tuple[tuple[str, str, str], ...]
    reasons: Mapping[str, str]
    post_hoc: str
    family: str
    keys: Mapping[str, str]
    named: str
    needs: str
    ends: tuple[object, object, object, object]


def ledger(claims: Iterable[Row]) -> list[Entry]:
    """Write every claim of `claims.json` as a row, in the order of the file."""
    entries, anchors = list[Entry](), set[str]()
    for claim in claims:
        anchor = unique(f"claim-{claim['id']}", anchors)
        verdict = visible(str(claim["verdict"]))
        written = {key: value(claim.get(key)) for key in ("estimate", "interval", "null", "n", "published")}
        written["p"] = number(claim.get("p"), 2)
        bounds = claim.get("interval")
        low, high = bounds if isinstance(bounds, (list, tuple)) and len(bounds) == 2 else (None, None)
        if (n := places(low, high, claim.get("estimate"))) is not None:
            written |= {"estimate": fixed(claim.get("estimate"), n), "null": fixed(claim.get("null"), n)}
            written["interval"] = f"[{fixed(low, n)}, {fixed(high, n)}]"
        named, needs = estimates().get(str(claim["id"]), ("", "against"))
        written |= {key: _said(claim.get(key)) for key in ("decided_by", "needed", "why", "family")}
        one = Entry(
            anchor,
            id=visible(str(claim["id"])),
            statement=sentence(str(claim.get("statement") or "no statement recorded")),
            verdict=verdict,
            style=verdict.replace(" ", "-") if verdict in VERDICTS else "open",
            more=_further(claim),
            controls=_controls(claim),
            reasons=_reasons(claim),
            counts=_counts(claim),
            post_hoc=_post_hoc(claim),
            keys=_keys(claim, len(entries)),
            named=named,
            needs=needs,
            ends=(claim.get("estimate"), low, high, claim.get("null")),
            **written,
        )
        entries.append(one)
    return entries


@cache
def estimates() -> dict[str, tuple[str, str]]:
    """What the estimate of each registered claim is called, and how it stands to its null."""
    lines = [line.split(" | ") for line in text("estimates.txt").splitlines()[1:]]
    return {name: (words, needs) for name, words, needs in lines}


def _keys(claim: Row, place: int) -> dict[str, str]:
    """What the columns of a row are sorted by: the order of the register, and numbers as they are stored."""
    numbers = {key: repr(claim[key]) if is_number(claim.get(key)) else "" for key in ("estimate", "null", "n")}
    return {"place": str(place), **numbers}


def _post_hoc(claim: Row) -> str:
    """Say why a claim is post hoc; "" for one that was registered before the data."""
    if claim.get("post_hoc") is not True:
        return ""
    return _reasons(claim).get("post_hoc") or "not judged as it was registered"


def _counts(claim: Row) -> str:
    """Say what else a claim rests on, beside its n."""
    counts = claim.get("counts")
    counts = counts if isinstance(counts, Mapping) else {}
    return ", ".join(f"{value(amount)} {visible(str(noun))}" for noun, amount in counts.items())


def _further(claim: Row) -> tuple[str, ...]:
    """Write the p-values beside the first: with twins dropped, and after Holm or the claim that is presupposed."""
    before = visible(str(claim.get("after") or ""))
    known = (("p_without_twins", "twins dropped"), ("p_holm", f"tested after {before}" if before else "after Holm"))
    return tuple(f"{words}: p = {number(claim[key], 2)}" for key, words in known if defined(claim.get(key)))


def _controls(claim: Row) -> tuple[tuple[str, str, str], ...]:
    """List (name, outcome, why) of the controls of a claim."""
    rows = records(claim.get("controls"))
    return tuple((value(r.get("name")), value(r.get("outcome")), _said(r.get("why"))) for r in rows)


def _reasons(claim: Row) -> dict[str, str]:
    """Give, field by field, why it is undefined."""
    reasons = claim.get("reasons")
    known = reasons.items() if isinstance(reasons, Mapping) else ()
    said = {"estimate": "", "interval": "", "null": ""} | {str(k): visible(str(v)) for k, v in known}
    return said | ({"null": "as the estimate"} if said["null"] and said["null"] == said["estimate"] else {})


def _said(content: object) -> str:
    written = value(content)
    return "" if written == DASH else written


def unique(wanted: str, taken: set[str]) -> str:
    """Make an id of letters, digits and hyphens that is not in `taken`, and add it there."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-")
    name, k = stem, 2
    while name in taken:
        name, k = f"{stem}-{k}", k + 1
    taken.add(name)
    return name


def verdict_groups(entries: list[Entry]) -> list[tuple[str, list[Entry]]]:
    """Group the ledger by verdict, in the fixed order, with unknown verdicts last."""
    names = [*VERDICTS, *dict.fromkeys(e.verdict for e in entries if e.verdict not in VERDICTS)]
    return [(name, own) for name in names if (own := [e for e in entries if e.verdict == name])]


def lede(entries: list[Entry], members: list[Member]) -> str:
    """Say in two sentences what was measured and how the claims came out."""
    trained, twins = (sum(m.twin is kind for m in members) for kind in (False, True))
    beside = ", each beside an untrained twin" if twins == trained else f" and {count(twins, 'untrained twin')}"
    panel = count(trained, "trained model") + (beside if twins else "")
    families = count(len({m.family for m in members}), "family", "families")
    first = f"This study measured the internal dynamics of {panel}, of {families}." if members else ""
    if not entries:
        return f"{first} It holds no verdicts.".strip()
    late = sum(bool(e.post_hoc) for e in entries)
    if late:
        return f"{first} {_mixed(entries, late)}".strip()
    return f"{first} {_came_out(entries)}".strip()


def _mixed(entries: list[Entry], late: int) -> str:
    """Say how claims came out where some are post hoc: those are counted, and never among the others."""
    rest = [e for e in entries if not e.post_hoc]
    said = (
        f"{count(late, 'claim')} {'is' if late == 1 else 'are'} post hoc and {'confirms' if late == 1 else 'confirm'}"
    )
    return f"{_came_out(rest)} {said} nothing.".strip() if rest else f"{said} nothing."


def _came_out(entries: list[Entry]) -> str:
    """Say how the claims that were registered before the data came out."""
    groups = verdict_groups(entries)
    if len(groups) == 1:
        said = PHRASES.get(groups[0][0], groups[0][0])
        every = "The one claim" if len(entries) == 1 else f"All {count(len(entries), 'claim')}"
        be = "is" if len(entries) == 1 else "are"
        return f"{every} registered before the data {be} {said}."
    parts = [
        f"{count(len(own), 'claim').removesuffix(' claims').removesuffix(' claim')} {'is' if len(own) == 1 else 'are'} "
        f"{PHRASES.get(name, name)}"
        for name, own in groups
    ]
    return f"Of {count(len(entries), 'claim')} registered before the data, {listing(parts)}."


def matter(entries: list[Entry], most: int = 3) -> list[Entry]:
    """The findings to show first: supported, then rejected, then open, each in the order of the register.

    Those without an estimate come last among their like. Those that are post hoc or do not apply take no part.
    """
    told = [e for e in entries if e.verdict in VERDICTS[:3] and not e.post_hoc]
    return sorted(told, key=lambda e: (VERDICTS.index(e.verdict), e.estimate == DASH, e.interval == DASH))[:most]


def finding(entry: Entry) -> str:
    """Say in one clause what decided a claim: the estimate by its name, and what its null is."""
    numbers = f"{entry.named or 'estimate'} {entry.estimate}" + (f" {entry.interval}" if entry.interval != DASH else "")
    numbers += f", {entry.needs} {entry.null}" if entry.null != DASH else ""
    parts = [numbers] if entry.estimate != DASH else []
    parts += [f"decided by {entry.decided_by}"] if entry.decided_by else []
    parts += [entry.why] if entry.estimate == DASH and entry.why else []
    return sentence("; ".join(parts)) if parts else ""


def change(entry: Entry) -> str:
    """Say what would change a verdict."""
    if entry.needed:
        return sentence(entry.needed)
    if entry.verdict == "supported":
        return "Data in which its rule is no longer met, or a control explains it away."
    if entry.verdict == "rejected":
        by = f"; here it was rejected by: {entry.decided_by}" if entry.decided_by else ""
        return f"Data in which its rule is met{by}."
    return "Not recorded."
