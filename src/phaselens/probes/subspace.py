"""Accuracy of what is left when a state is reduced to k numbers: a subspace, single features, rotated features."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.crossfit import Task
from phaselens.probes.design import as_features
from phaselens.probes.logistic import fit_logistic


@dataclass(frozen=True, eq=False)
class SubspaceAgainstFeatures:
    """Held-out hits of a rank-k subspace and of the k best single features (1 or 0, NaN without label).

    `subspace` and `features` [example]; `rotated` [rotation, example] are the best features after random rotations.
    The subspace needs no rotations: its hits are the same in every orthogonal basis.
    """

    subspace: np.ndarray
    features: np.ndarray
    rotated: np.ndarray

    @property
    def difference(self) -> float:
        """Accuracy of the subspace minus that of the best features (1)."""
        return float(np.nanmean(self.subspace) - np.nanmean(self.features))


def supervised_basis(features: Tensor, codes: np.ndarray, k: int) -> Tensor:
    """Orthonormal basis of the k-dimensional subspace of partial least squares (1), float32 [d, k].

    Each direction has the largest covariance with the class indicators after the earlier components are taken out of
    the features; the first is the mean-difference direction of two classes. Equivariant under rotation.
    Shapes: features [example, d], codes int [example] without -1. Fewer than k columns where the features have no
    more. Source: Wold 1975; de Jong 1993.
    """
    left = features.double() - features.double().mean(dim=0)
    classes = np.unique(codes)
    wanted = torch.as_tensor(codes[:, None] == classes, dtype=torch.float64)
    wanted = wanted - wanted.mean(dim=0)
    total, basis = float(left.square().sum()), []
    for _ in range(min(k, *left.shape)):
        shared = left.T @ wanted
        direction = torch.linalg.svd(shared, full_matrices=False).U[:, 0]
        component = left @ direction
        size = component.square().sum()
        if float(size) <= 1e-12 * total:
            break
        left = left - component[:, None] * (component @ left / size)
        basis.append(direction)
    if not basis:
        raise InputError("the features are constant, so no subspace can be read from them.")
    return torch.linalg.qr(torch.stack(basis, dim=1)).Q.float()


def best_features(features: Tensor, codes: np.ndarray, k: int) -> np.ndarray:
    """Indices of the k single features with the largest share of variance between classes (F ratio): int [k].

    Shapes: features [example, d], codes int [example]. Constant features come last.
    """
    ready = features.double() - features.double().mean(dim=0)
    total = ready.square().sum(dim=0)
    between = torch.zeros_like(total)
    for code in np.unique(codes):
        part = ready[torch.as_tensor(codes == code)]
        between += len(part) * part.mean(dim=0).square()
    share = torch.where(total > 0, between / total.clamp_min(1e-30), torch.zeros_like(total))
    return torch.argsort(share, descending=True, stable=True)[:k].numpy()


def reduced_hits(layer: Tensor | np.ndarray, task: Task, reduce: Callable[[Tensor, np.ndarray], Tensor], l2: float):
    """Held-out hits when each fold's probe reads only `features @ reduce(train features, train codes)`: [example].

    `reduce` returns a matrix [d, k] and sees the train fold only. Shapes: layer [example, d]; first draw of the task.
    """
    features, codes = as_features(layer).float(), task.codes[0]
    hits = np.full(len(codes), np.nan)
    for fold in range(task.n_folds):
        train = (task.folds != fold) & (codes >= 0)
        test = (task.folds == fold) & (codes >= 0)
        small = features @ reduce(features[torch.as_tensor(train)], codes[train])
        probes = fit_logistic(small[None], codes, None, l2, train=train)
        hits[test] = (probes.predict(small[None])[0] == codes)[test]
    return hits


def rank_curve(layer: Tensor | np.ndarray, task: Task, ranks: tuple[int, ...], *, l2: float = 1.0) -> np.ndarray:
    """Held-out hits against the rank of the retained subspace (1): [rank, example]."""
    return np.stack([reduced_hits(layer, task, partial(supervised_basis, k=k), l2) for k in ranks])


def feature_curve(layer: Tensor | np.ndarray, task: Task, counts: tuple[int, ...], *, l2: float = 1.0) -> np.ndarray:
    """Held-out hits against the number of best single features (1): [count, example]."""
    return np.stack([reduced_hits(layer, task, partial(_pick, k=k), l2) for k in counts])


def subspace_against_features(
    layer: Tensor | np.ndarray, task: Task, rotations: list[Tensor], *, k: int = 8, l2: float = 1.0
) -> SubspaceAgainstFeatures:
    """Rank-k subspace against the k best single features, also after random rotations, all chosen on train folds (1).

    Shapes: layer [example, d]; rotations: matrices [d, d] (20 Haar draws). Whether signal is spread over features is
    the first difference; whether the model's own basis is special is how it compares with the rotated ones. In a basis
    drawn at random any signal is spread, so the difference lies below those wherever features align with the signal.
    """
    features, pick = as_features(layer).float(), partial(_pick, k=k)
    turned = [reduced_hits(features @ turn, task, pick, l2) for turn in rotations]
    return SubspaceAgainstFeatures(
        reduced_hits(features, task, partial(supervised_basis, k=k), l2),
        reduced_hits(features, task, pick, l2),
        np.stack(turned) if turned else np.empty((0, len(features))),
    )


def _pick(features: Tensor, codes: np.ndarray, k: int) -> Tensor:
    return torch.eye(features.shape[1])[:, best_features(features, codes, k)]
