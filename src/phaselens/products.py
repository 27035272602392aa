"""Float32 products on a processor by oneDNN.

The product that Torch takes by itself is MKL's, which needs twice to three times as long on processors that are not
Intel's (170 against 400 GFlop/s on two Zen 5 cores); on Intel's it was not measured. Where this build of Torch has no
oneDNN, all here is Torch's own. Nothing is timed, so the same machine gives the same bytes.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

TOLERANCE = 1e-4
# Fewer rows are as fast, or faster, as they are.
LEAST_ROWS = 64


def product(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """States [..., d] @ weight.T (+ bias) in float32, for a weight [n, d] of any floating dtype."""
    weight = weight.detach().float()
    if weight.device.type == "cpu" and _has_onednn():
        return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")
    return linear(states, weight, bias)


@cache
def _has_onednn() -> bool:
    """Whether this build of Torch has the product of oneDNN, tried once."""
    probe = torch.linspace(-1, 1, 64).view(4, 16)
    try:
        found = torch.ops.mkldnn._linear_pointwise(probe, probe, None, "none", [], "")
    except (AttributeError, RuntimeError):
        return False
    return bool((found - probe @ probe.T).abs().max() <= TOLERANCE)


class ByOneDNN(TorchFunctionMode):
    """While it is entered, linear layers of this thread that take many rows are products by oneDNN.

    That is: plain float32 tensors on a processor, 64 rows or more, no gradient recorded and no tangent carried. All
    else is untouched.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Take the place of `torch.nn.functional.linear`."""
        if func is linear and not kwargs and _takes(*args):
            return product(*args)
        return func(*args, **(kwargs or {}))


def _takes(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    tensors = [t for t in (states, weight, bias) if t is not None]
    return (
        all(type(t) in (Tensor, torch.nn.Parameter) and t.dtype == torch.float32 and t.is_cpu for t in tensors)
        and not (torch.is_grad_enabled() and any(t.requires_grad for t in tensors))
        and unpack_dual(states).tangent is None
        and states.numel() >= LEAST_ROWS * states.shape[-1]
    )
