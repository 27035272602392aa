"""Agreement between two groupings of the same things."""

import math

import numpy as np

from phaselens.errors import InputError


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    """Adjusted Rand index of two groupings (1): 1 = same grouping whatever the labels, 0 = as by chance.

    `(sum C(n_ij,2) - E) / ((sum C(a_i,2) + sum C(b_j,2)) / 2 - E)`, `E = sum C(a_i,2) sum C(b_j,2) / C(n,2)`.
    Shapes: two [n] of labels. NaN: fewer than two things. Two groupings that are both trivial (all one, or all apart)
    in the same way give 1. Keeps: relabelling. Raises InputError if lengths differ. Source: Hubert and Arabie 1985.
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.ndim != 1:
        raise InputError(f"two groupings of the same things are needed; got shapes {first.shape} and {second.shape}.")
    n = len(first)
    if n < 2:
        return math.nan
    table = np.zeros((len(np.unique(first)), len(np.unique(second))))
    np.add.at(table, (np.unique(first, return_inverse=True)[1], np.unique(second, return_inverse=True)[1]), 1)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    expected = rows * columns / (n * (n - 1) / 2)
    most = (rows + columns) / 2
    return 1.0 if most == expected else float((together - expected) / (most - expected))


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2
