"""Simulated probe readings, for F1 to F4: curves of held-out accuracy over depth that are known, and their baselines.

Every example has a difficulty that all layers and all readers of one model share in part, and examples of one group
share more of it; a reader of accuracy a is right where its difficulty lies below a. Labels have two equal classes, so
an accuracy of .5 says nothing. The null of the best layer is that of readers at .5, with difficulties alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.experiments.base import StoredReading
from phaselens.experiments.fingerprints import FEATURES
from phaselens.experiments.probes import FUNCTIONS
from phaselens.validity import simulated_fingerprints
from phaselens.validity.simulated_panels import RUNS, infos, model_of, study_of

UNITS, PER_UNIT, PERMUTATIONS, ROTATIONS = 60, 6, 99, 20
UNIT_SHARE, EXAMPLE_SHARE = 0.2, 0.5
LAYERS = (6, 8, 5, 7)
CHANCE, BASE = 0.5, 0.55


@dataclass(frozen=True)
class Plan:
    """Accuracies (1) of one task in one model: `curve` [layer], its baselines, the readers of its peak, selectivity."""

    curve: np.ndarray
    first: float = BASE
    twin: float = BASE
    covariates: float = BASE
    subspace: float = CHANCE
    features: float = CHANCE
    rotated: float = CHANCE
    selectivity: float = 0.1


def bump(n_layers: int, peak: float, *, low: float = BASE, high: float = 0.8, width: float = 0.25) -> np.ndarray:
    """Accuracy over layers 0..L that is highest at relative depth `peak` (1): [L + 1]."""
    depth = np.arange(n_layers + 1) / n_layers
    return low + (high - low) * np.exp(-(((depth - peak) / width) ** 2))


def _right(accuracy: np.ndarray, hard: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Whether readers [reader] of these accuracies are right about examples of this shared difficulty: float."""
    own = generator.standard_normal((*np.shape(accuracy), hard.size))
    mixed = np.sqrt(UNIT_SHARE + EXAMPLE_SHARE) * hard + np.sqrt(1 - UNIT_SHARE - EXAMPLE_SHARE) * own
    return (ndtr(mixed) < np.asarray(accuracy)[..., None]).astype(float)


def _difficulty(n: int, generator: np.random.Generator) -> np.ndarray:
    """Standard normal difficulties of the examples, [n, example], alike within a group."""
    of_unit = np.repeat(generator.standard_normal((n, UNITS)), PER_UNIT, axis=1)
    own = generator.standard_normal(of_unit.shape)
    share = UNIT_SHARE / (UNIT_SHARE + EXAMPLE_SHARE)
    return np.sqrt(share) * of_unit + np.sqrt(1 - share) * own


def reading(task: str, function: str, plan: Plan, generator: np.random.Generator) -> StoredReading:
    """What probes would have stored about one task of one model with this plan."""
    (hard,) = _difficulty(1, generator)
    hits = _right(plan.curve, hard, generator)
    readers = [plan.curve.max(), plan.first, plan.twin, plan.covariates, plan.subspace, plan.features]
    best, first, twin, covariates, subspace, features = _right(np.array(readers), hard, generator)
    chance = np.full(len(plan.curve), CHANCE)
    null = [_right(chance, h, generator).mean(axis=1).max() for h in _difficulty(PERMUTATIONS, generator)]
    n = hard.size
    return StoredReading(
        task=task,
        function=function,
        depth=np.arange(len(plan.curve)) / (len(plan.curve) - 1),
        hits=hits,
        codes=np.arange(n) % 2,
        units=np.arange(n) // PER_UNIT,
        best=_capacity(hits.mean(axis=1).max()),
        null=np.array([_capacity(value) for value in null]),
        selectivity=plan.selectivity + 0.02 * generator.standard_normal(len(plan.curve)),
        best_hits=best,
        first_hits=first,
        twin_hits=twin,
        covariate_hits=covariates,
        subspace=subspace,
        features=features,
        rotated=_right(np.full(ROTATIONS, plan.rotated), hard, generator),
    )


def _capacity(accuracy: float) -> float:
    return float((accuracy - CHANCE) / (1 - CHANCE))


def _model(info: ModelInfo, plans: Mapping[str, Plan], generator: np.random.Generator) -> ModelData:
    """One model whose tasks are named after their function; its runs hold nothing."""
    readings = {f: reading(f, f, plan, generator) for f, plan in plans.items()}
    return replace(model_of(info, {"instability": np.full((RUNS, 1, 1), np.nan)}), readings=readings)


