"""What a scenario is: something planted in simulated studies, and what the rule of a claim must say about it.

A further experiment adds its own by one record, one generator function and one judge; nothing here knows an experiment.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from phaselens.claims import claims_by_id, held_against, judge_all
from phaselens.claims.verdict_records import LedgerRow
from phaselens.errors import InputError
from phaselens.experiments import Panel, experiments_by_name, stricter

Kind = Literal["null", "effect", "artefact", "unmoved"]


@dataclass(frozen=True)
class Ruling:
    """What a rule said about one claim in one simulated study: the verdict, and what decided it."""

    verdict: str
    decided_by: str


Make = Callable[[np.random.Generator], object]
Judge = Callable[[Any], Mapping[str, Ruling]]


@dataclass(frozen=True)
class Scenario:
    """One thing planted, and for which claims the rule must say what.

    `make(generator)` draws one simulated study and `judge(study)` gives a ruling for every claim (or instrument) that
    it judges. `claims` are those that `kind` binds; those in `shown` may say anything and are only counted. `size` is
    the planted effect in words, and `headline` marks the effect at which the power of a claim is quoted. `word` is the
    verdict that is counted ("rejected" for a claim that can only be rejected). `control` names the control that should
    catch an artefact. `without` draws the same study without the artefact, for the kind "unmoved".
    """

    id: str
    kind: Kind
    claims: tuple[str, ...]
    planted: str
    size: str
    make: Make
    judge: Judge
    shown: tuple[str, ...] = ()
    control: str = ""
    headline: bool = False
    without: Make | None = None
    word: str = "supported"

    def __post_init__(self) -> None:
        if (self.kind == "unmoved") != (self.without is not None):
            raise InputError(f"scenario {self.id!r}: the kind 'unmoved', and no other, has a study without it.")


def rulings(claims: Sequence[str], evidence: Mapping[str, Any]) -> dict[str, Ruling]:
    """What the rules say about this evidence, claim by claim; Holm runs over these claims."""
    return {v.id: Ruling(v.verdict, v.decided_by) for v in judge_all(claims_by_id(claims), evidence)}


def _rows(found: Mapping[str, Ruling]) -> list[LedgerRow]:
    return [
        LedgerRow(id=claim, why="", needed="", verdict=said.verdict, decided_by=said.decided_by)
        for claim, said in found.items()
    ]


def by_experiment(name: str, claims: tuple[str, ...] = ()) -> Judge:
    """The judge of real studies for the claims of one experiment, or some of them: its evidence, then `judge_all`.

    Holm runs over these claims; a study that registers more of the same document judges harder. As at the end of a
    study, what a stricter panel (runs of equal length, answers that ended) does not bear out is open.
    """
    (experiment,) = experiments_by_name([name])

    def plain(panel: Panel) -> dict[str, Ruling]:
        return rulings(claims or experiment.claims, experiment.evidence_of(panel, claims))

    def judge(panel: Panel) -> dict[str, Ruling]:
        found = plain(panel)
        for held, _, ids in stricter(panel, [name]):
            if any(found[c].verdict != "open" for c in ids if c in found):
                again = None if held.panel is None else _rows(plain(held.panel))
                rows = held_against(_rows(found), again, ids, where=held.where, said=held.words, needed=held.needed)
                found = {row["id"]: Ruling(row["verdict"], row["decided_by"]) for row in rows}
        return found

    return judge
