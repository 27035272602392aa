"""Effects over independent units (models, prompts): mean, median, difference, rank correlation, with their tails.

One value per unit. Nothing is resampled, so the same values give the same interval; what each assumes is said.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from phaselens.statistics.intervals import Interval, undefined_interval

Tails = Callable[[float], tuple[float, float]]


@dataclass(frozen=True, eq=False)
class UnitEffect:
    """An estimate over `n` units with its interval, and one-sided p-values.

    `tails(bound)` gives the p-values against "the truth is at most the bound" and "the truth is at least the bound"
    (probability; NaN where the interval is undefined).
    """

    value: float
    interval: Interval
    n: int
    tails: Tails


def unit_means(values: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the finite values of each unit (unit of the values), and the units, sorted.

    Shapes: values [n], units [n] -> [unit], [unit]. A unit without a finite value is left out.
    """
    values, units = np.asarray(values, float), np.asarray(units)
    keep = np.isfinite(values)
    names, place = np.unique(units[keep], return_inverse=True)
    counts = np.bincount(place, minlength=len(names))
    return np.bincount(place, weights=values[keep], minlength=len(names)) / np.maximum(counts, 1), names


def mean_effect(values: np.ndarray, *, level: float = 0.95) -> UnitEffect:
    """Mean over units with its t interval (unit of the values).

    Shapes: values [unit], finite. NaN: fewer than two units, or all equal. Source: Student 1908.
    """
    values = np.asarray(values, float)
    value = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return _undefined(value, f"fewer than two units ({len(values)})", len(values), level)
    return _by_t(value, float(values.std(ddof=1)) / math.sqrt(len(values)), len(values) - 1, len(values), level)


def difference_effect(first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> UnitEffect:
    """Mean of the first less mean of the second group of units, with Welch's interval (unit of the values).

    Shapes: first [n1], second [n2], finite. NaN: fewer than two units in a group, or no variation. Source: Welch 1947.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    n = len(first) + len(second)
    value = float(first.mean() - second.mean()) if len(first) and len(second) else math.nan
    if min(len(first), len(second)) < 2:
        return _undefined(value, f"fewer than two units in a group ({len(first)} and {len(second)})", n, level)
    parts = [v.var(ddof=1) / len(v) for v in (first, second)]
    total = float(sum(parts))
    df = total**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True)) if total else 1.0
    return _by_t(value, math.sqrt(total), float(df), n, level)


def median_effect(values: np.ndarray, *, level: float = 0.95) -> UnitEffect:
    """Median over units with the interval between two order statistics (unit of the values).

    The interval covers at least its level for every continuous distribution; tails are those of the sign test.
    Shapes: values [unit], finite. NaN: so few units that no pair of order statistics reaches the level (under six at
    95 %). Source: Thompson 1936.
    """
    ordered = np.sort(np.asarray(values, float))
    n = len(ordered)
    value = float(np.median(ordered)) if n else math.nan
    low = int(stats.binom.ppf((1 - level) / 2, n, 0.5)) if n else 0
    low = low if n and stats.binom.cdf(low - 1, n, 0.5) <= (1 - level) / 2 else low - 1
    if low < 1:
        return _undefined(value, f"too few units for a median's interval ({n}; six are the least)", n, level)

    def tails(bound: float) -> tuple[float, float]:
        above, below = int((ordered > bound).sum()), int((ordered < bound).sum())
        used = above + below
        return float(stats.binom.sf(above - 1, used, 0.5)), float(stats.binom.sf(below - 1, used, 0.5))

    return UnitEffect(value, Interval(float(ordered[low - 1]), float(ordered[n - low]), level), n, tails)


def rank_correlation_effect(
    x: np.ndarray, y: np.ndarray, *, given: Sequence[np.ndarray] = (), level: float = 0.95
) -> UnitEffect:
    """Spearman's correlation over units with the interval of Fisher's z (1), partial on the ranks of `given`.

    The variance of z is (1 + r^2 / 2) / (n - 3 - k), k values given. Shapes: x, y, each of `given` [unit], finite.
    NaN: fewer than six units (and one more for each given), or one of them constant, or said wholly by what is given.
    Keeps: monotone maps of each. Source: Bonett and Wright 2000; Fisher 1924 for partial correlations.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    n, k = len(x), len(given)
    if n < 6 + k or not np.ptp(x) > 0 or not np.ptp(y) > 0:
        why = f"fewer than {'six' if not k else 6 + k} units ({n})" if n < 6 + k else "one of the two does not vary"
        return _undefined(math.nan, why, n, level)
    ranks = stats.rankdata(np.stack([x, y, *given]), axis=1).T
    design = np.column_stack([np.ones(n), ranks[:, 2:]])
    left = ranks[:, :2] - design @ np.linalg.lstsq(design, ranks[:, :2], rcond=None)[0]
    if not (left.std(axis=0) > 1e-9 * n).all():
        return _undefined(math.nan, "one of the two is wholly said by what is given", n, level)
    r = float(np.corrcoef(left.T)[0, 1])
    z = math.atanh(min(max(r, -1 + 1e-9), 1 - 1e-9))
    error = math.sqrt((1 + r * r / 2) / (n - 3 - k))
    half = float(stats.norm.ppf((1 + level) / 2)) * error

    def tails(bound: float) -> tuple[float, float]:
        limit = math.atanh(min(max(bound, -1 + 1e-9), 1 - 1e-9))
        return float(stats.norm.sf((z - limit) / error)), float(stats.norm.cdf((z - limit) / error))

    return UnitEffect(r, Interval(math.tanh(z - half), math.tanh(z + half), level), n, tails)


def _by_t(value: float, error: float, df: float, n: int, level: float) -> UnitEffect:
    if not error > 0:
        return _undefined(value, "the units do not vary", n, level)
    half = float(stats.t.ppf((1 + level) / 2, df)) * error

    def tails(bound: float) -> tuple[float, float]:
        t = (value - bound) / error
        return float(stats.t.sf(t, df)), float(stats.t.cdf(t, df))

    return UnitEffect(value, Interval(value - half, value + half, level), n, tails)


def _undefined(value: float, reason: str, n: int, level: float) -> UnitEffect:
    return UnitEffect(value, undefined_interval(reason, level), n, lambda bound: (math.nan, math.nan))


def units_to_decide(effect: UnitEffect, bounds: tuple[float, ...]) -> int | None:
    """Least number of units at which the interval would miss every bound, if estimate and spread held (count).

    Half widths shrink as the root of the number. None: the interval is undefined, or the estimate lies on a bound.
    """
    gap = min((abs(effect.value - bound) for bound in bounds), default=math.nan)
    half = (effect.interval.hi - effect.interval.lo) / 2
    if not (gap > 0 and math.isfinite(half)):
        return None
    return max(effect.n + 1, math.ceil(effect.n * (half / gap) ** 2))
