"""Intervals of variance shares: prompts resampled within category, models too where they stand for others.

A resample is a row of counts, so the mean squares of all resamples come from a few matrix products.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError, unknown_name
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.variance import TERMS, Components, Design, balanced, components, solve_components


@dataclass(frozen=True, eq=False)
class ShareEstimate:
    """A weighted sum of variance shares (1), its bootstrap-t interval, standard error, and the draws [n_boot].

    `errors` [n_boot] are the standard errors of the draws, computed anew in every resample.
    """

    value: float
    interval: Interval
    error: float
    draws: np.ndarray
    components: Components
    errors: np.ndarray

    def p(self, bound: float) -> float:
        """Two-sided p-value of "the sum is `bound`": the level at which the bootstrap-t interval ends there (1).

        `2 min(#{t* >= t}, #{t* <= t})`, counted with the sample itself, over n + 1. NaN: where the interval is.
        """
        if self.interval.reason:
            return math.nan
        t = _pivots(self.value, self.draws, self.errors)
        at = (self.value - bound) / self.error
        return float(min(1.0, 2 * (1 + min((t >= at).sum(), (t <= at).sum())) / (1 + len(t))))


def prompt_weights(design: Design, generator: np.random.Generator, n_boot: int) -> np.ndarray:
    """How often each prompt is drawn within its category (counts), int64 [n_boot, category, prompt]."""
    flat = bootstrap_weights(design.prompts, generator, n_boot=n_boot * design.categories)
    return flat.reshape(n_boot, design.categories, design.prompts)


def resampled_mean_squares(
    y: np.ndarray, weights: np.ndarray, *, model_weights: np.ndarray | None = None, corrected: bool = True
) -> np.ndarray:
    """Mean squares of the six terms in each resample (squared unit of y), [n_boot, 6].

    Copies of a prompt carry no spread, so resampling shrinks and mixes the mean squares. With `a = (P-1)/P`,
    `b = (M-1)/M` where models are resampled too (else b = 1 as a factor and 0 as an addition), a resample expects

        model:prompt   a b MP             model            b (M + a MP)
        prompt         a (P + b MP)       model:category   b (MC + a MP)
        category       C + b MC + a (P + b MP)             residual   E

    (the shrinkage is that of the variance of n draws with replacement, (n-1)/n; the additions are the variance that
    the resampled means gain). `corrected` solves these for M, C, MC, P, MP, E in each resample, so that the draws of
    every component are centred on its estimate; without it the cell terms lie (P-1)/P too low, and the residual's
    part in them pulls model:prompt down by MP / (P R).
    Shapes: y [model, category, prompt, seed]; weights [n_boot, category, prompt]; model_weights [n_boot, model].
    NaN: terms that are not separable. Raises InputError for fewer than two prompts per category.
    """
    cell, within, design = _cells(y)
    if design.prompts < 2:
        raise InputError("a bootstrap over prompts needs two prompts per category; got 1.")
    m_, c_, p_, r_ = design.models, design.categories, design.prompts, design.seeds
    v = np.ones((1, m_)) if model_weights is None else np.asarray(model_weights, float)
    w = np.asarray(weights, float)
    x, mc, m, c, g = _resampled_means(cell, w, v)
    over_models = (v @ (cell**2).reshape(m_, -1)).reshape(-1, c_, p_) - m_ * x**2
    squares = np.stack(
        [
            c_ * p_ * r_ * (v * (m - g[:, None]) ** 2).sum(axis=1),
            m_ * p_ * r_ * ((c - g[:, None]) ** 2).sum(axis=1),
            p_ * r_ * (v[..., None] * (mc - m[..., None] - c[:, None] + g[:, None, None]) ** 2).sum(axis=(1, 2)),
            m_ * r_ * (w * (x - c[..., None]) ** 2).sum(axis=(1, 2)),
            r_ * ((w * over_models).sum(axis=(1, 2)) - p_ * (v[..., None] * (mc - c[:, None]) ** 2).sum(axis=(1, 2))),
            (w * (v @ within.reshape(m_, -1)).reshape(-1, c_, p_)).sum(axis=(1, 2)),
        ],
        axis=1,
    )
    if r_ == 1:
        squares[:, 5], squares[:, 4] = squares[:, 4], 0.0
    df = design.df
    squares = np.divide(squares, df, out=np.zeros(squares.shape), where=df > 0)
    if corrected:
        squares = squares @ _correction(design, model_weights is not None).T
    return np.where(df > 0, squares, np.nan)


def share_interval(
    y: np.ndarray,
    of: Mapping[str, float],
    generator: np.random.Generator,
    *,
    population: str = "these",
    n_boot: int = 2000,
    level: float = 0.95,
) -> ShareEstimate:
    """A weighted sum of variance shares with its bootstrap-t interval over prompts within category (1).

    `of` names terms with their weights: `{"category": 1, "model": -1}` is the difference of the two shares,
    `{"residual": 1}` one share. Interval `[v - t_{1-a/2} e, v - t_{a/2} e]`, where t are the quantiles of
    `(v* - v) / e*` over the corrected resamples and e the infinitesimal-jackknife error over prompts, which is
    computed anew in every resample. Percentile intervals cover 80 % at four prompts.
    NaN, with a reason: fewer than two prompts per category, a named term that is not separable, total variance not
    above 0. Raises UnknownNameError for a term. Source: Efron and Tibshirani 1993, chapter 12 and 21; Davison and
    Hinkley 1997, 2.4.
    """
    for name in of:
        if name not in TERMS:
            raise unknown_name("term", name, TERMS)
    est = components(y, population=population)
    design = est.design
    vector = np.array([of.get(t, 0.0) for t in TERMS])
    lost = [r for r, n in zip(est.reason, vector, strict=True) if r and n]
    value = float(np.nansum(est.shares * vector)) if not lost and np.isfinite(est.shares).any() else math.nan
    if lost or design.prompts < 2 or not math.isfinite(value):
        why = lost[0] if lost else "fewer than two prompts per category" if design.prompts < 2 else "no variance"
        nothing = np.full(n_boot, np.nan)
        return ShareEstimate(value, undefined_interval(why, level), math.nan, nothing, est, nothing)
    weights = prompt_weights(design, generator, n_boot)
    draws, errors = _share_and_error(y, weights, vector, population, corrected=True)
    error = float(_share_and_error(y, np.ones((1, *weights.shape[1:])), vector, population, corrected=False)[1][0])
    return ShareEstimate(value, studentised(value, error, draws, errors, level), error, draws, est, errors)


def share_draws(
    y: np.ndarray,
    generator: np.random.Generator,
    *,
    population: str = "sampled",
    models: bool = True,
    n_boot: int = 2000,
) -> np.ndarray:
    """Shares of the six terms in each resample of prompts within category and, if `models`, of models too (1).

    The multiway bootstrap for models that stand for others; corrected as `resampled_mean_squares`.
    Shapes: y [model, category, prompt, seed] -> [n_boot, 6]. NaN: terms that are not separable; a resample whose total
    is not above 0. Source: Owen 2007, "The pigeonhole bootstrap" (for the factors; the correction is derived here).
    """
    design = balanced(y)[1]
    weights = prompt_weights(design, generator, n_boot)
    drawn = bootstrap_weights(design.models, generator, n_boot=n_boot) if models else None
    values = solve_components(resampled_mean_squares(y, weights, model_weights=drawn), design, population)
    return Components(values, design, population, "bootstrap", ("",) * 6).shares


def studentised(value: float, error: float, draws: np.ndarray, errors: np.ndarray, level: float) -> Interval:
    """Bootstrap-t interval from draws and their standard errors (unit of the value).

    NaN, with a reason: the error of the estimate is 0, or fewer than 90 % of the draws have a value and an error.
    """
    if not error > 0:
        return undefined_interval("the standard error of the estimate is 0", level)
    t = _pivots(value, draws, errors)
    if len(t) < 0.9 * len(draws):
        return undefined_interval(f"only {len(t) / len(draws):.0%} of the resamples are defined", level)
    lo, hi = np.quantile(t, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(value - hi * error), float(value - lo * error), level)


def _pivots(value: float, draws: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Studentised draws (1), those that are defined."""
    t = np.divide(draws - value, errors, out=np.full(draws.shape, np.nan), where=errors > 0)
    return t[np.isfinite(t)]


