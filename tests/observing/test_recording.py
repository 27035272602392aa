import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from tests.capture.zoo import network
from tests.tiny_panel import save_model

import phaselens
from phaselens.errors import InputError, PromptError, TokenizerError, UnknownNameError
from phaselens.measure.reducer import LensSpec
from phaselens.models import load, run
from phaselens.observables import observable
from phaselens.observing.recording import live, noise_floor, observe
from phaselens.trace.store import content_hash


@pytest.fixture(scope="module")
def m():
    return load(network("llama", num_hidden_layers=4))


@pytest.fixture(scope="module")
def said(m):
    return phaselens.generate(m, [[5, 6, 7], [9], list(range(20, 30))], max_new_tokens=24, samples=2, seed=1)


def furthest(one, other, table):
    """Largest difference of a column, relative to its size; 5e-6 in its own unit is rounding (1 - JS/ln 2 near 0)."""
    a, b = one.numpy(table), other.numpy(table)
    worst = {}
    for name, values in a.items():
        if values.dtype != np.float32:
            assert np.array_equal(values, b[name])
            continue
        known = ~np.isnan(values)
        assert np.array_equal(known, ~np.isnan(b[name])), name
        size = max(float(np.abs(b[name][known]).max(initial=0)), 1e-6)
        gap = float(np.abs(values[known] - b[name][known]).max(initial=0))
        worst[name] = 0.0 if gap < 5e-6 else gap / size
    return max(worst.values())


def test_one_row_per_step_and_per_layer(m, said):
    trace = observe(m, said)
    steps, layers = trace.numpy("steps"), trace.numpy("layers")
    assert len(steps["run"]) == 6 * 24 and len(layers["run"]) == 6 * 24 * 5
    assert layers["layer"][:5].tolist() == [0, 1, 2, 3, 4]
    for t in said:
        rows = steps["run"] == t.run
        assert steps["token"][rows].tolist() == list(t.completion_ids)
        assert steps["position"][rows].tolist() == list(range(t.n_prompt - 1, t.n_prompt - 1 + 24))
    assert trace.runs.column("n_prompt").to_pylist() == [3, 3, 1, 1, 10, 10]
    # A prompt of one token puts position 0, the sink, into the trajectory: its rows say so.
    assert set(steps["run"][steps["position"] == 0].tolist()) == {2, 3}


def test_numbers_are_those_of_the_models_own_logits(m, said):
    trace = observe(m, said)
    steps = trace.numpy("steps")
    t = said[4]
    fed = torch.tensor([t.fed])
    logits = run(m.network, fed, mask=torch.ones_like(fed)).logits[0, t.n_prompt - 1 :, : m.vocab_size].double()
    log_p = logits.log_softmax(-1)
    emitted = torch.tensor(t.completion_ids)[:, None]
    rows = steps["run"] == 4
    wanted = {
        "entropy": -(log_p.exp() * log_p).sum(-1),
        "surprisal": -log_p.gather(1, emitted)[:, 0],
        "top1": log_p.exp().max(-1).values,
    }
    for name, values in wanted.items():
        assert np.allclose(steps[name][rows], values.numpy(), rtol=1e-4, atol=1e-5), name


def test_live_equals_replay_equals_any_chunks_and_batches(m, said):
    settings = {"max_new_tokens": 24, "samples": 2, "seed": 1, "lens": ("final_norm", "raw")}
    same, lived = live(m, [[5, 6, 7], [9], list(range(20, 30))], **settings)
    assert same.runs == said.runs
    replayed = observe(m, said, lens=("final_norm", "raw"))
    for other in (lived, observe(m, said, lens=("final_norm", "raw"), chunk=5, batch_size=2)):
        for table in ("steps", "layers"):
            assert furthest(other, replayed, table) < 1e-4
    assert lived.meta["capture"]["how"] == "live" and replayed.meta["capture"]["how"] == "replay"


