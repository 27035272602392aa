"""A sealed file tells every flipped bit and every edit; user text that looks like a seal changes nothing."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phaselens.errors import StudyFileError
from phaselens.trace import seal, store
from phaselens.trace.trace import Trace
from phaselens.trace.transcripts import Transcript, Transcripts, read_jsonl

BOAST = seal.SEAL + " " + seal.MARK.decode() + "f" * 64  # a text that says what a seal says


def one_of_each(folder) -> dict:
    table = pa.table({"x": pa.array(np.arange(50, dtype=np.float32)), "name": [BOAST] * 50, "n": range(50)})
    said = Transcripts((Transcript(0, (1, 2), (3, 4), prompt=BOAST, completion=BOAST),), {"note": BOAST}, "m")
    return {
        "parquet": store.write_table(folder / "t.parquet", table, {"meta": BOAST}),
        "jsonl": said.write_jsonl(folder / "t.jsonl"),
        "json": store.atomic_write(folder / "t.json", seal.json_bytes({"a": 1.5, "text": BOAST})),
        "safetensors": store.atomic_write(
            folder / "t.safetensors", seal.arrays_bytes({BOAST[:9]: np.arange(7.0), "b": np.eye(2)}, {"said": BOAST})
        ),
    }


READ = {"parquet": store.read_table, "jsonl": read_jsonl, "json": seal.read_json, "safetensors": seal.read_arrays}


@pytest.mark.parametrize("kind", READ)
def test_what_was_written_is_sound_and_is_read(tmp_path, kind):
    path = one_of_each(tmp_path)[kind]
    assert seal.is_sound(path)
    READ[kind](path)


@pytest.mark.parametrize("kind", READ)
def test_every_flipped_bit_is_seen(tmp_path, kind):
    path = one_of_each(tmp_path)[kind]
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for place in sorted({*rng.integers(0, len(whole), 120).tolist(), 0, 1, len(whole) - 1}):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        assert not seal.is_sound(path), f"byte {place} of {len(whole)}"
    path.write_bytes(whole[:-1])
    assert not seal.is_sound(path)
    path.write_bytes(b"")
    assert not seal.is_sound(path)


@pytest.mark.parametrize("kind", READ)
def test_a_damaged_file_is_named(tmp_path, kind):
    path = one_of_each(tmp_path)[kind]
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StudyFileError, match=str(path)):
        READ[kind](path)


def test_cells_edited_with_a_tool_that_keeps_the_metadata_are_seen(tmp_path):
    path = one_of_each(tmp_path)["parquet"]
    table = pq.read_table(path)
    edited = table.set_column(0, "x", pa.array(table.column("x").to_numpy() + 1))
    pq.write_table(edited, path)
    with pytest.raises(seal.DamagedFile):
        store.read_table(path)
    with pytest.raises(seal.DamagedFile):
        store.stored_columns(path)


def test_equal_arrays_give_equal_bytes_in_any_order():
    a, b = np.arange(3.0), np.eye(2)
    one, two = (
        seal.arrays_bytes({"a": a, "b": b}, {"x": 1, "y": 2}),
        seal.arrays_bytes({"b": b, "a": a}, {"y": 2, "x": 1}),
    )
    assert one == two
    assert seal.fits(one) and seal.fits(b"nothing") is None


def test_read_trace_finds_the_only_one(tmp_path):
    steps = {"run": [0], "step": [0], "position": [1], "token": [5], "finite": [True]}
    runs = {
        "run": [0],
        "prompt_id": ["p"],
        "category": [""],
        "sample": [0],
        "seed": [1],
        "arm": ["greedy"],
        "n_prompt": [1],
        "n_generated": [1],
        "finish": ["length"],
        "answer": [None],
        "correct": [None],
        "n_nonfinite": [0],
    }
    trace = Trace.from_rows(steps, {"run": [0], "step": [0], "layer": [0]}, runs, {"model": "tiny"}, [])
    store.write_trace(trace, tmp_path / "traces", "u")
    assert store.read_trace(tmp_path).meta == store.read_trace(tmp_path / "traces", "u").meta
    for file in (tmp_path / "traces").glob("u.*"):
        shutil.copy(file, file.with_name(file.name.replace("u.", "v.")))
    with pytest.raises(StudyFileError, match=r"2 traces \(u, v\): give the unit"):
        store.read_trace(tmp_path)
    with pytest.raises(StudyFileError, match="no trace"):
        store.read_trace(tmp_path / "none")


def test_the_json_is_plain_for_others(tmp_path):
    path = one_of_each(tmp_path)["json"]
    assert json.loads(path.read_text())["a"] == 1.5 and seal.read_json(path) == {"a": 1.5, "text": BOAST}


def test_arrays_come_in_one_order_in_every_process(tmp_path):
    names = [f"margin/{name}" for name in ("patch", "mean", "zero", "noise", "swap", "random, 3")]
    path = tmp_path / "x.safetensors"
    path.write_bytes(seal.arrays_bytes({name: np.zeros(2) for name in names}, {}))
    assert [list(seal.read_arrays(path)[0]) for _ in range(8)] == [sorted(names)] * 8
