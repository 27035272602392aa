"""A claim in plain words: what is said, how it is measured, what decides it, what could fool it, and the terms used."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from phaselens.claims.declared import POWER
from phaselens.claims.own_claims import OWN, OwnControl, RegisteredOwn, listed
from phaselens.claims.records import ELSEWHERE, LEVEL, Claim

# (what to look for in the words of a claim, the term, what it means)
TERMS: tuple[tuple[str, str, str], ...] = (
    (
        r"\bS test\b|^S of",
        "S test",
        "one number per model is put on a line and cut in two where the groups are furthest apart; S is the share of "
        "all spread that lies between them. As many points drawn uniformly also have such a cut, so S counts only if "
        "it is larger than theirs in 95 of 100 draws",
    ),
    (r"bootstrap-t|resampl", "bootstrap", "prompts (or models) are drawn again with replacement, many times; what the "
     "number does then is its interval"),
    (r"[Pp]ermut|exchanged|shuffle", "permutation", "labels are moved about at random; p is how often that gives as "
     "much as the true labels do"),
    (r"interval|bound", "interval", "the 95 % interval of the estimate; a rule asks where the whole of it lies, never "
     "where the estimate alone lies"),
    (r"TOST|inside", "shown to be small", "the whole interval lies within the margin: a small effect is shown, which a "
     "large p-value never does"),
    (r"Holm", "Holm", "the more claims of one family are tested, the smaller p must be; a chance hit among many does "
     "not count"),
    (r"\btwins?\b", "twin", "a model that is no independent case: a second seed or a distillate of another (dropped "
     "once), or the same network with fresh weights (untrained: what is there before training is no result of it)"),
    (r"ratio_norm", "ratio_norm", "how unsteady a run's steps are: largest over median change of direction from token "
     "to token, over 64 values at three quarters of the depth"),
    (r"\bct\b", "ct", "the angle between two successive steps of the hidden state, in radians"),
    (r"GD_ratio|\bG = ", "GD_ratio", "how far the first token leads (G) over how close the second comes (D), averaged "
     "over layers and tokens"),
    (r"\blens\b", "lens", "what the model would say if a middle layer were its last"),
    (r"AUROC", "AUROC", "how often a case with the event ranks above one without it; .5 is guessing"),
    (r"\bARI\b|adjusted Rand", "adjusted Rand", "how alike two groupings are; 1 is the same, 0 is chance"),
    (r"Kendall", "Kendall's W", "how far several orders of the same things agree; 1 is the same order"),
    (r"R\^2", "R^2", "the share of one number's variation that goes with another"),
)  # fmt: skip

CONTROLS: tuple[tuple[str, str], ...] = (
    (r"untrained twin", "the same networks with fresh weights: what they show too is architecture, not training"),
    (r"length", "runs of unlike length are compared at one length"),
    (r"outlier", "one extreme state must not carry the effect"),
    (r"frozen", "steps at which the state stood still are left out"),
    (r"temperature", "all models are brought to one mean output entropy"),
    (r"nucleus|top ten|shared tokens", "vocabularies of unlike size are made comparable"),
    (r"lens", "read through another lens"),
    (r"size", "log parameters is taken out"),
    (r"twins?\b", "second seeds and distillates are dropped"),
    (r"pseudo-replication", "tokens of one run are not counted as independent"),
    (r"order", "the order is shuffled, everything else kept"),
)


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
    terms = tuple(f"{term}: {meaning}" for pattern, term, meaning in TERMS if re.search(pattern, words))
    return (*parts, Part("In other words", terms)) if terms else tuple(parts)


def _rejected(claim: Claim) -> str:
    return "never by its own number: a large p is no evidence of absence" if claim.rejected == "-" else claim.rejected


def _control(name: str) -> str:
    meaning = next((words for pattern, words in CONTROLS if re.search(pattern, name)), "")
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
