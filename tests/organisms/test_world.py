"""The world is a function of its seed, its log-probabilities are exact, and what must never be written is not."""

import math
from collections import defaultdict

import numpy as np
import pytest

from phaselens.organisms import corpora, items, world
from phaselens.organisms.items import Draw, outcomes


@pytest.fixture(scope="module")
def earth():
    return world.build_world()


@pytest.fixture(scope="module")
def some(earth):
    return list(corpora.documents(earth, 5, 600))


def test_same_seed_same_world_and_documents(earth, some):
    again = world.build_world()
    assert again.facts == earth.facts and again.sums == earth.sums
    assert list(corpora.documents(again, 5, 600)) == some
    assert world.build_world(21).facts != earth.facts
    assert [d.text for d in corpora.documents(earth, 6, 20)] != [d.text for d in some[:20]]


def test_facts_and_classes(earth):
    by_class = defaultdict(list)
    for fact in earth.facts:
        by_class[fact.frequency].append(fact)
        assert fact.value in world.RELATIONS[fact.relation][0] and fact.value != fact.entity
    assert {k: len(v) for k, v in by_class.items()} == dict.fromkeys(range(5), 96)
    assert len(set(world.NAMES)) == 96 and len(set(world.FRIENDS)) == 12
    share = [math.exp(earth.fact_log_probability(i)) for i in range(len(earth.written))]
    assert math.isclose(sum(share), 1.0, abs_tol=1e-12)
    rare = next(i for i, fact in enumerate(earth.written) if fact.frequency == 1)
    common = next(i for i, fact in enumerate(earth.written) if fact.frequency == 4)
    assert math.isclose(share[common] / share[rare], 64, rel_tol=1e-9)


