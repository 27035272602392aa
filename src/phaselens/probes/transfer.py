"""Frozen probes elsewhere: on other prompt families, and on another model after an orthogonal alignment."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import as_features
from phaselens.probes.folds import check_folds
from phaselens.probes.logistic import encode, fit_logistic


@dataclass(frozen=True, eq=False)
class Alignment:
    """Orthogonal map of one model's states onto another's: `scale (x - source_centre) rotation + target_centre`.

    Shapes: rotation float64 [d_source, d_target] with orthonormal rows or columns (the fewer); centres [d].
    `unexplained` is the share of the target's variance that the map leaves on the states it was fitted on (1).
    """

    rotation: Tensor
    source_centre: Tensor
    target_centre: Tensor
    scale: float
    unexplained: float

    def __call__(self, states: Tensor) -> Tensor:
        """States of the source model in the coordinates of the target: [..., d_source] -> [..., d_target]."""
        moved = (states.double() - self.source_centre) @ self.rotation
        return (self.scale * moved + self.target_centre).to(states.dtype)


def procrustes(source: Tensor | np.ndarray, target: Tensor | np.ndarray) -> Alignment:
    """Orthogonal alignment of paired states with least squared error (unit of the target's states).

    `R = U V'` of the singular value decomposition of `S'T` (centred), `scale = tr(singular values) / |S|^2`.
    Shapes: source [example, d_source], target [example, d_target], row i of both the same token of the same text.
    Fit it on train examples only: with fewer examples than features any two clouds align. Raises InputError for
    unpaired or NaN states. Source: Schoenemann 1966.
    """
    first, second = as_features(source, "source").double(), as_features(target, "target").double()
    if len(first) != len(second):
        raise InputError(f"alignment needs paired states, as many of each; got {len(first)} and {len(second)}.")
    centre, other = first.mean(dim=0), second.mean(dim=0)
    first, second = first - centre, second - other
    left, size, right = torch.linalg.svd(first.T @ second, full_matrices=False)
    rotation = left @ right
    kept = first @ rotation
    scale = float(size.sum() / kept.square().sum().clamp_min(1e-30))
    unexplained = float((second - scale * kept).square().sum() / second.square().sum().clamp_min(1e-30))
    return Alignment(rotation, centre, other, scale, unexplained)


def family_transfer(
    X: Iterable, y: np.ndarray, families: np.ndarray, folds: np.ndarray, l2: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out accuracy of probes trained on one prompt family and read on another (1), and the family names.

    Trained on family a outside fold f, read on family b inside fold f, for every f: the diagonal is held out too, and
    no group is on both sides. Shapes: X (layer, example, d), y [example] (-1: no label), families and folds [example];
    returns [layer, family trained on, family read]. NaN: no example of the family read has a label. Raises InputError
    where a train split has one class only.
    """
    codes, classes = encode(y)
    n_folds = check_folds(folds, None, len(codes))
    names = np.unique(np.asarray(families))
    if np.shape(families) != codes.shape:
        raise InputError(f"one family per label is needed; got {np.shape(families)} and {codes.shape}.")
    layers = list(X)
    train = np.stack(
        [[(np.asarray(families) == name) & (np.asarray(folds) != f) for f in range(n_folds)] for name in names]
    )
    probes = fit_logistic(layers, y, None, l2, train=train)
    right = probes.predict(layers) == np.where(codes >= 0, classes[codes], classes[0])
    own_fold = np.moveaxis(right, -1, 2)[:, :, np.arange(len(codes)), np.asarray(folds)]
    out = np.full((len(layers), len(names), len(names)), np.nan)
    for j, name in enumerate(names):
        read = (np.asarray(families) == name) & (codes >= 0)
        if read.any():
            out[:, :, j] = own_fold[:, :, read].mean(axis=-1)
    return out, names
