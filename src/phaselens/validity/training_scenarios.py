"""Simulated studies for R4, R6 and R7: models whose training is known, and what sets their ratio_norm."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from phaselens.experiments import ModelInfo, Panel
from phaselens.validity.scenario import Scenario, by_experiment
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


_JUDGE = by_experiment("training")


def _one(name: str, kind: str, claim: str, planted: str, size: str, make: partial, **more: object) -> Scenario:
    return Scenario(name, kind, (claim,), planted, size, make, _JUDGE, **more)


TRAINING: tuple[Scenario, ...] = (
    _one("R6 null", "null", "R6", "families alike, sizes drawn freely", "0 SD", partial(families, gap=0.0)),
    _one(
        "R6 effect, 2 SD", "effect", "R6", "neighbouring families 2 SD apart, sizes drawn freely",
        "2 SD, 4 families of 5", partial(families, gap=2.0), headline=True,
    ),
    _one(
        "R6 effect, 1 SD", "effect", "R6", "neighbouring families 1 SD apart, sizes drawn freely",
        "1 SD, 4 families of 5", partial(families, gap=1.0),
    ),
    _one(
        "R6 size passes for family", "artefact", "R6", "size alone moves the medians, and each family has its sizes",
        "1.5 SD per log parameter", partial(families, gap=0.0, slope=1.5, confounded=True),
    ),
    _one(
        "R6 siblings", "artefact", "R6", "four groups of ten siblings that share corpus and tokenizer, 2 SD apart",
        "2 SD, 4 x 10", partial(families, gap=2.0, siblings=True, each=10),
    ),
    _one(
        "R7 null", "null", "R7", "tokens seen explain just a quarter within trainings", "R^2 = .25",
        partial(checkpoints, correlation=0.5),
    ),
    _one(
        "R7 tokens set it", "artefact", "R7", "tokens seen explain most within trainings", "R^2 = .81",
        partial(checkpoints, correlation=0.9),
    ),
    _one(
        "R7 effect", "effect", "R7", "tokens seen explain nothing", "R^2 = 0, 12 trainings of 5 checkpoints",
        partial(checkpoints, correlation=0.0), headline=True,
    ),
    _one(
        "R4 null", "null", "R4", "medians go alike with both losses", "equal, M = 24",
        partial(losses, of_loss=1.0, of_other=1.0),
    ),
    _one(
        "R4 effect", "effect", "R4", "medians go with training loss alone", "1 SD per SD of loss, M = 24",
        partial(losses, of_loss=1.0, of_other=0.0), headline=True,
    ),
    _one(
        "R4 noisier second loss", "artefact", "R4", "medians go alike with both losses, the second on a tenth of the "
        "tokens", "noise of 1 SD, M = 24", partial(noisy_loss), control="equal evaluation tokens",
    ),
    _one(
        "R4 checkpoints of one training", "artefact", "R4", "losses fall along one training, the median walks at "
        "random", "22 checkpoints", partial(walk),
    ),
    _one(
        "R4 checkpoints without a seed", "artefact", "R4", "the same, and nobody says that it is one training",
        "22 checkpoints", partial(walk, seeds=False),
    ),
    Scenario(
        "R1 checkpoints of one training", "artefact", ("R1",), "eight checkpoints of one training, whose median jumps "
        "half way, taken for models", "10 SD, M = 8", partial(jump), by_experiment("regimes"),
    ),
    _one(
        "R4 size passes for loss", "artefact", "R4", "medians go with size alone, training loss follows size closely",
        "2 SD per SD of log size", partial(losses, of_loss=0.0, of_other=0.0, slope=2.0), control="size",
    ),
)  # fmt: skip
