"""The models and prompts of a study: from names to loaded, proved models and a battery."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from phaselens.batteries import (
    NATURAL,
    QUESTIONS,
    Battery,
    Prompt,
    by_turns,
    load_battery,
    natural_battery,
    natural_pairs,
    natural_questions,
    take,
)
from phaselens.capture.prompts import as_chat, jobs, text_notes
from phaselens.errors import InputError, ModelRefused, OutputError
from phaselens.models import Model, template_hash, untrained_twin
from phaselens.models.load import placed, read_tokenizer
from phaselens.organisms import PROMPT_CATEGORIES, load, minimal_pairs, prompts, resolve
from phaselens.organisms import world_battery as the_world_battery
from phaselens.studies.declaration import Source, Study
from phaselens.studies.stages.model_recipes import has_qk_norm

# Models stay in memory side by side up to this many bytes of weights; of larger ones the last.
KEPT_BYTES = 2 << 30
CALIBRATION_SHARE = 4
# Twins draw weights from the study's seed moved by this, so that no twin repeats a network made from a small seed.
TWIN_SEED = 7919
PER_CATEGORY, CALIBRATION = 8, 24
PAIR_SEED = 13
PAIR_TOKENS = 16  # of a run of a minimal pair: enough for a mean turning angle

Shelf = dict[str, Model]


@dataclass(frozen=True)
class Member:
    """One model of the panel: its name in all tables, where it comes from, and what is known of it once it is loaded.

    `untrained` marks an untrained twin, and `twin_of` then names its original; on a trained model `twin_of` names
    another trained model of which it is a twin.
    """

    label: str
    source: Source
    untrained: bool
    twin_of: str | None
    facts: Mapping[str, Any]


def battery_of(study: Study) -> Battery:
    """The prompts of a study, cut to what it asks for, with calibration prompts and minimal pairs.

    Raises InputError where there are fewer of them, StudyFileError for a file that cannot be read.
    """
    return replace(_prompts_of(study), pairs=_pairs_of(study))


def _pairs_of(study: Study) -> tuple[Prompt, ...]:
    """The prompts of as many minimal pairs as the study asks for, drawn by its seed, of as many units as can be."""
    if not study.minimal_pairs:
        return ()
    known = natural_pairs() if study.battery == NATURAL else minimal_pairs()
    if study.minimal_pairs > len(known):
        raise InputError(
            f"battery {study.battery!r} has {len(known)} minimal pairs, {study.minimal_pairs} were asked for. Lower "
            "minimal_pairs."
        )
    order = np.random.default_rng([study.seed, PAIR_SEED]).permutation(len(known))
    drawn = {pair.id for pair in by_turns([known[i] for i in order], "unit")[: study.minimal_pairs]}
    return tuple(p for pair in known if pair.id in drawn for p in pair.prompts())


def _prompts_of(study: Study) -> Battery:
    """The prompts of a study, cut to what it asks for, with calibration prompts.

    A battery from a file without calibration prompts gives every fourth prompt (at most a quarter, at least one) to
    calibration. Raises InputError where there are too few prompts, StudyFileError for a file that cannot be read.
    """
    if study.battery == "world":
        return world_battery(
            study.seed, study.prompts_per_category or PER_CATEGORY, study.calibration_prompts or CALIBRATION
        )
    if study.battery == NATURAL:
        whole = natural_battery()
    elif study.battery == QUESTIONS:
        whole = questions(study)
    else:
        whole = load_battery(study.battery, columns=study.columns, separator=study.separator)
    if not whole.calibration:
        whole = _set_apart(whole)
    if study.prompts_per_category is None:
        return Battery(whole.name, whole.prompts, whole.calibration[: study.calibration_prompts])
    return take(whole, study.prompts_per_category, study.calibration_prompts)


def questions(study: Study) -> Battery:
    """Graded questions: 400 of the organisms' world where all models are of it, else 100 natural ones."""
    if not study.bundled:
        return Battery(QUESTIONS, tuple(q.prompt("question") for q in natural_questions()))
    world = the_world_battery(study.seed)
    measured, apart = by_turns(world.questions, "category")[:400], by_turns(world.calibration, "category")[:60]
    return Battery(QUESTIONS, tuple(map(_plain, measured)), tuple(map(_plain, apart)))


def _plain(p: Any) -> Prompt:
    """A prompt of the organisms' world as one of a battery."""
    return Prompt(p.id, p.text, p.category, p.answer, aliases=p.aliases, tag=p.tag, unit=p.unit)


