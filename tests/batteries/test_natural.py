"""The natural battery: counts, balance, no text twice, minimal pairs of one length, and sums that add up."""

import re
from collections import Counter

import pytest

from phaselens.batteries import (
    CATEGORIES,
    FORMS,
    grade,
    natural_battery,
    natural_choices,
    natural_pairs,
    natural_questions,
)
from phaselens.batteries.natural import DATA

BATTERY, QUESTIONS, PAIRS, CHOICES = natural_battery(), natural_questions(), natural_pairs(), natural_choices()
PROMPTS = BATTERY.prompts + BATTERY.calibration
TEXTS = [
    *(p.text for p in PROMPTS),
    *(q.prompt(form).text for q in QUESTIONS for form in FORMS),
    *(text for pair in PAIRS for text in (pair.ambiguous, pair.first, pair.second)),
    *(c.text for c in CHOICES),
]
# The sums of the arithmetic prompts, written down again from their texts (or what their words mean).
SUMS = {
    "01": 7 + 5,
    "02": 14 - 6,
    "03": 9 * 3,
    "04": 20 / 4,
    "05": 15 + 27,
    "06": 12 + 9,
    "07": 18 / 2,
    "08": 30 + 45,
    "09": 6 + 8,
    "10": 50 - 20,
    "11": 7 * 8,
    "12": 36 / 6,
    "13": 100 - 1,
    "14": 3 + 4,
    "15": 2 * 12,
    "16": 10 - 3,
    "c01": 8 + 3,
    "c02": 17 - 9,
    "c03": 4 * 6,
    "c04": 5 + 11,
    "c05": 40 / 8,
    "c06": 9 - 2,
}
OPERATIONS = {"plus": "+", "minus": "-", "times": "*", "divided by": "/", "half of": "0.5 *"}
WORDS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
).split()
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(n: int) -> str:
    """A number below 100 in words."""
    if n <= 20:
        return WORDS[n]
    tens, ones = divmod(n, 10)
    return TENS[tens - 2] + (f"-{WORDS[ones]}" if ones else "")


def value(text: str) -> float:
    """What the first piece of arithmetic in a text comes to."""
    for name, sign in OPERATIONS.items():
        text = text.lower().replace(name, sign)
    found = re.search(r"[\d.]+(?: [-+*/] \d+)+", text)
    assert found, text
    return eval(found[0], {})  # digits and operators only, as the pattern says


def test_counts():
    assert BATTERY.categories == CATEGORIES
    assert Counter(p.category for p in BATTERY.prompts) == dict.fromkeys(CATEGORIES, 16)
    assert Counter(p.category for p in BATTERY.calibration) == dict.fromkeys(CATEGORIES, 6)
    assert len(QUESTIONS) == 100 and len(CHOICES) == 100
    assert Counter(p.kind for p in PAIRS) == {"homonym": 30, "attachment": 30, "coordination": 30}
    assert set(Counter(c.category for c in CHOICES).values()) == {20}
    assert {c.category for c in CHOICES} == {"factual", "arithmetic", "comparison", "grammar", "logic"}


def test_half_of_every_category_are_completions():
    forms = Counter((p.category, p.tag) for p in BATTERY.prompts)
    assert forms == {(category, form): 8 for category in CATEGORIES for form in FORMS}
    assert all(p.text.startswith("Q: ") == p.text.endswith("\nA:") == (p.tag == "question") for p in PROMPTS)


def test_the_first_calibration_prompts_cover_every_category():
    assert tuple(p.category for p in BATTERY.calibration[:6]) == CATEGORIES


def test_no_text_and_no_id_occurs_twice():
    assert [t for t, n in Counter(" ".join(t.lower().split()) for t in TEXTS).items() if n > 1] == []
    ids = [p.id for p in PROMPTS] + [x.id for part in (QUESTIONS, PAIRS) for x in part]
    assert len(set(ids)) == len(ids)


def test_no_wording_of_a_fact_is_both_a_prompt_and_a_question():
    asked = {q.question.lower() for q in QUESTIONS} | {q.completion.lower() for q in QUESTIONS}
    assert not [p.id for p in PROMPTS if p.text.removeprefix("Q: ").removesuffix("\nA:").lower() in asked]


def test_texts_are_short_and_plain():
    assert max(len(text.split()) for text in TEXTS) <= 40
    for file in sorted(DATA.iterdir()):
        assert file.read_bytes().isascii(), file
    assert not [t for t in TEXTS if t != t.strip() or not t.isascii()]


