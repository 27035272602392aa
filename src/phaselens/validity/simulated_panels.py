"""Simulated studies as the columns that experiments read, and the model values that are planted in them."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from phaselens.errors import unknown_name
from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.statistics.separation import SMALLEST_GROUP, TWO, even, uniform_null

PROMPTS = 8
SAMPLES = 2
RUNS = PROMPTS * SAMPLES
BOOTSTRAPS = 200
TEST_DRAWS = 20_000
ROUGH_DRAWS = 1_000
SHAPES = ("normal", "skewed", "uniform")


def one_peak(shape: str, m: int, generator: np.random.Generator) -> np.ndarray:
    """Values of M models without groups, mean 0 and SD 1 (within-group SDs): normal, skewed (exponential) or uniform.

    Shapes: returns [M]. Raises UnknownNameError for any other shape.
    """
    if shape == "normal":
        return generator.standard_normal(m)
    if shape == "skewed":
        return generator.exponential(size=m) - 1.0
    if shape == "uniform":
        return np.sqrt(12) * (generator.random(m) - 0.5)
    raise unknown_name("shape", shape, SHAPES)


def upper_group(m: int) -> np.ndarray:
    """Which of M models are in the upper group, bool [M]: three eighths, as in `statistics.separation.power`."""
    return np.arange(m) < max(SMALLEST_GROUP, round(m * 3 / 8))


def two_groups(gap: float, m: int, generator: np.random.Generator) -> np.ndarray:
    """Values of M models in two normal groups whose means lie `gap` apart (within-group SDs). Returns [M]."""
    return generator.standard_normal(m) + gap * upper_group(m)


def more_groups(gap: float, m: int, k: int, generator: np.random.Generator) -> np.ndarray:
    """Values of M models in k normal groups of equal size whose neighbours lie `gap` apart (within-group SDs): [M]."""
    return generator.permutation(generator.standard_normal(m) + gap * np.repeat(np.arange(k), even(m, k)))


@lru_cache(maxsize=256)
def _null_of(m: int, n_draws: int, among: tuple[int, ...]) -> np.ndarray:
    values = uniform_null(m, np.random.default_rng([m, n_draws]), n_draws=n_draws, among=among)
    values.setflags(write=False)
    return values


def kept_null(
    m: int, generator: np.random.Generator, *, n_draws: int = TEST_DRAWS, among: tuple[int, ...] = TWO
) -> np.ndarray:
    """`uniform_null`, drawn once for each M (1): a constant of M, so its draws have their own seed.

    A test gets all its draws; whoever wants fewer only words how many models would settle a claim, and gets 1,000.
    `generator` is left alone. Shapes: returns [draw, k].
    """
    return _null_of(m, n_draws if n_draws >= TEST_DRAWS else ROUGH_DRAWS, among)


def runs_of(prompts: Sequence[str], n_generated: int | np.ndarray, **own: str | np.ndarray) -> dict[str, np.ndarray]:
    """The columns of runs by the prompt of each: one sample at t0.7 that ends by length, but for what `own` says."""
    n = len(prompts)
    nothing = {"category": "simulated", "arm": "t0.7", "sample": 0, "calibration": False, "finish": "length"}
    whole: dict[str, Any] = {"run": np.arange(n), "prompt_id": np.array(prompts), "n_generated": n_generated}
    whole |= {**nothing, **own}
    return {name: np.array(np.broadcast_to(column, (n, *np.shape(column)[1:]))) for name, column in whole.items()}


def model_of(
    info: ModelInfo,
    layers: Mapping[str, np.ndarray],
    steps: Mapping[str, np.ndarray] | None = None,
    lengths: np.ndarray | None = None,
    *,
    calibration: int = 0,
    completions: tuple[tuple[int, ...], ...] = (),
    word_start_tokens: frozenset[int] | None = None,
) -> ModelData:
    """One model of a simulated study; its runs take the prompts in turn, the last `calibration` runs are set apart.

    Shapes: layers [run, step, layer] with layers 1..L, steps [run, step]; NaN where a run has no such step. `lengths`
    are the numbers of generated tokens (default: all steps).
    """
    n_runs, n_steps, _ = shape = next(iter(layers.values())).shape
    run, step, layer = (axis.ravel() for axis in np.indices(shape))
    rows, at = (axis.ravel() for axis in np.indices((n_runs, n_steps)))
    order = np.arange(n_runs)
    runs = runs_of(
        [f"p{i % PROMPTS}" for i in order],
        n_steps if lengths is None else lengths,
        arm="simulated",
        sample=order // PROMPTS,
        calibration=order >= n_runs - calibration,
    )
    return ModelData(
        info,
        runs,
        {"run": rows, "step": at} | {k: v.ravel() for k, v in (steps or {}).items()},
        {"run": run, "step": step, "layer": layer + 1} | {k: v.ravel() for k, v in layers.items()},
        completions,
        word_start_tokens=word_start_tokens,
    )


def infos(
    m: int, *, n_layers: int, vocab_size: int = 100, twin_of: Mapping[int, int] | None = None, apart: bool = False
) -> tuple[list[ModelInfo], list[ModelInfo]]:
    """Facts of M trained models, and of their untrained twins; `twin_of` maps a second seed to its original.

    `apart` says that each was trained with a seed of its own.
    """
    facts: dict = {"family": "simulated", "n_layers": n_layers, "d_model": 4, "vocab_size": vocab_size, "parameters": 1}
    seeds = twin_of or {}
    twins = [f"m{seeds[i]}" if i in seeds else None for i in range(m)]
    trained = [ModelInfo(f"m{i}", twin_of=twins[i], training_seed=i if apart else None, **facts) for i in range(m)]
    return trained, [ModelInfo(name=f"m{i} (untrained)", twin=True, twin_of=f"m{i}", **facts) for i in range(m)]


def study_of(models: list[ModelData], generator: np.random.Generator) -> Panel:
    """The panel of one simulated study: fewer bootstrap draws than a real one, and the null of S drawn once for all."""
    return Panel(tuple(models), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS, null=kept_null)
