from dataclasses import replace

import pytest
import torch
from tools.tiny import VOCAB, build_tiny
from torch import nn

from phaselens.errors import ModelRefused
from phaselens.models import load, prove, run

ROWS = [
    "finite",
    "chain",
    "raw",
    "lens",
    "alone",
    "loud_lens",
    "hooks_on",
    "interventions",
    "edited_lens",
    "causal",
    "hooks_gone",
]
INFORMATIVE = ["decoding", "cached", "left_padding"]


@pytest.fixture(params=[False, True], ids=["whole", "few columns"])
def narrow(request, monkeypatch):
    """The proof as it is for a small vocabulary, and with a few columns as for a large one."""
    if request.param:
        monkeypatch.setattr("phaselens.models.narrow_head.WHOLE", 8)
        monkeypatch.setattr("phaselens.models.narrow_head.COLUMNS", 24)
    return request.param


def own_states(network, blocks, ids):
    """The plainest way to the state after the last block: one hook, none of our code."""
    kept = []
    handle = blocks[-1].register_forward_hook(
        lambda module, args, out: kept.append(out if isinstance(out, torch.Tensor) else out[0])
    )
    with torch.no_grad():
        logits = network(ids).logits
    handle.remove()
    return kept[0], logits


@pytest.mark.parametrize(
    ("family", "by_hand"),
    [
        ("gpt2", lambda n, h: n.lm_head(n.transformer.ln_f(h))),
        ("opt", lambda n, h: n.lm_head(n.model.decoder.final_layer_norm(h))),
        ("gpt_neox", lambda n, h: n.lm_head(n.gpt_neox.final_layer_norm(h))),
        ("llama", lambda n, h: n.lm_head(n.model.norm(h))),
        ("gemma2", lambda n, h: 30.0 * torch.tanh(n.lm_head(n.model.norm(h)) / 30.0)),
        ("cohere", lambda n, h: 0.0625 * n.lm_head(n.model.norm(h))),
        ("granite", lambda n, h: n.lm_head(n.model.norm(h)) / 3.0),
        ("bert", lambda n, h: n.cls(h)),
        ("minicpm3", lambda n, h: n.lm_head(n.model.norm(h) / (64 / 256))),
    ],
)
def test_the_readout_is_what_the_family_does(family, by_hand):
    network = build_tiny(family, 5)
    model = load(network)
    ids = torch.randint(3, VOCAB, (2, 11), generator=torch.Generator().manual_seed(9))
    last, logits = own_states(network, model.blocks, ids)
    with torch.no_grad():
        torch.testing.assert_close(by_hand(network, last), logits, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.readout.logits(last), logits, atol=1e-4, rtol=1e-5)


def test_rows_of_the_proof():
    proof = load(build_tiny("qwen3", 0)).proof
    assert [row.name for row in proof.rows] == ROWS + INFORMATIVE
    assert all(row.passed for row in proof.rows) and proof.reason == ""
    assert proof.facts == {"in_place": False, "decodes": True, "chunks": True, "pads_left": True, "switch": None}


def test_a_wrong_adapter_fails_the_row_that_says_so(narrow):
    model = load(build_tiny("llama", 0))
    right = model.readout

    def failing(**changes):
        return [row.name for row in prove(replace(model, **changes)).rows if row.needed and not row.passed]

    assert "lens" in failing(readout=replace(right, norm=lambda h: h))
    assert "lens" in failing(readout=replace(right, scale=1.01))
    assert failing(readout=replace(right, cap=1e4)) == []
    assert "loud_lens" in failing(readout=replace(right, cap=300.0))
    assert "chain" in failing(blocks=(model.blocks[0], model.blocks[2], model.blocks[1], model.blocks[3]))
    assert "lens" in failing(blocks=model.blocks[:3], n_layers=3)
    assert failing() == []


def test_a_cap_far_above_the_logits_is_still_found(narrow):
    network = build_tiny("gemma2", 0)
    with torch.no_grad():
        network.lm_head.weight.mul_(1e-3)
    model = load(network)
    assert model.readout.cap == 30.0 and "final_logit_softcapping" in " ".join(model.facts.notes)


