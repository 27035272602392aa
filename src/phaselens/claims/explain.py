"""A claim in plain words: what is said, how it is measured, what decides it, what could fool it, and the terms used."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from phaselens.claims.declared import POWER
from phaselens.claims.own_claims import OWN, OwnControl, RegisteredOwn, listed
from phaselens.claims.verdict_records import ELSEWHERE, LEVEL, Claim


@cache
def _words(kind: str) -> list[dict[str, str]]:
    """The records of `terms.toml`: what to look for in the words of a claim, and what it means."""
    return tomllib.loads(resources.files(__package__).joinpath("terms.toml").read_text(encoding="utf-8"))[kind]


@dataclass(frozen=True)
class Part:
    """One paragraph: a heading and what it says, one line or several."""

    heading: str
    lines: tuple[str, ...]


def explain(claim: Claim, family: Sequence[Claim]) -> tuple[Part, ...]:
    """The claim in paragraphs; `family` are the claims that Holm's correction is over with it."""
    words = " ".join((claim.statistic, claim.supported, claim.rejected, *claim.controls, *claim.nulls))
    rule = claim.rule if isinstance(claim, RegisteredOwn) else None
    controls = tuple(map(_own_control, rule.controls) if rule else map(_control, claim.controls))
    parts = [
        Part("What is claimed", (claim.statement,)),
        Part("What is measured", (claim.statistic,)),
        Part("It counts as supported if", (claim.supported,)),
        Part("It counts as rejected if", (_rejected(claim),)),
        *((Part("How often it finds what is there", (POWER[claim.id],)),) if claim.id in POWER else ()),
        Part("Open otherwise", ("Then the ledger says what would settle it. No effect seen is no evidence of none.",)),
        Part("What could fool it", controls or ("no control is registered beside its null",)),
        Part("What chance alone gives", claim.nulls),
        Part("Correction", (family_words(claim, family),)),
    ]
    if claim.published not in ("", "-"):
        parts.append(Part("Published figure (never decides)", (claim.published,)))
    terms = tuple(f"{t['term']}: {t['means']}" for t in _words("terms") if re.search(t["look"], words))
    return (*parts, Part("In other words", terms)) if terms else tuple(parts)


def _rejected(claim: Claim) -> str:
    return "never by its own number: a large p is no evidence of absence" if claim.rejected == "-" else claim.rejected


def _control(name: str) -> str:
    meaning = next((c["means"] for c in _words("controls") if re.search(c["look"], name)), "")
    return f"{name}: {meaning}" if meaning else name


def _own_control(control: OwnControl) -> str:
    """What a user's control reads instead, and what it must do; its name says nothing about it here."""
    read = [f"{what} {named}" for what, named in (("column", control.value), ("table", control.table)) if named]
    rows = [f"{column} = {listed(values)}" for column, values in sorted(control.where.items())]
    must = "the effect must stay" if control.must == "keep" else "the effect must go"
    return f"{control.name}: the same statistic with {', '.join((*read, *rows)) or 'nothing else changed'}; {must}"


def document_name(number: int) -> str:
    """What a family of claims is called."""
    named = {OWN: "your own claims", ELSEWHERE: "papers of others"}
    return named.get(number, f"seed document {number:03d}")


def family_words(claim: Claim, family: Sequence[Claim]) -> str:
    """What Holm's correction is over, in words; the claims of one document that presuppose none are one family."""
    if claim.after:
        return (
            f"It presupposes {claim.after}, and is supported only where that is: tested after it, its p-value is at "
            f"least the adjusted one of {claim.after}, and it is in no further correction."
        )
    ids = ", ".join(c.id for c in family if c.seed_doc == claim.seed_doc and not c.after)
    return (
        f"Holm at {LEVEL:g} over the confirmatory family of {document_name(claim.seed_doc)}: those of {ids} that a "
        "study judges and that have a p-value. Claims that came after the data are corrected over all and "
        "marked post hoc."
    )
