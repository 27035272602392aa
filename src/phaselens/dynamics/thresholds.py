"""A rule learned on one half of the prompts and judged on the other, against baselines at the same rate.

Of the learning half a third chooses score and side, the rest sets the threshold. Were the same runs to do both, the
score whose threshold came out too low by chance would be chosen: with 40 rules that say nothing and a target of .10, a
share of .12 of further right runs alarmed.
"""

import math
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
    after: int = AFTER,
) -> Learned:
    """Choose score and side on a sixth of the prompts, the threshold on a third; measure its rates on the other half.

    A false alarm is a right run that ever alarms, a hit a wrong one. Thresholds keep the false-alarm rate by
    `alarm_threshold` with prompts as units; of the scores that with most hits in the sixth is taken, and of the
    baselines too. No step before `after` alarms: early scores are of few steps, but a short answer stands there.
    Shapes: columns [run, step] by score; wrong 0 or 1 [run]; units [run]. Raises InputError where the sixth or the
    half lacks right or wrong runs, or the third right ones, and where these are too few, or too short, for this rate.
    """
    y = np.asarray(wrong, float) > 0.5
    names, unit = np.unique(np.asarray(units), return_inverse=True)
    part = (generator.permutation(len(names)) % 6)[unit]
    choosing, learning = part == 0, part % 2 == 0
    setting = learning & ~choosing
    lacks = [not (y & some).any() or not (~y & some).any() for some in (choosing, ~learning)]
    if any(lacks) or not (~y & setting).any():
        raise InputError("each part of the prompts needs right and wrong runs; give more graded prompts.")
    rule, alarmed = _best(columns, wrong=y, choosing=choosing, setting=setting, unit=unit, rate=rate, after=after)
    other, other_alarmed = _best(baselines, y, choosing=choosing, setting=setting, unit=unit, rate=rate, after=after)
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
    columns: Mapping[Score, np.ndarray],
    wrong: np.ndarray,
    choosing: np.ndarray,
    setting: np.ndarray,
    unit: np.ndarray,
    rate: float,
    after: int,
) -> tuple[Rule, np.ndarray]:
    """The rule with most hits among runs `choosing`, its threshold from those `setting`, and which runs alarm [run]."""
    found: list[tuple[float, Score, bool]] = []
    for score, values in columns.items():
        followed = _followed(values, score)
        for above in (True, False):
            threshold = _threshold(followed, choosing & ~wrong, unit, rate, after, above=above)
            found.append(
                (float(_alarmed(followed, threshold, after, above=above)[choosing & wrong].mean()), score, above)
            )
    if not found:
        raise InputError("no score to learn from: the study recorded none of the columns.")
    _, score, above = max(found, key=lambda one: one[0])
    followed = _followed(columns[score], score)
    right = setting & ~wrong
    calm = float(np.nanmedian(followed[right])) if np.isfinite(followed[right]).any() else float("nan")
    threshold = _threshold(followed, right, unit, rate, after, above=above)
    if not math.isfinite(threshold):
        _refuse(followed[right], unit[right], rate, after)
    return Rule(score, threshold, above, after, calm), _alarmed(followed, threshold, after, above=above)


def _followed(values: np.ndarray, score: Score) -> np.ndarray:
    """The score at every step of each run (unit of the values): a run that ended alarms no more. [run, step]."""
    x = np.asarray(values, float)
    last = np.where(np.isfinite(x), np.arange(x.shape[-1]), -1).max(-1, initial=-1)
    return np.where(np.arange(x.shape[-1]) <= last[:, None], running(x, score), np.nan)


def _refuse(followed: np.ndarray, unit: np.ndarray, rate: float, after: int) -> None:
    """Say why right runs give no threshold for this rate."""
    n, needed = len(np.unique(unit)), math.ceil((1 - rate) / rate - 1e-9)
    if n < needed:
        raise InputError(
            f"the threshold is set by the right runs of {n} questions, and a share of {rate:g} needs {needed} (about "
            f"{3 * needed} questions answered rightly in all): give more graded prompts, or a larger rate."
        )
    short = int((~np.isfinite(followed[:, after:]).any(axis=1)).sum())
    raise InputError(
        f"{short} of the {len(followed)} right runs that set the threshold end before step {after}: say after = 3, or "
        "so, or ask for longer answers."
    )


def _threshold(
    followed: np.ndarray, right: np.ndarray, unit: np.ndarray, rate: float, after: int, *, above: bool
) -> float:
    return alarm_threshold(peaks(followed[right], above=above, after=after), rate, above=above, units=unit[right])


def _alarmed(followed: np.ndarray, threshold: float, after: int, *, above: bool) -> np.ndarray:
    return (first_alarm(followed, threshold, above=above, after=after) >= 0).astype(float)


def _rate(values: np.ndarray, of: np.ndarray, weights: np.ndarray, unit: np.ndarray) -> Rate:
    w = weights[:, of]
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (w @ values[of]) / w.sum(1)
    return Rate(float(values[of].mean()), percentile_interval(draws, len(np.unique(unit[of]))))
