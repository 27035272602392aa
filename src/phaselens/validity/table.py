"""The document of `phaselens validate` as rows of text: for the terminal, for the report, and as Markdown."""

from collections.abc import Iterable, Mapping, Sequence

CLAIM_COLUMNS = ("claim", "false positives", "worst null", "power", "at", "rejected at a true effect", "fails")
SCENARIO_COLUMNS = ("claim", "scenario", "kind", "n", "rate", "supported", "rejected", "open", "decided by", "holds")
DASH = "\u2013"
MOST = 3


def share(rate: float | None, interval: Sequence[float] | None) -> str:
    """A proportion in per cent with its interval; a dash where it is undefined."""
    if rate is None or interval is None:
        return DASH
    return f"{100 * rate:.1f} % [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def claim_rows(document: Mapping) -> list[tuple[str, ...]]:
    """One row per claim: error rate over its null scenarios, the worst of them, power, and what fails."""
    return [
        (
            name,
            f"{share(c['false_positive_rate'], c['false_positive_interval'])}, n = {c['n']}",
            _worst(c["scenarios"]),
            f"{share(c['power'], c['power_interval'])}, n = {c['n_power']}",
            c["power_at"] or DASH,
            _rejected(c["scenarios"]),
            "; ".join(c["fails"]) or "none",
        )
        for name, c in document["claims"].items()
    ]


def _rejected(scenarios: Iterable[Mapping]) -> str:
    """The effect at which the rule says most often that it is not there."""
    effects = [s for s in scenarios if s["kind"] == "effect" and s.get("rejection_rate") is not None]
    if not effects:
        return DASH
    worst = max(effects, key=lambda s: s["rejection_rate"])
    return f"{share(worst['rejection_rate'], worst['rejection_interval'])} ({worst['id']})"


def _worst(scenarios: Iterable[Mapping]) -> str:
    nulls = [s for s in scenarios if s["kind"] == "null"]
    if not nulls:
        return DASH
    worst = max(nulls, key=lambda s: s["rate"])
    return f"{share(worst['rate'], worst['interval'])} ({worst['id']})"


def scenario_rows(document: Mapping) -> list[tuple[str, ...]]:
    """One row per claim and scenario: how often it said what, and what decided most often.

    The rate is the share supported; for "unmoved" the share of verdicts that differ from those without the artefact.
    """
    return [
        (
            name,
            s["id"],
            s["kind"],
            str(s["n"]),
            share(s["rate"], s["interval"]),
            *(str(s["verdicts"].get(word, 0)) for word in ("supported", "rejected", "open")),
            _deciders(s["decided_by"]),
            DASH if s["holds"] is None else "yes" if s["holds"] else "no",
        )
        for name, c in document["claims"].items()
        for s in c["scenarios"]
    ]


def _deciders(decided_by: Mapping[str, Mapping[str, int]]) -> str:
    """What decided most often among the verdicts other than "supported", with counts."""
    found = [
        (n, f"{word}: {what} {n}") for word, by in decided_by.items() if word != "supported" for what, n in by.items()
    ]
    return "; ".join(text for _, text in sorted(found, key=lambda pair: (-pair[0], pair[1]))[:MOST]) or DASH


def markdown(document: Mapping) -> str:
    """Both tables as Markdown."""
    parts = ((CLAIM_COLUMNS, claim_rows(document)), (SCENARIO_COLUMNS, scenario_rows(document)))
    return "\n\n".join(_markdown(columns, rows) for columns, rows in parts) + "\n"


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)
