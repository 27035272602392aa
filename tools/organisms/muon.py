"""Muon: momentum whose matrices are made orthogonal before they are taken as a step.

In the library's own optimiser of that name the iteration runs in bfloat16, which a CPU without such instructions
multiplies thirty times more slowly than float32, and matrix by matrix; here it runs in float32 over all matrices of one
shape at once. Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly the nearest semi-orthogonal matrix of each: all singular values drawn to about 1 (.7 to 1.2).

    matrices: (..., rows, columns). Newton-Schulz iteration of the fifth degree after scaling to norm 1; a matrix of
    zeros stays zero.
    """
    a, b, c = COEFFICIENTS
    x = matrices / matrices.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, made orthogonal per matrix, times the root of rows over columns where that is above 1.

    Parameters have two dimensions, or more, of which the last two are the matrix. `weight_decay` is decoupled.
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 0.02, momentum: float = 0.95, weight_decay: float = 0.01
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step with the gradients at hand; parameters without one stay."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                self._step_of(params, shape, group)

    def _step_of(self, params: list[nn.Parameter], shape: torch.Size, group: dict) -> None:
        mix = group["momentum"]
        for p in params:
            if not self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
            self.state[p]["momentum"].lerp_(p.grad, 1 - mix)
        ahead = torch.stack([p.grad.lerp(self.state[p]["momentum"], mix) for p in params])
        scale = max(1.0, shape[-2] / shape[-1]) ** 0.5
        for p, update in zip(params, orthogonal(ahead), strict=True):
            p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=group["lr"] * scale)
