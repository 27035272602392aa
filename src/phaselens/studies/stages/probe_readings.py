"""Readings of probes as units of work: one safetensors file for each model and task, named by its content key.

The documents of a study are one more task: what the states know of the next token's loss.
"""

import time
from pathlib import Path

import numpy as np

from phaselens.errors import InputError
from phaselens.models import untrained_twin
from phaselens.readings.analysis import Settings
from phaselens.readings.loss_probes import documents_of, observability
from phaselens.readings.reading_record import stored_reading
from phaselens.readings.world_tasks import task_named
from phaselens.studies.declaration import Study
from phaselens.studies.stages.models_and_prompts import Member, model_of
from phaselens.studies.stages.traces import Tick, Work
from phaselens.studies.store.reading_files import READINGS, SCORES
from phaselens.trace.seal import arrays_bytes, is_sound
from phaselens.trace.store import atomic_write, digest
from phaselens.version import versions

TWIN_SEED = 7
NAME_LENGTH = 16


def reading_path(work: Work, member: Member, task: str) -> Path:
    """Where the reading of one model and task stands."""
    return work.folder / READINGS / f"{_key(work.study, member, task)}.safetensors"


def make_readings(work: Work, member: Member, tick: Tick) -> None:
    """Probe one trained model about every task of the study, or pass over what is on disk; twins are read with it."""
    study = work.study
    for name in work.mine(study.probe_tasks):
        started, path = time.monotonic(), reading_path(work, member, name)
        there = is_sound(path)
        if not there and not member.untrained:
            model = model_of(study, member, work.shelf)
            settings = Settings(
                l2=(100.0,),
                n_boot=100,
                n_permutations=study.probe_permutations,
                table=False,
                code=False,
                seed=study.seed,
            )
            try:
                arrays, facts = stored_reading(
                    model,
                    untrained_twin(model, study.seed + TWIN_SEED),
                    task_named(name),
                    most=study.probe_examples,
                    seed=study.seed,
                    settings=settings,
                )
            except InputError as error:
                arrays, facts = {"none": np.zeros(0)}, {"task": name, "refused": str(error)}
            atomic_write(path, arrays_bytes(arrays, {"model": member.label, **facts}))
        tick(0, time.monotonic() - started, there)


def scores_path(work: Work, member: Member) -> Path:
    """Where the readings of the study's documents in one model stand."""
    study = work.study
    asked = [member.facts.get("fingerprint"), documents_of(study.documents or ""), study.document_tokens, study.seed]
    key = digest({"asked": asked, "model": member.label, "versions": versions()})[:NAME_LENGTH]
    return work.folder / READINGS / f"{key}.safetensors"


def make_scores(work: Work, member: Member, tick: Tick) -> None:
    """Read the next token's loss in the study's documents from one trained model, or pass over what is on disk."""
    study, started, path = work.study, time.monotonic(), scores_path(work, member)
    there = is_sound(path)
    if not there and not member.untrained:
        model, facts = model_of(study, member, work.shelf), {"model": member.label, "task": SCORES}
        try:
            twin, texts = untrained_twin(model, study.seed + TWIN_SEED), documents_of(study.documents or "")
            arrays = observability(model, twin, texts, tokens=study.document_tokens, seed=study.seed)
        except InputError as error:
            arrays, facts = {"none": np.zeros(0)}, {**facts, "refused": str(error)}
        atomic_write(path, arrays_bytes(arrays, facts))
    tick(0, time.monotonic() - started, there)


def _key(study: Study, member: Member, task: str) -> str:
    asked = [member.facts.get("fingerprint"), task, study.seed, study.probe_examples, study.probe_permutations]
    return digest({"asked": asked, "model": member.label, "versions": versions()})[:NAME_LENGTH]
