"""Intervals of mean effects over a few independent units (pairs of models, families), and of a squared correlation."""

import math

import numpy as np
from scipy import stats

from phaselens.statistics.intervals import Interval, undefined_interval


def mean_interval(values: np.ndarray, *, level: float = 0.95) -> tuple[float, Interval, float]:
    """Mean, its t interval, and the two-sided p of mean 0 (unit of the values; probability).

    Shapes: values [unit], finite. NaN: fewer than two units, or all equal. Source: Student 1908.
    """
    values = np.asarray(values, float)
    mean = float(values.mean()) if len(values) else math.nan
    if len(values) < 2:
        return mean, undefined_interval(f"fewer than two units ({len(values)})", level), math.nan
    error = float(values.std(ddof=1) / math.sqrt(len(values)))
    return _t_interval(mean, error, len(values) - 1, level)


def difference_interval(first: np.ndarray, second: np.ndarray, *, level: float = 0.95) -> tuple[float, Interval, float]:
    """Difference of two means over independent units, its Welch interval, and the two-sided p of no difference.

    Shapes: first [n1], second [n2], finite (one unit). NaN: fewer than two units on a side. Source: Welch 1947.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if min(len(first), len(second)) < 2:
        value = float(first.mean() - second.mean()) if len(first) and len(second) else math.nan
        return value, undefined_interval(f"fewer than two units ({len(first)} and {len(second)})", level), math.nan
    parts = [v.var(ddof=1) / len(v) for v in (first, second)]
    total = sum(parts)
    df = total**2 / sum(p**2 / (len(v) - 1) for p, v in zip(parts, (first, second), strict=True)) if total else 1.0
    return _t_interval(float(first.mean() - second.mean()), math.sqrt(total), df, level)


def _t_interval(value: float, error: float, df: float, level: float) -> tuple[float, Interval, float]:
    if not error > 0:
        return value, undefined_interval("the units do not vary", level), math.nan
    half = float(stats.t.ppf((1 + level) / 2, df)) * error
    return value, Interval(value - half, value + half, level), float(2 * stats.t.sf(abs(value) / error, df))


def squared_correlation(x: np.ndarray, y: np.ndarray, *, level: float = 0.95) -> tuple[float, Interval]:
    """R^2 of a straight line, with the interval that Fisher's z gives (1).

    Where the interval of r holds 0, that of R^2 begins at 0. Shapes: x, y [unit], finite. NaN: fewer than four units,
    or one of the two does not vary. Source: Fisher 1921.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    if len(x) < 4 or not np.ptp(x) > 0 or not np.ptp(y) > 0:
        why = f"fewer than four units ({len(x)})" if len(x) < 4 else "one of the two does not vary"
        return math.nan, undefined_interval(why, level)
    r = float(np.corrcoef(x, y)[0, 1])
    half = float(stats.norm.ppf((1 + level) / 2)) / math.sqrt(len(x) - 3)
    z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, r)))
    lo, hi = math.tanh(z - half), math.tanh(z + half)
    ends = sorted((lo * lo, hi * hi))
    return r * r, Interval(0.0 if lo < 0 < hi else ends[0], ends[1], level)


def p_of_larger_correlation(r_squared: float, bound: float, n_units: int) -> float:
    """p-value of `R^2 >= bound` against less (probability): the larger of the two one-sided tests on Fisher's z."""
    if math.isnan(r_squared) or n_units < 4:
        return math.nan
    root = math.sqrt(n_units - 3)
    z, limit = math.atanh(min(1 - 1e-12, math.sqrt(r_squared))), math.atanh(math.sqrt(bound))
    return float(stats.norm.cdf((z - limit) * root))


def units_for_correlation(bound: float, *, level: float = 0.95) -> int:
    """Least number of units at which an R^2 of 0 has an interval below `bound` (count)."""
    half = float(stats.norm.ppf((1 + level) / 2))
    return math.floor((half / math.atanh(math.sqrt(bound))) ** 2 + 3) + 1
