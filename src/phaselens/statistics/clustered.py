"""Correlations over models that come in clusters (checkpoints of one training), which move together when resampled."""

import math

import numpy as np

from phaselens.statistics.resampling import bootstrap_weights


def correlation_gap(
    y: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    cluster: np.ndarray,
    generator: np.random.Generator,
    *,
    covariate: np.ndarray | None = None,
    n_boot: int = 2000,
) -> tuple[float, np.ndarray]:
    """How much closer y goes with the first variable than with the second (1): `|r(y, first)| - |r(y, second)|`.

    Shapes: y, first, second, covariate [row], finite; cluster [row] (any labels); returns the gap and its draws
    [n_boot], whole clusters resampled. With a `covariate` all three are replaced by their residuals on it, in every
    resample anew. NaN: one of them does not vary. Source: Dunn and Clark 1969 for the quantity; the bootstrap over
    clusters is that of Field and Welsh 2007.
    """
    columns = [np.asarray(v, float) for v in (y, first, second)]
    names, place = np.unique(np.asarray(cluster).astype(str), return_inverse=True)
    weights = bootstrap_weights(len(names), generator, n_boot=n_boot)[:, place].astype(float)
    return float(_gap(columns, covariate, np.ones((1, len(place))))[0]), _gap(columns, covariate, weights)


def _gap(columns: list[np.ndarray], covariate: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """The gap under each row of weights: [draw]."""
    y, first, second = (_residual(c, covariate, weights) for c in columns)
    return np.abs(_correlation(y, first, weights)) - np.abs(_correlation(y, second, weights))


def _residual(values: np.ndarray, covariate: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
    """Weighted residuals of the values on the covariate: [draw, row]; centred values where there is none."""
    centred = values - (weights @ values / weights.sum(1))[:, None]
    if covariate is None:
        return centred
    x = np.asarray(covariate, float)
    x = x - (weights @ x / weights.sum(1))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (weights * x * centred).sum(1) / (weights * x * x).sum(1)
    return centred - np.where(np.isfinite(slope), slope, 0.0)[:, None] * x


def _correlation(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted correlation of centred rows: [draw]; NaN where one does not vary."""
    spread = (weights * a * a).sum(1) * (weights * b * b).sum(1)
    out = np.full(len(weights), math.nan)
    return np.divide((weights * a * b).sum(1), np.sqrt(spread), out=out, where=spread > 1e-24)


def share_between(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Share of the variance of values that lies between groups (1): eta^2 = between / total sum of squares.

    Shapes: values [..., n], finite; group [n]; returns [...]. NaN: no variation. Source: Fisher 1925.
    """
    values = np.asarray(values, float)
    names, place = np.unique(np.asarray(group).astype(str), return_inverse=True)
    member = np.eye(len(names))[place]
    centred = values - values.mean(-1, keepdims=True)
    between = ((centred @ member) ** 2 / member.sum(0)).sum(-1)
    total = (centred**2).sum(-1)
    return np.divide(between, total, out=np.full(total.shape, math.nan), where=total > 0)


def permuted_shares(
    values: np.ndarray, group: np.ndarray, generator: np.random.Generator, *, n_permutations: int = 9999
) -> np.ndarray:
    """Shares between groups when the values are dealt to the rows anew (1): [n_permutations]. As `share_between`."""
    return share_between(generator.permuted(np.tile(np.asarray(values, float), (n_permutations, 1)), axis=1), group)
