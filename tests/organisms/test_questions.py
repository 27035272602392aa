"""Prompts fit, differ between the splits, and their answers are what the world says."""

from collections import Counter

import numpy as np
import pytest
from tools.organisms import rows

from phaselens.errors import InputError, UnknownNameError
from phaselens.organisms import PROMPT_CATEGORIES, corpora, minimal_pairs, prompts, world
from phaselens.organisms.questions import agreement_pairs, exact_questions


@pytest.fixture(scope="module")
def tokenizers():
    clean = [document.text for document in corpora.documents(world.build_world(), 1, 800)]
    return [rows.train_tokenizer(iter(clean), vocabulary) for vocabulary in (512, 2048)]


@pytest.mark.parametrize("category", PROMPT_CATEGORIES)
def test_prompts(category, tokenizers):
    test = prompts(category, 32, np.random.default_rng(0))
    assert test == prompts(category, 32, np.random.default_rng(0)) != prompts(category, 32, np.random.default_rng(1))
    calibration = prompts(category, 16, np.random.default_rng(0), calibration=True)
    ids = [prompt.id for prompt in test + calibration]
    assert len(set(ids)) == 48 and {prompt.category for prompt in test} == {category}
    assert len({prompt.text for prompt in test + calibration}) == 48
    assert all((prompt.answer is None) == (category in ("open", "ambiguous")) for prompt in test)
    for tokenizer in tokenizers:
        assert max(len(tokenizer(prompt.text)["input_ids"]) for prompt in test + calibration) <= 40


@pytest.fixture(scope="module")
def lines():
    """Every line of 4,000 documents."""
    earth = world.build_world()
    return sorted({line for d in corpora.documents(earth, 9, 4000) for line in d.text.splitlines()[1:]})


@pytest.mark.parametrize("category", ["factual", "arithmetic", "science", "format"])
def test_answers_are_those_of_the_world(category, lines):
    """The generator, asked long enough, writes the prompt with its answer and never with another."""
    found = 0
    for prompt in prompts(category, 64, np.random.default_rng(2)):
        start = prompt.text.split("\n")[1]
        follow = {line[len(start) + 1 :] for line in lines if line.startswith(start)}
        found += bool(follow)
        assert all(rest.startswith((prompt.answer, *prompt.aliases)) for rest in follow)
        if prompt.tag == "class 0" or "held out" in prompt.tag:
            assert not follow
    assert found >= 20


def test_tags_are_spread():
    tags = [prompt.tag for prompt in prompts("factual", 50, np.random.default_rng(4))]
    assert {tag: tags.count(tag) for tag in tags} == {f"class {i}": 10 for i in range(5)}


def test_bad_requests():
    with pytest.raises(UnknownNameError, match="Did you mean 'factual'"):
        prompts("factal", 3, np.random.default_rng(0))
    with pytest.raises(InputError, match="which is all of the split"):
        prompts("ambiguous", 10_000, np.random.default_rng(0))


def test_minimal_pairs_have_equal_lengths_and_stand_in_the_corpus(lines):
    pairs = minimal_pairs()
    assert len(pairs) == 288 == len({pair.id for pair in pairs})
    assert Counter(p.kind for p in pairs) == {"homonym": 144, "attachment": 96, "unsettled": 48}
    units = {kind: {p.unit for p in pairs if p.kind == kind} for kind in ("homonym", "attachment", "unsettled")}
    assert {kind: len(own) for kind, own in units.items()} == {"homonym": 12, "attachment": 6, "unsettled": 48}
    names = [t.split("- ")[1].split("?")[0] for p in pairs if p.kind == "unsettled" for t in (p.first, p.second)]
    assert len(set(names)) == 96, "no known fact serves two units"
    written, known = set(lines), 0
    for pair in pairs:
        texts = [t.split("\n")[1] for t in (pair.ambiguous, pair.first, pair.second)]
        words = [t.split() for t in texts]
        assert len({len(w) for w in words}) == 1
        for other in words[1:]:
            assert sum(a != b for a, b in zip(words[0], other, strict=True)) == 1
        assert f"{texts[1]} {pair.answers[1]}" not in written and f"{texts[2]} {pair.answers[0]}" not in written
        known += f"{texts[1]} {pair.answers[0]}" in written
    assert known > 150
    facts = {(f.entity, f.relation): f for f in world.build_world().facts}
    for pair in (p for p in pairs if p.kind == "unsettled"):
        assert facts[tuple(pair.id.split("-"))].frequency == 0 and set(a[:-1] for a in pair.answers) == set(pair.senses)


def test_wordings_held_out_are_not_those_written(lines):
    """Two facts in nine are asked in a wording in which they are never written, though others of their relation are."""
    asked = {
        prompt.id.removesuffix("-paraphrase"): prompt for prompt in exact_questions(world.build_world(), "paraphrase")
    }
    assert len(asked) == 105 and sum(p.tag == "class 0" for p in asked.values()) == 21
    for prompt in asked.values():
        start = prompt.text.split("\n")[1]
        assert not any(line.startswith(f"{start} ") for line in lines)
    stated = {
        prompt.id.removesuffix("-statement"): prompt for prompt in exact_questions(world.build_world(), "statement")
    }
    common = [stated[id_].text.split("\n")[1] for id_, p in asked.items() if p.tag == "class 4"]
    assert np.mean([any(line.startswith(f"{start} ") for line in lines) for start in common]) > 0.9


def test_choices_have_the_right_answer_at_either_place():
    first = 0
    for prompt in exact_questions(world.build_world(), "choice"):
        left, right = prompt.text.rstrip("?").split(" ")[-3], prompt.text.rstrip("?").split(" ")[-1]
        assert prompt.answer in (left, right) and left != right and prompt.id.endswith("-choice")
        first += prompt.answer == left
    assert first == 240


def test_readings_are_asked_once_each():
    readings = exact_questions(world.build_world(), "readings")
    assert len(readings) == 12 * 2 * 4 + 96 * 2 == len({r.text for r in readings})
    with pytest.raises(UnknownNameError, match="kind of question"):
        exact_questions(world.build_world(), "riddles")


def test_agreement_pairs_cross_number_and_what_stands_between():
    pairs = agreement_pairs()
    tags = [pair.tag for pair in pairs]
    assert len(pairs) == 144 and {tags.count(tag) for tag in tags} == {24} and len(set(tags)) == 6
    for pair in pairs:
        plural = pair.tag.startswith("plural")
        assert (pair.right.split()[0] in ("are", "go", "run", "walk", "come")) == plural and pair.right != pair.wrong
