"""A threshold learned on one half of the prompts and judged on the other, against baselines at the same rate."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.dynamics.alarms import Rule, Score, alarm_threshold, first_alarm, peaks, running
from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.resampling import bootstrap_weights

AFTER = 8


@dataclass(frozen=True)
class Rate:
    """A share (1) with its interval over prompts."""

    value: float
    interval: Interval


@dataclass(frozen=True, eq=False)
class Learned:
    """The best rule of a list and what it was worth on prompts that it was not learned from.

    `gain` is its hit rate less that of the best baseline at the same target of false alarms.
    """

    rule: Rule
    baseline: Rule
    false_alarms: Rate
    hits: Rate
    baseline_hits: Rate
    baseline_false_alarms: Rate
    gain: Rate
    n_learned: int
    n_tested: int


def learn_rule(
    columns: Mapping[Score, np.ndarray],
    baselines: Mapping[Score, np.ndarray],
    wrong: np.ndarray,
    units: np.ndarray,
    generator: np.random.Generator,
    *,
    rate: float = 0.1,
    n_boot: int = 2000,
) -> Learned:
    """Choose score, side and threshold on half of the prompts; measure false alarms and hits on the other half.

    A false alarm is a right run that ever alarms, a hit a wrong one. Thresholds keep the false-alarm rate by
    `alarm_threshold` with prompts as units; of the scores that with most hits in the learning half is taken, and of the
    baselines too.
    Shapes: columns [run, step] by score; wrong 0 or 1 [run]; units [run]. Raises InputError where a half lacks right or
    wrong runs.
    """
    y = np.asarray(wrong, float) > 0.5
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    learning = (generator.permutation(len(names)) % 2 == 0)[unit]
    for half in (learning, ~learning):
        if not (y & half).any() or not (~y & half).any():
            raise InputError("each half of the prompts needs right and wrong runs; give more graded prompts.")
    rule, alarmed = _best(columns, y, learning, unit, rate)
    other, other_alarmed = _best(baselines, y, learning, unit, rate)
    weights = bootstrap_weights(len(names), generator, n_boot=n_boot)[:, unit]
    right, bad = ~learning & ~y, ~learning & y
    return Learned(
        rule=rule,
        baseline=other,
        false_alarms=_rate(alarmed, right, weights, unit),
        hits=_rate(alarmed, bad, weights, unit),
        baseline_hits=_rate(other_alarmed, bad, weights, unit),
        baseline_false_alarms=_rate(other_alarmed, right, weights, unit),
        gain=_rate(alarmed - other_alarmed, bad, weights, unit),
        n_learned=int(learning.sum()),
        n_tested=int((~learning).sum()),
    )


def _best(
    columns: Mapping[Score, np.ndarray], wrong: np.ndarray, learning: np.ndarray, unit: np.ndarray, rate: float
) -> tuple[Rule, np.ndarray]:
    """The rule with most hits in the learning half, and which runs alarm under it (0 or 1, [run])."""
    found: list[tuple[float, Rule, np.ndarray]] = []
    for score, values in columns.items():
        followed = running(values, score)
        right = learning & ~wrong
        calm = float(np.nanmedian(followed[right])) if np.isfinite(followed[right]).any() else float("nan")
        for above in (True, False):
            highest = peaks(followed[right], above=above, after=AFTER)
            threshold = alarm_threshold(highest, rate, above=above, units=unit[right])
            alarmed = (first_alarm(followed, threshold, above=above, after=AFTER) >= 0).astype(float)
            rule = Rule(score, threshold, above, AFTER, calm)
            found.append((float(alarmed[learning & wrong].mean()), rule, alarmed))
    if not found:
        raise InputError("no score to learn from: the study recorded none of the columns.")
    _, rule, alarmed = max(found, key=lambda one: one[0])
    return rule, alarmed


def _rate(values: np.ndarray, of: np.ndarray, weights: np.ndarray, unit: np.ndarray) -> Rate:
    w = weights[:, of]
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (w @ values[of]) / w.sum(1)
    return Rate(float(values[of].mean()), percentile_interval(draws, len(np.unique(unit[of]))))
