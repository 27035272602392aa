"""GGUF files are read through a folder of safetensors that is made once; what they cannot be is one clear line."""

import json
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from phaselens.cli import call
from phaselens.errors import InputError, ModelRefused
from phaselens.models import load
from phaselens.models.gguf import architectures, convert, gguf_file, origin
from phaselens.studies.declaration_parts import Source

gguf = pytest.importorskip("gguf")
WORDS = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *(f"▁w{i}" for i in range(61))]
NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write(path, network, kind, architecture="llama"):
    """A Llama as llama.cpp writes it: its own names, matrices quantised to `kind`, norms in float32."""
    config, out = network.config, gguf.GGUFWriter(path, architecture)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_vocab_size(config.vocab_size)
    out.add_file_type(gguf.LlamaFileType[f"MOSTLY_{kind.name}"])
    out.add_tokenizer_model("llama")
    out.add_token_list(WORDS)
    out.add_token_scores([0.0] * len(WORDS))
    out.add_token_types([2, 3, 3, *[6] * 256, *[1] * 61])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    for name, tensor in network.state_dict().items():
        bare = name.removeprefix("model.").removesuffix(".weight")
        outer = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
        layer, _, part = bare.removeprefix("layers.").partition(".")
        ours = outer.get(bare) or f"blk.{layer}.{NAMES[part]}"
        value = tensor.numpy()
        if part in ("self_attn.q_proj", "self_attn.k_proj"):  # llama.cpp interleaves the two halves of a head
            heads = config.num_attention_heads if "q_proj" in part else config.num_key_value_heads
            value = value.reshape(heads, 2, value.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(value.shape)
        if value.ndim > 1:
            out.add_tensor(f"{ours}.weight", gguf.quants.quantize(value, kind), raw_dtype=kind)
        else:
            out.add_tensor(f"{ours}.weight", value.astype(np.float32))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=320,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        bos_token_id=1,
        eos_token_id=2,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    return write(tmp_path_factory.mktemp("gguf") / "small.gguf", network, gguf.GGMLQuantizationType.Q8_0)


@pytest.fixture(scope="module")
def model(file):
    return load(file)


def test_a_file_is_the_model_that_was_written(model, network):
    assert model.name == "small" and model.family == "llama" and model.proof.passed
    assert model.weights == "21 of 21 tensors, none missing, none left over"
    assert model.origin == "weights dequantised from Q8_0 (GGUF)" == model.to_dict()["origin"]
    ids = torch.tensor([[1, 270, 280, 290, 300]])
    with torch.no_grad():
        ours, theirs = model.network(ids).logits, network(ids).logits
    assert 1e-5 < float((ours - theirs).abs().max()) < 0.02 * float(theirs.abs().max()), "eight bits, and no more lost"
    assert model.tokenizer.convert_ids_to_tokens([1, 2, 259]) == ["<s>", "</s>", "▁w0"]


def test_it_is_converted_once(model, file, monkeypatch):
    monkeypatch.setattr("phaselens.models.gguf.convert", lambda *given: pytest.fail("converted again"))
    again = load(str(file))
    assert again.fingerprint == model.fingerprint and again.source == str(file)


def test_a_folder_that_holds_one_and_a_blob_without_ending(model, file, tmp_path):
    (tmp_path / "one").mkdir()
    os.link(file, tmp_path / "one" / "model.gguf")
    os.link(file, tmp_path / "sha256-abc")
    assert load(tmp_path / "one").fingerprint == model.fingerprint == load(tmp_path / "sha256-abc").fingerprint
    os.link(file, tmp_path / "one" / "other.gguf")
    with pytest.raises(InputError, match=r"holds 2 GGUF files \(model.gguf ...\): name the one"):
        load(tmp_path / "one")
    assert gguf_file("no/such/model") is None and gguf_file(str(tmp_path)) is None
    assert Source(source=str(file)).label == "small"


def test_convert_writes_a_folder_openly(model, file, tmp_path, capsys):
    assert call(["models", "convert", str(file), str(tmp_path / "out")]) == 0
    assert "weights dequantised from Q8_0 (GGUF)" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"], "nothing half made is left"
    assert {t.dtype for t in load_file(tmp_path / "out" / "model.safetensors").values()} == {torch.float32}
    whole = load(tmp_path / "out")
    assert whole.fingerprint == model.fingerprint and whole.origin == model.origin
    assert call(["models", "check", str(tmp_path / "out")]) == 0
    assert "weights dequantised from Q8_0 (GGUF)" in capsys.readouterr().out
    assert call(["models", "convert", str(file), str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert call(["models", "convert", __file__, str(tmp_path / "other")]) == 2


def test_what_cannot_be_read_is_one_line_and_leaves_nothing(network, tmp_path):
    strange = write(tmp_path / "strange.gguf", network, gguf.GGMLQuantizationType.Q8_0, "rwkv7")
    with pytest.raises(ModelRefused, match=r"rwkv7.*not supported.*architectures are read: .*llama"):
        convert(strange, tmp_path / "out")
    (tmp_path / "short.gguf").write_bytes(strange.read_bytes()[:100])
    with pytest.raises(InputError, match="cannot be read as GGUF"):
        convert(tmp_path / "short.gguf", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    assert {"llama", "gemma3", "qwen2"} <= set(architectures())


def test_a_cache_that_cannot_be_written_is_one_line(file, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PHASELENS_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot be written.*PHASELENS_CACHE"):
        load(file)


def test_other_folders_say_nothing_of_an_origin(tmp_path):
    assert origin(tmp_path) is None
    (tmp_path / "dequantised.json").write_text(json.dumps([]))
    assert origin(tmp_path) is None
