"""The bundled models load with the library alone, are small, and know what their records say."""

import json
import math

import pytest
import torch
from tools.organisms import evaluate, training
from tools.organisms import rows as of_rows
from tools.organisms.configurations import config
from transformers import AutoModelForCausalLM, AutoTokenizer

from phaselens.organisms import (
    catalog,
    corpora,
    default_names,
    list_models,
    names,
    path,
    samples,
    tokens,
    twin_of,
    world,
)
from phaselens.organisms.panel import DEFAULT, PANEL, cell_of
from phaselens.studies.declaration import Study

SLACK = 0.05  # nats per token, over 40 documents; the records hold the figures of 300
# Those outside the default panel are tried with the slow tests.
EVERY = [n if n in DEFAULT else pytest.param(n, marks=pytest.mark.slow) for n in names()]
FINAL = {record["name"]: record for record in list_models() if not record["checkpoint"]}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def load(name, **more):
    return AutoModelForCausalLM.from_pretrained(path(name), dtype=torch.float32, **more).eval()


def test_panel_is_small_and_in_the_order_of_the_table():
    table = [cell.name for cell in PANEL]
    assert names() == [name for name in table if name in names()]
    assert default_names() == [name for name in DEFAULT if name in names()]
    every = names(checkpoints=True)
    size = sum(file.stat().st_size for name in every for file in path(name).iterdir())
    assert size < 40e6
    families = {FINAL[name]["family"] for name in default_names()}
    assert len(families) == len(default_names()) >= 7
    assert {"gpt2", "opt", "gpt_neox", "llama", "gemma2"} <= families
    assert {FINAL[name]["corpus"] for name in default_names()} == {"curated"}
    assert len(json.dumps(list_models())) > 1000


def test_panel_is_crossed():
    """What a claim compares differs in one thing alone."""

    def differ(one, two):
        a, b = (vars(next(cell for cell in PANEL if cell.name == name)) for name in (one, two))
        return {key for key in a if a[key] != b[key]} - {"name", "kept"}

    webs = [cell.name for cell in PANEL if cell.name.endswith("-web")]
    assert len(webs) >= 4
    assert all(differ(name, name.removesuffix("-web")) == {"corpus"} for name in webs)
    for seed in ("", "-s2", "-s3"):
        assert differ(f"gemma2-512{seed}", f"gemma2-512-uncapped{seed}") == {"capped"}
    assert differ("gemma2-512", "gemma2-512-s2") == differ("gemma2-512", "gemma2-512-s3") == {"seed"}
    assert differ("llama-512", "qwen3-512") == {"family"}, "a QK-norm pair"
    assert differ("llama-512", "llama-512-untied") == {"tied"}
    assert differ("llama-512", "llama-2048") == {"vocabulary"}
    assert differ("llama-512", "llama-512-large") == {"layers", "width", "inner", "heads"}


def test_qk_norm_is_all_that_sets_the_pair_apart():
    llama, qwen3 = (config(cell).to_dict() for cell in (PANEL[0], PANEL[4]))
    shared = {
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "hidden_act",
        "attention_bias",
        "rms_norm_eps",
        "rope_parameters",
        "tie_word_embeddings",
    }
    assert {key for key in shared if llama[key] != qwen3[key]} == set()
    one, two = (dict(training.new_model(cell).named_parameters()) for cell in (PANEL[0], PANEL[4]))
    assert {name.rsplit(".", 2)[1] for name in set(one) ^ set(two)} == {"q_norm", "k_norm"}


def test_checkpoints_are_at_matched_steps_and_learn():
    steps = {}
    for record in list_models():
        if record["checkpoint"]:
            steps.setdefault(record["name"].rpartition("-step")[0], []).append(record)
    assert len(steps) == 2
    one, two = steps.values()
    assert [r["step"] for r in one] == [r["step"] for r in two] == sorted(r["step"] for r in one)
    assert [r["tokens"] for r in one] == [r["tokens"] for r in two]
    for cell, records in steps.items():
        losses = [r["loss"] for r in records] + [FINAL[cell]["loss"]]
        assert len(losses) == 5 and losses == sorted(losses, reverse=True)


def test_gates_are_passed_or_the_miss_is_said():
    """Every figure that misses a gate stands in the record, and none is said that is not there."""
    for name, record in FINAL.items():
        over = {c for c in corpora.CATEGORIES if record["excess_nats"][c] > 0.05}
        said = {c for c in corpora.CATEGORIES if any(miss.startswith(c) for miss in record["misses"])}
        assert over == said, name
        if record["corpus"] == "curated" and name in DEFAULT:
            assert record["facts"]["4"]["accuracy"] >= 0.9
            assert record["sums"]["held_out"] >= 0.5


