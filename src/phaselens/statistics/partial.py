"""Rank correlation beyond covariates, over clusters (documents, prompts) that are resampled whole."""

import math
from itertools import combinations_with_replacement

import numpy as np
from scipy import stats


def rank_residuals(values: np.ndarray, covariates: np.ndarray, *, groups: np.ndarray | None = None) -> np.ndarray:
    """Ranks of values less what the ranks of the covariates say of them (1): [..., n], covariates [n, k] -> [..., n].

    Ranks are scaled to -1..1; the fit is least squares on all their products up to the third order and their powers up
    to the fifth, since a probe may read a covariate along a curve. With `groups` [n] the mean of each group is taken
    out of ranks and products first.
    Shapes: all finite. NaN: fewer rows than twice the number of terms.
    """
    n = np.shape(values)[-1]

    def ranked(x: np.ndarray) -> np.ndarray:
        return 2 * (stats.rankdata(x, axis=-1) - 0.5) / n - 1

    base = ranked(np.asarray(covariates, float).T)
    orders = [c for degree in (1, 2, 3) for c in combinations_with_replacement(range(len(base)), degree)]
    orders += [(i,) * degree for i in range(len(base)) for degree in (4, 5)]
    design = np.stack([np.ones(n), *(np.prod(base[list(c)], axis=0) for c in orders)], axis=1)
    y = ranked(np.atleast_2d(np.asarray(values, float))).T
    if n < 2 * design.shape[1]:
        return np.full(np.shape(values), math.nan)
    if groups is not None:
        _, place = np.unique(groups, return_inverse=True)
        count = np.bincount(place)[:, None]
        design, y = (x - _sums(x, place, len(count))[place] / count[place] for x in (design, y))
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return left.T.reshape(np.shape(values))


def _sums(values: np.ndarray, place: np.ndarray, n: int) -> np.ndarray:
    out = np.zeros((n, values.shape[1]))
    np.add.at(out, place, values)
    return out


def clustered_correlation(
    x: np.ndarray, y: np.ndarray, cluster: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Correlation of residuals (1), and in each resample of clusters: x, y [n], weights [B, cluster] -> float, [B].

    NaN: one of the two does not vary. The residuals are held: with thousands of rows their fit hardly moves.
    """
    n = weights.shape[1]
    sums = np.stack([np.bincount(cluster, v, minlength=n) for v in (x * y, x * x, y * y)])

    def r(parts: np.ndarray) -> np.ndarray | np.float64:
        with np.errstate(invalid="ignore", divide="ignore"):
            return parts[0] / np.sqrt(parts[1] * parts[2])

    return float(r(sums.sum(axis=1))), np.asarray(r(np.stack([weights @ s for s in sums])))
