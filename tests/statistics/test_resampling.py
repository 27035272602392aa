"""The prompt bootstrap equals drawing prompts one by one, covers at its level, and says why it cannot."""

import math

import numpy as np
import pytest
import scipy.stats
from coverage import coverage

from phaselens.errors import InputError
from phaselens.statistics import resampling
from phaselens.statistics.intervals import (
    Interval,
    basic_interval,
    bootstrap_p,
    expanded_interval,
    jackknife_interval,
    percentile_interval,
    proportion_interval,
    undefined_interval,
)
from phaselens.statistics.resampling import bootstrap_weights, resampled_median, resampled_ratio, sums_by_unit


@pytest.fixture
def weights():
    return bootstrap_weights(7, np.random.default_rng(1), n_boot=50)


def test_each_resample_draws_as_many_prompts_as_there_are(weights):
    assert weights.shape == (50, 7) and (weights.sum(axis=1) == 7).all()
    assert (weights != bootstrap_weights(7, np.random.default_rng(2), n_boot=50)).any()
    assert (weights == bootstrap_weights(7, np.random.default_rng(1), n_boot=50)).all()


def test_weighted_median_equals_the_median_of_the_repeated_values(weights):
    g = np.random.default_rng(0)
    values, unit = np.round(g.normal(size=23), 1), g.integers(0, 7, 23)
    values[3] = np.nan
    for weight, median in zip(weights, resampled_median(values, unit, weights), strict=True):
        repeated = np.repeat(values, weight[unit])
        repeated = repeated[np.isfinite(repeated)]
        expected = np.median(repeated) if len(repeated) else np.nan
        assert median == pytest.approx(expected, nan_ok=True)


def test_ratio_of_means_is_not_the_mean_of_ratios(weights):
    g = np.random.default_rng(0)
    values = g.random((2, 9, 4, 3))  # numerator and denominator, [run, cell, layer]
    unit = g.integers(0, 7, 9)
    (num, _), (den, _) = (sums_by_unit(v, unit, 7) for v in values)
    draws = resampled_ratio(num, den, weights)
    assert draws.shape == (50, 3)
    chosen = [r for p in range(7) for r in np.flatnonzero(unit == p) for _ in range(weights[0, p])]
    mean = values[:, chosen].sum(axis=(1, 2))
    assert draws[0] == pytest.approx(mean[0] / mean[1])


def test_sums_leave_out_undefined_cells_and_calibration_runs():
    values = np.array([[1.0, np.nan], [2.0, 3.0], [100.0, 100.0]])
    sums, counts = sums_by_unit(values, np.array([0, 1, -1]), 3)
    assert sums.tolist() == [1, 5, 0] and counts.tolist() == [1, 2, 0]


def test_a_resample_without_anything_is_undefined():
    weights = np.array([[2, 0], [0, 2]])
    assert np.isnan(resampled_ratio(np.array([1.0, 0]), np.array([1.0, 0]), weights)).tolist() == [False, True]
    assert np.isnan(resampled_median(np.array([1.0]), np.array([0]), weights)).tolist() == [False, True]


@pytest.mark.parametrize("n", [0, 1])
def test_fewer_than_two_units_have_no_interval_but_a_reason(n):
    interval = percentile_interval(np.ones(10), n)
    assert math.isnan(interval.lo) and math.isnan(interval.hi) and "two units" in interval.reason
    assert basic_interval(np.ones(10), 1.0, n).reason == interval.reason
    assert 1.0 not in interval


def test_mostly_undefined_draws_have_no_interval_and_some_do():
    draws = np.linspace(0, 1, 100)
    draws[:20] = np.nan
    assert "80%" in percentile_interval(draws, 5).reason
    draws[:20] = 0.5
    assert percentile_interval(draws, 5).reason == ""


def test_an_interval_is_whole_or_has_a_reason():
    with pytest.raises(InputError):
        Interval(math.nan, math.nan)
    with pytest.raises(InputError):
        Interval(math.nan, 1.0, reason="half")
    assert undefined_interval("why").reason == "why"


def test_basic_interval_mirrors_the_percentile_interval():
    draws = np.random.default_rng(0).exponential(size=4000)
    plain, basic = percentile_interval(draws, 9), basic_interval(draws, 1.0, 9)
    assert (basic.lo, basic.hi) == pytest.approx((2 - plain.hi, 2 - plain.lo))
    assert basic_interval(draws, math.nan, 9).reason


def test_clopper_pearson_closed_forms():
    assert proportion_interval(0, 10).lo == 0 and proportion_interval(0, 10).hi == pytest.approx(1 - 0.025**0.1)
    assert proportion_interval(10, 10).lo == pytest.approx(0.025**0.1)
    assert proportion_interval(0, 0).reason == "no trials"


def _clustered_ratio(g):
    """24 prompts of 4 runs: a prompt's level moves numerator and denominator; the true ratio is 2."""
    level = g.gamma(4.0, 0.25, size=24)[:, None]
    return level * 2 * g.gamma(9.0, 1 / 9, (24, 4)), level * g.gamma(9.0, 1 / 9, (24, 4))


