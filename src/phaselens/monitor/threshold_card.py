"""Threshold cards: what `phaselens calibrate` learned about one model, as a small JSON file."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import InputError, StudyFileError
from phaselens.models import Model

FORM = "phaselens threshold card"
VERSION = 1
RATES = ("false_alarm_rate", "hit_rate", "baseline_hit_rate", "gain")


@dataclass(frozen=True, eq=False)
class Card:
    """A rule with what it was worth on questions that it was not learned from.

    `model` and `fingerprint` say for which weights it holds; `rates` holds `false_alarm_rate`, `hit_rate`,
    `baseline_hit_rate` and `gain` (hit rate less that of the baseline), each {value, lo, hi}; `baseline` names the
    score to beat at the same false-alarm rate; `beats_baseline` is whether the interval of the gain lies above 0;
    `target_rate` is the false-alarm rate that was asked for; `made_of` says of which runs it was learned and tested.
    """

    model: str
    fingerprint: str
    rule: Rule
    target_rate: float
    rates: dict[str, dict[str, float | None]]
    baseline: str
    beats_baseline: bool
    made_of: dict[str, Any] = field(default_factory=dict)

    def check(self, model: Model) -> None:
        """Raises InputError where the card is of another model."""
        if model.fingerprint != self.fingerprint:
            raise InputError(
                f"this card is of {self.model} (fingerprint {self.fingerprint[:12]}), the monitor watches {model.name} "
                f"({model.fingerprint[:12]}). Thresholds do not carry over: run `phaselens calibrate` on a study of it."
            )

    def to_dict(self) -> dict[str, object]:
        """The card as plain JSON values."""
        return {"form": FORM, "version": VERSION, **vars(self), "rule": self.rule.to_dict()}


def write_card(card: Card, path: str | Path) -> None:
    """Write a card as JSON, whole or not at all."""
    path = Path(path)
    text = json.dumps(card.to_dict(), indent=1, sort_keys=True, allow_nan=False) + "\n"
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read_card(path: str | Path) -> Card:
    """Read a card. Raises StudyFileError for a file that is none."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read as a threshold card: {error}") from error
    if not isinstance(found, dict) or found.get("form") != FORM:
        raise StudyFileError(f"{path} is no threshold card; wanted a file that `phaselens calibrate` wrote.")
    if found.get("version") != VERSION:
        raise StudyFileError(f"{path} is a card of version {found.get('version')}; this version reads {VERSION}.")
    try:
        said = dict(found["rule"])
        calm = said.pop("calm")
        rule = Rule(**{**said, "score": Score(**said["score"]), "calm": float("nan") if calm is None else calm})
        rest = {k: found[k] for k in ("model", "fingerprint", "target_rate", "rates", "baseline", "beats_baseline")}
        return Card(rule=rule, made_of=found.get("made_of", {}), **rest)
    except (KeyError, TypeError, InputError) as error:
        raise StudyFileError(f"{path} is a broken threshold card: {error}.") from error
