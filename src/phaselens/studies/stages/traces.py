"""From admitted models to traces on disk, one model at a time; a unit that is there already is passed over."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from phaselens.batteries import Battery
from phaselens.batteries.graders import Grader
from phaselens.capture import Plan, generate
from phaselens.capture.generate import Progress
from phaselens.measure.reducer import LensSpec
from phaselens.observables.state_normalisation import Calibration
from phaselens.observing.recording import observe
from phaselens.studies.declaration import Study
from phaselens.studies.stages.calibration import calibrate, entropy_at_one, matching_temperature
from phaselens.studies.stages.distribution_controls import control_lenses, controls_key, controls_paths, kept_controls
from phaselens.studies.stages.fitted_normalisations import fit_states, largest_share_dropped, packed, unpacked
from phaselens.studies.stages.models_and_prompts import Member, Shelf, model_of
from phaselens.studies.stages.units import (
    NAME_LENGTH,
    Unit,
    calibration_key,
    normalisation_key,
    trace_key,
    transcript_path,
    units_of,
)
from phaselens.studies.stages.vocabulary import shared_tokens
from phaselens.studies.store.run_grades import graded
from phaselens.trace.seal import is_sound, json_bytes, read_json
from phaselens.trace.store import atomic_write, is_valid, write_trace
from phaselens.trace.trace import Trace
from phaselens.trace.transcripts import Transcripts, read_jsonl

# (tokens, seconds, whether the unit was there already): called after every unit.
Tick = Callable[[int, float, bool], None]


@dataclass(frozen=True)
class Work:
    """What the stages share: the study, its folder, its prompts, the models in memory, and words for the diary."""

    study: Study
    folder: Path
    battery: Battery
    shelf: Shelf
    grader: Grader = Grader()
    part: int | None = None
    notes: list[str] = field(default_factory=list)
    cache: dict[Any, Any] = field(default_factory=dict)

    def mine(self, items: Sequence[Any]) -> Sequence[Any]:
        """All of the items of a stage, or the one that is this unit's `part`."""
        return items if self.part is None else items[self.part : self.part + 1]

    def units(self, member: Member) -> tuple[Unit, ...]:
        """All units of one model, calibration first."""
        known = (member.label, member.facts["fingerprint"])
        if known not in self.cache:
            battery = self.battery
            self.cache[known] = units_of(self.study, member, battery.prompts, battery.calibration, battery.pairs)
        return self.cache[known]


@dataclass(frozen=True)
class Traced:
    """A unit and the key of its trace."""

    unit: Unit
    key: str

    @property
    def trace(self) -> str:
        """The start of the key: the name of its files."""
        return self.key[:NAME_LENGTH]


def make_transcripts(work: Work, member: Member, tick: Tick, part: Progress | None = None) -> None:
    """Generate the transcripts of every unit of one model. `part(done, total)` counts tokens within a unit."""
    for unit in work.mine(work.units(member)):
        started, path = time.monotonic(), transcript_path(work.folder, unit)
        there, tokens = is_sound(path), 0
        if not there:
            made = with_less(partial(_generated, work, member, unit, part=part), work.study.batch_size, work)
            made.write_jsonl(path)
            tokens = sum(t.n_generated for t in made)
        tick(tokens, time.monotonic() - started, there)


def _generated(work: Work, member: Member, unit: Unit, batch_size: int, part: Progress | None) -> Transcripts:
    study = work.study
    return generate(
        model_of(study, member, work.shelf),
        unit.prompts,
        max_new_tokens=unit.tokens,
        sampling=unit.sampling,
        samples=unit.samples,
        seed=study.seed,
        batch_size=batch_size,
        chat=study.chat,
        system=study.system,
        progress=part,
    )


