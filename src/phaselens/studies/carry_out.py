"""Carry a study out on this machine: load, generate, observe, analyse, judge. Resuming is the normal path."""

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from phaselens.batteries.graders import FUNCTION, Grader
from phaselens.claims import Claim, claims_by_id, lock
from phaselens.engines.engine import Done, Engine
from phaselens.engines.events import Event, Listener
from phaselens.engines.forked_workers import checked
from phaselens.engines.local_processes import LocalEngine
from phaselens.errors import InputError, OutputError
from phaselens.experiments import ModelInfo, experiments_by_name
from phaselens.studies.conclude import Outcome, Wanted, analyse
from phaselens.studies.declaration import Study
from phaselens.studies.stages import interventions
from phaselens.studies.stages.calibrated_panel import Known, known_of
from phaselens.studies.stages.calibration import entropy_at_one
from phaselens.studies.stages.model_recipes import made_of
from phaselens.studies.stages.models_and_prompts import (
    Member,
    battery_of,
    candidates,
    plain_source,
    require_some,
    threads,
)
from phaselens.studies.stages.traces import Traced, Work, to_trace
from phaselens.studies.stages.vocabulary import digit_tokens, word_start_tokens
from phaselens.studies.store.folder import begin, log, opened, require_no_fewer
from phaselens.studies.store.location import Place
from phaselens.studies.store.panel_record import PANEL, UNITS, ModelRecord, Pictured, Record, UnitRecord, write_record
from phaselens.studies.store.registration import registration
from phaselens.studies.worker import (
    FIRST,
    GRADERS,
    SECOND,
    Unit,
    asked_of,
    loading,
    missing,
    units_of_stage,
    write_lenses,
)
from phaselens.trace.result_hashes import CLAIMS, DECLARATION, MANIFEST, RESULTS
from phaselens.trace.store import digest
from phaselens.trace.transcripts import read_jsonl
from phaselens.version import versions

ATTEMPTS = 3


def run_study(
    study: Study,
    out: str | Path,
    *,
    listener: Listener | None = None,
    workers: int = 1,
    fewer: bool = False,
    grader: Callable[[str, tuple[str, ...]], bool] | None = None,
    engine: Engine | None = None,
    begin_only: bool = False,
) -> Outcome | None:
    """Do everything the study asks for at `out`, or what is left of it, and return what it gave.

    `out` is a folder, or a URI of a file system that pyarrow or fsspec knows. Units of work that are there are passed
    over, so a killed run goes on where it was; the claims are locked in the manifest before the first token. A model
    that is refused, or fails later, is reported and the others go on. `engine` does the units (default: this process,
    or as many as `workers`, of one thread each, forked on a CPU under Linux); what an engine loses is asked for again,
    three times in all. The files are those of one process with as many threads. Analyses are made here, by `workers`.

    A finished folder is not written over with results of fewer models unless `fewer` says so. `begin_only` stops when
    the study is registered (None is returned), for workers of `phaselens work` to go on. `grader(text, answers)` says
    whether a generation is right, in place of the study's `grader` by name; the study then declares its name, and goes
    on only with a function of that name, in this process and those forked from it.

    Raises OutputError where the place cannot be used or is full; ModelRefused where no model is left; InputError for
    prompts that cannot be used, and for workers beside another device than the CPU.
    """
    started, tell = time.monotonic(), listener or (lambda event: None)
    if engine is None and checked(workers) > 1 and study.device != "cpu":
        raise InputError(f"several workers share a CPU, not device {study.device!r}: say workers = 1 or an engine.")
    rule = Grader.of(grader or _declared(study))
    study = study if grader is None else study.changed(grader=rule.name)
    own, place, engine = engine is None, Place(out), engine or LocalEngine(workers)
    GRADERS[place.root] = rule
    place.fetch([DECLARATION, MANIFEST, PANEL, UNITS, CLAIMS, f"{RESULTS}/panel.parquet"])
    with closing(engine), _one_thread(workers > 1 or not own), opened(place.folder, study) as folder:
        log(folder, "begin", study=study.name, hash=study.hash, workers=workers)
        place.put([DECLARATION])
        run = _Run(Work(study, folder, battery_of(study), {}, rule), place, engine, tell)
        manifest = run.load()
        if begin_only:
            return None
        record = run.measured(fewer)
        tell(Event("stage", "analyse", "experiments and claims"))
        found = analyse(folder, folder, manifest, record, Wanted.of(study.declaration()), workers)
        seconds = time.monotonic() - started
        log(folder, "end", seconds=round(seconds, 3))
        place.put_results()
        return Outcome(folder=folder, seconds=seconds, **found)


