"""Carry a study out on this machine: load, generate, observe, analyse, judge. Resuming is the normal path."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from phaselens.batteries.graders import FUNCTION, Grader
from phaselens.capture.generate import Progress
from phaselens.claims import Claim, claims_by_id, lock
from phaselens.engines.events import Event, Listener
from phaselens.engines.workers import Say, checked, spread
from phaselens.errors import InputError, OutputError, PhaselensError
from phaselens.experiments import ModelInfo, experiments_by_name
from phaselens.measure import LensSpec
from phaselens.studies.conclude import Outcome, Wanted, analyse
from phaselens.studies.declaration import Study
from phaselens.studies.stages.acting import check_neutral, make_acted, wanted
from phaselens.studies.stages.answers import make_answers
from phaselens.studies.stages.calibration import entropy_at_one
from phaselens.studies.stages.members import (
    Member,
    admit,
    battery_of,
    candidates,
    model_of,
    plain_source,
    require_some,
    threads,
)
from phaselens.studies.stages.probing import make_readings, make_scores
from phaselens.studies.stages.recipes import made_of
from phaselens.studies.stages.traces import (
    Tick,
    Traced,
    Work,
    lenses_of,
    make_calibration,
    make_traces,
    make_transcripts,
    temperatures,
    to_trace,
)
from phaselens.studies.stages.vocabulary import digit_tokens, token_bytes, word_start_tokens
from phaselens.studies.store.folder import begin, log, opened, require_no_fewer
from phaselens.studies.store.record import ModelRecord, Pictured, Record, UnitRecord, write_record
from phaselens.studies.store.registration import registration
from phaselens.trace.seal import DamagedFile
from phaselens.trace.store import digest
from phaselens.trace.transcripts import read_jsonl
from phaselens.version import versions


def run_study(
    study: Study,
    out: str | Path,
    *,
    listener: Listener | None = None,
    workers: int = 1,
    fewer: bool = False,
    grader: Callable[[str, tuple[str, ...]], bool] | None = None,
) -> Outcome:
    """Do everything the study asks for in the folder `out`, or what is left of it, and return what it gave.

    Units of work that are on disk are passed over, so a killed run goes on where it was; the claims are locked in the
    manifest before the first token. A model that is refused, or fails later, is reported and the others go on. With
    more than one of `workers` as many processes, of one thread each, work on a model or an experiment at a time (on a
    CPU under Linux); the files are those of one process with one thread.

    A finished folder is not written over with results of fewer models unless `fewer` says so.
    `grader(text, answers)` says whether a generation is right, in place of the study's `grader` by name; the study then
    declares its name, and goes on only with a function of that name.

    Raises OutputError where the folder cannot be used or is full; ModelRefused where no model is left; InputError for
    prompts that cannot be used, and for workers beside another device than the CPU.
    """
    started, tell = time.monotonic(), listener or (lambda event: None)
    if checked(workers) > 1 and study.device != "cpu":
        raise InputError(f"several workers share a CPU, not device {study.device!r}: say workers = 1.")
    rule = Grader.of(grader or _declared(study))
    study = study if grader is None else study.changed(grader=rule.name)
    with _one_thread(workers > 1), opened(out, study) as folder:
        log(folder, "begin", study=study.name, hash=study.hash, workers=workers)
        work = Work(study, folder, battery_of(study), {}, rule)
        failed: list[dict[str, str]] = []
        members, refused = _load(work, tell)
        check_neutral(work, members)
        chosen = claims_by_id([c for e in experiments_by_name(study.experiments) for c in e.claims])
        manifest = _manifest(work, members, refused, chosen)
        begin(folder, manifest)

        def each(stage: str, per: int, do: Callable[[Member, Tick, Progress], Any]) -> dict[str, Any]:
            nonlocal members
            found, errors = _each(work, tell, stage, members, per, do, workers)
            failed.extend(errors)
            members = _left(members, found)
            require_some(members, [*refused, *failed])
            return found

        per = len(work.units(members[0]))
        each("generate", per, lambda m, tick, part: make_transcripts(work, m, tick, part) or True)
        curves = each("calibrate", 1, lambda m, tick, part: make_calibration(work, m, tick, part))
        known = _known(work, members, curves)
        if not fewer:
            require_no_fewer(folder, [m.label for m in members], failed)
        _keep(work, members, known, failed)  # now, so that once its traces are whole the folder can be analysed
        each("observe", per, lambda m, tick, part: make_traces(work, m, known.lenses[m.label], tick, part) or True)
        if "correctness" in study.experiments:
            each("answers", per, lambda m, tick, _: make_answers(work, m, tick))
        if study.probe_tasks:
            each("probe", len(study.probe_tasks), lambda m, tick, _: make_readings(study, folder, m, work.shelf, tick))
        if study.documents and "observability" in study.experiments:
            each("read documents", 1, lambda m, tick, _: make_scores(study, folder, m, work.shelf, tick))
        if wanted(study):
            each("intervene", len(wanted(study)), lambda m, tick, _: make_acted(work, m, tick))
        if not fewer:
            require_no_fewer(folder, [m.label for m in members], failed)
        record = _keep(work, members, known, failed)
        tell(Event("stage", "analyse", "experiments and claims"))
        found = analyse(folder, folder, manifest, record, Wanted.of(study.declaration()), workers)
        seconds = time.monotonic() - started
        log(folder, "end", seconds=round(seconds, 3))
        return Outcome(folder=folder, seconds=seconds, **found)


def _declared(study: Study) -> str | None:
    """The grader that a study names; a function has to be given. Raises InputError where it is not."""
    if study.grader is not None and study.grader.startswith(f"{FUNCTION} "):
        raise InputError(f"this study is graded by the {study.grader}: give it to run_study(..., grader=...).")
    return study.grader


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
    work: Work,
    tell: Listener,
    stage: str,
    members: Sequence[Member],
    per: int,
    do: Callable[[Member, Tick, Progress], Any],
    workers: int,
) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Do one stage for every model; an error of one model leaves the others and all finished units as they are."""
    total, counts = per * len(members), [0] * len(members)
    tell(Event("stage", stage, f"{len(members)} models", 0, total))

    def attempt(i: int, say: Say) -> tuple[bool, Any]:
        try:
            found = do(members[i], lambda *unit: say("unit", *unit), lambda *part: say("part", *part))
        except (OutputError, DamagedFile):  # no failure of the model: a damaged file is made anew by going on
            raise
        except (PhaselensError, torch.OutOfMemoryError) as error:
            say("failed", str(error))
            return False, str(error).splitlines()[0]
        say("whole")
        return True, found

    def hear(i: int, kind: str, *said: Any) -> None:
        label = members[i].label
        if kind == "part":
            text = f"{label}: {said[0]:,} of {said[1]:,} tokens"
            tell(Event("part", stage, text, sum(counts), total, share=said[0] / max(1, said[1])))
            return
        if kind == "unit":
            tokens, seconds, skipped = said
            counts[i] += 1
            log(work.folder, stage, model=label, tokens=tokens, seconds=round(seconds, 3), skipped=skipped)
            tell(Event("unit", stage, label, sum(counts), total, tokens, seconds, skipped))
            return
        counts[i] = per
        if kind == "failed":
            tell(Event("note", stage, f"{label} failed and is left out: {said[0]}"))

    ended = spread(attempt, len(members), workers, hear)
    labels = [m.label for m in members]
    found = {label: value for label, (well, value) in zip(labels, ended, strict=True) if well}
    failed = [{"model": label, "reason": why} for label, (well, why) in zip(labels, ended, strict=True) if not well]
    return found, failed


