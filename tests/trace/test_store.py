"""The store: equal traces give equal bytes, every value survives, and a failed write leaves nothing behind."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phaselens.errors import OutputError, StudyFileError
from phaselens.trace import store
from phaselens.trace.schema import SCHEMA_VERSION, TABLES
from phaselens.trace.seal import DamagedFile
from phaselens.trace.trace import Trace

SPECIAL = (np.nan, np.inf, -np.inf, -0.0, np.float32(1e-45), np.finfo(np.float32).max)


def distinct_trace(names=("alpha", "beta", "alpha__raw"), hidden=False) -> Trace:
    """A trace in which every cell of every column differs from all others, and specials stand in every measure."""
    run, step, layer = (a.ravel() for a in np.indices((2, 5, 3)))
    first = layer == 0

    def measures(rows, offset):
        out = {}
        for i, name in enumerate(names):
            out[name] = (np.arange(rows) + offset + 1000.0 * (i + 1)).astype(np.float32)
            out[name][: len(SPECIAL)] = np.roll(SPECIAL, i)
        return out

    steps = {"run": run[first], "step": step[first], "position": step[first] + 40, "token": np.arange(first.sum()) + 70}
    steps |= {"finite": np.arange(first.sum()) % 3 > 0, **measures(first.sum(), 0.25)}
    layers = {"run": run, "step": step, "layer": layer, **measures(run.size, 0.5)}
    runs = {
        "run": [0, 1],
        "prompt_id": ["é", 'a"b'],
        "category": ["", "c"],
        "sample": [2, 3],
        "seed": [2**40, -1],
        "arm": ["greedy", "t1"],
        "n_prompt": [41, 42],
        "n_generated": [5, 6],
        "finish": ["eos", "length"],
        "answer": [None, "x"],
        "correct": [True, None],
        "n_nonfinite": [8, 9],
    }
    kept = {f"run{r}": np.full((5, 3, 4), r + 0.5, np.float32) for r in range(2)} if hidden else None
    columns = [{"name": n, "unit": f"unit of {n}", "summary": f"what {n} is", "bounds": (0, 1)} for n in names[:2]]
    return Trace.from_rows(steps, layers, runs, {"model": "tiny", "n": 1}, columns, kept)


def files(folder) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_variable_survives_the_round_trip_bit_by_bit(tmp_path):
    trace = distinct_trace(hidden=True)
    store.write_trace(trace, tmp_path, "u")
    back = store.read_trace(tmp_path, "u", hidden=True, verify=True)
    assert back.meta == trace.meta
    for name in TABLES:
        assert back.columns(name) == trace.columns(name)
        assert back.table(name).schema.equals(trace.table(name).schema)
        for column in trace.table(name).column_names:
            got, want = back.table(name)[column], trace.table(name)[column]
            if pa.types.is_floating(want.type):
                np.testing.assert_array_equal(got.to_numpy().view(np.int32), want.to_numpy().view(np.int32))
            else:
                assert got.to_pylist() == want.to_pylist()
    assert all(np.array_equal(back.hidden[k], v) for k, v in trace.hidden.items())


def test_equal_traces_give_equal_bytes_and_other_ones_do_not(tmp_path):
    for folder in "ab":
        store.write_trace(distinct_trace(hidden=True), tmp_path / folder, "u")
    assert files(tmp_path / "a") == files(tmp_path / "b")
    store.write_trace(store.read_trace(tmp_path / "a", "u", hidden=True), tmp_path / "c", "u")
    assert files(tmp_path / "c") == files(tmp_path / "a")
    store.write_trace(distinct_trace(("alpha", "gamma")), tmp_path / "d", "u")
    same = files(tmp_path / "d").items() & files(tmp_path / "a").items()
    assert not same


def test_units_definitions_and_version_ride_in_the_file(tmp_path):
    paths = store.write_trace(distinct_trace(), tmp_path, "u", key="k")
    facts = store.read_facts(paths["layers"])
    assert (facts["schema_version"], facts["unit"], facts["key"], facts["table"]) == (
        SCHEMA_VERSION,
        "u",
        "k",
        "layers",
    )
    field = pq.read_schema(paths["layers"]).field("beta")
    assert field.metadata[b"unit"] == b"unit of beta"
    assert field.metadata[b"description"] == b"what beta is"


def test_content_hash_sees_values_and_types_not_chunks():
    a = pa.table({"x": pa.array([1.0, np.nan], pa.float32())})
    chunked = pa.concat_tables([a.slice(0, 1), a.slice(1, 1)])
    assert store.content_hash(a) == store.content_hash(chunked)
    assert store.content_hash(a) != store.content_hash(a.cast(pa.schema([("x", pa.float64())])))
    assert store.content_hash(a) != store.content_hash(pa.table({"x": pa.array([1.0, 2.0], pa.float32())}))


def test_valid_means_whole_and_of_this_key(tmp_path):
    paths = store.write_trace(distinct_trace(hidden=True), tmp_path, "u", key="k")
    assert store.is_valid(tmp_path, "u", "k")
    assert not store.is_valid(tmp_path, "u", "other")
    assert not store.is_valid(tmp_path, "v", "k")
    whole = paths["steps"].read_bytes()
    paths["steps"].write_bytes(whole[: len(whole) // 2])
    assert not store.is_valid(tmp_path, "u", "k")
    paths["steps"].write_bytes(whole)
    store.hidden_path(tmp_path, "u").unlink()
    assert not store.is_valid(tmp_path, "u", "k")


def test_content_that_was_changed_is_noticed(tmp_path):
    paths = store.write_trace(distinct_trace(), tmp_path, "u")
    data = bytearray(paths["layers"].read_bytes())
    data[len(data) // 2] ^= 1
    paths["layers"].write_bytes(data)
    with pytest.raises(DamagedFile, match="u.layers.parquet is not what was written"):
        store.read_trace(tmp_path, "u")


def test_unreadable_foreign_and_future_files_are_said(tmp_path):
    with pytest.raises(StudyFileError, match="cannot read .*u.runs.parquet"):
        store.read_trace(tmp_path, "u")
    (tmp_path / "junk.parquet").write_bytes(b"junk")
    with pytest.raises(StudyFileError, match="as Parquet"):
        store.read_table(tmp_path / "junk.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(StudyFileError, match="not one that phaselens wrote"):
        store.read_facts(tmp_path / "foreign.parquet")
    store.write_table(tmp_path / "future.parquet", pa.table({"x": [1]}), {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(StudyFileError, match="upgrade it"):
        store.read_facts(tmp_path / "future.parquet")
    with pytest.raises(StudyFileError, match="has no column z; it has x"):
        store.read_table(tmp_path / "future.parquet", ["z"])


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch, call):
    path = tmp_path / "x.json"
    store.atomic_write(path, "old")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if call != "write":
        monkeypatch.setattr(os, call, full)
    with pytest.raises(OutputError, match=r"x\.json: No space left on device.*kept.*resumes"):
        store.atomic_write(path, full if call == "write" else "new")
    monkeypatch.undo()
    assert files(tmp_path) == {"x.json": b"old"}


def test_an_interrupt_in_mid_write_leaves_no_partial_file(tmp_path):
    def interrupted(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.atomic_write(tmp_path / "x", interrupted)
    assert files(tmp_path) == {}


def test_a_real_limit_on_file_size_in_mid_write(tmp_path):
    code = textwrap.dedent(
        f"""
        import resource
        from phaselens.errors import OutputError
        from phaselens.trace.store import atomic_write
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        atomic_write({str(tmp_path / "small")!r}, b"x" * 1000)
        try:
            atomic_write({str(tmp_path / "large")!r}, b"x" * 100_000)
        except OutputError as error:
            print(error)
        """
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert files(tmp_path) == {"small": b"x" * 1000}


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        store.atomic_write(tmp_path / "file" / "x.json", "x")


def test_sweep_removes_what_killed_processes_of_this_machine_left_and_nothing_else(tmp_path):
    (tmp_path / "sub").mkdir()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    name = ".x.json.{}.{}.ab12" + store.TEMPORARY
    gone = tmp_path / "sub" / name.format(store.HOST, dead.stdout.strip())
    old = tmp_path / name.format(store.HOST, os.getpid())
    for path in (gone, old):
        path.write_text("half")
    os.utime(old, (0, 0))  # this process lives, but the file is of a day long gone
    kept = [
        tmp_path / name.format("elsewhere", 1),
        tmp_path / name.format(store.HOST, os.getppid()),
        tmp_path / "a.part",
    ]
    for path in kept:
        path.write_text("being written, or a user's own")
    assert store.sweep(tmp_path) == 2
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(kept)


def test_digest_depends_on_content_not_on_order():
    assert store.digest({"a": 1, "b": [2.5, None]}) == store.digest({"b": [2.5, None], "a": 1})
    assert store.digest({"a": 1}) != store.digest({"a": 2})
    with pytest.raises(ValueError, match="not JSON compliant"):
        store.digest({"a": float("nan")})


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_is_dead_and_not_buried_has_ended():
    child = subprocess.Popen([sys.executable, "-c", ""])
    until = time.monotonic() + 20
    while not store.ended(child.pid) and time.monotonic() < until:
        time.sleep(0.01)
    assert store.ended(child.pid) and not store.ended(os.getpid())
    child.wait()
    assert store.ended(child.pid)
