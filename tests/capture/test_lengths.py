"""Where rotary factors depend on the length of the whole sequence, a run is one pass, as the library makes it."""

import pytest
import torch
from tests.capture.stand_ins import Keep
from transformers import LlamaConfig, LlamaForCausalLM, Phi3Config, Phi3ForCausalLM

from phaselens.capture import generate, replay
from phaselens.models import load
from phaselens.models.families import facts_in_words
from phaselens.trace.transcripts import from_pairs

SWITCH = 40
SMALL = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
    "max_position_embeddings": 256,
}


def made(network):
    torch.manual_seed(0)
    for p in network.parameters():
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.15)
    return network.eval()


@pytest.fixture(scope="module")
def m():
    rope = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
    config = Phi3Config(**SMALL, original_max_position_embeddings=SWITCH, rope_parameters=rope)
    return load(made(Phi3ForCausalLM(config)))


def run_of(n_prompt, n, seed):
    ids = torch.randint(3, 59, (n_prompt + n,), generator=torch.Generator().manual_seed(seed)).tolist()
    return ids[:n_prompt], ids[n_prompt:]


def test_the_proof_crosses_the_length_that_the_configuration_names(m):
    row = next(row for row in m.proof.rows if row.name == "lengths")
    assert m.facts.switch == SWITCH and not row.passed and not row.needed and row.value > 1e-2
    assert any("beyond 40 positions" in words for words in facts_in_words(m.facts))
    rope = {
        "rope_type": "llama3",
        "rope_theta": 1e4,
        "factor": 8.0,
        "original_max_position_embeddings": SWITCH,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    steady = load(made(LlamaForCausalLM(LlamaConfig(**SMALL, rope_parameters=rope))))
    assert steady.facts.switch is None, "its factors are the same at any length"


@pytest.mark.parametrize("chunk", [7, 32, 256])
@pytest.mark.parametrize("batch_size", [1, None])
def test_replay_is_one_pass_of_the_library_at_any_length(m, chunk, batch_size):
    pairs = [run_of(10, 12, 1), run_of(30, 10, 2), run_of(30, 11, 3), run_of(30, 12, 4), run_of(60, 9, 5)]
    kept = Keep()
    replay(m, from_pairs(pairs), kept, chunk=chunk, batch_size=batch_size)
    for number, (prompt, said) in enumerate(pairs):
        with torch.no_grad():
            out = m.network.model(torch.tensor([[*prompt, *said][:-1]]), output_hidden_states=True)
        for s in range(len(said)):
            theirs = torch.stack([h[0, len(prompt) - 1 + s] for h in out.hidden_states[:-1]])
            torch.testing.assert_close(kept.state(number, s)[:-1], theirs, atol=2e-5, rtol=1e-4)


def test_a_run_is_the_same_in_any_batch_whatever_lengths_stand_beside_it(m):
    prompts = [run_of(n, 1, n)[0] for n in (20, 26, 34, 38, 39, 45, 50)]
    together = generate(m, prompts, max_new_tokens=12)
    for prompt, t in zip(prompts, together, strict=True):
        assert generate(m, [prompt], max_new_tokens=12).runs[0].completion_ids == t.completion_ids


def test_a_network_whose_own_preparation_takes_no_more_arguments_generates():
    network = made(LlamaForCausalLM(LlamaConfig(**SMALL)))
    wanted = generate(load(network), [[5, 6, 7]], max_new_tokens=6).runs[0].completion_ids

    class Own(LlamaForCausalLM):
        def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None):
            return {"input_ids": input_ids, "attention_mask": attention_mask}

    network.__class__ = Own
    assert generate(load(network), [[5, 6, 7]], max_new_tokens=6).runs[0].completion_ids == wanted
