"""Hidden states that others saved: the numbers of `observe`, without the model; and what cannot be measured."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests.capture.zoo import network

import phaselens
from phaselens.bridges import read_transcripts
from phaselens.cli import call
from phaselens.errors import InputError, StudyFileError
from phaselens.observing.saved_states import Unembedding, measure_states, read_states
from phaselens.trace.store import write_trace

G = np.random.default_rng(0)


@pytest.fixture(scope="module")
def observed():
    """A tiny model observed, with its hidden states [step, layer, d] and its unembedding."""
    model = phaselens.load(network("llama"))
    said = phaselens.generate(model, [[5, 6, 7], [8, 9]], max_new_tokens=70, seed=0)
    trace = phaselens.observe(model, said, keep_hidden=True)
    core = model.network.model
    head = Unembedding(
        model.network.lm_head.weight.detach().numpy(),
        norm="rms",
        gain=core.norm.weight.detach().numpy(),
        eps=core.norm.variance_epsilon,
    )
    tokens = {f"run{t.run}": t.completion_ids for t in said}
    return trace, head, tokens


def test_the_numbers_are_those_of_observe(observed):
    trace, head, tokens = observed
    again = measure_states(trace.hidden, axes="step layer d", unembedding=head, tokens=tokens)
    for name in ("steps", "layers"):
        ours, theirs = again.numpy(name), trace.numpy(name)
        assert set(ours) == set(theirs)
        for column in set(ours) - {"position", "text", "sink"}:
            np.testing.assert_allclose(ours[column], theirs[column], rtol=2e-4, atol=2e-4, err_msg=f"{name}.{column}")


def test_without_tokens_and_unembedding_only_what_needs_them_is_missing(observed):
    trace, head, _ = observed
    bare = measure_states(trace.hidden, axes="step layer d")
    assert "entropy" not in bare.steps.column_names and "step_length" in bare.layers.column_names
    no_tokens = measure_states(trace.hidden, axes="step layer d", unembedding=head)
    assert np.isnan(no_tokens.numpy("steps")["surprisal"]).all()
    assert np.isfinite(no_tokens.numpy("steps")["entropy"]).all()


def test_one_array_is_one_run_and_layers_may_be_numbered():
    states = G.standard_normal((3, 10, 8)).astype(np.float32)
    trace = measure_states(states, layers=(0, 4, 8), n_layers=8, prompt_ids={"run0": "p7"}, categories={"run0": "x"})
    assert trace.runs.to_pylist()[0] | {"n_generated": 10} == trace.runs.to_pylist()[0]
    assert trace.runs.column("prompt_id").to_pylist() == ["p7"] and trace.runs.column("category").to_pylist() == ["x"]
    assert sorted(set(trace.numpy("layers")["layer"])) == [0, 4, 8]


def test_steps_that_are_not_finite_are_kept_and_flagged():
    states = G.standard_normal((3, 10, 8))
    states[1, 4, 2] = np.nan
    trace = measure_states(states)
    steps = trace.numpy("steps")
    assert steps["finite"].tolist() == [s != 4 for s in range(10)]
    layers = trace.numpy("layers", ["step", "layer", "step_length"])
    assert np.isnan(layers["step_length"][layers["step"] == 4]).all()


def test_files_of_all_three_kinds_and_half_precision(tmp_path):
    states = {f"r{i}": G.standard_normal((3, 9, 8)).astype(np.float32) for i in range(2)}
    save_file(states, tmp_path / "s.safetensors")
    np.savez(tmp_path / "s.npz", **states)
    np.save(tmp_path / "s.npy", states["r0"].astype(np.float16))
    from safetensors.torch import save_file as save_torch

    save_torch({"r0": torch.from_numpy(states["r0"]).bfloat16()}, tmp_path / "b.safetensors")
    one, other = measure_states(tmp_path / "s.safetensors"), measure_states(tmp_path / "s.npz")
    for column, values in one.numpy("layers").items():
        np.testing.assert_array_equal(values, other.numpy("layers")[column])
    assert one.runs.num_rows == 2
    assert measure_states(tmp_path / "s.npy").runs.num_rows == 1
    assert read_states(tmp_path / "b.safetensors")["r0"].dtype == np.float32


@pytest.mark.parametrize(
    ("states", "settings", "says"),
    [
        (np.zeros((3, 9)), {}, "wanted numbers as"),
        (np.zeros((3, 0, 8)), {}, "wanted numbers as"),
        ([], {}, "no runs"),
        ([np.zeros((3, 9, 8)), np.zeros((4, 9, 8))], {}, "differ in layers or width"),
        (np.ones((3, 9, 8)), {"layers": (0, 1)}, "2 layer numbers for arrays of 3"),
        (np.ones((3, 9, 8)), {"layers": (0, 2, 1)}, "must ascend"),
        (np.ones((3, 9, 8)), {"n_layers": 1}, "at most n_layers = 1"),
        (np.ones((3, 9, 8)), {"axes": "d steps layer"}, "axes are layer, step and d"),
        (np.ones((3, 9, 8)), {"unembedding": np.ones((5, 7))}, r"wanted \[vocab, 8\]"),
        (np.ones((3, 9, 8)), {"unembedding": Unembedding(np.ones((5, 8)), norm="batch")}, "norm of an unembedding"),
        (np.ones((3, 9, 8)), {"unembedding": Unembedding(np.ones((5, 8)), bias=np.ones(4))}, r"bias .* wanted \(5,\)"),
        (np.ones((3, 9, 8)), {"tokens": {"run0": [1, 2]}}, "token emitted at each step"),
        (np.ones((3, 9, 8)), {"observables": ["step_lenght"]}, "Did you mean 'step_length'"),
    ],
)
def test_what_does_not_fit_is_said(states, settings, says):
    with pytest.raises(InputError, match=says):
        measure_states(states, **settings)


def test_the_command_writes_a_trace_and_says_what_is_wrong(tmp_path, capsys):
    np.save(tmp_path / "s.npy", G.standard_normal((3, 70, 8)))
    np.save(tmp_path / "w.npy", G.standard_normal((20, 8)))
    given = ["measure", str(tmp_path / "s.npy"), "--out", str(tmp_path / "o"), "--unembedding", str(tmp_path / "w.npy")]
    assert call([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["runs"], found["steps"], found["rows"]) == (1, 70, 210)
    trace = phaselens.read_trace(tmp_path / "o", "trace")
    assert np.isfinite(trace.numpy("steps")["entropy"]).all()
    (tmp_path / "s.pt").write_bytes(b"x")
    (tmp_path / "bad.npy").write_bytes(b"x")
    for arguments, says in (
        (["measure", str(tmp_path / "s.pt"), "--out", str(tmp_path / "p")], "save the states as one of these"),
        (["measure", str(tmp_path / "bad.npy"), "--out", str(tmp_path / "p")], "cannot be read"),
        (["measure", str(tmp_path / "absent.npy"), "--out", str(tmp_path / "p")], "cannot be read"),
        ([*given, "--layers", "a,b"], "whole numbers"),
    ):
        assert call(arguments) == 2
        err = capsys.readouterr().err
        assert says in err and err.count("\n") == 1
    with pytest.raises(StudyFileError):
        measure_states(tmp_path / "absent.npy")


def test_runs_are_in_the_order_of_their_numbers():
    states = {name: np.full((2, 4, 3), i, float) for i, name in enumerate(("run10", "run2", "run1"))}
    assert measure_states(states).runs.column("prompt_id").to_pylist() == ["run1", "run2", "run10"]


def test_duckdb_reads_the_tables_as_the_page_says(tmp_path, observed):
    duckdb = pytest.importorskip("duckdb", reason="duckdb: the extra `query` is not installed")
    trace, _, _ = observed
    write_trace(trace, tmp_path, "trace")
    rows = duckdb.sql(
        f"select layer, median(instability) as ct from '{tmp_path}/*.layers.parquet' "
        "where isfinite(instability) group by layer order by layer"
    ).fetchall()
    layers = trace.numpy("layers", ["layer", "instability"])
    other = f"select count(*) from '{tmp_path}/*.layers.parquet' where not isnan(instability)"
    assert duckdb.sql(other).fetchall()[0][0] == int((~np.isnan(layers["instability"])).sum())
    for layer, ct in rows:
        own = layers["instability"][layers["layer"] == layer]
        assert ct == pytest.approx(float(np.median(own[np.isfinite(own)])), rel=1e-6)


NAMES = {
    "blocks.{}.hook_resid_post": 1,  # TransformerLens
    "model.layers.{}": 1,  # nnsight, baukit
    "transformer.h.{}": 1,
    "transformer.h.{}.output": 1,
    "blocks.{}.hook_resid_pre": 0,
    "hidden_states.{}": 0,
    "layer_{}": 0,
}


def test_of_a_whole_cache_of_transformer_lens_the_residual_stream_is_read():
    """The bridge of TransformerLens 4 keeps 243 tensors of five blocks, the block's output under two names."""
    states = G.standard_normal((4, 1, 70, 8)).astype(np.float32)
    cache = {f"blocks.{k}.hook_resid_post": states[k + 1] for k in range(3)}
    alone = measure_states({"blocks.0.hook_resid_pre": states[0], **cache})
    cache |= {f"blocks.{k}.hook_out": states[k + 1] for k in range(3)}
    cache |= {f"blocks.{k}.hook_resid_pre": states[k] for k in range(3)}
    cache |= {
        "blocks.1.attn.hook_pattern": G.random((1, 2, 70, 70)),
        "hook_embed": states[0],
        "ln_final.hook_scale": states[0, :, :, :1],
    }
    whole = measure_states(cache)
    assert set(whole.numpy("layers", ["layer"])["layer"].tolist()) == {0, 1, 2, 3} and whole.runs.num_rows == 1
    for trace in (alone, whole):
        assert trace.layers.num_rows == 4 * 70
    assert np.array_equal(
        alone.numpy("layers", ["instability"])["instability"],
        whole.numpy("layers", ["instability"])["instability"],
        equal_nan=True,
    )


