"""Simulated studies for O1 and O2: scores that know more of the loss than the output says, or only along a curve."""

from dataclasses import replace

import numpy as np

from phaselens.experiments import ModelData, Panel
from phaselens.experiments.base import StoredScores
from phaselens.validity.simulated_panels import PROMPTS, RUNS, infos, model_of, study_of

DOCUMENTS, TOKENS, MODELS, SHUFFLES, STEPS, LAYERS, WORDS = 60, 25, 2, 19, 40, 6, 12


def _scores(generator: np.random.Generator, *, beyond: float, before: float, curved: bool) -> StoredScores:
    """One model: the score follows a hidden part of the loss by `beyond`, that of its twin by `before`.

    Every document has losses and scores of its own level; `curved`: both follow entropy along a curve.
    """
    n = DOCUMENTS * TOKENS
    document = np.repeat(np.arange(DOCUMENTS), TOKENS)
    seen, hidden, noise, other = generator.standard_normal((4, n))
    level = 0.3 * generator.standard_normal((3, DOCUMENTS))[:, document]
    shape = np.sin(2 * seen) if curved else seen
    loss = shape + hidden + level[0] + 0.5 * generator.standard_normal(n)
    near = seen[:, None] + 0.5 * generator.standard_normal((n, 5))
    near[:, 2] = seen  # the entropy
    own = shape + beyond * hidden + level[1] + noise
    twin = shape + before * hidden + level[2] + other
    shuffled = 0.3 * generator.standard_normal((SHUFFLES, DOCUMENTS))[:, document]
    shuffled = shuffled + generator.standard_normal((SHUFFLES, n))
    one = np.ones(1)
    return StoredScores(loss, own, twin, shuffled, covariates=near, document=document, layer=one, depth=one, curve=one)


def of_scores(generator: np.random.Generator, *, beyond: float, before: float = 0.0, curved: bool = False) -> Panel:
    """Two models with scores of 1,500 tokens of 60 documents."""
    trained, _ = infos(MODELS, n_layers=1)
    models = [
        replace(_plain(info, generator), scores=_scores(generator, beyond=beyond, before=before, curved=curved))
        for info in trained
    ]
    return study_of(models, generator)


def _plain(info, generator: np.random.Generator) -> ModelData:
    return model_of(info, {"top1": generator.random((RUNS, 1, 1))})


def of_curvature(generator: np.random.Generator, *, slope: float, before: float = 0.0) -> Panel:
    """Two models and their twins: entropy and curvature both follow the token, the step and the run.

    Beyond them curvature follows entropy by `slope` (in its own SDs), that of the twins by `before`.
    """
    trained, untrained = infos(MODELS, n_layers=LAYERS)
    return study_of(
        [_curved(i, s, generator) for i, s in [*((i, slope) for i in trained), *((i, before) for i in untrained)]],
        generator,
    )


def _curved(info, slope: float, generator: np.random.Generator) -> ModelData:
    tokens = generator.integers(0, WORDS, (RUNS, STEPS))
    of_token = generator.standard_normal(WORDS)[np.roll(tokens, 1, axis=1)]
    of_prompt = 0.5 * generator.standard_normal(PROMPTS)[np.arange(RUNS) % PROMPTS, None]
    shared = of_token + np.linspace(0, 1, STEPS) + of_prompt
    own = generator.standard_normal((RUNS, STEPS))
    angle = (shared + slope * own)[..., None] + generator.standard_normal((RUNS, STEPS, LAYERS))
    return model_of(
        info, {"turning_angle": angle}, {"entropy": shared + own}, completions=tuple(map(tuple, tokens.tolist()))
    )