def test_an_undeclared_cap_is_refused_and_can_be_helped(narrow):
    class Capped(nn.Module):
        def forward(self, logits):
            return 5.0 * torch.tanh(logits / 5.0)

    network = build_tiny("llama", 0)
    plain, cap = network.forward, Capped()

    def forward(input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        out = plain(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        out.logits = cap(out.logits)
        return out

    network.forward = forward
    with pytest.raises(ModelRefused, match=r"loud_lens failed.*cap = 30\.0"):
        load(network)
    assert load(network, overrides={"cap": 5.0}).proof.passed


def test_a_bias_outside_the_head_is_found(narrow):
    network = build_tiny("gpt2", 0)
    plain = network.forward
    extra = torch.randn(VOCAB, generator=torch.Generator().manual_seed(3))

    def forward(input_ids=None, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None):
        out = plain(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        out.logits = out.logits + extra
        return out

    network.forward = forward
    model = load(network)
    assert model.facts.outside_bias
    torch.testing.assert_close(model.readout.bias, extra)


def test_encoders_are_refused_as_not_causal():
    network = build_tiny("bert", 0)
    network.config.is_decoder = False
    for module in network.modules():
        for name in ("is_decoder", "is_causal"):
            if hasattr(module, name):
                setattr(module, name, False)
    with pytest.raises(ModelRefused, match="later tokens change earlier logits.*is_decoder = true"):
        load(network)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("xlnet", "later tokens change earlier logits"),
        ("hrm_text", "not once each"),
        ("inkling2_text", "no way found from the last block's output to the head's input"),
        ("musicgen", "token ids alone fails"),
    ],
)
def test_families_without_one_residual_state_are_refused_with_the_reason(family, said):
    with pytest.raises(ModelRefused, match=said):
        load(build_tiny(family, 0))


def test_rwkv_layers_share_one_scale():
    network = build_tiny("rwkv", 0)
    network.config.rescale_every = 2
    ids = torch.randint(3, VOCAB, (2, 6), generator=torch.Generator().manual_seed(9))
    before = run(network, ids).logits
    assert network.rwkv.layers_are_rescaled
    model = load(network)
    assert network.config.rescale_every == 0 and "rescaling" in model.facts.notes[0]
    torch.testing.assert_close(run(network, ids).logits, before, atol=1e-3, rtol=1e-3)
    assert model.facts.pads_left is False and model.facts.chunks is False


@pytest.mark.parametrize(("family", "fact"), [("bart", "pads_left"), ("mamba", "chunks"), ("openai-gpt", "decodes")])
def test_what_a_family_cannot_do_is_a_fact(family, fact):
    assert getattr(load(build_tiny(family, 0)).facts, fact) is False


class Mixing(nn.Module):
    """A final norm that mixes positions, where it sees a whole sequence."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, hidden):
        out = self.norm(hidden)
        if out.dim() < 3:
            return out
        return out * 0.8 + 0.2 * torch.cat([torch.zeros_like(out[:, :1]), out[:, :-1]], 1)


def test_a_norm_that_mixes_positions_is_refused(narrow):
    network = build_tiny("llama", 0)
    network.model.norm = Mixing(network.model.norm)
    with pytest.raises(ModelRefused, match="alone failed: what the head reads of a state"):
        load(network)


def test_few_columns_are_enough_and_leave_the_head_as_it_was(monkeypatch):
    monkeypatch.setattr("phaselens.models.narrow_head.WHOLE", 8)
    monkeypatch.setattr("phaselens.models.narrow_head.COLUMNS", 24)
    network, widths = build_tiny("llama", 0), []
    handle = network.lm_head.register_forward_hook(lambda module, args, out: widths.append(out.shape[-1]))
    model = load(network)
    handle.remove()
    assert widths.count(VOCAB) == 2 and set(widths) == {VOCAB, 24} and len(widths) < 36
    assert "forward" not in vars(network.lm_head) and model.readout.weight.shape[0] == VOCAB
    biased = build_tiny("gptj", 0)
    assert biased.lm_head.bias is not None and load(biased).proof.passed
