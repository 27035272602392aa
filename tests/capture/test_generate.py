import numpy as np
import pytest
import torch
from tests.capture.stand_ins import Keep
from tests.capture.zoo import network

from phaselens.batteries import Prompt
from phaselens.capture import GREEDY, Sampling, generate, live
from phaselens.capture.generate import Decoding, decode
from phaselens.capture.prompts import batches, jobs
from phaselens.errors import InputError, PromptError, TokenizerError
from phaselens.models import load


@pytest.fixture(scope="module")
def m():
    return load(network("llama"))


@pytest.fixture(scope="module")
def bounded():
    return load(network("gpt2", n_positions=16))


def test_results_are_in_input_order_with_labels(m):
    prompts = [
        Prompt("long", "", "b", "42", tuple(range(5, 15)), aliases=("forty-two",), tag="2 steps"),
        Prompt("short", "", "a", None, (5,)),
    ]
    said = generate(m, prompts, max_new_tokens=3, samples=2, seed=9, batch_size=1)
    assert [(t.run, t.prompt_id, t.sample) for t in said] == [
        (0, "long", 0),
        (1, "long", 1),
        (2, "short", 0),
        (3, "short", 1),
    ]
    assert said[0].category == "b" and said[0].answer == "42" and said[0].seed == 9
    assert said[0].tag == "2 steps" and said[0].aliases == ("forty-two",) and said[2].tag == ""
    assert said[0].arm == "t0.7" and said[0].finish == "length" and said[0].n_generated == 3
    assert said.model == m.fingerprint and said.sampling["max_new_tokens"] == 3


def test_seeds_and_samples_differ_and_repeat(m):
    one, same = (generate(m, [[5, 6]], max_new_tokens=20, samples=2, seed=1) for _ in range(2))
    other = generate(m, [[5, 6]], max_new_tokens=20, samples=2, seed=2)
    assert one == same
    assert len({t.completion_ids for t in (*one, *other)}) == 4


def test_more_tokens_only_lengthen_a_run(m):
    short, long = (generate(m, [[5, 6], [7]], max_new_tokens=n, seed=1) for n in (6, 12))
    assert [t.completion_ids[:6] for t in long] == [t.completion_ids for t in short]


def test_global_random_state_is_neither_read_nor_moved(m):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one = generate(m, [[5, 6]], max_new_tokens=5)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(4)
    assert one == generate(m, [[5, 6]], max_new_tokens=5)


def test_end_of_text_ends_a_run_or_is_suppressed():
    m = load(network("llama", eos_token_id=7))
    head = m.network.lm_head.weight
    with torch.no_grad():
        head[7] = 3 * head.abs().max() * torch.ones_like(head[7])
    prompts = [[i, i + 1] for i in range(20, 40)]
    free = generate(m, prompts, max_new_tokens=30, sampling=Sampling(1.0, suppress_eos=False))
    ended = [t for t in free if t.finish == "eos"]
    assert ended and all(t.completion_ids[-1] == 7 and 7 not in t.completion_ids[:-1] for t in ended)
    assert any(t.n_generated < 30 for t in ended)
    held = generate(m, prompts, max_new_tokens=30, sampling=Sampling(1.0))
    assert all(t.finish == "length" and t.n_generated == 30 and 7 not in t.completion_ids for t in held)
    alone = generate(m, [ended[0].prompt_ids], max_new_tokens=30, sampling=Sampling(1.0, suppress_eos=False))
    assert alone[0].completion_ids == ended[0].completion_ids


def test_settings_of_the_network_do_not_leak_in_and_are_put_back(m):
    plain = generate(m, [[5, 6]], max_new_tokens=8, sampling=GREEDY)
    own = m.network.generation_config
    own.repetition_penalty, own.eos_token_id = 5.0, plain[0].completion_ids[0]
    try:
        assert generate(m, [[5, 6]], max_new_tokens=8, sampling=GREEDY) == plain
        assert m.network.generation_config is own
        with pytest.raises(ZeroDivisionError):
            generate(m, [[5, 6]], max_new_tokens=8, on_step=lambda step, rows: 1 / 0)
        assert m.network.generation_config is own
    finally:
        own.repetition_penalty, own.eos_token_id = None, None


