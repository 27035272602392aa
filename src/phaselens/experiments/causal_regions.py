"""Experiment: does behaviour need what a probe reads? Effects by layer, the random band, and the evidence for F5."""

import math
from collections.abc import Sequence

import numpy as np

from phaselens.claims import IntervalEvidence, Region, above
from phaselens.experiments.base import Panel, Result, declared, of_interventions
from phaselens.experiments.pooled import BOOTSTRAPS, Asked, beyond, each_model, identity, pooled
from phaselens.experiments.result_tables import bounds, filled
from phaselens.interventions.outcome_records import Causal
from phaselens.probes.capacity import high_capacity_region
from phaselens.statistics.intervals import expanded_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights

REGION = 0.9
BAND = "equal variance"
LEVEL = 0.025  # above the 95 % band of the random subspaces


def region(stored: Causal) -> np.ndarray:
    """Layers of at least .9 of the peak capacity (bool [layer]); none where no layer has any."""
    return high_capacity_region(stored.capacity, REGION)


def effect(stored: Causal, values: np.ndarray) -> np.ndarray:
    """Fall of the margin (nats) against no intervention, [..., layer, item]."""
    return stored.plain - values


def by_unit(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Mean over the items of each unit, NaN left out: [..., item] -> [..., unit]."""
    names, member = np.unique(units, return_inverse=True)
    out = np.full((*values.shape[:-1], len(names)), np.nan)
    for u in range(len(names)):
        mine = values[..., member == u]
        seen = np.isfinite(mine).sum(axis=-1)
        total = np.where(np.isfinite(mine), mine, 0.0).sum(axis=-1)
        out[..., u] = np.where(seen > 0, total / np.maximum(seen, 1), np.nan)
    return out


def band(stored: Causal, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """95 % band of the mean effect of random subspaces by layer (nats): two [layer]; NaN where none was drawn."""
    drawn = effect(stored, stored.random[kind])
    lo, hi = np.full(len(stored.layers), np.nan), np.full(len(stored.layers), np.nan)
    for i in range(len(stored.layers)):
        means = [d[i].mean() for d in drawn if np.isfinite(d[i]).all()]
        if len(means) >= 2:
            lo[i], hi[i] = np.quantile(means, [0.025, 0.975])
    return lo, hi


def rows_of(stored: Causal, weights: np.ndarray) -> list[dict[str, object]]:
    """One row per layer and arm: mean fall of the margin with its interval over units, beside the random band."""
    lo, hi = band(stored, BAND)
    high = region(stored)
    arms = dict(stored.margin) | {f"random, {k}": np.nanmean(v, axis=0) for k, v in stored.random.items() if len(v)}
    rows = []
    for arm, values in arms.items():
        falls = by_unit(effect(stored, values), stored.units)
        key = arm.removeprefix("random, ")
        other = stored.elsewhere.get(key)
        for i, layer in enumerate(stored.layers):
            mean, interval = _mean(falls[i], weights)
            surprisal = math.nan if other is None else float(np.mean(other[i] - stored.elsewhere_plain))
            rows.append(
                {
                    "model": stored.model,
                    "layer": layer,
                    "depth": layer / stored.n_layers,
                    "capacity": float(stored.capacity[i]),
                    "region": bool(high[i]),
                    "arm": arm,
                    "margin": mean,
                    **bounds(interval),
                    "correct": float(np.mean(values[i][np.isfinite(values[i])] > 0)),
                    "band_lo": float(lo[i]),
                    "band_hi": float(hi[i]),
                    "outside": bool(mean > hi[i] or mean < lo[i]),
                    "surprisal_elsewhere": surprisal,
                }
            )
    return rows


def _mean(values: np.ndarray, weights: np.ndarray):
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (weights @ filled) / (weights @ seen)
        mean = float(filled.sum() / seen.sum()) if seen.any() else math.nan
    return mean, expanded_interval(drawn, int(seen.sum()))


def unit_weights(stored: Causal, seed: int, n_boot: int) -> np.ndarray:
    """The bootstrap of units, int [n_boot, unit]."""
    return bootstrap_weights(len(np.unique(stored.units)), np.random.default_rng([seed, 31]), n_boot=n_boot)


def evidence(stored: Sequence[Causal], seed: int, *, n_boot: int = BOOTSTRAPS) -> IntervalEvidence:
    """Evidence for F5: excess over random subspaces in high-capacity layers, less the same elsewhere (nats).

    The mean over models, units resampled. One subspace moves the margin at some layers more than at others by itself,
    so its fall in the region, and that less the fall elsewhere, must each lie above the 95 % band of the random ones.
    Elsewhere are layers behind the first block: that the embedding matters less than what is made of it says nothing.
    """
    split = [(one, *_layers(one)) for one in stored]
    usable = [(one, high, low) for one, high, low in split if high.any() and low.any()]
    counts = {"models": len(usable), "items": sum(len(one.plain) for one, _, _ in usable)}
    if not usable:
        why = (
            "high-capacity layers and others behind the first block are both needed, each with random subspaces of "
            "equal variance"
        )
        why = why if stored else "no causal study is stored: add the experiment 'causal' to a study of models"
        none = undefined_interval(why)
        return IntervalEvidence(math.nan, none, above(0), (Region(hi=0),), counts=counts, n=0, needed=why, lacking=why)
    asked = [Asked(one.model, _apart(one, high, low), one.units) for one, high, low in usable]
    found = pooled(asked, seed, n_boot=n_boot)
    own = np.mean([_falls(one, one.margin["probe subspace"], high, low) for one, high, low in usable], axis=0)
    least = min(len(one.random[BAND]) for one, _, _ in usable)
    drawn = np.mean(
        [[_falls(one, one.random[BAND][k], high, low) for k in range(least)] for one, high, low in usable], axis=0
    )
    outcomes = (
        beyond(own[0], drawn[:, 0], "random subspace of equal variance", "random subspaces", LEVEL),
        beyond(own[1], drawn[:, 1], "random subspaces between layers", "random subspaces, region less the rest", LEVEL),
        identity([one.identity for one in stored]),
        each_model(found, (Region(hi=0),)),
    )
    return IntervalEvidence(
        **found.whole.against_zero(),
        supported=above(0),
        rejected=(Region(hi=0),),
        counts=counts,
        needed="more items, or a model with layers of lower capacity",
        outcomes=outcomes,
        of="excess fall of the margin",
    )


def _layers(one: Causal) -> tuple[np.ndarray, np.ndarray]:
    """Layers of high capacity and others but the embedding, where random subspaces of equal variance exist (bool)."""
    drawn = one.random.get(BAND, np.zeros((0, 0, 0)))
    usable = np.array([len(drawn) > 0 and bool(np.isfinite(drawn[:, i]).any()) for i in range(len(one.layers))])
    return region(one) & usable, ~region(one) & usable & (np.array(one.layers) > 0)


def _apart(one: Causal, high: np.ndarray, low: np.ndarray) -> np.ndarray:
    """Excess fall over the random subspaces in the region less the same elsewhere (nats) [item]."""
    used = high | low
    excess = np.nanmean(one.random[BAND][:, used], axis=0) - one.margin["probe subspace"][used]
    return excess[high[used]].mean(axis=0) - excess[low[used]].mean(axis=0)


def _falls(one: Causal, values: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[float, float]:
    """Mean fall of the margin in the region, and that less the same elsewhere (nats); NaN where a layer has none."""
    fall = effect(one, values).mean(axis=-1)
    return float(fall[high].mean()), float(fall[high].mean() - fall[low].mean())


def analysed(stored: Sequence[Causal], seed: int, n_boot: int = BOOTSTRAPS) -> Result:
    """The table of causal regions and the evidence for F5, from stored records."""
    rows = [row for one in stored for row in rows_of(one, unit_weights(one, seed, n_boot))]
    return Result(filled(causal=rows), evidence={"F5": evidence(stored, seed, n_boot=n_boot)})


def _analyse(panel: Panel) -> Result:
    return of_interventions(panel, "causal", analysed, panel.n_boot)


CAUSAL = declared("causal", _analyse)
