"""Simulated minimal pairs, for A1-A3: what ambiguity does, or does not, to turning, instability and commitment.

Values are in spreads of single runs about a common level; the difference of a pair has a spread of about 1.22 of them
(ambiguous less the mean of two). Every claim is planted by its own outcome, so one study serves all three.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from phaselens.experiments import ModelData, Panel
from phaselens.experiments.ambiguity import READINGS
from phaselens.validity.simulated_panels import infos, runs_of, study_of

PAIRS = 80
NOUNS, FRAMES = 66, 4
DIFFERENCE_SD = 1.5**0.5
LENGTH = 8
OUTCOMES = ("entropy_norm", "turning_angle", "instability", "commit_depth")


def pair_data(
    model: ModelData, outcomes: dict[str, np.ndarray], lengths: np.ndarray, unit: np.ndarray | None = None
) -> ModelData:
    """The runs of minimal pairs as one-step columns; outcomes [reading, pair] each, lengths int [reading, pair].

    `unit` [pair]: what each pair is about (None: every pair its own).
    """
    n = lengths.size
    ids = [f"q{i}/{reading}" for reading in READINGS for i in range(lengths.shape[1])]
    run, zero = np.arange(n), np.zeros(n, int)
    layers = {"run": run, "step": zero, "layer": np.full(n, model.layer_of_record)}
    layers |= {k: outcomes[k].ravel() for k in ("turning_angle", "instability")}
    steps = {"run": run, "step": zero} | {k: outcomes[k].ravel() for k in ("commit_depth", "entropy_norm")}
    runs = runs_of(ids, 1, category="ambiguous", arm="greedy", n_prompt=lengths.ravel())
    if unit is not None:
        runs["unit"] = np.tile([f"u{u}" for u in unit], len(READINGS))
    return ModelData(model.info, runs, steps, layers)


def study_with(
    generator: np.random.Generator,
    *,
    m: int,
    effects: Mapping[str, float] = {},
    slope: float = 0.0,
    long: float = 0.0,
    nouns: float | None = None,
) -> Panel:
    """M models whose ambiguous runs lie `effects[outcome]` SDs of paired differences above their disambiguations.

    With `slope` commitment follows entropy, run by run. With `long` half of the pairs have longer ambiguous prompts,
    and everything of those lies `long` SDs higher. With `nouns` there are 66 nouns in four frames each, and what is
    ambiguous about a noun moves its pairs by so many SDs, up or down and alike in all models: an ICC of
    nouns^2 / (1 + nouns^2).
    """
    first, _ = infos(m, n_layers=1)
    n = PAIRS if nouns is None else NOUNS * FRAMES
    unit = None if nouns is None else np.arange(n) // FRAMES
    own = (
        {k: nouns * generator.standard_normal(NOUNS)[unit] for k in OUTCOMES} if nouns else dict.fromkeys(OUTCOMES, 0.0)
    )
    lengths = np.full((len(READINGS), n), LENGTH)
    stretched = (np.arange(n) < n // 8) & (long != 0)
    lengths[0, stretched] += 4
    models = []
    for info in first:
        level = generator.standard_normal(n)
        values = {}
        for name in OUTCOMES:
            one = level + generator.standard_normal((len(READINGS), n))
            one[0] += DIFFERENCE_SD * (effects.get(name, 0.0) + long * stretched + own[name])
            values[name] = one
        values["commit_depth"] += slope * values["entropy_norm"]
        nothing = {"run": np.empty(0, int), "step": np.empty(0, int)}
        info = replace(info, n_layers=4)
        bare = ModelData(info, runs_of(["p0"], 0, category="", arm=""), nothing, nothing | {"layer": np.empty(0, int)})
        models.append(replace(bare, pairs=pair_data(bare, values, lengths, unit)))
    return study_of(models, generator)


def in_some(generator: np.random.Generator, *, m: int, effects: Mapping[str, float]) -> Panel:
    """The effects in the first half of the models only."""
    with_it, without = (study_with(generator, m=m, effects=e) for e in (effects, {}))
    return replace(with_it, models=(*with_it.models[: m // 2], *without.models[m // 2 :]))
