"""Batteries: rows become prompts, and a wrong line is named with its number."""

import pytest

from phaselens.batteries import Battery, Prompt, load_battery, take
from phaselens.errors import InputError, PromptError, StudyFileError


def write(tmp_path, text, name="b.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_rows_in_every_form(tmp_path):
    path = write(
        tmp_path,
        '{"prompt": "one"}\n\n"bare"\n{"id": "q", "text": "two", "category": "sums", "answer": 4}\n'
        '{"prompt_ids": [3, 1]}\n{"text": "held out", "calibration": true}\n',
    )
    battery = load_battery(path)
    assert battery == Battery(
        "b",
        (
            Prompt("p0001", "one"),
            Prompt("p0003", "bare"),
            Prompt("q", "two", "sums", "4"),
            Prompt("p0005", "", token_ids=(3, 1)),
        ),
        (Prompt("p0006", "held out"),),
    )
    assert battery.categories == ("", "sums")


def test_csv_with_a_header(tmp_path):
    path = write(tmp_path, 'text,category,answer\n"a, b",sums,3\nc,,\n', "b.csv")
    assert load_battery(path).prompts == (Prompt("p0002", "a, b", "sums", "3"), Prompt("p0003", "c"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"prompt": "a"}\n{"prompt": ', "line 2: not JSON"),
        ('{"prompt": "a"}\n[1]', "line 2: got a list, wanted an object"),
        ('{"promt": "a"}', "line 1: unknown field 'promt'. Did you mean 'prompt'"),
        ('{"prompt": ""}', "line 1: the prompt is empty"),
        ('{"id": "a"}', "line 1: the prompt is empty"),
        ('{"prompt": 3}', "line 1: 'prompt' is a int, wanted text"),
        ('{"prompt": "a", "text": "b"}', "line 1: both 'prompt' and 'text'"),
        ('{"prompt_ids": [1, -2]}', "line 1: 'prompt_ids' must be"),
        ('{"id": "x", "prompt": "a"}\n{"id": "x", "prompt": "b"}', "id 'x' occurs more than once"),
        ('{"prompt": "a"}\n{"prompt": "a", "calibration": true}', "is also measured"),
        ("\n", "has no prompts"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, says):
    with pytest.raises(StudyFileError) as error:
        load_battery(write(tmp_path, text))
    assert says in str(error.value)
    assert "b.jsonl" in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"), [("a,b\n1,2\n", "no column 'prompt' or 'text'"), ("text\na,b\n", "line 2: more fields")]
)
def test_a_wrong_csv_is_named(tmp_path, text, says):
    with pytest.raises(StudyFileError, match=says):
        load_battery(write(tmp_path, text, "b.csv"))


def test_no_such_file(tmp_path):
    with pytest.raises(StudyFileError, match="no such file"):
        load_battery(tmp_path / "none.jsonl")
    with pytest.raises(StudyFileError, match="cannot read"):
        load_battery(tmp_path)


def test_an_empty_prompt_is_refused_in_python_too():
    with pytest.raises(PromptError, match="'q' is empty"):
        Prompt("q", "")


def test_take_keeps_the_first_of_every_category():
    prompts = tuple(Prompt(f"{c}{i}", f"{c}{i}", c) for i in range(3) for c in "ab")
    battery = Battery("b", prompts, tuple(Prompt(f"k{i}", f"k{i}") for i in range(4)))
    small = take(battery, 2, 3)
    assert [p.id for p in small.prompts] == ["a0", "b0", "a1", "b1"]
    assert len(small.calibration) == 3
    with pytest.raises(InputError, match="3 prompts of category 'a', 4 were asked for"):
        take(battery, 4)
