"""Several tests in one family: Holm's step-down adjustment."""

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
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