def _declared(study: Study) -> str | None:
    """The grader that a study names; a function has to be given. Raises InputError where it is not."""
    if study.grader is not None and study.grader.startswith(f"{FUNCTION} "):
        raise InputError(f"this study is graded by the {study.grader}: give it to run_study(..., grader=...).")
    return study.grader


@dataclass
class _Run:
    """A study on its way: what is asked of the engine, who is left, and who failed."""

    work: Work
    place: Place
    engine: Engine
    tell: Listener
    members: list[Member] = field(default_factory=list)
    refused: list[dict[str, str]] = field(default_factory=list)
    failed: list[dict[str, str]] = field(default_factory=list)

    def load(self) -> dict[str, Any]:
        """Admit every model that loads, proves itself and can run the prompts; register the study; the manifest."""
        study = self.work.study
        wanted = candidates(study)
        asked = {m.label: loading(study, m, sized=self.engine.by_need) for m in wanted}
        done, errors = self._ask(list(asked.values()), "load")
        facts = {label: done[unit.key].facts for label, unit in asked.items() if unit.key in done}
        for m in wanted:
            if m.label in errors and not (m.untrained and m.twin_of in errors):
                self.refused.append({"model": m.label, "reason": errors[m.label]})
        self.members = _left([replace(m, facts=facts.get(m.label, {})) for m in wanted], facts)
        require_some(self.members, self.refused)
        if interventions.wanted(study):
            log(self.place.folder, "identity", models=sum(not m.untrained for m in self.members), largest=0.0)
        chosen = claims_by_id([c for e in experiments_by_name(study.experiments) for c in e.claims])
        manifest = _manifest(self.work, self.members, self.refused, chosen)
        begin(self.place.folder, manifest)
        self.place.put([MANIFEST])
        return manifest

    def stages(self, names: Sequence[str], lenses: Mapping[str, str] | None = None) -> None:
        """Do these stages of all models; a model that fails is left out, and the others go on."""
        asked = asked_of(self.work.study, names)
        units = [u for n in asked for u in units_of_stage(self.work, n, self.members, lenses or {})]
        _, errors = self._ask(units, *asked)
        self.failed += [{"model": m.label, "reason": errors[m.label]} for m in self.members if m.label in errors]
        self.members = _left(self.members, {m.label: True for m in self.members if m.label not in errors})
        require_some(self.members, [*self.refused, *self.failed])

    def measured(self, fewer: bool) -> Record:
        """Do all stages, those before and those behind what the models share, and keep what is known of the panel."""
        self.stages(FIRST)
        known = known_of(self.work, self.members)
        lenses = write_lenses(self.work, known.lenses)
        self.place.put(lenses.values())
        self._keep(known, fewer)  # now, so that once its traces are whole the folder can be analysed
        self.place.put_results()
        self.stages(SECOND, lenses)
        return self._keep(known, fewer)

    def _keep(self, known: Known, fewer: bool) -> Record:
        if not fewer:
            require_no_fewer(self.place.folder, [m.label for m in self.members], self.failed)
        return _keep(self.work, self.members, known, self.failed)

    def _ask(self, units: Sequence[Unit], *stages: str) -> tuple[dict[str, Done], dict[str, str]]:
        """Have the units done: what was said of each, and why models failed. What an engine lost is asked for again."""
        heard = _Heard(units, stages, self.place.folder, self.tell)
        left = missing(self.place, units)
        there = {u.key for u in left}
        for unit in units:
            if unit.key not in there:
                heard(Done(unit.key, skipped=True))
        for _ in range(ATTEMPTS):
            self.engine.run(left, self.place.root, heard)
            left = [u for u in left if u.model not in heard.errors]
            left = [u for u in missing(self.place, left) if u.files or u.key not in heard.said]
            if not left:
                break
        for unit in left:
            lost = (
                f"{unit.stage} {unit.part} was asked for {ATTEMPTS} times and is not there: its worker was killed, "
                "which is what a machine without memory left does. Try fewer --workers"
            )
            heard.errors.setdefault(unit.model, lost)
            self.tell(Event("note", unit.stage, _fell(unit, lost)))
        return heard.said, heard.errors