def test_weights_and_pickled_tensors_are_called_what_they_are(tmp_path):
    with pytest.raises(InputError, match="embed_tokens.weight: these are the weights of a model"):
        measure_states({"model.embed_tokens.weight": np.zeros((4, 3)), "model.norm.weight": np.zeros(3)})
    torch.save({"x": torch.zeros(3)}, tmp_path / "t.pt")
    with pytest.raises(StudyFileError, match="pickled tensors of PyTorch, which can run code and are never read"):
        read_transcripts(tmp_path / "t.pt")


@pytest.mark.parametrize("form", NAMES)
@pytest.mark.parametrize("kind", ["arrays", "tuples with a graph", "file"])
def test_one_tensor_per_layer_is_one_layer_of_every_run(tmp_path, form, kind):
    whole = G.standard_normal((5, 2, 70, 8)).astype(np.float32)  # [layer, run, step, d]
    cache = {form.format(k): whole[k] for k in range(5)}
    if kind == "tuples with a graph":
        cache = {name: (torch.tensor(a, requires_grad=True),) for name, a in cache.items()}
    elif kind == "file":
        save_file(cache, tmp_path / "cache.safetensors")
        cache = tmp_path / "cache.safetensors"
    trace = measure_states(cache)
    first = NAMES[form]
    assert sorted(set(trace.numpy("layers")["layer"].tolist())) == list(range(first, first + 5))
    again = measure_states([whole[:, 0], whole[:, 1]], layers=range(first, first + 5))
    np.testing.assert_array_equal(trace.numpy("layers")["step_length"], again.numpy("layers")["step_length"])


