"""Regularised logistic regression for a few features, and its held-out predictions with the penalty chosen inside."""

from collections.abc import Sequence

import numpy as np

PENALTIES = (0.1, 1.0, 10.0, 100.0)
STEPS = 30
TOLERANCE = 1e-5  # of a step: Newton's next one would be its square


def fit_logistic(x: np.ndarray, y: np.ndarray, penalty: float, weights: np.ndarray | None = None) -> np.ndarray:
    """Coefficients (log odds per unit) that minimise log loss + penalty/2 |b|^2, the constant unpenalised and last.

    Newton's method, all fits at once. Shapes: x [run, feature] without NaN, y 0 or 1 [run], weights (how often a run
    counts) [..., run] -> [..., feature + 1].
    """
    design = np.column_stack([x, np.ones(len(x))])
    w = np.ones(len(x)) if weights is None else np.asarray(weights, float)
    ridge = np.full(design.shape[1], float(penalty))
    ridge[-1] = 1e-9
    b = np.zeros((*w.shape[:-1], len(ridge)))
    for _ in range(STEPS):
        p = expit(b @ design.T)
        gradient = (w * (p - y)) @ design + ridge * b
        curvature = (design.T * np.maximum(w * p * (1 - p), 1e-9)[..., None, :]) @ design + np.diag(ridge)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        b -= step
        if np.abs(step).max() < TOLERANCE:
            break
    return b


def expit(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), without overflow."""
    return 0.5 * (1 + np.tanh(0.5 * np.asarray(z, float)))


def held_out_probability(
    x: np.ndarray,
    y: np.ndarray,
    units: np.ndarray,
    generator: np.random.Generator,
    *,
    folds: int = 5,
    penalties: Sequence[float] = PENALTIES,
    constant: bool = True,
) -> np.ndarray:
    """Probability of y = 1 of every run, from fits that never saw its unit (1): [run].

    Units are dealt to folds; within the training part the penalty is chosen by log loss on a further split by unit.
    Features are standardised on the training part, NaN set to its mean. NaN: fewer units than folds, or a training
    part with one class only. Pooled over folds, probabilities without information rank below chance: what is left out
    moves the constant the other way. To rank runs leave the constant out (`constant` False): log odds beyond it.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    _, unit = np.unique(np.asarray(units), return_inverse=True)
    n_units = int(unit.max()) + 1 if len(unit) else 0
    out = np.full(len(y), np.nan)
    if n_units < folds:
        return out
    fold = generator.permutation(n_units)[unit] % folds
    inner = generator.permutation(n_units)[unit] % folds
    for k in range(folds):
        train, test = fold != k, fold == k
        if y[train].min() == y[train].max():
            continue
        penalty = _chosen(x, y, train, inner, penalties)
        out[test] = _log_odds(x, y, train, test, penalty, constant)
    return expit(out) if constant else out


def resampled_held_out(
    x: np.ndarray,
    y: np.ndarray,
    unit: np.ndarray,
    weights: np.ndarray,
    generator: np.random.Generator,
    *,
    folds: int = 5,
    penalty: float = 1.0,
) -> np.ndarray:
    """Log odds beyond the constant of every run, from fits to one resample of units without its own (1): [run].

    Copies of a unit stay in one fold, so none is ever trained on; features are standardised on the runs that were
    drawn. Shapes: x [run, feature], y [run], unit int [run], weights int [unit]. NaN: units that were not drawn, or a
    training part with one class only.
    """
    drawn = np.asarray(weights)[unit]
    fold = generator.permutation(len(weights))[unit] % folds
    use, out = drawn > 0, np.full(len(y), np.nan)
    train = (drawn * (fold != np.arange(folds)[:, None]))[:, use]
    ready, right = _standardised(x, use)[use], np.asarray(y, float)[use]
    hits, sizes = train @ right, train.sum(1)
    b = fit_logistic(ready, right, penalty, train)
    found = (ready * b[fold[use], :-1]).sum(1)
    out[use] = np.where((0 < hits) & (hits < sizes), 0.0, np.nan)[fold[use]] + found
    return out


def _chosen(x: np.ndarray, y: np.ndarray, train: np.ndarray, inner: np.ndarray, penalties: Sequence[float]) -> float:
    """The penalty with the least log loss on the inner fold 0 of the training part."""
    fit, judge = train & (inner != 0), train & (inner == 0)
    if not judge.any() or not fit.any() or y[fit].min() == y[fit].max():
        return penalties[len(penalties) // 2]
    losses = []
    for penalty in penalties:
        p = np.clip(expit(_log_odds(x, y, fit, judge, penalty, True)), 1e-9, 1 - 1e-9)
        losses.append(-(y[judge] * np.log(p) + (1 - y[judge]) * np.log(1 - p)).mean())
    return penalties[int(np.argmin(losses))]


def _log_odds(
    x: np.ndarray, y: np.ndarray, train: np.ndarray, test: np.ndarray, penalty: float, constant: bool
) -> np.ndarray:
    ready = _standardised(x, train)
    b = fit_logistic(ready[train], y[train], penalty)
    return ready[test] @ b[:-1] + (b[-1] if constant else 0.0)


def _standardised(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Features about their means on the training part, in its SDs [run, feature]; NaN becomes the mean."""
    known = np.isfinite(x[train])
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, x[train], 0.0).sum(0) / count
    spread = np.sqrt(np.where(known, (x[train] - mean) ** 2, 0.0).sum(0) / count)
    spread[spread == 0] = 1.0
    return np.where(np.isfinite(x), (x - mean) / spread, 0.0)
