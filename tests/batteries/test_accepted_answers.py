"""Grading: an answer is never found in the beginning of a longer word or number, and the rule is always said."""

import numpy as np
import pytest

from phaselens.batteries import RULES, Grade, exact, grade, normalise, normalised, settled, tally
from phaselens.errors import InputError

# Right under the exact rule; wrong under it, beside each other.
EXACT = [
    ("12", "12."),
    ("12", " 12"),
    ("12", "12, 14, 16"),
    ("12", "12 apples"),
    ("12", "\n\n  12\n13"),
    ("12", "12%"),
    ("Oslo", "Oslo"),
    ("Oslo", "Oslo; it is"),
    ("Oslo", "Oslo."),
    ("New York", "New York, a city"),
    ("+ b", "+ b)"),
    (")", ")"),
    ("i>", "i>."),
]
NOT_EXACT = [
    ("12", "123"),
    ("12", "12.5"),
    ("1", "1,000"),
    ("12", "12:30"),
    ("1", "1/2"),
    ("12", "12-15"),
    ("12", "12+5"),
    ("7", "7 million"),
    ("3", "3 1/2"),
    ("12", "x 12"),
    ("12", "-12"),
    ("Oslo", "Oslos"),
    ("Oslo", "oslo"),
    ("Oslo", "Oslo_2"),
    ("Oslo", "It is Oslo"),
    ("Oslo", "Bergen\nOslo"),
    ("can", "can't"),
    ("can", "can\u2019t"),
    ("twenty", "twenty-five"),
    ("twenty", "twenty five"),
    ("two", "two hundred"),
    ("i", "\u00ed"),
    ("i", "i\u0301"),
    ("Oslo", ""),
]


@pytest.mark.parametrize(("answer", "text"), EXACT)
def test_exact_takes_the_answer_that_ends(answer, text):
    assert exact(text, answer)


@pytest.mark.parametrize(("answer", "text"), NOT_EXACT)
def test_exact_refuses_what_goes_on_or_stands_elsewhere(answer, text):
    assert not exact(text, answer)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        # the cases of SQuAD's own script
        ("The  Paris.", "paris"),
        ("an apple, a day", "apple day"),
        ("O'Neill", "oneill"),
        # numbers keep what makes them different
        ("1,000", "1000"),
        ("$1,234.50", "1234.5"),
        ("51.0", "51"),
        ("3.14", "3.14"),
        (".5", "0.5"),
        ("\u22125", "-5"),
        ("1/2", "1/2"),
        ("12:30", "12:30"),
        ("1, 2, 3", "1 2 3"),
        ("1,2", "1,2"),
        ("10\u00b2", "10^2"),
        ("3\u00bd", "3 1/2"),
        # letters
        ("S\u00e3o Paulo", "sao paulo"),
        ("Sa\u0303o Paulo", "sao paulo"),
        ("H\u2082O", "h2o"),
        ("STRASSE", "strasse"),
        ("Stra\u00dfe", "strasse"),
        ("\u0915\u093f", "\u0915\u093f"),
        ("\u0439", "\u0439"),
        ("U.S.A.", "usa"),
        ("A", "a"),
        ("vitamin A is", "vitamin a is"),
        ("A cat", "cat"),
        ("\u201cA cat\u201d", "cat"),
        ("**Paris**", "paris"),
        # operators are not punctuation
        ("a + b", "a + b"),
        ("a - b", "a - b"),
        ("C++", "c++"),
        ("C#", "c#"),
    ],
)
def test_normal_forms(text, normal):
    assert normalise(text) == normal


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("Paris", "paris, of course"),
        ("Pacific Ocean", "The Pacific Ocean."),
        ("1000", "1,000 grams"),
        ("1,000", "1000"),
        ("24", "$24"),
        ("51.0", "51 dollars"),
        ("twenty-five", "Twenty five"),
        ("New York", "new-york"),
        ("si", "S\u00ed"),
        ("Mt. Everest", "Mt Everest"),
        ("yes", "**Yes**, he is"),
    ],
)
def test_normalised_takes_other_spellings(answer, text):
    assert normalised(text, answer) and not exact(text, answer)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("314", "3.14"),
        ("5", "-5"),
        ("12", "1/2"),
        ("1", "1/2"),
        ("3", "3\u00bd"),
        ("102", "10\u00b2"),
        ("5", ".5"),
        ("10", "10-12"),
        ("twenty", "Twenty-five"),
        ("twenty", "Twenty five"),
        ("7", "7 Million"),
        ("vitamin A", "Vitamin D"),
        ("C++", "C"),
        ("C", "C++"),
        ("a + b", "a - b"),
        ("a", "an"),
        ("!", "?"),
        ("cat", "cats"),
        ("\u0915", "\u0915\u093f"),
    ],
)
def test_normalised_keeps_different_answers_apart(answer, text):
    assert not normalised(text, answer)


@pytest.mark.parametrize(("answer", "text"), [(a, t) for a, t in EXACT if any(c.isalnum() for c in a)])
def test_what_is_exact_is_normalised_too(answer, text):
    assert normalised(text, answer)


def test_a_grade_says_the_rule_and_the_answer():
    accepted = ("Mount Everest", "Everest")
    assert grade(" Mount Everest.", accepted) == Grade(True, "exact", "Mount Everest")
    assert grade(" Everest.", accepted) == Grade(True, "exact alias", "Everest")
    assert grade("mount everest", accepted) == Grade(True, "normalised", "Mount Everest")
    assert grade("everest", accepted) == Grade(True, "normalised alias", "Everest")
    assert grade("K2", accepted) == Grade(False, "none", None)
    assert grade("everest", accepted, lenient=False) == Grade(False, "none", None)
    assert grade("", "x") == Grade(False, "none", None)


def test_a_tally_counts_every_rule():
    grades = [grade(text, "12") for text in ("12", "12.", "$12", "13")]
    assert tally(grades) == {**dict.fromkeys(RULES, 0), "exact": 2, "normalised": 1, "none": 1}


@pytest.mark.parametrize("answers", [(), "", ("x", " ")])
def test_nothing_to_grade_against_is_refused(answers):
    with pytest.raises(InputError, match="wanted at least one"):
        grade("x", answers)


@pytest.mark.parametrize(
    ("text", "over"),
    [
        ("", False),
        (" 8", False),
        (" 82", False),
        (" 82 ", False),
        (" 9", True),
        (" 82 and", True),
        (" 82\n", True),
        ("\n", False),
        (" 82 is 7", True),
        (" it", True),
    ],
)
def test_a_grade_is_settled_once_nothing_that_follows_can_change_it(text, over):
    assert settled(text, ("82", "eighty-two"), lenient=False) is over


def test_what_is_settled_stays_whatever_follows():
    rng, answers = np.random.default_rng(0), ("New York", "York")
    letters = list("NewYorkx -.,5\n")
    for _ in range(300):
        text = "".join(rng.choice(letters, 4))
        if settled(text, answers):
            grades = {grade(text + "".join(rng.choice(letters, 5)), answers).right for _ in range(20)}
            assert len(grades) == 1, text
