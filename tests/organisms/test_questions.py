"""Prompts fit, differ between the splits, and their answers are what the world says."""

import numpy as np
import pytest

from phaselens.errors import InputError, UnknownNameError
from phaselens.organisms import PROMPT_CATEGORIES, corpora, minimal_pairs, prompts, world


@pytest.fixture(scope="module")
def tokenizers():
    earth = world.build_world()
    return [corpora.build_tokenizer(earth, vocabulary) for vocabulary in (512, 1024)]


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


@pytest.mark.parametrize("category", ["factual", "arithmetic", "science", "format"])
def test_answers_are_those_of_the_world(category):
    """The generator, asked long enough, writes the prompt with its answer and never with another."""
    earth = world.build_world()
    lines = {line for d in corpora.documents(earth, 9, 6000) for line in d.text.splitlines()[1:]}
    found = 0
    for prompt in prompts(category, 64, np.random.default_rng(2)):
        start = prompt.text.split("\n")[1]
        follow = {line[len(start) + 1 :] for line in lines if line.startswith(start)}
        found += bool(follow)
        assert all(rest.startswith(prompt.answer) for rest in follow)
        if prompt.tag in ("class 0", "held out"):
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


def test_minimal_pairs_have_equal_lengths_and_stand_in_the_corpus():
    pairs = minimal_pairs()
    assert len(pairs) == 144 == len({pair.id for pair in pairs})
    text = "".join(d.text for d in corpora.documents(world.build_world(), 9, 6000))
    known = 0
    for pair in pairs:
        assert len({len(t.split()) for t in (pair.ambiguous, pair.first, pair.second)}) == 1
        first, second = (t.split("\n")[1] for t in (pair.first, pair.second))
        assert f"{first} {pair.answers[1]}" not in text and f"{second} {pair.answers[0]}" not in text
        known += f"{first} {pair.answers[0]}" in text
    assert known > 120