def study_with(
    plans: Sequence[Mapping[str, Plan]],
    generator: np.random.Generator,
    *,
    families: Sequence[str] | None = None,
    twin_of: Mapping[int, int] | None = None,
) -> Panel:
    """A study of models with these plans, function by function; families are two unless they are named."""
    m = len(plans)
    names = families or [f"family {i % 2}" for i in range(m)]
    trained, _ = infos(m, n_layers=len(next(iter(plans[0].values())).curve) - 1, twin_of=twin_of)
    placed = [replace(i, family=f) for i, f in zip(trained, names, strict=True)]
    return study_of([_model(i, p, generator) for i, p in zip(placed, plans, strict=True)], generator)


def _layers(i: int) -> int:
    return LAYERS[i % len(LAYERS)]


# --- F1 ---


def decodable(generator: np.random.Generator, *, m: int, high: float, least: float, **baselines: float) -> Panel:
    """M models that read two functions at `high` and the third at `least`, with these baselines everywhere."""
    return study_with(
        [
            {
                f: Plan(bump(_layers(i), 0.5, low=min(BASE, top), high=top), **baselines)
                for f, top in zip(FUNCTIONS, (high, high, least), strict=True)
            }
            for i in range(m)
        ],
        generator,
    )


# --- F2 ---


def peaks_at(generator: np.random.Generator, *, m: int, peaks: tuple[float, float], width: float) -> Panel:
    """M models in two families whose syntax-like accuracy is highest at these relative depths; last, a seed of each."""
    plans = [
        {FUNCTIONS[0]: Plan(bump(_layers(i if i < m else i - m), peaks[i % 2], width=width))} for i in range(m + 2)
    ]
    return study_with(plans, generator, twin_of={m: 0, m + 1: 1})


def flat(generator: np.random.Generator, *, m: int) -> Panel:
    """M models that read the same at every layer, and a second seed of the first two: no layer is the best."""
    plans = [{FUNCTIONS[0]: Plan(np.full(_layers(i if i < m else i - m) + 1, 0.7))} for i in range(m + 2)]
    return study_with(plans, generator, twin_of={m: 0, m + 1: 1})


def seeds_apart(generator: np.random.Generator, *, m: int) -> Panel:
    """Depths of the peak that differ as much between the two seeds of a recipe as between families."""
    peaks = [0.2 if i % 2 else 0.8 for i in range(m)]
    plans = [{FUNCTIONS[0]: Plan(bump(8, p))} for p in (*peaks, 1 - peaks[0], 1 - peaks[1])]
    return study_with(plans, generator, twin_of={m: 0, m + 1: 1})


# --- F3 ---


def dimensions(generator: np.random.Generator, *, m: int, subspace: float, features: float, rotated: float) -> Panel:
    """M models whose peak reads so much in a rank-8 subspace, in the 8 best features, and in those after rotations."""
    plan: dict = {"subspace": subspace, "features": features, "rotated": rotated}
    return study_with([{FUNCTIONS[0]: Plan(bump(_layers(i), 0.5), **plan)} for i in range(m)], generator)


# --- F4 ---


def groupings(generator: np.random.Generator, *, m: int, shared: float, seeds: int = 0) -> Panel:
    """M models in three groups of dynamics; the share `shared` of them has the same group in what probes read.

    The others have a group of function drawn anew. `seeds` more models are declared seeds of the first ones.
    """
    dynamic = np.arange(m) % 3
    function = np.where(np.arange(m) < round(shared * m), dynamic, generator.permutation(dynamic))
    again = np.arange(seeds)
    dynamic, function = np.append(dynamic, dynamic[again]), np.append(function, function[again])
    centres = 1.5 * simulated_fingerprints.common_noise((3, len(FEATURES)), 0.3, generator)[dynamic]
    centres = centres + 0.3 * generator.standard_normal(centres.shape)
    twins = {m + int(i): int(i) for i in again}
    panel = simulated_fingerprints.study_with(centres, generator, twin_of=twins)
    peaks = np.array([0.1, 0.5, 0.9])[function]
    models = [
        replace(model, readings={f: reading(f, f, Plan(bump(6, p, width=0.3)), generator) for f in FUNCTIONS})
        for model, p in zip(panel.models, peaks, strict=True)
    ]
    return study_of(models, generator)
