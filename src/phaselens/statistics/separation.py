"""The S test: do the values of M models fall into two groups more sharply than uniform points would?

A gap between groups whose interval lies above 0 is no test (it accepts every single-peaked panel), and a two-component
mixture mistakes skew for groups; `S` is compared with the sharpest split of M points drawn uniformly instead.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, proportion_interval, undefined_interval

SMALLEST_GROUP = 2
SMALLEST_PANEL = 2 * SMALLEST_GROUP

Null = Callable[..., np.ndarray]
"""How values of S without groups are drawn: called as `uniform_null`."""


@dataclass(frozen=True)
class Separation:
    """Outcome of one S test. `groups` is 0 (lower) or 1 (upper) per value, -1 where the value is NaN.

    `p_interval` is the Monte-Carlo interval of `p`, `critical` the 5 % point of S for this M. NaN throughout with a
    `reason` where fewer than four values are defined or all are equal.
    """

    s: float
    p: float
    p_interval: Interval
    critical: float
    groups: tuple[int, ...]
    m: int
    reason: str = ""


def best_split(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of the spread that the best two-group split explains, and where it cuts (1; count).

    `S = max_k between(k) / total`, where the k smallest form one group and k = 2..M-2; in one dimension the best split
    is contiguous. between(k) = k (M-k) / M (mean_low - mean_high)^2, total = sum (x - mean)^2.
    Shapes: values [..., M], returns S float64 [...] in [0, 1] and k int [...].
    NaN: M < 4, no spread, or a value of the row NaN; k is then 0.
    Keeps: shift, positive or negative scale, order. Moves with: any non-linear map (so say whether logs were taken).
    """
    x = np.sort(np.asarray(values, float), axis=-1)
    m = x.shape[-1]
    if m < SMALLEST_PANEL:
        return np.full(x.shape[:-1], np.nan), np.zeros(x.shape[:-1], int)
    x = x - x.mean(axis=-1, keepdims=True)
    total = (x**2).sum(axis=-1)
    low = np.arange(SMALLEST_GROUP, m - SMALLEST_GROUP + 1)
    # of centred values the two sums are opposite, so between = sum_low^2 * M / (k (M - k))
    between = np.cumsum(x, axis=-1)[..., low - 1] ** 2 * m / (low * (m - low))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = between.max(axis=-1) / total
    defined = np.isfinite(share) & (total > 1e-24)
    return np.where(defined, share, np.nan), np.where(defined, low[between.argmax(axis=-1)], 0)


def uniform_null(m: int, generator: np.random.Generator, *, n_draws: int = 20_000) -> np.ndarray:
    """Values of S for M uniform points, sorted ascending, float64 [n_draws] (1). NaN throughout for M < 4."""
    if m < 0 or n_draws < 1:
        raise InputError(f"the null of S needs m >= 0 and n_draws >= 1; got {m} and {n_draws}.")
    return np.sort(best_split(generator.random((n_draws, m)))[0])


def separation(
    values: np.ndarray, generator: np.random.Generator, *, n_draws: int = 20_000, null: Null = uniform_null
) -> Separation:
    """S test of M values against uniform points (1, probability).

    `p = (1 + #{S_null >= S}) / (1 + n_draws)`. Values that are NaN are left out and get group -1. Whoever tests many
    panels gives a `null` that keeps what it drew for each M.
    Shapes: values [M]. NaN with a reason: fewer than four defined values; all values equal.
    Keeps: shift and scale of the values. Moves with: M (small panels have little power: see `power`).
    """
    values = np.asarray(values, float)
    seen = np.isfinite(values)
    m = int(seen.sum())
    if m < SMALLEST_PANEL:
        return _undefined(values, m, f"{m} values where two groups of two need {SMALLEST_PANEL}")
    s, k = best_split(values[seen])
    if math.isnan(s):
        return _undefined(values, m, "all values are equal")
    drawn = null(m, generator, n_draws=n_draws)
    hits = int((drawn >= s - 1e-12).sum())
    groups = np.full(len(values), -1)
    rank = np.argsort(np.argsort(values[seen], kind="stable"), kind="stable")
    groups[seen] = (rank >= int(k)).astype(int)
    return Separation(
        float(s),
        (1 + hits) / (1 + n_draws),
        proportion_interval(hits, n_draws),
        float(np.quantile(drawn, 0.95)),
        tuple(int(g) for g in groups),
        m,
    )


def _undefined(values: np.ndarray, m: int, reason: str) -> Separation:
    nan = math.nan
    return Separation(nan, nan, undefined_interval(reason), nan, (-1,) * len(values), m, reason)


def power(m: int, gap: float, generator: np.random.Generator, *, level: float = 0.05, n_draws: int = 20_000) -> float:
    """Probability that the S test finds two Gaussian groups `gap` within-group SDs apart (probability).

    The smaller group holds three eighths of the models (at least two), as three of the published eight; equal groups
    are found more often (.54 / .87 / .98 against .50 / .84 / .97 at 6 / 8 / 10 SD for M = 8), the most unequal ones
    less often. NaN for M < 4: no test exists.
    """
    if m < SMALLEST_PANEL:
        return math.nan
    critical = np.quantile(uniform_null(m, generator, n_draws=n_draws), 1 - level)
    x = generator.standard_normal((n_draws, m))
    x[:, : max(SMALLEST_GROUP, round(m * 3 / 8))] += gap
    return float((best_split(x)[0] > critical).mean())


def models_for_power(
    gap: float, generator: np.random.Generator, *, wanted: float = 0.8, most: int = 40, n_draws: int = 8_000
) -> int | None:
    """Least number of models at which the S test has the wanted power for groups `gap` SD apart; None beyond `most`."""
    for m in range(SMALLEST_PANEL, most + 1):
        if power(m, gap, generator, n_draws=n_draws) >= wanted:
            return m
    return None


def models_for_significance(
    s: float,
    generator: np.random.Generator,
    *,
    level: float = 0.05,
    most: int = 120,
    n_draws: int = 8_000,
    null: Null = uniform_null,
) -> int | None:
    """Least number of models at which this S would reach p <= level, were it to stay; None beyond `most`.

    Many uniform points have S near .75, so an S at or below it never gets there.
    """
    if not s > 0.75:
        return None
    low, high = SMALLEST_PANEL - 1, most + 1
    while high - low > 1:
        middle = (low + high) // 2
        if np.quantile(null(middle, generator, n_draws=n_draws), 1 - level) <= s:
            high = middle
        else:
            low = middle
    return high if high <= most else None
