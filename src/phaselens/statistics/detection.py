"""How well a score tells wrong runs from right ones: ranking, precision, rejection, calibration; prompts resampled.

High scores are to mean "wrong". Everywhere `wrong` is 0 or 1 per run, and a resample is a row of weights per run (how
often its prompt was drawn), so that all runs of a prompt move together.
"""

import numpy as np
from scipy.stats import rankdata

from phaselens.errors import InputError

DRAWS_AT_ONCE = 64  # of a resampled statistic: what fits into the cache


def auroc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong run scores above a right one, ties counted half (1).

    Shapes: [run] each; runs whose score is NaN are left out. NaN: no wrong run, or no right one.
    Keeps: any rising map of the scores. Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    return float(resampled_auroc(scores, wrong, np.ones((1, len(np.asarray(scores))), int))[0])


def resampled_auroc(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC in each resample (1); weights [n_boot, run] -> [n_boot]. NaN: as `auroc`."""
    return resampled_auroc_within(scores, wrong, np.zeros(len(np.asarray(scores)), int), weights)


def resampled_auroc_within(scores: np.ndarray, wrong: np.ndarray, kind: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC over the pairs of runs of one kind, in each resample (1): what is left where the kind cannot tell.

    Shapes: [run] each, weights [n_boot, run] -> [n_boot]. NaN: no kind has a wrong and a right run.
    Keeps: any rising map of the scores, another one for every kind.
    """
    s, y = _checked(scores, wrong)
    seen = np.flatnonzero(np.isfinite(s))
    if not len(seen):
        return np.full(len(weights), np.nan)
    of = np.unique(np.asarray(kind)[seen], return_inverse=True)[1]
    order = np.lexsort((s[seen], of))
    s, y, of, seen = s[seen][order], y[seen][order], of[order], seen[order]
    new = np.r_[True, np.diff(of) > 0]
    starts = np.flatnonzero(new | np.r_[True, np.diff(s) > 0])  # equal scores count as one
    first = np.flatnonzero(new[starts])
    blocks = [np.asarray(weights)[at : at + DRAWS_AT_ONCE, seen] for at in range(0, len(weights), DRAWS_AT_ONCE)]
    return np.concatenate([_share_above(w, y, starts, first) for w in blocks])


def _share_above(w: np.ndarray, y: np.ndarray, starts: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Share of the weighted pairs of one kind in which the wrong run scores above the right one, ties half: [draw].

    Runs are sorted by kind and score; equal ones begin at `starts`, kinds at `first` of these.
    """
    positive, negative = w * y, w * (1 - y)
    if len(starts) < len(y):
        positive, negative = (np.add.reduceat(part, starts, axis=1) for part in (positive, negative))
    ones, zeros = (np.add.reduceat(part, first, axis=1) for part in (positive, negative))
    below = np.cumsum(negative, axis=1) - negative
    above = (positive * (below + negative / 2)).sum(1) - (ones * below[:, first]).sum(1)
    pairs = (ones * zeros).sum(1)
    return np.divide(above, pairs, out=np.full(len(w), np.nan), where=pairs > 0)


def auroc_of_kind(kind: np.ndarray, wrong: np.ndarray) -> float:
    """AUROC of the kind of question as a score (1): every run has the share of wrong answers of its kind.

    In sample: it lies above .5 where kinds say nothing, the more so the more kinds there are; see
    `auroc_of_kind_by_chance`. (Leaving a question out would rank runs by their own answer, turned round.)
    Shapes: [run] each. NaN: as `auroc`.
    """
    group, y = np.unique(np.asarray(kind), return_inverse=True)[1], np.asarray(wrong, float)
    return auroc((np.bincount(group, y) / np.bincount(group))[group], y)


def auroc_of_kind_by_chance(
    kind: np.ndarray, wrong: np.ndarray, unit: np.ndarray, generator: np.random.Generator, *, n: int = 200
) -> np.ndarray:
    """`auroc_of_kind` where answers are exchanged between units (1) [n]."""
    y, unit = np.asarray(wrong, float), np.asarray(unit)
    return np.array([auroc_of_kind(kind, y[_exchanged(unit, generator)]) for _ in range(n)])


def highest_auroc_by_chance(
    scores: np.ndarray, wrong: np.ndarray, unit: np.ndarray, generator: np.random.Generator, *, n: int = 500
) -> np.ndarray:
    """The highest AUROC of several scores where answers are exchanged between units (1) [n].

    Whole units that have as many runs change places, so that runs of one unit stay alike and scores stay as alike to
    each other as they are. Shapes: scores [score, run]; a run without a score gets the middle rank.
    NaN: no wrong run, or no right one, or no score.
    """
    y = np.asarray(wrong, float)
    ones = y.sum()
    if not len(scores) or ones in (0, len(y)):
        return np.full(n, np.nan)
    middle = (len(y) + 1) / 2
    ranks = rankdata(np.where(np.isfinite(scores), scores, np.nan), axis=1, nan_policy="omit")
    ranks *= len(y) / np.maximum(np.isfinite(ranks).sum(axis=1, keepdims=True), 1)
    ranks = np.where(np.isfinite(ranks), ranks, middle)
    moved = np.stack([y[_exchanged(np.asarray(unit), generator)] for _ in range(n)])
    above = ranks @ moved.T - ones * (ones + 1) / 2
    return (above / (ones * (len(y) - ones))).max(axis=0)


def _exchanged(unit: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Places of runs after units of one size have changed places [run]."""
    out = np.arange(len(unit))
    blocks = [np.flatnonzero(unit == name) for name in np.unique(unit)]
    for size in {len(block) for block in blocks}:
        alike = [block for block in blocks if len(block) == size]
        for block, other in zip(alike, generator.permutation(len(alike)), strict=True):
            out[block] = alike[other]
    return out


def resampled_average_precision(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall curve as a step function in each resample (1): sum of (R_k - R_{k-1}) P_k.

    Shapes: weights [n_boot, run] -> [n_boot]. NaN: as `auroc`. Chance gives the share of wrong runs. Source: as
    scikit-learn's average_precision_score.
    """
    positive, total = _grouped(scores, wrong, weights)
    hits, seen = np.cumsum(positive, 1), np.cumsum(total, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (positive * np.where(seen > 0, hits / seen, 0.0)).sum(1) / hits[:, -1]
    return np.where((hits[:, -1] > 0) & (hits[:, -1] < seen[:, -1]), found, np.nan)


def resampled_rejection(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What rejecting the highest scores first gains, of what an oracle gains, in each resample (1): 0 for chance.

    `(A(score) - A(chance)) / (A(oracle) - A(chance))`, A the mean over k = 1..n of the accuracy of the k runs that are
    kept. Runs of equal score count as their mean: the expectation over their order. Within them the accuracy of the
    first k kept is `m + (C - m c) / k`, with c runs of lower score, C of them right, and m the share right among the
    equal ones: sums over k are harmonic numbers.
    Shapes: whole weights [n_boot, run] -> [n_boot]. NaN: as `auroc`.
    Source: Malinin and Gales 2021, "Uncertainty estimation in autoregressive structured prediction", section 5.
    """
    positive, total = (v[:, ::-1] for v in _grouped(scores, wrong, weights))
    right, seen = np.cumsum(total - positive, 1), np.cumsum(total, 1).astype(int)
    n, n_right = seen[:, -1], right[:, -1]
    harmonic = np.r_[0.0, np.cumsum(1 / np.arange(1, int(n.max(initial=0)) + 1))]
    before, right_before = seen - total.astype(int), right - (total - positive)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(total > 0, (total - positive) / total, 0.0)
        area = (mean * total + (right_before - mean * before) * (harmonic[seen] - harmonic[before])).sum(1) / n
        oracle = n_right * (1 + harmonic[n] - harmonic[n_right.astype(int)]) / n
        found = (area - n_right / n) / (oracle - n_right / n)
    return np.where((n_right > 0) & (n_right < n), found, np.nan)


def _grouped(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wrong runs and all runs at each distinct score, highest first, in each resample: two arrays [n_boot, score]."""
    s, y = _checked(scores, wrong)
    seen = np.isfinite(s)
    s, y, w = s[seen], y[seen], np.asarray(weights)[:, seen].astype(np.float64)
    if not len(s):
        return np.zeros((len(w), 1)), np.zeros((len(w), 1))
    order = np.argsort(-s, kind="stable")
    s, y, w = s[order], y[order], w[:, order]
    starts = np.flatnonzero(np.r_[True, np.diff(s) < 0])
    return np.add.reduceat(w * y, starts, axis=1), np.add.reduceat(w, starts, axis=1)


def calibration_curve(
    predicted: np.ndarray, wrong: np.ndarray, *, n_bins: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean predicted and observed share of wrong runs in bins of equal count (1; counts): three arrays [bin].

    Bins end at the quantiles of the predictions; empty ones are left out. Raises InputError for fewer than one bin.
    """
    if n_bins < 1:
        raise InputError(f"a calibration curve has at least 1 bin; got {n_bins}.")
    p, y = _checked(predicted, wrong)
    seen = np.isfinite(p)
    p, y = p[seen], y[seen]
    edges = np.quantile(p, np.linspace(0, 1, n_bins + 1)[1:-1]) if len(p) else np.empty(0)
    bins = np.searchsorted(edges, p)
    count = np.bincount(bins, minlength=n_bins)
    some = count > 0
    mean, share = (np.bincount(bins, of, minlength=n_bins)[some] / count[some] for of in (p, y))
    return mean, share, count[some]


def run_weights(weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Weights of units [n_boot, unit] as weights of runs [n_boot, run]; unit int [run]."""
    return np.asarray(weights)[:, np.asarray(unit)]


def _checked(scores: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, y = np.asarray(scores, float), np.asarray(wrong, float)
    if s.shape != y.shape or s.ndim != 1 or not np.isin(y, (0.0, 1.0)).all():
        raise InputError(f"wanted one score and one 0 or 1 per run; got shapes {s.shape} and {y.shape}.")
    return s, y
