"""The battery: enough of everything, balanced where a shortcut could hide, answers as the world has them."""

import json
from collections import Counter

import numpy as np
import pytest
from typer.testing import CliRunner

from phaselens.cli.organisms import app
from phaselens.errors import InputError
from phaselens.organisms import corpora, graded, prompts, world, world_battery
from phaselens.organisms.battery_of_world import false_values


@pytest.fixture(scope="module")
def whole():
    return world_battery()


def test_counts(whole):
    counts = whole.counts()
    assert min(n for name, n in counts["prompts"].items()) >= 32 and len(counts["prompts"]) == 7
    assert counts["questions"]["all"] >= 1000 and counts["minimal_pairs"]["all"] >= 60
    assert counts["forced_choice"]["all"] >= 200 and counts["probes"]["all"] >= 4000
    assert counts["paraphrases"] == {"all": 480, "unheard": 105, "heard": 375}
    assert graded(whole.world, 30, np.random.default_rng(5)) == graded(whole.world, 30, np.random.default_rng(5))


def test_graded_questions_are_stratified_and_apart_from_the_calibration(whole):
    by = Counter((q.category, q.tag) for q in whole.questions)
    factual = [n for (category, _), n in by.items() if category == "factual"]
    assert len(factual) == 5 and max(factual) - min(factual) <= 1
    assert max(whole.counts()["questions"][c] for c in ("factual", "arithmetic", "science", "format")) < 260
    assert len({q.id for q in whole.questions}) == len(whole.questions)
    assert not {q.unit for q in whole.questions} & {q.unit for q in whole.calibration}
    assert all(q.answer for q in whole.questions)
    anchors = {q.id for q in prompts("factual", 96, np.random.default_rng(0), calibration=True)}
    assert not anchors & {q.unit for q in whole.questions}, "one split for prompts and questions"
    with pytest.raises(InputError, match="all of the split"):
        graded(whole.world, 10**6, np.random.default_rng(0))


def test_forced_choices_are_balanced_and_right(whole):
    places = Counter((c.category, c.tag, c.right) for c in whole.choices)
    for category, tag, _ in places:
        assert abs(places[category, tag, 0] - places[category, tag, 1]) <= 1
    truth = {(f.entity, f.relation): f for f in whole.world.facts}
    in_text = Counter()
    for c in whole.choices:
        if c.category == "factual":
            fact = truth[tuple(c.id.removeprefix("factual/").removesuffix("-forced").split("-"))]
            assert c.answer == f"{fact.value}." and c.tag == f"class {fact.frequency}"
            order = [c.text.index(a[:-1], c.text.index(fact.entity) + 1) for a in c.alternatives]
            in_text[fact.frequency, order[c.right] < order[1 - c.right]] += 1
        elif c.category == "arithmetic":
            a, b = map(int, c.text.split("- ")[1].removesuffix(" =").split(" + "))
            assert c.answer == f"{a + b}."
            assert abs(int(c.alternatives[1 - c.right][:-1]) - a - b) in (1, 10)
    assert all(abs(in_text[k, True] - in_text[k, False]) <= 1 for k in range(5))
    assert len({c.id for c in whole.choices}) == len(whole.choices)
    # false answers of laws are answers to other questions, so no answer is right or wrong by itself
    laws = [c for c in whole.choices if c.category == "science"]
    assert {a for c in laws for a in c.alternatives} == {c.answer for c in laws}


def test_paraphrases_ask_one_fact_twice(whole):
    text = "".join(document.text for document in corpora.documents(whole.world, 9, 1500))
    for pair in whole.paraphrases:
        assert pair.first.answer == pair.second.answer and pair.first.text != pair.second.text
        assert pair.first.unit == pair.second.unit == pair.id
        if pair.unheard:
            assert pair.second.text.split(chr(10))[1] not in text


def test_false_sentences_have_the_words_of_true_ones(whole):
    wrong = false_values(whole.world, np.random.default_rng(0))
    assert len(wrong) == 480
    right, false = (Counter((f.relation, f.frequency, v(f)) for f in wrong) for v in (lambda f: f.value, wrong.get))
    assert right == false and all(value not in (f.value, f.entity) for f, value in wrong.items())
    by = Counter((s.item.category, s.item.frequency, s.item.truth) for s in whole.probes)
    for category, frequency, truth in by:
        if truth is not None:
            assert by[category, frequency, True] == by[category, frequency, False]
    assert {frequency for category, frequency, _ in by if category == "factual"} == {0, 1, 2, 3, 4}
    words = {truth: Counter() for truth in (True, False)}
    for s in whole.probes:
        if s.item.kind in ("Notes", "Laws"):
            words[s.item.truth].update(word.text for word in s.item.words)
    assert words[True] == words[False]


def test_probe_sentences_stand_in_their_context(whole):
    assert len({s.text for s in whole.probes}) == len(whole.probes)
    for s in whole.probes:
        assert s.text.startswith(f"{s.item.kind}\n")
        word = s.item.words[-1]
        assert s.text[s.offset + word.start : s.offset + word.end] == word.text
    groups = Counter(s.item.template for s in whole.probes)
    assert len(groups) > 40
    tags = Counter(word.pos for s in whole.probes for word in s.item.words)
    assert all(tags[tag] > 100 for tag in ("NOUN", "PROPN", "VERB", "AUX", "DET", "ADJ", "ADP", "PRON", "ADV", "NUM"))


def test_unwritten_facts_have_a_truth_of_their_own_in_every_seed():
    for seed in (1, 2):
        assert len(false_values(world.build_world(seed), np.random.default_rng(0))) >= 470


def test_command(whole, monkeypatch):
    monkeypatch.setattr("phaselens.organisms.world_battery", lambda seed: whole)
    result = CliRunner().invoke(app, ["battery", "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and {part: row["counts"] for part, row in found.items()} == whole.counts()
    assert CliRunner().invoke(app, ["battery"]).exit_code == 0
