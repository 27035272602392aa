"""Ridge readouts in closed form: one eigendecomposition of a layer serves every target, every l2 and every fold.

The fast variant of the logistic probe, and the readout for continuous targets (a belief state, a depth).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features
from phaselens.probes.folds import check_folds
from phaselens.probes.frozen import Probes
from phaselens.probes.logistic import check_classes, encode


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Centred features in the basis of their covariance: `x - centre = scale * basis component`.

    `components` float64 [example, r], `basis` [d, r], `values` [r] (eigenvalues of the sum of squares), r = min(n, d).
    """

    components: Tensor
    basis: Tensor
    values: Tensor
    centre: Tensor
    scale: float


def spectrum(layer: Tensor | np.ndarray, where: str = "layer") -> Spectrum:
    """Spectrum of one layer [example, d], centred and divided by one scalar (1); raises InputError for NaN."""
    features = as_features(layer, where).double()
    centre = features.mean(dim=0)
    shifted = features - centre
    scale = float(shifted.square().mean().sqrt()) or 1.0
    shifted /= scale
    n, d = shifted.shape
    if n >= d:
        values, basis = torch.linalg.eigh(shifted.T @ shifted)
        return Spectrum(shifted @ basis, basis, values.clamp_min(0), centre, scale)
    values, left = torch.linalg.eigh(shifted @ shifted.T)
    values = values.clamp_min(0)
    root = values.sqrt()
    basis = shifted.T @ left / torch.where(root > 1e-9 * root.max(), root, torch.inf)
    return Spectrum(left * root, basis, values, centre, scale)


def ridge_path(layer: Tensor | np.ndarray, targets: np.ndarray, l2: Sequence[float]) -> tuple[Tensor, Tensor, Spectrum]:
    """Ridge coefficients of every target at every l2, on the centred and scaled features (unit of the target).

    Minimises `sum_i (t_i - w.x_i - b)^2 + l2 |w|^2`, bias unpenalised; equal to scikit-learn's `Ridge(alpha=l2)`.
    Shapes: layer [example, d], targets [example, T]; returns weight float64 [l2, T, d], bias [T] and the spectrum.
    Raises InputError for NaN, l2 below 0, or lengths that differ.
    """
    found, wanted = spectrum(layer), _targets(targets, len(layer))
    bias = wanted.mean(dim=0)
    shared = found.components.T @ (wanted - bias)
    penalties = _penalties(l2)[:, None]
    divided = shared.T[None] / (found.values + penalties).clamp_min(1e-12)[:, None]
    return divided @ found.basis.T, bias, found


def fit_ridge(X: Iterable, y: np.ndarray, l2: float = 1.0) -> Probes:
    """Ridge classifiers of every layer, frozen (scores: the regressed +-1 target, 1).

    Targets +1 for the class and -1 otherwise, one row for two classes; equal to scikit-learn's
    `RidgeClassifier(alpha=l2)` on features centred and divided by one scalar. Shapes: X (layer, example, d),
    y [example]; the probes lead with (layer,). Examples labelled -1 (integer y) are left out.
    """
    codes, classes = encode(y)
    used = codes >= 0
    check_classes(codes[None], used[None], len(classes))
    targets = one_against_rest(codes[used], len(classes))
    weight, bias, centre, scale = [], [], [], []
    for index, layer in enumerate(X):
        rows, offset, found = ridge_path(as_features(layer, f"layer {index}")[torch.as_tensor(used)], targets, [l2])
        weight.append(rows[0].float())
        bias.append(offset.float())
        centre.append(found.centre.float())
        scale.append(found.scale)
    return Probes(
        torch.stack(weight),
        torch.stack(bias),
        torch.stack(centre),
        torch.tensor(scale),
        classes,
        np.full(len(scale), l2),
    )


