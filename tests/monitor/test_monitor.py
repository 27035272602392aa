import threading
import warnings

import numpy as np
import pytest
import torch
from tests.tiny_panel import save_model
from transformers import TextIteratorStreamer

import phaselens
from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import InputError, StateError, UnknownNameError
from phaselens.monitor import Card, Monitor, MonitorWarning, Policy
from phaselens.monitor.meters import default_lens_layers
from phaselens.observing.recording import observe

FOUR = dict(max_new_tokens=24, do_sample=False, min_new_tokens=24)
DRAWN = dict(max_new_tokens=24, do_sample=True, min_new_tokens=24)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return phaselens.load(save_model(tmp_path_factory.mktemp("llama"), "llama"))


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def either(request, tmp_path_factory):
    return phaselens.load(save_model(tmp_path_factory.mktemp("any"), request.param, seed=2))


def encode(model, *texts):
    model.tokenizer.padding_side = "left"
    return model.tokenizer(list(texts), return_tensors="pt", padding=True)


def always(action, **more):
    return Policy(action, rules=(Rule(Score("entropy", None, "value"), -1.0, after=4),), **more)


def furthest(one, other, skip=()):
    worst = 0.0
    for table in ("steps", "layers"):
        a, b = one.numpy(table), other.numpy(table)
        for name in set(a) - set(skip):
            if a[name].dtype == np.float32:
                x, y = a[name].astype(float), b[name].astype(float)
                assert np.array_equal(np.isnan(x), np.isnan(y)), name
                worst = max(worst, float(np.nanmax(np.abs(x - y) / np.maximum(1.0, np.abs(y)), initial=0.0)))
            else:
                assert np.array_equal(a[name], b[name]), name
    return worst


@pytest.mark.parametrize("how", [FOUR, DRAWN], ids=["greedy", "sampling"])
def test_numbers_are_those_of_observe(either, how):
    given = encode(either, "a b c", "d e f g h", "k")
    torch.manual_seed(0)
    bare = either.network.generate(**given, **how)
    with Monitor(either, record=True) as m:
        torch.manual_seed(0)
        watched = either.network.generate(**given, **how)
    assert torch.equal(bare, watched)
    said, trace = m.trace()
    for run, row in zip(said, watched[:, given["input_ids"].shape[1] :], strict=True):
        assert list(run.completion_ids) == row[: run.n_generated].tolist()
    names = {c.name for c in trace.columns("steps")} | {c.name for c in trace.columns("layers")}
    offline = observe(either, said, observables=[n for n in m.columns if n in names])
    beyond = {c.name for c in offline.columns("layers")} - names
    live = {n for t in ("steps", "layers") for n in trace.numpy(t)}
    for table in ("steps", "layers"):
        a, b = trace.numpy(table), offline.numpy(table)
        for name in set(a) & live - beyond:
            if a[name].dtype != np.float32:
                assert np.array_equal(a[name], b[name]), name
                continue
            assert np.array_equal(np.isnan(a[name]), np.isnan(b[name])), name
            gap = np.nanmax(np.abs(a[name] - b[name]) / np.maximum(1, np.abs(b[name])), initial=0)
            assert gap < 2e-4, (name, gap)
    assert {"turning_angle", "entropy", "depth_step"} <= names and "turbulence" not in names


def test_lens_at_some_layers_is_that_of_observe_at_those_layers(model):
    given = encode(model, "a b c")
    with Monitor(model, lens_layers=(2, 4), layers=(2, 4), record=True) as m:
        model.network.generate(**given, **FOUR)
    said, trace = m.trace()
    assert furthest(trace, observe(model, said, layers=(2, 4))) < 2e-4
    with Monitor(model, lens_layers=2, record=True) as m:
        model.network.generate(**given, **FOUR)
    wide = m.trace()[1].numpy("layers")
    known = ~np.isnan(wide["turbulence"]).reshape(-1, 5)
    assert known[:, 3].all() and not known[:, [0, 1, 2, 4]].any()
    assert m.columns["turbulence"] == (3, 4) and m.columns["commit_layer"] is None
    with pytest.raises(InputError, match="whole run"):
        Monitor(model, observables=["effective_rank"])


