"""Graders: right beside wrong for each kind, and what is no grader."""

import pytest

from phaselens.batteries.graders import KINDS, Grader
from phaselens.errors import InputError

RIGHT = [
    ("first line", " Paris, of course.\nMore", "Paris"),
    ("exact", " Paris\n", "Paris"),
    ("contains", "I think it is New York.", "new-york"),
    ("last number", "48 / 2 = 24, 48 + 24 = 72.\n#### 72", "Natalia sold 72.\n#### 72"),
    ("last number", "The answer is 42.", "42"),
    ("last number", "So 1,234.50 dollars, I guess", "1234.5"),
    ("last number", "That gives \u22125 degrees", "-5"),
    ("last number", "#### 72\nAsk me another: 15 + 3?", "72"),
    ("choice", "(B) Paris", "B"),
    ("choice", "Let me think. The answer is C because it is.", "C"),
    ("choice", "B", "B. Paris"),
    ("choice", "First A seems right.\nThe correct answer is (D).", "(D)"),
    ("regex:answer: (\\w+)", "answer: no ... answer: Paris!", "paris"),
    ("regex:\\d{4}", "born in 1815 or 1816", "1816"),
]
WRONG = [
    ("first line", "It is Paris", "Paris"),
    ("exact", "Paris.", "Paris"),
    ("contains", "Newyorkers", "York"),
    ("last number", "#### 72.5", "72"),
    ("last number", "seventy-two", "72"),
    ("last number", "24 or 27", "24"),
    ("choice", "A cat sat on the mat", "A"),
    ("choice", "the answer is B", "C"),
    ("choice", "Bananas", "B"),
    ("regex:answer: (\\w+)", "Paris", "Paris"),
]


@pytest.mark.parametrize(("kind", "text", "answer"), RIGHT)
def test_right(kind, text, answer):
    found = Grader.of(kind)(text, answer)
    assert found.right and found.answer == answer and found.rule in (kind.partition(":")[0], "exact", "normalised")


@pytest.mark.parametrize(("kind", "text", "answer"), WRONG)
def test_wrong(kind, text, answer):
    assert not Grader.of(kind)(text, answer).right


def test_every_kind_is_tried_above_and_takes_aliases():
    assert {kind.partition(":")[0] for kind, _, _ in RIGHT} == {kind.partition(":")[0] for kind, _, _ in WRONG}
    assert {kind.partition(":")[0] for kind, _, _ in RIGHT} == set(KINDS)
    assert Grader.of("last number")("it is 7", ("6", "7")).rule == "last number alias"


def starts_well(text, answers):
    return text.startswith("P") and answers == ("Paris",)


def test_a_function_is_a_grader_with_a_name():
    grader = Grader.of(starts_well)
    assert grader("Paris", "Paris").right and not grader("Lyon", "Paris").right
    assert grader.name.endswith("test_graders.starts_well") and Grader.of(None).name == "first line"
    with pytest.raises(InputError, match="gave 'maybe'"):
        Grader.of(lambda text, answers: "maybe")("a", "b")


@pytest.mark.parametrize("wrong", ["last nmber", "regex", "regex:(", "exact:x", "function"])
def test_what_is_no_grader(wrong):
    with pytest.raises(InputError):
        Grader.of(wrong)("a", "b")
