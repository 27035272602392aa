"""Several tests in one family: Holm's step-down adjustment, and how many of several effects are there."""

import math

import numpy as np
from numpy.typing import ArrayLike


def holm(p: ArrayLike) -> np.ndarray:
    """Holm-adjusted p-values (probability), in the order given.

    `p'_(i) = max_{j<=i} min(1, (m - j + 1) p_(j))` over the m defined p-values, ascending.
    Shapes: p [n] -> [n]. NaN: a test without a p-value stays NaN and does not count in m.
    Keeps: the order. Moves with: the size of the family. Source: Holm 1979.
    """
    p = np.asarray(p, float)
    out = np.full(p.shape, np.nan)
    seen = np.flatnonzero(np.isfinite(p))
    order = seen[np.argsort(p[seen], kind="stable")]
    factor = len(order) - np.arange(len(order))
    out[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * factor)) if len(order) else out[order]
    return out


def partial_conjunction(p: np.ndarray, least: int) -> float:
    """p-value that fewer than `least` of several effects are there (probability): `(n - least + 1) p_(least)`.

    Bonferroni's form, valid under any dependence. Shapes: p [n]. NaN: fewer p-values than `least`, or one of them NaN.
    Source: Benjamini and Heller 2008, "Screening for partial conjunction hypotheses".
    """
    p = np.asarray(p, float)
    if not 1 <= least <= len(p) or np.isnan(p).any():
        return math.nan
    return float(min(1.0, (len(p) - least + 1) * np.sort(p)[least - 1]))