def one_against_rest(codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Targets of a ridge classifier (1): +1 for the class, -1 otherwise; [example, 1] for two classes, else [.., K]."""
    if n_classes == 2:
        return np.where(codes == 1, 1.0, -1.0)[:, None]
    return np.where(codes[:, None] == np.arange(n_classes), 1.0, -1.0)


def ridge_held_out(
    layer: Tensor | np.ndarray, targets: np.ndarray, folds: np.ndarray, l2: Sequence[float]
) -> np.ndarray:
    """Prediction of every example by the ridge fit that left its fold out, without fitting again (unit of the target).

    With the smoother H of all examples, the held-out residual of a fold is `(I - H_ff)^-1 r_f`; exact, since the bias
    absorbs the centring by fold and the penalty its scaling (`l2 s_f^2`).
    Shapes: layer [example, d], targets [example, T], folds int [example]; returns float64 [l2, example, T].
    Source: Cook and Weisberg 1982, the deletion formula for several cases.
    """
    n_folds = check_folds(folds, None, len(layer))
    found, wanted, penalties = spectrum(layer), _targets(targets, len(layer)), _penalties(l2)
    n = len(wanted)
    middle = wanted.mean(dim=0)
    shared = found.components.T @ (wanted - middle)
    out = torch.empty(len(penalties), *wanted.shape, dtype=torch.float64)
    for fold in range(n_folds):
        mine = torch.as_tensor(np.asarray(folds) == fold)
        inside, outside = found.components[mine], found.components[~mine]
        spread = (outside.square().sum() - outside.sum(0).square().sum() / len(outside)) / (
            len(outside) * len(found.basis)
        )
        for i, penalty in enumerate(penalties):
            shrunk = inside / (found.values + penalty * spread).clamp_min(1e-12)
            residual = wanted[mine] - middle - shrunk @ shared
            smooth = torch.eye(len(inside), dtype=torch.float64) - 1 / n - shrunk @ inside.T
            out[i, mine] = wanted[mine] - torch.linalg.solve(smooth, residual)
    return out.numpy()


def ridge_cross_fit(
    layer: Tensor | np.ndarray, targets: np.ndarray, folds: np.ndarray, l2: Sequence[float]
) -> np.ndarray:
    """Held-out predictions, each fold with the l2 of least squared error over the other folds in turn (their unit).

    Shapes: layer [example, d], targets [draw, example, T] (each draw chooses its own l2), folds int [example] in
    0..k-1, k >= 3 where several l2 are given; returns float64 [draw, example, T].
    """
    wanted, folds = np.asarray(targets, float), np.asarray(folds)
    if wanted.ndim != 3 or wanted.shape[1] != len(layer):
        raise InputError(f"targets of shape (draw, {len(layer)}, T) are needed; got {wanted.shape}.")
    n_folds, n_draws, path = check_folds(folds, None, len(layer)), len(wanted), np.atleast_1d(l2)
    flat = np.moveaxis(wanted, 0, 1).reshape(len(layer), -1)
    every = ridge_held_out(layer, flat, folds, path).reshape(len(path), len(layer), n_draws, -1)
    chosen = np.zeros((n_folds, n_draws), int)
    if len(path) > 1:
        if n_folds < 3:
            raise InputError("to choose l2 inside each train fold, at least three folds are needed.")
        for fold in range(n_folds):
            rest = folds != fold
            inner = np.unique(folds[rest], return_inverse=True)[1]
            kept = torch.as_tensor(np.asarray(layer))[torch.as_tensor(rest)]
            guess = ridge_held_out(kept, flat[rest], inner, path).reshape(len(path), int(rest.sum()), n_draws, -1)
            off = guess - np.moveaxis(wanted, 0, 1)[rest]
            chosen[fold] = np.square(off).sum(axis=(1, 3)).argmin(axis=0)
    example, draw = np.arange(len(layer))[:, None], np.arange(n_draws)
    return np.moveaxis(every[chosen[folds], example, draw], 0, 1)


def r_squared(predicted: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Share of the targets' variance that predictions explain, pooled over components (1): 1 all, 0 that of the mean.

    `1 - sum (t - p)^2 / sum (t - mean t)^2`, no floor. Shapes: [..., example, T] both -> [...]. NaN: constant targets.
    """
    targets = np.asarray(targets, float)
    left = np.square(targets - predicted).sum(axis=(-2, -1))
    total = np.square(targets - targets.mean(axis=-2, keepdims=True)).sum(axis=(-2, -1))
    return np.where(total > 0, 1 - left / np.where(total > 0, total, 1), np.nan)


def _targets(targets: np.ndarray, n_examples: int) -> Tensor:
    wanted = torch.as_tensor(np.asarray(targets, float))
    if wanted.ndim != 2 or len(wanted) != n_examples or not torch.isfinite(wanted).all():
        raise InputError(
            f"finite targets of shape ({n_examples}, T) are needed, one row per example; got {tuple(wanted.shape)}."
        )
    return wanted


def _penalties(l2: Sequence[float]) -> Tensor:
    penalties = torch.as_tensor(np.atleast_1d(np.asarray(l2, float)))
    if not (penalties >= 0).all():
        raise InputError(f"l2 is not negative; got {l2}.")
    return penalties
