"""Intervals from bootstrap draws, which are NaN with a reason where fewer than two units stand behind them."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from phaselens.errors import InputError


@dataclass(frozen=True)
class Interval:
    """A two-sided interval (unit of what it is of).

    `reason` says why the bounds are NaN, and is "" where they are not.
    """

    lo: float
    hi: float
    level: float = 0.95
    reason: str = ""

    def __post_init__(self) -> None:
        if math.isnan(self.lo) != math.isnan(self.hi) or math.isnan(self.lo) != bool(self.reason):
            raise InputError(
                f"an interval is whole, or NaN with a reason; got ({self.lo}, {self.hi}, {self.reason!r})."
            )

    def __contains__(self, value: float) -> bool:
        return bool(self.lo <= value <= self.hi)


def undefined_interval(reason: str, level: float = 0.95) -> Interval:
    """An interval that cannot be given, with the reason."""
    return Interval(math.nan, math.nan, level, reason)


def percentile_interval(draws: np.ndarray, n_units: int, *, level: float = 0.95) -> Interval:
    """Percentile bootstrap interval (unit of the draws).

    `[q_{a/2}, q_{1-a/2}]` of the finite draws, a = 1 - level.
    Shapes: draws [n_boot]; `n_units` is the number of units that were resampled.
    NaN: fewer than two units, or fewer than 90 % of the draws defined; `reason` says which.
    Keeps: any monotone map of the statistic. Source: Efron and Tibshirani 1993, chapter 13.
    """
    _check(level)
    return _between(draws, n_units, (1 - level) / 2, level)


def expanded_interval(draws: np.ndarray, n_units: int, *, level: float = 0.95) -> Interval:
    """Expanded percentile interval of a mean over few units (unit of the draws).

    As `percentile_interval` at the level `a' / 2 = Phi(-sqrt(n / (n - 1)) t_{a/2, n-1})`: a bootstrap of n units is too
    narrow by `sqrt((n - 1) / n)` and knows no t. With 12 units 95 % becomes 97.9 %, with 700 it stays 95.1 %.
    With two or three it is the range of the draws. NaN: as `percentile_interval`.
    Source: Hesterberg 2015, The American Statistician 69(4), 371-386.
    """
    _check(level)
    few = max(n_units - 1, 1)
    reach = math.sqrt(n_units / few) * stats.t.ppf((1 + level) / 2, few)
    return _between(draws, n_units, float(stats.norm.sf(reach)), level)


def bootstrap_p(draws: np.ndarray, bound: float = 0.0, *, n_units: int | None = None) -> float:
    """Two-sided p-value of `bound` (probability): the level at which the percentile interval of the draws ends there.

    `2 (1 + k) / (1 + B)`, k the draws on the rarer side of the bound. With `n_units` the level is that of
    `expanded_interval`. NaN: no finite draw, or fewer than two units.
    """
    seen = draws[np.isfinite(draws)]
    if not len(seen) or (n_units is not None and n_units < 2):
        return math.nan
    tail = min(0.5, (1 + min((seen <= bound).sum(), (seen >= bound).sum())) / (1 + len(seen)))
    if n_units is None:
        return float(2 * tail)
    few = n_units - 1
    return float(2 * stats.t.sf(stats.norm.isf(tail) * math.sqrt(few / n_units), few))


def _between(draws: np.ndarray, n_units: int, tail: float, level: float) -> Interval:
    """The interval between the quantiles `tail` and `1 - tail` of the finite draws, or why there is none."""
    why = _why_not(draws, n_units)
    if why:
        return undefined_interval(why, level)
    lo, hi = np.quantile(draws[np.isfinite(draws)], [tail, 1 - tail])
    return Interval(float(lo), float(hi), level)


def basic_interval(draws: np.ndarray, estimate: float, n_units: int, *, level: float = 0.95) -> Interval:
    """Basic (reflected) bootstrap interval (unit of the draws): `[2 e - q_{1-a/2}, 2 e - q_{a/2}]`.

    NaN: as `percentile_interval`, and where the estimate itself is undefined. Source: Davison and Hinkley 1997, 5.2.
    """
    inner = percentile_interval(draws, n_units, level=level)
    if inner.reason:
        return inner
    if not math.isfinite(estimate):
        return undefined_interval("the estimate itself is undefined", level)
    return Interval(2 * estimate - inner.hi, 2 * estimate - inner.lo, level)


def jackknife_interval(estimate: float, without: np.ndarray, *, level: float = 0.95) -> Interval:
    """Delete-one jackknife interval (unit of the estimate): `e -+ t_{n-1} sqrt((n-1)/n sum_i (e_i - mean e_i)^2)`.

    For smooth statistics of few units, where percentiles of resamples lie too close together.
    Shapes: without [n], the estimate without unit i. NaN: fewer than two units, or an estimate that is undefined.
    Keeps: shift and scale. Source: Efron and Tibshirani 1993, chapter 11, with Student's t for so few units.
    """
    _check(level)
    without = np.asarray(without, float)
    n = len(without)
    if n < 2:
        return undefined_interval(f"fewer than two units ({n})", level)
    if not (math.isfinite(estimate) and np.isfinite(without).all()):
        return undefined_interval("the estimate is undefined, as a whole or without one of the units", level)
    half = stats.t.ppf((1 + level) / 2, n - 1) * math.sqrt((n - 1) * without.var())
    return Interval(float(estimate - half), float(estimate + half), level)


def proportion_interval(hits: int, trials: int, *, level: float = 0.95) -> Interval:
    """Clopper-Pearson interval of a proportion (1): covers at least its level for every true value.

    NaN: no trials. Source: Clopper and Pearson 1934.
    """
    _check(level)
    if not 0 <= hits <= trials:
        raise InputError(f"hits must lie in 0..trials; got {hits} of {trials}.")
    if trials == 0:
        return undefined_interval("no trials", level)
    a = (1 - level) / 2
    lo = stats.beta.ppf(a, hits, trials - hits + 1) if hits else 0.0
    hi = stats.beta.ppf(1 - a, hits + 1, trials - hits) if hits < trials else 1.0
    return Interval(float(lo), float(hi), level)


def _check(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"the level of an interval lies strictly between 0 and 1; got {level}.")


def _why_not(draws: np.ndarray, n_units: int) -> str:
    if n_units < 2:
        return f"fewer than two units ({n_units})"
    defined = float(np.isfinite(draws).mean()) if len(draws) else 0.0
    return "" if defined >= 0.9 else f"only {defined:.0%} of the resamples are defined"