def test_what_has_one_answer_has_it_and_the_rest_has_none():
    without = Counter(p.category for p in PROMPTS if p.answer is None)
    assert without == {"open": 22, "ambiguous": 22, "format": 5}


@pytest.mark.parametrize("asked", [*(p for p in PROMPTS if p.accepted), *QUESTIONS], ids=lambda p: p.id)
def test_every_accepted_answer_is_graded_right_and_only_as_itself(asked):
    answers = asked.accepted if hasattr(asked, "accepted") else asked.answers
    assert grade(f" {answers[0]}.\nQ: more", answers).rule == "exact"
    assert all(grade(f"{a}, and so on", answers).right for a in answers)
    assert not grade("nothing of this", answers).right


@pytest.mark.parametrize("prompt", [p for p in PROMPTS if p.category == "arithmetic"], ids=lambda p: p.id)
def test_arithmetic_adds_up(prompt):
    expected = SUMS[prompt.id.removeprefix("arithmetic-")]
    assert prompt.accepted == (str(int(expected)), in_words(int(expected))) and expected == int(expected)
    if re.search(r"\d (?:[-+*/]|plus|minus|times|divided by) \d", prompt.text):
        assert value(prompt.text) == expected


def test_answers_in_digits_come_with_words():
    for asked in QUESTIONS:
        first = asked.answers[0]
        if first.isdecimal() and int(first) < 100:
            assert in_words(int(first)) in asked.answers, asked.id


def test_pairs_have_one_length_and_one_end():
    for pair in PAIRS:
        texts = (pair.ambiguous, pair.first, pair.second)
        lengths = [len(text.split()) for text in texts]
        assert max(lengths) - min(lengths) <= 1, pair.id
        assert len({text.split()[-1] for text in texts}) == 1, pair.id
        assert all(pair.senses) and len(set(pair.senses)) == 2 and len(set(pair.answers)) == 2, pair.id
        assert not set(pair.answers) & set(texts)


def test_disambiguations_change_at_most_two_words():
    for pair in PAIRS:
        words = Counter(pair.ambiguous.split())
        for text in (pair.first, pair.second):
            assert (Counter(text.split()) - words).total() <= 2, (pair.id, text)


def test_choices_are_asked_in_their_order_and_balanced():
    assert Counter((c.category, c.right) for c in CHOICES) == {
        (category, right): 10 for category in dict.fromkeys(c.category for c in CHOICES) for right in (0, 1)
    }
    for c in CHOICES:
        first, second = map(re.escape, c.alternatives)
        assert re.search(rf"\b{first} or (?:in )?(?:the |a |an )?{second}\b", c.text), c.id
        assert c.text.startswith("Q: ") and c.text.endswith("\nA:")


def test_neither_length_nor_size_gives_the_right_choice_away():
    longer = [len(c.answer) - len(min(set(c.alternatives) - {c.answer})) for c in CHOICES]
    assert abs(sum(d > 0 for d in longer) - sum(d < 0 for d in longer)) <= 10
    sums = [c for c in CHOICES if c.category == "arithmetic"]
    assert sum(c.answer == max(c.alternatives, key=int) for c in sums) == len(sums) / 2


@pytest.mark.parametrize("choice", [c for c in CHOICES if c.category == "arithmetic"], ids=lambda c: c.id)
def test_the_right_choice_of_a_sum_is_its_value(choice):
    assert int(choice.answer) == value(choice.text.split(",")[0])


def test_the_right_choice_of_two_numbers_is_the_larger_or_smaller():
    asked = [c for c in CHOICES if "number is" in c.text]
    assert len(asked) == 4
    for c in asked:
        assert c.answer == (max if "larger" in c.text else min)(c.alternatives, key=int)


@pytest.mark.assets
@pytest.mark.parametrize("name", ["gpt2", "gpt-neox-20b"])
def test_under_real_tokenizers_pairs_differ_by_one_token_and_alternatives_are_one(shared, name):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(shared / "data" / "tokenizers" / name / "tokenizer.json"))

    def length(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    for pair in PAIRS:
        lengths = [length(text) for text in (pair.ambiguous, pair.first, pair.second)]
        assert max(lengths) - min(lengths) <= 1, pair.id
    assert {length(f" {alternative}") for c in CHOICES for alternative in c.alternatives} == {1}
