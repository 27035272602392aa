"""Experiment: does a model's fingerprint come back on other prompts, and on another seed of its recipe? F0.

The list of features stands here, as data, before any study runs; nothing selects among them afterwards.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.claims import LEVEL, IntervalEvidence, Outcome, above, below
from phaselens.claims.verdict_records import OutcomeWord
from phaselens.dynamics.fingerprints import (
    DEPTHS,
    Identification,
    by_prompt,
    fingerprints,
    layers_at,
    pooled_spread,
    recipe_identification,
    split_half_identification,
)
from phaselens.experiments.base import ModelData, Panel, Result, checkpoints_of, declared
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import percentile_interval, undefined_interval
from phaselens.statistics.resampling import resampled_medians

FEWEST_PROMPTS = 4
MOST_SPLITS = 1000
PERMUTATIONS = 199


@dataclass(frozen=True)
class Feature:
    """One entry of a fingerprint: the mean of an observable over the steps of a run, at a relative depth.

    `depth` NaN: the output distribution (steps table). `log`: the natural logarithm of that mean. `unit` is that of the
    observable, before the logarithm.
    """

    observable: str
    unit: str
    depth: float = math.nan
    log: bool = False

    @property
    def name(self) -> str:
        """What it is called in tables, e.g. `ln instability @ 0.25`, `top1 at the output`."""
        where = "at the output" if math.isnan(self.depth) else f"@ {self.depth:g}"
        return f"{'ln ' if self.log else ''}{self.observable} {where}"


INNER = DEPTHS[:-1]  # what compares with the next layer, or with the last one, says nothing at the last
FEATURES: tuple[Feature, ...] = (
    *(Feature("instability", "rad", d, log=True) for d in DEPTHS),
    *(Feature("turning_angle", "rad", d) for d in DEPTHS),
    *(Feature(name, "1", d) for name in ("coherence", "state_sync", "lens_sync") for d in INNER),
    *(Feature(name, "1", d) for name in ("entropy_norm", "top1", "rivalry", "agrees") for d in INNER),
    *(Feature(name, "1") for name in ("entropy_norm", "top1", "rivalry", "dispersion", "commit_depth")),
)


@dataclass(frozen=True, eq=False)
class Sample:
    """Values of the features by prompt, float64 [model, prompt, feature], for prompts that every model has.

    `features` are those of the list that are defined for every model and prompt kept; `weights` int [B, prompt] is the
    panel's prompt bootstrap on those prompts. `reason` says why there is nothing to compare ("" if there is).
    """

    models: tuple[ModelData, ...]
    features: tuple[Feature, ...]
    values: np.ndarray
    weights: np.ndarray
    reason: str = ""

    @property
    def n_prompts(self) -> int:
        """Prompts that every model has (count)."""
        return self.values.shape[1]

    def of(self, keep: Sequence[bool] | np.ndarray) -> "Sample":
        """The same for some of the models."""
        keep = np.asarray(keep, bool)
        models = tuple(m for m, k in zip(self.models, keep, strict=True) if k)
        return Sample(models, self.features, self.values[keep], self.weights, self.reason)


def feature_values(model: ModelData, prompt: np.ndarray, n_prompts: int) -> np.ndarray:
    """Features of one model by prompt (units of the list), float64 [prompt, feature]; NaN where not recorded."""
    depth = dict(zip(DEPTHS, layers_at(model.info.n_layers), strict=True))
    measured = prompt >= 0
    out = np.full((n_prompts, len(FEATURES)), np.nan)
    for name in dict.fromkeys(f.observable for f in FEATURES):
        cells = model.per_layer(name)[measured] if name in model.layers else None
        for i, feature in enumerate(FEATURES):
            if feature.observable != name:
                continue
            if math.isnan(feature.depth):
                values = model.per_step(name)[measured] if name in model.steps else None
            else:
                values = _at(cells, model, depth[feature.depth])
            if values is not None:
                out[:, i] = by_prompt(_run_means(values, feature.log)[:, None], prompt[measured], n_prompts)[:, 0]
    return out


def _at(cells: np.ndarray | None, model: ModelData, layer: int) -> np.ndarray | None:
    if cells is None or layer not in model.recorded_layers:
        return None
    return cells[:, :, model.recorded_layers.index(layer)]


def _run_means(values: np.ndarray, log: bool) -> np.ndarray:
    """Mean over steps [run, step] -> [run]; NaN where nothing is defined, or the logarithm is not."""
    seen = np.isfinite(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, values, 0.0).sum(axis=1) / seen.sum(axis=1)
        mean = np.log(mean) if log else mean
    return np.where(np.isfinite(mean), mean, np.nan)


def sample_of(panel: Panel, models: Sequence[ModelData] | None = None) -> Sample:
    """The fingerprint values of some models (default: the trained ones)."""
    models = tuple(panel.trained if models is None else models)
    n = len(panel.units)
    every = [feature_values(m, panel.unit_index(m), n) for m in models]
    values = np.stack(every) if every else np.empty((0, n, len(FEATURES)))
    here = np.asarray(np.isfinite(values).any(axis=2).all(axis=0))
    values = values[:, here]
    usable = np.asarray(np.isfinite(values).all(axis=(0, 1))) if values.size else np.zeros(len(FEATURES), bool)
    if usable.any():
        usable[usable] = pooled_spread(values[..., usable]) > 0
    kept = tuple(f for f, u in zip(FEATURES, usable, strict=True) if u)
    return Sample(models, kept, values[..., usable], panel.weights[:, here], _why_not(len(models), here, kept))


def _why_not(n_models: int, here: np.ndarray, kept: tuple[Feature, ...]) -> str:
    if n_models < 2:
        return f"{n_models} trained model where two are compared: add models"
    if here.sum() < FEWEST_PROMPTS:
        return f"{int(here.sum())} prompts that all models have, where two halves need {FEWEST_PROMPTS}: add prompts"
    if not kept:
        wanted = ", ".join(dict.fromkeys(f.observable for f in FEATURES))
        return f"no feature is recorded for every model: record some of {wanted}"
    return ""


def recipes(models: Sequence[ModelData]) -> np.ndarray:
    """The recipe of each trained model as a number: twins have that of the model they are twins of; int [model]."""
    original = {m.info.name: m.info.twin_of for m in models}

    def root(name: str) -> str:
        seen = {name}
        while (up := original.get(name)) is not None and up not in seen:
            seen.add(up)
            name = up
        return name

    return np.unique([root(m.info.name) for m in models], return_inverse=True)[1]


def identified(panel: Panel, sample: Sample, label: str) -> Identification | None:
    """Split-half identification among the models of a sample; None where there is nothing to compare."""
    if sample.reason or len(sample.models) < 2:
        return None
    return split_half_identification(
        sample.values,
        panel.generator(f"identification {label}"),
        groups=recipes(sample.models),
        n_splits=max(20, min(MOST_SPLITS, panel.n_boot // 2)),
        n_permutations=min(PERMUTATIONS, panel.n_boot // 2 - 1),
    )


def without_twins(sample: Sample) -> Sample:
    """The sample without models that are twins of another trained one."""
    return sample.of([m.info.twin_of is None for m in sample.models])


def _across_seeds(panel: Panel, sample: Sample) -> tuple[float, float, int]:
    """Share of models whose nearest other one has the same recipe, its p, and how many models that is asked of."""
    earlier = checkpoints_of([m.info for m in sample.models])
    sample = sample.of([m.info.name not in earlier for m in sample.models])
    recipe = recipes(sample.models)
    repeated = int((np.bincount(recipe)[recipe] > 1).sum()) if len(recipe) else 0
    if sample.reason or not repeated or len(recipe) < 3:
        return math.nan, math.nan, repeated
    found = recipe_identification(fingerprints(sample.values).vectors, recipe, panel.generator("recipes"))
    return *found, repeated


def _outcomes(sample: Sample, alone: Identification | None, seeds: tuple[float, float, int]) -> tuple[Outcome, ...]:
    n_twins = sum(m.info.twin_of is not None for m in sample.models)
    if not n_twins:
        twins = Outcome("twins", "survived", "no model is declared a twin of another: there is none to drop")
    elif alone is None:
        twins = Outcome("twins", "undecided", "fewer than two models are left without twins")
    else:
        word: OutcomeWord = "survived" if alone.p <= LEVEL else "undecided"
        twins = Outcome("twins", word, f"without {n_twins} twins: {alone.accuracy:.2f}, p = {alone.p:.3g}", alone.p)
    share, p, repeated = seeds
    if not repeated:
        return twins, Outcome("seeds of one recipe", "missing", "no recipe has two seeds: add one and say twin_of")
    why = f"nearest other model is of the same recipe for {share:.2f} of {repeated} models, p = {p:.3g}"
    return twins, Outcome("seeds of one recipe", "survived" if p <= LEVEL else "undecided", why, p)


def _evidence(panel: Panel, sample: Sample, whole: Identification | None, alone: Identification | None) -> dict:
    """Evidence for F0."""
    outcomes = _outcomes(sample, alone, _across_seeds(panel, sample))
    nothing = whole is None
    chance = math.nan if nothing else whole.chance
    p = math.nan if nothing else max(whole.p, alone.p if alone is not None else whole.p)
    found = IntervalEvidence(
        estimate=math.nan if nothing else whole.accuracy,
        interval=undefined_interval(sample.reason or "no two models") if nothing else whole.interval,
        supported=above(chance),
        rejected=below(whole.smallest) if p > LEVEL else (),
        counts=counts(panel) | {"features": len(sample.features)},
        n=len(sample.models),
        needed="more prompts, or two or three seeds of several recipes (twin_of)",
        outcomes=outcomes,
        p=p,
        null=chance,
        p_without_twins=math.nan if alone is None else alone.p,
        lacking=(sample.reason or "no two trained models: add models") if nothing else "",
        reasons={"p_without_twins": "fewer than two models without twins"} if alone is None else {},
    )
    return {"F0": found}


def _map_rows(panel: Panel, sample: Sample, untrained: Sample) -> list[dict]:
    """One row a model and feature: its median over prompts, and that in spreads from the mean of the trained models."""
    if sample.reason:
        return []
    scale = pooled_spread(sample.values)
    centre = np.median(sample.values, axis=1).mean(axis=0)
    place = {f: i for i, f in enumerate(untrained.features)}
    rows = []
    for group in (sample, untrained):
        for model, values in zip(group.models, group.values, strict=True):
            medians, draws = np.median(values, axis=0), resampled_medians(values, group.weights)
            for i, feature in enumerate(sample.features):
                at = i if group is sample else place.get(feature, -1)
                if at < 0:
                    continue
                interval = percentile_interval(draws[:, at], group.n_prompts)
                unit = f"ln {feature.unit}" if feature.log else feature.unit
                scaled = ((v - centre[i]) / scale[i] for v in (medians[at], interval.lo, interval.hi))
                rows.append(
                    model.info.named
                    | {"family": model.info.family, "feature": feature.name, **picked(feature, "observable depth")}
                    | {"unit": unit, "value": medians[at], **dict(zip(("scaled", "lo", "hi"), scaled, strict=True))}
                    | {"n_prompts": group.n_prompts}
                )
    return rows


def _found_row(name: str, sample: Sample, found: Identification | None) -> dict:
    row: dict[str, object] = dict.fromkeys(("accuracy", "chance", "lo", "hi", "p", "within_group"), math.nan)
    row["reason"] = sample.reason or "fewer than two models"
    if found is not None:
        row |= picked(found, "accuracy chance p within_group") | bounds(found.interval) | {"reason": ""}
    counted = {"n_models": len(sample.models), "n_prompts": sample.n_prompts, "n_features": len(sample.features)}
    return row | {"panel": name, **counted}


def fingerprints_evidence(panel: Panel) -> dict:
    """The evidence for F0 as `analyse_fingerprints` gives it, without its tables."""
    return _judged(panel, sample_of(panel))[0]


def _judged(panel: Panel, sample: Sample) -> tuple[dict, Identification | None, Identification | None]:
    whole = identified(panel, sample, "all")
    fewer = without_twins(sample)
    alone = whole if len(fewer.models) == len(sample.models) else identified(panel, fewer, "twins dropped")
    return _evidence(panel, sample, whole, alone), whole, alone


def analyse_fingerprints(panel: Panel) -> Result:
    """Tables fingerprints and identification; evidence for F0."""
    sample = sample_of(panel)
    untrained = sample_of(panel, [m for m in panel.models if m.info.twin])
    found, whole, alone = _judged(panel, sample)
    share, p, repeated = _across_seeds(panel, sample)
    rows = [
        _found_row("all trained", sample, whole),
        _found_row("twins dropped", without_twins(sample), alone),
        _found_row("untrained", untrained, identified(panel, untrained, "untrained")),
        _found_row("nearest other model of the same recipe", sample, None)
        | {"accuracy": share, "p": p, "n_models": repeated, "reason": "" if repeated else "no recipe has two seeds"},
    ]
    absent = [f.name for f in FEATURES if f not in sample.features]
    notes = (f"fingerprint features without data for every model: {', '.join(absent)}",) if absent else ()
    return Result(
        filled(fingerprints=_map_rows(panel, sample, untrained), identification=rows), evidence=found, notes=notes
    )


FINGERPRINTS = declared(
    "fingerprints",
    analyse_fingerprints,
    fingerprints_evidence,
    layers=tuple(dict.fromkeys(f.observable for f in FEATURES if not math.isnan(f.depth))),
    steps=tuple(dict.fromkeys(f.observable for f in FEATURES if math.isnan(f.depth))),
)
