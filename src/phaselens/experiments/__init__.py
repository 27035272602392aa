"""Experiments: small declarations over stored columns. `run_experiments` is the one call that a study makes."""

from collections.abc import Callable, Sequence
from importlib import import_module

from phaselens.claims import Claim, claims_by_id
from phaselens.errors import unknown_name
from phaselens.experiments.base import Experiment, ModelData, ModelInfo, Panel, Result
from phaselens.experiments.equal_lengths import Stricter, answers_that_ended, equal_lengths
from phaselens.experiments.result_tables import concatenated, declarations

DEFAULT = ("regimes", "gd", "variance", "order", "conditions", "states", "motifs", "cycles", "differences")


def _declared(name: str, module: str) -> Experiment:
    """The experiment of a record, which its module holds."""
    found = vars(import_module(f"{__package__}.{module}")).values()
    return next(e for e in found if isinstance(e, Experiment) and e.name == name)


# In the order of the records.
EXPERIMENTS = tuple(_declared(name, record.get("module", name)) for name, record in declarations().items())


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


def stricter(panel: Panel, names: Sequence[str]) -> list[tuple[Stricter, tuple[Experiment, ...], set[str]]]:
    """The panels that verdicts must hold in too, each with what is run on it again and the claims that must hold."""
    whole, answers = over_whole_runs(names), experiments_by_name([n for n in names if n == "correctness"])
    asked = [(equal_lengths(panel), whole, {claim for e in whole for claim in e.whole_runs})]
    asked += [(answers_that_ended(panel), answers, set(e.claims)) for e in answers]
    return [(held, chosen, ids) for held, chosen, ids in asked if held is not None]


def run_again(held: Stricter, chosen: Sequence[Experiment], each: Each = in_turn) -> Result | None:
    """What these experiments say of a stricter panel; None where there is none."""
    return None if held.panel is None else _together(each(lambda e: e.function(held.panel), chosen))


def over_whole_runs(names: Sequence[str]) -> tuple[Experiment, ...]:
    """Those of the named experiments, and the summary, whose numbers are means over whole runs."""
    return tuple(e for e in experiments_by_name([*names, "panel"]) if e.whole_runs or e.name == "panel")


def _together(results: Sequence[Result]) -> Result:
    return Result(
        tables={name: table for r in results for name, table in r.tables.items()},
        documents=concatenated(r.documents for r in results),
        evidence={name: found for r in results for name, found in r.evidence.items()},
        notes=tuple(note for r in results for note in r.notes),
    )