def test_a_callback_sees_the_rows_of_its_step_and_stops(m):
    seen = {}

    def on_step(step, rows):
        seen[step] = rows
        return np.flatnonzero(rows["steps"]["entropy"] > 99).tolist() if step < 5 else True

    said, trace = live(m, [[5, 6], [7]], max_new_tokens=20, on_step=on_step)
    assert sorted(seen) == list(range(6)) and all(t.finish == "stopped" for t in said)
    for step, rows in seen.items():
        at = trace.numpy("layers")["step"] == step
        for column in ("turning_angle", "entropy", "kl_to_final"):
            assert np.array_equal(rows["layers"][column], trace.numpy("layers")[column][at], equal_nan=True)
    assert trace.runs.column("n_generated").to_pylist() == [6, 6]


def test_without_a_lens_no_distribution_is_measured(m, said):
    trace = observe(m, said, lens=None)
    assert "entropy" not in trace.layers.column_names and "turning_angle" in trace.layers.column_names
    with pytest.raises(InputError, match="entropy is measured on a lens"):
        observe(m, said, lens=None, observables=["entropy"])


def test_columns_of_several_lenses_are_labelled(m, said):
    warm = LensSpec("final_norm", temperature=2.0, label="warm")
    trace = observe(m, said, lens=("final_norm", "raw", warm), observables=["entropy", "step_length"])
    assert [c for c in trace.layers.column_names if c.startswith("entropy")] == [
        "entropy",
        "entropy__raw",
        "entropy__warm",
    ]
    lenses = {c.name: c.lens for c in trace.columns("layers")}
    assert lenses["entropy__warm"] == "final_norm, T = 2" and lenses["entropy__raw"] == "raw"
    plain, warmer = (trace.numpy("layers")[c] for c in ("entropy", "entropy__warm"))
    assert (warmer > plain).all()
    assert trace.meta["plan"]["lenses"][2]["temperature"] == 2.0


def test_fewer_layers(m, said):
    some, whole = observe(m, said, layers=(1, 4)), observe(m, said)
    assert set(some.numpy("layers")["layer"].tolist()) == {1, 4}
    at = np.isin(whole.numpy("layers")["layer"], (1, 4))
    assert np.array_equal(some.numpy("layers")["step_length"], whole.numpy("layers")["step_length"][at], equal_nan=True)


def test_hidden_states_are_kept_on_request(m, said):
    trace = observe(m, said, lens=None, keep_hidden=True)
    assert trace.hidden["run3"].shape == (24, 5, 32)
    norms = np.log(np.sqrt((trace.hidden["run3"].astype(np.float64) ** 2).mean(-1)))
    rows = trace.numpy("layers")
    assert np.allclose(rows["log_rms"][rows["run"] == 3].reshape(24, 5), norms, atol=1e-5)
    assert observe(m, said, lens=None).hidden is None


def test_pairs_and_files_give_the_same_numbers(m, said, tmp_path):
    whole = observe(m, said)
    pairs = observe(m, [(t.prompt_ids, t.completion_ids) for t in said])
    filed = observe(m, said.write_jsonl(tmp_path / "t.jsonl"))
    assert content_hash(whole.layers) == content_hash(pairs.layers) == content_hash(filed.layers)
    assert filed.runs.equals(whole.runs) and set(pairs.runs.column("finish").to_pylist()) == {"given"}


def test_provenance_is_plain_json(m, said):
    meta = json.loads(json.dumps(observe(m, said, batch_size=2).meta, allow_nan=False))
    assert meta["model"]["fingerprint"] == m.fingerprint == meta["transcripts_model"]
    assert meta["model"]["dtype"] == "float32" and meta["capture"]["batch_size"] == 2
    assert meta["model"]["attention"] and meta["model"]["versions"]["torch"] == torch.__version__
    assert meta["plan"]["layers"] == [0, 1, 2, 3, 4] and "entropy" in meta["plan"]["observables"]


def test_noise_floor_is_small_and_names_every_measured_column(m, said):
    floor = noise_floor(m, said, lens="final_norm")
    trace = observe(m, said)
    measured = {f"{t}.{c}" for t in ("steps", "layers") for c in trace.table(t).column_names}
    assert set(floor) <= measured and "layers.turning_angle" in floor
    assert all(v < 1e-3 for v in floor.values())


