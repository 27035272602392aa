"""Effects over units: closed forms, reference values of SciPy, coverage at the level, and what is undefined."""

import math

import numpy as np
import pytest
from scipy import stats

from phaselens.statistics.unit_effects import (
    difference_effect,
    mean_effect,
    median_effect,
    rank_correlation_effect,
    unit_means,
    units_to_decide,
)

X = np.array([1.2, 0.7, 2.1, 1.6, 0.9, 1.4, 1.1])
Y = np.array([0.4, 0.2, 0.9, 0.1, 0.5, 0.3])


def test_unit_means_count_a_unit_once():
    means, names = unit_means(np.array([1.0, 3.0, 5.0, np.nan]), np.array(["a", "a", "b", "c"]))
    assert list(names) == ["a", "b"] and list(means) == [2.0, 5.0]


def test_mean_and_difference_are_those_of_scipy():
    one = mean_effect(X)
    ours = stats.ttest_1samp(X, 1.0)
    assert 2 * min(one.tails(1.0)) == pytest.approx(ours.pvalue)
    ref = stats.ttest_1samp(X, 0).confidence_interval(0.95)
    assert (one.interval.lo, one.interval.hi) == pytest.approx((ref.low, ref.high))
    two, welch = difference_effect(X, Y), stats.ttest_ind(X, Y, equal_var=False)
    assert 2 * min(two.tails(0.0)) == pytest.approx(welch.pvalue)
    ref = welch.confidence_interval(0.95)
    assert (two.interval.lo, two.interval.hi) == pytest.approx((ref.low, ref.high))


def test_median_is_between_order_statistics_and_needs_six():
    m = median_effect(np.arange(1.0, 11.0))
    assert m.value == 5.5 and (m.interval.lo, m.interval.hi) == (2.0, 9.0)  # n = 10: the second and the ninth
    assert m.tails(0.0)[0] == pytest.approx(2**-10) and m.tails(0.0)[1] == 1.0
    assert math.isnan(median_effect(np.arange(5.0)).interval.lo) and not median_effect(np.arange(6.0)).interval.reason


def test_rank_correlation_keeps_monotone_maps():
    g = np.random.default_rng(0)
    x = g.standard_normal(30)
    y = x + g.standard_normal(30)
    a, b = rank_correlation_effect(x, y), rank_correlation_effect(np.exp(x), y**3)
    assert a.value == pytest.approx(stats.spearmanr(x, y).statistic) and a.interval == b.interval
    assert rank_correlation_effect(x[:5], y[:5]).interval.reason and rank_correlation_effect(x, x * 0).interval.reason


@pytest.mark.parametrize("kind", ["mean", "difference", "median", "correlation"])
def test_intervals_cover_and_agree_with_their_tails(kind):
    g = np.random.default_rng(1)
    hits = 0
    for _ in range(400):
        x, y = g.standard_normal(12), g.standard_normal(12)
        effect = {
            "mean": lambda x=x: mean_effect(x),
            "difference": lambda x=x, y=y: difference_effect(x, y),
            "median": lambda x=x: median_effect(x),
            "correlation": lambda x=x, y=y: rank_correlation_effect(x, y),
        }[kind]()
        inside = effect.interval.lo <= 0 <= effect.interval.hi
        assert inside == (2 * min(effect.tails(0.0)) > 0.05) or kind == "correlation"
        hits += inside
    assert hits / 400 >= 0.92


@pytest.mark.parametrize("make", [mean_effect, lambda v: difference_effect(v, v), median_effect])
def test_one_unit_gives_no_interval(make):
    effect = make(np.array([1.0]))
    assert effect.interval.reason and math.isnan(effect.tails(0.0)[0]) and units_to_decide(effect, (0.0,)) is None


def test_units_needed_shrink_with_the_root():
    effect = mean_effect(np.array([0.5, -0.4, 0.9, -0.2]))
    n = units_to_decide(effect, (0.0,))
    half = (effect.interval.hi - effect.interval.lo) / 2
    assert half * math.sqrt(4 / n) <= effect.value < half
    assert units_to_decide(effect, (effect.value,)) is None
