"""The bundled models load with the library alone, are small, and know what their records say."""

import json
import math

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from phaselens.organisms import catalog, corpora, evaluate, list_models, names, path, samples, training, world
from phaselens.organisms.panel import PANEL, Cell

EXCESS = 0.15  # nats per token over 40 documents; the records hold the figures of 300


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name, **more):
    return AutoModelForCausalLM.from_pretrained(path(name), dtype=torch.float32, **more).eval()


def test_panel_is_complete_and_small():
    assert names() == sorted(cell.name for cell in PANEL)
    size = sum(file.stat().st_size for name in names() for file in path(name).iterdir())
    assert size < 16e6
    assert {record["family"] for record in list_models()} == {"llama", "gpt2", "gpt_neox", "opt", "gemma2"}
    assert {record["vocabulary"] for record in list_models()} == {512, 1024}
    assert len(json.dumps(list_models())) > 1000


@pytest.mark.parametrize("name", names())
def test_loads_plainly_and_speaks(name):
    tokenizer = AutoTokenizer.from_pretrained(path(name))
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")
    model = AutoModelForCausalLM.from_pretrained(path(name))
    assert model.dtype == torch.float16
    model = model.float().eval()
    assert 0.8e6 < sum(p.numel() for p in model.parameters()) < 1.5e6
    inputs = tokenizer(
        ["Laws\n- If metal is heated, it", "Words\n- The furry bat was in the picture. It"],
        padding=True,
        return_tensors="pt",
    )
    inputs.pop("token_type_ids", None)
    out = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    first, second = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert first.startswith(" expands.") and second.startswith(" had wings.")


@pytest.mark.parametrize("name", names())
def test_loss_is_near_the_entropy_and_as_recorded(name):
    record = next(record for record in list_models() if record["name"] == name)
    fresh = evaluate.held_out_loss(load(name), catalog.load_tokenizer(path(name)), world.build_world(), n=40, seed=99)
    assert -0.02 < fresh["excess_nats"] < EXCESS
    assert abs(fresh["excess_nats"] - record["excess_nats"]["overall"]) < 0.05


@pytest.mark.parametrize("name", names())
def test_recipe_is_that_of_the_table(name):
    recipe = json.loads((path(name) / "training.json").read_text())["recipe"]
    cell = next(cell for cell in PANEL if cell.name == name)
    assert Cell(**recipe) == cell
    config = training.config(cell).to_dict()
    stored = AutoModelForCausalLM.from_pretrained(path(name)).config.to_dict()
    ignored = {"dtype", "architectures", "transformers_version", "_name_or_path"}
    assert {k: v for k, v in config.items() if k not in ignored} == {
        k: v for k, v in stored.items() if k not in ignored
    }


@pytest.mark.parametrize("name", names())
def test_commonest_facts_are_known_and_unwritten_ones_are_not(name):
    facts = next(record for record in list_models() if record["name"] == name)["facts"]
    assert facts["0"]["exposures_max"] == 0 and facts["0"]["accuracy"] < 0.25
    assert facts["4"]["accuracy"] >= 0.9 and facts["3"]["accuracy"] >= facts["0"]["accuracy"]
    assert facts["1"]["exposures_mean"] < facts["2"]["exposures_mean"] < facts["4"]["exposures_mean"]


def test_samples_are_seeded_and_decode():
    name = names()[0]
    one, two = (samples(name, new_tokens=12, seed=3) for _ in range(2))
    assert one == two != samples(name, new_tokens=12, seed=4)
    assert len(one) == 6 and all(set(sample) == {"prompt", "continuation"} for sample in one)
    greedy = samples(name, prompts=["Laws\n- If fat is heated, it"], new_tokens=4, temperature=0)
    assert greedy == samples(name, prompts=["Laws\n- If fat is heated, it"], new_tokens=4, temperature=0, seed=9)
    assert greedy[0]["continuation"].startswith(" melts")


def test_repeats():
    assert evaluate.repeats([1, 2, 3] * 30) and evaluate.repeats([7] * 64)
    assert not evaluate.repeats(list(range(64))) and not evaluate.repeats([1, 1, 1])
    assert evaluate.repeats(list(range(32)) + [5, 6] * 16)


@pytest.mark.slow
def test_documents_beyond_the_context_are_measured_on_their_complete_pieces():
    """A network that knows nothing pays the same per token, also where a document is cut."""
    name, earth = "gpt2-512", world.build_world()
    tokenizer = catalog.load_tokenizer(path(name))
    model = load(name)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    long = max(corpora.documents(earth, 11, 1000), key=lambda d: len(corpora.encode(tokenizer, d)[0]))
    ids, owner = corpora.encode(tokenizer, long)
    assert len(ids) > corpora.CONTEXT
    seen = evaluate.held_out_loss(model, tokenizer, earth, n=1000, seed=11)
    assert seen["loss"] == pytest.approx(math.log(512), abs=1e-5)
    cut = sum(len(corpora.encode(tokenizer, d)[0]) - 1 for d in corpora.documents(earth, 11, 1000)) - seen["tokens"]
    assert 0 < cut < 200
