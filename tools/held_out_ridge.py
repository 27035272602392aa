"""Held-out ridge readouts for continuous targets, such as a belief: one eigendecomposition serves every fold and l2."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.folds import check_folds
from phaselens.probes.ridge import penalties_of, spectrum, targets_of


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
    found, wanted, penalties = spectrum(layer), targets_of(targets, len(layer)), penalties_of(l2)
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
