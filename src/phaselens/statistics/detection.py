"""How well a score tells wrong runs from right ones: ranking, precision, rejection, calibration; prompts resampled.

High scores are to mean "wrong". Everywhere `wrong` is 0 or 1 per run, and a resample is a row of weights per run (how
often its prompt was drawn), so that all runs of a prompt move together.
"""

from collections.abc import Callable

import numpy as np

from phaselens.errors import InputError

Statistic = Callable[[np.ndarray, np.ndarray], float]


def auroc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong run scores above a right one, ties counted half (1).

    Shapes: [run] each; runs whose score is NaN are left out. NaN: no wrong run, or no right one.
    Keeps: any rising map of the scores. Source: Hanley and McNeil 1982, doi:10.1148/radiology.143.1.7063747.
    """
    return float(resampled_auroc(scores, wrong, np.ones((1, len(np.asarray(scores))), int))[0])


def resampled_auroc(scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """AUROC in each resample (1); weights [n_boot, run] -> [n_boot]. NaN: as `auroc`."""
    s, y = _checked(scores, wrong)
    seen = np.isfinite(s)
    s, y, w = s[seen], y[seen], np.asarray(weights)[:, seen].astype(np.float64)
    if not len(s):
        return np.full(len(w), np.nan)
    order = np.argsort(s, kind="stable")
    s, y, w = s[order], y[order], w[:, order]
    starts = np.flatnonzero(np.r_[True, np.diff(s) > 0])
    positive = np.add.reduceat(w * y, starts, axis=1)
    negative = np.add.reduceat(w * (1 - y), starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    with np.errstate(divide="ignore", invalid="ignore"):
        return (positive * (below + negative / 2)).sum(1) / (positive.sum(1) * negative.sum(1))


def average_precision(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Area under the precision-recall curve as a step function (1): sum over thresholds of (R_k - R_{k-1}) P_k.

    Shapes, NaN: as `auroc`. The share of wrong runs is what chance gives. Source: as scikit-learn's
    average_precision_score.
    """
    s, y = _checked(scores, wrong)
    seen = np.isfinite(s)
    s, y = s[seen], y[seen]
    if not y.sum() or y.all():
        return float("nan")
    order = np.argsort(-s, kind="stable")
    s, y = s[order], y[order]
    last = np.flatnonzero(np.r_[np.diff(s) < 0, True])
    hits = np.cumsum(y)[last]
    precision, recall = hits / (last + 1), hits / y.sum()
    return float((np.diff(np.r_[0.0, recall]) * precision).sum())


def prediction_rejection_ratio(scores: np.ndarray, wrong: np.ndarray) -> float:
    """What rejecting the highest scores first gains, of what an oracle gains (1): 1 for the oracle, 0 for chance.

    `(A(score) - A(chance)) / (A(oracle) - A(chance))`, A the mean over k = 1..n of the accuracy of the k runs that are
    kept. Runs of equal score count as their mean: the expectation over their order.
    Shapes, NaN: as `auroc`. Source: Malinin and Gales 2021, "Uncertainty estimation in autoregressive structured
    prediction", section 5.
    """
    s, y = _checked(scores, wrong)
    seen = np.isfinite(s)
    s, right = s[seen], 1.0 - y[seen]
    if not right.sum() or right.all():
        return float("nan")
    kept = np.arange(1, len(s) + 1)

    def area(keys: np.ndarray) -> float:
        _, group = np.unique(keys, return_inverse=True)
        mean = np.bincount(group, right) / np.bincount(group)
        return float((np.cumsum(mean[group][np.argsort(keys, kind="stable")]) / kept).mean())

    chance = float(right.mean())
    return (area(s) - chance) / (area(-right) - chance)


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


def calibration_error(predicted: np.ndarray, wrong: np.ndarray, *, n_bins: int = 10) -> float:
    """Mean distance of predicted and observed share over the bins of `calibration_curve`, by count (1)."""
    mean, share, count = calibration_curve(predicted, wrong, n_bins=n_bins)
    return float((np.abs(mean - share) * count).sum() / count.sum()) if len(count) else float("nan")


def resampled(statistic: Statistic, scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Any of the statistics above in each resample; weights int [n_boot, run] -> [n_boot]."""
    s, y = _checked(scores, wrong)
    rows = np.arange(len(s))
    return np.array([statistic(s[(drawn := np.repeat(rows, w))], y[drawn]) for w in np.asarray(weights)])


def run_weights(weights: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Weights of units [n_boot, unit] as weights of runs [n_boot, run]; unit int [run]."""
    return np.asarray(weights)[:, np.asarray(unit)]


def _checked(scores: np.ndarray, wrong: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    s, y = np.asarray(scores, float), np.asarray(wrong, float)
    if s.shape != y.shape or s.ndim != 1 or not np.isin(y, (0.0, 1.0)).all():
        raise InputError(f"wanted one score and one 0 or 1 per run; got shapes {s.shape} and {y.shape}.")
    return s, y
