"""Interventions as units of work: one file for each trained model and kind, named by its content key."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from phaselens.batteries import NATURAL, natural_questions
from phaselens.interventions.dynamic_control import natural_asked, own_asked, world_questions
from phaselens.interventions.outcome_records import KINDS, Found
from phaselens.interventions.record_files import FOLDER, kept
from phaselens.interventions.request import Asked
from phaselens.interventions.run_request import Questions, first_runs, record_of, require_neutral
from phaselens.organisms import world_battery
from phaselens.studies.declaration import Study
from phaselens.studies.stages.models_and_prompts import Member, model_of
from phaselens.studies.stages.traces import Work, read_transcripts
from phaselens.studies.stages.units import Unit, sampling_of
from phaselens.trace.store import digest
from phaselens.version import versions

NAME_LENGTH = 16


def wanted(study: Study) -> tuple[str, ...]:
    """The kinds of intervention that the study's experiments stand on."""
    return tuple(kind for kind in KINDS if kind in study.experiments)


def asked_of(study: Study) -> Asked:
    """The sizes that the study asks for, or the defaults."""
    return study.interventions or Asked()


def check_neutral(work: Work, member: Member) -> None:
    """Before anything is generated: strength 0 through the hooks changes no bit of a trained model.

    Raises ModelRefused, which stops the whole study: nothing that it would say of interventions would mean anything.
    """
    if wanted(work.study) and not member.untrained:
        require_neutral(model_of(work.study, member, work.shelf), asked_of(work.study).site)


def make_acted(work: Work, member: Member, tick: Callable[[int, float, bool], None]) -> None:
    """Change one trained model as the study asks, or pass over what is on disk; twins are left out."""
    for kind in work.mine(wanted(work.study)):
        started, there = time.monotonic(), True
        if not member.untrained:
            path = acted_path(work, member, kind)
            there = kept(path, kind, member.label, partial(_record, work, member, kind))
            for old in path.parent.glob(f"{_start(member, kind)}*"):
                if old != path:
                    old.unlink()
        tick(0, time.monotonic() - started, there)


def _start(member: Member, kind: str) -> str:
    return f"{kind}-{digest({'model': member.label})[:8]}-"


def acted_path(work: Work, member: Member, kind: str) -> Path:
    """Where the record stands: named by the model, the kind and all that it depends on."""
    depends = {
        "kind": kind,
        "model": member.facts.get("fingerprint"),
        "asked": asked_of(work.study).model_dump(mode="json"),
        "seed": work.study.seed,
        "said": [unit.key for unit in _first_arm(work, member)],
        "battery": [work.study.battery, len(work.battery.prompts)],
        "versions": versions(),
    }
    return work.folder / FOLDER / f"{_start(member, kind)}{digest(depends)[:NAME_LENGTH]}.safetensors"


def _first_arm(work: Work, member: Member) -> list[Unit]:
    """The measured units of the study's first arm."""
    first = sampling_of(work.study, work.study.arms[0])
    return [u for u in work.units(member) if not u.calibration and not u.paired and u.sampling == first]


def _record(work: Work, member: Member, kind: str) -> Found:
    asked, seed, model = asked_of(work.study), work.study.seed, model_of(work.study, member, work.shelf)
    return record_of(
        kind,
        model,
        member.label,
        asked,
        seed,
        questions=lambda: _questions(work, asked),
        said=lambda: first_runs(read_transcripts(work.folder, _first_arm(work, member)), asked.prompts, asked.tokens),
    )


def _questions(work: Work, asked: Asked) -> Questions:
    """Questions with known answers: the world's, the natural ones, or those of the study's own battery."""
    study = work.study
    if study.battery == "world":
        return world_questions(min(asked.questions, len(world_battery(study.seed).questions)), study.seed)
    if study.battery == NATURAL:
        return natural_asked(min(asked.questions, len(natural_questions())))
    calibration = [p.text for p in work.battery.calibration]
    return own_asked(work.battery.prompts, calibration, asked.questions)
