"""Simulated studies for R4, R6 and R7: models whose training is known, and what sets their ratio_norm."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from phaselens.experiments import ModelInfo, Panel
from phaselens.validity.simulated_panels import infos, model_of, study_of
from phaselens.validity.simulated_regimes import CENTRE, UNIT, peaked, run_ratios

FAMILIES, EACH = 4, 5
CHECKPOINTS = (1e5, 3e5, 1e6, 3e6, 1e7)
EQUAL = {"loss_tokens": 1e4, "other_tokens": 1e4}
SIZES = (6.0, 12.0)  # natural logarithm of the number of parameters


def _study(facts: Sequence[dict], values: np.ndarray, generator: np.random.Generator) -> Panel:
    """A study of trained models alone: facts of each, and its median of log ratio_norm in within-group SDs."""
    trained, _ = infos(len(facts), n_layers=1)
    ct = peaked(run_ratios(CENTRE + UNIT * values, generator), generator)
    models = []
    for info, own, series in zip(trained, facts, ct, strict=True):
        known: ModelInfo = replace(info, **own)
        models.append(model_of(known, {"instability": series[:, :, None], "frozen": np.zeros((*series.shape, 1))}))
    return study_of(models, generator)


def families(
    generator: np.random.Generator,
    *,
    gap: float,
    slope: float = 0.0,
    confounded: bool = False,
    siblings: bool = False,
    each: int = EACH,
) -> Panel:
    """Four families of models: medians move by `gap` SD between families, by `slope` SD per log parameter.

    `confounded`: each family has sizes of its own, so that size passes for family. `siblings`: each has a corpus and a
    tokenizer of its own, so that these do.
    """
    family = np.repeat(np.arange(FAMILIES), each)
    width = SIZES[1] - SIZES[0]
    size = SIZES[0] + width * generator.random(len(family))
    if confounded:
        size = SIZES[0] + width * (family + generator.random(len(family))) / FAMILIES
    values = gap * (family - family.mean()) + slope * (size - size.mean()) + generator.standard_normal(len(family))
    facts = [
        {
            "family": f"family {f}",
            "parameters": int(np.exp(s)),
            "training_seed": i,
            "training_tokens": 1e6,
            "corpus": f"corpus {f}" if siblings else "one corpus",
            "vocab_size": 100 + 10 * f * siblings,
        }
        for i, (f, s) in enumerate(zip(family, size, strict=True))
    ]
    return _study(facts, values, generator)


def checkpoints(generator: np.random.Generator, *, correlation: float, trainings: int = 12) -> Panel:
    """Five checkpoints of every training; within trainings the median has this correlation with log tokens."""
    x = np.log(CHECKPOINTS)
    x = (x - x.mean()) / x.std()
    facts, values = [], []
    for t in range(trainings):
        own = 3 * generator.standard_normal()
        noise = np.sqrt(1 - correlation**2) * generator.standard_normal(len(x))
        values += list(own + 2 * (correlation * x + noise))
        facts += [{"training_seed": t, "training_tokens": tokens} for tokens in CHECKPOINTS]
    return _study(facts, np.array(values), generator)


def losses(
    generator: np.random.Generator, *, of_loss: float, of_other: float, m: int = 24, slope: float = 0.0
) -> Panel:
    """M models whose medians go with training loss and with the loss elsewhere, by so many SD, and with log size.

    With `slope` both losses go with size too, the training loss more closely: size passes for loss.
    """
    size = generator.standard_normal(m)
    loss, other = generator.standard_normal((2, m))
    if slope:
        loss, other = size + 0.3 * loss, size + 1.0 * other
    values = of_loss * loss + of_other * other + slope * size + 0.5 * generator.standard_normal(m)
    facts = [
        {"training_seed": i, "training_loss": a, "other_loss": b, "parameters": int(np.exp(9 + s))} | EQUAL
        for i, (a, b, s) in enumerate(zip(loss.tolist(), other.tolist(), size.tolist(), strict=True))
    ]
    return _study(facts, values, generator)


def noisy_loss(generator: np.random.Generator, *, m: int = 24) -> Panel:
    """Medians go alike with both losses, and the second was measured on a tenth of the tokens, with noise of 1 SD."""
    loss = generator.standard_normal(m)
    other = loss + generator.standard_normal(m)
    values = loss + 0.5 * generator.standard_normal(m)
    facts = [
        {"training_seed": i, "training_loss": a, "other_loss": b, "parameters": 100 + i} | EQUAL | {"other_tokens": 1e3}
        for i, (a, b) in enumerate(zip(loss.tolist(), other.tolist(), strict=True))
    ]
    return _study(facts, values, generator)


def walk(generator: np.random.Generator, *, m: int = 22, seeds: bool = True) -> Panel:
    """Checkpoints of one training: losses fall, and the median walks at random. `seeds`: its seed is declared."""
    steps = np.arange(1, m + 1)
    loss, other = (2 + 3 / np.sqrt(steps) + 0.02 * generator.standard_normal(m) for _ in range(2))
    values = np.cumsum(generator.standard_normal(m))
    facts = [
        {"training_loss": a, "other_loss": b, "training_tokens": 1e5 * t, "training_seed": 0 if seeds else None} | EQUAL
        for a, b, t in zip(loss.tolist(), other.tolist(), steps.tolist(), strict=True)
    ]
    return _study(facts, values, generator)


def jump(generator: np.random.Generator, *, m: int = 8) -> Panel:
    """Checkpoints of one training without a declared seed, whose median jumps half way by 10 SD."""
    values = 10.0 * (np.arange(m) >= m // 2) + generator.standard_normal(m)
    return _study([{"training_tokens": 1e5 * (t + 1)} for t in range(m)], values, generator)