def world_battery(seed: int, per_category: int, calibration: int) -> Battery:
    """Prompts about the organisms' world: `per_category` of each of the six categories, drawn by `seed`.

    `calibration` prompts, spread evenly over the categories, come from the split that is never measured. Raises
    InputError where a category has fewer.
    """

    def drawn(apart: bool, n: int) -> tuple[Prompt, ...]:
        return tuple(
            _plain(p)
            for i, category in enumerate(PROMPT_CATEGORIES)
            for p in prompts(category, n, np.random.default_rng([seed, i, apart]), calibration=apart)
        )

    each = -(-calibration // len(PROMPT_CATEGORIES))
    spread = [p for turn in range(each) for p in drawn(True, each)[turn::each]]
    return Battery("world", drawn(False, per_category), tuple(spread[:calibration]))


def _set_apart(battery: Battery) -> Battery:
    """Every fourth unit, with all its prompts, becomes calibration."""
    units = tuple(dict.fromkeys(p.unit for p in battery.prompts))
    if len(units) < 2:
        raise InputError(
            f"battery {battery.name!r} has prompts about one thing; a study needs at least two, since one is set "
            'apart to calibrate. Add prompts, some of them with "calibration": true.'
        )
    apart = units[CALIBRATION_SHARE - 1 :: CALIBRATION_SHARE] or units[-1:]
    held, kept = (tuple(p for p in battery.prompts if (p.unit in apart) == side) for side in (True, False))
    return Battery(battery.name, kept, held)


def load_member(study: Study, source: Source) -> Model:
    """Load and prove the model of `source`."""
    return load(
        source.source,
        device=study.device,
        dtype=study.dtype,
        trust_remote_code=source.trust_remote_code,
        revision=source.revision,
        overrides=source.overrides,
    )


def tokenizer_of(source: Source) -> PreTrainedTokenizerBase | None:
    """The tokenizer of a model, without its weights."""
    return read_tokenizer(placed(resolve(source.source))[1], source.trust_remote_code, source.revision)


def model_of(study: Study, member: Member, shelf: Shelf) -> Model:
    """The loaded model of `member`, from the shelf if it stands there.

    Raises OutputError where it is not the model that it was when the study began.
    """
    if member.label in shelf:
        return shelf[member.label]
    if member.untrained:
        original = shelf.get(member.twin_of or "") or load_member(study, member.source)
        model = untrained_twin(original, study.seed + TWIN_SEED)
    else:
        model = load_member(study, member.source)
    before = member.facts.get("fingerprint", model.fingerprint)
    if model.fingerprint != before:
        raise OutputError(
            f"{member.label}: its weights changed while the study ran (fingerprint {model.fingerprint[:12]}, before "
            f"{before[:12]}). Nothing more is measured: put the files back, or begin a study in another folder."
        )
    _keep(shelf, member.label, model)
    return model


def _keep(shelf: Shelf, label: str, model: Model) -> None:
    """Put the model on the shelf; where there is no room for several, alone."""
    size = sum(p.numel() * p.element_size() for m in (*shelf.values(), model) for p in m.network.parameters())
    if size > KEPT_BYTES:
        shelf.clear()
    shelf[label] = model


def candidates(study: Study) -> list[Member]:
    """The trained models, each followed by its untrained twin where the study asks for twins."""
    out = []
    for source in study.models:
        out.append(Member(source.label, source, False, source.twin_of, {}))
        if study.twins:
            out.append(Member(f"{source.label}:untrained", source, True, source.label, {}))
    return out


def admit(study: Study, member: Member, battery: Battery, shelf: Shelf) -> Member:
    """Load and prove a model and see that it can run every prompt; return the member with what is now known.

    Raises ModelRefused or InputError with the reason why it cannot take part.
    """
    model = model_of(study, member, shelf)
    facts = {**model.to_dict(), "qk_norm": has_qk_norm(model), "chat_template": template_hash(model.tokenizer)}
    chat, prompts = as_chat(study.chat, study.system), battery.prompts + battery.calibration
    jobs(model, prompts, 1, study.max_new_tokens, chat)
    if battery.pairs:
        jobs(model, battery.pairs, 1, PAIR_TOKENS, chat)
    if not member.untrained:
        kind = [] if model.origin is None else [f"{member.label}: {model.origin}"]
        facts["notes"] = kind + list(text_notes(model, prompts, chat))
    return Member(member.label, member.source, member.untrained, member.twin_of, facts)


def require_some(members: list[Member], refused: list[dict[str, str]]) -> None:
    """Raise ModelRefused where no trained model is left; the message holds every reason."""
    if not any(not m.untrained for m in members):
        reasons = "; ".join(f"{r['model']}: {r['reason']}" for r in refused)
        raise ModelRefused(f"no model of the study can take part. {reasons}")


def plain_source(source: Source) -> str:
    """The source for the manifest: the name of a folder instead of its place on this machine."""
    path = Path(source.source)
    return path.name if path.is_absolute() else source.source


def threads() -> int:
    """Threads that the arithmetic uses; another number may move the last bits."""
    return torch.get_num_threads()
