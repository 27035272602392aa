"""What begins where the proof does not look is seen while the network runs."""

import pytest
import torch
from tests.capture.stand_ins import Keep
from tests.capture.zoo import network

from phaselens.capture import live, replay
from phaselens.errors import ModelRefused
from phaselens.models import load
from phaselens.trace.transcripts import from_pairs

PAIRS = [([20] * 3, [30, 31, 32, 33]), ([10, 11], list(range(12, 40)))]


def changed(change):
    """A proved model whose logits [batch, time, vocab] go through `change(logits, first position)`."""
    plain = network("llama")
    own = plain.forward

    def forward(input_ids, attention_mask=None, position_ids=None, past_key_values=None, use_cache=None, **rest):
        out = own(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        place = torch.arange(input_ids.shape[1])[None] if position_ids is None else position_ids
        out.logits = change(out.logits, place[..., None])
        return out

    plain.forward = forward
    return load(plain)


LATE = {
    "a temperature from position 8 on": lambda logits, at: torch.where(at >= 8, logits / 1.05, logits),
    "a clamp from position 8 on": lambda logits, at: torch.where(at >= 8, logits.clamp(max=0.5), logits),
    "a floor from position 8 on": lambda logits, at: torch.where(at >= 8, logits.clamp(min=-0.5), logits),
    "a ban of one token": lambda logits, at: torch.where(at >= 8, logits - 1e9 * (logits > 0.5), logits),
}


@pytest.mark.parametrize("name", LATE)
@pytest.mark.parametrize("chunk", [256, 4])
def test_what_begins_after_the_proof_fails_the_run_with_both_numbers(name, chunk):
    m = changed(LATE[name])
    assert m.proof.passed, "the proof's 8 tokens cannot see it"
    with pytest.raises(ModelRefused, match=r"own logit of token \d+ is [-\d.e+]+, the lens at the last layer gives"):
        replay(m, from_pairs(PAIRS), Keep(), chunk=chunk)


@pytest.mark.parametrize("name", LATE)
def test_it_fails_while_generating_too(name):
    with pytest.raises(ModelRefused, match="own logit of token"):
        live(changed(LATE[name]), [list(range(10, 15)), list(range(20, 38))], Keep(), max_new_tokens=20)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_a_network_that_is_what_the_proof_saw_passes(family, dtype):
    m, kept = load(network(family).to(dtype)), Keep()
    replay(m, from_pairs(PAIRS), kept, layers=(1,), chunk=5)
    assert len(kept.labels()) == 32
    live(m, [[20, 21], list(range(30, 45))], Keep(), max_new_tokens=20, layers=(1,))
