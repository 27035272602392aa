"""Correlations over clusters: what a gap is, what clustering does to its draws, and the share between groups."""

import math

import numpy as np
import pytest

from phaselens.statistics.clustered import correlation_gap, permuted_shares, share_between

G = np.random.default_rng


def test_the_gap_is_that_of_two_plain_correlations():
    g = G(0)
    y, a, b = g.standard_normal((3, 20))
    value, draws = correlation_gap(y, a, b, np.arange(20), G(1), n_boot=50)
    assert value == pytest.approx(abs(np.corrcoef(y, a)[0, 1]) - abs(np.corrcoef(y, b)[0, 1]))
    assert draws.shape == (50,) and np.isfinite(draws).all()


def test_a_covariate_is_taken_out():
    g = G(0)
    size = g.standard_normal(200)
    y, a, b = size + 0.1 * g.standard_normal(200), size + 0.1 * g.standard_normal(200), g.standard_normal(200)
    plain, _ = correlation_gap(y, a, b, np.arange(200), G(1), n_boot=10)
    apart, _ = correlation_gap(y, a, b, np.arange(200), G(1), covariate=size, n_boot=10)
    assert plain > 0.8 and abs(apart) < 0.25


def test_clusters_of_copies_widen_the_draws():
    g = G(2)
    y, a, b = (np.repeat(v, 10) for v in g.standard_normal((3, 8)))
    _, free = correlation_gap(y, a, b, np.arange(80), G(1))
    _, whole = correlation_gap(y, a, b, np.repeat(np.arange(8), 10), G(1))
    assert np.nanstd(whole) > 2 * np.nanstd(free)


def test_no_variation_is_undefined():
    ones = np.ones(5)
    assert math.isnan(correlation_gap(ones, ones, ones, np.arange(5), G(0), n_boot=3)[0])
    assert math.isnan(share_between(ones, np.array(["a", "b", "a", "b", "b"])))


def test_share_between_groups_has_its_ends():
    y = np.array([1.0, 1.0, 2.0, 2.0])
    assert share_between(y, np.array(list("aabb"))) == 1.0
    assert share_between(y, np.array(list("abab"))) == 0.0
    both = share_between(np.stack([y, y[::-1]]), np.array(list("aabb")))
    assert list(both) == [1.0, 1.0]


def test_permuted_shares_are_those_of_chance():
    """Mean eta^2 under exchange is (groups - 1) / (n - 1)."""
    null = permuted_shares(G(0).standard_normal(16), np.repeat(list("abcd"), 4), G(1), n_permutations=4000)
    assert null.mean() == pytest.approx(3 / 15, abs=0.01) and null.shape == (4000,)
