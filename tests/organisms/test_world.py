"""The world is a function of its seed, its log-probabilities are exact, and what must never be written is not."""

import math
from collections import defaultdict

import numpy as np
import pytest
from tools.organisms import evaluate, web_corpus
from tools.organisms import rows as of_rows

from phaselens.organisms import corpora, tokens, world, world_sentences
from phaselens.organisms.world_sentences import Draw, outcomes


@pytest.fixture(scope="module")
def earth():
    return world.build_world()


@pytest.fixture(scope="module")
def some(earth):
    return list(corpora.documents(earth, 5, 600))


@pytest.fixture(scope="module")
def rough(earth):
    return list(web_corpus.web_texts(earth, 5, 600))


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
        assert fact.held_out in (None, 0, 1, 2) and len(fact.statements) == (3 if fact.held_out is None else 2)
        wordings = world.RELATIONS[fact.relation][1]
        assert fact.held_out is None or wordings[fact.held_out] not in fact.statements
    assert {k: len(v) for k, v in by_class.items()} == dict.fromkeys(range(5), 96)
    for facts in by_class.values():
        assert [sum(f.held_out == i for f in facts) for i in (0, 1, 2)] in ([11, 11, 10], [11, 10, 11], [10, 11, 11])
    assert len(set(world.NAMES)) == 96 and len(set(world.FRIENDS)) == 12
    share = np.diff(earth.cumulative, prepend=0.0)
    assert math.isclose(sum(share), 1.0, abs_tol=1e-12)
    rare = next(i for i, fact in enumerate(earth.written) if fact.frequency == 1)
    common = next(i for i, fact in enumerate(earth.written) if fact.frequency == 4)
    assert math.isclose(share[common] / share[rare], 64, rel_tol=1e-9)


