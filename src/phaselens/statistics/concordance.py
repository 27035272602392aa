"""Is the order of models the same in every category? Concordance against what the prompts' own noise allows."""

import math
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.agreement import kendall_w
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights


@dataclass(frozen=True, eq=False)
class OrderConsistency:
    """Kendall's W over categories (1), its ceiling, `gap` = ceiling - W with its interval, and how many prompts."""

    w: float
    ceiling: float
    gap: float
    interval: Interval
    n_prompts: int


def order_consistency(
    y: np.ndarray,
    generator: np.random.Generator,
    *,
    n_splits: int = 1000,
    n_boot: int = 2000,
    splits_per_draw: int = 10,
    level: float = 0.95,
) -> OrderConsistency:
    """Concordance of the models' order over categories (1), and the ceiling that prompt noise leaves.

    W of the category means; ceiling: mean W over splits of the same prompts into as many groups of the same size at
    random. gap = ceiling - W: 0 if categories order models as alike as random groups do. Interval: prompts resampled
    within category; in a resample all copies of a prompt go to one group of a split, else they would agree with
    themselves. Resampled means are noisier than the means and lower both W, so the draws are moved to the estimate.
    Shapes: y [model, category, prompt] (means over seeds). NaN, with a reason: fewer than two of any.
    """
    y = np.asarray(y, float)
    if y.ndim != 3 or not np.isfinite(y).all():
        raise InputError(f"y must be [model, category, prompt] without NaN; got shape {y.shape}.")
    m, c, p = y.shape
    if min(y.shape) < 2:
        why = f"needs two models, categories and prompts; got {y.shape}"
        return OrderConsistency(math.nan, math.nan, math.nan, undefined_interval(why, level), p)
    w = float(kendall_w(y.mean(axis=2).T))
    flat = y.reshape(m, c * p)
    ceiling = float(np.mean(_split_w(flat, np.ones((n_splits, c * p)), c, generator)))
    draws = np.empty(n_boot)
    for start in range(0, n_boot, 100):
        n = min(100, n_boot - start)
        weights = bootstrap_weights(p, generator, n_boot=n * c).reshape(n, c, p).astype(float)
        own = kendall_w(np.einsum("mcp,bcp->bcm", y, weights))
        repeated = np.repeat(weights.reshape(n, c * p), splits_per_draw, axis=0)
        split = _split_w(flat, repeated, c, generator).reshape(n, splits_per_draw)
        some = np.isfinite(split)
        mean = np.where(some, split, 0.0).sum(axis=1) / np.maximum(some.sum(axis=1), 1)
        draws[start : start + n] = np.where(some.any(axis=1), mean, np.nan) - own
    gap = ceiling - w
    return OrderConsistency(w, ceiling, gap, percentile_interval(draws - np.nanmean(draws) + gap, p, level=level), p)


def _split_w(flat: np.ndarray, weights: np.ndarray, n_groups: int, generator: np.random.Generator) -> np.ndarray:
    """W of one random split into equal groups per row of weights, [n, prompt] -> [n]. NaN: a group without weight."""
    n, total = weights.shape
    group = generator.random((n, total)).argsort(axis=1) % n_groups
    member = (group[:, None] == np.arange(n_groups)[:, None]) * weights[:, None]
    size = member.sum(axis=2, keepdims=True)
    means = np.divide(member @ flat.T, size, out=np.full((n, n_groups, len(flat)), np.nan), where=size > 0)
    return np.asarray(kendall_w(means))
