"""What held-out hits say about a layer: capacity, selectivity, AUROC, the peak along depth, and tests over layers.

Plain arrays: hits [layer, example] are 1, 0 or NaN (no label), and the unit of resampling is the group (prompt).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import bootstrap_weights, resampled_ratio, sums_by_unit


def majority_share(codes: np.ndarray) -> float:
    """Share of the most frequent class among labelled examples (1); NaN without labels. Shapes: codes int [example]."""
    known = np.asarray(codes)[np.asarray(codes) >= 0]
    return float(np.bincount(known).max() / len(known)) if len(known) else math.nan


def capacity(accuracy: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """How much of what the majority class leaves open a probe decides (1): 1 all, 0 nothing, negative less than that.

    `(acc - acc_majority) / (1 - acc_majority)`, no floor. Shapes: accuracy [...], codes int [example] (-1: no label).
    NaN: only one class has labels.
    """
    majority = majority_share(codes)
    if not majority < 1:
        return np.full(np.shape(accuracy), np.nan)
    return (np.asarray(accuracy, float) - majority) / (1 - majority)


def selectivity(accuracy: np.ndarray, control_accuracy: np.ndarray) -> np.ndarray:
    """Accuracy minus the mean accuracy on control tasks (1). Shapes: [layer] and [layer, draw] -> [layer].

    Only meaningful on folds whose word types are shared: on type-disjoint folds a control task cannot be learned.
    NaN: a control draw without accuracy. Source: Hewitt and Liang 2019.
    """
    return np.asarray(accuracy, float) - np.asarray(control_accuracy, float).mean(axis=-1)


def auroc(scores: np.ndarray, positive: np.ndarray) -> np.ndarray | np.float64:
    """Probability that a positive scores above a negative, ties half (1): 1 perfect, .5 chance.

    `(R_+ - n_+ (n_+ + 1) / 2) / (n_+ n_-)`, R_+ the rank sum of the positives. Shapes: scores [..., example], positive
    bool [example] -> [...]. NaN: only one class, or a NaN score. Keeps: any increasing map of the scores.
    """
    scores, positive = np.asarray(scores, float), np.asarray(positive, bool)
    if scores.shape[-1] != len(positive):
        raise InputError(f"one score per example is needed; got {scores.shape} scores and {len(positive)} labels.")
    up = int(positive.sum())
    down = len(positive) - up
    if not up or not down:
        return np.full(scores.shape[:-1], np.nan)
    ranks = rankdata(scores, axis=-1, nan_policy="propagate")
    return (ranks[..., positive].sum(axis=-1) - up * (up + 1) / 2) / (up * down)


def macro_auroc(scores: np.ndarray, codes: np.ndarray) -> np.ndarray | np.float64:
    """Mean over classes of the AUROC of each class against the rest (1).

    For two classes it is that of the second. Shapes: scores [..., example, K], codes int [example] (-1 left out).
    """
    codes = np.asarray(codes)
    known = codes >= 0
    scores, codes = np.asarray(scores)[..., known, :], codes[known]
    if scores.shape[-1] == 2:
        return auroc(scores[..., 1] - scores[..., 0], codes == 1)
    return np.stack([auroc(scores[..., k], codes == k) for k in range(scores.shape[-1])]).mean(axis=0)


def high_capacity_region(curve: np.ndarray, share: float = 0.9) -> np.ndarray:
    """Layers of at least `share` of the peak capacity (bool [layer]); none where the peak is not above 0."""
    curve = np.asarray(curve, float)
    peak = np.nanmax(curve) if np.isfinite(curve).any() else math.nan
    return curve >= share * peak if peak > 0 else np.zeros(len(curve), bool)


@dataclass(frozen=True, eq=False)
class CapacityCurve:
    """Capacity along depth with prompt-bootstrap intervals (1), and where its peak lies (depth, l / L).

    `draws` float [n_boot, layer]; `peaks` [n_boot] the depth of each draw's peak; `n_layers` is L.
    """

    capacity: np.ndarray
    intervals: tuple[Interval, ...]
    peak_depth: float
    peak_interval: Interval
    region: np.ndarray
    draws: np.ndarray
    peaks: np.ndarray

    @property
    def n_layers(self) -> int:
        """L, the number of blocks (layer 0 is the embedding)."""
        return len(self.capacity) - 1


def capacity_curve(
    hits: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    generator: np.random.Generator | None = None,
    *,
    weights: np.ndarray | None = None,
    n_boot: int = 2000,
) -> CapacityCurve:
    """Capacity per layer, its peak and the high-capacity region, groups resampled whole.

    Shapes: hits [layer, example], codes int [example], groups [example]; `weights` [n_boot, group] (instead of a
    generator) pairs two models that were asked the same groups in sorted order. The majority share is held fixed. Ties
    of the peak go to the lowest layer. NaN intervals: fewer than two groups.
    """
    hits, (names, member) = np.asarray(hits, float), np.unique(np.asarray(groups), return_inverse=True)
    if hits.ndim != 2 or hits.shape[1] != len(member) or len(hits) < 2 or np.shape(codes) != member.shape:
        raise InputError(
            f"hits [layer, example] of at least two layers, one code and one group per example; got {hits.shape}, "
            f"{np.shape(codes)} and {member.shape}."
        )
    if weights is None:
        if generator is None:
            raise InputError("a bootstrap needs a generator, or weights that another curve used.")
        weights = bootstrap_weights(len(names), generator, n_boot=n_boot)
    sums, counts = zip(*(sums_by_unit(layer[:, None], member, len(names)) for layer in hits), strict=True)
    estimate = capacity(np.nanmean(hits, axis=1), codes)
    draws = capacity(resampled_ratio(np.stack(sums), np.stack(counts), weights), codes)
    intervals = tuple(percentile_interval(column, len(names)) for column in draws.T)
    last = len(hits) - 1
    usable = np.isfinite(draws).all(axis=1)
    peaks = np.where(usable, np.where(usable[:, None], draws, 0).argmax(axis=1) / last, np.nan)
    defined = bool(np.isfinite(estimate).all())
    return CapacityCurve(
        estimate,
        intervals,
        float(estimate.argmax() / last) if defined else math.nan,
        percentile_interval(peaks, len(names)) if defined else undefined_interval("capacity is undefined at a layer"),
        region=high_capacity_region(estimate),
        draws=draws,
        peaks=peaks,
    )


@dataclass(frozen=True)
class PeakDifference:
    """Difference of two peak depths (l / L), its interval, and what the two grids alone can make of it."""

    difference: float
    interval: Interval
    allowance: float
    p: float

    @property
    def beyond_grid(self) -> bool:
        """Whether the whole interval lies above the allowance or below its negative."""
        return self.interval.lo > self.allowance or self.interval.hi < -self.allowance


def peak_difference(first: CapacityCurve, second: CapacityCurve) -> PeakDifference:
    """Difference of peak depths of two models with the grid allowance of `1/(2 L1) + 1/(2 L2)` (l / L).

    Draws are subtracted in pairs, so curves made with the same weights are compared on the same prompts. `p` is twice
    the smaller share of draws on the other side of the nearer end of the allowance (for Holm), at least 1/(n + 1).
    Raises InputError for different numbers of draws.
    """
    if len(first.peaks) != len(second.peaks):
        raise InputError(f"as many draws of both are needed; got {len(first.peaks)} and {len(second.peaks)}.")
    moved = first.peaks - second.peaks
    allowance = 1 / (2 * first.n_layers) + 1 / (2 * second.n_layers)
    why = first.peak_interval.reason or second.peak_interval.reason
    interval = undefined_interval(why) if why else percentile_interval(moved, 2)
    finite = moved[np.isfinite(moved)]
    above, below = (1 + (finite <= allowance).sum()), (1 + (finite >= -allowance).sum())
    p = math.nan if why else float(min(1.0, 2 * min(above, below) / (len(finite) + 1)))
    return PeakDifference(first.peak_depth - second.peak_depth, interval, allowance, p)


def max_over_layers_p(accuracy: np.ndarray, null: np.ndarray) -> tuple[float, np.ndarray]:
    """p-value of the best layer against the best layer of each permutation (probability), and the null maxima.

    Shapes: accuracy [layer], null [layer, permutation] (labels permuted by group, refit) -> p and [permutation].
    Taking the maximum on both sides pays for the choice of the layer. Source: Westfall and Young 1993.
    """
    accuracy, null = np.asarray(accuracy, float), np.asarray(null, float)
    if null.ndim != 2 or len(null) != len(accuracy):
        raise InputError(f"null accuracies [layer, permutation] of the same layers; got {null.shape}.")
    top = null.max(axis=0)
    return permutation_p(float(accuracy.max()), top), top
