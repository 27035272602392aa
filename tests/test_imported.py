"""Hidden states that others saved: the numbers of `observe`, without the model; and what cannot be measured."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from tests.capture.zoo import network

import phaselens
from phaselens.cli import call
from phaselens.errors import InputError, StudyFileError
from phaselens.imported import Unembedding, measure_states, read_states
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
        (np.ones((3, 9, 8)), {"axes": "d step layer"}, "axes must be"),
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