WRITERS = {
    "fact": items.write_fact,
    "quiz": items.write_quiz,
    "sum": items.write_sum,
    "law": items.write_law,
    "homonym": items.write_homonym,
    "count": items.write_count,
    "code": items.write_code,
    "record": lambda earth, draw: items.write_record(earth, draw, ("item", "count", "color")),
    "opening": lambda earth, draw: items.open_story(draw)[0],
    "story": lambda earth, draw: items.write_story(draw, ("cat", True, False)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_item_grammar_sums_to_one_and_every_text_has_one_derivation(earth, name):
    found = list(outcomes(lambda draw: WRITERS[name](earth, draw)))
    assert math.isclose(math.fsum(math.exp(logp) for _, logp in found), 1.0, abs_tol=1e-9)
    merged = defaultdict(float)
    for text, logp in found:
        merged[text] += math.exp(logp)
    ambiguity = math.fsum(math.exp(logp) * (math.log(merged[text]) - logp) for text, logp in found)
    assert ambiguity <= 1e-9, "two derivations of one text: its log-probability would be too low"


@pytest.mark.parametrize("name", ["quiz", "law", "homonym", "story", "code"])
def test_mean_surprise_of_draws_is_the_exact_entropy(earth, name):
    exact = [-logp for _, logp in outcomes(lambda draw: WRITERS[name](earth, draw))]
    weights = np.exp(-np.array(exact))
    entropy = float(np.dot(weights, exact))
    rng, drawn = np.random.default_rng(3), []
    for _ in range(4000):
        draw = Draw(rng)
        WRITERS[name](earth, draw)
        drawn.append(-draw.logp)
    error = float(np.std(drawn)) / math.sqrt(len(drawn))
    assert abs(np.mean(drawn) - entropy) < 4.5 * error + 1e-9


def test_brackets_balance_and_keep_their_probability(earth):
    rng, closing = np.random.default_rng(0), {"(": ")", "[": "]", "{": "}"}
    shortest = 0
    for _ in range(2000):
        draw = Draw(rng)
        text, stack = items.write_brackets(earth, draw), []
        for sign in text.split()[1:]:
            if sign in closing:
                stack.append(closing[sign])
                assert len(stack) <= 3
            else:
                assert sign == stack.pop()
        assert not stack and draw.logp < 0
        if text == "- ( )\n":
            shortest += 1
            assert math.isclose(draw.logp, math.log(1 / 3 * 0.6 * 0.5))
    assert abs(shortest / 2000 - 0.1) < 0.03


def test_stories_agree(earth):
    for about, right in ((("cat", True, True), "were"), (("cat", False, True), "was"), (("cat", True, False), "are")):
        texts = [text for text, _ in outcomes(lambda draw, about=about: items.write_story(draw, about))]
        used = {word for text in texts for word in text.split() if word in {"was", "were", "is", "are"}}
        assert used == {right}


def test_document_log_probability_is_that_of_its_pieces(some):
    for document in some:
        assert document.pieces[0].text == document.kind + "\n"
        assert all(piece.logp <= 0 for piece in document.pieces)
        assert document.pieces[-1] == corpora.Piece("", "end", document.pieces[-1].logp)
        assert all(piece.category == corpora.KINDS[document.kind][1] for piece in document.pieces[1:-1])
    assert math.isclose(sum(share for share, _, _ in corpora.KINDS.values()), 1.0)
    stops = [document.pieces[-1].logp for document in some]
    assert all(logp in (0.0, pytest.approx(math.log(corpora.STOP))) for logp in stops)


def test_held_out_sums_and_class_0_facts_are_never_written(earth, some):
    assert len(earth.held_out_sums) == 648 and len(earth.sums) == 2592
    assert not earth.held_out_sums & set(earth.sums)
    truth = {(fact.entity, fact.relation): fact for fact in earth.facts}
    stated = summed = 0
    for document in some:
        for entity, relation, value in corpora.facts_in(document.text):
            assert truth[entity, relation].value == value and truth[entity, relation].frequency > 0
            stated += 1
        if document.kind == "Sums":
            for line in document.text.splitlines()[1:]:
                left, result = line[2:-1].split(" = ")
                a, b = map(int, left.split(" + "))
                assert a + b == int(result) and (a, b) not in earth.held_out_sums
                summed += 1
    lines = sum(len(d.pieces) - 2 for d in some if d.kind in ("Notes", "Quiz"))
    assert stated == lines > 500 and summed > 500


def test_exposures_count_every_wording(earth):
    fact = next(fact for fact in earth.facts if fact.relation == "friend" and fact.frequency)
    texts = [f"Notes\n- {fact.entity} knows {fact.value}.\n- The friend of {fact.entity} is {fact.value}.\n"]
    texts.append(f"Quiz\nQ: Who is the friend of {fact.entity}? A: {fact.value}.\n")
    counts = corpora.exposures(earth, texts)
    assert counts[fact.entity, "friend"] == 3 == sum(counts.values())


@pytest.mark.parametrize("vocabulary", [512, 1024])
def test_tokenizers(earth, some, vocabulary, tmp_path):
    tokenizer = corpora.build_tokenizer(earth, vocabulary)
    assert len(tokenizer) == vocabulary
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    again = corpora.build_tokenizer(earth, vocabulary)
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    loaded = corpora.load_tokenizer(tmp_path)
    lengths = []
    for document in some:
        ids, owner = corpora.encode(loaded, document)
        assert loaded.decode(ids[1:-1]) == document.text and loaded.unk_token_id not in ids
        assert loaded(document.text)["input_ids"] == ids[:-1]
        assert owner[1:] == sorted(owner[1:]) and set(owner[1:]) == set(range(len(document.pieces)))
        lengths.append(len(ids))
    assert max(lengths) <= corpora.CONTEXT
    if vocabulary == 512:
        assert np.mean([140 <= length <= 245 for length in lengths]) > 0.95
    printable = "".join(chr(code) for code in range(32, 127)) + "\n"
    assert loaded.decode(loaded(printable)["input_ids"][1:]) == printable
    assert loaded.unk_token_id in loaded("é")["input_ids"]


def test_batches_cover_rows_once_with_little_padding(earth, some):
    rows = corpora.rows(corpora.build_tokenizer(earth, 512), [document.text for document in some])
    batches = corpora.batch_order([len(row) for row in rows], 8, np.random.default_rng(0))
    used = sorted(int(i) for batch in batches for i in batch)
    assert used == list(range(600))
    ids, labels = corpora.collate([[1, 5, 2], [1, 2]])
    assert ids.tolist() == [[1, 5, 2], [1, 2, 0]] and labels.tolist() == [[1, 5, 2], [1, 2, -100]]
    padded = sum(8 * max(len(rows[i]) for i in batch) for batch in batches)
    assert padded < 1.05 * sum(map(len, rows))
