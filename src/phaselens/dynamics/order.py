"""Whether findings about models stay: their order over temperatures and windows, claims from small panels to large.

The order over prompt categories is in `statistics.orders`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights, resampled_medians, resampled_ratio


def _complete(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim != 2:
        raise InputError(f"values must be [model, prompt]; got shape {values.shape}.")
    return np.isfinite(values).all(axis=0)


def spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's correlation over the last axis (1), [..., M] -> [...], ties at mean ranks. NaN: one has no spread."""
    a, b = (rankdata(x, axis=-1) - (x.shape[-1] + 1) / 2 for x in (np.asarray(first), np.asarray(second)))
    top, bottom = (a * b).sum(axis=-1), np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)[()]


def order_agreement(
    first: np.ndarray, second: np.ndarray, generator: np.random.Generator, *, n_boot: int = 2000
) -> tuple[float, Interval]:
    """Spearman correlation of the order of models under two settings (1), with its prompt-bootstrap interval.

    Models are ordered by their median over prompts; prompts are resampled together in both settings. Resampling shakes
    close models, so the draws lie below the estimate: a lower bound above .7 is a strict demand.
    Shapes: [model, prompt] each, the same prompts. NaN: fewer than three models or two prompts that all models have.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise InputError(f"two settings of the same models and prompts are needed; got {first.shape}, {second.shape}.")
    usable = _complete(first) & _complete(second)
    n = int(usable.sum())
    if len(first) < 3 or n < 2:
        why = f"{len(first)} models and {n} common prompts where an order needs 3 and 2"
        return float("nan"), undefined_interval(why)
    a, b = first[:, usable], second[:, usable]
    weights = bootstrap_weights(n, generator, n_boot=n_boot)
    draws = spearman(resampled_medians(a.T, weights), resampled_medians(b.T, weights))
    return float(spearman(np.median(a, axis=1), np.median(b, axis=1))), percentile_interval(draws, n)


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


def scale_up(
    supported: Callable[[int, np.ndarray], bool],
    n_claims: int,
    n_models: int,
    generator: np.random.Generator,
    *,
    size: int = 6,
    n_panels: int = 200,
    n_boot: int = 2000,
) -> Survival:
    """Do findings on random 6-model panels survive on the full panel (proportion)?

    `supported(claim, models)` decides claim 0..n_claims-1 on the models given. The claim is resampled, since panels of
    one claim share their models. Compare with the same call on simulated data with a true effect of known size: a small
    panel that finds true effects loses none of them.
    NaN: no claim is ever supported on a small panel, or fewer than two claims. Source: claim T2.
    """
    panels = subpanels(n_models, generator, size=size, n_panels=n_panels)
    small = np.array([[supported(c, models) for models in panels] for c in range(n_claims)], float)
    full = np.array([supported(c, np.arange(n_models)) for c in range(n_claims)], float)
    return lost_at_scale(small, full, generator, n_boot=n_boot)


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
