"""A model is what its file says: every tensor of the network comes from the file, and the file holds no others."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tools.tiny import build_tiny
from torch import nn

from phaselens.cli import call
from phaselens.errors import InputError, ModelRefused
from phaselens.models import load


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("weights") / "whole"
    build_tiny("llama", 0).save_pretrained(place)
    return place


def changed(whole, place, change=lambda weights: weights, **settings):
    """A copy of the folder with other weights or settings."""
    shutil.copytree(whole, place)
    config = json.loads((whole / "config.json").read_text()) | settings
    (place / "config.json").write_text(json.dumps(config))
    weights = change(load_file(whole / "model.safetensors"))
    save_file({k: v.contiguous() for k, v in weights.items()}, place / "model.safetensors", metadata={"format": "pt"})
    return place


def without(part):
    return lambda weights: {k: v for k, v in weights.items() if part not in k}


BROKEN = {
    "a layer": (without("layers.2."), {}, r"9 of 39 tensors are missing \(model\.layers\.2\..*concerned: 2 of 4"),
    "a tensor": (without("layers.2.mlp.down"), {}, r"1 of 39 .* missing \(model\.layers\.2\.mlp\.down_proj\."),
    "nearly all": (lambda w: {"model.norm.weight": w["model.norm.weight"]}, {}, "38 of 39 tensors are missing"),
    "names": (lambda w: {f"other.{k}": v for k, v in w.items()}, {}, "39 of 39.*missing.*39 of the file are left over"),
    "head": (without("lm_head"), {}, r"1 of 39 tensors are missing \(lm_head\.weight\)"),
    "more layers": (dict, {"num_hidden_layers": 7}, "27 of 66 tensors are missing"),
    "fewer layers": (dict, {"num_hidden_layers": 2}, "18 of the file are left over.*4 layers, config.json declares 2"),
    "width": (dict, {"intermediate_size": 80}, r"of another shape \(model\.layers\.0\.mlp\..* in the file,.* wanted"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_weights_that_are_not_the_models_are_refused_by_name(whole, tmp_path, name):
    change, settings, said = BROKEN[name]
    place = changed(whole, tmp_path / "broken", change, **settings)
    with pytest.raises(ModelRefused, match=said):
        load(place)


def test_models_check_says_what_became_of_the_tensors(whole, tmp_path, capsys):
    assert call(["models", "check", str(whole)]) == 0
    assert "weights: 39 of 39 tensors, none missing, none left over" in capsys.readouterr().out
    assert load(whole).to_dict()["weights"].startswith("39 of 39")
    broken = changed(whole, tmp_path / "broken", without("layers.1."))
    assert call(["models", "check", str(broken)]) == 2


def test_what_is_tied_or_a_buffer_by_design_is_not_missing(tmp_path):
    tied = build_tiny("llama", 0)
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.save_pretrained(tmp_path / "tied")
    assert "lm_head.weight" not in load_file(tmp_path / "tied" / "model.safetensors")
    assert load(tmp_path / "tied").weights.startswith("38 of 38 tensors, none missing, none left over")
    angles = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    old = changed(tmp_path / "tied", tmp_path / "old", lambda weights: weights | angles)
    assert load(old).weights.startswith("38 of 38 tensors, none missing, none left over")
    tower = {"vision_tower.layers.0.weight": torch.ones(4, 4)}
    seeing = changed(tmp_path / "tied", tmp_path / "seeing", lambda weights: weights | tower)
    assert load(seeing).weights.endswith("none left over, 1 of other parts left aside")


def test_adapters_and_quantised_folders_are_named_as_what_they_are(whole, tmp_path):
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora" / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="holds a LoRA adapter.*merge_and_unload"):
        load(tmp_path / "lora")
    for method in ("awq", "bitsandbytes"):
        how = {"quant_method": method, "load_in_4bit": True, "bits": 4}
        with pytest.raises((InputError, ModelRefused), match=rf"quantised \({method}\).*plain copy"):
            load(changed(whole, tmp_path / method, quantization_config=how))


def test_custom_code_names_the_option_on_the_command_line(whole, tmp_path):
    own = {"auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}, "model_type": "own"}
    place = changed(whole, tmp_path / "custom", **own)
    (place / "own.py").write_text("raise SystemExit('this code must not run')")
    with pytest.raises(ModelRefused, match="--trust-remote-code"):
        load(place)


class Valued(nn.Module):
    """A value head as trl makes them: no get_input_embeddings of its own, a tuple for output."""

    def __init__(self, network):
        super().__init__()
        self.pretrained_model, self.v_head, self.config = network, nn.Linear(64, 1), network.config

    def forward(self, input_ids, **kwargs):
        out = self.pretrained_model(input_ids, **kwargs)
        return out.logits, None, self.v_head(out.logits[..., :64])


def compiled(network):
    return torch.compile(network, backend="eager")


@pytest.mark.parametrize("wrap", [Valued, nn.DataParallel, compiled, lambda n: compiled(nn.DataParallel(n))])
def test_wrappers_are_measured_as_what_they_wrap(wrap):
    network = build_tiny("llama", 0)
    assert load(wrap(network)).network is network


def test_modules_that_wrap_no_model_say_so():
    with pytest.raises(InputError, match="a Linear is no language model"):
        load(nn.Linear(2, 2))
    network = build_tiny("llama", 0)
    network.model.layers[1].compile(backend="eager")
    with pytest.raises(InputError, match=r"model\.layers\.1 was compiled in place"):
        load(network)


def test_offloaded_weights_are_one_clear_line():
    network = build_tiny("llama", 0)
    network.model.layers[1].to("meta")
    with pytest.raises(InputError, match="9 weights are not in memory.*accelerate has offloaded them"):
        load(network)


def test_overflow_of_float16_says_which_dtype_to_use():
    network = build_tiny("llama", 0)
    with torch.no_grad():
        network.model.layers[1].mlp.down_proj.weight.mul_(1e7).clamp_(-6e4, 6e4)
        network.model.layers[1].mlp.up_proj.weight.mul_(1e4)
    with pytest.raises(ModelRefused, match="overflow float16: say dtype='bfloat16' or 'float32'"):
        load(network.half())
