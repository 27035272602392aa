"""What is done to the order of features and examples."""

import torch
from torch import Tensor


def permute_features(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """One permutation of the features, the same for every example (unit of the states): a rotation like any other."""
    return hidden[:, torch.randperm(hidden.shape[1], generator=generator)]


def permute_features_per_example(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """A permutation of the features drawn anew for each example (unit of the states).

    Keeps: the multiset of each state's values, so its mean, norm and sorted values. Destroys: everything else.
    """
    order = torch.rand(hidden.shape, generator=generator).argsort(dim=1).to(hidden.device)
    return hidden.gather(1, order)


def permute_examples(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """States dealt out anew to the examples of each block (unit of the states), which permutes labels."""
    blocks = torch.zeros(len(hidden), dtype=torch.long) if blocks is None else blocks
    out = torch.empty_like(hidden)
    for block in torch.unique(blocks):
        members = (blocks == block).nonzero()[:, 0]
        out[members] = hidden[members[torch.randperm(len(members), generator=generator)]]
    return out


def sort_features(
    hidden: Tensor, generator: torch.Generator, *, labels: Tensor | None = None, blocks: Tensor | None = None
) -> Tensor:
    """The values of each state in rising order (unit of the states): all that a permutation per example leaves."""
    return hidden.sort(dim=1).values