def with_less(do: Callable[[int], Any], batch_size: int, work: Work) -> Any:
    """`do(batch_size)`, and where memory does not hold it once more with half the batch, said in the diary.

    The unit keeps its name: another batch moves numbers by no more than the noise floor that every model has on record.
    """
    try:
        return do(batch_size)
    except torch.OutOfMemoryError:
        half = max(1, batch_size // 2)
        work.notes.append(f"out of memory with a batch of {batch_size}: done with {half}")
        return do(half)


def read_transcripts(folder: Path, units: Sequence[Unit]) -> Transcripts:
    """The transcripts of several units as one, runs numbered anew."""
    runs = [t for unit in units for t in read_jsonl(transcript_path(folder, unit))]
    return Transcripts(tuple(replace(t, run=i) for i, t in enumerate(runs)))


def make_calibration(work: Work, member: Member, tick: Tick, part: Progress | None = None) -> dict[str, Any]:
    """The calibration of one model, from calibration/KEY.json where it is there, with what control lenses need."""
    started = time.monotonic()
    units = [unit for unit in work.units(member) if unit.calibration]
    path = calibration_paths(work, member)[0]
    there = is_sound(path)
    if not there:
        found = calibrate(model_of(work.study, member, work.shelf), read_transcripts(work.folder, units), part)
        atomic_write(path, json_bytes({"model": member.label, **found}))
    curve = read_json(path)
    fitted = normalisations_of(work, member)
    controls = kept_controls(
        work.folder / "calibration",
        controls_key(calibration_key(units))[:NAME_LENGTH],
        work.study.lenses,
        lambda: model_of(work.study, member, work.shelf),
        lambda: read_transcripts(work.folder, units),
    )
    tick(0, time.monotonic() - started, there)
    return {**curve, "dropped": largest_share_dropped(fitted), **controls}


def calibration_paths(work: Work, member: Member) -> list[Path]:
    """The files of the calibration of one model: the curve first, then those of normalisations and control lenses."""
    units, folder = [unit for unit in work.units(member) if unit.calibration], work.folder / "calibration"
    key, normal = calibration_key(units), normalisation_key(work.study, units)
    out = [folder / f"{key[:NAME_LENGTH]}.json"]
    out += [folder / f"{normal[:NAME_LENGTH]}.safetensors"] if normal else []
    return out + controls_paths(folder, controls_key(key)[:NAME_LENGTH], work.study.lenses)


def normalisations_of(work: Work, member: Member) -> dict[str, Calibration | None]:
    """The state normalisations of one model that the study wants, from calibration/KEY.safetensors or fitted now."""
    study, units = work.study, [unit for unit in work.units(member) if unit.calibration]
    if not study.normalisations:
        return {}
    path = work.folder / "calibration" / f"{normalisation_key(study, units)[:NAME_LENGTH]}.safetensors"
    if not is_sound(path):
        said = read_transcripts(work.folder, units)
        fitted = fit_states(model_of(study, member, work.shelf), said, study.normalisations)
        atomic_write(path, packed(fitted))
    return unpacked(path, study.normalisations)


def temperatures(members: Sequence[Member], curves: Mapping[str, Mapping[str, Any]]) -> tuple[float, dict[str, float]]:
    """The panel's target (median output entropy of the trained models, nats) and the temperature T of every model."""
    known = [e for m in members if not m.untrained and math.isfinite(e := entropy_at_one(curves[m.label]))]
    target = statistics.median(known) if known else math.nan
    return target, {m.label: matching_temperature(curves[m.label], target) for m in members}


def lenses_of(
    study: Study,
    members: Sequence[Member],
    heat: Mapping[str, float],
    vocabularies: Mapping[str, Mapping[int, bytes]],
    curves: Mapping[str, Mapping[str, Any]],
) -> dict[str, tuple[LensSpec, ...]]:
    """The lenses of every model: those of the study that are defined for it, the control lenses last.

    `tmatch` needs a temperature that matches, `shared` a tokenizer in every model and at least two tokens in common.
    """
    every = all(m.label in vocabularies for m in members)
    common = shared_tokens({m.label: vocabularies[m.label] for m in members}) if every else {}
    controls = control_lenses(study.lenses, members, curves)
    out = {}
    for m in members:
        made = [LensSpec()]
        for lens in study.lenses[1:]:
            if lens == "raw":
                made.append(LensSpec("raw", label="raw"))
            elif lens == "tmatch" and math.isfinite(heat[m.label]):
                made.append(LensSpec(temperature=heat[m.label], label="tmatch"))
            elif lens == "shared" and len(common.get(m.label, ())) > 1:
                made.append(LensSpec(tokens=common[m.label], label="shared"))
        out[m.label] = (*made, *controls[m.label])
    return out


def plan_of(study: Study, lenses: tuple[LensSpec, ...], n_layers: int) -> Plan:
    """What is recorded of one model: all layers, or those that the measures at its `depths` read, and the last."""
    at = [round(depth * n_layers) for depth in study.depths]
    read = {min(max(layer + k, 0), n_layers) for layer in at for k in (-2, -1, 0, 1)} | {n_layers} if at else ()
    return Plan(tuple(sorted(read)), lenses, study.observables, study.keep_hidden, study.chunk)


def to_trace(work: Work, member: Member, lenses: tuple[LensSpec, ...]) -> tuple[Traced, ...]:
    """Every unit of one model with the key of its trace, whether it is on disk yet or not."""
    plan, units = plan_of(work.study, lenses, member.facts["n_layers"]), work.units(member)
    fitted = normalisation_key(work.study, units)
    return tuple(Traced(unit, trace_key(unit, plan, work.study, fitted)) for unit in units)


def make_traces(
    work: Work, member: Member, lenses: tuple[LensSpec, ...], tick: Tick, part: Progress | None = None
) -> None:
    """Observe every unit of one model and write the traces."""
    plan = plan_of(work.study, lenses, member.facts["n_layers"])
    for one in work.mine(to_trace(work, member, lenses)):
        started = time.monotonic()
        there = is_valid(work.folder / "traces", one.trace, one.key)
        tokens = 0 if there else _observe(work, member, one, plan, part)
        tick(tokens, time.monotonic() - started, there)


def _observe(work: Work, member: Member, one: Traced, plan: Plan, part: Progress | None) -> int:
    """Observe one unit and write its trace; return the number of tokens."""
    transcripts = graded(read_jsonl(transcript_path(work.folder, one.unit)), work.grader)

    def observed(batch_size: int) -> Trace:
        return observe(
            model_of(work.study, member, work.shelf),
            transcripts,
            lens=plan.lenses,
            observables=plan.observables or None,
            layers=plan.layers or None,
            normalisations=normalisations_of(work, member),
            keep_hidden=plan.keep_hidden,
            chunk=plan.chunk,
            progress=part,
            batch_size=None if batch_size == len(transcripts) else batch_size,
        )

    trace = with_less(observed, len(transcripts), work)
    model = {k: v for k, v in trace.meta["model"].items() if k != "source"}  # where it stood moves no number
    meta = {**trace.meta, "model": {**model, "name": member.label}, "calibration": one.unit.calibration}
    write_trace(replace(trace, meta=meta), work.folder / "traces", one.trace, one.key)
    return sum(t.n_generated for t in transcripts)
