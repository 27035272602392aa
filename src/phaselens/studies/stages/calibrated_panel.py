"""What is known of a panel once all its models are calibrated: common temperature, lenses, vocabularies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from phaselens.measure.reducer import LensSpec
from phaselens.studies.stages.models_and_prompts import Member, tokenizer_of
from phaselens.studies.stages.traces import Work, lenses_of, make_calibration, temperatures
from phaselens.studies.stages.vocabulary import token_bytes


@dataclass(frozen=True)
class Known:
    """What is known of all models once they are calibrated; mappings by label."""

    target: float
    heat: Mapping[str, float]
    curves: Mapping[str, Mapping[str, Any]]
    lenses: Mapping[str, tuple[LensSpec, ...]]
    tokenizers: Mapping[str, PreTrainedTokenizerBase]
    vocabularies: Mapping[str, Mapping[int, bytes]]


def known_of(work: Work, members: Sequence[Member]) -> Known:
    """The same of members that are calibrated; loads their tokenizers and no model."""
    curves = {m.label: make_calibration(work, m, lambda *unit: None) for m in members}
    target, heat = temperatures(members, curves)
    tokenizers = _tokenizers(members)
    vocabularies = _vocabularies(members, tokenizers)
    lenses = lenses_of(work.study, members, heat, vocabularies, curves)
    return Known(target, heat, curves, lenses, tokenizers, vocabularies)


def _tokenizers(members: Sequence[Member]) -> dict[str, PreTrainedTokenizerBase]:
    """The tokenizer of every model that has one; a twin has its original's."""
    out: dict[str, PreTrainedTokenizerBase] = {}
    for m in members:
        if m.facts["tokenizer"] is None:
            continue
        shared = out.get(m.twin_of or "") if m.untrained else None
        out[m.label] = shared or tokenizer_of(m.source)
    return out


def _vocabularies(
    members: Sequence[Member], tokenizers: Mapping[str, PreTrainedTokenizerBase]
) -> dict[str, dict[int, bytes]]:
    """Token bytes of every model that has a tokenizer; a twin has its original's."""
    out: dict[str, dict[int, bytes]] = {}
    for m in members:
        if m.untrained and m.twin_of in out:
            out[m.label] = out[m.twin_of]
        elif m.label in tokenizers:
            out[m.label] = token_bytes(tokenizers[m.label], m.facts["vocab_size"])
    return out
