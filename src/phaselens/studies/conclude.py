"""The end of every study, made from its folder alone: experiments, verdicts, documents. No model is needed.

`run_study` ends here, and `analyse_study` is only this: what they write is the same because it is one function.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from phaselens.claims import Claim, OwnClaim, RegisteredOwn, claims_by_id, held_against
from phaselens.claims.verdict_records import LedgerRow
from phaselens.dynamics.published_figures import published_figures
from phaselens.engines.forked_workers import spread
from phaselens.experiments import (
    Each,
    Experiment,
    Panel,
    Result,
    experiments_by_name,
    in_turn,
    run_again,
    run_experiments,
    stricter,
)
from phaselens.experiments.equal_lengths import AT_EQUAL_LENGTHS, length_notes
from phaselens.experiments.own_evidence import own_evidence
from phaselens.experiments.result_tables import json_value
from phaselens.experiments.separations import counts
from phaselens.studies.panel_columns import NO_MATCH, panel_of, picture_of, temperature_rows
from phaselens.studies.store.folder import pretty_json
from phaselens.studies.store.panel_record import Record
from phaselens.studies.store.references import references
from phaselens.studies.store.registration import judged, own_claims, post_hoc, unjudged, with_later, with_own
from phaselens.studies.store.run_grades import grading
from phaselens.trace.result_hashes import CLAIMS, HASHES, write_hashes
from phaselens.trace.store import atomic_write, read_table, trace_paths, write_table
from phaselens.trace.transcripts import Transcript, read_jsonl

UNDEFINED = {
    "tmatch": NO_MATCH,
    "shared": "no tokens are known to be shared",
    "tmatch_layers": "no temperature in [0.05, 20] matches at every layer",
    "uncapped": "there is no soft cap to take away (the plain version stands for it)",
    "nofirst": "attention to position 0 cannot be masked in its family",
}


@dataclass(frozen=True)
class Outcome:
    """What a study gave: its folder, the rows of the panel table and of the ledger, and who could not take part."""

    name: str
    folder: Path
    panel: tuple[dict[str, Any], ...]
    claims: tuple[LedgerRow, ...]
    refused: tuple[dict[str, str], ...]
    failed: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class Wanted:
    """What an analysis is asked for: the draws, the experiments, and the lenses and own claims that the study declared.

    `later` are own claims that came after the data.
    """

    seed: int
    n_boot: int
    experiments: tuple[str, ...]
    lenses: tuple[str, ...]
    subpanels: int = 20
    grader: str | None = None
    other_draws: bool = False
    registered: tuple[RegisteredOwn, ...] = ()
    later: tuple[OwnClaim, ...] = ()

    @property
    def own(self) -> tuple[RegisteredOwn, ...]:
        """The own claims that are judged."""
        return with_later(self.registered, self.later)

    def own_of(self, chosen: Sequence[Experiment]) -> set[str]:
        """Own claims about tables of these experiments; ratio_norm is of one length by definition."""
        tables = {table.name for e in chosen for table in e.tables}
        return {c.id for c in self.own if c.rule.table in tables and not c.rule.value.startswith("ratio_norm")}

    @classmethod
    def of(cls, declaration: Mapping[str, Any]) -> "Wanted":
        """As the study declares."""
        return cls(
            declaration["seed"],
            declaration["bootstraps"],
            tuple(declaration["experiments"]),
            tuple(declaration["lenses"]),
            declaration.get("subpanels", 20),
            declaration.get("grader"),
            registered=own_claims(declaration),
        )


def analyse(
    source: Path, out: Path, manifest: Mapping[str, Any], record: Record, wanted: Wanted, workers: int = 1
) -> dict[str, Any]:
    """Analyse and judge the traces of `source`; write `results/` and `claims.json` into `out`.

    `workers` processes take an experiment at a time. Returns the fields of an `Outcome` but for folder and seconds.
    """
    panel = panel_of(source, record, seed=wanted.seed, n_boot=wanted.n_boot, subpanels=wanted.subpanels)
    manifest = with_own(manifest, {"claims": [c.rule for c in wanted.registered]})
    claims = (*claims_by_id([c for e in experiments_by_name(wanted.experiments) for c in e.claims]), *wanted.own)
    late = post_hoc(claims, manifest, other_draws=wanted.other_draws)

    def each(do: Any, items: Sequence[Any]) -> Sequence[Result]:
        return spread(lambda i, say: do(items[i]), len(items), workers)

    result, rows = verdicts(panel, wanted, claims, late, manifest["claims"], each)
    rows += unjudged(manifest, {c.id for c in claims})
    notes = (
        *result.notes,
        *_lens_notes(record, wanted.lenses),
        *(note for model in manifest["models"] for note in model.get("notes", ())),
        *(f"{f['model']}: {f['reason']}" for f in record.failed),
        *_unjudged(manifest, [c.id for c in claims]),
    )
    (out / HASHES).unlink(missing_ok=True)  # what it says is no longer true, until all is written
    _write_results(out, result, notes)
    atomic_write(out / "results" / "temperature.json", pretty_json(temperature_rows(panel, record)))
    columns = {name for model in panel.models for name in (*model.steps, *model.layers)}
    named = references(experiments_by_name(wanted.experiments), columns)
    atomic_write(out / "results" / "references.json", pretty_json(named))
    atomic_write(out / "results" / "published.json", pretty_json(published_figures()))
    atomic_write(out / "results" / "grading.json", pretty_json(_grading(source, record, wanted.grader)))
    picture = picture_of(source, record)
    if picture is not None:
        atomic_write(out / "results" / "trajectory.json", pretty_json(picture))
    ledger = pretty_json(rows)
    atomic_write(out / CLAIMS, ledger)
    write_hashes(out)
    return {
        "name": manifest["name"],
        "panel": tuple(result.tables["panel"].to_pylist()),
        "claims": tuple(json.loads(ledger)),
        "refused": tuple(manifest["refused"]),
        "failed": tuple(dict(f) for f in record.failed),
        "notes": notes,
    }


def verdicts(
    panel: Panel,
    wanted: Wanted,
    claims: Sequence[Claim],
    late: Mapping[str, str],
    registered: Sequence[str],
    each: Each = in_turn,
) -> tuple[Result, list[LedgerRow]]:
    """What the experiments found, and the rows of the ledger.

    Where runs are of unlike length, claims that rest on means over whole runs are judged at equal lengths too; where
    some answers were cut off and some ended, claims about answers among those that ended. What does not stand is open.
    """

    def rows_of(found: Result, about: Panel) -> list[LedgerRow]:
        own = {c.id: own_evidence(c.rule, found.tables, counts(about)) for c in wanted.own}
        return judged(claims, {**found.evidence, **own}, late, registered)

    result = run_experiments(panel, wanted.experiments, each)
    rows, against = rows_of(result, panel), stricter(panel, wanted.experiments)
    notes = length_notes(panel, next((held for held, *_ in against if held.where == AT_EQUAL_LENGTHS), None))
    for held, chosen, ids in against:
        ids, again = ids | wanted.own_of(chosen), run_again(held, chosen, each)
        notes += (f"verdicts must stand {held.where} too: {held.words}",)
        if again is not None:
            kept = {claim: found for claim, found in again.evidence.items() if claim in ids}
            again = Result({**result.tables, **again.tables}, evidence={**result.evidence, **kept})
        there = None if again is None else rows_of(again, held.panel)
        rows = held_against(rows, there, ids, where=held.where, said=held.words, needed=held.needed)
    return replace(result, notes=(*notes, *result.notes)), rows


def _grading(folder: Path, record: Record, name: str | None) -> dict[str, object]:
    """How many runs of each model are right and wrong, by which rule, and what that looked like."""

    def runs() -> Iterator[tuple[str, Transcript]]:
        for unit in (u for u in record.units if not (u.calibration or u.paired)):
            paths = trace_paths(folder / "traces", unit.name)
            known = read_table(paths["runs"], ("run", "correct"))
            right = dict(zip(*(known.column(c).to_pylist() for c in ("run", "correct")), strict=True))
            yield from ((unit.model, replace(t, correct=right[t.run])) for t in read_jsonl(folder / unit.transcripts))

    return grading(runs(), name)


def _lens_notes(record: Record, lenses: Sequence[str]) -> list[str]:
    """Which lenses of the study are not defined for which model."""
    out = []
    for lens in lenses[1:]:
        without = [m.info.name for m in record.models if lens not in m.lenses]
        if without:
            out.append(f"lens {lens}: {UNDEFINED.get(lens, 'not defined')} for {', '.join(without)}")
    return out


def _unjudged(manifest: Mapping[str, Any], judged_ids: Sequence[str]) -> list[str]:
    """That a claim which was registered is not judged is said, never passed over."""
    silent = [i for i in manifest["claims"] if i not in set(judged_ids)]
    return [f"registered before the data and not judged here: {', '.join(silent)}"] if silent else []


def _write_results(folder: Path, result: Result, notes: Sequence[str]) -> None:
    for name, table in result.tables.items():
        write_table(folder / "results" / f"{name}.parquet", table)
    for name, document in result.documents.items():
        atomic_write(folder / "results" / f"{name}.json", pretty_json(json_value(document)))
    atomic_write(folder / "results" / "notes.json", pretty_json(list(notes)))
