"""Two tensors against each other: bit by bit, or by their largest difference; equal where both are not finite alike."""

import torch
from torch import Tensor


def identical(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors agree bit by bit; NaN equals NaN at the same place."""
    if a.shape != b.shape:
        return False
    if torch.equal(a, b):
        return True
    return bool(((a == b) | (a.isnan() & b.isnan())).all())


def gap(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference, relative to the largest finite value of `b` where that exceeds 1.

    Infinite for different shapes, or where one is finite and the other is not.
    """
    if a.shape != b.shape:
        return float("inf")
    a, b = a.detach().float(), b.detach().float()
    usable = torch.isfinite(a) & torch.isfinite(b)
    if not identical(torch.where(usable, 0.0, a), torch.where(usable, 0.0, b)):
        return float("inf")
    if not bool(usable.any()):
        return 0.0
    return float((a - b)[usable].abs().max()) / max(1.0, float(b[usable].abs().max()))
