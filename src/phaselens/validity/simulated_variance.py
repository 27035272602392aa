"""Simulated studies of what varies, for V1 to V3: models, categories, prompts and seeds with known shares.

What is planted is planted exactly in ln mean ct and in ln ratio_norm of every run, each with its own draws. Effects of
models and categories are scaled to their mean square over these levels, for the claims are about these.
"""

from collections.abc import Mapping

import numpy as np

from phaselens.dynamics.regimes import WINDOW
from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.validity.simulated_panels import BOOTSTRAPS, runs_of
from phaselens.validity.simulated_regimes import peaked

CATEGORIES = ("factual", "arithmetic", "science", "open", "format", "ambiguous")
SAMPLES = 3
CENTRE = 1.4
SCALE = 0.2


def levels_of(share: float, shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    """Effects of the levels of a factor or of an interaction (SD of y): mean 0 along each axis, mean square `share`.

    An axis of length 1 stands for a factor that the effect does not depend on.
    """
    effect = generator.standard_normal(shape)
    for axis in (i for i, n in enumerate(shape) if n > 1):
        effect = effect - effect.mean(axis=axis, keepdims=True)
    square = (effect**2).mean()
    return effect * np.sqrt(share / square) if square > 0 else effect


def planted(
    shares: Mapping[str, float],
    generator: np.random.Generator,
    *,
    models: int,
    prompts: int = 8,
    amplify: float = 1.0,
    noisy: float = 1.0,
    freedom: float = 0.0,
    wordings: int = 1,
) -> np.ndarray:
    """Y [model, category, prompt, sample] (its own SD) whose components are `shares`; they should add to 1.

    The residual is normal, or Student's t of so much `freedom` (more than 2) with the same variance.

    Terms as `statistics.variance.TERMS`; the last three are drawn. In the science category the differences between
    models are `amplify` times their square, and all that is drawn `noisy` times its square. `prompts` facts stand in
    `wordings` each, and what a prompt does is what its fact does.
    """
    m, c, p, r = models, len(CATEGORIES), prompts * wordings, SAMPLES
    at = CATEGORIES.index("science")
    model = np.repeat(levels_of(shares.get("model", 0.0), (m, 1), generator), c, axis=1)
    model[:, at] *= np.sqrt(amplify)
    both = levels_of(shares.get("model:category", 0.0), (m, c), generator)
    category = levels_of(shares.get("category", 0.0), (1, c), generator)
    y = np.repeat((model + both + category)[:, :, None], p, axis=2)[..., None] + np.zeros(r)
    facts = {"prompt": (1, c, prompts, 1), "model:prompt": (m, c, prompts, 1)}
    for term, shape in (*facts.items(), ("residual", (m, c, p, r))):
        plain = generator.standard_normal(shape)
        if freedom and term == "residual":
            plain = generator.standard_t(freedom, shape) / np.sqrt(freedom / (freedom - 2))
        drawn = np.sqrt(shares.get(term, 0.0)) * plain
        drawn[:, at] *= np.sqrt(noisy)
        y = y + (drawn if term == "residual" else np.repeat(drawn, wordings, axis=2))
    return y


def study_of_cells(
    level: np.ndarray,
    ratio: np.ndarray,
    generator: np.random.Generator,
    *,
    lengths: np.ndarray | None = None,
    infos: list[ModelInfo] | None = None,
    tags: np.ndarray | None = None,
    arm: str = "t0.7",
    wordings: int = 1,
) -> Panel:
    """A study whose runs have exactly these ln mean ct and ln ratio_norm; all [model, category, prompt, sample].

    `lengths` are said to be the numbers of generated tokens (the columns hold 66 steps all the same), `tags` [category,
    prompt] say what kind a prompt is.
    """
    models = []
    for i in range(len(level)):
        name = f"m{i}"
        info = infos[i] if infos else info_of(name, f"f{i}")
        n = None if lengths is None else lengths[i].ravel()
        models.append(
            model_of_runs(info, level[i], ratio[i], generator, lengths=n, tags=tags, arm=arm, wordings=wordings)
        )
    return Panel(tuple(models), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)


def info_of(name: str, family: str, twin_of: str | None = None, n_layers: int = 1) -> ModelInfo:
    """Facts of a simulated model."""
    return ModelInfo(name, family, n_layers, 4, 100, 1, twin_of=twin_of)


def instability_of(level: np.ndarray, ratio: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Instability (rad) of runs with given ln mean and ln max / mean over 64 values; [...] -> [..., 66]."""
    ct = peaked(CENTRE + SCALE * ratio, generator, n_states=WINDOW + 2)
    return ct * (np.exp(SCALE * level) / np.nanmean(ct, axis=-1))[..., None]


def model_of_runs(
    info: ModelInfo,
    level: np.ndarray,
    ratio: np.ndarray,
    generator: np.random.Generator,
    *,
    lengths: np.ndarray | None = None,
    tags: np.ndarray | None = None,
    arm: str = "t0.7",
    wordings: int = 1,
) -> ModelData:
    """One model from y [category, prompt, sample] of both measures; one layer. `wordings` prompts are of one unit."""
    ct = instability_of(level.reshape(-1), ratio.reshape(-1), generator)
    category, prompt, sample = (axis.ravel() for axis in np.indices(level.shape))
    run, step = (axis.ravel() for axis in np.indices(ct.shape))
    named = [(CATEGORIES[c], p) for c, p in zip(category, prompt, strict=True)]
    runs = runs_of(
        [f"{c}/{p}" for c, p in named],
        ct.shape[1] if lengths is None else lengths,
        unit=np.array([f"{c}/{p // wordings}" for c, p in named]),
        category=np.array(CATEGORIES)[category],
        arm=arm,
        sample=sample,
    )
    if tags is not None:
        runs["tag"] = tags[category, prompt]
    layers = {"run": run, "step": step, "layer": np.ones(len(run), int), "instability": ct.ravel()}
    return ModelData(info, runs, {"run": run, "step": step}, layers)


def with_shares(
    generator: np.random.Generator,
    *,
    models: int = 8,
    prompts: int = 8,
    freedom: float = 0.0,
    wordings: int = 1,
    **terms: float,
) -> Panel:
    """A study with these components of both measures; terms by name (`model_category` for model:category)."""
    shares = {name.replace("_", ":"): share for name, share in terms.items()}
    size: dict = {"models": models, "prompts": prompts, "freedom": freedom, "wordings": wordings}
    level, ratio = (planted(shares, generator, **size) for _ in range(2))
    return study_of_cells(level, ratio, generator, wordings=wordings)


def with_loads(
    generator: np.random.Generator, *, slope: float, families: int = 4, members: int = 3, seeds: int = 0
) -> Panel:
    """Families of models whose ln mean ct rises with the steps of derivation, each model by its own slope.

    Slopes have SD .3 within a family; families lie up to `slope` apart. With `seeds` the first family is one recipe
    trained so many more times: declared twins, alike to .02.
    """
    family = np.repeat(np.arange(families), members)
    rise = slope * (family / (families - 1) - 0.5) + 0.3 * generator.standard_normal(len(family))
    if seeds:
        family, rise = np.append(family, np.zeros(seeds, int)), np.append(rise, np.full(seeds, rise[0]))
        rise[-seeds:] += 0.02 * generator.standard_normal(seeds)
    m, first = len(family), len(family) - seeds
    infos = [info_of(f"m{i}", f"f{f}", "m0" if i >= first else None) for i, f in enumerate(family)]
    shares = {"model": 0.3, "category": 0.1, "prompt": 0.2, "model:prompt": 0.1, "residual": 0.3}
    level, ratio = (planted(shares, generator, models=m) for _ in range(2))
    steps, at = 1 + np.arange(level.shape[2]) % 3, CATEGORIES.index("science")
    level[:, at] += rise[:, None, None] * (steps - 2)[:, None]
    tags = np.full((len(CATEGORIES), level.shape[2]), "", dtype="<U8")
    tags[at] = [f"{s} step{'s' if s > 1 else ''}" for s in steps]
    return study_of_cells(level, ratio, generator, infos=infos, tags=tags)


def with_amplification(
    generator: np.random.Generator,
    *,
    amplify: float,
    noisy: float = 1.0,
    models: int = 8,
    model: float = 0.3,
    wordings: int = 1,
) -> Panel:
    """A study whose models differ `amplify` times as much (in square) in the science category as elsewhere."""
    shares = {"model": model, "category": 0.1, "prompt": 0.1, "model:prompt": 0.1, "residual": 0.4}
    size: dict = {"models": models, "amplify": amplify, "noisy": noisy, "wordings": wordings}
    level, ratio = (planted(shares, generator, **size) for _ in range(2))
    return study_of_cells(level, ratio, generator, wordings=wordings)


def of_length(generator: np.random.Generator, *, models: int = 8) -> Panel:
    """Models differ alike in all categories, but some answer science at length, and length moves both measures."""
    shares = {"model": 0.2, "category": 0.1, "prompt": 0.1, "model:prompt": 0.1, "residual": 0.2}
    level, ratio = (planted(shares, generator, models=models) for _ in range(2))
    wordy = np.zeros((models, len(CATEGORIES), 1, 1))
    wordy[:, CATEGORIES.index("science")] = 2.0 * levels_of(1.0, (models, 1), generator)[:, :, None]
    tokens = 3.0 * wordy + 1.5 * generator.standard_normal(level.shape)
    lengths = np.round(66 * np.exp(0.1 * tokens)).astype(int)
    moved = 3.0 * np.log(lengths / 66)
    return study_of_cells(level + moved, ratio + moved, generator, lengths=lengths)
