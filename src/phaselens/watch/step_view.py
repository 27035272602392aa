"""What is shown of one step: which columns, with which unit, the state at the layer of record, as plain JSON values."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from phaselens.dynamics.alarms import Rule
from phaselens.dynamics.state_alphabets import BIFURCATION, bifurcation_states, marks
from phaselens.errors import InputError
from phaselens.models import Model
from phaselens.monitor import Card, Step
from phaselens.observables import by_name
from phaselens.watch.high_values import Thresholds
from phaselens.web.pages import number

OUTPUT = tuple(
    "entropy entropy_norm surprisal top1 margin rivalry branching commitment commit_layer commit_depth".split()
)
BY_LAYER = tuple(
    "instability step_length turning_angle depth_step entropy entropy_norm top1 rivalry kl_to_final turbulence".split()
)
FOR_STATES = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
WATCHED = tuple(dict.fromkeys((*OUTPUT, *BY_LAYER, *FOR_STATES)))


def alarm_words(step: int, rule: Rule, value: float) -> str:
    """One alarm in words."""
    return f"step {step}, {rule.score.name} = {value:.4g} is {_side(rule)}"


def card_words(card: Card) -> str:
    """What alarms under a card, and how often that was right."""
    said = f"Alarms by the card: {card.rule.score.name} {_side(card.rule)}"
    rates = [card.rates.get(name, {}).get("value") for name in ("false_alarm_rate", "hit_rate")]
    if None in rates:
        return f"{said}."
    wrongly, rightly = (f"{100 * rate:.0f} %" for rate in rates)
    better = "" if card.beats_baseline else f", which is not more than {card.baseline} finds"
    return f"{said}. On its test questions {wrongly} of the right runs alarmed and {rightly} of the wrong ones{better}."


def _side(rule: Rule) -> str:
    return f"{'above' if rule.above else 'below'} {rule.threshold:.4g}"


@dataclass(frozen=True)
class View:
    """How the steps of one model are shown: its layers, those under the lens, its thresholds.

    With a `card` its score alarms, and not the debt of `thresholds`.
    """

    layers: tuple[int, ...]
    lens_layers: tuple[int, ...]
    thresholds: Thresholds
    card: Card | None = None

    @classmethod
    def of(cls, model: Model, thresholds: Thresholds, lens_layers: Sequence[int]) -> "View":
        """The view of a model with these layers under the lens. Raises InputError for a layer it has not."""
        beyond = [layer for layer in lens_layers if not 0 <= layer <= model.n_layers]
        if beyond:
            raise InputError(f"{model.name} has layers 0 to {model.n_layers}; got {beyond[0]}.")
        return cls(tuple(range(model.n_layers + 1)), tuple(lens_layers), thresholds)

    def to_dict(self) -> dict[str, object]:
        """What a client needs to know before the first step: columns with units, layers, thresholds, states."""
        facts = {one.name: one for one in by_name(WATCHED)}

        def described(names: Sequence[str]) -> list[dict[str, object]]:
            return [{"name": n, "unit": facts[n].unit, "description": facts[n].summary} for n in names]

        learned = self.thresholds.to_dict()
        return {
            "output": described(OUTPUT),
            "by_layer": described(BY_LAYER),
            "layers": list(self.layers),
            "lens_layers": list(self.lens_layers),
            "states": list(BIFURCATION),
            "thresholds": {k: number(v) if isinstance(v, float) else v for k, v in learned.items()},
            "alarms": "" if self.card is None else card_words(self.card),
            "card": None if self.card is None else {**self.card.rule.to_dict(), "score": self.card.rule.score.name},
        }

    def live(self, step: Step, *, layers: bool) -> dict[str, object]:
        """One step of a monitor."""
        debt = step.scores.get(self.thresholds.score.name, math.nan)
        of = step.output, step.layers, step.recorded
        found = self.shown(step.step, step.token, step.text, *of, debt=debt, layers=layers)
        followed = None if self.card is None else number(step.scores.get(self.card.rule.score.name, math.nan))
        return {**found, "score": followed, "alarms": [alarm_words(a.step, a.rule, a.value) for a in step.alarms]}

    def shown(
        self,
        step: int,
        token: int,
        text: str | None,
        output: Mapping[str, float],
        rows: Mapping[str, np.ndarray],
        recorded: Sequence[int],
        debt: float,
        layers: bool = True,
    ) -> dict[str, Any]:
        """One step as plain values; `rows` are values over the `recorded` layers."""
        found: dict[str, Any] = {
            "step": step,
            "token": token,
            "text": text,
            "output": {name: number(output[name]) for name in OUTPUT if name in output},
            "state": self._state(rows, recorded),
            "turbulence": number(self._at_record("turbulence", rows, recorded)),
            "instability_debt": number(debt),
        }
        if layers:
            found["layers"] = {n: [number(v) for v in rows[n].tolist()] for n in BY_LAYER if n in rows}
        return found

    def _at_record(self, name: str, rows: Mapping[str, np.ndarray], recorded: Sequence[int]) -> float:
        if name not in rows or self.thresholds.layer not in recorded:
            return math.nan
        return float(rows[name][recorded.index(self.thresholds.layer)])

    def _state(self, rows: Mapping[str, np.ndarray], recorded: Sequence[int]) -> str | None:
        cell = {name: np.array(self._at_record(name, rows, recorded)) for name in FOR_STATES}
        state = int(bifurcation_states(marks(cell, self.thresholds.turbulence)))
        return None if state < 0 else BIFURCATION[state]
