"""Correlations and shares over models that come in clusters (checkpoints of one training), resampled as a whole."""

import math
from dataclasses import dataclass

import numpy as np
from scipy import stats

from phaselens.statistics.intervals import Interval, undefined_interval
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


def pooled_correlation(
    x: np.ndarray, y: np.ndarray, cluster: np.ndarray, limit: float
) -> tuple[float, Interval, tuple[float, float]]:
    """Fisher's z of the correlation within clusters, all pooled (1), its interval, and p of |z| at or beyond `limit`.

    x and y are centred within clusters; the error is the jackknife over clusters, with Student's t. The two p are
    one-sided, against z <= -limit and z >= limit. Shapes: x, y, cluster [row], finite. NaN: fewer than two clusters,
    or nothing varies within. Source: Tukey 1958 (jackknife), Fisher 1921.
    """
    _, place = np.unique(np.asarray(cluster).astype(str), return_inverse=True)
    member = np.eye(place.max() + 1)[place]
    dx, dy = (v - member @ ((v @ member) / member.sum(0)) for v in (np.asarray(x, float), np.asarray(y, float)))
    xx, yy, xy = (a @ member for a in (dx * dx, dy * dy, dx * dy))
    n = member.shape[1]

    def z(kept: np.ndarray) -> np.ndarray | np.float64:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.arctanh(np.clip(kept @ xy / np.sqrt((kept @ xx) * (kept @ yy)), -1 + 1e-9, 1 - 1e-9))

    whole, without = float(z(np.ones(n))), z(np.ones((n, n)) - np.eye(n))
    pseudo = n * whole - (n - 1) * without
    error = float(np.std(pseudo, ddof=1) / math.sqrt(n)) if n > 1 else math.nan
    if not error > 0:
        return whole, undefined_interval("fewer than two clusters, or they do not vary"), (math.nan, math.nan)
    half = float(stats.t.ppf(0.975, n - 1)) * error
    tails = (stats.t.sf((whole + limit) / error, n - 1), stats.t.cdf((whole - limit) / error, n - 1))
    return whole, Interval(whole - half, whole + half), (float(tails[0]), float(tails[1]))


@dataclass(frozen=True, eq=False)
class ShareGiven:
    """Partial R^2 of the groups given a covariate, its values under the null [n_permutations], and the semi-partial R^2
    of the covariate given the groups with its interval (1).
    """

    share: float
    null: np.ndarray
    covariate: float
    interval: Interval


def share_given(
    values: np.ndarray,
    group: np.ndarray,
    covariate: np.ndarray,
    stratum: np.ndarray,
    generator: np.random.Generator,
    *,
    n_permutations: int = 9999,
) -> ShareGiven:
    """What groups explain of values beyond a covariate and strata (1), with its permutation null.

    Null of Freedman and Lane: residuals of the regression on strata and covariate alone are exchanged within strata and
    put back. The covariate's own part is its semi-partial R^2 given groups and strata; its interval is Fisher's z of
    the partial correlation, turned into that share. Shapes: all [row]. NaN: nothing varies.
    Source: Freedman and Lane 1983; Winkler et al. 2014.
    """
    y = np.asarray(values, float)
    strata, groups = (np.eye(len(np.unique(v)))[np.unique(v, return_inverse=True)[1]] for v in (stratum, group))
    size = (np.asarray(covariate, float) - np.mean(covariate))[:, None]

    def projector(*parts: np.ndarray) -> tuple[np.ndarray, int]:
        basis, spread, _ = np.linalg.svd(np.concatenate(parts, axis=1), full_matrices=False)
        basis = basis[:, spread > 1e-9 * spread.max()]
        return basis @ basis.T, basis.shape[1]

    (null, _), (grouped, rank), (whole, _) = (
        projector(strata, size),
        projector(strata, groups),
        projector(strata, groups, size),
    )

    def error(v: np.ndarray, onto: np.ndarray) -> np.ndarray | np.float64:
        return ((v - v @ onto) ** 2).sum(-1)

    def share(v: np.ndarray) -> np.ndarray | np.float64:
        with np.errstate(divide="ignore", invalid="ignore"):
            return 1 - error(v, whole) / error(v, null)

    fitted, order = y @ null, np.argsort(np.unique(stratum, return_inverse=True)[1], kind="stable")
    moved = np.tile(y - fitted, (n_permutations, 1))
    for rows in np.split(order, np.cumsum(strata.sum(0).astype(int))[:-1]):
        moved[:, rows] = generator.permuted(moved[:, rows], axis=1)
    of_groups, total = float(error(y, grouped)), float(((y - y.mean()) ** 2).sum())
    own, interval = math.nan, undefined_interval("nothing varies, or too few models")
    if of_groups > 1e-12 * total > 0 and len(y) - rank > 2:
        part = 1 - float(error(y, whole)) / of_groups
        z, half = math.atanh(math.sqrt(min(part, 1 - 1e-12))), 1.959964 / math.sqrt(len(y) - rank - 2)
        lo, hi = math.tanh(max(z - half, 0.0)) ** 2, math.tanh(z + half) ** 2
        own, interval = part * of_groups / total, Interval(lo * of_groups / total, hi * of_groups / total)
    return ShareGiven(float(share(y)), np.asarray(share(fitted + moved)), own, interval)