def test_four_lens_layers_are_two_pairs_of_neighbours():
    assert default_lens_layers(16) == (12, 13, 15, 16)
    assert default_lens_layers(2, 2) == (1, 2) and default_lens_layers(8, 2) == (7, 8)


def test_runs_that_end_early_have_their_own_length(model):
    given = encode(model, "a b c", "d e f", "g h i", "l m n")
    how = dict(max_new_tokens=30, do_sample=True, temperature=3.0)
    torch.manual_seed(1)
    with Monitor(model, record=True) as m:
        out = model.network.generate(**given, **how)[:, given["input_ids"].shape[1] :]
    lengths = [run.n_generated for run in m.trace()[0]]
    ends = [(row == 0).nonzero()[0].item() + 1 if (row == 0).any() else len(row) for row in out]
    assert lengths == ends and len(set(lengths)) > 1


def test_several_sequences_and_two_calls_are_numbered_on(model):
    given = encode(model, "a b c", "d e")
    with Monitor(model, record=True) as m:
        model.network.generate(**given, **DRAWN, num_return_sequences=2)
        model.network.generate(**encode(model, "k"), **DRAWN)
    said = m.trace()[0]
    assert [run.run for run in said] == [0, 1, 2, 3, 4]
    assert [run.n_prompt for run in said] == [3, 3, 2, 2, 1]


def test_a_streamer_streams_and_the_network_is_put_back(model):
    given = encode(model, "a b c")
    before = dict(model.network.__dict__)
    streamer = TextIteratorStreamer(model.tokenizer, skip_prompt=True)
    with Monitor(model) as m:
        out = model.network.generate(**given, **FOUR, streamer=streamer)
    assert "".join(streamer) == model.tokenizer.decode(out[0, 3:])
    assert m.last[0].step == 23
    assert model.network.__dict__ == before
    assert not any(block._forward_hooks for block in model.blocks)
    with pytest.raises(RuntimeError, match="stop here"), Monitor(model):
        raise RuntimeError("stop here")
    assert model.network.__dict__ == before


@pytest.mark.parametrize(
    ("how", "says"),
    [
        (dict(num_beams=3), "beam search"),
        (dict(prompt_lookup_num_tokens=2), "assisted decoding"),
        (dict(guidance_scale=2.0), "runs the network twice"),
        (dict(penalty_alpha=0.5), "penalty_alpha"),
    ],
)
def test_what_cannot_be_followed_is_refused(model, how, says):
    with Monitor(model) as m, pytest.raises(InputError, match=says):
        model.network.generate(**encode(model, "a b"), max_new_tokens=4, **how)
    assert m.last == {}
    with Monitor(model), pytest.raises(InputError, match="assisted"):
        model.network.generate(**encode(model, "a b"), max_new_tokens=4, assistant_model=model.network)


def test_steps_carry_token_text_numbers_and_scores(model):
    seen = []
    policy = Policy("warn", rules=(Rule(Score("instability", 3), 1e9),))
    with Monitor(model, policy, on_step=seen.append) as m:
        out = model.network.generate(**encode(model, "a b c"), **FOUR)
    assert [s.step for s in seen] == list(range(24))
    assert [s.token for s in seen] == out[0, 3:].tolist()
    assert "".join(s.text for s in seen) == model.tokenizer.decode(out[0, 3:], skip_special_tokens=True)
    assert seen[5].layers["instability"].shape == (5,) and seen[5].recorded == (0, 1, 2, 3, 4)
    last = np.mean([s.layers["instability"][3] for s in seen[-8:]])
    assert seen[-1].scores["recent instability @ 3"] == pytest.approx(last)
    assert m.last[0] is seen[-1] and not m.alarms


def test_a_callback_stops_a_call(model):
    with Monitor(model, on_step=lambda step: step.step == 6):
        out = model.network.generate(**encode(model, "a b c"), **FOUR)
    assert out.shape[1] == 3 + 7


