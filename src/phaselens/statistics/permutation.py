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


def sign_flip_max(
    differences: np.ndarray, generator: np.random.Generator, *, n_flips: int = 2000, chunk: int = 200
) -> np.ndarray:
    """p-value of each mean paired difference against the largest of all under random signs of the units (probability).

    The statistic is `|mean| / standard error`; a flip turns all differences of a unit together, so the largest keeps
    how they hang together, and the error over all of them is held. Exact where a unit's difference is symmetric
    about 0. Shapes: differences [unit, feature], NaN left out -> [feature]. NaN: fewer than two units, or no spread.
    Source: Nichols and Holmes 2002; Winkler et al. 2014.
    """
    d = np.asarray(differences, float)
    seen = np.isfinite(d)
    d, n = np.where(seen, d, 0.0), seen.sum(axis=0)
    square = (d**2).sum(axis=0)

    def t(sums: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = sums / n
            out = np.abs(mean) / np.sqrt((square / n - mean**2) / (n - 1))
        return np.where((n > 1) & (square > 0) & np.isfinite(out), out, np.nan)

    own = t(d.sum(axis=0)[None])[0]
    if not np.isfinite(own).any():
        return np.full(d.shape[1], math.nan)
    largest = []
    for start in range(0, n_flips, chunk):
        signs = generator.choice([-1.0, 1.0], size=(min(chunk, n_flips - start), len(d)))
        largest.append(np.nanmax(t(signs @ d), axis=1))
    reached = np.concatenate(largest)[:, None] >= own - 1e-12
    return np.where(np.isfinite(own), (1 + reached.sum(axis=0)) / (1 + n_flips), math.nan)


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
