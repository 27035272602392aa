"""Agreement about the same things: between two groupings, two distance matrices, or several orders."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from phaselens.errors import InputError
from phaselens.statistics.permutation import permutation_p, permutation_test


def adjusted_rand(first: ArrayLike, second: ArrayLike) -> float:
    """Adjusted Rand index of two groupings (1): 1 = same grouping whatever the labels, 0 = as by chance.

    `(sum C(n_ij,2) - E) / ((sum C(a_i,2) + sum C(b_j,2)) / 2 - E)`, `E = sum C(a_i,2) sum C(b_j,2) / C(n,2)`.
    Shapes: two [n] of labels. NaN: fewer than two things. Two groupings that are both trivial (all one, or all apart)
    in the same way give 1. Keeps: relabelling. Raises InputError if lengths differ. Source: Hubert and Arabie 1985.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"two groupings of the same things are needed; got shapes {first.shape} and {second.shape}.")
    n = len(first)
    if n < 2:
        return math.nan
    table = np.zeros((len(np.unique(first)), len(np.unique(second))))
    np.add.at(table, (np.unique(first, return_inverse=True)[1], np.unique(second, return_inverse=True)[1]), 1)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    expected = rows * columns / (n * (n - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def grouping_agreement(
    first: np.ndarray, second: np.ndarray, generator: np.random.Generator, *, n_permutations: int = 2000
) -> tuple[float, float]:
    """Adjusted Rand index of two groupings, and its permutation p (1, probability): do they agree more than by chance?

    The labels of the second move freely over the things, so sizes of groups are kept. NaN: as `adjusted_rand`.
    """
    value = adjusted_rand(first, second)
    if math.isnan(value):
        return value, math.nan
    p, _ = permutation_test(lambda moved: adjusted_rand(first, moved), second, generator, n_permutations=n_permutations)
    return value, p


def mantel(
    first: np.ndarray, second: np.ndarray, generator: np.random.Generator, *, n_permutations: int = 2000
) -> tuple[float, float]:
    """Correlation of two distance matrices of the same things, and its one-sided permutation p (1, probability).

    Pearson over pairs i < j; the null moves rows and columns of the second together.
    Shapes: two symmetric [n, n]. NaN: fewer than three things, or one matrix without spread. Keeps: shift and scale of
    either. Raises InputError if shapes differ. Source: Mantel 1967.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] != first.shape[1]:
        raise InputError(f"two distance matrices of the same things are needed; got {first.shape}, {second.shape}.")
    n = len(first)
    upper = np.triu_indices(n, 1)
    x, y = first[upper], second[upper]
    if n < 3 or not (np.ptp(x) > 0 and np.ptp(y) > 0):
        return math.nan, math.nan
    x = (x - x.mean()) / (x.std() * len(x))
    order = np.stack([np.arange(n), *(generator.permutation(n) for _ in range(n_permutations))])
    moved = second[order[:, upper[0]], order[:, upper[1]]]
    r = (moved - y.mean()) @ x / y.std()
    return float(r[0]), permutation_p(float(r[0]), r[1:])


def intraclass_correlation(
    values: np.ndarray, weights: np.ndarray | None = None, *, kind: str = "absolute"
) -> np.ndarray:
    """Share of the variance of single values that lies between rows (1), at most 1, in each resample of the columns.

    Rows are what is to be told apart (models), columns what it is measured with (prompts). `absolute`: ICC(A,1),
    `(R - E) / (R + (k-1) E + k (C - E) / n)` of the mean squares of rows, columns and rest, n rows, k columns;
    `consistency`: ICC(C,1), the same without the last term of the divisor; `one_way`: ICC(1), columns pooled with the
    rest. Shapes: values [row, column], weights int [n_boot, column] (None: one resample, the sample itself) ->
    [n_boot]. NaN: a value is NaN, fewer than two rows or columns, or no spread. May be below 0.
    Source: McGraw and Wong 1996.
    """
    y = np.asarray(values, float)
    if y.ndim != 2 or kind not in ("absolute", "consistency", "one_way"):
        raise InputError(f"got values of shape {y.shape} and kind {kind!r}; see the docstring for what is wanted.")
    n, k = y.shape
    w = np.ones((1, k)) if weights is None else np.asarray(weights, float)
    if n < 2 or k < 2:
        return np.full(len(w), np.nan)
    y = y - y.mean()
    of_rows, of_columns = w @ y.T / k, y.mean(axis=0)
    grand = of_rows.mean(axis=1)
    rows = k * ((of_rows - grand[:, None]) ** 2).sum(axis=1)
    columns = n * (w * (of_columns - grand[:, None]) ** 2).sum(axis=1)
    rest = np.maximum(w @ (y**2).sum(axis=0) - n * k * grand**2 - rows - columns, 0.0)
    between, by_column, error = rows / (n - 1), columns / (k - 1), rest / ((n - 1) * (k - 1))
    if kind == "one_way":
        error = (columns + rest) / (n * (k - 1))
    bottom = between + (k - 1) * error + (k * (by_column - error) / n if kind == "absolute" else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, (between - error) / bottom, np.nan)


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2


def kendall_w(values: np.ndarray) -> np.ndarray | np.float64:
    """Kendall's coefficient of concordance of judges over things (1), in [0, 1], corrected for ties.

    `W = 12 sum_i (R_i - mean R)^2 / (m^2 (n^3 - n) - m sum_j sum (t^3 - t))`, R_i the sum of the m judges' ranks of
    thing i, t the sizes of ties. Shapes: values [..., judge, thing] -> [...]. 1: all orders equal.
    NaN: fewer than two judges or things, an undefined value, or all judges tie everything.
    Keeps: a monotone map of each judge's values. Source: Kendall and Smith 1939.
    """
    values = np.asarray(values, float)
    m, n = values.shape[-2:]
    if m < 2 or n < 2 or not values.size:
        return np.full(values.shape[:-2], np.nan)[()]
    seen = np.isfinite(values).all(axis=(-1, -2))
    ranks = rankdata(np.where(seen[..., None, None], values, 0.0), axis=-1)
    spread = ((ranks.sum(axis=-2) - m * (n + 1) / 2) ** 2).sum(axis=-1)
    # sum of t^3 - t over ties, from the spread of the ranks that ties take away
    most = m * (((ranks - (n + 1) / 2) ** 2).sum(axis=(-1, -2)))
    return np.divide(spread, most, out=np.full(spread.shape, np.nan), where=seen & (most > 0))[()]
