"""Hidden Markov processes: beliefs against brute force, closed forms, and the entropy rate by two routes."""

from itertools import product

import numpy as np
import pytest
from tools.process_models import process_of
from tools.processes import Process, mess3, rrxor

from phaselens.errors import InputError, UnknownNameError

BOTH = pytest.mark.parametrize("process", [mess3(), rrxor()], ids=lambda p: p.name)


def brute_force(process, word):
    """Joint probability of a word and the state after it, summed over every path of hidden states."""
    out = np.zeros(process.n_states)
    for path in product(range(process.n_states), repeat=len(word) + 1):
        chance = process.stationary[path[0]]
        for token, here, there in zip(word, path[:-1], path[1:], strict=True):
            chance *= process.transitions[token, here, there]
        out[path[-1]] += chance
    return out


def test_stationary_distributions_are_the_closed_ones():
    np.testing.assert_allclose(mess3().stationary, np.full(3, 1 / 3), atol=1e-12)
    np.testing.assert_allclose(rrxor().stationary, [1 / 3, 1 / 6, 1 / 6, 1 / 6, 1 / 6], atol=1e-12)
    np.testing.assert_allclose(
        mess3().transitions[0], [[0.765, 0.00375, 0.00375], [0.0425, 0.0675, 0.00375], [0.0425, 0.00375, 0.0675]]
    )


@BOTH
def test_the_belief_is_that_of_every_path_added_up(process):
    words, chance = process.words(4)
    for word, p in list(zip(words, chance, strict=True))[::5]:
        joint = brute_force(process, word)
        assert joint.sum() == pytest.approx(p, abs=1e-12)
        np.testing.assert_allclose(process.beliefs(word)[-1], joint / joint.sum(), atol=1e-12)


@BOTH
def test_beliefs_stay_on_the_simplex_and_predict_the_next_token(process):
    words, chance = process.words(7)
    beliefs = process.beliefs(words)
    assert beliefs.shape == (len(words), 7, process.n_states)
    np.testing.assert_allclose(beliefs.sum(axis=-1), 1, atol=1e-12)
    assert beliefs.min() >= 0 and chance.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.exp(process.log_probability(words).sum(axis=-1)), chance, rtol=1e-9)
    shorter = dict(zip(map(bytes, words[:, :6].copy()), np.zeros(len(words)), strict=True))
    for word, p in zip(words, chance, strict=True):
        shorter[bytes(word[:6].copy())] += p
    given = np.array([p / shorter[bytes(w[:6].copy())] for w, p in zip(words, chance, strict=True)])
    said = process.next_token(beliefs[:, 5])[np.arange(len(words)), words[:, 6]]
    np.testing.assert_allclose(said, given, rtol=1e-9)


def test_the_entropy_rate_of_two_bits_in_three_is_exact():
    # Given the state each token says the next state, so the lower bound is the rate at every length.
    rate = 2 / 3 * np.log(2)
    for length in (1, 3, 6):
        low, high = rrxor().entropy_bounds(length)
        assert low == pytest.approx(rate, abs=1e-12) and high > rate


def test_the_entropy_rate_of_mess3_by_words_and_by_one_long_sequence():
    process = mess3()
    bounds = [process.entropy_bounds(n) for n in (3, 5, 8)]
    assert [low for low, _ in bounds] == sorted(low for low, _ in bounds)
    assert [high for _, high in bounds] == sorted((high for _, high in bounds), reverse=True)
    low, high = bounds[-1]
    assert 0 < high - low < 1e-4
    spent = -process.log_probability(process.sample(200, 1000, np.random.default_rng(0)))[:, 100:]
    error = spent.mean(axis=1).std(ddof=1) / np.sqrt(200)
    assert abs(spent.mean() - (low + high) / 2) < 4 * error < 0.02


def test_the_exclusive_or_process_has_the_published_36_beliefs_and_its_output_tells_few_apart():
    process = rrxor()
    seen = {tuple(process.stationary.round(9))}
    for length in range(1, 13):
        seen |= {tuple(b) for b in process.beliefs(process.words(length)[0])[:, -1].round(9)}
    assert len(seen) == 36
    outputs = {tuple(o) for o in process.next_token(np.array(sorted(seen))).round(9)}
    assert len(outputs) < 36 / 2
    assert np.linalg.matrix_rank(process.transitions.sum(axis=2)) == 2
    assert np.linalg.matrix_rank(mess3().transitions.sum(axis=2)) == 3


def test_sampled_sequences_follow_the_process():
    process = rrxor()
    tokens = process.sample(30_000, 4, np.random.default_rng(1))
    words, chance = process.words(4)
    share = np.array([(tokens == word).all(axis=1).mean() for word in words])
    np.testing.assert_allclose(share, chance, atol=5 * np.sqrt(0.1 / 30_000))
    assert np.isfinite(process.log_probability(process.sample(50, 30, np.random.default_rng(2)))).all()


def test_what_cannot_occur_has_no_belief_after_it():
    process = rrxor()
    word = next(w for w in product((0, 1), repeat=9) if not np.isfinite(process.log_probability(np.array(w))).all())
    assert np.isnan(process.beliefs(np.array(word))[-1]).all()
    assert tuple(word) not in {tuple(w) for w in process.words(9)[0].tolist()}


def test_what_is_no_process_is_refused():
    with pytest.raises(InputError, match="sum to 1"):
        Process("bad", np.full((2, 2, 2), 0.3))
    with pytest.raises(InputError, match=r"\[token, state, state\]"):
        Process("bad", np.eye(2))
    with pytest.raises(InputError, match="falls apart"):
        Process("bad", np.eye(2)[None])
    with pytest.raises(InputError, match="tokens 0 to 2"):
        mess3().beliefs(np.array([0, 3]))
    with pytest.raises(UnknownNameError, match="Did you mean 'mess3'"):
        process_of("mess")
