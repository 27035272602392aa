"""Mean effects and squared correlations against SciPy, and coverage in simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from phaselens.statistics.effects import (
    difference_interval,
    mean_interval,
    p_of_larger_correlation,
    squared_correlation,
    units_for_correlation,
)


def test_means_equal_scipys_t_tests():
    generator = np.random.default_rng(0)
    a, b = generator.standard_normal(5) + 0.4, 2 * generator.standard_normal(7)
    one, two = stats.ttest_1samp(a, 0), stats.ttest_ind(a, b, equal_var=False)
    for (value, interval, p), peer in ((mean_interval(a), one), (difference_interval(a, b), two)):
        theirs = peer.confidence_interval(0.95)
        assert (interval.lo, interval.hi, p) == (
            pytest.approx(theirs.low),
            pytest.approx(theirs.high),
            pytest.approx(peer.pvalue),
        )
        assert interval.lo < value < interval.hi


def test_too_few_units_are_undefined_with_a_reason():
    assert mean_interval(np.array([1.0]))[1].reason
    assert mean_interval(np.array([1.0, 1.0]))[1].reason == "the units do not vary"
    assert difference_interval(np.array([1.0]), np.array([1.0, 2.0]))[1].reason
    assert squared_correlation(np.arange(3.0), np.arange(3.0))[1].reason
    assert squared_correlation(np.ones(9), np.arange(9.0))[1].reason
    assert math.isnan(p_of_larger_correlation(math.nan, 0.25, 9))


def test_squared_correlation_equals_scipys_interval_of_r():
    generator = np.random.default_rng(1)
    x = generator.standard_normal(30)
    y = 1.5 * x + generator.standard_normal(30)
    r2, interval = squared_correlation(x, y)
    theirs = stats.pearsonr(x, y).confidence_interval(0.95)
    assert r2 == pytest.approx(stats.pearsonr(x, y).statistic ** 2)
    assert (interval.lo, interval.hi) == (pytest.approx(theirs.low**2), pytest.approx(theirs.high**2))


def test_the_interval_of_r2_covers_at_its_level_away_from_0_and_is_too_wide_near_it():
    generator = np.random.default_rng(2)
    hits = {0.64: 0, 0.0: 0}
    for true in hits:
        for _ in range(600):
            x, noise = generator.standard_normal((2, 24))
            interval = squared_correlation(x, math.sqrt(true) * x + math.sqrt(1 - true) * noise)[1]
            hits[true] += interval.lo <= true <= interval.hi
    assert 0.925 < hits[0.64] / 600 < 0.97
    assert hits[0.0] / 600 > 0.925


def test_the_number_of_units_is_the_least_at_which_no_correlation_decides():
    n = units_for_correlation(0.25)
    assert p_of_larger_correlation(0.0, 0.25, n) < 0.025 <= p_of_larger_correlation(0.0, 0.25, n - 1)