def test_warn_once_per_run_and_go_on(model):
    with Monitor(model, always("warn")) as m, pytest.warns(MonitorWarning, match="run 0, step 4: value entropy"):
        out = model.network.generate(**encode(model, "a b c"), **FOUR)
    assert out.shape[1] == 3 + 24 and len(m.alarms) == 1


def test_stop_ends_the_run_that_alarms_and_no_other(model):
    given = encode(model, "a b c", "d e f")
    with Monitor(model, record=True) as m:
        model.network.generate(**given, **FOUR)
    steps = m.trace()[1].numpy("steps")
    highest = [steps["entropy"][(steps["run"] == r) & (steps["step"] >= 4)].max() for r in (0, 1)]
    between = float(np.mean(highest))
    policy = Policy("stop", rules=(Rule(Score("entropy", None, "value"), between, after=4),))
    with Monitor(model, policy, record=True) as m:
        model.network.generate(**given, **FOUR)
    lengths = [run.n_generated for run in m.trace()[0]]
    assert max(lengths) == 24 and min(lengths) < 24
    assert m.alarms[0].run == int(np.argmax(highest)) and m.alarms[0].step == min(lengths) - 1


def test_restart_goes_back_to_the_last_calm_step_with_another_seed(either):
    given = encode(either, "a b c")
    torch.manual_seed(3)
    with Monitor(either, record=True) as m:
        first = either.network.generate(**given, **DRAWN)
    entropy = m.trace()[1].numpy("steps")["entropy"]
    calm = float(np.median(entropy))
    policy = Policy(
        "restart",
        rules=(Rule(Score("entropy", None, "value"), float(np.sort(entropy)[-2]), calm=calm),),
        max_restarts=2,
    )
    seen = []
    torch.manual_seed(3)
    with Monitor(either, policy, record=True, on_step=seen.append) as m:
        out = either.network.generate(**given, **DRAWN)
        drawn = torch.rand(1)
    restart = m.restarts[0]
    assert restart.kept == max(i for i in range(restart.step) if entropy[i] <= calm)
    shared = given["input_ids"].shape[1] + restart.kept + 1
    assert torch.equal(out[0, :shared], first[0, :shared]) and out.shape == first.shape
    assert seen[restart.step + 1].step == restart.kept + 1 and seen[restart.step + 1].attempt == 1
    said, trace = m.trace()
    assert list(said[0].completion_ids) == out[0, 3:].tolist()
    chosen = [n for n in m.columns]
    offline = observe(either, said, observables=chosen)
    for table in ("steps", "layers"):
        a, b = trace.numpy(table), offline.numpy(table)
        for name in a:
            if a[name].dtype == np.float32:
                assert np.array_equal(np.isnan(a[name]), np.isnan(b[name])), name
                assert np.nanmax(np.abs(a[name] - b[name]), initial=0) < 2e-4, name
    torch.manual_seed(3)
    with Monitor(either, policy, on_step=lambda s: None):
        again = either.network.generate(**given, **DRAWN)
        assert torch.equal(again, out) and torch.equal(torch.rand(1), drawn)


def test_restarts_are_counted(model):
    with Monitor(model, always("restart", max_restarts=2)) as m:
        out = model.network.generate(**encode(model, "a b c"), **DRAWN)
    assert [(r.kept, r.seed) for r in m.restarts] == [(-1, 0), (-1, 1)]
    assert out.shape[1] == 3 + 24


def test_temperature_is_changed_for_some_steps_and_greedy_is_refused(model):
    given = encode(model, "a b c")
    torch.manual_seed(0)
    cold = Policy("temperature", rules=(Rule(Score("entropy", None, "value"), -1, after=4),), factor=1e-6, hold=100)
    with Monitor(model, cold, record=True) as m:
        model.network.generate(**given, **DRAWN)
    steps = m.trace()[1].numpy("steps")
    ranks = steps["rank"]
    # The library rules end-of-text out, so the likeliest token may have rank 1.
    assert (ranks[:5] > 1).any() and (ranks[5:] <= 1).all()
    with Monitor(model, cold), pytest.raises(InputError, match="do_sample"):
        model.network.generate(**given, **FOUR)


