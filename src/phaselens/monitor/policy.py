"""What a monitor does when a score goes beyond its threshold."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from phaselens.dynamics.alarms import Rule
from phaselens.errors import InputError, unknown_name
from phaselens.models import Model
from phaselens.monitor.steps import Alarm
from phaselens.monitor.threshold_card import Card

ACTIONS = ("warn", "stop", "restart", "escalate", "temperature")


@dataclass(frozen=True, eq=False)
class Policy:
    """An action and the rules that call for it.

    `warn` says so once per run and goes on; `stop` ends the run; `restart` takes the run back to its last calm step and
    goes on with a new seed, `max_restarts` times at most; `escalate` asks `callback(alarm)`, which returns another
    action or None to go on; `temperature` divides the logits by `factor` for the next `hold` steps (below 1: colder).
    Rules come from a threshold `card`, or are given.

    Raises UnknownNameError for another action, InputError where something that the action needs is missing.
    """

    action: str = "warn"
    rules: tuple[Rule, ...] = ()
    card: Card | None = None
    callback: Callable[[Alarm], str | None] | None = None
    factor: float = 0.7
    hold: int = 8
    max_restarts: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        check_action(self.action)
        if not self.rules and self.card is None:
            raise InputError(
                f"the policy {self.action!r} has no rule: give rules=(Rule(Score(...), threshold),), or the card that "
                "`phaselens calibrate` writes. To watch without acting leave the policy out."
            )
        if self.action == "escalate" and self.callback is None:
            raise InputError("the policy 'escalate' asks callback(alarm); give one.")
        if not 0 < self.factor < math.inf or self.hold < 1 or self.max_restarts < 0:
            raise InputError(
                f"wanted factor > 0, hold >= 1 and max_restarts >= 0; got {self.factor}, {self.hold}, "
                f"{self.max_restarts}."
            )

    @property
    def all_rules(self) -> tuple[Rule, ...]:
        """The rules given and that of the card."""
        return self.rules if self.card is None else (*self.rules, self.card.rule)

    def for_model(self, model: Model, columns: dict[str, Any]) -> None:
        """Check that the policy can be followed with this model and these columns (name -> layers, None for steps).

        Raises InputError for a card of another model, or a score of a column or layer that is not measured.
        """
        if self.card is not None:
            self.card.check(model)
        for rule in self.all_rules:
            score = rule.score
            if score.column not in columns:
                raise unknown_name("column of a score", score.column, columns)
            layers = columns[score.column]
            if (layers is None) != (score.layer is None) or (layers is not None and score.layer not in layers):
                where = (
                    "has one value per step: leave layer out" if layers is None else f"is measured at layers {layers}"
                )
                raise InputError(f"the score {score.name!r} asks for layer {score.layer}; {score.column} {where}.")


def check_action(name: str) -> str:
    """The action of this name; raises UnknownNameError."""
    if name not in ACTIONS:
        raise unknown_name("action", name, ACTIONS)
    return name
