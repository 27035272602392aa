"""Permutation p-values that count the observed order among the permuted ones, and so are never 0."""

import math
from collections.abc import Callable

import numpy as np

from phaselens.errors import InputError


def permutation_p(observed: float, null: np.ndarray) -> float:
    """One-sided p-value: how often the null is at least as large (probability).

    `p = (1 + #{null >= observed}) / (1 + n)` over the finite null values. NaN: observed undefined or no null value.
    Source: Phipson and Smyth 2010, "Permutation p-values should never be zero".
    """
    null = np.asarray(null, float)
    null = null[np.isfinite(null)]
    if not math.isfinite(observed) or not len(null):
        return math.nan
    return float((1 + (null >= observed - 1e-12).sum()) / (1 + len(null)))


def permutation_test(
    statistic: Callable[[np.ndarray], float],
    labels: np.ndarray,
    generator: np.random.Generator,
    *,
    blocks: np.ndarray | None = None,
    n_permutations: int = 2000,
) -> tuple[float, np.ndarray]:
    """p-value of `statistic(labels)` when labels move freely inside each block (probability), and the null values.

    Shapes: labels [n], blocks int [n] (None: one block). Labels move by unit (prompt, model), so give one label per
    unit. NaN: as `permutation_p`. Raises InputError if blocks and labels differ in length.
    """
    labels = np.asarray(labels)
    blocks = np.zeros(len(labels), int) if blocks is None else np.asarray(blocks)
    if len(blocks) != len(labels):
        raise InputError(f"one block per label is needed; got {len(blocks)} blocks for {len(labels)} labels.")
    members = [np.flatnonzero(blocks == b) for b in np.unique(blocks)]
    null = np.empty(n_permutations)
    for i in range(n_permutations):
        moved = labels.copy()
        for block in members:
            moved[block] = labels[generator.permutation(block)]
        null[i] = statistic(moved)
    return permutation_p(float(statistic(labels)), null), null
