import json

import pytest

from phaselens.errors import InputError, PromptError, StudyFileError
from phaselens.trace.transcripts import Transcript, Transcripts, from_pairs, read_jsonl

ONE = Transcript(
    run=0,
    prompt_ids=(5, 6),
    completion_ids=(7, 8, 9),
    prompt_id="q1",
    category="factual",
    sample=2,
    seed=11,
    prompt='é \u2028 "quoted"\n',
    completion="x",
    finish="eos",
    arm="t0.7",
    answer="42",
    aliases=("forty-two", "42."),
    tag="2 steps",
    correct=False,
    logprobs=(-0.5, None, -2.0),
)


def test_round_trip_with_every_field_set_and_unset(tmp_path):
    other = Transcript(run=1, prompt_ids=(5,), completion_ids=(7,))
    said = Transcripts((ONE, other), {"temperature": 0.7, "seed": 11}, "abc")
    path = said.write_jsonl(tmp_path / "t.jsonl")
    assert read_jsonl(path) == said
    assert path.read_bytes() == said.write_jsonl(tmp_path / "again.jsonl").read_bytes()
    assert len(path.read_text().strip().split("\n")) == 3


def test_what_is_fed_leaves_out_the_last_token():
    assert ONE.fed == (5, 6, 7, 8) and ONE.n_prompt == 2 and ONE.n_generated == 3


def test_run_rows_are_sorted_by_run():
    said = Transcripts((Transcript(3, (1,), (2,)), Transcript(1, (1, 1), (2, 2, 2))))
    assert [(r["run"], r["n_prompt"], r["n_generated"]) for r in said.run_rows()] == [(1, 2, 3), (3, 1, 1)]


def test_tag_and_aliases_reach_the_runs_and_are_null_where_there_are_none():
    said = Transcripts((ONE, Transcript(run=1, prompt_ids=(5,), completion_ids=(7,))))
    assert [(r["tag"], r["aliases"]) for r in said.run_rows()] == [("2 steps", "forty-two\n42."), (None, None)]


def test_a_file_of_version_1_is_read_without_tag_and_aliases(tmp_path):
    path = Transcripts((ONE,)).write_jsonl(tmp_path / "t.jsonl")
    _, row, _ = path.read_text().split("\n")
    header = json.dumps({"phaselens_transcripts": 1, "model": "", "sampling": {}})
    old = {key: value for key, value in json.loads(row).items() if key not in ("tag", "aliases")}
    path.write_text(f"{header}\n{json.dumps(old)}\n")
    (read,) = read_jsonl(path)
    assert (read.tag, read.aliases, read.answer) == ("", (), "42")
    path.write_text(f"{header}\n{json.dumps(old | {'new': 1})}\n")
    with pytest.raises(StudyFileError, match="missing or unknown"):
        read_jsonl(path)


def test_pairs_become_numbered_runs():
    said = from_pairs([([5], [6, 7]), ((8, 9), (1,))])
    assert [(t.run, t.prompt_id, t.prompt_ids, t.completion_ids, t.finish) for t in said] == [
        (0, "p0000", (5,), (6, 7), "given"),
        (1, "p0001", (8, 9), (1,), "given"),
    ]


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (([5], []), "pair 0: completion_ids is empty"),
        (([], [5]), "prompt_ids is empty"),
        (([5], [-1]), "holds -1"),
        (([5], [1.5]), "holds 1.5"),
        (([5], [True]), "holds True"),
        (("ab", [5]), "prompt_ids is a str"),
        (([5], 7), "completion_ids is a int"),
        ([5], "wanted \\(prompt_ids, completion_ids\\)"),
        (7, "wanted \\(prompt_ids, completion_ids\\)"),
    ],
)
def test_pairs_that_are_none(pair, says):
    with pytest.raises(PromptError, match=says):
        from_pairs([pair])


def test_a_run_number_may_occur_once():
    with pytest.raises(InputError, match="twice"):
        Transcripts((ONE, ONE))


def write(tmp_path, *rows):
    path = tmp_path / "foreign.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(StudyFileError, match="No such file"):
        read_jsonl(tmp_path / "none.jsonl")
    with pytest.raises(StudyFileError, match="holds no transcripts"):
        read_jsonl(write(tmp_path, ""))
    with pytest.raises(StudyFileError, match="not written by phaselens"):
        read_jsonl(write(tmp_path, {"prompt": "a", "completion": "b"}))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudyFileError, match="not UTF-8"):
        read_jsonl(tmp_path / "binary")
    with pytest.raises(StudyFileError, match="version 99"):
        read_jsonl(write(tmp_path, {"phaselens_transcripts": 99}))
    lines = list(Transcripts((ONE,)).lines())
    cut = json.loads(lines[1])
    del cut["seed"]
    with pytest.raises(StudyFileError, match=r"line 2: fields \['seed'\] are missing"):
        read_jsonl(write(tmp_path, {"phaselens_transcripts": 1}, cut))
