"""Rows of other tools as transcripts: every format from its own fields, and one clear line for each mistake."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.models.test_token_ids import CHATML
from tests.tokenizer_kinds import KINDS

from phaselens import generate, load, observe
from phaselens.bridges import read_transcripts
from phaselens.cli import call
from phaselens.errors import StudyFileError, TokenizerError, UnknownNameError
from phaselens.models import encoder


@pytest.fixture(scope="module")
def text():
    tokenizer = KINDS["byte BPE, BOS"]()
    tokenizer.chat_template = CHATML
    return encoder(SimpleNamespace(tokenizer=tokenizer, name="m"))


def write(tmp_path, *rows, name="foreign.jsonl"):
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return path


def spelled(text, run):
    """What the ids of a run spell, without special tokens."""
    return [text.tokenizer.decode(ids, skip_special_tokens=True) for ids in (run.prompt_ids, run.completion_ids)]


def test_rows_of_ids_and_of_text(tmp_path, text):
    path = write(
        tmp_path,
        {"prompt_ids": [5, 6], "completion_ids": [7], "id": "a", "category": "c", "answer": 3, "correct": True},
        "",
        {"text": "Where is", "response": " Lily?", "correct": 0, "unit": "lily"},
        {"prompt": "Where is", "output": " she", "id": None},
    )
    said = read_transcripts(path, text)
    assert said[0].prompt_ids == (5, 6) and said[0].completion_ids == (7,)
    assert [(t.prompt_id, t.correct) for t in said] == [("a", True), ("p0003", False), ("p0004", None)]
    assert said[0].answer == "3" and said[1].unit == "lily" and said.model == ""
    assert spelled(text, said[1]) == ["Where is", " Lily?"]
    assert said[1].prompt_ids[0] == 1


def test_rows_without_an_id_are_prompts_of_their_own_and_those_with_one_are_its_samples(tmp_path, text):
    rows = [{"prompt": "a", "completion": "b", "id": None}, {"prompt": "c", "completion": "d", "id": None}]
    assert [t.prompt_id for t in read_transcripts(write(tmp_path, *rows), text)] == ["p0001", "p0002"]
    rows = [{"prompt": "a", "completion": c, "id": "x"} for c in "bc"]
    said = read_transcripts(write(tmp_path, *rows), text)
    assert [(t.prompt_id, t.sample) for t in said] == [("x", 0), ("x", 1)]


CONVERSATION = [{"role": "user", "content": "Where is she?"}, {"role": "assistant", "content": "In Oslo."}]
SHAREGPT = [{"from": "human", "value": "Where is she?"}, {"from": "gpt", "value": "In Oslo."}]
ASKED = {"messages": CONVERSATION[:1]}
CHOICE = {"message": {"role": "assistant", "content": "In Oslo."}, "finish_reason": "stop"}


@pytest.mark.parametrize(
    "row",
    [
        {"messages": CONVERSATION},
        {"messages": CONVERSATION[:1], "completion": "In Oslo."},
        {"conversations": SHAREGPT},
        {"request": ASKED, "response": {"object": "chat.completion", "choices": [CHOICE]}},
        {"custom_id": "r1", "body": ASKED, "response": {"status_code": 200, "body": {"choices": [CHOICE]}}},
        {**ASKED, "choices": [CHOICE]},
    ],
)
def test_conversations_of_every_form_are_one_run(tmp_path, text, row):
    (run,) = read_transcripts(write(tmp_path, row), text)
    assert list(run.prompt_ids) == text.chat([("user", "Where is she?")])
    assert spelled(text, run)[1] == "In Oslo." and run.prompt == "Where is she?"


LM_EVAL = {
    "doc_id": 0,
    "doc": {"question": "2+2?", "answer": "4"},
    "target": "4",
    "arguments": {"gen_args_0": {"arg_0": "Q: 2+2? A:", "arg_1": {"until": ["\n"]}}},
    "resps": [[" 4", " 5"]],
    "filtered_resps": [" 4"],
    "filter": "none",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
}


def test_samples_of_lm_eval_bring_prompt_completion_and_grade(tmp_path, text):
    other = {**LM_EVAL, "filter": "flexible", "exact_match": 0.0}
    wrong = {**LM_EVAL, "doc_id": 1, "arguments": {"gen_args_0": {"arg_0": "Q: 1?", "arg_1": {}}}, "exact_match": 0.0}
    said = read_transcripts(write(tmp_path, LM_EVAL, other, wrong), text)
    assert [(t.prompt_id, t.sample, t.correct, t.answer) for t in said][:2] == [
        ("0", 0, True, "4"),
        ("0", 1, True, "4"),
    ]
    assert said[2].correct is False and spelled(text, said[0]) == ["Q: 2+2? A:", " 4"]
    assert "flexible" in said.sampling["notes"][0] and len(said) == 4


def test_of_a_choice_the_likeliest_continuation_was_said(tmp_path, text):
    row = {
        "doc_id": 3,
        "target": 1,
        "resps": [[["-3.5", "False"]], [["-1.25", "True"]]],
        "metrics": ["acc"],
        "acc": 1.0,
        "arguments": {f"gen_args_{i}": {"arg_0": "She lived in a ", "arg_1": c} for i, c in enumerate(("red", "big"))},
    }
    (run,) = read_transcripts(write(tmp_path, row), text)
    assert spelled(text, run) == ["She lived in a", " big"], "the blank goes to the continuation, as in the harness"
    assert run.correct is True and run.answer is None


def test_outputs_of_vllm_are_exact_ids_with_their_log_probabilities(tmp_path):
    places = [{"9": {"logprob": -0.25, "rank": 1}, "8": {"logprob": -3.0}}, {"7": {"logprob": -1.5}}]
    row = {
        "request_id": "7",
        "prompt": "a",
        "prompt_token_ids": [5, 6],
        "outputs": [{"text": "bc", "token_ids": [9, 7], "logprobs": places}],
    }
    (run,) = read_transcripts(write(tmp_path, row))
    assert (run.prompt_ids, run.completion_ids, run.logprobs) == ((5, 6), (9, 7), (-0.25, -1.5))


def test_log_probabilities_of_a_response_stand_beside_its_tokens(tmp_path, text):
    n = len(text(" Oslo.", False))
    logs = {"tokens": ["x"] * n, "token_logprobs": [-0.5] * (n - 1) + [-9999.0]}
    row = {"prompt": "She lived in", "choices": [{"text": " Oslo.", "logprobs": logs}]}
    (run,) = read_transcripts(write(tmp_path, row), text)
    assert run.logprobs == (-0.5,) * (n - 1) + (None,)
    row["choices"][0]["logprobs"] = {"token_logprobs": [-0.5] * (n + 3)}
    assert read_transcripts(write(tmp_path, row), text)[0].logprobs is None, "other tokens than ours"


def test_parquet_and_a_saved_data_set(tmp_path, text):
    rows = [{"messages": CONVERSATION, "id": "a"}, {"messages": CONVERSATION, "id": "b"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    assert [t.prompt_id for t in read_transcripts(tmp_path / "t.parquet", text)] == ["a", "b"]
    datasets = pytest.importorskip("datasets", reason="the extra bridges")
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    assert [t.prompt_id for t in read_transcripts(tmp_path / "saved", text)] == ["a", "b"]
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(tmp_path / "splits")
    with pytest.raises(StudyFileError, match="has the splits test"):
        read_transcripts(tmp_path / "splits", text)


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{not json", "line 2: not JSON"),
        ("[1, 2]", "line 2: got a list"),
        (DEEP, "line 2: brackets are nested too deeply"),
        ('{"prompt": "a", "completion": "b", "n": ' + "9" * 5000 + "}", "line 2: a number has too many digits"),
        ('{"prompt": "Q: \\ud83d where", "completion": "b"}', "line 2: the text holds half a surrogate pair"),
        ('{"prompt": "a", "completion": "b", "id": NaN}', "line 2: 'id' is NaN"),
        ({"prompt": "a", "completion": "b", "id": ["x"]}, "line 2: 'id' is a list"),
        ({"prompt": "a", "completion": "b", "category": {}}, "line 2: 'category' is a dict"),
        ({"prompt": "a", "completion": "b", "correct": [1]}, r"'correct' is \[1\]; wanted true"),
        ({"prompt": "other", "completion": "b", "id": "x"}, r"line 2: the id 'x' already stands for .* \(line 1\)"),
        ({"prompt": "a", "completion": ""}, "line 2: the completion is empty"),
        ({"prompt": "a"}, "line 2: no completion among"),
        ({"completion": "a"}, "line 2: no prompt among"),
        ({"prompt": 3, "completion": "a"}, "'prompt' is a int"),
        ({"prompt_ids": [1]}, "'prompt_ids' without the other"),
        ({"prompt_ids": [1], "completion_ids": []}, "completion_ids is empty"),
        ({"prompt_ids": [1], "completion_ids": [2.5]}, "holds 2.5"),
        ({"messages": CONVERSATION[:1]}, "the last turn is the completion"),
        ({"conversations": [{"from": "tool", "value": "a"}]}, "a turn is from 'tool'"),
        ({"choices": [CHOICE]}, "a response without its request"),
        ({"doc_id": 1, "arguments": {}, "resps": []}, "it is not what it looks like"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, text, row, says):
    path = write(tmp_path, {"prompt": "a", "completion": "b", "id": "x"}, row)
    with pytest.raises(StudyFileError, match=says):
        read_transcripts(path, text)


def test_text_without_a_tokenizer(tmp_path):
    with pytest.raises(TokenizerError, match="prompt_ids and completion_ids"):
        read_transcripts(write(tmp_path, {"prompt": "a", "completion": "b"}))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x93NUMPY\x01\x00", "is a NumPy array, wanted text"),
        (b"GGUF\x03\0\0\0", "model weights"),
        (b"\x80\x04\x95\0\0", "a Python pickle, which can run code and is never read"),
        (b"\x10\0\0\0\0\0\0\0{}", "safetensors"),
        (b"PAR1junk", "a Parquet file that cannot be read"),
        (b"PK\x03\x04junk", "is a ZIP archive"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_files_that_are_no_text_are_named_as_what_they_are(tmp_path, content, says, capsys):
    (tmp_path / "f.jsonl").write_bytes(content)
    if not content.startswith(b"PK"):
        with pytest.raises(StudyFileError, match=says):
            read_transcripts(tmp_path / "f.jsonl")
    assert call(["observe", "organism:llama-512", "--prompts", str(tmp_path / "f.jsonl"), "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(StudyFileError, match="no such file"):
        read_transcripts(tmp_path / "none.jsonl")
    with pytest.raises(StudyFileError, match="no row was found"):
        read_transcripts(write(tmp_path, ""))


DATA = Path(__file__).parent / "data"


def test_files_that_lm_eval_wrote(text):
    """Made by lm-evaluation-harness 0.4.13 with `log_samples`, two filters and a multiple choice."""
    said = read_transcripts(DATA / "lm_eval_generate.jsonl", text)
    assert [(t.prompt, t.completion, t.answer, t.correct) for t in said] == [
        ("Q: 2+2? A:", " 4", "4", True),
        ("Q: 2+3? A:", " 4", "5", False),
    ]
    assert "loose" in said.sampling["notes"][0]
    said = read_transcripts(DATA / "lm_eval_choice.jsonl", text)
    assert [(t.completion.split()[0], t.correct) for t in said] == [("Paris", True), ("five", False)]


def test_logs_of_inspect_ai_by_its_reader(tmp_path, text, monkeypatch):
    """The reader is theirs: here a stand-in that gives samples of its form (docs/bridges.md)."""
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04")
    turns = [SimpleNamespace(role="user", text="Where is she?"), SimpleNamespace(role="assistant", text="In Oslo.")]
    scores = {"match": SimpleNamespace(value="I"), "includes": SimpleNamespace(value="C")}
    good = SimpleNamespace(id="a", epoch=1, messages=turns, scores=scores, target="Oslo", error=None)
    bad = SimpleNamespace(id="b", epoch=1, messages=turns[:1], scores={}, target="", error="x")
    module = SimpleNamespace(read_eval_log=lambda path: SimpleNamespace(samples=[good, bad], status="success"))
    monkeypatch.setitem(sys.modules, "inspect_ai", SimpleNamespace(log=module))
    monkeypatch.setitem(sys.modules, "inspect_ai.log", module)
    (run,) = read_transcripts(tmp_path / "log.eval", text)
    assert (run.prompt_id, run.completion, run.answer, run.correct) == ("a", "In Oslo.", "Oslo", False)
    assert read_transcripts(tmp_path / "log.eval", text, scorer="includes")[0].correct is True
    with pytest.raises(UnknownNameError, match="unknown scorer"):
        read_transcripts(tmp_path / "log.eval", text, scorer="none")


def test_log_probabilities_of_the_file_stand_beside_ours_and_are_compared(tmp_path):
    model = load("organism:llama-512")
    said = generate(model, ["The", "A"], max_new_tokens=6, seed=0)
    trace = observe(model, said)
    ours = trace.numpy("steps")["surprisal"].reshape(2, 6)

    def read(shift):
        rows = [
            {
                "prompt_token_ids": list(t.prompt_ids),
                "outputs": [
                    {
                        "text": "",
                        "token_ids": list(t.completion_ids),
                        "logprobs": [{str(i): float(-s - shift)} for i, s in zip(t.completion_ids, o, strict=True)],
                    }
                ],
            }
            for t, o in zip(said, ours, strict=True)
        ]
        return observe(model, read_transcripts(write(tmp_path, *rows)))

    same, other = read(0.0), read(0.5)
    np.testing.assert_allclose(same.numpy("steps")["surprisal_given"], ours.ravel(), atol=1e-5)
    assert same.meta["given"]["notes"] == []
    assert "0.5 nats from this model's" in other.meta["given"]["notes"][0]
