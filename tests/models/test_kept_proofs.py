"""A passed proof of a model from files is kept for the next command; nothing else is."""

import sys

import pytest
import torch
from tools.tiny import build_tiny

from phaselens.cli import call
from phaselens.errors import ModelRefused
from phaselens.models import load, proof, user_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PHASELENS_CACHE", str(tmp_path / "kept"))
    build_tiny("llama", 0).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def proofs(monkeypatch):
    """How often a proof was made."""
    made = []
    for module in ("phaselens.models.user_cache", "phaselens.models.load"):
        monkeypatch.setattr(sys.modules[module], "prove", lambda model: made.append(model.name) or proof.prove(model))
    return made


def test_the_second_load_takes_the_proof_of_the_first(folder, proofs):
    first, second = load(folder), load(folder)
    assert len(proofs) == 1 and first.proof == second.proof and first.facts == second.facts
    user_cache.forget_proofs()
    assert load(folder).proof == first.proof and len(proofs) == 2


def test_a_command_asks_again_when_told_to(folder, proofs, tmp_path):
    (tmp_path / "t.jsonl").write_text('{"prompt_ids": [4, 6], "completion_ids": [7, 8]}\n')
    for number, options in enumerate(([], [], ["--prove"]), start=1):
        out = ["--transcripts", str(tmp_path / "t.jsonl"), "--out", str(tmp_path / f"o{number}")]
        assert call(["observe", str(folder), *out, *options]) == 0
    assert len(proofs) == 2


def test_a_place_that_cannot_be_written_keeps_nothing_and_stops_nothing(folder, proofs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHASELENS_CACHE", str(tmp_path / "file"))
    assert load(folder).proof.passed and load(folder).proof.passed and len(proofs) == 2


def test_a_damaged_one_is_made_again(folder, proofs):
    load(folder)
    (file,) = (user_cache.home() / "proofs").iterdir()
    file.write_text("{")
    assert load(folder).proof.passed and len(proofs) == 2


def test_other_weights_dtype_or_adapter_ask_for_their_own(folder, proofs):
    load(folder)
    load(folder, dtype="bfloat16")
    other = build_tiny("llama", 1)
    other.save_pretrained(folder)
    load(folder)
    assert len(proofs) == 3
    with pytest.raises(ModelRefused, match="lens failed"):
        load(folder, overrides={"scale": 2.0})
    with pytest.raises(ModelRefused, match="lens failed"):
        load(folder, overrides={"scale": 2.0})
    assert len(proofs) == 5, "one that did not pass is not kept"


def test_live_networks_are_proved_every_time(folder, proofs):
    network = build_tiny("llama", 0)
    load(network)
    own = network.model.norm.forward
    network.model.norm.forward = lambda hidden: own(hidden) * torch.linspace(0.5, 1.0, hidden.shape[-2])[:, None]
    with pytest.raises(ModelRefused):
        load(network)
    assert not list(user_cache.home().glob("proofs/*"))
