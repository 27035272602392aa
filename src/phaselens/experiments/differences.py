"""Experiment: how do two models differ on the same prompts? Every observable, at the output and at equal depth.

Descriptive, without a claim: it is what a panel of two or three models has to say. Differences are paired by unit, and
one max-statistic holds the error over all observables and depths of a pair.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from phaselens.dynamics.fingerprints import DEPTHS
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.equal_lengths import equal_lengths
from phaselens.experiments.result_tables import bounds, filled
from phaselens.statistics.intervals import expanded_interval
from phaselens.statistics.permutation import sign_flip_max
from phaselens.statistics.resampling import sums_by_unit
from phaselens.statistics.unit_effects import mean_effect

KEYS = frozenset({"run", "step", "layer", "position", "token", "finite", "text", "sink"})
# The scale of a model's states is its own unit.
OF_SCALE = frozenset({"log_rms", "log_rms_core"})
# What a larger vocabulary moves by itself; left out where the two vocabularies are of unlike size.
OF_VOCABULARY = frozenset(
    "entropy nucleus_entropy nucleus_size surprisal rank n_above_1pct branching commitment logit_std "
    "kl_to_final".split()
)
# What counts layers; left out where the two stacks are of unlike height.
OF_LAYERS = frozenset({"commit_layer", "commit_layer_emitted"})
GRID = np.linspace(0, 1, 21)
FEWEST, EVERY, HALF = 6, "all", 0.5
SHOWN, CURVES = 3, 120  # curves of a pair at least, and of all pairs where they have more


@dataclass(frozen=True, eq=False)
class Profile:
    """One model: mean by unit of every observable, at the output [unit] and by layer [unit, recorded layer]."""

    model: ModelData
    output: Mapping[str, np.ndarray]
    layers: Mapping[str, np.ndarray]

    def at(self, observable: str, depth: float) -> np.ndarray | None:
        """Values [unit] at the layer `round(depth L)`; None where it was not recorded."""
        layer = max(1, round(depth * self.model.info.n_layers))
        if layer not in self.model.recorded_layers:
            return None
        return self.layers[observable][:, self.model.recorded_layers.index(layer)]

    def along(self, observable: str) -> np.ndarray:
        """Values [unit, grid] over relative depth, straight lines between recorded layers; NaN beyond them."""
        x = np.array(self.model.recorded_layers) / self.model.info.n_layers
        out = np.full((len(self.layers[observable]), len(GRID)), np.nan)
        for row, values in zip(out, self.layers[observable], strict=True):
            seen = np.isfinite(values)
            if seen.sum() > 1:
                row[:] = np.interp(GRID, x[seen], values[seen], left=np.nan, right=np.nan)
        return out


def profile_of(panel: Panel, model: ModelData) -> Profile:
    """The means by unit of all recorded observables of a model's measured runs, over steps and runs."""
    index = panel.unit_index(model)

    def by_unit(values: np.ndarray) -> np.ndarray:
        """[run, step, ...] -> [unit, ...]."""
        seen = np.isfinite(values)
        n = seen.sum(axis=1)
        mean = np.divide(np.where(seen, values, 0).sum(axis=1), n, out=np.full(n.shape, np.nan), where=n > 0)
        sums, counts = sums_by_unit(mean[:, None], index, len(panel.units))
        return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0).T

    output = {c: by_unit(model.per_step(c)) for c in _observables(model.steps)}
    return Profile(model, output, {c: by_unit(model.per_layer(c)) for c in _observables(model.layers)})


def _observables(table: Mapping[str, np.ndarray]) -> list[str]:
    return [c for c in table if c not in KEYS and "__" not in c and np.asarray(table[c]).dtype.kind in "fbiu"]


Values = dict[tuple[str, str, float], tuple[np.ndarray, np.ndarray]]


