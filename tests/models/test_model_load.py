import json
import shutil

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tools.tiny import build_tiny
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from phaselens.errors import InputError, ModelRefused, StudyFileError, TokenizerError, UnknownNameError
from phaselens.models import fingerprint, load, require_tokenizer, untrained_twin


def tokenizer_of(size):
    words = {"<unk>": 0, **{f"w{i}": i for i in range(1, size)}}
    core = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


@pytest.fixture(scope="module")
def network():
    return build_tiny("gpt2", 3)


@pytest.fixture(scope="module")
def folder(network, tmp_path_factory):
    place = tmp_path_factory.mktemp("tiny") / "gpt2-tiny"
    network.save_pretrained(place)
    tokenizer_of(90).save_pretrained(place)
    return place


def test_folder_and_live_model_agree(folder, network):
    loaded = load(folder)
    live = load(network, tokenizer=loaded.tokenizer)
    assert loaded.name == "gpt2-tiny" and loaded.family == "gpt2" and loaded.block_path == "transformer.h"
    assert (loaded.n_layers, loaded.d_model, loaded.context) == (4, 64, 64)
    assert loaded.fingerprint == live.fingerprint == load(folder).fingerprint
    assert loaded.proof.passed and not loaded.network.training
    json.dumps(loaded.to_dict())
    assert loaded.to_dict()["versions"]["torch"] == torch.__version__


def test_a_model_prints_short_and_can_be_a_key(network):
    model = load(network)
    assert repr(model) == "Model(gpt2: gpt2, 4 layers, width 64, 96 tokens, float32 on cpu, proved)"
    assert {model: 1}[model] == 1


def test_vocabulary_drops_padding_rows(folder, network):
    model = load(folder)
    assert model.vocab_size == 90 and model.readout.weight.shape == (90, 64)
    assert load(network).vocab_size == 96
    assert model.readout.weight.data_ptr() == model.network.lm_head.weight.data_ptr()


def test_missing_tokenizer_is_allowed_until_it_is_needed(network, tmp_path):
    network.save_pretrained(tmp_path / "bare")
    model = load(tmp_path / "bare")
    assert model.tokenizer is None
    with pytest.raises(TokenizerError, match="bare has no tokenizer.*token ids"):
        require_tokenizer(model)
    assert require_tokenizer(load(network, tokenizer=tokenizer_of(96))) is not None


def test_tokenizer_of_another_model_is_refused(network):
    with pytest.raises(TokenizerError, match="5000 tokens where the model has 96 rows"):
        load(network, tokenizer=tokenizer_of(5000))


def test_broken_tokenizer_says_so(folder, tmp_path):
    copy = tmp_path / "broken"
    shutil.copytree(folder, copy)
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot be read"):
        load(copy)


def test_no_padding_id_is_no_error(network):
    model = load(network)
    assert network.config.pad_token_id is None and 0 <= model.pad_id < model.vocab_size


def test_half_precision_on_disk_is_brought_to_float32(network, tmp_path):
    place = tmp_path / "half"
    build_tiny("gpt2", 3).half().save_pretrained(place)
    model = load(place)
    assert model.dtype == torch.float32 and model.proof.passed
    assert {r.tolerance for r in model.proof.rows if r.name == "lens"} == {1e-4}
    assert load(place, dtype="bfloat16").dtype == torch.bfloat16
    with pytest.raises(UnknownNameError, match="Did you mean 'float32'"):
        load(place, dtype="float23")


def test_pickled_weights_are_refused_with_the_reason(network, tmp_path):
    place = tmp_path / "pickled"
    network.save_pretrained(place)
    (place / "model.safetensors").unlink()
    torch.save(network.state_dict(), place / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"safetensors.*Pickled weights"):
        load(place)


@pytest.mark.parametrize("source", ["no-such-model", "nobody/no-such-model"])
def test_unknown_hub_name_is_one_clear_error(source):
    with pytest.raises(InputError, match=f"no model '{source}'.*Check the name"):
        load(source)


def test_places_without_a_model(tmp_path):
    with pytest.raises(InputError, match="has no config.json"):
        load(tmp_path)
    with pytest.raises(InputError, match="no model at"):
        load(tmp_path / "absent")


