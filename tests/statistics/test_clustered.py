"""Correlations over clusters: what a gap is, what clustering does to its draws, and the share between groups."""

import math

import numpy as np
import pytest

from phaselens.statistics.clustered import correlation_gap, pooled_correlation, share_given

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
    found = share_given(ones, np.array(list("ababb")), np.arange(5.0), ones, G(0), n_permutations=9)
    assert math.isnan(found.covariate) and found.interval.reason


def _sized(g, family_effect, size_effect, n=24):
    family = np.repeat(np.arange(4), n // 4)
    size = g.uniform(0, 6, n)
    return family_effect * family + size_effect * size + g.standard_normal(n), family, size


def test_groups_are_found_given_size_and_size_has_the_share_that_was_planted():
    y, family, size = _sized(G(0), 1.5, 0.0)
    found = share_given(y, family, size, np.zeros(24), G(1), n_permutations=999)
    assert found.share > np.quantile(found.null, 0.99) and found.interval.hi < 0.25
    y, family, size = _sized(G(0), 0.0, 1.5)
    found = share_given(y, family, size, np.zeros(24), G(1), n_permutations=999)
    assert found.share < np.quantile(found.null, 0.99) and found.interval.lo > 0.25


def test_the_semi_partial_share_is_the_fall_of_the_residual_sum_of_squares():
    y, family, size = _sized(G(4), 1.0, 0.5)
    found = share_given(y, family, size, np.zeros(24), G(1), n_permutations=9)
    groups = np.eye(4)[family]

    def rest(x):
        return ((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).sum()

    fall = rest(groups) - rest(np.column_stack([groups, size]))
    assert found.covariate == pytest.approx(fall / ((y - y.mean()) ** 2).sum())
    assert found.interval.lo < found.covariate < found.interval.hi


def test_families_that_are_strata_can_not_be_told_from_them():
    y, family, size = _sized(G(0), 3.0, 0.0)
    found = share_given(y, family, size, family, G(1), n_permutations=99)
    assert found.share == pytest.approx(0, abs=1e-9)


def test_the_permutation_given_size_holds_its_level_where_size_passes_for_family():
    hits = 0
    for i in range(100):
        g = G([5, i])
        family = np.repeat(np.arange(4), 6)
        size = family + g.random(24)
        found = share_given(size + g.standard_normal(24), family, size, np.zeros(24), g, n_permutations=199)
        hits += found.share > np.quantile(found.null, 0.95)
    assert hits <= 11


def test_the_pooled_correlation_is_that_of_centred_values_and_its_jackknife_covers():
    x, own = np.tile(np.arange(5.0), 12), np.repeat(np.arange(12), 5)
    covered = 0
    for i in range(200):
        g = G([6, i])
        noise = 0.5 * x / np.std(x[:5]) + math.sqrt(0.75) * g.standard_normal(60)
        z, interval, _ = pooled_correlation(x, noise + 3 * own, own, 0.1)
        covered += interval.lo < math.atanh(0.5) < interval.hi
        if i == 0:
            within = [noise[own == t] - noise[own == t].mean() for t in range(12)]
            assert math.tanh(z) == pytest.approx(
                np.corrcoef(np.tile(np.arange(5.0) - 2, 12), np.concatenate(within))[0, 1]
            )
    assert covered >= 180
