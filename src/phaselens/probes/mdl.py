"""Minimum description length of labels given states: how many nats an online code needs, first to last example."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from phaselens.errors import InputError
from phaselens.probes.logistic import check_classes, encode, fit_logistic

SHARES = (0.002, 0.004, 0.008, 0.016, 0.032, 0.0625, 0.125, 0.25, 0.5)


@dataclass(frozen=True, eq=False)
class OnlineCode:
    """Length of the online code of every layer (nats), of the uniform code, and the l2 whose code is shortest.

    `nats` [layer]; `compression` = uniform / nats: 1 says that states do not help to send labels.
    """

    nats: np.ndarray
    uniform_nats: float
    l2: np.ndarray
    blocks: np.ndarray

    @property
    def compression(self) -> np.ndarray:
        """Uniform code length over online code length (1): [layer]."""
        return self.uniform_nats / self.nats


def online_code(
    X: Iterable,
    y: np.ndarray,
    groups: np.ndarray,
    generator: np.random.Generator,
    *,
    l2: float | Sequence[float] = (1e3, 1e2, 1e1, 1.0),
    shares: tuple[float, ...] = SHARES,
) -> OnlineCode:
    """Length of the prequential code of the labels given the states of each layer (nats).

    Groups come in random order; the first block is sent with the uniform code, block i + 1 with a probe fitted on
    blocks 1..i: `n_1 ln K - sum_i sum_{j in block i+1} ln p_i(y_j | x_j)`. `p_i` is mixed with the uniform
    distribution, weight `1 / (n_i + 1)`, so that a class not yet seen costs a finite length. With several l2 the
    shortest code is sent, and naming it costs `ln` of their number. A block before which only one class was seen is
    sent uniformly. Blocks end where a group ends.
    Shapes: X (layer, example, d), y [example], groups [example]. Moves with: the order drawn.
    Source: Voita and Titov 2020, "Information-theoretic probing with minimum description length".
    """
    codes, classes = encode(y)
    groups = np.asarray(groups)
    if codes.ndim != 1 or groups.shape != codes.shape:
        raise InputError(f"one label and one group per example are needed; got {codes.shape} and {groups.shape}.")
    blocks = _blocks(groups, codes >= 0, generator, shares)
    path = np.atleast_1d(np.asarray(l2, float))
    masks = [(blocks >= 0) & (blocks < b) for b in range(1, blocks.max() + 1)]
    coded = [b for b, mask in enumerate(masks, 1) if len(np.unique(codes[mask])) > 1]
    if not coded:
        raise InputError("no block comes after examples of two classes; give more examples or larger shares.")
    train = np.stack([masks[b - 1] for b in coded])
    check_classes(np.broadcast_to(codes, train.shape), train, len(classes))
    layers = list(X)
    flat = np.isin(blocks, coded, invert=True) & (blocks >= 0)
    start = flat.sum() * np.log(len(classes)) + np.log(len(path))
    lengths = np.stack([start + _lengths(layers, codes, classes, blocks, coded, train=train, l2=one) for one in path])
    return OnlineCode(
        lengths.min(axis=0), float((blocks >= 0).sum() * np.log(len(classes))), path[lengths.argmin(axis=0)], blocks
    )


def _lengths(layers, codes, classes, blocks, coded, train, l2: float) -> np.ndarray:
    labels = np.where(codes >= 0, codes, -1)
    probes = fit_logistic(layers, labels, None, l2, train=train)
    out = np.zeros(len(layers))
    for i, layer in enumerate(layers):
        chances = torch.softmax(probes.layer_scores(i, torch.as_tensor(np.asarray(layer)).float()).double(), -1).numpy()
        for row, block in enumerate(coded):
            members = np.flatnonzero(blocks == block)
            mix = 1 / (train[row].sum() + 1)
            p = (1 - mix) * chances[row, members, codes[members]] + mix / len(classes)
            out[i] -= np.log(p).sum()
    return out


def _blocks(groups: np.ndarray, known: np.ndarray, generator: np.random.Generator, shares: tuple[float, ...]):
    """Block of every example in sending order (-1: no label), groups whole."""
    if list(shares) != sorted(set(shares)) or not 0 < shares[0] <= shares[-1] < 1:
        raise InputError(f"shares of examples rise strictly inside (0, 1); got {shares}.")
    names, member = np.unique(groups[known], return_inverse=True)
    if len(names) < 2:
        raise InputError("an online code needs at least two groups.")
    order = generator.permutation(len(names))
    ends = np.cumsum(np.bincount(member)[order]) / known.sum()
    # A group belongs to the block in which its last example falls, so the first block is never empty.
    block_of = np.empty(len(names), int)
    block_of[order] = np.searchsorted(np.asarray(shares), ends - 1e-12)
    _, block_of = np.unique(block_of, return_inverse=True)
    blocks = np.full(len(groups), -1)
    blocks[known] = block_of[member]
    return blocks