WRITERS = {
    "fact": world_sentences.write_fact,
    "quiz": world_sentences.write_quiz,
    "sum": world_sentences.write_sum,
    "law": world_sentences.write_law,
    "homonym": world_sentences.write_homonym,
    "attachment": world_sentences.write_attachment,
    "words": world_sentences.write_words,
    "count": world_sentences.write_count,
    "code": world_sentences.write_code,
    "record": lambda earth, draw: world_sentences.write_record(earth, draw, ("item", "count", "color")),
    "opening": lambda earth, draw: world_sentences.open_story(draw)[0],
    "story": lambda earth, draw: world_sentences.write_story(draw, ("cat", True, False)),
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


@pytest.mark.parametrize("name", ["quiz", "law", "words", "opening", "code"])
def test_mean_surprise_of_draws_is_the_exact_entropy(earth, name):
    exact = [-logp for _, logp in outcomes(lambda draw: WRITERS[name](earth, draw))]
    weights = np.exp(-np.array(exact))
    entropy = float(np.dot(weights, exact))
    rng, drawn = np.random.default_rng(3), []
    for _ in range(3000):
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
        text, stack = world_sentences.write_brackets(earth, draw), []
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
    for (plural, past), right in (((True, True), "were"), ((False, True), "was"), ((True, False), "are")):
        texts = [
            text for text, _ in outcomes(lambda draw, form=(plural, past): world_sentences.story_rest(draw, *form))
        ]
        used = {word for text in texts for word in text.split() if word in {"was", "were", "is", "are"}}
        assert used == {right}
        subjects = [
            text
            for text, _ in outcomes(
                lambda draw, about=("cat", plural, past): world_sentences.story_subject(draw, about)
            )
        ]
        assert {text.split()[0] for text in subjects} == {"The", "They" if plural else "It"}
        assert {text.split()[1] for text in subjects if " The " in text} == {"cats" if plural else "cat"}


def test_document_log_probability_is_that_of_its_pieces(some):
    for document in some:
        assert document.pieces[0].text == document.kind + "\n"
        assert all(piece.logp <= 0 for piece in document.pieces)
        assert document.pieces[-1] == corpora.Piece("", "end", document.pieces[-1].logp)
        assert all(piece.category == corpora.KINDS[document.kind][1] for piece in document.pieces[1:-1])
    assert math.isclose(sum(share for share, _, _ in corpora.KINDS.values()), 1.0)
    stops = [document.pieces[-1].logp for document in some]
    assert all(logp in (0.0, pytest.approx(math.log(corpora.STOP))) for logp in stops)


def test_choices_follow_their_answer(earth):
    """Choices are too many to enumerate here: their log-probability in closed form, and both orders."""
    rng, first = np.random.default_rng(1), 0
    logs = np.log(np.diff(earth.cumulative, prepend=0.0))
    share = {(f.entity, f.relation): logs[i] for i, f in enumerate(earth.written)}
    for _ in range(400):
        draw = Draw(rng)
        text = world_sentences.write_choice(earth, draw)
        ((entity, relation, value),) = evaluate.facts_in(text)
        options = [v for v in world.RELATIONS[relation][0] if v != entity]
        assert math.isclose(draw.logp, share[entity, relation] - math.log(2 * (len(options) - 1)))
        words = text.split("?")[0].split()
        assert value in (words[-1], words[-3]) and text.endswith(f"? {value}.\n")
        first += value == words[-3]
    assert abs(first - 200) < 4.5 * 10


def test_attachments_have_one_reading_unless_the_thing_fits_both(earth):
    after = defaultdict(set)
    for text, _ in outcomes(lambda draw: world_sentences.write_attachment(earth, draw)):
        sentence, follows = text.split(". ", 1)
        after[sentence.split()[-1]].add(follows.split()[2])
    assert after == (
        dict.fromkeys(world.EITHER, {"used", "had"})
        | dict.fromkeys(world.TOOLS, {"used"})
        | dict.fromkeys(world.MARKS, {"had"})
    )


def test_a_quarter_of_the_sums_has_one_digit(earth):
    found = list(outcomes(lambda draw: world_sentences.write_sum(earth, draw)))
    short = math.fsum(math.exp(logp) for text, logp in found if len(text.split(" + ")[0]) == 3)
    assert math.isclose(short, world_sentences.ONE_DIGIT) and len(found) == 100 + 2592


def test_held_out_sums_and_class_0_facts_are_never_written(earth, some):
    assert len(earth.held_out_sums) == 648 and len(earth.sums) == 2592
    assert not earth.held_out_sums & set(earth.sums)
    truth = {(fact.entity, fact.relation): fact for fact in earth.facts}
    stated = summed = 0
    for document in some:
        for entity, relation, value in evaluate.facts_in(document.text):
            assert truth[entity, relation].value == value and truth[entity, relation].frequency > 0
            stated += 1
        if document.kind == "Sums":
            for line in document.text.splitlines()[1:]:
                left, result = line[2:-1].split(" = ")
                a, b = map(int, left.split(" + "))
                assert a + b == int(result) and (a, b) not in earth.held_out_sums
                summed += 1
    lines = sum(len(d.pieces) - 2 for d in some if d.kind in ("Notes", "Quiz", "Choice"))
    assert stated == lines > 500 and summed > 500


def test_held_out_wordings_and_cases_are_never_written(earth, some):
    unwritten = {
        "- " + world.RELATIONS[f.relation][1][f.held_out].format(e=f.entity, v=f.value)
        for f in earth.facts
        if f.held_out is not None
    }
    cases = {f"- The {m} {t} is {p}." for m, t, p in earth.held_out_cases}
    assert len(unwritten) == 160 and len(cases) == 24
    lines = [line for document in some for line in document.text.splitlines()]
    assert not unwritten & set(lines)
    assert not any(line.startswith(case) for line in lines if line.startswith("- The") for case in cases)


def test_exposures_count_every_wording(earth):
    fact = next(fact for fact in earth.facts if fact.relation == "friend" and fact.frequency)
    e, v = fact.entity, fact.value
    texts = [f"Notes\n- {e} knows {v}.\n- The friend of {e} is {v}.\n- All day {e} is with {v}.\n"]
    texts += [f"Quiz\nQ: Who is the friend of {e}? A: {v}.\n", f"Choice\n- {e} knows {v} or Ada? {v}.\n"]
    counts = evaluate.exposures(earth, texts)
    assert counts[e, "friend"] == 5 == sum(counts.values())
    harmed = [f"- {e} knows {v}", f"- {e} knows {v} or Ada?", f"- {e.lower()} knows {v.lower()}.", f"- {e} knosw {v}."]
    assert not sum(evaluate.exposures(earth, harmed).values())


@pytest.fixture(scope="module")
def tokenizer(earth):
    return of_rows.train_tokenizer((document.text for document in corpora.documents(earth, 1, 800)), 512)


def test_an_exposure_counts_where_it_stands_in_the_row(earth, tokenizer):
    fact = next(fact for fact in earth.facts if fact.relation == "city" and fact.frequency and fact.held_out is None)
    line = f"- {fact.entity} lives in {fact.value}.\n"
    text = "Notes\n" + line * 40
    (shown,) = of_rows.visible(tokenizer, [text])
    assert text.startswith(shown) and len(of_rows.rows(tokenizer, [text])[0]) == tokens.CONTEXT
    seen = evaluate.exposures(earth, [shown])[fact.entity, "city"]
    row = of_rows.rows(tokenizer, [text])[0]
    assert seen == tokenizer.decode(row[1:]).count(line.rstrip()) and 10 < seen < 40
    assert evaluate.exposures(earth, [text])[fact.entity, "city"] == 40
    assert of_rows.visible(tokenizer, [line]) == [line]


@pytest.mark.parametrize("vocabulary", [tokens.CHARACTERS, 512, 2048])
def test_tokenizers(some, rough, vocabulary, tmp_path):
    """2,048 tokens need the web corpus: curated text alone has about 1,100 pieces to merge."""

    def train():
        texts = [document.text for document in some] + (rough if vocabulary > 1000 else [])
        return of_rows.train_tokenizer(iter(texts), vocabulary)

    tokenizer = train()
    assert len(tokenizer) == vocabulary and tokens.CHARACTERS == 100
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    assert tokenizer.backend_tokenizer.to_str() == train().backend_tokenizer.to_str()
    tokenizer.save_pretrained(tmp_path)
    loaded = tokens.load_tokenizer(tmp_path)
    lengths = []
    for document in some[:200]:
        ids, owner = of_rows.encode(loaded, document)
        assert loaded.decode(ids[1:-1]) == document.text and loaded.unk_token_id not in ids
        assert loaded(document.text)["input_ids"] == ids[:-1]
        assert owner[1:] == sorted(owner[1:]) and set(owner[1:]) == set(range(len(document.pieces)))
        assert vocabulary != tokens.CHARACTERS or len(ids) == len(document.text) + 2
        lengths.append(len(ids))
    if vocabulary == 512:
        assert np.mean([130 <= length <= tokens.CONTEXT for length in lengths]) > 0.95
    printable = "".join(chr(code) for code in range(32, 127)) + "\n"
    assert loaded.decode(loaded(printable)["input_ids"][1:]) == printable
    assert loaded.unk_token_id in loaded("\u00e9")["input_ids"]


def test_the_tokenizer_of_the_world_is_trained_on_both_corpora(earth, monkeypatch):
    asked = []
    monkeypatch.setattr(of_rows, "documents", lambda world, seed, n: asked.append(("curated", n)) or iter(()))
    monkeypatch.setattr(of_rows, "web_texts", lambda world, seed, n: asked.append(("web", n)) or iter(["a b"]))
    assert len(of_rows.build_tokenizer(earth, tokens.CHARACTERS)) == 100
    assert sorted(asked) == [("curated", 3000), ("web", 3000)]


def test_batches_cover_rows_once_with_little_padding(tokenizer, some):
    rows = of_rows.rows(tokenizer, [document.text for document in some])
    batches = of_rows.batch_order([len(row) for row in rows], 8, np.random.default_rng(0))
    used = sorted(int(i) for batch in batches for i in batch)
    assert used == list(range(600))
    ids, labels = of_rows.collate([[1, 5, 2], [1, 2]])
    assert ids.tolist() == [[1, 5, 2], [1, 2, 0]] and labels.tolist() == [[1, 5, 2], [1, 2, -100]]
    padded = sum(8 * max(len(rows[i]) for i in batch) for batch in batches)
    assert padded < 1.05 * sum(map(len, rows))


def test_web_corpus_has_its_rates(some, rough):
    """Each rate within 4.5 standard errors of what is declared, counted from the texts alone."""

    def near(count, n, p):
        return abs(count - n * p) < 4.5 * math.sqrt(n * p * (1 - p))

    assert len(rough) == len(some) == 600
    first = list(dict.fromkeys(rough))
    assert near(600 - len(first), 599, web_corpus.DUPLICATE)
    n = len(first)
    assert near(sum(text == text.lower() for text in first), n, web_corpus.LOWER)
    assert near(sum(text == text.upper() for text in first), n, web_corpus.SHOUT)
    headers = {kind.lower() for kind in corpora.KINDS}
    mixed = [sum(line.lower() in headers for line in text.splitlines()) > 1 for text in first]
    assert near(sum(mixed), n, web_corpus.MIXED)
    lines = [line for text in first for line in text.splitlines()]
    signs = {line.lower().replace(".", "") for line in web_corpus.BOILERPLATE}
    boilerplate = sum(line.lower().replace(".", "") in signs for line in lines)
    assert near(boilerplate, len(lines), 0.7 * web_corpus.LINE / (1 + web_corpus.LINE))


def test_web_corpus_keeps_some_exposures_and_every_truth(earth, some, rough):
    truth = {(fact.entity, fact.relation): fact.value for fact in earth.facts}
    clean = sum(evaluate.exposures(earth, [document.text for document in some]).values())
    kept = [found for text in rough for found in evaluate.facts_in(text)]
    wrong = [found for found in kept if truth.get(found[:2]) != found[2]]
    assert 0.5 * clean < len(kept) < 0.9 * clean
    assert len(wrong) < 0.02 * len(kept), "a typo can make a value that no relation has"
    assert list(web_corpus.web_texts(earth, 5, 20)) == rough[:20] != list(web_corpus.web_texts(earth, 6, 20))
