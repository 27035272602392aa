"""Units of work as engines carry them, and who does them: one model and one part of one stage, named by what it makes.

A unit is plain JSON. Its key is a hash of the files that it makes, whose names are hashes of all that they depend on,
versions of libraries among them: a worker that would name them otherwise refuses the unit.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

import torch

from phaselens.batteries.graders import FUNCTION, Grader
from phaselens.engines.engine import Done, Hear
from phaselens.errors import InputError, ModelRefused, OutputError, PhaselensError, StateError
from phaselens.measure.reducer import LensSpec
from phaselens.studies.cost_estimate import Shape, memory_of, shape_of
from phaselens.studies.declaration import Study, read_study
from phaselens.studies.stages.answer_states import make_answers
from phaselens.studies.stages.calibrated_panel import known_of
from phaselens.studies.stages.interventions import acted_path, check_neutral, make_acted, wanted
from phaselens.studies.stages.models_and_prompts import Member, admit, battery_of, candidates
from phaselens.studies.stages.probe_readings import make_readings, make_scores, reading_path, scores_path
from phaselens.studies.stages.traces import (
    Work,
    calibration_paths,
    make_calibration,
    make_traces,
    make_transcripts,
    to_trace,
)
from phaselens.studies.stages.units import transcript_path
from phaselens.studies.store.answer_state_files import beginnings_path
from phaselens.studies.store.location import Place
from phaselens.trace.result_hashes import DECLARATION, MANIFEST
from phaselens.trace.seal import DamagedFile, is_sound, json_bytes, read_json
from phaselens.trace.store import atomic_write, digest, hidden_path, trace_paths
from phaselens.version import versions

# Before the barrier nothing needs another model; behind it lenses do, which stand on the calibrations of all.
FIRST, SECOND = ("generate", "calibrate"), ("observe", "answers", "probe", "documents", "intervene")
LENSES = "calibration/{}.lenses.json"
# Graders that a study cannot name, since they are functions: known here and in processes forked from here.
GRADERS: dict[str, Grader] = {}
MAKERS = {"answers": make_answers, "probe": make_readings, "documents": make_scores, "intervene": make_acted}
Lenses = tuple[LensSpec, ...]


@dataclass(frozen=True)
class Unit:
    """One part of one stage of one model; `files` are what it makes, as names inside the study.

    `lenses` names the file of the lenses that its traces are read with ("": none is needed yet), `need` the bytes that
    it takes on a device (0: not known).
    """

    stage: str
    model: str
    part: int
    files: tuple[str, ...] = ()
    lenses: str = ""
    need: float = 0.0

    @property
    def key(self) -> str:
        """Names the unit: stage, model, part and the files, whose names hold hashes."""
        return digest({"stage": self.stage, "model": self.model, "part": self.part, "files": list(self.files)})[:24]

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({**asdict(self), "key": self.key})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The same from its line. Raises OutputError where the key is not that of the rest."""
        row = json.loads(text)
        key = row.pop("key")
        made = cls(**{**row, "files": tuple(row["files"])})
        if made.key != key:
            raise OutputError(f"the unit {key} was changed on its way: its key would be {made.key}.")
        return made

    @staticmethod
    def worker(root: str, threads: int = 0) -> "Worker":
        """Who does units of the study at `root`."""
        return Worker(root, threads)


def asked_of(study: Study, stages: Sequence[str]) -> list[str]:
    """Those of the stages that the study has something for."""
    idle = {"answers": "correctness" not in study.experiments}
    idle |= {"documents": not study.documents or "observability" not in study.experiments}
    return [stage for stage in stages if not idle.get(stage)]


def units_of_stage(work: Work, stage: str, members: Sequence[Member], lenses: Mapping[str, str]) -> list[Unit]:
    """The units of one stage; `lenses` names the file of each model's lenses (empty before the barrier)."""
    out = []
    for m in members:
        units, named = work.units(m), lenses.get(m.label, "")
        study = work.study
        many = {"calibrate": 1, "documents": 1, "probe": len(study.probe_tasks), "intervene": len(wanted(study))}
        parts = list(range(many.get(stage, len(units))))
        if stage == "generate":
            parts = [i for i in parts if not units[i].calibration]
        if stage in ("probe", "documents", "intervene") and m.untrained:
            parts = []
        for part in parts:
            files = files_of(work, m, stage, part, named)
            if files or stage == "load":
                out.append(Unit(stage, m.label, part, files, named, need_of(study, m)))
    return out


def files_of(work: Work, member: Member, stage: str, part: int, lenses: str = "") -> tuple[str, ...]:
    """The files that a unit makes; none for one without anything to do."""
    return tuple(p.relative_to(work.folder).as_posix() for p in _paths(work, member, stage, part, lenses))


