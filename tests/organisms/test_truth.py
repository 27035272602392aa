"""The next token of the generator: exact, summing to one, and the same numbers as the draws themselves."""

import math
from collections import defaultdict

import numpy as np
import pytest
from tools.organisms import rows

from phaselens.organisms import corpora, generator, next_token, tokens, world, world_sentences
from phaselens.organisms.world_sentences import outcomes


@pytest.fixture(scope="module")
def earth():
    return world.build_world()


@pytest.fixture(scope="module", params=[512, tokens.CHARACTERS])
def tokenizer(request, earth):
    clean = (document.text for document in corpora.documents(earth, 1, 400))
    return rows.train_tokenizer(clean, request.param)


@pytest.fixture(scope="module")
def some(earth):
    """Forty documents, of every kind."""
    kept, left = [], defaultdict(lambda: 4)
    for document in corpora.documents(earth, 7, 400):
        if left[document.kind] > 0:
            left[document.kind] -= 1
            kept.append(document)
    assert set(left) == set(corpora.KINDS) and not any(left.values())
    return kept


def test_log_probabilities_add_up_to_those_of_the_draws(earth, tokenizer, some):
    for document in some:
        found = next_token(earth, tokenizer, document.text)
        ids, owner = rows.encode(tokenizer, document)
        assert found.undefined == "" and found.token_ids.tolist() == ids
        assert np.isnan([found.entropy[0], found.logp[0]]).all()
        assert math.isclose(found.logp[1:].sum(), document.logp, abs_tol=1e-9)
        assert (found.entropy[1:] >= 0).all() and (found.logp[1:] <= 1e-12).all()
        by_piece = np.bincount(owner[1:], weights=found.logp[1:], minlength=len(document.pieces))
        # "do not end yet" is a choice of the next piece, and is made at its first token
        assert np.allclose(by_piece, [piece.logp for piece in document.pieces], atol=1e-9)


def test_mean_surprise_is_the_mean_entropy(earth, tokenizer, some):
    """-log p - H has mean 0 at every token given those before, so has its sum: within 4.5 standard errors."""
    differences = []
    for document in some:
        found = next_token(earth, tokenizer, document.text)
        differences.append(float((-found.logp[1:] - found.entropy[1:]).sum()))
    error = np.std(differences) / math.sqrt(len(differences))
    assert abs(np.mean(differences)) < 4.5 * error and np.mean(np.abs(differences)) > 0.1


@pytest.mark.parametrize(
    "state", [("item", "Quiz"), ("item", "Laws"), ("item", "Words"), ("rest", ("cat", True, False))]
)
def test_chain_rule(earth, tokenizer, state):
    """The entropy of the item is the sum over the nodes of its tree of reach times entropy of the next token."""
    if state[0] == "rest":
        write = lambda draw: world_sentences.story_rest(draw, True, False)  # noqa: E731
    else:
        write = lambda draw: corpora.KINDS[state[1]][2](earth, draw)  # noqa: E731
    merged = defaultdict(float)
    for text, logp in outcomes(write):
        merged[text] += math.exp(logp)
    entropy = -math.fsum(p * math.log(p) for p in merged.values())
    tree = generator(earth, tokenizer)._tree(state)
    total = 0.0
    for node, children in enumerate(tree.children):
        ended = sum(tree.leaves.get(node, {}).values())
        for p in (*(tree.mass[child] for child in children.values()), ended):
            total -= p * math.log(p / tree.mass[node]) if p else 0.0
    assert math.isclose(tree.mass[0], 1.0, abs_tol=1e-9) and math.isclose(total, entropy, abs_tol=1e-9)


def test_distributions_sum_to_one_and_hold_what_was_written(earth, tokenizer, some):
    model = generator(earth, tokenizer)
    for document in some[::3]:
        found = list(model.distributions(document.text))
        ids, _ = rows.encode(tokenizer, document)
        assert len(found) == len(ids) - 1
        for chances, token in zip(found, ids[1:], strict=True):
            assert math.isclose(sum(chances.values()), 1.0, abs_tol=1e-9) and chances[token] > 0


def test_stories_are_those_of_the_writer(earth, tokenizer):
    """Subject, rest and tail in sequence have the probabilities of whole sentences."""
    model = generator(earth, tokenizer)
    about = ("cat", False, True)
    start = "Story\nOnce there was an old cat."
    known = model.next_token(start, end=False).logp[1:].sum()
    every = list(outcomes(lambda draw: world_sentences.write_story(draw, about)))
    for i in np.random.default_rng(0).choice(len(every), 60, replace=False):
        text, logp = every[i]
        whole = model.next_token(start + text, end=False).logp[1:].sum()
        assert math.isclose(whole - known, logp + math.log(1 - corpora.NEW_STORY), abs_tol=1e-9)


def test_first_record_sets_the_order(earth, tokenizer):
    first = "Records\nitem: hat; count: 3; color: red\n"
    found = next_token(earth, tokenizer, first + "item: map; count: 4; color: red\n", end=False)
    surprise = -found.logp[len(tokenizer(first)["input_ids"]) :].sum()
    assert math.isclose(surprise, math.log(12 * 9 * 12), abs_tol=1e-9)
    other = next_token(earth, tokenizer, first + "count: 4; item: map; color: red\n", end=False)
    assert "never writes" in other.undefined


def test_what_is_never_written_has_no_probability(earth, tokenizer):
    fact = next(f for f in earth.facts if f.frequency == 0 and f.relation == "city")
    text = f"Notes\n- {fact.entity} lives in {fact.value}.\n"
    found = next_token(earth, tokenizer, text, end=False)
    assert "never writes" in found.undefined
    at = int(np.flatnonzero(np.isneginf(found.logp))[0])
    assert np.isfinite(found.logp[1:at]).all() and np.isnan(found.logp[at + 1 :]).all()
    assert np.isnan(found.entropy[at + 1 :]).all()
    early = next_token(earth, tokenizer, "Sums\n- 2 + 2 = 4.\n")
    assert "end of text" in early.undefined and np.isneginf(early.logp[-1])


def test_tokens_of_an_item_do_not_depend_on_those_before(tokenizer, some):
    encode = tokenizer.backend_tokenizer.encode
    for document in some:
        apart = [i for piece in document.pieces for i in encode(piece.text, add_special_tokens=False).ids]
        assert apart == encode(document.text, add_special_tokens=False).ids
