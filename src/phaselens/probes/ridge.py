"""Ridge readouts in closed form: one eigendecomposition of a layer serves every target and every l2.

The readout for continuous targets (a belief state, a depth).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features


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
    found, wanted = spectrum(layer), targets_of(targets, len(layer))
    bias = wanted.mean(dim=0)
    shared = found.components.T @ (wanted - bias)
    penalties = penalties_of(l2)[:, None]
    divided = shared.T[None] / (found.values + penalties).clamp_min(1e-12)[:, None]
    return divided @ found.basis.T, bias, found


def targets_of(targets: np.ndarray, n_examples: int) -> Tensor:
    """Targets [example, T] as a finite tensor. Raises InputError."""
    wanted = torch.as_tensor(np.asarray(targets, float))
    if wanted.ndim != 2 or len(wanted) != n_examples or not torch.isfinite(wanted).all():
        raise InputError(
            f"finite targets of shape ({n_examples}, T) are needed, one row per example; got {tuple(wanted.shape)}."
        )
    return wanted


def penalties_of(l2: Sequence[float]) -> Tensor:
    """Every l2 as a tensor. Raises InputError for one below 0."""
    penalties = torch.as_tensor(np.atleast_1d(np.asarray(l2, float)))
    if not (penalties >= 0).all():
        raise InputError(f"l2 is not negative; got {l2}.")
    return penalties