@contextmanager
def _one_thread(wanted: bool) -> Iterator[None]:
    """One thread of arithmetic while the block runs, so that several processes do not crowd each other out."""
    before = torch.get_num_threads()
    if wanted:
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # a tokenizer of many threads does not survive a fork
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _manifest(
    work: Work, members: Sequence[Member], refused: list[dict[str, str]], claims: Sequence[Claim]
) -> dict[str, Any]:
    """What is known before the first token: study, claims, models, prompts, versions."""
    study = work.study
    return {
        "name": study.name,
        "study": {
            "hash": study.hash,
            "prompts": [{"id": p.id, "category": p.category} for p in work.battery.prompts],
            "calibration": [p.id for p in work.battery.calibration],
            "sha256": {
                name: {p.id: digest(asdict(p))[:32] for p in getattr(work.battery, name)}
                for name in ("prompts", "calibration", "pairs")
            },
        },
        "seed": study.seed,
        "claims_lock": lock(claims),
        "claims": [c.id for c in claims],
        "registered": registration(claims),
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


def _tokenizers(work: Work, members: Sequence[Member]) -> dict[str, Any]:
    """The tokenizer of every model that has one; a twin has its original's."""
    out: dict[str, Any] = {}
    for m in members:
        if m.facts["tokenizer"] is None:
            continue
        shared = out.get(m.twin_of or "") if m.untrained else None
        out[m.label] = shared or model_of(work.study, m, work.shelf).tokenizer
    return out


def _vocabularies(members: Sequence[Member], tokenizers: Mapping[str, Any]) -> dict[str, dict[int, bytes]]:
    """Token bytes of every model that has a tokenizer; a twin has its original's."""
    out: dict[str, dict[int, bytes]] = {}
    for m in members:
        if m.untrained and m.twin_of in out:
            out[m.label] = out[m.twin_of]
        elif m.label in tokenizers:
            out[m.label] = token_bytes(tokenizers[m.label], m.facts["vocab_size"])
    return out


@dataclass(frozen=True)
class _Known:
    """What is known of all models once they are calibrated; mappings by label."""

    target: float
    heat: Mapping[str, float]
    curves: Mapping[str, Mapping[str, Any]]
    lenses: Mapping[str, tuple[LensSpec, ...]]
    tokenizers: Mapping[str, Any]
    vocabularies: Mapping[str, Mapping[int, bytes]]


def _known(work: Work, members: Sequence[Member], curves: Mapping[str, Mapping[str, Any]]) -> _Known:
    target, heat = temperatures(members, curves)
    tokenizers = _tokenizers(work, members)
    vocabularies = _vocabularies(members, tokenizers)
    lenses = lenses_of(work.study, members, heat, vocabularies, curves)
    return _Known(target, heat, curves, lenses, tokenizers, vocabularies)


def _keep(work: Work, members: Sequence[Member], known: _Known, failed: Sequence[Mapping[str, str]]) -> Record:
    """Write what analyses need beside the traces, and return it."""
    units = [u for m in members for u in _unit_records(m, to_trace(work, m, known.lenses[m.label]))]
    picture = _pictured(work, members, units, known.tokenizers)
    models = tuple(_model_record(m, known) for m in members)
    record = Record(models, tuple(units), known.target, tuple(failed), picture)
    write_record(work.folder, record)
    return record


FACTS = ("family", "n_layers", "d_model", "vocab_size", "parameters")


def _model_record(member: Member, known: _Known) -> ModelRecord:
    """What analyses need to know of one model."""
    curve, words = known.curves[member.label], known.vocabularies.get(member.label)
    noise = curve["noise_floor"]
    info = ModelInfo(
        name=member.label,
        **{fact: member.facts[fact] for fact in FACTS},
        twin=member.untrained,
        twin_of=member.twin_of,
        temperature=known.heat[member.label],
        noise_floor=math.nan if noise is None else noise,
        dropped=curve["dropped"],
        **made_of(member.source, member.facts, untrained=member.untrained),
    )
    labels = tuple(spec.label or spec.kind for spec in known.lenses[member.label])
    ids = (None, None) if words is None else (digit_tokens(words), word_start_tokens(words))
    return ModelRecord(info, entropy_at_one(curve), labels, *ids)


def _unit_records(member: Member, traced: Sequence[Traced]) -> list[UnitRecord]:
    """Which files belong to which unit of one model."""
    return [
        UnitRecord(
            model=member.label,
            arm=one.unit.sampling.arm,
            calibration=one.unit.calibration,
            prompts=tuple(p.id for p in one.unit.prompts),
            samples=one.unit.samples,
            transcripts=f"transcripts/{one.unit.name}.jsonl",
            trace=f"traces/{one.trace}",
            paired=one.unit.paired,
        )
        for one in traced
    ]


def _pictured(
    work: Work, members: Sequence[Member], units: Sequence[UnitRecord], tokenizers: Mapping[str, Any]
) -> Pictured | None:
    """The first run of the first measured unit of the first trained model, with its tokens as text."""
    first = next(m for m in members if not m.untrained)
    unit = next((u for u in units if u.model == first.label and not u.calibration), None)
    if unit is None:
        return None
    run = min(read_jsonl(work.folder / unit.transcripts), key=lambda t: t.run)
    tokenizer = tokenizers.get(first.label)
    texts = tuple(f"[{i}]" if tokenizer is None else tokenizer.decode([i]) for i in run.completion_ids)
    return Pictured(first.label, unit.transcripts, unit.trace, run.run, texts)
