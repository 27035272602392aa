import numpy as np
import pytest
import torch
from tests.capture.stand_ins import Keep
from tests.capture.zoo import network

from phaselens.capture import generate, live, replay
from phaselens.capture.cache import RoomyLayer, roomy_cache
from phaselens.errors import InputError, PromptError
from phaselens.models import load, run
from phaselens.trace.transcripts import Transcripts, from_pairs


@pytest.fixture(scope="module")
def m():
    return load(network("llama"))


PAIRS = [([20] * 3, [30, 31, 32, 33]), ([40], [50, 51]), ([60] * 7, [70]), ([10] * 2, [11, 12, 13, 14, 15, 16])]


@pytest.mark.parametrize("settings", [{}, {"chunk": 1}, {"chunk": 3}, {"batch_size": 1}, {"batch_size": 3, "chunk": 2}])
def test_every_row_carries_its_own_label(m, settings):
    kept = Keep()
    replay(m, from_pairs(PAIRS), kept, **settings)
    wanted = {
        (number, s): (len(prompt) - 1 + s, token)
        for number, (prompt, completion) in enumerate(PAIRS)
        for s, token in enumerate(completion)
    }
    assert kept.labels() == wanted
    # Layer 0 of a rotary network is the embedding of the token at that position: the state is that of its own label.
    embedding = m.network.get_input_embeddings().weight
    for number, (prompt, completion) in enumerate(PAIRS):
        sequence = [*prompt, *completion]
        for s in range(len(completion)):
            at_position = sequence[len(prompt) - 1 + s]
            assert torch.equal(kept.state(number, s)[0], embedding[at_position])


def test_live_states_carry_their_own_label_too(m):
    kept = Keep()
    said = live(m, [p for p, _ in PAIRS], kept, max_new_tokens=20)
    embedding = m.network.get_input_embeddings().weight
    for t in said:
        for s in range(20):
            position, token = kept.labels()[t.run, s]
            assert position == t.n_prompt - 1 + s and token == t.completion_ids[s]
            assert torch.equal(kept.state(t.run, s)[0], embedding[(t.prompt_ids + t.completion_ids)[position]])


def test_a_prompt_of_one_token_starts_at_position_0(m):
    kept = Keep()
    replay(m, from_pairs([([5], [6, 7])]), kept)
    assert kept.labels() == {(0, 0): (0, 6), (0, 1): (1, 7)}


def test_layers_asked_for_and_no_others(m):
    kept, whole = Keep(), Keep()
    replay(m, from_pairs(PAIRS), kept, layers=(1, 3))
    replay(m, from_pairs(PAIRS), whole)
    assert torch.equal(kept.state(0, 0), whole.state(0, 0)[[1, 3]])
    with pytest.raises(InputError, match="layers"):
        replay(m, from_pairs(PAIRS), kept, layers=(9,))


class Fails:
    def __init__(self, after):
        self.left = after

    def update(self, tile):
        self.left -= 1
        if self.left < 0:
            raise ZeroDivisionError

    def rows(self):
        return {}, {}


def test_hooks_are_gone_afterwards_also_after_an_exception(m):
    ids = torch.tensor([[5, 6, 7]])
    before = run(m.network, ids).logits
    hooks = [(len(b._forward_hooks), len(b._forward_pre_hooks)) for b in m.blocks]
    said = generate(m, [[5, 6]], max_new_tokens=4)
    replay(m, said, Keep())
    for attempt in (
        lambda: replay(m, said, Fails(1), chunk=2),
        lambda: live(m, [[5, 6]], Fails(0), max_new_tokens=4),
        lambda: live(m, [[5, 6]], Keep(), max_new_tokens=4, on_step=lambda step, rows: 1 / 0),
    ):
        with pytest.raises(ZeroDivisionError):
            attempt()
        assert [(len(b._forward_hooks), len(b._forward_pre_hooks)) for b in m.blocks] == hooks
    assert torch.equal(run(m.network, ids).logits, before)


def test_watching_changes_no_token(m):
    prompts = [p for p, _ in PAIRS]
    assert live(m, prompts, Keep(), max_new_tokens=12) == generate(m, prompts, max_new_tokens=12)


def test_stopped_runs_have_the_steps_they_have(m):
    kept = Keep()
    said = live(m, [[5, 6], [7], [8]], kept, max_new_tokens=9, on_step=lambda step, rows: {1: [1], 3: [0, 2]}.get(step))
    assert [t.n_generated for t in said] == [4, 2, 4]
    assert sorted(kept.states) == [(t.run, s) for t in said for s in range(t.n_generated)]


def test_hidden_states_are_kept_on_request(m):
    kept, hidden = Keep(), {}
    replay(m, from_pairs(PAIRS), kept, chunk=2, keep_hidden=hidden)
    assert {k: v.shape for k, v in hidden.items()} == {f"run{i}": (len(c), 4, 32) for i, (_, c) in enumerate(PAIRS)}
    for (number, s), (_, state) in kept.states.items():
        assert np.array_equal(hidden[f"run{number}"][s], state.numpy())


def test_rows_are_drained_after_every_chunk(m):
    drained = []
    replay(
        m, from_pairs([([5], [6] * 9)]), Keep(), chunk=4, sink=lambda steps, layers: drained.append(len(steps["run"]))
    )
    assert drained == [4, 8, 9]


def test_progress_counts_generated_tokens(m):
    calls = []
    replay(m, from_pairs(PAIRS), Keep(), batch_size=2, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (13, 13) and len(calls) == 2


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        ([([5], [97])], "run 0, completion: token id 97"),
        ([([5], [6]), ([400], [6])], "run 1, prompt: token id 400"),
        ([([5] * 250, [6] * 8)], "run 0: 250 prompt tokens .* need 257 positions"),
    ],
)
def test_transcripts_that_cannot_be_run(m, pairs, says):
    with pytest.raises(PromptError, match=says):
        replay(m, from_pairs(pairs), Keep())


def test_nothing_to_replay(m):
    with pytest.raises(InputError, match="no transcripts"):
        replay(m, Transcripts(()), Keep())
    with pytest.raises(InputError, match="chunk is 0"):
        replay(m, from_pairs(PAIRS), Keep(), chunk=0)


def test_roomy_cache_gives_the_states_of_the_librarys_own(m):
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    cache = roomy_cache(m, 4)["past_key_values"]
    assert all(type(layer) is RoomyLayer for layer in cache.layers)
    own = None
    for start, stop in ((0, 3), (3, 4), (4, 6)):  # the last piece is beyond its room
        mask = torch.ones_like(ids[:, :stop])
        ours = run(m.network, ids[:, start:stop], mask=mask, cache=cache, use_cache=True)
        theirs = run(m.network, ids[:, start:stop], mask=mask, cache=own, use_cache=True)
        own = theirs.cache
        assert torch.equal(ours.logits, theirs.logits)
        assert torch.equal(cache.layers[0].keys, own.layers[0].keys)
    sliding = load(network("gemma2"))
    kinds = {type(layer).__name__ for layer in roomy_cache(sliding, 9)["past_key_values"].layers}
    assert kinds == {"RoomyLayer", "DynamicSlidingWindowLayer"}
    assert roomy_cache(load(network("mamba")), 9) == {}