def _paths(work: Work, member: Member, stage: str, part: int, lenses: str) -> list[Path]:
    study, folder, units = work.study, work.folder, work.units(member)
    if stage == "generate":
        return [transcript_path(folder, units[part])]
    if stage == "calibrate":
        return [*(transcript_path(folder, u) for u in units if u.calibration), *calibration_paths(work, member)]
    if stage == "observe":
        known = (member.label, lenses)
        if known not in work.cache:
            work.cache[known] = to_trace(work, member, read_lenses(work, member, lenses))
        trace = work.cache[known][part].trace
        hidden = [hidden_path(folder / "traces", trace)] if study.keep_hidden else []
        return [*hidden, *trace_paths(folder / "traces", trace).values()]
    if stage == "answers":
        graded = member.facts["tokenizer"] is not None and any((p.answer or "").strip() for p in units[part].prompts)
        return [beginnings_path(folder, units[part].name)] if graded and not units[part].paired else []
    if stage == "probe":
        return [reading_path(work, member, study.probe_tasks[part])]
    if stage == "documents":
        return [scores_path(work, member)]
    return [acted_path(work, member, wanted(study)[part])] if stage == "intervene" else []


def need_of(study: Study, member: Member) -> float:
    """Bytes on a device as `--plan` counts them: weights, keys and values of a batch, and the lens.

    Of a model that was not loaded yet from its configuration; 0 where none can be read, as loading then says. Keys and
    values are counted as wide as the stream, prompts as long as what follows them.
    """
    known = {f.name: member.facts.get(f.name, 0) for f in fields(Shape)}
    try:
        shape = Shape(**known) if member.facts else shape_of(member.source)
    except InputError:
        return 0.0
    return float(memory_of(shape, study.dtype, study.batch_size, 2 * study.max_new_tokens)["peak"])


def loading(study: Study, member: Member, *, sized: bool) -> Unit:
    """The unit that loads a model, `sized`: with the bytes that it needs."""
    return Unit("load", member.label, 0, need=need_of(study, member) if sized else 0.0)


def missing(place: Place, units: Sequence[Unit]) -> list[Unit]:
    """The units with a file that is not in the place, or is not what was written; also those that make none."""
    place.fetch(name for unit in units for name in unit.files)
    left = [u for u in units if not u.files or not all(is_sound(place.folder / name) for name in u.files)]
    for name in (name for unit in left for name in unit.files if place.remote):
        (place.folder / name).unlink(missing_ok=True)  # a copy of what is to be made again
    return left


def write_lenses(work: Work, lenses: Mapping[str, Lenses]) -> dict[str, str]:
    """Write the lenses of every model where workers find them; the names of the files, by model."""
    out = {}
    for label, specs in lenses.items():
        rows = [{f.name: _plain(getattr(s, f.name)) for f in fields(s) if f.name != "translators"} for s in specs]
        out[label] = LENSES.format(digest([label, [s.canonical() for s in specs]])[:20])
        if not is_sound(work.folder / out[label]):
            atomic_write(work.folder / out[label], json_bytes({"model": label, "lenses": rows}))
    return out


