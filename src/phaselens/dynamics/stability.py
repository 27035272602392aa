"""Whether findings about models stay: their order over temperatures and windows, claims from small panels to large.

The order over prompt categories is in `statistics.concordance`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights, resampled_ratio


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the last axis (1), [..., M] -> [...], ties at mean ranks. NaN: one has no spread."""
    a, b = (rankdata(x, axis=-1) - (x.shape[-1] + 1) / 2 for x in (np.asarray(first), np.asarray(second)))
    top, bottom = (a * b).sum(axis=-1), np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)[()]


def subpanels(n_models: int, generator: np.random.Generator, *, size: int = 6, n_panels: int = 200) -> np.ndarray:
    """Random panels of six of the models, int [panel, size], each without repeats; panels may overlap."""
    if not 0 < size <= n_models:
        raise InputError(f"panels of {size} need as many models; got {n_models}.")
    return np.sort(np.argsort(generator.random((n_panels, n_models)), axis=1)[:, :size], axis=1)


@dataclass(frozen=True)
class Survival:
    """Of the findings on small panels, the share that the full panel does not support, with its interval.

    `found` is how often a claim is supported on a small panel; `n_claims` were bootstrapped.
    """

    lost: float
    interval: Interval
    found: float
    n_claims: int


def lost_at_scale(
    small: np.ndarray, full: np.ndarray, generator: np.random.Generator, *, n_boot: int = 2000
) -> Survival:
    """The same from verdicts: small [claim, panel] and full [claim], each 0 or 1 (proportion)."""
    small, full = np.asarray(small, float), np.asarray(full, float)
    if small.ndim != 2 or full.shape != small.shape[:1]:
        raise InputError(f"verdicts must be [claim, panel] and [claim]; got {small.shape} and {full.shape}.")
    found = small.sum(axis=1)
    lost = found * (1 - full)
    n = len(full)
    draws = resampled_ratio(lost, found, bootstrap_weights(n, generator, n_boot=n_boot))
    total = found.sum()
    if not total:
        nothing = undefined_interval("no claim is supported on any small panel")
        return Survival(float("nan"), nothing, 0.0, n)
    return Survival(float(lost.sum() / total), percentile_interval(draws, n), float(small.mean()), n)