class _Heard:
    """Hears what an engine says of its units: what is done, which models failed, how far each stage is."""

    def __init__(self, units: Sequence[Unit], stages: Sequence[str], folder: Path, tell: Listener) -> None:
        self.said: dict[str, Done] = {}
        self.errors: dict[str, str] = {}
        self._units, self._folder, self._tell = {u.key: u for u in units}, folder, tell
        self._totals = {stage: sum(u.stage == stage for u in units) for stage in stages}
        self._counts = dict.fromkeys(stages, 0)
        for stage, total in self._totals.items():
            if total:
                tell(Event("stage", stage, f"{len({u.model for u in units})} models", 0, total))

    def __call__(self, done: Done) -> None:
        unit = self._units[done.key]
        stage = unit.stage
        if done.of:
            text, share = f"{unit.model}: {done.tokens:,} of {done.of:,} tokens", done.tokens / done.of
            self._tell(Event("part", stage, text, self._counts[stage], self._totals[stage], share=share))
            return
        if done.fatal:
            raise OutputError(done.error)
        if done.error:
            self.errors.setdefault(unit.model, done.error if stage == "load" else done.error.splitlines()[0])
            self._tell(Event("note", stage, _fell(unit, done.error)))
        elif done.key in self.said:
            return
        else:
            self.said[done.key] = done
        self._counts[stage] += 1
        facts: dict = {"tokens": done.tokens, "skipped": done.skipped} if unit.files else {}
        facts |= {"note": done.note} if done.note else {}
        log(self._folder, stage, model=unit.model, seconds=round(done.seconds, 3), **facts)
        here = Event("unit", stage, unit.model, self._counts[stage], self._totals[stage])
        self._tell(replace(here, tokens=done.tokens, seconds=done.seconds, skipped=done.skipped and bool(unit.files)))


def _fell(unit: Unit, why: str) -> str:
    return f"{unit.model} {'cannot take part' if unit.stage == 'load' else 'failed and is left out'}: {why}"


def _left(members: Sequence[Member], found: dict[str, Any]) -> list[Member]:
    """The members that are in `found`; one whose original is gone goes too, and a twin of a lost model is no twin."""
    out = []
    for m in members:
        if m.label not in found or (m.untrained and m.twin_of not in found):
            continue
        lost = m.twin_of is not None and m.twin_of not in found
        out.append(Member(m.label, m.source, m.untrained, None if lost else m.twin_of, m.facts))
    return out


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
) -> dict[str, object]:
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


def _keep(work: Work, members: Sequence[Member], known: Known, failed: Sequence[Mapping[str, str]]) -> Record:
    """Write what analyses need beside the traces, and return it."""
    units = [u for m in members for u in _unit_records(m, to_trace(work, m, known.lenses[m.label]))]
    picture = _pictured(work, members, units, known.tokenizers)
    models = tuple(_model_record(m, known) for m in members)
    record = Record(models, tuple(units), known.target, tuple(failed), picture)
    write_record(work.folder, record)
    return record


FACTS = ("family", "n_layers", "d_model", "vocab_size", "parameters")


def _model_record(member: Member, known: Known) -> ModelRecord:
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
    work: Work,
    members: Sequence[Member],
    units: Sequence[UnitRecord],
    tokenizers: Mapping[str, PreTrainedTokenizerBase],
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
