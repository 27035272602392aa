"""The S test: do the values of M models fall into groups more sharply than uniform points would?

A gap between groups whose interval lies above 0 is no test (it accepts every single-peaked panel), and a two-component
mixture mistakes skew for groups; `S` is compared with the sharpest partition of M points drawn uniformly instead.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, proportion_interval, undefined_interval

SMALLEST_GROUP = 2  # a group of one is an outlier: with it the S of any panel with one far model is near 1
SMALLEST_PANEL = 2 * SMALLEST_GROUP
TWO = (2,)

Null = Callable[..., np.ndarray]
"""How values of S without groups are drawn: called as `uniform_null`."""


@dataclass(frozen=True)
class Separation:
    """Outcome of one S test. `groups` is 0 (lowest) to k - 1 (highest) per value, -1 where the value is NaN.

    `s` is S of the number of groups `k` that p is smallest for, `p` is corrected for having chosen it, `p_interval` its
    Monte-Carlo interval, `critical` the 5 % point of S for this M and k, corrected alike. NaN throughout with a
    `reason` where fewer than four values are defined or all are equal.
    """

    s: float
    p: float
    p_interval: Interval
    critical: float
    groups: tuple[int, ...]
    m: int
    reason: str = ""
    k: int = 2


def best_partition(values: np.ndarray, k: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Share of the spread that the best partition into k groups of two or more explains, and where it cuts (1; count).

    `S_k = max between / total`, total = sum (x - mean)^2, between = sum over groups of n_g (mean_g - mean)^2; in one
    dimension the best groups are contiguous, and dynamic programming finds them exactly.
    Shapes: values [..., M], returns S float64 [...] in [0, 1] and the number of values up to each cut, int
    [..., k - 1]. NaN: M < 2 k, no spread, or a value of the row NaN; the cuts are then 0.
    Keeps: shift, positive or negative scale, order. Moves with: any non-linear map (so say whether logs were taken).
    Source: Wang and Song 2011 (optimal k-means in one dimension).
    """
    x = np.sort(np.asarray(values, float), axis=-1)
    m = x.shape[-1]
    if m < SMALLEST_GROUP * k:
        return np.full(x.shape[:-1], np.nan), np.zeros((*x.shape[:-1], k - 1), int)
    x = x - x.mean(axis=-1, keepdims=True)
    total = (x**2).sum(axis=-1)
    sums = np.concatenate([np.zeros((*x.shape[:-1], 1)), np.cumsum(x, axis=-1)], axis=-1)
    best = sums**2 / np.maximum(np.arange(m + 1), 1)
    cuts = []
    for groups in range(2, k + 1):
        then, cut = np.zeros_like(best), np.zeros(best.shape, int)
        for end in range(m if groups == k else SMALLEST_GROUP * groups, m + 1):
            start = np.arange(SMALLEST_GROUP * (groups - 1), end - SMALLEST_GROUP + 1)
            found = best[..., start] + (sums[..., [end]] - sums[..., start]) ** 2 / (end - start)
            then[..., end], cut[..., end] = found.max(axis=-1), start[found.argmax(axis=-1)]
        best = then
        cuts.append(cut)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = best[..., m] / total
    defined = np.isfinite(share) & (total > 1e-24)
    at = np.full((*x.shape[:-1], 1), m)
    ends = []
    for cut in reversed(cuts):
        at = np.take_along_axis(cut, at, axis=-1)
        ends.append(at)
    return np.where(defined, share, np.nan), np.where(defined[..., None], np.concatenate(ends[::-1], axis=-1), 0)


def shares(values: np.ndarray, among: Sequence[int]) -> np.ndarray:
    """S_k for each number of groups k of `among` (1). Shapes: values [..., M], returns [..., k]."""
    return np.stack([best_partition(values, k)[0] for k in among], axis=-1)


def uniform_null(
    m: int, generator: np.random.Generator, *, n_draws: int = 20_000, among: Sequence[int] = TWO
) -> np.ndarray:
    """S_k of M uniform points for each k of `among`, float64 [n_draws, k] (1). NaN where M < 2 k."""
    if m < 0 or n_draws < 1:
        raise InputError(f"the null of S needs m >= 0 and n_draws >= 1; got {m} and {n_draws}.")
    return shares(generator.random((n_draws, m)), among)


def p_values(found: np.ndarray, drawn: np.ndarray) -> tuple[np.ndarray | np.floating, np.ndarray]:
    """P of panels against the uniform null: least over k, corrected for having looked at each k (probability).

    `p_k = (1 + #{S_k of the null >= S_k}) / (1 + draws)`; the least of them is compared with the least that the draws
    of the null have themselves. Shapes: found [..., k], drawn [draw, k]; returns p [...] and p_k [..., k].
    NaN: no k is defined.
    """
    ordered, n = np.sort(drawn, axis=0), len(drawn)

    def each(s: np.ndarray) -> np.ndarray:
        # Less a rounding: an S that the null reaches exactly counts as reached, which can only raise p.
        below = [np.searchsorted(ordered[:, i], s[..., i] - 1e-12) for i in range(s.shape[-1])]
        return np.where(np.isfinite(s), (1 + n - np.stack(below, axis=-1)) / (1 + n), np.nan)

    by_k = each(found)
    seen = np.isfinite(ordered[0])
    if seen.sum() < 2:
        return (by_k[..., seen][..., 0] if seen.any() else np.full(found.shape[:-1], np.nan)), by_k
    least = np.sort(each(drawn[:, seen]).min(axis=-1))
    return (1 + np.searchsorted(least, by_k[..., seen].min(axis=-1), side="right")) / (1 + n), by_k