def _by_prompt(data, g):
    num, den = (x.sum(axis=1) for x in data)
    return percentile_interval(resampled_ratio(num, den, bootstrap_weights(24, g, n_boot=300)), 24)


def test_prompt_bootstrap_of_a_ratio_covers_near_its_level():
    share, interval = coverage(_clustered_ratio, _by_prompt, 2.0, np.random.default_rng(5), n_studies=400)
    assert interval.hi >= 0.92 and share >= 0.89, share


def _clustered_mean(g):
    return g.normal(size=(20, 1)) + 0.3 * g.normal(size=(20, 30))


def test_resampling_prompts_covers_and_resampling_tokens_does_not():
    def prompts(x, g):
        return percentile_interval(bootstrap_weights(20, g, n_boot=300) @ x.mean(axis=1) / 20, 20)

    def tokens(x, g):
        return percentile_interval(bootstrap_weights(600, g, n_boot=300) @ x.ravel() / 600, 600)

    by_prompt, _ = coverage(_clustered_mean, prompts, 0.0, np.random.default_rng(1), n_studies=250)
    by_token, _ = coverage(_clustered_mean, tokens, 0.0, np.random.default_rng(1), n_studies=250)
    assert by_prompt > 0.88 and by_token < 0.5


def test_the_jackknife_of_a_mean_is_students_interval():
    x = np.random.default_rng(3).standard_normal(12)
    without = np.array([np.delete(x, i).mean() for i in range(12)])
    found = jackknife_interval(x.mean(), without)
    theory = scipy.stats.ttest_1samp(x, 0).confidence_interval()
    assert (found.lo, found.hi) == pytest.approx((theory.low, theory.high))
    assert jackknife_interval(2 * x.mean() + 1, 2 * without + 1).lo == pytest.approx(2 * theory.low + 1)


def test_the_jackknife_of_one_unit_or_of_nothing_defined_has_a_reason():
    assert "two units" in jackknife_interval(1.0, np.array([1.0])).reason
    assert "undefined" in jackknife_interval(1.0, np.array([1.0, np.nan])).reason
    assert "undefined" in jackknife_interval(np.nan, np.ones(3)).reason


def test_expanded_interval_covers_where_the_percentile_interval_of_few_units_does_not():
    rng = np.random.default_rng(0)
    weights = bootstrap_weights(12, np.random.default_rng(1), n_boot=1000) / 12
    draws = [weights @ rng.standard_normal(12) for _ in range(600)]
    plain, expanded = (np.mean([0 in of(d, 12) for d in draws]) for of in (percentile_interval, expanded_interval))
    assert plain < 0.93 < expanded < 0.97


def test_expanded_interval_of_many_units_is_the_percentile_interval_and_of_two_the_range():
    draws = np.random.default_rng(0).standard_normal(4000)
    many, plain = expanded_interval(draws, 5000), percentile_interval(draws, 5000)
    assert many.lo == pytest.approx(plain.lo, abs=0.02) and many.lo < plain.lo and many.hi > plain.hi
    two = expanded_interval(draws, 2)
    assert (two.lo, two.hi) == (draws.min(), draws.max()) and two.level == 0.95
    assert expanded_interval(draws, 1).reason == "fewer than two units (1)"
    assert expanded_interval(np.array([]), 5).reason


def test_the_bootstrap_p_is_the_level_at_which_the_interval_ends_at_the_bound():
    g = np.random.default_rng(0)
    draws = 0.2 + 0.1 * g.standard_normal(4000)
    p = bootstrap_p(draws)
    assert percentile_interval(draws, 30, level=1 - p).lo == pytest.approx(0, abs=0.01)
    few = bootstrap_p(draws, n_units=8)
    assert few > p and expanded_interval(draws, 8, level=1 - few).lo == pytest.approx(0, abs=0.01)
    assert bootstrap_p(-draws, n_units=8) == pytest.approx(few) and np.isnan(bootstrap_p(np.full(9, np.nan)))
    assert bootstrap_p(draws - 0.2) > 0.9 and np.isnan(bootstrap_p(draws, n_units=1))


def test_many_units_are_summed_as_few_are(monkeypatch):
    g = np.random.default_rng(4)
    values, unit = g.standard_normal((40, 7, 3)), g.integers(-1, 9, 40)
    values[g.random(values.shape) < 0.2] = np.nan
    few = sums_by_unit(values, unit, 9)
    monkeypatch.setattr(resampling, "MANY", 8)
    many = sums_by_unit(values, unit, 9)
    np.testing.assert_allclose(many[0], few[0], rtol=1e-13)
    np.testing.assert_array_equal(many[1], few[1])
    assert many[0].shape == (3, 9)


def test_a_median_is_the_same_however_many_resamples_are_at_hand(monkeypatch):
    g = np.random.default_rng(5)
    values, unit, w = g.standard_normal(30), g.integers(0, 8, 30), bootstrap_weights(8, g, n_boot=50)
    whole = resampled_median(values, unit, w)
    monkeypatch.setattr(resampling, "CELLS", 90)
    np.testing.assert_array_equal(resampled_median(values, unit, w), whole)