def test_states_that_are_not_finite_are_flagged_and_the_run_is_kept():
    network_ = network("llama")
    m = load(network_)
    with torch.no_grad():
        network_.get_input_embeddings().weight[50] = torch.nan
    trace = observe(m, [([5, 6], [7, 8, 50, 9, 10]), ([5, 6], [7, 8, 9, 10, 11])])
    steps = trace.numpy("steps")
    # The attention of one pass may carry a NaN to the positions before it too, never to another run.
    assert not steps["finite"][3:5].any() and steps["finite"][5:].all()
    assert np.isnan(steps["entropy"][~steps["finite"]]).all() and not np.isnan(steps["entropy"][5:]).any()
    assert trace.runs.column("n_nonfinite").to_pylist() == [int((~steps["finite"]).sum()), 0]
    with pytest.raises(InputError, match="NaN or infinity"):
        phaselens.generate(m, [[50, 5]], max_new_tokens=4)


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"observables": ["entropi"]}, UnknownNameError, "Did you mean 'entropy'"),
        ({"observables": []}, InputError, "observables is empty"),
        ({"lens": "final-norm"}, UnknownNameError, "Did you mean 'final_norm'"),
        ({"layers": (0, 9)}, InputError, "9"),
    ],
)
def test_names_that_do_not_exist(m, said, settings, error, says):
    with pytest.raises(error, match=says):
        observe(m, said, **settings)


def test_bad_transcripts(m, tmp_path):
    with pytest.raises(PromptError, match="outside the vocabulary"):
        observe(m, [([5], [1000])])
    text = tmp_path / "t.jsonl"
    text.write_text('{"prompt": "a", "completion": "b"}')
    with pytest.raises(TokenizerError, match="no tokenizer"):
        observe(m, text)


def test_import_is_quick_and_names_are_there():
    code = (
        "import sys, phaselens; assert 'torch' not in sys.modules; [getattr(phaselens, n) for n in phaselens.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(phaselens, "no" + "thing")


@pytest.mark.assets
@pytest.mark.parametrize("name", ("stories260K", "gpt2-slm4096", "gpt2-induction-batson", "rwkv4-660k"))
def test_trained_models_live_equals_replay(shared, name):
    m = load(shared / "models" / name / "hf")
    prompts = [[5, 6, 7], [9], list(range(10, 20))]
    said, lived = live(m, prompts, max_new_tokens=16)
    replayed = observe(m, said, batch_size=2, chunk=7)
    for table in ("steps", "layers"):
        assert furthest(lived, replayed, table) < 1e-3
    assert furthest(observe(m, said, batch_size=1), replayed, "layers") < 1e-4


@observable(axis="step", lookback=1, unit="1", keeps={"rotation", "common_scale"})
def own_step(hidden):
    """Length of a step over the length of the state before it, dimensionless."""
    out = hidden.new_full(hidden.shape[:-1], torch.nan)
    out[..., 1:] = (hidden[..., 1:, :] - hidden[..., :-1, :]).norm(dim=-1) / hidden[..., :-1, :].norm(dim=-1)
    return out


def test_a_function_of_the_user_is_measured_as_ours_is(m, said):
    trace = observe(m, said, observables=[own_step, "relative_step"], lens=("final_norm", LensSpec(mask_first=True)))
    found = trace.numpy("layers", ["own_step", "relative_step"])
    np.testing.assert_allclose(found["own_step"], found["relative_step"], rtol=1e-5)
    assert np.isfinite(found["own_step"]).any()
    assert [c.unit for c in trace.columns("layers") if c.name == "own_step"] == ["1"]


def test_what_is_no_observable_is_said(m, said):
    with pytest.raises(InputError, match="is no observable: decorate it"):
        observe(m, said, observables=[len])

    @observable(axis="step", unit="1")
    def odd(attention):
        """Something of the attention, dimensionless."""
        return attention

    with pytest.raises(InputError, match="odd asks for attention, which nothing gives"):
        observe(m, said, observables=[odd])


def test_the_text_of_every_token_stands_in_the_steps(tmp_path):
    model = load(save_model(tmp_path / "m"))
    said = phaselens.generate(model, ["a b c", "d"], max_new_tokens=5, seed=1)
    steps = observe(model, said).to_pandas("steps")
    for t in said:
        ours = steps[steps["run"] == t.run]
        whole = model.tokenizer.decode(t.completion_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        assert "".join(ours["text"]) == whole and ours["token"].tolist() == list(t.completion_ids)