def test_unknown_and_unfit_families_are_refused(tmp_path):
    for name, config in {"new": {"model_type": "brand_new"}, "seq": {"model_type": "vit"}}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        with pytest.raises(ModelRefused, match=name):
            load(tmp_path / name)


def test_fingerprint_sees_weights_config_and_tokenizer(network):
    other = build_tiny("gpt2", 3)
    assert fingerprint(other) == fingerprint(network)
    with torch.no_grad():
        other.transformer.h[1].mlp.c_fc.weight[0, 0] += 1e-3
    assert fingerprint(other) != fingerprint(network)
    assert fingerprint(network, tokenizer_of(90)) != fingerprint(network, tokenizer_of(91)) != fingerprint(network)


def test_untrained_twin_is_deterministic_and_leaves_global_randomness(folder):
    model = load(folder)
    state = torch.random.get_rng_state()
    one, two, three = untrained_twin(model, 0), untrained_twin(model, 0), untrained_twin(model, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert one.fingerprint == two.fingerprint != three.fingerprint and one.fingerprint != model.fingerprint
    assert one.name == "gpt2-tiny:untrained" and one.vocab_size == model.vocab_size and one.proof.passed


def test_untrained_twin_shares_nothing_with_the_model(network):
    tied = build_tiny("llama", 0)
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.generation_config.eos_token_id = [5, 6]
    model = load(tied)
    twin = untrained_twin(model, 0)
    assert twin.eos_ids == model.eos_ids and set(twin.eos_ids) >= {5, 6}
    assert twin.network.config is not model.network.config
    assert twin.network.lm_head.weight.data_ptr() == twin.network.model.embed_tokens.weight.data_ptr()
    ours = {p.data_ptr() for p in model.network.parameters()}
    assert not ours & {p.data_ptr() for p in twin.network.parameters()}


def test_a_device_that_is_not_here(folder):
    with pytest.raises(InputError, match="device 'cuda:99' cannot be used here"):
        load(folder, device="cuda:99")
    with pytest.raises(InputError, match="device 'gpu' cannot be used here"):
        load(folder, device="gpu")


def test_overrides_from_a_file(folder, tmp_path):
    toml = tmp_path / "help.toml"
    toml.write_text('blocks = "transformer.h"\nnorm = "transformer.ln_f"\nhead = "lm_head"\nscale = 1.0\n')
    assert load(folder, overrides=toml).facts.tail == ("transformer.ln_f",)
    toml.write_text("blocks = [")
    with pytest.raises(StudyFileError, match="cannot be read as TOML"):
        load(folder, overrides=toml)


@pytest.mark.parametrize(
    ("overrides", "error", "said"),
    [
        ({"blocs": "transformer.h"}, UnknownNameError, "Did you mean 'blocks'"),
        ({"blocks": "transformer.layers"}, InputError, "'transformer.layers'.*does not have"),
        ({"norm": "transformer.h.0.ln_1"}, ModelRefused, "lens failed"),
        ({"norm": ""}, ModelRefused, "lens failed"),
        ({"scale": 2.0}, ModelRefused, "lens failed"),
        ({"cap": 30.0}, ModelRefused, "loud_lens failed"),
        ({"bias": "transformer.ln_f.bias"}, InputError, "64 values; wanted one per token, 96"),
    ],
)
def test_wrong_overrides_do_not_pass(network, overrides, error, said):
    with pytest.raises(error, match=said):
        load(network, overrides=overrides)


@pytest.mark.parametrize("table", ["embed_tokens", "lm_head"])
def test_a_row_that_is_not_finite_is_refused_with_its_token(table):
    sick = build_tiny("llama", 0)
    with torch.no_grad():
        sick.get_submodule("model.embed_tokens" if table == "embed_tokens" else "lm_head").weight[17] = float("nan")
    with pytest.raises(ModelRefused, match=r"1 of 96 rows of the (embedding|head) are not finite \(tokens 17\)"):
        load(sick)
    assert load(sick, tokenizer=tokenizer_of(17)).vocab_size == 17, "a padding row is no token"


def test_without_check_nothing_is_proved(network):
    model = load(network, check=False)
    assert model.proof is None and model.facts.pads_left is None and model.to_dict()["proved"] is None


def test_one_block_is_enough():
    config = GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=20, n_positions=32, bos_token_id=0, eos_token_id=0)
    assert load(GPT2LMHeadModel(config).eval()).n_layers == 1
