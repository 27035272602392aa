"""The scenarios: what is planted, for which claims, and what the rule must say. One record each."""

from functools import partial

from phaselens.validity import simulated_gd, simulated_regimes
from phaselens.validity.distribution_scenarios import DISTRIBUTION
from phaselens.validity.fingerprint_scenarios import PRINTS
from phaselens.validity.graded_scenarios import GRADED
from phaselens.validity.intervention_scenarios import ACTED
from phaselens.validity.observability_scenarios import OBSERVED
from phaselens.validity.probe_scenarios import PROBING
from phaselens.validity.scenario import Scenario, by_experiment
from phaselens.validity.sequence_scenarios import SEQUENCES
from phaselens.validity.simulated_panels import SHAPES
from phaselens.validity.training_scenarios import TRAINING
from phaselens.validity.variation_scenarios import VARIATION

PANELS = (8, 12)
GAPS = (8, 10)
G_ALL = ("G1", "G2", "G3", "G4")
_REGIMES, _GD = by_experiment("regimes"), by_experiment("gd")


def _nulls() -> list[Scenario]:
    sets = (("R1", ("R1",), simulated_regimes.without_regimes, _REGIMES), ("G", G_ALL, simulated_gd.without_split, _GD))
    return [
        Scenario(
            id=f"{name} null, {shape}, M = {m}",
            kind="null",
            claims=claims,
            planted=f"model values with one peak ({shape}); twins without a split",
            size="0 SD",
            make=partial(make, shape=shape, m=m),
            judge=judge,
        )
        for name, claims, make, judge in sets
        for shape in SHAPES
        for m in PANELS
    ]


def _effects() -> list[Scenario]:
    sets = (("R1", ("R1",), simulated_regimes.with_regimes, _REGIMES), ("G", G_ALL, simulated_gd.with_split, _GD))
    return [
        Scenario(
            id=f"{name} effect, {gap} SD, M = {m}",
            kind="effect",
            claims=claims,
            planted="two groups of models, three eighths of them in the upper one; twins without a split",
            size=f"{gap} SD, M = {m}",
            make=partial(make, gap=gap, m=m),
            judge=judge,
            headline=(gap, m) == (8, 12),
        )
        for name, claims, make, judge in sets
        for gap in GAPS
        for m in PANELS
    ] + [
        Scenario(
            id=f"R1 {k} regimes, {gap} SD, M = {m}",
            kind="effect",
            claims=("R1",),
            planted=f"{k} groups of models of one size; twins without a split",
            size=f"{gap} SD between neighbours, M = {m}",
            make=partial(simulated_regimes.with_regimes, gap=gap, m=m, k=k),
            judge=_REGIMES,
        )
        for k in (2, 3, 4)
        for gap, m in ((6, 12), (10, 8), (10, 12))
        if (k, gap) != (2, 10)
    ]


ARTEFACTS: tuple[Scenario, ...] = (
    Scenario(
        id="R1 outlier state",
        kind="artefact",
        claims=("R1",),
        planted="walks on the sphere; the first generated state of three of eight models is an unrelated vector",
        size="about 1.9 in log ratio_norm",
        make=partial(simulated_regimes.outlier_states, m=8),
        judge=_REGIMES,
        control="outlier state",
    ),
    Scenario(
        id="R1 frozen tails",
        kind="artefact",
        claims=("R1",),
        planted="walks on the sphere; three of eight models stand still for the last 40 % of their steps",
        size="about 0.5 in log ratio_norm",
        make=partial(simulated_regimes.frozen_tails, m=8),
        judge=_REGIMES,
        control="frozen share",
    ),
    Scenario(
        id="R1 unequal lengths",
        kind="artefact",
        claims=("R1",),
        planted="one heavy-tailed instability for all; five of eight models end most of their runs at 10 tokens",
        size="about 1 in log max / mean over all values",
        make=partial(simulated_regimes.unequal_lengths, m=8),
        judge=_REGIMES,
    ),
    Scenario(
        id="R1 seed twins",
        kind="artefact",
        claims=("R1",),
        planted="five recipes with one peak, three more seeds of the first, declared as twins",
        size="four models within 0.1 SD",
        make=partial(simulated_regimes.of_seeds, recipes=5, seeds=3),
        judge=_REGIMES,
    ),
    Scenario(
        id="R1 architecture",
        kind="artefact",
        claims=("R1",),
        planted="two groups of models, and the same two groups among their untrained twins",
        size="10 SD, M = 12",
        make=partial(simulated_regimes.of_architecture, gap=10, m=12),
        judge=_REGIMES,
        control="untrained twin",
    ),
    Scenario(
        id="G temperature",
        kind="artefact",
        claims=("G2",),
        shown=("G1", "G3", "G4"),
        planted="one peak; the logits of three eighths of the models are multiplied by 1.6",
        size="about 1.1 in log GD_ratio, M = 12",
        make=partial(simulated_gd.of_temperature, m=12),
        judge=_GD,
        control="common temperature",
    ),
    Scenario(
        id="G dead vocabulary",
        kind="unmoved",
        claims=("G1", "G2", "G3"),
        shown=("G4",),
        planted="two groups 10 SD apart; every second model has its vocabulary doubled with tokens of probability 0",
        size="10 SD, M = 12",
        make=partial(simulated_gd.with_split, gap=10, m=12, dead_rows=True),
        without=partial(simulated_gd.with_split, gap=10, m=12),
        judge=_GD,
    ),
    Scenario(
        id="G one lens",
        kind="artefact",
        claims=("G4",),
        shown=("G1", "G2", "G3"),
        planted="two groups 10 SD apart under the final-norm lens, none under the raw one",
        size="10 SD, M = 12",
        make=partial(simulated_gd.of_one_lens, gap=10, m=12),
        judge=_GD,
        control="raw lens",
    ),
    Scenario(
        id="G inner layers",
        kind="artefact",
        claims=("G4",),
        shown=("G1", "G2", "G3"),
        planted="two groups at the inner layers, none at the output",
        size="30 SD there, about 10 SD in the mean over layers, M = 12",
        make=partial(simulated_gd.of_inner_layers, gap=15, m=12),
        judge=_GD,
        control="output only",
    ),
    Scenario(
        id="G architecture",
        kind="artefact",
        claims=("G1",),
        shown=("G2", "G3", "G4"),
        planted="two groups of models, and the same two groups among their untrained twins",
        size="10 SD, M = 12",
        make=partial(simulated_gd.of_architecture, gap=10, m=12),
        judge=_GD,
        control="untrained twin",
    ),
)

SCENARIOS: tuple[Scenario, ...] = (
    *_nulls(),
    *_effects(),
    *ARTEFACTS,
    *DISTRIBUTION,
    *VARIATION,
    *SEQUENCES,
    *PRINTS,
    *PROBING,
    *TRAINING,
    *ACTED,
    *GRADED,
    *OBSERVED,
)
