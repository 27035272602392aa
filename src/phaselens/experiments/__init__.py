"""Experiments: small declarations over stored columns. `run_experiments` is the one call that a study makes."""

from collections.abc import Callable, Sequence

from phaselens.claims import Claim, claims_by_id
from phaselens.errors import unknown_name
from phaselens.experiments.ambiguity import AMBIGUITY
from phaselens.experiments.base import Experiment, ModelData, ModelInfo, Panel, Result
from phaselens.experiments.causal_regions import CAUSAL
from phaselens.experiments.conditions import CONDITIONS
from phaselens.experiments.correctness import CORRECTNESS
from phaselens.experiments.cycles import CYCLE
from phaselens.experiments.differences import DIFFERENCES
from phaselens.experiments.dynamic_control import CONTROL
from phaselens.experiments.equal_lengths import Equal
from phaselens.experiments.fingerprints import FINGERPRINTS
from phaselens.experiments.gd import GD
from phaselens.experiments.gd_controls import GD_CONTROLS
from phaselens.experiments.growth import GROWTH
from phaselens.experiments.model_order import ORDERS
from phaselens.experiments.motifs import MOTIF
from phaselens.experiments.normalisation import NORMALISATION
from phaselens.experiments.observability import OBSERVABILITY
from phaselens.experiments.perturbation import PERTURBATION
from phaselens.experiments.probes import PROBES
from phaselens.experiments.profile import PROFILE
from phaselens.experiments.regimes import REGIMES
from phaselens.experiments.result_tables import concatenated
from phaselens.experiments.states import STATES
from phaselens.experiments.subpanels import subpanel_experiment
from phaselens.experiments.summary import SUMMARY
from phaselens.experiments.topology import TOPOLOGY
from phaselens.experiments.training import TRAINED
from phaselens.experiments.variance import VARIANCE

# What is judged again on small panels: whatever gives its evidence without tables, quickly, and is about any panel.
SUBPANELS = subpanel_experiment((REGIMES, GD, FINGERPRINTS))
EXPERIMENTS: tuple[Experiment, ...] = (
    SUMMARY,
    DIFFERENCES,
    REGIMES,
    PROFILE,
    GD,
    GD_CONTROLS,
    VARIANCE,
    ORDERS,
    CONDITIONS,
    STATES,
    MOTIF,
    CYCLE,
    FINGERPRINTS,
    TOPOLOGY,
    NORMALISATION,
    AMBIGUITY,
    PROBES,
    PERTURBATION,
    GROWTH,
    CAUSAL,
    CONTROL,
    TRAINED,
    CORRECTNESS,
    OBSERVABILITY,
    SUBPANELS,
)
DEFAULT: tuple[str, ...] = (
    "regimes",
    "gd",
    "variance",
    "order",
    "conditions",
    "states",
    "motifs",
    "cycles",
    "differences",
)


def experiments_by_name(names: Sequence[str]) -> tuple[Experiment, ...]:
    """The experiments of these names, in the order of `EXPERIMENTS`. Raises UnknownNameError for any other name."""
    known = {e.name: e for e in EXPERIMENTS}
    for name in names:
        if name not in known:
            raise unknown_name("experiment", name, known)
    return tuple(e for e in EXPERIMENTS if e.name in set(names))


def registered_claims(names: Sequence[str] = DEFAULT) -> tuple[Claim, ...]:
    """The claims that the named experiments inform: what a study locks before it generates anything."""
    return claims_by_id([claim for e in experiments_by_name(names) for claim in e.claims])


# Does something with each of several experiments and gives the results in their order.
Each = Callable[[Callable[[Experiment], Result], Sequence[Experiment]], Sequence[Result]]


def in_turn(do: Callable[[Experiment], Result], items: Sequence[Experiment]) -> Sequence[Result]:
    """One after the other, here."""
    return [do(e) for e in items]


def run_experiments(panel: Panel, names: Sequence[str] = DEFAULT, each: Each = in_turn) -> Result:
    """Analyse a panel by the named experiments and the summary; one `Result` with all tables, documents and evidence.

    Deterministic: the same columns and `panel.seed` give the same numbers, whichever experiments run beside each other,
    and however `each` spreads them.
    """
    return _together(each(lambda e: e.function(panel), experiments_by_name([*names, "panel"])))


def run_at_equal_lengths(equal: Equal, names: Sequence[str], each: Each = in_turn) -> Result | None:
    """What `over_whole_runs` say at equal lengths; None where runs are too short for it."""
    chosen = over_whole_runs(names)
    if equal.panel is None:
        return None
    return _together(each(lambda e: e.function(equal.panel), chosen))


def over_whole_runs(names: Sequence[str]) -> tuple[Experiment, ...]:
    """Those of the named experiments, and the summary, whose numbers are means over whole runs."""
    return tuple(e for e in experiments_by_name([*names, "panel"]) if e.whole_runs or e is SUMMARY)


def _together(results: Sequence[Result]) -> Result:
    return Result(
        tables={name: table for r in results for name, table in r.tables.items()},
        documents=concatenated(r.documents for r in results),
        evidence={name: found for r in results for name, found in r.evidence.items()},
        notes=tuple(note for r in results for note in r.notes),
    )
