"""The ledger: claims registered before the data, the rules that judge them, and the verdicts.

A claim is data, frozen and hashed; `lock` goes into the manifest before anything is generated. `judge` maps evidence
to one of four verdicts: supported (its rule met and every control survived), rejected (its rejection region met, or a
control explains it away: the control is named), open (neither; what would settle it is said), not applicable (the
panel lacks what it is about).
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pydantic import BaseModel, ConfigDict

from phaselens.errors import StateError, unknown_name
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.multiplicity import holm
from phaselens.statistics.splits import Split, gap_kept, same_grouping

LEVEL = 0.05
NO_SEPARATION = 0.75
ENOUGH_POWER = 0.8
HALF = 0.5

VerdictWord = Literal["supported", "rejected", "open", "not applicable"]
OutcomeWord = Literal["survived", "explains it away", "undecided", "missing"]


class Claim(BaseModel):
    """One registered claim: what is said, by which statistic and rule it is judged, and what could fool it."""

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


S_RULE = "S test: p <= .05 with twins in and with twins dropped, p also after Holm within the family"
S_REJECTED = "S < .75 while the power for groups 8 within-group SDs apart is >= .8"
SURVIVES = f"{S_RULE}, and the same two groups (adjusted Rand 1, same order)"
EXPLAINED = (
    "or there is such a split and a control explains it away: less than half of its gap is left (upper bound), or the "
    "untrained twins fall into the same two groups (p <= .05) or keep more than half of the gap (lower bound)"
)
LOST = "or there is a split to begin with and the upper bound of the share of its gap that is left is below one half"
UNIFORM = "as many points drawn uniformly (20,000 draws)"

REGISTER: tuple[Claim, ...] = (
    Claim(
        id="R1",
        seed_doc=4,
        statement="Models fall into distinct regimes by ratio_norm.",
        statistic="S of the models' medians of log ratio_norm (64 values, layer l* = round(.75 L), all measured runs)",
        supported=f"{S_RULE}; every control survived",
        rejected=f"{S_REJECTED}; {EXPLAINED}",
        controls=("length fixed", "outlier state", "frozen share", "untrained twin"),
        nulls=(UNIFORM,),
        published="bands 1.55-1.70, 2.27-2.92, about 2.97, 4.42-35.55 (never decide)",
    ),
    Claim(
        id="G1",
        seed_doc=3,
        statement="GD_ratio splits the panel into two groups.",
        statistic="S of log GD_ratio (G = p1, D = p2/p1, final-norm lens, layers 1..L, all measured runs)",
        supported=f"{S_RULE}; every control survived",
        rejected=f"{S_REJECTED}; {EXPLAINED}",
        controls=("untrained twin",),
        nulls=(UNIFORM,),
        published="> 1.5 against < .1",
    ),
    Claim(
        id="G2",
        seed_doc=3,
        statement="The split by GD_ratio survives a common temperature.",
        statistic="S of log GD_ratio on logits / T, T per model: mean output entropy_norm equal to the panel's median",
        supported=SURVIVES,
        rejected=f"{S_REJECTED}; {LOST}",
        controls=("common temperature",),
        nulls=(UNIFORM,),
        published="asked for by the reviewer",
    ),
    Claim(
        id="G3",
        seed_doc=3,
        statement="The split by GD_ratio survives vocabulary normalisation.",
        statistic="S of log GD_ratio with G = p1/nucleus mass (within 1 % of p1, bounded by it where not recorded), "
        "with G = p1/top10_mass, and on the tokens that all tokenizers share; the largest p counts",
        supported=SURVIVES,
        rejected=f"{S_REJECTED}; {LOST}",
        controls=("nucleus", "top ten tokens", "shared tokens"),
        nulls=(UNIFORM,),
        published="asked for by the reviewer",
    ),
    Claim(
        id="G4",
        seed_doc=3,
        statement="The split by GD_ratio survives the choice of lens.",
        statistic="S of log GD_ratio under the raw and final-norm lens, at the output only, and under a tuned lens; "
        "the largest p counts",
        supported=f"{SURVIVES}; under every lens, none missing",
        rejected=f"{S_REJECTED}; {LOST}",
        controls=("raw lens", "final-norm lens", "output only", "tuned lens"),
        nulls=(UNIFORM,),
        published="ours",
    ),
)


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


@dataclass(frozen=True)
class Outcome:
    """What one control, or one version, did to a split."""

    name: str
    outcome: OutcomeWord
    why: str
    p: float = math.nan
    agreement: float = math.nan
    gap_kept: float = math.nan
    gap_interval: Interval = field(default_factory=lambda: undefined_interval("not computed"))


@dataclass(frozen=True)
class Evidence:
    """All that decides one claim about a split.

    `split` is the tested one (of several versions the one with the largest p), `base` the split that should survive
    (None for a claim that there is one), `power` the power at 6, 8, 10 SD, `models_for_power` and `models_for_split`
    the numbers of models that would give power .8 at 8 SD and make this S significant (None: more than were tried),
    `lacking` what the panel lacks for the claim to be about anything ("" if nothing).
    """

    split: Split
    outcomes: tuple[Outcome, ...]
    power: Mapping[int, float]
    counts: Mapping[str, int]
    base: Split | None = None
    models_for_power: int | None = None
    models_for_split: int | None = None
    lacking: str = ""


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


def survives(name: str, base: Split, other: Split) -> Outcome:
    """Whether the split `base` is still there in the version `other`: same two groups, same order, p <= .05.

    It "explains it away" if less than half of the gap is left, whatever the prompts (upper bound of the share below
    one half). Anything else is undecided, and all of it where `base` is no established split (p <= .05).
    """
    if not other.complete:
        seen = sum(math.isfinite(v) for v in other.values)
        return Outcome(name, "undecided" if seen else "missing", f"defined for {seen} of {len(other.models)} models")
    agreement = same_grouping(base, other)
    kept, interval = gap_kept(base, other)
    facts = {"p": other.p, "agreement": agreement, "gap_kept": kept, "gap_interval": interval}
    left = f"{kept:.2f} of the gap is left"
    if not base.p <= LEVEL:
        return Outcome(name, "undecided", f"no established split to test; here p = {other.p:.3g}, {left}", **facts)
    if other.p <= LEVEL and agreement == 1.0 and kept > 0:
        return Outcome(name, "survived", f"p = {other.p:.3g}, same groups, {left}", **facts)
    if interval.hi < HALF:
        return Outcome(name, "explains it away", f"{left}, at most {interval.hi:.2f}; p = {other.p:.3g}", **facts)
    groups = "same groups" if agreement == 1.0 else "other groups"
    return Outcome(name, "undecided", f"p = {other.p:.3g}, {groups}, {left}", **facts)


def absent_in_twins(name: str, base: Split, twins: Split) -> Outcome:
    """Whether the split is absent from the untrained twins (whose `models` carry the names of their originals).

    It "explains it away" if the twins fall into the same groups in the same order (p <= .05), or keep more than half
    of the gap (lower bound); it survived if they keep less than half (upper bound). Anything else is undecided, and all
    of it where `base` is no established split (p <= .05).
    """
    if not twins.complete:
        seen = sum(math.isfinite(v) for v in twins.values)
        return Outcome(
            name, "undecided" if seen else "missing", f"untrained twins of {seen} of {len(twins.models)} models"
        )
    agreement = same_grouping(base, twins)
    kept, interval = gap_kept(base, twins)
    facts = {"p": twins.test.p, "agreement": agreement, "gap_kept": kept, "gap_interval": interval}
    share = f"{kept:.2f} of the gap is there before training"
    if not base.p <= LEVEL:
        return Outcome(name, "undecided", f"no established split to test; {share} (p = {twins.test.p:.3g})", **facts)
    if (twins.test.p <= LEVEL and agreement == 1.0 and kept > 0) or interval.lo > HALF:
        why = f"{share}: architecture at initialisation makes the same groups (p = {twins.test.p:.3g})"
        return Outcome(name, "explains it away", why, **facts)
    if interval.hi < HALF:
        return Outcome(name, "survived", f"{share}, at most {interval.hi:.2f}", **facts)
    return Outcome(name, "undecided", share, **facts)


def judge(claim: Claim, evidence: Evidence, p_holm: float) -> Verdict:
    """The verdict of one claim by its registered rule; `p_holm` is its p-value after Holm within the family."""
    word, decided_by, why, needed = _decide(evidence, p_holm)
    test, names = evidence.split.test, [o.name for o in evidence.outcomes]
    if not set(names) <= set(claim.controls):
        raise StateError(
            f"claim {claim.id}: outcomes {names} are not all among its registered controls {claim.controls}."
        )
    numbers = {
        "estimate": test.s,
        "null": test.critical,
        "p": test.p,
        "p_without_twins": evidence.split.without_twins.p,
    }
    numbers["p_holm"] = p_holm
    reason = test.reason or evidence.lacking
    reasons = {k: reason or evidence.split.without_twins.reason for k, v in numbers.items() if math.isnan(v)}
    interval = evidence.split.interval
    if interval.reason:
        reasons["interval"] = interval.reason
    return Verdict(
        id=claim.id,
        seed_doc=claim.seed_doc,
        statement=claim.statement,
        verdict=word,
        interval=(interval.lo, interval.hi),
        decided_by=decided_by,
        n=test.m,
        counts=dict(evidence.counts),
        published=claim.published,
        needed=needed,
        why=why,
        controls=tuple(_row(o) for o in evidence.outcomes),
        reasons=reasons,
        **numbers,
    )


def _decide(evidence: Evidence, p_holm: float) -> tuple[VerdictWord, str, str, str]:
    """Verdict, what decided it, why, and what would settle it."""
    test = evidence.split.test
    said = f"S = {test.s:.3f}, 5 % point {test.critical:.3f}, p = {evidence.split.p:.3g}, M = {test.m}"
    if evidence.lacking:
        return "not applicable", "panel", evidence.lacking, evidence.lacking
    if test.reason:
        return "not applicable", "panel", f"the S test is undefined: {test.reason}", "add models: the test needs four"
    power = evidence.power[8]
    if test.s < NO_SEPARATION and power >= ENOUGH_POWER:
        return "rejected", "S < .75", f"{said}; power .8 at 8 SD is there ({power:.2f})", ""
    tested = evidence.split if evidence.base is None else evidence.base
    if not tested.p <= LEVEL:
        what = "no split is established" if evidence.base is None else "there is no established split to survive"
        return "open", "S test", f"{what}: {_said(tested)}", _needed(evidence, tested)
    for outcome in evidence.outcomes:
        if outcome.outcome == "explains it away":
            return "rejected", outcome.name, f"{said}; {outcome.name}: {outcome.why}", ""
    for outcome in evidence.outcomes:
        if outcome.outcome in ("undecided", "missing"):
            need = f"{outcome.name}: add it" if outcome.outcome == "missing" else _needed(evidence, evidence.split)
            return "open", outcome.name, f"{said}; {outcome.name} is {outcome.outcome}: {outcome.why}", need
    if not p_holm <= LEVEL:
        return (
            "open",
            "Holm",
            f"{said}; after Holm within the family p = {p_holm:.3g}",
            _needed(evidence, evidence.split),
        )
    return "supported", "S test", f"{said}; every control survived", ""


def _said(tested: Split) -> str:
    t, w = tested.test, tested.without_twins
    apart = f"; twins dropped S = {w.s:.3f}, p = {w.p:.3g}" if tested.dropped else ""
    return f"S = {t.s:.3f}, 5 % point {t.critical:.3f}, p = {t.p:.3g}, M = {t.m}{apart}"


def _needed(evidence: Evidence, tested: Split) -> str:
    """How many models would settle it, in words."""
    m = min(tested.test.m, tested.without_twins.m)
    low = min(tested.test.s, tested.without_twins.s) <= NO_SEPARATION
    parts = []
    if evidence.power[8] < ENOUGH_POWER:
        parts.append(f"{evidence.models_for_power or 'more than 40'} models for power .8 at 8 SD")
    if math.isnan(tested.p):
        parts.append("four models that are twins of none")
    elif tested.p > LEVEL and not low:
        count = evidence.models_for_split
        parts.append(f"{max(count, m + 1) if count else 'more than 120'} models if this S holds")
    elif tested.p > LEVEL and not parts:
        parts.append("other models: no number of them makes an S this low significant")
    if not parts:
        parts.append("more prompts, or models that are twins of none, to decide the control")
    return f"{'; '.join(parts)} (this panel: {m})"


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

    The p-value of a claim is the larger of those with twins in and dropped, over all versions that it asks for.
    Raises StateError for a claim without evidence: no claim may be passed over in silence.
    """
    silent = [c.id for c in claims if c.id not in evidence]
    if silent:
        raise StateError(
            f"claims {silent} were registered, but no experiment gave evidence; run the experiments they need."
        )
    p = [math.nan if evidence[c.id].lacking else evidence[c.id].split.p for c in claims]
    adjusted = [math.nan] * len(claims)
    for document in {c.seed_doc for c in claims}:
        members = [i for i, c in enumerate(claims) if c.seed_doc == document]
        for i, value in zip(members, holm([p[i] for i in members]), strict=True):
            adjusted[i] = float(value)
    return tuple(judge(c, evidence[c.id], q) for c, q in zip(claims, adjusted, strict=True))


def ledger_rows(verdicts: Sequence[Verdict]) -> list[dict]:
    """The ledger as plain JSON values: NaN is null, with its reason in `reasons`.

    An interval without bounds is null.
    """
    rows = []
    for verdict in verdicts:
        row = _plain(verdict.model_dump())
        row["interval"] = None if None in row["interval"] else row["interval"]
        rows.append(row)
    return rows


def ledger_json(verdicts: Sequence[Verdict]) -> str:
    """The text of claims.json: deterministic, and without NaN."""
    return json.dumps(ledger_rows(verdicts), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
