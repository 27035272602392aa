"""Simulated studies for G5, G6, G9 and G10: what could explain a split by GD_ratio, and what only looks as if it did.

Log GD_ratio of every model is planted under every version that the claims read, with cells as in `gd`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from phaselens.experiments import ModelInfo, Panel
from phaselens.validity.scenario import Scenario, by_experiment
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


_JUDGE = by_experiment("gd_controls")

DISTRIBUTION: tuple[Scenario, ...] = (
    Scenario(
        id="G5 size makes the groups",
        kind="null",
        claims=("G5",),
        planted="two groups 10 SD apart, the larger models in the upper one",
        size="sizes over two orders of magnitude, M = 24",
        make=partial(of_sizes, m=24, explained=True),
        judge=_JUDGE,
    ),
    *(
        Scenario(
            id=f"G5 effect, M = {m}",
            kind="effect",
            claims=("G5",),
            planted="two groups 10 SD apart, sizes drawn without regard to them",
            size=f"R^2 = 0, M = {m}",
            make=partial(of_sizes, m=m, explained=False),
            judge=_JUDGE,
            headline=m == 40,
        )
        for m in (24, 40)
    ),
    Scenario(
        id="G6 null",
        kind="null",
        claims=("G6",),
        planted="cap and corpus both without effect: three seeds of the cap, four families of the corpus",
        size="0",
        make=partial(of_caps, cap=0.0, corpus=0.0),
        judge=_JUDGE,
    ),
    Scenario(
        id="G6 equal effects",
        kind="null",
        claims=("G6",),
        planted="cap and corpus move log GD_ratio alike",
        size=".5 each",
        make=partial(of_caps, cap=0.5, corpus=0.5),
        judge=_JUDGE,
    ),
    Scenario(
        id="G6 effect",
        kind="effect",
        claims=("G6",),
        planted="the cap moves log GD_ratio, the corpus hardly",
        size="1 against .1, noise of training .05",
        make=partial(of_caps, cap=1.0, corpus=0.1),
        judge=_JUDGE,
        headline=True,
    ),
    Scenario(
        id="G6 cap at read-out",
        kind="artefact",
        claims=("G6",),
        planted="the effect of the cap is gone when the models are read without it",
        size="1 against .1",
        make=partial(of_caps, cap=1.0, corpus=0.1, at_readout=True),
        judge=_JUDGE,
        control="read-out removal",
    ),
    Scenario(
        id="G9 null",
        kind="null",
        claims=("G9",),
        planted="four families on two corpora, which do nothing",
        size="0",
        make=partial(of_corpora, corpus=0.0),
        judge=_JUDGE,
    ),
    Scenario(
        id="G9 effect",
        kind="effect",
        claims=("G9",),
        planted="the second corpus moves log GD_ratio in all of four families",
        size=".6, noise of training .05",
        make=partial(of_corpora, corpus=0.6),
        judge=_JUDGE,
        headline=True,
    ),
    Scenario(
        id="G9 temperature",
        kind="artefact",
        claims=("G9",),
        planted="the corpus moves the entropy of the models; nothing is left at a common temperature",
        size=".6",
        make=partial(of_corpora, corpus=0.6, by_temperature=True),
        judge=_JUDGE,
        control="temperature-matched",
    ),
    Scenario(
        id="G10 null",
        kind="null",
        claims=("G10",),
        planted="model values with one peak; a QK-norm pair",
        size="0 SD, M = 12",
        make=partial(of_sinks, m=12, gap=0.0),
        judge=_JUDGE,
    ),
    Scenario(
        id="G10 effect",
        kind="effect",
        claims=("G10",),
        planted="two groups under every mask; a QK-norm pair in one of them",
        size="10 SD, M = 12",
        make=partial(of_sinks, m=12, gap=10.0),
        judge=_JUDGE,
        headline=True,
    ),
    Scenario(
        id="G10 sinks",
        kind="artefact",
        claims=("G10",),
        planted="two groups that are gone once attention to position 0 is masked",
        size="10 SD, M = 12",
        make=partial(of_sinks, m=12, gap=10.0, by_sink=True),
        judge=_JUDGE,
        control="sinks",
    ),
)
