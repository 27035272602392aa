"""Passes that compute a few hundred columns of the vocabulary: what stands before the head is proved without all."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from phaselens.models.compare_tensors import gap
from phaselens.models.facts import Network
from phaselens.models.forward import run

WHOLE = 4096  # a vocabulary up to this size costs nothing
COLUMNS = 256


def spread_columns(rows: int, device: torch.device) -> Tensor:
    """At most 256 token ids spread evenly over the first `rows`, int64 [K] in rising order."""
    return torch.arange(0, rows, -(-rows // COLUMNS), device=device)


def narrowing(network: Network, rows: int) -> Tensor | None:
    """The columns to narrow a head to; None where its vocabulary is small or it is no plain product."""
    try:
        head = network.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    weight = getattr(head, "weight", None)
    if weight is None or weight.dim() != 2 or weight.shape[0] <= WHOLE or "forward" in vars(head):
        return None
    return spread_columns(rows, weight.device)


def narrows(network: Network, ids: Tensor, columns: Tensor, tol: float, whole: Tensor | None = None) -> bool:
    """Whether a narrowed pass over `ids` gives the same columns as a `whole` one (its logits; None: made here).

    Whatever needs all columns after the head (a bias of the whole vocabulary) fails or differs, in words of its own.
    """
    mask = torch.ones_like(ids)
    try:
        whole = run(network, ids, mask=mask).logits if whole is None else whole
        with narrowed(network, columns):
            return gap(run(network, ids, mask=mask).logits, whole[..., columns]) <= tol
    except Exception:
        return False


@contextmanager
def narrowed(network: Network, columns: Tensor) -> Iterator[None]:
    """Let the head of `network` give only these `columns` [K] of its product inside the block, where it `narrows`."""
    head = network.get_output_embeddings()
    bias = getattr(head, "bias", None)
    weight, bias = head.weight[columns], None if bias is None else bias[columns]
    head.forward = lambda hidden: nn.functional.linear(hidden, weight, bias)
    try:
        yield
    finally:
        del head.forward