def unlike(first: ModelData, second: ModelData) -> dict[str, frozenset[str]]:
    """The observables that cannot be compared between two models, by what the models have unlike."""
    found = {}
    if first.info.vocab_size != second.info.vocab_size:
        found["vocabularies of unlike size"] = OF_VOCABULARY
    if first.info.n_layers != second.info.n_layers:
        found["unlike numbers of layers"] = OF_LAYERS
    return found


def paired(first: Profile, second: Profile) -> Values:
    """Values [unit] of both models by (observable, place, depth), of all that both have and can be compared."""
    apart = frozenset().union(*unlike(first.model, second.model).values())
    found: Values = {}
    for name in first.output:
        if name in second.output and name not in apart:
            found[name, "output", 1.0] = first.output[name], second.output[name]
    for name in first.layers:
        if name not in second.layers or name in OF_SCALE | apart:
            continue
        for depth in DEPTHS:
            a, b = first.at(name, depth), second.at(name, depth)
            if a is not None and b is not None:
                found[name, "depth", depth] = a, b
    return {k: v for k, v in found.items() if _enough(v[0] - v[1])}


def _enough(difference: np.ndarray) -> bool:
    seen = difference[np.isfinite(difference)]
    return len(seen) >= FEWEST and bool(np.ptp(seen) > 0)


def _categories(panel: Panel) -> np.ndarray:
    """The category of every unit, [unit]."""
    place = {u: i for i, u in enumerate(panel.units)}
    out = np.full(len(panel.units), "", object)
    for model in panel.models:
        for unit, category, used in zip(model.units, model.runs["category"], model.measured, strict=True):
            if used and str(unit) in place:
                out[place[str(unit)]] = str(category)
    return out


def _interval(panel: Panel, difference: np.ndarray) -> tuple[float, float, str]:
    """Interval of the mean over units, units resampled: lower bound, upper bound, why there is none."""
    seen = np.isfinite(difference)
    with np.errstate(invalid="ignore", divide="ignore"):
        draws = (panel.weights @ np.where(seen, difference, 0)) / (panel.weights @ seen)
    found = expanded_interval(draws, int(seen.sum()))
    return found.lo, found.hi, found.reason


def _floor(first: ModelData, second: ModelData, observable: str, place: str) -> float:
    """The larger noise floor of the two, where it was measured: of the output's entropy."""
    if place != "output" or observable not in ("entropy", "entropy_norm"):
        return math.nan
    nats = max(first.info.noise_floor, second.info.noise_floor)
    return nats / math.log(min(first.info.vocab_size, second.info.vocab_size)) if observable == "entropy_norm" else nats


def pair_rows(panel: Panel, profiles: Mapping[str, Profile], first: ModelData, second: ModelData) -> list[dict]:
    """The rows of one pair of models, the largest difference (in SDs over units) first, categories behind it."""
    names = first.info.name, second.info.name
    values = paired(*(profiles[name] for name in names))
    if not values:
        return []
    twins = [panel.untrained_twin(name) for name in names]
    before = {} if None in twins else paired(*(profiles[t.info.name] for t in twins))
    differences = np.stack([a - b for a, b in values.values()], axis=1)
    p = sign_flip_max(differences, panel.generator(f"differences {names}"), n_flips=panel.n_boot)
    with np.errstate(invalid="ignore"):
        effect = np.nanmean(differences, axis=0) / np.nanstd(differences, axis=0, ddof=1)
    category = _categories(panel)
    rows = []
    for rank, i in enumerate(np.argsort(-np.abs(effect), kind="stable"), 1):
        key, difference = list(values)[i], differences[:, i]
        seen = np.isfinite(difference)
        lo, hi, reason = _interval(panel, difference)
        common = {"first": names[0], "second": names[1], "rank": rank} | dict(
            zip(("observable", "place", "depth"), key, strict=True)
        )
        means = [float(v[seen].mean()) for v in values[key]]
        rows.append(
            common
            | {"category": EVERY, "first_mean": means[0], "second_mean": means[1], "difference": means[0] - means[1]}
            | {"lo": lo, "hi": hi, "effect": effect[i], "p": p[i], "n_units": int(seen.sum()), "reason": reason}
            | {"noise_floor": _floor(first, second, *key[:2]), **_before(panel, before.get(key), means[0] - means[1])}
        )
        rows += _by_category(common, category, values[key])
    return rows


