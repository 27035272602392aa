"""Collapse by behaviour: each cause beside the text that just escapes it."""

import math

import numpy as np
import pytest

from phaselens.dynamics.collapse import MASK, collapses, cycle_length, distinct_trigrams, frozen_early, mask_digits
from phaselens.dynamics.gd import MASS, NUCLEUS, OPERATORS, PLAIN, TOP10, jointly_defined


def one(tokens, ended=False):
    return collapses([tokens], [ended])[0]


@pytest.mark.parametrize("period", [1, 2, 7, 20])
def test_a_cycle_is_found_with_its_period(period):
    tokens = np.r_[np.arange(100, 100 + 20), np.tile(np.arange(period), 60)[:44]]
    assert cycle_length(tokens) == (44, period)
    assert one(tokens.tolist()).collapsed


def test_period_21_is_no_cycle_of_period_20():
    assert cycle_length(np.tile(np.arange(21), 4))[0] == 0


def test_a_cycle_counts_from_half_of_the_window():
    fresh = np.arange(100, 200)
    looped = np.tile([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], 5)
    assert one(np.r_[fresh[:32], looped[:32]].tolist()).cause == "cycle"
    assert not one(np.r_[fresh[:33], looped[:31]].tolist()).collapsed
    # the last 64 tokens decide: an early loop that was left does not count
    assert not one(np.r_[looped, fresh[:64]].tolist()).collapsed


def test_early_end_of_text_and_a_short_text_that_was_cut():
    assert one([1, 2, 3, 4, 5], ended=True).cause == "end of text"
    assert not one([1, 2, 3, 4, 5, 6], ended=True).collapsed
    assert not one([1, 2, 3], ended=False).collapsed


def test_repetition_without_a_period():
    g = np.random.default_rng(0)
    words = [list(map(int, g.integers(0, 2, 1))) for _ in range(64)]
    tokens = [w[0] for w in words]
    assert cycle_length(np.array(tokens))[0] < 32 and distinct_trigrams(tokens) < 0.2
    assert one(tokens).cause == "repetition"
    assert not one(g.integers(0, 50, 64).tolist()).collapsed


def test_numbered_lists_hide_loops_until_digits_are_masked():
    digits = frozenset(range(10))
    tokens = []
    for number in range(7, 20):
        tokens += [int(c) for c in str(number)] + [50, 51, 52, 53]
    masked = mask_digits(tokens, digits)
    assert not one(tokens).collapsed and one(masked).cause == "cycle"
    assert masked[:6] == (MASK, 50, 51, 52, 53, MASK)


def test_rows_are_judged_as_if_alone():
    g = np.random.default_rng(0)
    texts = [g.integers(0, 4, n).tolist() for n in (3, 10, 40, 64, 72)]
    ended = [True, False, True, False, False]
    assert collapses(texts, ended) == tuple(one(t, e) for t, e in zip(texts, ended, strict=True))
    assert math.isnan(distinct_trigrams([1, 2]))


def test_frozen_early_is_the_first_quarter():
    frozen = np.zeros((3, 40))
    frozen[:, 0] = np.nan
    frozen[0, 5], frozen[1, 20] = 1, 1
    assert frozen_early(frozen).tolist() == [True, False, False]
    assert frozen_early(np.empty((2, 0))).tolist() == [False, False]


def test_operators_of_a_known_distribution():
    # p = (.5, .25, .25): p1 .5, rivalry .5; uniform over the ten: mass 1
    columns = {
        "top1": np.array([0.5]),
        "rivalry": np.array([0.5]),
        "top10_mass": np.array([0.8]),
        "entropy_norm": np.array([0.25]),
        "dispersion": np.array([0.3]),
        "nucleus_mass": np.array([0.99]),
    }
    pairs = {o.name: (o.g(columns)[0], o.d(columns)[0]) for o in OPERATORS}
    assert pairs[PLAIN.name] == (0.5, 0.5)
    assert pairs[MASS.name] == pytest.approx((0.6, 0.15))
    assert pairs[TOP10.name] == pytest.approx((0.625, 0.5))
    assert 0.5 <= pairs[NUCLEUS.name][0] <= 0.5 / 0.99


def test_a_cell_counts_only_where_both_are_defined():
    g, d = jointly_defined(np.array([1.0, np.nan, 3.0]), np.array([np.nan, 2.0, 4.0]))
    assert np.isnan(g).tolist() == np.isnan(d).tolist() == [True, True, False]
