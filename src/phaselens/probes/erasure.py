"""Taking a concept out of states: LEACE, projections, and random subspaces to compare with.

LEACE is written out here: the published package has had no release since January 2024, and the closed form is short.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features


@dataclass(frozen=True, eq=False)
class Eraser:
    """An affine map `x -> x - left right (x - centre)` of rank k (unit of the states), callable on [..., d].

    Shapes: left [d, k], right [k, d], centre [d], float64; the result has the dtype of x.
    """

    left: Tensor
    right: Tensor
    centre: Tensor

    def __call__(self, states: Tensor) -> Tensor:
        """The states without what the eraser removes: [..., d] -> [..., d]."""
        exact = states.double()
        return (exact - (exact - self.centre) @ self.right.T @ self.left.T).to(states.dtype)

    @property
    def rank(self) -> int:
        """Number of dimensions taken out."""
        return self.left.shape[1]


def concept_columns(labels: np.ndarray) -> Tensor:
    """Class indicators of labels [example], or the columns of a float concept [example, k], float64 [example, k]."""
    labels = np.asarray(labels)
    if labels.ndim == 2:
        return torch.as_tensor(labels, dtype=torch.float64)
    classes = np.unique(labels)
    if len(classes) < 2:
        raise InputError(f"a concept has two classes or more; got {len(classes)}.")
    return torch.as_tensor(labels[:, None] == classes, dtype=torch.float64)


def fit_leace(states: Tensor | np.ndarray, labels: np.ndarray, *, tol: float = 1e-6) -> Eraser:
    """The affine map after which no linear probe beats the majority, and that moves states least (unit of the states).

    `r(x) = x - W^+ P W (x - mean)`, `W = (S_xx^1/2)^+`, P the orthogonal projection onto the columns of `W S_xz`.
    Afterwards the covariance of states and class indicators is 0, which is equivalent to: the best affine predictor
    under any convex loss is a constant. Among all such maps it has the least mean squared change under every norm
    `x'Mx`. Directions of standard deviation below `tol` of the largest are left out of the whitening.
    Shapes: states [example, d], labels [example] or float [example, k].
    Keeps: the mean; applying it twice. Raises InputError for NaN or one class.
    Source: Belrose et al. 2023, "LEACE: perfect linear concept erasure in closed form", theorem 4.3.
    """
    features, wanted = as_features(states).double(), concept_columns(labels)
    if len(features) != len(wanted):
        raise InputError(f"one label per state is needed; got {len(wanted)} and {len(features)}.")
    centre = features.mean(dim=0)
    shifted = features - centre
    n = len(shifted)
    shared = shifted.T @ (wanted - wanted.mean(dim=0)) / n
    values, basis = torch.linalg.eigh(shifted.T @ shifted / n)
    root = values.clamp_min(0).sqrt()
    held = root > tol * root.max()
    basis, root = basis[:, held], root[held]
    white = (basis.T @ shared) / root[:, None]
    left, size, _ = torch.linalg.svd(white, full_matrices=False)
    left = left[:, size > 1e-9 * max(float(size.max()), 1e-30)] if float(size.max()) > 0 else left[:, :0]
    return Eraser(basis @ (root[:, None] * left), (basis @ (left / root[:, None])).T, centre)


def project_out(directions: Tensor, centre: Tensor) -> Eraser:
    """Orthogonal projection that takes out the span of directions [k, d] around centre [d] (unit of the states).

    Directions of a fitted probe are `Probes.directions()`; numerically dependent ones count once.
    """
    if directions.ndim != 2 or directions.shape[1] != len(centre):
        raise InputError(f"directions [k, {len(centre)}] are needed; got {tuple(directions.shape)}.")
    left, size, _ = torch.linalg.svd(directions.double().T, full_matrices=False)
    # Probes are stored in single precision, so sums to nothing are nothing to that precision only.
    basis = left[:, size > 1e-6 * size.max()]
    return Eraser(basis, basis.T, centre.double())


def removed_variance(eraser: Eraser, states: Tensor | np.ndarray) -> float:
    """Mean squared change of the states (squared unit of the states): `mean |x - r(x)|^2`."""
    features = as_features(states).double()
    return float((features - eraser(features)).square().sum(dim=1).mean())


def random_subspace(centre: Tensor, rank: int, generator: torch.Generator) -> Eraser:
    """Takes out a uniformly random subspace of the given rank around centre [d] (unit of the states)."""
    width = len(centre)
    if not 0 < rank <= width:
        raise InputError(f"a subspace has rank 1..{width}; got {rank}.")
    basis = torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64)).Q
    return Eraser(basis, basis.T, centre.double())


def random_subspace_of_variance(
    states: Tensor | np.ndarray, rank: int, variance: float, generator: torch.Generator
) -> Eraser:
    """A random subspace of the given rank whose removal takes out the given variance (squared unit of the states).

    Columns are Gaussian with covariance `S^a`, orthonormalised; the exponent a is found by bisection for the drawn
    numbers, so equal variance within 1e-3. A plain random subspace of a state space with few large directions removes
    almost nothing, and would be no comparison. Raises InputError where no subspace of this rank can have the variance
    (above the `rank` largest or below the smallest eigenvalues of the covariance).
    """
    features = as_features(states).double()
    centre = features.mean(dim=0)
    shifted = features - centre
    values, basis = torch.linalg.eigh(shifted.T @ shifted / len(shifted))
    values = values.clamp_min(float(values.max()) * 1e-12)
    drawn = torch.randn(len(values), rank, generator=generator, dtype=torch.float64)
    level = values.log() - values.log().max()

    def subspace(power: float) -> Tensor:
        size = power * level / 2
        return torch.linalg.qr((size - size.max()).exp()[:, None] * drawn).Q

    def excess(power: float) -> float:
        return float((values[:, None] * subspace(power).square()).sum()) - variance

    low, high = -1.0, 1.0
    while excess(low) > 0 and low > -64:
        low *= 2
    while excess(high) < 0 and high < 64:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) > 0 else (middle, high)
    if abs(excess(high)) > 1e-3 * variance:
        raise InputError(
            f"no drawn subspace of rank {rank} takes out a variance of {variance:.4g}; it lies in "
            f"[{float(values[:rank].sum()):.4g}, {float(values[-rank:].sum()):.4g}]."
        )
    turned = basis @ subspace(high)
    return Eraser(turned, turned.T, centre)
