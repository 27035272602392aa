"""The least set of tokens that holds 99 % of the probability.

Sorting 50,000 probabilities costs three times the matrix product that made them. The kernel instead halves the interval
in which the smallest member lies until it holds only probabilities that are equal within one part in 10^5, and counts
how many of those are still needed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

NUCLEUS_MASS = 0.99
RESOLUTION = 1e-5  # nats of the threshold: one rounding of a float32 mass where the tail is flat


def nucleus_by_sorting(log_p: Float[Tensor, "*batch vocab"]) -> Float[Tensor, "*batch 3"]:
    """Mass (in [.99, 1]), size (tokens) and renormalised entropy (nats) of the nucleus, by a full sort.

    The set is the shortest head of the falling probabilities whose sum reaches .99; of tied tokens as many as needed.
    """
    falling = log_p.sort(-1, descending=True).values
    total = falling.exp().cumsum(-1)
    size = (total < NUCLEUS_MASS).sum(-1, keepdim=True).clamp(max=log_p.shape[-1] - 1) + 1
    mass = total.gather(-1, size - 1)
    inside = torch.arange(log_p.shape[-1], device=log_p.device) < size
    weighted = torch.where(inside, falling.exp() * falling.clamp(min=-1e4), 0).sum(-1, keepdim=True)
    entropy = (mass.log() - weighted / mass).clamp(min=0)
    return torch.cat((mass, size.to(log_p.dtype), entropy), -1)


def nucleus_by_bisection(
    p: Float[Tensor, "*batch vocab"],
    z: Float[Tensor, "*batch vocab"],
    work: Float[Tensor, "*batch vocab"],
    top_log_probs: Float[Tensor, "*batch top"],
    log_total: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch 3"]:
    """The same three numbers from probabilities and their logits z = ln p + log_total, without a sort; overwrites
    `work`.

    The size is exact up to float32 rounding of the mass: about one part in 10^5 where the tail is flat.
    """
    vocab = p.shape[-1]
    # All tokens below .01 / V together hold less than 1 %, so the smallest member is not among them.
    low = torch.full_like(log_total, math.log((1 - NUCLEUS_MASS) / vocab)).minimum(top_log_probs[..., 0] - RESOLUTION)
    high = top_log_probs[..., 0] + RESOLUTION
    widest = math.log(vocab / (1 - NUCLEUS_MASS))
    for _ in range(math.ceil(math.log2(widest / RESOLUTION)) + 1):
        middle = (low + high) / 2
        enough = _mass_from(p, middle, work) >= NUCLEUS_MASS
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    size_above = torch.ge(p, high.exp().unsqueeze(-1), out=work).sum(-1)
    mass_above = work.mul_(p).sum(-1)
    weighted = work.mul_(z).sum(-1) - mass_above * log_total
    more = ((NUCLEUS_MASS - mass_above) / low.exp()).ceil().clamp(min=1)
    size = (size_above + more).clamp(max=vocab)
    added = (size - size_above) * low.exp()
    mass = mass_above + added
    entropy = (mass.log() - (weighted + added * low) / mass).clamp(min=0)
    return torch.stack((mass.clamp(max=1), size, entropy), -1)


def _mass_from(p: Tensor, log_threshold: Tensor, work: Tensor) -> Tensor:
    """Probability held by tokens at or above the threshold."""
    return torch.ge(p, log_threshold.exp().unsqueeze(-1), out=work).mul_(p).sum(-1)
