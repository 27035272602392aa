"""Presets of Hub models, offline: what they need, where they are looked for, and stand-ins that load and run.

Nothing here asks the Hub: the cache is a folder of the test, filled with tiny models of the same families.
"""

import json
from pathlib import Path

import pytest
import torch
from tools import tiny
from transformers import AutoModelForCausalLM

from phaselens.claims import REGISTER
from phaselens.cli import call
from phaselens.errors import InputError
from phaselens.experiments import EXPERIMENTS
from phaselens.models import load
from phaselens.models.weights import _not_found
from phaselens.studies.declaration import Source, presets, read_study
from phaselens.studies.stages.download_needs import located, needs_of, require_reachable
from tiny_panel import tokenizer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# What is peculiar to each family at these sizes; the rest is the library's default for the family.
PECULIAR = {
    "openai-community/gpt2": ("gpt2", {}),
    "distilbert/distilgpt2": ("gpt2", {"n_layer": 2}),
    "facebook/opt-125m": ("opt", {}),
    "facebook/opt-350m": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 32}),
    "Qwen/Qwen2.5-0.5B": ("qwen2", {"tie_word_embeddings": True}),
    "Qwen/Qwen2.5-0.5B-Instruct": ("qwen2", {"tie_word_embeddings": True}),
    "Qwen/Qwen2.5-1.5B": ("qwen2", {"tie_word_embeddings": True}),
    "Qwen/Qwen2.5-3B": ("qwen2", {"tie_word_embeddings": True}),
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": ("llama", {}),
    "meta-llama/Llama-3.2-1B": ("llama", {"tie_word_embeddings": True}),
    "meta-llama/Llama-3.2-3B": ("llama", {"tie_word_embeddings": True}),
    "microsoft/phi-1_5": ("phi", {"partial_rotary_factor": 0.5}),
    "EleutherAI/pythia-70m": ("gpt_neox", {"use_parallel_residual": True}),
    "EleutherAI/pythia-160m": ("gpt_neox", {"use_parallel_residual": True}),
    "EleutherAI/pythia-410m": ("gpt_neox", {"use_parallel_residual": True}),
    "google/gemma-2b": ("gemma", {}),
    "google/gemma-2-2b": ("gemma2", {"final_logit_softcapping": 30.0, "attn_logit_softcapping": 50.0}),
    "allenai/OLMoE-1B-7B-0924": ("olmoe", {}),
}
ALPHABET = [chr(c) for c in range(33, 127)]


