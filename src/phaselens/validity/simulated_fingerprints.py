"""Simulated fingerprints, for F0 and T1: models that differ or do not, families that hold or have dissolved, twins.

Every feature of the pre-registered list is planted as a column of one step: its value in a run is that of the model,
an effect of the prompt that all models share, and noise. Units are within-model spreads of the noise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from phaselens.experiments import ModelData, Panel
from phaselens.experiments.fingerprints import DEPTHS, FEATURES
from phaselens.validity.simulated_panels import PROMPTS, RUNS, infos, model_of, study_of

LAYERS = len(DEPTHS)
PROMPT_SD = 0.5


def common_noise(shape: tuple[int, ...], load: float, generator: np.random.Generator) -> np.ndarray:
    """Standard normal features of which a common factor carries the share `load` of the variance; [..., feature]."""
    shared = generator.standard_normal((*shape[:-1], 1))
    return math.sqrt(load) * shared + math.sqrt(1 - load) * generator.standard_normal(shape)


def study_with(
    centres: np.ndarray,
    generator: np.random.Generator,
    *,
    families: Sequence[str] | None = None,
    twin_of: Mapping[int, int] | None = None,
    load: float = 0.3,
) -> Panel:
    """A study whose models have these features, [model, feature] in spreads; `load` as in `common_noise`."""
    m, n = centres.shape
    prompt = PROMPT_SD * common_noise((PROMPTS, n), load, generator)
    values = centres[:, None] + prompt[np.arange(RUNS) % PROMPTS] + common_noise((m, RUNS, n), load, generator)
    trained, _ = infos(m, n_layers=LAYERS, twin_of=twin_of)
    named = families or ["simulated"] * m
    return study_of(
        [_model(replace(info, family=f), v) for info, f, v in zip(trained, named, values, strict=True)], generator
    )


def _model(info, values: np.ndarray) -> ModelData:
    """One model from its features, [run, feature]."""
    layers, steps = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for i, feature in enumerate(FEATURES):
        column = np.exp(0.1 * values[:, i]) if feature.log else values[:, i]
        if math.isnan(feature.depth):
            steps[feature.observable] = column[:, None]
        else:
            cells = layers.setdefault(feature.observable, np.full((RUNS, 1, LAYERS), np.nan))
            cells[:, 0, DEPTHS.index(feature.depth)] = column
    return model_of(info, layers, steps)


def alike(generator: np.random.Generator, *, m: int, load: float) -> Panel:
    """M models that do not differ, two of them declared twins of two others."""
    return study_with(np.zeros((m, len(FEATURES))), generator, twin_of={m - 2: 0, m - 1: 1}, load=load)


def different(generator: np.random.Generator, *, m: int, size: float, load: float = 0.3) -> Panel:
    """M models, the last third of which are second seeds of the first ones; recipes differ by `size` spreads."""
    seeds = m // 3
    recipes = size * common_noise((m - seeds, len(FEATURES)), load, generator)
    again = recipes[:seeds] + 0.2 * size * generator.standard_normal((seeds, len(FEATURES)))
    twins = {m - seeds + i: i for i in range(seeds)}
    return study_with(np.concatenate([recipes, again]), generator, twin_of=twins, load=load)


def of_families(generator: np.random.Generator, *, families: int, each: int, share: float, load: float = 0.3) -> Panel:
    """Families of `each` models; families carry the share `share` of the variance between models, 1 spread in all."""
    n = len(FEATURES)
    of_family = np.repeat(common_noise((families, n), load, generator), each, axis=0)
    own = common_noise((families * each, n), load, generator)
    centres = math.sqrt(share) * of_family + math.sqrt(1 - share) * own
    names = [f"family {i // each}" for i in range(families * each)]
    return study_with(centres, generator, families=names, load=load)


def noise_families(generator: np.random.Generator, *, families: int, each: int) -> Panel:
    """Families of models that do not differ at all: nothing dissolves where nothing can be seen."""
    names = [f"family {i // each}" for i in range(families * each)]
    return study_with(np.zeros((families * each, len(FEATURES))), generator, families=names)


def pairs_of_copies(generator: np.random.Generator, *, pairs: int) -> Panel:
    """Pairs of undeclared copies, the two of a pair in different families."""
    centres = np.repeat(common_noise((pairs, len(FEATURES)), 0.3, generator), 2, axis=0)
    names = [f"family {(i // 2 + (i % 2) * 2) % 4}" for i in range(2 * pairs)]
    return study_with(centres, generator, families=names)
