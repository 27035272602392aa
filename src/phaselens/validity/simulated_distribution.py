"""Simulated studies for G5, G6, G9 and G10: what could explain a split by GD_ratio, and what only looks as if it did.

Log GD_ratio of every model is planted under every version that the claims read, with cells as in `gd`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from phaselens.experiments import ModelInfo, Panel
from phaselens.validity.simulated_gd import CENTRE, LAYERS, UNIT, VOCABULARY, cells, lens_columns
from phaselens.validity.simulated_panels import infos, model_of, study_of, two_groups, upper_group

VERSIONS = ("", "__tmatch", "__uncapped", "__massive", "__nofirst")
SEEDS, FAMILIES = 3, 4
NOISE = 0.05


def study_of_versions(facts: Sequence[ModelInfo], log_gd: Mapping[str, np.ndarray], generator) -> Panel:
    """A study of models with these facts; log GD_ratio [model] of each version by the suffix of its lens.

    Versions that are not given are as the plain one, with cells of their own.
    """
    columns: dict[str, np.ndarray] = {}
    for suffix in VERSIONS:
        values = np.asarray(log_gd.get(suffix, log_gd[""]), float)
        found = lens_columns(cells(np.repeat(values[:, None], LAYERS, axis=1), generator))
        columns |= {f"{name}{suffix}": found[name] for name in ("top1", "rivalry")}
    models = [model_of(info, {k: v[i] for k, v in columns.items()}) for i, info in enumerate(facts)]
    return study_of(models, generator)


def _facts(m: int) -> list[ModelInfo]:
    return infos(m, n_layers=LAYERS, vocab_size=VOCABULARY)[0]


def of_sizes(generator: np.random.Generator, *, m: int, explained: bool) -> Panel:
    """Two groups 10 SD apart, sizes over two orders of magnitude: the larger models in the upper group, or any."""
    order = np.argsort(~upper_group(m) if explained else generator.random(m), kind="stable")
    sizes = np.empty(m)
    sizes[order] = np.geomspace(100, 1, m)
    facts = [replace(f, parameters=int(1e6 * s)) for f, s in zip(_facts(m), sizes, strict=True)]
    return study_of_versions(facts, {"": CENTRE + UNIT * two_groups(10, m, generator)}, generator)


def of_caps(generator: np.random.Generator, *, cap: float, corpus: float, at_readout: bool = False) -> Panel:
    """Three seeds with and without a cap, four families on two corpora; effects on log GD_ratio of these sizes.

    With `at_readout` the cap's effect goes when the models are read without it.
    """
    capped = [
        {"recipe": "capped", "capped": on, "corpus": "a", "training_seed": seed}
        for seed in range(SEEDS)
        for on in (False, True)
    ]
    crossed = _crossed()
    facts = [replace(f, **made) for f, made in zip(_facts(len(capped) + len(crossed)), capped + crossed, strict=True)]
    shift = np.array([cap * f.capped + corpus * (f.corpus == "b") for f in facts])
    own = CENTRE + shift + NOISE * generator.standard_normal(len(facts))
    removed = own - np.array([cap * f.capped for f in facts]) * at_readout
    return study_of_versions(facts, {"": own, "__uncapped": removed}, generator)


def _crossed() -> list[dict]:
    return [
        {"family": f"f{i}", "recipe": f"r{i}", "capped": False, "corpus": corpus, "training_seed": 0}
        for i in range(FAMILIES)
        for corpus in "ab"
    ]


def of_corpora(generator: np.random.Generator, *, corpus: float, by_temperature: bool = False) -> Panel:
    """Four families, each on two corpora; the second one moves log GD_ratio by `corpus`.

    With `by_temperature` nothing of it is left at a common temperature.
    """
    facts = [replace(f, **made) for f, made in zip(_facts(2 * FAMILIES), _crossed(), strict=True)]
    shift = np.array([corpus * (f.corpus == "b") for f in facts])
    noise = NOISE * generator.standard_normal(len(facts))
    return study_of_versions(
        facts, {"": CENTRE + shift + noise, "__tmatch": CENTRE + noise + shift * (not by_temperature)}, generator
    )


def of_sinks(generator: np.random.Generator, *, m: int, gap: float, by_sink: bool = False) -> Panel:
    """Models in two groups `gap` SDs apart (0: none), with a pair that differs in QK-norm alone in the lower group.

    With `by_sink` the groups are gone once attention to position 0 is masked.
    """
    values = two_groups(gap, m, generator)
    facts = [replace(f, capped=False, qk_norm=False, recipe=f.name) for f in _facts(m)]
    facts[-1] = replace(facts[-1], recipe=facts[-2].recipe, qk_norm=True)
    masked = values - gap * upper_group(m) * by_sink
    return study_of_versions(facts, {"": CENTRE + UNIT * values, "__nofirst": CENTRE + UNIT * masked}, generator)
