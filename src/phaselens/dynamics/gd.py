"""G and D: how much one token leads, how close the second is, and the ratio of their means.

`G = p1`, `D = p2 / p1` over all steps, layers 1..L and runs of a model; the ratio is of means, never a mean of ratios.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

Columns = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Operator:
    """A pair of G and D: the columns it needs, and G and D from them, all in [0, 1] and elementwise."""

    name: str
    needs: tuple[str, ...]
    g: Callable[[Columns], np.ndarray]
    d: Callable[[Columns], np.ndarray]
    formula: str


def lead(columns: Columns) -> np.ndarray:
    """`p1`, the probability of the first token (1). NaN where not recorded."""
    return columns["top1"]


def rival(columns: Columns) -> np.ndarray:
    """`p2 / p1` (1). NaN where not recorded. Keeps: restriction of the vocabulary that leaves both in."""
    return columns["rivalry"]


def concentrated_mass(columns: Columns) -> np.ndarray:
    """`top10_mass * (1 - entropy_norm)` (1). Moves with: the size of the vocabulary, through ln V."""
    return columns["top10_mass"] * (1.0 - columns["entropy_norm"])


def spread_rival(columns: Columns) -> np.ndarray:
    """`rivalry * dispersion` (1)."""
    return columns["rivalry"] * columns["dispersion"]


def lead_in_top10(columns: Columns) -> np.ndarray:
    """`p1 / top10_mass`, the first token's share of the ten (1).

    Renormalised to as many tokens for every vocabulary.
    """
    return columns["top1"] / columns["top10_mass"]


def lead_in_nucleus(columns: Columns) -> np.ndarray:
    """`p1 / nucleus_mass`, the first token's share of the nucleus (1); between p1 and p1 / .99."""
    return columns["top1"] / columns["nucleus_mass"]


PLAIN = Operator("p1, rivalry", ("top1", "rivalry"), lead, rival, "G = p1, D = p2/p1")
MASS = Operator(
    "mass, dispersed rivalry",
    ("top10_mass", "entropy_norm", "rivalry", "dispersion"),
    concentrated_mass,
    spread_rival,
    "G = top10_mass (1 - entropy_norm), D = rivalry dispersion",
)
TOP10 = Operator(
    "p1 in top 10", ("top1", "top10_mass", "rivalry"), lead_in_top10, rival, "G = p1/top10_mass, D = p2/p1"
)
NUCLEUS = Operator(
    "p1 in nucleus", ("top1", "nucleus_mass", "rivalry"), lead_in_nucleus, rival, "G = p1/nucleus_mass, D = p2/p1"
)
OPERATORS = (PLAIN, MASS, TOP10, NUCLEUS)


def jointly_defined(g: np.ndarray, d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """G and D with a cell kept only where both are defined, so that both means are over the same cells."""
    both = np.isfinite(g) & np.isfinite(d)
    return np.where(both, g, np.nan), np.where(both, d, np.nan)
