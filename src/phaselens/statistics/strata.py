"""Regressions and correlations within strata: what is left where the stratum (kind of question, arm) cannot tell.

A score and the share of wrong answers both move with the kind of question. Without constants for the strata a rule
supports in 28 to 100 % of studies in which nothing goes together within any of them.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.stats import rankdata

from phaselens.statistics.intervals import Interval, undefined_interval

ROUNDING = 1e-12


def crossed(*labels: np.ndarray) -> np.ndarray:
    """One number for every combination of labels that occurs: [n] each -> int [n]."""
    return np.unique(np.stack([np.asarray(one).astype(str) for one in labels]), axis=1, return_inverse=True)[1].ravel()


def coefficient_within(
    x: np.ndarray, y: np.ndarray, stratum: np.ndarray, unit: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """First coefficient of least squares with a constant per stratum, in each resample (unit of y per unit of x).

    Shapes: x [run, column], y [run], stratum and unit int [run], weights [n_boot, unit] -> [n_boot].
    Keeps: another constant in each stratum, of x or of y. NaN: nothing varies within the strata.
    """
    constants = np.asarray(stratum)[:, None] == np.unique(stratum)
    design = np.column_stack([x, constants]).astype(float)
    xx = np.zeros((weights.shape[1], design.shape[1], design.shape[1]))
    xy = np.zeros((weights.shape[1], design.shape[1]))
    np.add.at(xx, unit, design[:, :, None] * design[:, None, :])
    np.add.at(xy, unit, design * np.asarray(y, float)[:, None])
    a = np.tensordot(np.asarray(weights, float), xx, 1)
    own = a[:, 0, 0] - (
        a[:, 0, x.shape[1] :] ** 2 / np.maximum(np.einsum("bss->bs", a[:, x.shape[1] :, x.shape[1] :]), 1)
    ).sum(1)
    found = np.linalg.solve(a + 1e-9 * np.eye(design.shape[1]), (weights @ xy)[..., None])[:, 0, 0]
    return np.where(own > ROUNDING * np.maximum(a[:, 0, 0], 1), found, np.nan)


def rank_correlation_within(x: np.ndarray, y: np.ndarray, stratum: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlation of ranks within strata, pooled over them, in each resample (1).

    Ranks are taken within the stratum and divided by its size; `sum_s cov_s / sqrt(sum_s var_s(x) sum_s var_s(y))`.
    Shapes: [run] each, weights [n_boot, run] -> [n_boot]. With one stratum it is Spearman's.
    NaN: one of the two does not vary within any stratum. Keeps: any rising map of either, another in every stratum.
    """
    ranks = np.zeros((2, len(stratum)))
    member = np.asarray(stratum)[:, None] == np.unique(stratum)
    for mine in member.T:
        ranks[:, mine] = rankdata([np.asarray(v, float)[mine] for v in (x, y)], axis=1) / mine.sum()
    w = np.asarray(weights, float)
    n, sx, sy, sxx, syy, sxy = (
        w @ (member * v[:, None]) for v in (np.ones(ranks.shape[1]), *ranks, *ranks**2, ranks[0] * ranks[1])
    )
    n = np.maximum(n, 1)
    spread = [(s2 - s**2 / n).sum(1) for s, s2 in ((sx, sxx), (sy, syy))]
    seen = np.minimum(*spread) > ROUNDING * np.maximum(w.sum(1), 1)
    both = (sxy - sx * sy / n).sum(1)
    return np.divide(both, np.sqrt(np.abs(spread[0] * spread[1])), out=np.full(len(w), np.nan), where=seen)


@dataclass(frozen=True)
class RandomEffects:
    """Mean over models such as these with its interval, and the spread `tau` between them (unit of the values)."""

    mean: float
    interval: Interval
    tau: float


def random_effects(values: np.ndarray, variances: np.ndarray, *, level: float = 0.95) -> RandomEffects:
    """Random-effects mean with an interval that knows how models differ (unit of the values).

    DerSimonian and Laird's tau; Hartung and Knapp's variance, never below the one of tau alone, and t of M - 1.
    Shapes: [model] each, finite. NaN: fewer than two models. Source: Hartung and Knapp 2001, doi:10.1002/sim.1009.
    """
    y, v = np.asarray(values, float), np.maximum(np.asarray(variances, float), 1e-12)
    m = len(y)
    if m < 2:
        return RandomEffects(
            float(y[0]) if m else math.nan, undefined_interval(f"fewer than two models ({m})"), math.nan
        )
    w = 1 / v
    fixed = (w * y).sum() / w.sum()
    tau2 = max(0.0, ((w * (y - fixed) ** 2).sum() - (m - 1)) / (w.sum() - (w**2).sum() / w.sum()))
    w = 1 / (v + tau2)
    mean = float((w * y).sum() / w.sum())
    scale = max(1.0, float((w * (y - mean) ** 2).sum()) / (m - 1))
    half = float(stats.t.ppf((1 + level) / 2, m - 1)) * math.sqrt(scale / w.sum())
    return RandomEffects(mean, Interval(mean - half, mean + half, level), math.sqrt(tau2))