def save(folder: Path, name: str, context: int = 64, seed: int = 0) -> Path:
    """A tiny network of the family of a Hub model, with a tokenizer of single characters."""
    family, changes = PECULIAR[name]
    coder = tokenizer(words=ALPHABET)
    config = tiny.tiny_config(family)
    for key, value in {**changes, "vocab_size": len(coder), "pad_token_id": None, "eos_token_id": 0}.items():
        setattr(config, key, value)
    for key in ("max_position_embeddings", "n_positions"):
        if hasattr(config, key):
            setattr(config, key, context)
    torch.manual_seed(seed)
    network = AutoModelForCausalLM.from_config(config)
    tiny.randomise(network, seed)
    network.eval().save_pretrained(folder)
    coder.save_pretrained(folder)
    return folder


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty Hub cache; `fill(name)` puts a stand-in under the name of a Hub model."""
    import huggingface_hub.constants
    import transformers.utils.hub

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    if hasattr(transformers.utils.hub, "TRANSFORMERS_CACHE"):
        monkeypatch.setattr(transformers.utils.hub, "TRANSFORMERS_CACHE", str(tmp_path / "hub"))

    def fill(name, **settings):
        repo = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(COMMIT)
        save(repo / "snapshots" / COMMIT, name, **settings)

    fill.folder = tmp_path / "hub"
    return fill


def test_presets_hold_the_panels_of_the_ledger():
    assert {"limen-7", "gd-8", "scale-17"} <= set(presets())
    sizes = {name: [m.source for m in read_study(name).models] for name in ("limen-7", "gd-8", "scale-17")}
    assert {name: len(models) for name, models in sizes.items()} == {"limen-7": 7, "gd-8": 8, "scale-17": 17}
    assert set(sizes["limen-7"]) <= set(sizes["scale-17"])
    assert {m for models in sizes.values() for m in models} == set(PECULIAR)
    for name in sizes:
        study = read_study(name)
        assert study.battery == "natural" and all(m.parameters and m.from_hub for m in study.models)
        assert len(study.quickened().models) == 2


def test_one_preset_registers_every_claim_of_the_ledger():
    study = read_study("limen")
    claims = {claim for one in EXPERIMENTS if one.name in study.experiments for claim in one.claims}
    assert claims == {claim.id for claim in REGISTER} and len(claims) == 52
    assert [m.source for m in study.models] == [m.source for m in read_study("limen-7").models]


def test_needs_are_said_before_anything_is_downloaded(cache):
    needs = needs_of(read_study("limen-7"))
    assert needs.absent == needs.hub and needs.gated == ("meta-llama/Llama-3.2-1B",)
    assert needs.download == pytest.approx(4 * 4.585e9, rel=0.01)
    first, second = needs.lines()
    assert "to download: about 18" in first and "GB" in first and "meta-llama/Llama-3.2-1B" in second
    half = needs_of(read_study("limen-7").changed(dtype="bfloat16"))
    assert half.memory < needs.memory and half.download == needs.download
    with pytest.raises(InputError, match=r"none of .* is in the Hub cache .*--models-from DIR"):
        require_reachable(needs)
    assert needs_of(read_study("organisms")).lines() == []
    mixed = read_study("limen-7").quickened().changed(models=["organism:llama-512", "facebook/opt-125m"])
    require_reachable(needs_of(mixed))  # one of the two is here: the other is refused, and the study goes on


def test_what_is_in_the_cache_is_not_downloaded(cache):
    cache("distilbert/distilgpt2")
    needs = needs_of(read_study("limen-7").quickened())
    assert needs.absent == ("facebook/opt-125m",)
    require_reachable(needs)


def test_the_revision_is_resolved_and_recorded(cache):
    cache("distilbert/distilgpt2")
    model = load("distilbert/distilgpt2")
    assert model.revision == COMMIT and model.to_dict()["revision"] == COMMIT


@pytest.mark.parametrize("name", sorted({v[0] + str(v[1]): k for k, v in PECULIAR.items()}.values()))
def test_a_stand_in_of_every_family_loads_and_is_proved(name, tmp_path):
    assert load(save(tmp_path / "m", name)).proof.passed


def test_a_preset_runs_offline_from_a_folder_of_stand_ins(tmp_path, capsys):
    for i, name in enumerate(("distilbert/distilgpt2", "facebook/opt-125m")):
        save(tmp_path / "models" / name, name, context=512, seed=i)
    path = tmp_path / "s.toml"
    study = read_study("limen-7").quickened()
    shorter = {"max_new_tokens": 4, "experiments": ["regimes"], "normalisations": [], "lenses": ["final_norm"]}
    path.write_text(study.changed(**shorter, twins=False, bootstraps=100, calibration_prompts=2).to_toml())
    given = ["run", str(path), "--out", str(tmp_path / "out"), "--json"]
    assert call(given) == 2
    assert "facebook/opt-125m" in capsys.readouterr().err
    assert call([*given, "--models-from", str(tmp_path / "models")]) == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert [m["name"] for m in manifest["models"]] == ["distilbert/distilgpt2", "facebook/opt-125m"]
    assert not any(str(tmp_path) in json.dumps(m) for m in manifest["models"])


@pytest.mark.parametrize(
    ("source", "hub"),
    [
        ("gpt2", True),
        ("a/b-c.d", True),
        ("organism:llama-512", False),
        ("./m", False),
        ("/m/n", False),
        ("a/b/c", False),
    ],
)
def test_what_may_be_a_hub_id(source, hub):
    assert Source(source=source).from_hub is hub


def test_a_folder_without_the_models_says_which(tmp_path):
    with pytest.raises(InputError, match="distilbert--distilgpt2 in it"):
        located(read_study("limen-7").quickened(), tmp_path)


def test_a_gated_model_says_how_to_get_access():
    class GatedRepoError(Exception):
        pass

    try:
        raise OSError("could not load") from GatedRepoError("403")
    except OSError as error:
        said = str(_not_found("meta-llama/Llama-3.2-1B", error))
    assert (
        "ask for access" in said
        and "https://huggingface.co/meta-llama/Llama-3.2-1B" in said
        and "hf auth login" in said
    )
    assert "gated" not in str(_not_found("a/b", OSError("404"))) and "--models-from" in str(
        _not_found("a/b", OSError("404"))
    )
