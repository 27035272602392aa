"""The same states whatever the way they were reached: batch or alone, replay or live, one pass or pieces."""

import numpy as np
import pytest
import torch
from tests.capture.stand_ins import Keep
from tests.capture.zoo import FAMILIES, SMALL_VOCABULARY, network
from transformers import GenerationConfig

from phaselens.capture import GREEDY, Sampling, generate, live, replay
from phaselens.models import load, record, run

LENGTHS = (1, 5, 9, 3, 12)


def prompts(lengths=LENGTHS, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.integers(3, SMALL_VOCABULARY, size=n).tolist() for n in lengths]


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(family):
        if family not in made:
            made[family] = load(network(family))
        return made[family]

    return get


@pytest.mark.parametrize("family", FAMILIES)
def test_batch_of_several_lengths_equals_one_by_one(models, family):
    m = models(family)
    together = generate(m, prompts(), max_new_tokens=10, sampling=GREEDY)
    alone = [generate(m, [p], max_new_tokens=10, sampling=GREEDY)[0] for p in prompts()]
    assert [t.completion_ids for t in together] == [t.completion_ids for t in alone]
    kept, kept_alone = Keep(), Keep()
    live(m, prompts(), kept, max_new_tokens=10, sampling=GREEDY)
    for number, prompt in enumerate(prompts()):
        live(m, [prompt], kept_alone.as_run(number), max_new_tokens=10, sampling=GREEDY)
    assert kept.furthest(kept_alone) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_live_equals_replay_equals_replay_in_other_pieces(models, family):
    m = models(family)
    lived, replayed, alone = Keep(), Keep(), Keep()
    said = live(m, prompts(), lived, max_new_tokens=14, samples=2)
    replay(m, said, replayed, chunk=5)
    replay(m, said, alone, batch_size=1)
    assert lived.labels() == replayed.labels() == alone.labels()
    assert len(lived.labels()) == len(LENGTHS) * 2 * 14
    assert replayed.furthest(lived) < 1e-4
    assert replayed.furthest(alone) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_networks_own_greedy_loop(models, family):
    m = models(family)
    for prompt in prompts((5, 2)):
        own = m.network.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            generation_config=GenerationConfig(max_new_tokens=8, do_sample=False, eos_token_id=None),
        )
        ours = generate(m, [prompt], max_new_tokens=8, sampling=GREEDY)[0]
        # End of text is suppressed here and not there, so they agree up to the first place where it would come.
        theirs = tuple(own[0, len(prompt) :].tolist())
        until = next((i for i, token in enumerate(theirs) if token in m.eos_ids), len(theirs))
        assert ours.completion_ids[:until] == theirs[:until]


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_one_plain_pass(models, family):
    m = models(family)
    said = generate(m, prompts((4,)), max_new_tokens=9)
    kept = Keep()
    replay(m, said, kept, chunk=3)
    fed = torch.tensor([said[0].fed])
    with record(m) as taps:
        logits = run(m.network, fed, mask=torch.ones_like(fed)).logits
        plain = taps.stacked()[:, 0].float()
    for step in range(9):
        assert torch.allclose(kept.state(0, step), plain[:, 3 + step], rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
    final = m.readout.logits(kept.state(0, 8)[-1])
    assert torch.allclose(final, logits[0, -1, : m.vocab_size], atol=1e-3)


@pytest.mark.parametrize("family", ("llama", "gpt2", "bloom", "mamba"))
def test_sampled_runs_do_not_depend_on_the_batch(models, family):
    m = models(family)
    settings = {"max_new_tokens": 12, "samples": 3, "seed": 5, "sampling": Sampling(temperature=1.0, top_p=0.9)}
    whole = generate(m, prompts(), **settings)
    cut = generate(m, prompts(), **settings, batch_size=2)
    backwards = generate(m, prompts()[::-1], **settings)
    assert [t.completion_ids for t in whole] == [t.completion_ids for t in cut]
    by_prompt = {(t.prompt_ids, t.sample): t.completion_ids for t in backwards}
    assert all(by_prompt[t.prompt_ids, t.sample] == t.completion_ids for t in whole)