def test_a_callback_sees_every_step_and_can_stop_runs(m):
    seen = []

    def on_step(step, rows):
        seen.append({k: v.tolist() for k, v in rows["steps"].items()})
        return [0] if step == 2 else None

    said = generate(m, [[5, 6], [7]], max_new_tokens=5, on_step=on_step)
    assert [t.n_generated for t in said] == [3, 5] and [t.finish for t in said] == ["stopped", "length"]
    assert seen[0]["position"] in ([1, 0], [0, 1]) and seen[3]["run"] == [1]
    whole = generate(m, [[5, 6], [7]], max_new_tokens=5)
    assert [t.completion_ids for t in said] == [whole[0].completion_ids[:3], whole[1].completion_ids]


def test_true_stops_everything(m):
    said = generate(m, [[5], [6], [7]], max_new_tokens=9, batch_size=2, on_step=lambda step, rows: step == 1)
    assert [(t.run, t.n_generated, t.finish) for t in said] == [(0, 2, "stopped"), (1, 2, "stopped")]


def test_network_without_the_librarys_loop_runs_in_a_plain_one(m, monkeypatch):
    prompts = [[5, 6, 7], [8]]
    own = generate(m, prompts, max_new_tokens=9)
    monkeypatch.setattr(type(m.network), "can_generate", classmethod(lambda cls: False))
    assert generate(m, prompts, max_new_tokens=9) == own
    kept = Keep()
    assert live(m, prompts, kept, max_new_tokens=9) == own and len(kept.states) == 18


def test_progress_counts_tokens(m):
    calls = []
    generate(
        m, [[5], [6], [7]], max_new_tokens=4, batch_size=2, progress=lambda done, total: calls.append((done, total))
    )
    done = [n for n, _ in calls]
    assert {8, 12} <= set(done) and done == sorted(done) and {total for _, total in calls} == {12}


def test_batches_waste_little_padding():
    made = list(batches([3, 1, 2, 1, 3], lambda n: n, 2))
    assert made == [[1, 1], [2, 3], [3]]
    assert list(batches([3, 1, 2, 1, 3], lambda n: n, 2, alike=lambda n: n)) == [[1, 1], [2], [3, 3]]
    with pytest.raises(InputError, match="batch_size is 0"):
        list(batches([1], lambda n: n, 0))


def test_numpy_and_tensor_prompts_are_token_ids(m):
    lists, arrays, tensors = ([kind([5, 6])] for kind in (list, np.array, torch.tensor))
    assert generate(m, lists, max_new_tokens=3) == generate(m, arrays, max_new_tokens=3)
    assert generate(m, lists, max_new_tokens=3) == generate(m, tensors, max_new_tokens=3)


@pytest.mark.parametrize(
    ("prompts", "error", "says"),
    [
        ([], InputError, "no prompts"),
        ("once", InputError, "list of prompts"),
        ([""], PromptError, "prompt 0 is empty"),
        ([[5], []], PromptError, "prompt 1 has no tokens"),
        ([[5, 97]], PromptError, "token id 97 is outside the vocabulary .* 0 to 96"),
        ([[5, -1]], PromptError, "token id -1"),
        ([["a"]], PromptError, "whole numbers"),
        ([5], PromptError, "a int"),
        (["text"], TokenizerError, "no tokenizer"),
    ],
)
def test_prompts_that_cannot_be_run(m, prompts, error, says):
    with pytest.raises(error, match=says):
        generate(m, prompts, max_new_tokens=3)


@pytest.mark.parametrize("wrong", [{"max_new_tokens": 0}, {"samples": 0}])
def test_counts_below_one(m, wrong):
    with pytest.raises(InputError, match="wanted at least 1"):
        generate(m, [[5]], **wrong)


def test_context_is_filled_to_its_last_position_and_not_beyond(bounded):
    said = generate(bounded, [[5] * 10], max_new_tokens=7)
    assert said[0].n_generated == 7
    with pytest.raises(
        PromptError, match=r"10 prompt tokens and max_new_tokens = 8 need 17 positions.* 16\. Lower max_new_tokens to 7"
    ):
        generate(bounded, [[5] * 10], max_new_tokens=8)
    with pytest.raises(PromptError, match="Shorten the prompt"):
        generate(bounded, [[5] * 30], max_new_tokens=1)


def test_stepper_stops_the_loop_early(m):
    work = jobs(m, [[5, 6]], 1, 50)
    stepper = decode(m, work, Decoding(50, GREEDY), lambda stepper, step, tokens: stepper.stop(step == 3))
    assert len(stepper.tokens) == 4
