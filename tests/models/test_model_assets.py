import pytest
import torch

from phaselens.models import load, record, require_tokenizer, run

pytestmark = pytest.mark.assets

EXPECTED = {
    "stories260K": ("llama", 5, 64, 512),
    "babyllama-105": ("llama", 5, 128, 105),
    "gpt2-slm4096": ("gpt2", 4, 64, 54),
    "gpt2-induction-batson": ("gpt2", 2, 64, 27),
    "rwkv4-660k": ("rwkv", 4, 128, 256),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_trained_models_pass_and_say_what_they_should(shared, name):
    model = load(shared / "models" / name / "hf")
    assert (model.family, model.n_layers, model.d_model, model.vocab_size) == EXPECTED[name]
    assert model.name == name and model.proof.passed
    assert model.facts.pads_left is (model.family != "rwkv")
    text = "Once upon a time" if "llama" in model.family else "abcab"
    ids = torch.tensor([require_tokenizer(model)(text, add_special_tokens=False)["input_ids"]])
    with record(model) as taps:
        own = run(model.network, ids).logits
    lens = model.readout.logits(taps.states[model.n_layers])
    assert (lens - own).abs().max() <= 1e-4
    wrong = model.readout.logits(taps.states[model.n_layers], norm=False)
    assert (wrong - own).abs().max() > 1e-2


def test_the_induction_model_predicts_by_its_last_layers(shared):
    model = load(shared / "models" / "gpt2-induction-batson" / "hf")
    ids = torch.tensor([require_tokenizer(model)("qkzmqkzmqk", add_special_tokens=False)["input_ids"]])
    with record(model) as taps:
        run(model.network, ids)
    hits = [
        float((model.readout.logits(taps.states[k]).argmax(-1)[:, 5:-1] == ids[:, 6:]).float().mean()) for k in range(3)
    ]
    assert hits[2] == 1.0 and hits[0] < 1.0