def _plain(value: Any) -> Any:
    """A value for JSON, with NaN and infinity as words."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def read_lenses(work: Work, member: Member, name: str) -> Lenses:
    """The lenses of a model as `write_lenses` wrote them; translators come from the file of its tuned lens."""
    out = []
    for row in read_json(work.folder / name)["lenses"]:
        made: dict = {
            k: tuple(float(x) if k == "temperatures" else x for x in v) if isinstance(v, list) else v
            for k, v in row.items()
        }
        spec = LensSpec(**{**made, "cap": None if made["cap"] is None else float(made["cap"])})
        tuned = spec.kind == "tuned"
        out.append(make_calibration(work, member, lambda *unit: None)["tuned"] if tuned else spec)
    return tuple(out)


class Worker:
    """Does units of the study at `root`, a folder or a URI; keeps small models, and of large ones the last."""

    def __init__(self, root: str, threads: int = 0) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.place = Place(root)
        self.place.fetch([DECLARATION])
        if not (self.place.folder / DECLARATION).is_file():
            raise InputError(f"{root} holds no study: it has no {DECLARATION}.")
        study = read_study(self.place.folder / DECLARATION)
        if root not in GRADERS and (study.grader or "").startswith(f"{FUNCTION} "):
            raise OutputError(f"{root} is graded by the {study.grader}, which is not in this process: name one.")
        rule = GRADERS.get(root) or Grader.of(study.grader)
        self.work = Work(study, self.place.folder, battery_of(study), {}, rule)
        self._members = {m.label: m for m in candidates(study)}

    def do(self, unit: Unit, hear: Hear | None = None) -> Done:
        """Do one unit, or say why it failed; `hear` is told how many of its tokens are done."""
        started, work = time.monotonic(), replace(self.work, part=unit.part, notes=[])
        said: dict = {"tokens": 0, "skipped": True, "facts": {}}
        try:
            if unit.stage == "load":
                said["facts"] = self._admit(work, self._members[unit.model])
            else:
                self._make(work, unit, said, hear)
        except (OutputError, DamagedFile) as error:  # no fault of the model
            said |= {"error": str(error), "fatal": True}
        except (PhaselensError, torch.OutOfMemoryError) as error:
            said |= {"error": str(error) or type(error).__name__}
        seconds = time.monotonic() - started
        return Done(unit.key, seconds=seconds, note="; ".join(work.notes), **said)

    def _admit(self, work: Work, member: Member) -> dict[str, object]:
        admitted = admit(work.study, member, work.battery, work.shelf)
        try:
            check_neutral(work, admitted)
        except ModelRefused as error:
            raise OutputError(str(error)) from error
        return dict(admitted.facts)

    def _make(self, work: Work, unit: Unit, said: dict[str, Any], hear: Hear | None) -> None:
        member = self.known(unit.model)
        self.place.fetch([unit.lenses] if unit.lenses else [])
        if unit.lenses:
            self.place.fetch(files_of(work, member, "calibrate", 0))
        if files_of(work, member, unit.stage, unit.part, unit.lenses) != unit.files:
            raise OutputError(
                f"this worker would name the files of {unit.stage} {unit.part} of {unit.model} otherwise: it has other "
                f"versions ({versions()}), another device or other prompts than the driver. Give all one environment."
            )

        def tick(tokens: int, seconds: float, there: bool) -> None:
            said["tokens"], said["skipped"] = said["tokens"] + tokens, said["skipped"] and there

        def part(done: int, total: int) -> None:
            if hear is not None:
                hear(Done(unit.key, done, of=total))

        everything = range(len(work.units(member)))
        if unit.stage == "calibrate":
            for i in (i for i in everything if work.units(member)[i].calibration):
                make_transcripts(replace(work, part=i), member, tick, part)
            make_calibration(work, member, tick, part)
        elif unit.stage == "generate":
            make_transcripts(work, member, tick, part)
        else:
            inputs = (
                everything if unit.stage == "intervene" else [unit.part][: unit.stage not in ("probe", "documents")]
            )
            self.place.fetch(
                transcript_path(work.folder, work.units(member)[i]).relative_to(work.folder).as_posix() for i in inputs
            )
            if unit.stage == "observe":
                make_traces(work, member, read_lenses(work, member, unit.lenses), tick, part)
            else:
                MAKERS[unit.stage](work, member, tick)
        self.place.put(unit.files)

    def known(self, label: str) -> Member:
        """The member with its facts, as they were registered."""
        member = self._members[label]
        if not member.facts:
            self.place.fetch([MANIFEST])
            registered = {row["name"]: row for row in read_json(self.place.folder / MANIFEST)["models"]}
            member = self._members[label] = replace(member, facts=registered[label])
        return member


def work_part(root: str, part: int, of: int, *, wait: float = 3600.0, hear: Hear = lambda done: None) -> int:
    """Do one of `of` parts of what is missing at `root`, a study that was begun; how many units were done.

    The parts of a study do not overlap. Behind the calibrations of all models and the texts of the part's own ones
    (waited for, `wait` seconds at most) come the traces. Raises InputError where the study was not begun, StateError
    where a unit fails or others do not come.
    """
    worker, count = Worker(root, 1), 0
    place, work = worker.place, worker.work
    place.fetch([MANIFEST])
    if not (place.folder / MANIFEST).is_file():
        raise InputError(f"{root} holds no study that was begun: `phaselens run STUDY --out {root} --begin` first.")
    members = [worker.known(row["name"]) for row in read_json(place.folder / MANIFEST)["models"]]
    lenses: dict[str, str] = {}
    texts: list[Unit] = []
    for stages in (FIRST, SECOND):
        units = [u for s in asked_of(work.study, stages) for u in units_of_stage(work, s, members, lenses)]
        units.sort(key=lambda u: u.model)  # so that a part is of few models
        own = units[len(units) * part // of : len(units) * (part + 1) // of]
        _await(place, [u for u in texts if u.model in {mine.model for mine in own}], wait)
        for unit in missing(place, own):
            done = worker.do(unit)
            hear(done)
            if done.error:
                raise StateError(f"{unit.stage} {unit.part} of {unit.model}: {done.error}")
            count += 1
        if stages is FIRST:
            texts = [u for u in units if u.stage == "generate"]
            _await(place, [u for u in units if u.stage == "calibrate"], wait)
            lenses = write_lenses(work, known_of(work, members).lenses)
            place.put(lenses.values())
    return count


def _await(place: Place, units: Sequence[Unit], wait: float) -> None:
    """Wait until these units are there, done by whoever does them."""
    until = time.monotonic() + wait
    while left := missing(place, units):
        if time.monotonic() > until:
            what = f"the {'calibration' if left[0].stage == 'calibrate' else 'text'} of {left[0].model}"
            raise StateError(f"{what} did not come within {wait:.0f} s: does its part run?")
        time.sleep(min(1.0, wait))