def test_escalate_asks_and_does_what_it_is_told(model):
    asked = []

    def person(alarm):
        asked.append(alarm)
        return "stop"

    with Monitor(model, always("escalate", callback=person)):
        out = model.network.generate(**encode(model, "a b c"), **FOUR)
    assert len(asked) == 1 and out.shape[1] == 3 + 5
    with Monitor(model, always("escalate", callback=lambda a: None)):
        assert model.network.generate(**encode(model, "a b c"), **FOUR).shape[1] == 3 + 24
    with (
        Monitor(model, always("escalate", callback=lambda a: "stopp")),
        pytest.raises(UnknownNameError, match="'stop'"),
    ):
        model.network.generate(**encode(model, "a b c"), **FOUR)


def test_policies_that_cannot_be_followed_say_why(model):
    given = encode(model, "a b c", "d e f")
    with Monitor(model, always("restart")), pytest.raises(InputError, match="several runs at once"):
        model.network.generate(**given, **DRAWN)
    with pytest.raises(InputError, match="no rule"):
        Policy("stop")
    with pytest.raises(UnknownNameError, match="did you mean|Did you mean"):
        always("stopp")
    with pytest.raises(UnknownNameError, match="instability"):
        Monitor(model, Policy("warn", rules=(Rule(Score("instabilty", 2), 1.0),)))
    with pytest.raises(InputError, match="leave layer out"):
        Monitor(model, Policy("warn", rules=(Rule(Score("branching", 2), 1.0),)))
    with pytest.raises(InputError, match="lens_layers"):
        Monitor(model, observables=["turbulence"])


def test_a_card_of_another_model_is_refused(model, tmp_path_factory):
    rates = {k: {"value": 0.1, "lo": 0.0, "hi": 0.2} for k in ("false_alarm_rate", "hit_rate")}
    card = Card(model.name, model.fingerprint, Rule(Score("instability", 3), 1.0), 0.1, rates, "entropy", False)
    assert Monitor(model, Policy("warn", card=card)).policy.all_rules == (card.rule,)
    other = phaselens.load(save_model(tmp_path_factory.mktemp("other"), "llama", seed=9))
    with pytest.raises(InputError, match="Thresholds do not carry over"):
        Monitor(other, Policy("warn", card=card))


def test_stream_gives_the_steps_and_the_result(model):
    given = encode(model, "a b c")
    bare = model.network.generate(**given, **FOUR)
    with Monitor(model) as m:
        stream = m.stream(**given, **FOUR, ahead=2)
        tokens = [step.token for step in stream]
        assert tokens == bare[0, 3:].tolist() and torch.equal(stream.result, bare)
        for step in m.stream(**given, **FOUR):
            if step.step == 3:
                break
        with m.stream(**given, **FOUR) as stream:
            next(stream)
        assert stream.result.shape[1] < bare.shape[1]
        with pytest.raises(InputError, match="beam"):
            next(m.stream(**given, num_beams=2))
    with pytest.raises(StateError, match="is off"):
        m.generate(**given)


def test_threads_of_one_network_do_not_mix(model):
    given = [encode(model, text) for text in ("a b c", "d e f g", "k l")]
    wanted = [model.network.generate(**one, **FOUR) for one in given]
    found = [None] * 3

    def one(i):
        with Monitor(model, record=True) as m:
            out = model.network.generate(**given[i], **FOUR)
        found[i] = out, m.trace()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    plain = model.network.generate(**given[0], **FOUR)
    for thread in threads:
        thread.join()
    assert torch.equal(plain, wanted[0]) and "generate" not in model.network.__dict__
    for (out, (said, trace)), expected in zip(found, wanted, strict=True):
        assert torch.equal(out, expected)
        offline = observe(model, said, lens=None)
        for name in ("turning_angle", "depth_step"):
            gap = np.abs(trace.numpy("layers")[name] - offline.numpy("layers")[name])
            assert np.nanmax(gap) < 2e-4


def test_a_network_of_the_library_is_loaded_and_proved(model):
    with warnings.catch_warnings(), Monitor(model.network) as m:
        model.network.generate(**encode(model, "a b"), **FOUR)
    assert m.last[0].text is None and m.model.proof is not None
