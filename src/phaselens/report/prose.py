"""The sentences of the report: what was asked, what was found, what was not, what was run, and what was left out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from phaselens.report.cast import Member
from phaselens.report.folder import Folder
from phaselens.report.words import DASH, count, defined, listing, number, sentence, value, visible

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
    published: str
    needed: str
    why: str
    more: tuple[str, ...]
    controls: tuple[tuple[str, str, str], ...]
    reasons: Mapping[str, str]


def ledger(claims: Iterable[Mapping[str, object]]) -> list[Entry]:
    """Write every claim of `claims.json` as a row, in the order of the file."""
    entries, anchors = [], set()
    for claim in claims:
        anchor = unique(f"claim-{claim['id']}", anchors)
        verdict = visible(str(claim["verdict"]))
        written = {key: value(claim.get(key)) for key in ("estimate", "interval", "null", "p", "published")}
        written["n"] = _counts(claim)
        said = {key: _said(claim.get(key)) for key in ("decided_by", "needed", "why")}
        statement = sentence(str(claim.get("statement") or "no statement recorded"))
        style = verdict.replace(" ", "-") if verdict in VERDICTS else "open"
        extra = {"more": _further(claim), "controls": _controls(claim), "reasons": _reasons(claim)}
        entries.append(Entry(anchor, visible(str(claim["id"])), statement, verdict, style, **written, **said, **extra))
    return entries


def _counts(claim: Mapping[str, object]) -> str:
    """Say how many of what a claim rests on: its counts where it has them, else its n."""
    counts = claim.get("counts")
    if isinstance(counts, Mapping) and counts:
        tested = f"M = {value(claim['n'])}; " if defined(claim.get("n")) else ""
        return tested + ", ".join(f"{value(amount)} {visible(str(noun))}" for noun, amount in counts.items())
    return value(claim.get("n"))


def _further(claim: Mapping[str, object]) -> tuple[str, ...]:
    """Write the p-values beside the first: with twins dropped, and after Holm's correction."""
    known = (("p_without_twins", "twins dropped: p = "), ("p_holm", "after Holm: p = "))
    return tuple(words + value(claim[key]) for key, words in known if defined(claim.get(key)))


def _controls(claim: Mapping[str, object]) -> tuple[tuple[str, str, str], ...]:
    """List (name, outcome, why) of the controls of a claim."""
    rows = claim.get("controls")
    rows = [row for row in rows if isinstance(row, Mapping)] if isinstance(rows, (list, tuple)) else []
    return tuple((value(r.get("name")), value(r.get("outcome")), _said(r.get("why"))) for r in rows)


def _reasons(claim: Mapping[str, object]) -> dict[str, str]:
    """Give, field by field, why it is undefined."""
    reasons = claim.get("reasons")
    known = reasons.items() if isinstance(reasons, Mapping) else ()
    return {"estimate": "", "interval": "", "null": ""} | {str(k): visible(str(v)) for k, v in known}


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
    parts = [
        f"{count(len(own), 'claim').removesuffix(' claims').removesuffix(' claim')} {'is' if len(own) == 1 else 'are'} "
        f"{PHRASES.get(name, name)}"
        for name, own in verdict_groups(entries)
    ]
    return f"{first} Of {count(len(entries), 'claim')} registered before the data, {listing(parts)}.".strip()


def finding(entry: Entry) -> str:
    """Say in one clause what decided a claim."""
    numbers = f"estimate {entry.estimate}" + (f" {entry.interval}" if entry.interval != DASH else "")
    numbers += f" against {entry.null} under the null" if entry.null != DASH else ""
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
        by = f"{entry.decided_by} does not speak against it" if entry.decided_by else "nothing speaks against it"
        return f"Data in which its rule is met and {by}."
    return "Not recorded."


def facts(folder: Folder, entries: list[Entry], members: list[Member]) -> list[tuple[str, str]]:
    """List the few figures that stand at the head of the page."""
    out = []
    if members:
        trained = sum(not m.twin for m in members)
        twins = len(members) - trained
        out.append(("models", f"{trained} trained" + (f" + {twins} untrained" if twins else "")))
    if entries:
        out.append(("claims", number(len(entries))))
    battery = _first(folder, "battery")
    if battery is not None:
        out.append(("prompts", f"battery {value(battery)}"))
    seed = _first(folder, "seed")
    if seed is not None:
        out.append(("seed", value(seed)))
    lock = next((folder.manifest[k] for k in ("claims_lock", "claims_hash", "lock") if folder.manifest.get(k)), None)
    if lock is not None:
        out.append(("claims lock", visible(str(lock))[:12] + "…"))
    return out


def _first(folder: Folder, key: str) -> object | None:
    for source in (folder.declaration, folder.declaration.get("study"), folder.manifest, folder.manifest.get("study")):
        if isinstance(source, Mapping) and source.get(key) is not None:
            return source[key]
    return None


def study_name(folder: Folder) -> str:
    """Give the declared name of the study, else the folder's."""
    return visible(str(_first(folder, "name") or folder.name), 120)


def flat(content: Mapping[str, object], skip: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    """List a nested mapping as (path, value) lines; a long list of records is only counted."""
    lines = []
    for key, item in content.items():
        if key in skip:
            continue
        name = visible(str(key)).replace("_", " ")
        if isinstance(item, Mapping):
            lines += [(f"{name}: {inner}", written) for inner, written in flat(item)]
        elif isinstance(item, list) and len(item) > 4 and all(isinstance(i, (dict, list)) for i in item):
            lines.append((name, count(len(item), "record")))
        else:
            lines.append((name, value(item)))
    return lines


def fingerprints(manifest: Mapping[str, object]) -> list[tuple[str, str]]:
    """List (model, fingerprint) of the manifest, from a list of records or a mapping by name."""
    models = manifest.get("models")
    if isinstance(models, Mapping):
        models = [{"name": k, **(v if isinstance(v, Mapping) else {"fingerprint": v})} for k, v in models.items()]
    rows = [m for m in models if isinstance(m, Mapping)] if isinstance(models, list) else []
    return [(value(m.get("name") or m.get("model")), value(m.get("fingerprint"))) for m in rows]


def refusals(manifest: Mapping[str, object]) -> list[str]:
    """Say which models were refused, and why."""
    refused = manifest.get("refused") or []
    if isinstance(refused, Mapping):
        refused = [{"model": k, "reason": v} for k, v in refused.items()]
    return [
        f"{value(r.get('model') or r.get('name'))} was refused: {value(r.get('reason'))}"
        if isinstance(r, Mapping)
        else value(r)
        for r in refused
    ]


def notes(folder: Folder) -> list[str]:
    """List the notes of the experiments, and how many runs have no ratio_norm for which reason."""
    found = folder.results.get("notes", [])
    if isinstance(found, Mapping):
        found = [
            {"experiment": k, "note": n} for k, ns in found.items() for n in (ns if isinstance(ns, list) else [ns])
        ]
    out = [
        f"{value(n.get('experiment'))}: {value(n.get('note'))}" if isinstance(n, Mapping) else value(n) for n in found
    ]
    runs = Counter((str(r["model"]), str(r["reason"])) for r in folder.rows("regimes_runs") if defined(r["reason"]))
    of_all = Counter(str(r["model"]) for r in folder.rows("regimes_runs"))
    for (model, reason), amount in sorted(runs.items()):
        out.append(
            f"{visible(model)}: {number(amount)} of {number(of_all[model])} runs have no ratio_norm ({visible(reason)})"
        )
    return out