def _cells(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, Design]:
    """Cell means about the grand mean and squares within cells, both [model, category, prompt]."""
    y, design = balanced(y)
    y = y - y.mean()
    cell = y.mean(axis=-1)
    return cell, ((y - cell[..., None]) ** 2).sum(axis=-1), design


def _resampled_means(cell: np.ndarray, w: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means over models [b,c,p], over prompts [b,m,c], and over both and over categories [b,m], [b,c], [b]."""
    m_, c_, p_ = cell.shape
    x = (v @ cell.reshape(m_, -1)).reshape(-1, c_, p_) / m_
    mc = np.einsum("mcp,bcp->bmc", cell, w, optimize=True) / p_
    c = (v[..., None] * mc).sum(axis=1) / m_
    return x, mc, mc.mean(axis=-1), c, c.mean(axis=-1)


def _correction(design: Design, models: bool) -> np.ndarray:
    """Matrix [6, 6] that takes the mean squares of a resample to what they would be without copies."""
    p, m = design.prompts, design.models
    a = (p - 1) / p
    b, add = ((m - 1) / m, (m - 1) / m) if models and m > 1 else (1.0, 0.0)
    expects = np.array(
        [
            [b, 0, 0, 0, b * a, 0],
            [0, 1, add, a, a * add, 0],
            [0, 0, b, 0, b * a, 0],
            [0, 0, 0, a, a * add, 0],
            [0, 0, 0, 0, a * b, 0],
            [0, 0, 0, 0, 0, 1],
        ]
    )
    if design.seeds == 1:  # the model:prompt mean square goes by the name of the residual
        expects[:, 5], expects[5], expects[:, 4], expects[4] = expects[:, 4], 0, 0, 0
        expects[5, 5], expects[4, 4] = a * b, 1.0
    out = np.full((6, 6), 0.0)
    keep = np.flatnonzero(design.separable)
    out[np.ix_(keep, keep)] = np.linalg.inv(expects[np.ix_(keep, keep)])
    return out


def _share_and_error(
    y: np.ndarray, weights: np.ndarray, vector: np.ndarray, population: str, *, corrected: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The weighted sum of shares in each resample and its infinitesimal-jackknife error over prompts, two [n_boot].

    `error^2 = sum_c sum_p w (d share / d prompt)^2 / (P (P-1))`, with the derivative of the mean squares along the
    weight of a prompt in `_influence` and the chain rule through the components.
    """
    design = balanced(y)[1]
    keep = np.flatnonzero(design.separable)
    squares = np.nan_to_num(resampled_mean_squares(y, weights, corrected=corrected))
    # identity columns: the linear map from mean squares to components
    linear = np.nan_to_num(solve_components(np.eye(6), design, population)).T
    fix = _correction(design, False) if corrected else np.eye(6)
    values = squares @ linear.T
    total = values[:, keep].sum(axis=1)
    total = np.where(total > 0, total, np.nan)
    share = values @ vector / total
    slope = ((vector - share[:, None] * design.separable) / total[:, None]) @ linear @ fix
    change = np.einsum("bcpk,bk->bcp", _influence(y, weights), slope)
    p = design.prompts
    return share, np.sqrt((weights * change**2).sum(axis=(1, 2)) / (p * (p - 1)))


def _influence(y: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Derivative of the six mean squares along each prompt of a resample, [n_boot, category, prompt, 6].

    Its weighted mean over the prompts of a category is 0.
    """
    cell, within, design = _cells(y)
    m_, c_, p_, r_ = design.models, design.categories, design.prompts, design.seeds
    w = np.asarray(weights, float)
    x, mc, m, c, g = _resampled_means(cell, w, np.ones((1, m_)))

    def along(direction: np.ndarray) -> np.ndarray:
        """`sum_m direction[b,m,c] (cell[m,c,p] - mc[b,m,c])`."""
        inner = np.einsum("bmc,mcp->bcp", direction, cell, optimize=True)
        return inner - (direction * mc).sum(axis=1)[..., None]

    def centred(square: np.ndarray) -> np.ndarray:
        return square - (w * square).sum(axis=2, keepdims=True) / p_

    spread, per_category = p_ / (p_ - 1), 1 / c_
    tilted = mc - c[:, None]
    residual = ((cell - x) ** 2).sum(axis=0) - 2 * np.einsum("bmc,mcp->bcp", tilted, cell - x, optimize=True)
    df = np.maximum(design.df, 1)
    parts = [
        2 * p_ * r_ / df[0] * along(np.broadcast_to((m - g[:, None])[..., None], mc.shape)),
        2 * m_ * p_ * r_ / df[1] * (c - g[:, None])[..., None] * (x - c[..., None]),
        2 * p_ * r_ / df[2] * along(mc - m[..., None] - c[:, None] + g[:, None, None]),
        per_category * spread * m_ * r_ * centred((x - c[..., None]) ** 2),
        per_category * spread * r_ / max(m_ - 1, 1) * centred(residual),
        per_category / max(m_ * (r_ - 1), 1) * centred(np.broadcast_to(within.sum(axis=0), w.shape)),
    ]
    if r_ == 1:
        parts[5], parts[4] = parts[4], np.zeros_like(parts[4])
    return np.stack([np.broadcast_to(part, w.shape) for part in parts], axis=-1)
