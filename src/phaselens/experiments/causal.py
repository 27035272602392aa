"""Experiment: does behaviour need what a probe reads? Effects by layer, the random band, and the evidence for F5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Region, above
from phaselens.statistics.intervals import percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights

ROWS = (
    "model:str layer:int depth:float capacity:float region:bool arm:str margin:float lo:float hi:float correct:float "
    "band_lo:float band_hi:float outside:bool surprisal_elsewhere:float"
)
REGION = 0.9


@dataclass(frozen=True, eq=False)
class StoredCausal:
    """Margins of one model as stored: arrays as in `interventions.causal.Causal`."""

    model: str
    layers: tuple[int, ...]
    n_layers: int
    plain: np.ndarray
    capacity: np.ndarray
    margin: Mapping[str, np.ndarray]
    random: Mapping[str, np.ndarray]
    units: np.ndarray
    identity: float
    elsewhere_plain: np.ndarray
    elsewhere: Mapping[str, np.ndarray]

    @property
    def region(self) -> np.ndarray:
        """Layers of at least .9 of the peak capacity (bool [layer]); none where no layer has any."""
        peak = float(np.max(self.capacity))
        return self.capacity >= REGION * peak if peak > 0 else np.zeros(len(self.capacity), bool)


def effect(stored: StoredCausal, values: np.ndarray) -> np.ndarray:
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


def band(stored: StoredCausal, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """95 % band of the mean effect of random subspaces by layer (nats): two [layer]; NaN where none was drawn."""
    drawn = effect(stored, stored.random[kind])
    lo, hi = np.full(len(stored.layers), np.nan), np.full(len(stored.layers), np.nan)
    for i in range(len(stored.layers)):
        means = [d[i].mean() for d in drawn if np.isfinite(d[i]).all()]
        if len(means) >= 2:
            lo[i], hi[i] = np.quantile(means, [0.025, 0.975])
    return lo, hi


def rows_of(stored: StoredCausal, weights: np.ndarray) -> list[dict[str, object]]:
    """One row per layer and arm: mean fall of the margin with its interval over units, beside the random band."""
    lo, hi = band(stored, "equal variance")
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
                    "model": stored.model, "layer": layer, "depth": layer / stored.n_layers,
                    "capacity": float(stored.capacity[i]), "region": bool(stored.region[i]), "arm": arm,
                    "margin": mean, "lo": interval.lo, "hi": interval.hi,
                    "correct": float(np.mean(values[i][np.isfinite(values[i])] > 0)),
                    "band_lo": float(lo[i]), "band_hi": float(hi[i]),
                    "outside": bool(mean > hi[i] or mean < lo[i]), "surprisal_elsewhere": surprisal,
                }
            )  # fmt: skip
    return rows


def _mean(values: np.ndarray, weights: np.ndarray):
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (weights @ filled) / (weights @ seen)
        mean = float(filled.sum() / seen.sum()) if seen.any() else math.nan
    return mean, percentile_interval(drawn, int(seen.sum()))


def unit_weights(stored: StoredCausal, seed: int, n_boot: int) -> np.ndarray:
    """The bootstrap of units, int [n_boot, unit]."""
    return bootstrap_weights(len(np.unique(stored.units)), np.random.default_rng([seed, 31]), n_boot=n_boot)


def evidence(stored: StoredCausal, seed: int, *, n_boot: int = 2000) -> IntervalEvidence:
    """Evidence for F5: excess over random subspaces in high-capacity layers, less the same elsewhere (nats)."""
    units = len(np.unique(stored.units))
    counts = {"models": 1, "items": len(stored.plain), "units": units}
    region = stored.region
    drawn = stored.random.get("equal variance", np.zeros((0, 0, 0)))
    usable = np.array([len(drawn) > 0 and bool(np.isfinite(drawn[:, i]).any()) for i in range(len(stored.layers))])
    if not (region & usable).any() or not (~region & usable).any():
        why = "high-capacity and other layers are both needed, each with random subspaces of equal variance"
        none = undefined_interval(why)
        return IntervalEvidence(math.nan, none, above(0), (Region(hi=0),), counts, 0, why, lacking=why)
    random = np.stack([np.nanmean(drawn[:, i], axis=0) if u else stored.plain for i, u in enumerate(usable)])
    excess = by_unit(random - stored.margin["probe subspace"], stored.units)
    per_unit = excess[region & usable].mean(axis=0) - excess[~region & usable].mean(axis=0)
    mean, interval = _mean(per_unit, unit_weights(stored, seed, n_boot))
    lo, hi = band(stored, "equal variance")
    falls = effect(stored, stored.margin["probe subspace"]).mean(axis=1)
    beyond = (falls > hi)[region & usable]
    said = f"mean fall above the band of random subspaces in {int(beyond.sum())} of {len(beyond)} high-capacity layers"
    word = "survived" if beyond.all() else "explains it away" if not beyond.any() else "undecided"
    identity = Outcome(
        "identity null",
        "survived" if stored.identity == 0 else "explains it away",
        f"largest change of a logit by strength 0: {stored.identity:.3g}",
    )
    return IntervalEvidence(
        mean,
        interval,
        above(0),
        (Region(hi=0),),
        counts,
        units,
        "more items, or a model with layers of lower capacity",
        (Outcome("random subspace of equal variance", word, said), identity),
        null=0.0,
        of=f"excess fall of the margin, {stored.model}",
    )