def separation(
    values: np.ndarray,
    generator: np.random.Generator,
    *,
    n_draws: int = 20_000,
    null: Null = uniform_null,
    among: Sequence[int] = TWO,
) -> Separation:
    """S test of M values against uniform points (1, probability), for two groups or for the best of several numbers.

    p as `p_values`. Values that are NaN are left out and get group -1. Whoever tests many panels gives a `null` that
    keeps what it drew for each M.
    Shapes: values [M]. NaN with a reason: fewer than four defined values; all values equal.
    Keeps: shift and scale of the values. Moves with: M (small panels have little power: see `power`).
    """
    values = np.asarray(values, float)
    seen = np.isfinite(values)
    m, least = int(seen.sum()), SMALLEST_GROUP * min(among)
    if m < least:
        return _undefined(values, m, f"{m} values where {min(among)} groups of two need {least}")
    found = shares(values[seen], among)
    if np.isnan(found).all():
        return _undefined(values, m, "all values are equal")
    drawn = null(m, generator, n_draws=n_draws, among=tuple(among))
    p, by_k = p_values(found, drawn)
    best = int(np.nanargmin(by_k))
    _, ends = best_partition(values[seen], among[best])
    groups = np.full(len(values), -1)
    rank = np.argsort(np.argsort(values[seen], kind="stable"), kind="stable")
    groups[seen] = np.searchsorted(ends, rank, side="right")
    level = np.quantile(np.nanmin(p_values(drawn, drawn)[1], axis=-1), 0.05) if len(among) > 1 else 0.05
    return Separation(
        float(found[best]),
        float(p),
        proportion_interval(round(float(p) * (1 + n_draws)) - 1, n_draws),
        float(np.quantile(drawn[:, best], 1 - level)),
        tuple(int(g) for g in groups),
        m,
        k=among[best],
    )


def _undefined(values: np.ndarray, m: int, reason: str) -> Separation:
    nan = math.nan
    return Separation(nan, nan, undefined_interval(reason), nan, groups=(-1,) * len(values), m=m, reason=reason)


def grouped(
    m: int, gap: float, generator: np.random.Generator, *, sizes: Sequence[int] = (), n_draws: int = 20_000
) -> np.ndarray:
    """Panels of M values in Gaussian groups whose neighbouring means lie `gap` apart (within-group SDs): [n_draws, M].

    `sizes` are those of the groups from the highest down (default: two groups, three eighths of the models in the
    upper one, as three of the published eight).
    """
    sizes = sizes or (upper := max(SMALLEST_GROUP, round(m * 3 / 8)), m - upper)
    level = np.repeat(np.arange(len(sizes))[::-1], sizes)
    return generator.standard_normal((n_draws, m)) + gap * level


def even(m: int, k: int) -> tuple[int, ...]:
    """Sizes of k groups of M models, as equal as they can be (count)."""
    return tuple(m // k + (i < m % k) for i in range(k))


def power(
    m: int,
    gap: float,
    generator: np.random.Generator,
    *,
    level: float = 0.05,
    n_draws: int = 20_000,
    among: Sequence[int] = TWO,
    groups: int = 2,
) -> float:
    """Probability that the S test finds Gaussian groups whose neighbours lie `gap` within-group SDs apart (1).

    Two groups: three eighths of the models (at least two) in the smaller one, as three of the published eight; equal
    groups are found more often (.54 / .87 / .98 against .50 / .84 / .97 at 6 / 8 / 10 SD for M = 8), the most unequal
    ones less often. More groups: of equal size. NaN for M < 2 groups: no test exists.
    """
    if m < SMALLEST_GROUP * groups:
        return math.nan
    x = grouped(m, gap, generator, sizes=() if groups == 2 else even(m, groups), n_draws=n_draws)
    found = p_values(shares(x, among), uniform_null(m, generator, n_draws=n_draws, among=among))[0]
    return float((found <= level).mean())


def largest_p(
    m: int, gap: float, generator: np.random.Generator, *, among: Sequence[int] = TWO, n_draws: int = 4_000
) -> float:
    """The p that 95 % of panels with groups `gap` SDs apart stay below, whatever the sizes of the groups (probability).

    A larger p excludes such groups, with an error of 5 % at most: the largest over each number of groups of `among`,
    and over groups of equal size and those in which one (first, second, ...) holds all that the others can spare.
    NaN for M < 4.
    """
    drawn, found = uniform_null(m, generator, n_draws=n_draws, among=among), [math.nan]
    for k in (k for k in among if m >= SMALLEST_GROUP * k):
        spare = m - SMALLEST_GROUP * k
        uneven = [tuple(SMALLEST_GROUP + spare * (i == j) for i in range(k)) for j in range(k)]
        for sizes in {even(m, k), *uneven}:
            x = grouped(m, gap, generator, sizes=sizes, n_draws=n_draws)
            found.append(float(np.quantile(p_values(shares(x, among), drawn)[0], 0.95)))
    return float(np.nanmax(found)) if len(found) > 1 else math.nan


def models_for_power(
    gap: float,
    generator: np.random.Generator,
    *,
    wanted: float = 0.8,
    most: int = 40,
    n_draws: int = 8_000,
    among: Sequence[int] = TWO,
) -> int | None:
    """Least number of models at which the S test has the wanted power for groups `gap` SD apart; None beyond `most`."""
    for m in range(SMALLEST_PANEL, most + 1):
        if power(m, gap, generator, n_draws=n_draws, among=among) >= wanted:
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
