"""The features of one layer as a probe sees them, and everything that fits on them can share.

Rotation, l2 path, tasks, folds and draws all read one matrix; its Gram matrix and the factor made from it are computed
once. Centring by fold is absorbed by the unpenalised bias and scaling by fold by the penalty, so one matrix serves
every fold exactly.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError

ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Design:
    """Features of one layer, centred and divided by one scalar over all examples, with a column of ones (1).

    `rows` float32 [example, d + 1], last column 1; `centre` float32 [d] and `scale` (unit of the states) undo it;
    `gram` float64 [d + 1, d + 1] = `rows.T rows / n`.
    """

    rows: Tensor
    centre: Tensor
    scale: float
    gram: Tensor

    @property
    def width(self) -> int:
        """Number of features d."""
        return self.rows.shape[1] - 1

    def factor(self, penalty: float, curvature: float = 0.25) -> Tensor:
        """Inverse of `curvature * gram + penalty * D`, D = identity without the bias (1); float32 [d + 1, d + 1].

        With curvature 1/4 this bounds the Hessian of the mean logistic loss from above (Boehning and Lindsay 1988), so
        it preconditions every task, fold and draw on these features at once.
        """
        matrix = curvature * self.gram
        matrix.diagonal()[:-1] += penalty
        # A floor far below what moves a step keeps the factor whole where features are constant.
        matrix.diagonal().add_(1e-10 * float(matrix.diagonal().mean()))
        return torch.cholesky_inverse(torch.linalg.cholesky(matrix)).to(self.rows.dtype)


def as_features(layer: Tensor | np.ndarray, where: str = "layer") -> Tensor:
    """One layer's states as a float32 or float64 tensor [example, d]; raises InputError for another shape or NaN."""
    features = torch.as_tensor(np.asarray(layer) if not isinstance(layer, Tensor) else layer).detach()
    if features.ndim != 2 or 0 in features.shape:
        raise InputError(f"{where}: features of shape [example, d] are needed; got {tuple(features.shape)}.")
    features = features if features.dtype == torch.float64 else features.float()
    bad = ~torch.isfinite(features).all(dim=1)
    if bad.any():
        raise InputError(
            f"{where}: {int(bad.sum())} of {len(bad)} examples hold NaN or infinite features (first: example "
            f"{int(bad.nonzero()[0])}). Leave these examples out, with their labels and groups."
        )
    return features


def make_design(layer: Tensor | np.ndarray, where: str = "layer") -> Design:
    """Centre, divide by one scalar (root mean square over examples and features), and add the bias column.

    Shapes: layer [example, d]. Constant features give scale 1. Raises InputError for NaN, infinity or another shape.
    """
    features = as_features(layer, where)
    centre = features.mean(dim=0)
    rows = torch.ones(len(features), features.shape[1] + 1, dtype=torch.float32, device=features.device)
    shifted = features - centre
    scale = float(torch.linalg.vector_norm(shifted)) / shifted.numel() ** 0.5
    # Below this the spread is the rounding of the mean: one token everywhere has one embedding.
    if scale <= ROUNDING * float(features.abs().max()):
        shifted, scale = torch.zeros_like(shifted), 1.0
    rows[:, :-1] = shifted / scale
    gram = (rows.T @ rows).double() / len(rows)
    return Design(rows, centre.float(), scale, gram)


def fold_moments(design: Design, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and root mean square of the design's features under each row of weights (1).

    `m = sum_i w_i x_i`, `s = sqrt(mean_j sum_i w_i (x_ij - m_j)^2)`, weights summing to 1.
    Shapes: weights [B, example]; returns [B, d] and [B]. Constant features give s = 1.
    """
    mean = (weights @ design.rows)[:, :-1].double()
    square = (weights @ design.rows[:, :-1].square().sum(dim=1, keepdim=True)).double()[:, 0]
    variance = ((square - mean.square().sum(dim=1)) / design.width).clamp_min(0)
    return mean, torch.where(variance > 1e-12, variance.sqrt(), torch.ones_like(variance))
