"""Debt, clipped values, the profile over quarters: closed forms, and how often a class appears where there is none."""

import math

import numpy as np
import pytest
from scipy import stats

from phaselens.dynamics.profile import (
    clipped_values,
    fit_values,
    instability_debt,
    late_ct,
    late_divergence,
    profile,
    segment_means,
)
from phaselens.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


def test_calibration_is_median_and_scaled_mad_of_defined_values():
    ct = rng().gamma(2, size=(3, 501))
    calibration = fit_values(np.concatenate([ct, np.full((3, 2), np.nan)], axis=1))
    assert calibration.centre == pytest.approx(np.median(ct, axis=1))
    assert calibration.scale == pytest.approx(1.4826 * stats.median_abs_deviation(ct, axis=1))
    assert calibration.tau == pytest.approx(calibration.centre + 3 * calibration.scale)


def test_no_mad_falls_back_to_the_quartiles_and_then_to_nothing():
    values = np.r_[np.ones(60), np.arange(2, 42)]
    assert fit_values(values).scale == pytest.approx(stats.iqr(values) / 1.349)
    assert math.isnan(fit_values(np.ones(50)).scale) and math.isnan(fit_values([1.0]).centre)
    assert np.isnan(clipped_values(np.ones(5), fit_values(np.ones(50)))).all()


def test_clipped_values_keep_their_unit_and_lose_their_outliers():
    calibration = fit_values(rng().normal(10, 1, 400))
    ct = np.array([10.0, 12.0, 1e6, 0.0, np.nan])
    out = clipped_values(ct, calibration)
    top = calibration.centre + 5 * calibration.scale
    assert out[:2].tolist() == [10.0, 12.0] and out[2] == pytest.approx(top)
    assert out[3] == pytest.approx(calibration.centre - 5 * calibration.scale) and np.isnan(out[4])
    low = fit_values(rng().normal(1, 1, 400))
    assert clipped_values(np.array([-50.0]), low)[0] == 0  # the floor


def test_debt_is_the_share_above_the_threshold():
    assert instability_debt([1, 1, 2, 4], 1.5) == pytest.approx((0.5 + 2.5) / 8)
    assert instability_debt([1, 1, np.nan, 1], 1.5) == 0 and instability_debt([3, 3], 0.0) == 1
    both = instability_debt(np.array([[1, 3], [2, 2]]), np.array([2.0, np.nan]))
    assert both[0] == pytest.approx(0.25) and math.isnan(both[1])
    assert math.isnan(instability_debt([0, 0], 1.0)) and math.isnan(instability_debt([np.nan], 1.0))


def test_late_divergence_is_a_late_rise_and_no_single_late_value():
    noise = rng().gamma(50, 1 / 50, size=(200, 70))
    rising = noise * np.linspace(1, 2.5, 70)
    assert late_divergence(rising).mean() > 0.95 and late_divergence(noise).mean() == 0
    assert late_divergence(rising[:, ::-1]).mean() == 0
    burst = noise.copy()
    burst[:, -1] = 60.0  # lifts the last quarter above 1.5, and is one value
    assert late_divergence(burst).mean() < 0.2
    assert late_divergence(rising * 7) == pytest.approx(late_divergence(rising))
    assert np.isnan(late_divergence(rising[:, :31])).all() and np.isnan(late_divergence(np.zeros((1, 64)))).all()


def test_quarters_of_a_ramp_and_of_a_constant():
    ramp = np.arange(64.0)[None] + 1
    means = np.arange(64.0).reshape(4, 16).mean(axis=1) + 1
    assert segment_means(ramp)[0] == pytest.approx(means / ramp.mean())
    assert segment_means(np.full((1, 40), 7.0))[0] == pytest.approx(1)
    assert segment_means(ramp * 9)[0] == pytest.approx(segment_means(ramp)[0])
    with pytest.raises(InputError):
        segment_means(np.ones(40))


def test_a_run_needs_32_steps_not_32_values():
    ct = np.ones((3, 40))
    ct[:, :2] = np.nan
    ct[1, 32:], ct[2, 31:] = np.nan, np.nan
    assert np.isfinite(segment_means(ct)).all(axis=1).tolist() == [True, True, False]


def runs(shape, n_prompts=24, seed=0, noise=0.15):
    g = rng(seed)
    level = np.repeat(np.asarray(shape, float), 16) * g.uniform(0.5, 2, (n_prompts * 2, 1))
    return level * g.gamma(1 / noise**2, noise**2, level.shape), np.repeat(np.arange(n_prompts), 2)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("rising", (1, 1.2, 1.4, 1.6)),
        ("rising", (1, 1.5, 1.5, 1.5)),
        ("falling", (2, 1.5, 1.2, 1)),
        ("peak", (1, 2, 2, 1.3)),
        ("dip", (2, 1, 1, 1.5)),
    ],
)
def test_planted_profiles_are_named(kind, shape):
    found = profile(*runs(shape), rng(1))
    assert found.kind == kind and found.n_prompts == 24 and 0 not in found.interval
    assert found.segments == pytest.approx(np.array(shape) / np.mean(shape), abs=0.05)


def test_flat_runs_are_mostly_flat():
    kinds = [profile(*runs((1, 1, 1, 1), seed=s, noise=0.6), rng(s), n_boot=200).kind for s in range(120)]
    assert kinds.count("flat") / len(kinds) > 0.86


def test_one_prompt_has_no_class():
    ct, prompt = runs((1, 2, 3, 4))
    found = profile(ct, np.zeros_like(prompt), rng())
    assert found.kind == "" and "fewer than two prompts" in found.interval.reason
    assert found.segments.shape == (4,) and np.isnan(found.segments).all()


def test_the_late_value_is_the_one_of_the_regimes():
    assert late_ct(np.arange(16.0)[None])[0] == pytest.approx(13.5)