def _before(panel: Panel, twins: tuple[np.ndarray, np.ndarray] | None, difference: float) -> dict:
    """What the untrained twins of the pair differ by, and whether that is most of it."""
    if twins is None:
        return {"untrained": math.nan, "untrained_lo": math.nan, "untrained_hi": math.nan, "before": ""}
    apart = twins[0] - twins[1]
    lo, hi, _ = _interval(panel, apart)
    value = float(np.nanmean(apart))
    most = value * difference > 0 and abs(value) > HALF * abs(difference)
    return {"untrained": value, "untrained_lo": lo, "untrained_hi": hi, "before": "yes" if most else "no"}


def _by_category(common: dict, category: np.ndarray, values: tuple[np.ndarray, np.ndarray]) -> list[dict]:
    rows = []
    blank = dict.fromkeys(("p", "untrained", "untrained_lo", "untrained_hi", "noise_floor"), math.nan)
    for name in sorted(set(category) - {""}):
        a, b = (v[category == name] for v in values)
        seen = np.isfinite(a - b)
        if seen.sum() < 2:
            continue
        found = mean_effect((a - b)[seen])
        spread = float((a - b)[seen].std(ddof=1))
        rows.append(
            common
            | {"category": name, "first_mean": a[seen].mean(), "second_mean": b[seen].mean()}
            | {"difference": found.value, **bounds(found.interval), "before": ""}
            | {"effect": found.value / spread if spread > 0 else math.nan, "n_units": int(seen.sum())}
            | {"reason": found.interval.reason, **blank}
        )
    return rows


def curve_rows(panel: Panel, rows: Sequence[dict], first: Profile, second: Profile, most: int) -> list[dict]:
    """The difference along relative depth of the observables whose difference at some depth is largest."""
    largest = dict.fromkeys(r["observable"] for r in rows if r["place"] == "depth" and r["category"] == EVERY)
    out = []
    for observable in list(largest)[:most]:
        apart = first.along(observable) - second.along(observable)
        for depth, values in zip(GRID, apart.T, strict=True):
            seen = np.isfinite(values)
            if seen.sum() < FEWEST:
                continue
            lo, hi, _ = _interval(panel, values)
            out.append(
                {
                    "first": first.model.info.name,
                    "second": second.model.info.name,
                    "observable": observable,
                    "depth": float(depth),
                    "value": float(values[seen].mean()),
                    "lo": lo,
                    "hi": hi,
                    "n_units": int(seen.sum()),
                }
            )
    return out


def analyse_differences(panel: Panel) -> Result:
    """Tables differences and differences_curve; of runs of unlike length, at equal lengths where that can be."""
    equal = equal_lengths(panel)
    panel = equal.panel if equal is not None and equal.panel is not None else panel
    profiles = {m.info.name: profile_of(panel, m) for m in panel.models}
    rows, curves, notes = [], [], []
    pairs = list(combinations(panel.trained, 2))
    for first, second in pairs:
        own = pair_rows(panel, profiles, first, second)
        rows += own
        both = profiles[first.info.name], profiles[second.info.name]
        curves += curve_rows(panel, own, *both, max(SHOWN, CURVES // len(pairs)))
        notes += [
            f"{first.info.name} and {second.info.name} have {what}: {', '.join(sorted(names))} are not compared"
            for what, names in unlike(first, second).items()
        ]
    return Result(filled(differences=rows, differences_curve=curves), notes=tuple(notes))


DIFFERENCES = declared("differences", analyse_differences)
