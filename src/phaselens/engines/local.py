"""Carry a study out on this machine: load, generate, observe, analyse, judge. Resuming is the normal path."""

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from phaselens.claims import claims_by_id, judge_all, ledger_json, lock
from phaselens.engines.assemble import panel_of, picture_of, temperature_rows
from phaselens.engines.events import Event, Listener
from phaselens.engines.folder import begin, log, opened, pretty_json
from phaselens.engines.members import (
    Member,
    admit,
    battery_of,
    candidates,
    model_of,
    plain_source,
    require_some,
    threads,
    versions,
)
from phaselens.engines.traces import (
    Tick,
    Traced,
    Work,
    lenses_of,
    make_calibration,
    make_traces,
    make_transcripts,
    temperatures,
)
from phaselens.engines.vocabulary import token_bytes
from phaselens.errors import OutputError, PhaselensError
from phaselens.experiments import Panel, Result, experiments_by_name, run_experiments
from phaselens.study import Study
from phaselens.trace.store import atomic_write, write_table


@dataclass(frozen=True)
class Outcome:
    """What a study gave: its folder, the rows of the panel table and of the ledger, and who could not take part."""

    folder: Path
    panel: tuple[dict[str, Any], ...]
    claims: tuple[dict[str, Any], ...]
    refused: tuple[dict[str, str], ...]
    failed: tuple[dict[str, str], ...]
    notes: tuple[str, ...]
    seconds: float


def run_study(study: Study, out: str | Path, *, listener: Listener | None = None) -> Outcome:
    """Do everything the study asks for in the folder `out`, or what is left of it, and return what it gave.

    Units of work that are on disk are passed over, so a killed run goes on where it was; the claims are locked in the
    manifest before the first token. A model that is refused, or fails later, is reported and the others go on.

    Raises OutputError where the folder cannot be used or is full; ModelRefused where no model is left; InputError for
    prompts that cannot be used.
    """
    started, tell = time.monotonic(), listener or (lambda event: None)
    with opened(out, study) as folder:
        log(folder, "begin", study=study.name, hash=study.hash)
        work = Work(study, folder, battery_of(study), {})
        failed: list[dict[str, str]] = []
        members, refused = _load(work, tell)
        chosen = claims_by_id([c for e in experiments_by_name(study.experiments) for c in e.claims])
        begin(folder, _manifest(work, members, refused, lock(chosen), [c.id for c in chosen]))

        def each(stage: str, per: int, do: Callable[[Member, Tick], Any]) -> dict[str, Any]:
            nonlocal members
            found, errors = _each(work, tell, stage, members, per, do)
            failed.extend(errors)
            members = _left(members, found)
            require_some(members, [*refused, *failed])
            return found

        per = len(work.units(members[0]))
        each("generate", per, lambda m, tick: make_transcripts(work, m, tick) or True)
        curves = each("calibrate", 1, lambda m, tick: make_calibration(work, m, tick))
        target, heat = temperatures(members, curves)
        vocabularies = _vocabularies(work, members)
        lenses = lenses_of(study, members, heat, vocabularies)
        traced = each("observe", per, lambda m, tick: make_traces(work, m, lenses[m.label], tick))
        panel = panel_of(work, members, traced, heat, curves, vocabularies)
        tell(Event("stage", "analyse", "experiments and claims"))
        result = run_experiments(panel, study.experiments)
        verdicts = judge_all(chosen, result.evidence)
        notes = (*result.notes, *_lens_notes(study, members, lenses), *(f"{f['model']}: {f['reason']}" for f in failed))
        _write_results(folder, result, notes)
        _write_documents(work, members, traced, panel, target, curves)
        atomic_write(folder / "claims.json", ledger_json(verdicts))
        seconds = time.monotonic() - started
        log(folder, "end", seconds=round(seconds, 3))
        claims = tuple(json.loads(ledger_json(verdicts)))
        rows = tuple(result.tables["panel"].to_pylist())
        return Outcome(folder, rows, claims, tuple(refused), tuple(failed), tuple(notes), seconds)


def _load(work: Work, tell: Listener) -> tuple[list[Member], list[dict[str, str]]]:
    """Admit every model that loads, proves itself and can run the prompts; the others with their reasons."""
    wanted = candidates(work.study)
    tell(Event("stage", "load", f"{len(wanted)} models", 0, len(wanted)))
    members: list[Member] = []
    refused: list[dict[str, str]] = []
    for i, member in enumerate(wanted, start=1):
        started = time.monotonic()
        if member.untrained and member.twin_of in {r["model"] for r in refused}:
            continue
        try:
            members.append(admit(work.study, member, work.battery, work.shelf))
        except OutputError:
            raise
        except PhaselensError as error:
            refused.append({"model": member.label, "reason": str(error)})
            tell(Event("note", "load", f"{member.label} cannot take part: {error}"))
        seconds = time.monotonic() - started
        log(work.folder, "load", model=member.label, seconds=round(seconds, 3))
        tell(Event("unit", "load", member.label, i, len(wanted), 0, seconds))
    require_some(members, refused)
    return _left(members, {m.label: True for m in members}), refused