def test_axes_are_chosen_or_asked_for():
    whole = G.standard_normal((3, 2, 9, 8))
    wanted = measure_states([whole[:, 0], whole[:, 1]]).numpy("layers")["step_length"]
    for axes, order in (("layer batch position d", (0, 1, 2, 3)), ("run step layer d", (1, 2, 0, 3))):
        got = measure_states(whole.transpose(order), axes=axes).numpy("layers")["step_length"]
        np.testing.assert_array_equal(got, wanted)
    with pytest.raises(InputError, match="say which is which"):
        measure_states(whole)
    with pytest.raises(InputError, match="has 3 axes and 'run layer step d' names 4"):
        measure_states(whole[0], axes="run layer step d")
    with pytest.raises(InputError, match="two of .* name one layer"):
        measure_states({"blocks.0.hook_resid_post": whole[0], "layer_1": whole[0]})


def test_ids_beside_the_states_are_the_tokens_that_they_chose_and_say_which_axis_is_time(tmp_path):
    states, ids = G.standard_normal((9, 3, 8)).astype(np.float32), np.arange(10, 19)
    save_file({"hidden_states": states, "token_ids": ids}, tmp_path / "vllm.safetensors")
    trace = measure_states(tmp_path / "vllm.safetensors")
    assert trace.numpy("steps")["token"].tolist() == [*range(11, 19), -1]
    assert set(trace.numpy("layers")["layer"].tolist()) == {0, 1, 2}
    with pytest.raises(InputError, match="an id for each state"):
        measure_states({"hidden_states": states[:8].swapaxes(0, 1), "input_ids": ids})


def test_zero_padding_is_no_state():
    whole = G.standard_normal((4, 10, 8))
    whole[:, 7:] = 0
    rows = measure_states(whole).numpy("layers")
    padded = rows["step"] >= 7
    assert np.isnan(rows["step_length"][padded]).all()
    assert np.isfinite(rows["step_length"][~padded & (rows["step"] > 0)]).all()


def test_bfloat16_works_from_python():
    states = torch.randn(3, 9, 8, dtype=torch.bfloat16, requires_grad=True)
    got = measure_states(states).numpy("layers")["step_length"]
    np.testing.assert_array_equal(got, measure_states(states.detach().float().numpy()).numpy("layers")["step_length"])


@pytest.mark.parametrize("what", ["tokens", "prompt_ids", "categories"])
def test_names_that_match_no_run_are_an_error(what):
    with pytest.raises(InputError, match=f"unknown run in {what} 'run7'. Did you mean 'run0'"):
        measure_states(G.standard_normal((3, 9, 8)), **{what: {"run7": [1] * 9}})


def test_the_unembedding_of_a_model_is_its_readout(tmp_path, capsys):
    model = phaselens.load("organism:llama-512")
    said = phaselens.generate(model, ["The"], max_new_tokens=6, seed=0)
    trace = phaselens.observe(model, said, keep_hidden=True)
    np.save(tmp_path / "s.npy", trace.hidden["run0"].swapaxes(0, 1))
    given = ["measure", str(tmp_path / "s.npy"), "--unembedding", "organism:llama-512", "--out", str(tmp_path / "o")]
    assert call(given) == 0
    again = phaselens.read_trace(tmp_path / "o", "trace")
    np.testing.assert_allclose(again.numpy("steps")["entropy"], trace.numpy("steps")["entropy"], atol=1e-5)
