"""One model's states in the coordinates of another, and frozen probes read there. Arrays only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from phaselens.errors import InputError


@dataclass(frozen=True, eq=False)
class Alignment:
    """Orthogonal map of one model's states onto another's: `scale (x - source_centre) rotation + target_centre`.

    Shapes: rotation float64 [d_source, d_target] with orthonormal rows or columns (the fewer); centres [d].
    `unexplained` is the share of the target's variance that the map leaves on the states it was fitted on (1).
    """

    rotation: np.ndarray
    source_centre: np.ndarray
    target_centre: np.ndarray
    scale: float
    unexplained: float

    def __call__(self, states: ArrayLike) -> np.ndarray:
        """States of the source model in the coordinates of the target: [..., d_source] -> float64 [..., d_target]."""
        moved = (np.asarray(states, float) - self.source_centre) @ self.rotation
        return self.scale * moved + self.target_centre


def procrustes(source: ArrayLike, target: ArrayLike) -> Alignment:
    """Orthogonal alignment of paired states with least squared error (unit of the target's states).

    `R = U V'` of the singular value decomposition of `S'T` (centred), `scale = tr(singular values) / |S R|^2`.
    Shapes: source [example, d_source], target [example, d_target], row i of both the same token of the same text.
    Fit it on train examples only: with fewer examples than features any two clouds align. Raises InputError for
    unpaired or NaN states. Source: Schoenemann 1966.
    """
    first, second = np.asarray(source, float), np.asarray(target, float)
    if first.ndim != 2 or second.ndim != 2 or len(first) != len(second):
        raise InputError(f"alignment needs paired states [example, d]; got {first.shape} and {second.shape}.")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("alignment needs finite states; some are NaN or infinite.")
    centre, other = first.mean(axis=0), second.mean(axis=0)
    first, second = first - centre, second - other
    left, size, right = np.linalg.svd(first.T @ second, full_matrices=False)
    rotation = left @ right
    kept = first @ rotation
    scale = float(size.sum() / max(np.square(kept).sum(), 1e-30))
    unexplained = float(np.square(second - scale * kept).sum() / max(np.square(second).sum(), 1e-30))
    return Alignment(rotation, centre, other, scale, unexplained)


@dataclass(frozen=True, eq=False)
class PeakProbes:
    """The probes of every fold at the peak layer, and the states they read.

    Shapes: states [example, d]; folds int [example]; weight [fold, K', d], bias [fold, K'], centre [fold, d], scale
    [fold], as in `Probes` (K' = 1 for two classes: the score of the second).
    """

    states: np.ndarray
    folds: np.ndarray
    weight: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    scale: np.ndarray

    def predict(self, states: np.ndarray, folds: np.ndarray) -> np.ndarray:
        """Class number by the probe of each example's fold: [example, d], int [example] -> int [example]."""
        ready = (np.asarray(states, float) - self.centre[folds]) / self.scale[folds][:, None]
        scores = np.einsum("nkd,nd->nk", self.weight[folds], ready) + self.bias[folds]
        return (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)


def transferred(
    source: PeakProbes, rows: np.ndarray, states: np.ndarray, generator: np.random.Generator | None = None
) -> np.ndarray:
    """Predictions of a model's frozen probes on another model's states, aligned fold by fold: int [pair].

    Pair i is example `rows[i]` of the source and row i of `states`. The map of a fold is fitted on pairs outside it, so
    neither probe nor map has seen what is read. With a generator the train pairs are shuffled: the null.
    Raises InputError where a fold leaves fewer train pairs than the smaller width.
    """
    folds, own = source.folds[rows], np.asarray(source.states, float)[rows]
    out = np.full(len(rows), -1)
    for fold in np.unique(folds):
        train, test = np.flatnonzero(folds != fold), folds == fold
        if len(train) < min(own.shape[1], states.shape[1]):
            raise InputError(
                f"{len(train)} train pairs cannot align states of width {own.shape[1]} and {states.shape[1]}: any two "
                "clouds would fit. Give more examples."
            )
        paired = train if generator is None else generator.permutation(train)
        align = procrustes(np.asarray(states, float)[paired], own[train])
        out[test] = source.predict(align(states[test]), folds[test])
    return out
