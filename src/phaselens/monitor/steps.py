"""What a monitor hands out: one record per generated token, one per alarm, one per restart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.dynamics.alarms import Rule


@dataclass(frozen=True, eq=False)
class Alarm:
    """A score that went beyond its threshold: run, step, rule, the value there, and what was done (an action)."""

    run: int
    step: int
    rule: Rule
    value: float
    action: str

    def __str__(self) -> str:
        side = "above" if self.rule.above else "below"
        return (
            f"run {self.run}, step {self.step}: {self.rule.score.name} = {self.value:.4g} is {side} "
            f"{self.rule.threshold:.4g} ({self.action})"
        )


@dataclass(frozen=True)
class Restart:
    """A run taken back: alarmed at `step`, kept up to and with the token of step `kept` (-1: the prompt alone)."""

    run: int
    step: int
    kept: int
    seed: int


@dataclass(frozen=True, eq=False)
class Step:
    """One generated token with what was measured on the state it was chosen from.

    `output` holds the columns of the table `steps`, `layers` those of `layers` as arrays over the recorded layers
    `recorded` (NaN where undefined or not read); `scores` the value of every rule's score by its name. `text` is what
    the token adds to the text ("" while a character is incomplete, None without tokenizer). `attempt` grows by one
    with every restart; the steps after the one that was kept are then withdrawn.
    """

    run: int
    step: int
    position: int
    token: int
    text: str | None
    output: Mapping[str, float]
    layers: Mapping[str, np.ndarray]
    recorded: tuple[int, ...]
    scores: Mapping[str, float]
    alarms: tuple[Alarm, ...]
    attempt: int = 0