@pytest.mark.parametrize("name", EVERY)
def test_loads_plainly_and_speaks(name):
    tokenizer = AutoTokenizer.from_pretrained(path(name))
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<s>", "</s>")
    model = AutoModelForCausalLM.from_pretrained(path(name))
    assert model.dtype == torch.float16
    model = model.float().eval()
    assert 0.4e6 < sum(p.numel() for p in model.parameters()) < 1.5e6
    inputs = tokenizer(
        ["Laws\n- If metal is heated, it", "Words\n- The furry bat was in the picture. It"],
        padding=True,
        return_tensors="pt",
    )
    inputs.pop("token_type_ids", None)
    out = model.generate(**inputs, max_new_tokens=12, do_sample=False)
    first, second = tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    assert first.startswith(" expands.") and second.startswith(" had wings.")


@pytest.mark.parametrize("name", EVERY)
def test_loss_is_near_the_entropy_and_as_recorded(name):
    record = FINAL[name]
    fresh = evaluate.held_out_loss(load(name), catalog.load_tokenizer(path(name)), world.build_world(), n=40, seed=99)
    assert fresh["excess_nats"] > -0.02
    assert abs(fresh["excess_nats"] - record["excess_nats"]["overall"]) < SLACK


@pytest.mark.parametrize("name", EVERY)
def test_recipe_is_that_of_the_table(name):
    recipe = json.loads((path(name) / "training.json").read_text())["recipe"]
    cell = next(cell for cell in PANEL if cell.name == name)
    assert cell_of(recipe) == cell
    made = config(cell).to_dict()
    stored = AutoModelForCausalLM.from_pretrained(path(name)).config.to_dict()
    ignored = {"dtype", "architectures", "transformers_version", "_name_or_path"}
    assert {k: v for k, v in made.items() if k not in ignored} == {k: v for k, v in stored.items() if k not in ignored}


@pytest.mark.parametrize("name", EVERY)
def test_commonest_facts_are_known_and_unwritten_ones_are_not(name):
    facts = FINAL[name]["facts"]
    assert facts["0"]["exposures_max"] == 0 and facts["0"]["accuracy"] < 0.25
    assert facts["4"]["accuracy"] >= 0.8 and facts["3"]["accuracy"] >= facts["0"]["accuracy"]
    assert facts["1"]["exposures_mean"] < facts["2"]["exposures_mean"] < facts["4"]["exposures_mean"]


def test_samples_are_seeded_and_decode():
    name = names()[0]
    one, two = (samples(name, new_tokens=12, seed=3) for _ in range(2))
    assert one == two != samples(name, new_tokens=12, seed=4)
    assert len(one) == 6 and all(set(sample) == {"prompt", "continuation"} for sample in one)
    greedy = samples(name, prompts=["Laws\n- If fat is heated, it"], new_tokens=4, temperature=0)
    assert greedy == samples(name, prompts=["Laws\n- If fat is heated, it"], new_tokens=4, temperature=0, seed=9)
    assert greedy[0]["continuation"].startswith(" melts")


@pytest.mark.slow
def test_documents_beyond_the_context_are_measured_on_their_complete_pieces():
    """A network that knows nothing pays the same per token, also where a document is cut."""
    name, earth = "gpt2-512", world.build_world()
    tokenizer = catalog.load_tokenizer(path(name))
    model = load(name)
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    long = max(corpora.documents(earth, 11, 3000), key=lambda d: len(of_rows.encode(tokenizer, d)[0]))
    ids, owner = of_rows.encode(tokenizer, long)
    assert len(ids) > tokens.CONTEXT
    seen = evaluate.held_out_loss(model, tokenizer, earth, n=3000, seed=11)
    assert seen["loss"] == pytest.approx(math.log(512), abs=1e-5)
    cut = sum(len(of_rows.encode(tokenizer, d)[0]) - 1 for d in corpora.documents(earth, 11, 3000)) - seen["tokens"]
    assert 0 < cut < 200


def test_seeds_and_checkpoints_are_twins_of_their_first():
    assert twin_of("gemma2-512-s3") == "gemma2-512" and twin_of("gemma2-512-uncapped-s2") == "gemma2-512-uncapped"
    assert twin_of("llama-512-step450") == "llama-512"
    assert [twin_of(n) for n in ("llama-512", "llama-512-web", "gemma2-512-uncapped", "qwen3-512")] == [None] * 4


def test_a_study_declares_them_where_the_first_is_in_it():
    def twins(*models):
        return [m.twin_of for m in Study(name="s", models=models).models]

    late, whole = "organism:llama-512-step450", "organism:llama-512"
    assert twins(whole, late) == [None, "llama-512"]
    assert twins({"source": whole, "name": "mine"}, late) == [None, "mine"]
    assert twins(late, "organism:gpt2-512") == [None, None]
    assert twins(whole, {"source": late, "twin_of": None}) == [None, None]
    assert not any(twins("organism:default"))


def test_web_text_is_stranger_to_a_model_of_clean_text():
    record = json.loads((path("llama-512") / "training.json").read_text())["figures"]
    assert record["web_loss"] > record["loss"] + 0.5
    again = evaluate.web_loss(load("llama-512"), catalog.load_tokenizer(path("llama-512")), world.build_world(), n=40)
    assert again == pytest.approx(record["web_loss"], abs=0.1)