def _left(members: Sequence[Member], found: dict[str, Any]) -> list[Member]:
    """The members that are in `found`; one whose original is gone goes too, and a twin of a lost model is no twin."""
    out = []
    for m in members:
        if m.label not in found or (m.untrained and m.twin_of not in found):
            continue
        lost = m.twin_of is not None and m.twin_of not in found
        out.append(Member(m.label, m.source, m.untrained, None if lost else m.twin_of, m.facts))
    return out


def _each(
    work: Work, tell: Listener, stage: str, members: Sequence[Member], per: int, do: Callable[[Member, Tick], Any]
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Do one stage for every model; an error of one model leaves the others and all finished units as they are."""
    total, done = per * len(members), 0
    found: dict[str, Any] = {}
    failed: list[dict[str, str]] = []
    tell(Event("stage", stage, f"{len(members)} models", 0, total))
    for i, member in enumerate(members):

        def tick(tokens: int, seconds: float, skipped: bool, label: str = member.label) -> None:
            nonlocal done
            done += 1
            log(work.folder, stage, model=label, tokens=tokens, seconds=round(seconds, 3), skipped=skipped)
            tell(Event("unit", stage, label, done, total, tokens, seconds, skipped))

        try:
            found[member.label] = do(member, tick)
        except OutputError:
            raise
        except (PhaselensError, torch.OutOfMemoryError) as error:
            failed.append({"model": member.label, "reason": str(error).splitlines()[0]})
            tell(Event("note", stage, f"{member.label} failed and is left out: {error}"))
        done = per * (i + 1)
    return found, failed


def _manifest(
    work: Work, members: Sequence[Member], refused: list[dict[str, str]], claims_lock: str, claims: list[str]
) -> dict[str, Any]:
    """What is known before the first token: study, claims, models, prompts, versions."""
    study = work.study
    return {
        "name": study.name,
        "study": {
            "hash": study.hash,
            "prompts": [{"id": p.id, "category": p.category} for p in work.battery.prompts],
            "calibration": [p.id for p in work.battery.calibration],
        },
        "seed": study.seed,
        "claims_lock": claims_lock,
        "claims": claims,
        "versions": versions(),
        "device": study.device,
        "dtype": study.dtype,
        "threads": threads(),
        "batch_size": study.batch_size,
        "battery": work.battery.name,
        "n_prompts": len(work.battery.prompts),
        "n_calibration_prompts": len(work.battery.calibration),
        "categories": list(work.battery.categories),
        "models": [
            {
                **{k: v for k, v in m.facts.items() if k not in ("versions", "source")},
                "name": m.label,
                "source": plain_source(m.source),
                "twin": m.untrained,
                "twin_of": m.twin_of,
            }
            for m in members
        ],
        "refused": refused,
    }


def _vocabularies(work: Work, members: Sequence[Member]) -> dict[str, dict[int, bytes]]:
    """Token bytes of every model that has a tokenizer; a twin has its original's."""
    out: dict[str, dict[int, bytes]] = {}
    for m in members:
        if m.facts["tokenizer"] is None:
            continue
        if m.untrained and m.twin_of in out:
            out[m.label] = out[m.twin_of]
        else:
            out[m.label] = token_bytes(model_of(work.study, m, work.shelf).tokenizer, m.facts["vocab_size"])
    return out


def _lens_notes(study: Study, members: Sequence[Member], lenses: dict[str, Any]) -> list[str]:
    """Which lenses of the study are not defined for which model."""
    out = []
    for lens in study.lenses[1:]:
        without = [m.label for m in members if lens not in {spec.label for spec in lenses[m.label]}]
        if without:
            why = "no temperature in [0.05, 20] matches" if lens == "tmatch" else "no tokens are known to be shared"
            out.append(f"lens {lens}: {why} for {', '.join(without)}")
    return out


def _write_results(folder: Path, result: Result, notes: Sequence[str]) -> None:
    for name, table in result.tables.items():
        write_table(folder / "results" / f"{name}.parquet", table)
    for name, document in result.documents.items():
        atomic_write(folder / "results" / f"{name}.json", pretty_json(_without_nan(document)))
    atomic_write(folder / "results" / "notes.json", pretty_json(list(notes)))


def _write_documents(
    work: Work,
    members: Sequence[Member],
    traced: dict[str, tuple[Traced, ...]],
    panel: Panel,
    target: float,
    curves: dict[str, Any],
) -> None:
    """The common temperature, the picture of one run, and which files belong to which unit."""
    results = work.folder / "results"
    atomic_write(results / "temperature.json", pretty_json(temperature_rows(panel, members, target, curves)))
    first = next(m for m in members if not m.untrained)
    tokenizer = model_of(work.study, first, work.shelf).tokenizer
    picture = picture_of(work.folder, first, traced[first.label], tokenizer)
    if picture is not None:
        atomic_write(results / "trajectory.json", pretty_json(picture))
    units = [
        {
            "model": m.label,
            "arm": one.unit.sampling.arm,
            "calibration": one.unit.calibration,
            "prompts": [p.id for p in one.unit.prompts],
            "samples": one.unit.samples,
            "transcripts": f"transcripts/{one.unit.name}.jsonl",
            "trace": f"traces/{one.trace}",
        }
        for m in members
        for one in traced[m.label]
    ]
    atomic_write(work.folder / "units.json", pretty_json(units))


def _without_nan(value: Any) -> Any:
    """NaN and infinity as null, for JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    return [_without_nan(v) for v in value] if isinstance(value, (list, tuple)) else value
