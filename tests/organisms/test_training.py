"""Training is deterministic, and a killed run that is resumed gives the bytes of an uninterrupted one."""

import dataclasses
import json

import pytest
import torch
from tools.organisms import rows, training
from tools.organisms.configurations import config
from tools.organisms.muon import Muon, orthogonal
from tools.organisms.train import train
from transformers import AutoModelForCausalLM

from phaselens.errors import InputError, OutputError, UnknownNameError
from phaselens.organisms import catalog, panel, tokens
from phaselens.organisms.world import build_world

TINY = panel.Cell("tiny", "llama", layers=2, width=16, inner=16, heads=2, steps=6, batch=2, kept=(3,))


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_same_seed_same_bytes_and_resume_equals_uninterrupted(tmp_path):
    losses = []
    whole = training.train_cell(TINY, tmp_path / "whole", progress=lambda step, steps, loss: losses.append(loss))
    assert len(losses) == TINY.steps and losses[-1] < losses[0]
    training.train_cell(TINY, tmp_path / "cut", every=2, stop_after=5)
    left = tmp_path / "cut" / "tiny.checkpoints"
    assert [path.name for path in left.iterdir()] == ["step-000004"]
    (left / "step-000006.tmp").mkdir()  # what a kill in mid-write leaves
    resumed = training.train_cell(TINY, tmp_path / "cut", every=2, resume=True)
    assert weights(resumed) == weights(whole)
    assert not left.exists()
    other = training.train_cell(dataclasses.replace(TINY, seed=2), tmp_path / "other")
    assert weights(other) != weights(whole)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    one, two = (json.loads((folder / "training.json").read_text()) for folder in (whole, resumed))
    assert one["log"] == two["log"] and panel.cell_of(one["recipe"]) == TINY
    kept = json.loads((tmp_path / "whole" / "tiny-step3" / "training.json").read_text())
    assert (kept["step"], kept["documents"]) == (3, 6) and (one["step"], one["documents"]) == (6, 12)
    assert weights(tmp_path / "whole" / "tiny-step3") == weights(tmp_path / "cut" / "tiny-step3") != weights(whole)


def test_checkpoint_of_another_recipe_is_refused(tmp_path):
    training.train_cell(TINY, tmp_path, every=2, stop_after=2)
    with pytest.raises(OutputError, match="another folder"):
        training.train_cell(dataclasses.replace(TINY, lr=1e-3), tmp_path, resume=True)


def test_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Give another folder"):
        training.train_cell(TINY, tmp_path / "file")


def test_rate():
    rates = [training.rate(step, 1000) for step in range(1000)]
    assert rates[0] == 1 / 40 and rates[39] == rates[400] == 1.0
    assert all(a >= b for a, b in zip(rates[500:], rates[501:], strict=False))
    assert rates[-1] == pytest.approx(training.FINAL_SHARE, abs=1e-3)


def test_orthogonal_draws_singular_values_to_one():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 8, 8), (2, 20, 6), (6, 20), (2, 3, 4, 9)):
        x = torch.randn(shape, generator=generator)
        made = orthogonal(x)
        assert made.shape == x.shape
        values = torch.linalg.svdvals(made)
        assert values.min() > 0.3 and values.max() < 1.3
        left, _, right = torch.linalg.svd(x, full_matrices=False)
        cosine = (made * (left @ right)).sum((-2, -1)) / made.norm(dim=(-2, -1)) / (left @ right).norm(dim=(-2, -1))
        assert cosine.min() > 0.95, "it points where the nearest semi-orthogonal matrix does"
    assert orthogonal(torch.zeros(3, 4)).abs().max() == 0


def test_muon_steps_have_one_size_whatever_the_gradient():
    for size in (1e-4, 1.0, 1e4):
        p = torch.nn.Parameter(torch.zeros(6, 6))
        p.grad = size * torch.eye(6)
        Muon([p], lr=0.1).step()
        assert torch.allclose(p, -p.new_tensor(0.1) * torch.eye(6) * p[0, 0] / -0.1, atol=1e-6)
        assert 0.06 < -p[0, 0] < 0.13


def test_muon_takes_matrices_of_blocks_alone():
    for cell in panel.PANEL[:8]:
        model = training.new_model(dataclasses.replace(cell, layers=1))
        muon, adam = training.optimizers_of(model, cell)
        taken = [p for group in muon.param_groups for p in group["params"]]
        rest = [p for group in adam.param_groups for p in group["params"]]
        assert len(taken) + len(rest) == len(list(model.parameters()))
        assert all(p.ndim >= 2 for p in taken) and taken
        heads = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        assert heads <= {id(p) for p in rest}


def test_what_was_shown_is_what_stood_in_the_rows():
    world, tokenizer = build_world(), rows.build_tokenizer(build_world(), 512)
    cell = dataclasses.replace(TINY, context=64)
    texts = training.corpus(world, cell)
    seen = training.shown(world, cell, tokenizer, 2)
    assert len(seen) == 4 and all(any(text.startswith(part) for text in texts) for part in seen)
    assert all(len(tokenizer(part)["input_ids"]) <= 64 for part in seen)
    assert any(part not in texts for part in seen), "nothing was cut"


@pytest.mark.parametrize("cell", panel.PANEL, ids=lambda cell: cell.name)
def test_every_family_builds_without_touching_global_randomness(cell):
    before = torch.random.get_rng_state()
    small = dataclasses.replace(cell, layers=1)
    one, two = training.new_model(small), training.new_model(small)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.config.model_type == cell.family and one.config.eos_token_id == tokens.EOS
    ids = torch.arange(3, 40)[None]
    assert torch.equal(one.train()(ids).logits, one.train()(ids).logits), "dropout is on"


def test_unknown_names():
    with pytest.raises(UnknownNameError, match="Did you mean"):
        panel.cells(["llama-51"])
    with pytest.raises(UnknownNameError):
        catalog.path("nobody")
    with pytest.raises(UnknownNameError, match="Known: gemma2, gpt2"):
        config(dataclasses.replace(TINY, family="gpt3"))
    with pytest.raises(InputError, match="at least 1"):
        train(["llama-512"], out=None, steps=0)
    assert panel.cells() == panel.PANEL and len(panel.cells(["opt-512", "llama-512"])) == 2


@pytest.mark.slow
def test_train_measures_and_keeps_what_is_finished(tmp_path):
    told = []
    folders = train(["neox-512"], out=tmp_path, steps=3, seed=5, progress=lambda *state: told.append(state))
    assert [folder.name for folder in folders] == ["neox-512"]
    record = json.loads((folders[0] / "training.json").read_text())
    assert record["recipe"]["seed"] == 5 and record["figures"]["true_entropy"] > 0.3
    assert told[-1][:3] == ("neox-512", 3, 3)
    before = weights(folders[0])
    assert train(["neox-512"], out=tmp_path, steps=3, seed=5, resume=True) == folders
    assert weights(folders[0]) == before and len(told) == 3
    assert AutoModelForCausalLM.from_pretrained(folders[0]).dtype == torch.float16
