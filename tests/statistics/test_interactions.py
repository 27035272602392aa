"""Amplification, rank interactions, families under load and orders: each null beside its planted effect."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from phaselens.errors import InputError
from phaselens.statistics.agreement import kendall_w
from phaselens.statistics.concordance import order_consistency
from phaselens.statistics.interactions import (
    amplification,
    between_models,
    family_by_load,
    interaction_on_ranks,
    squared_mean,
)
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.variance import components


def panel(g, scale, shape=(8, 4, 8, 3), noise=0.5):
    """Models spread by `scale` in each category, around prompts that move all models alike."""
    m, c, p, r = shape
    models = np.linspace(-1, 1, m)[:, None] * np.asarray(scale)
    return (
        models[..., None, None]
        + 2 * g.standard_normal((1, c, p, 1))
        + noise * g.standard_normal((m, c, p, 1))
        + noise * g.standard_normal(shape)
    )


def test_squared_mean_is_unbiased_and_its_resamples_are_centred():
    g = np.random.default_rng(0)
    v = g.standard_normal((4000, 5, 3)) + np.array([1.0, 0, 0])
    value, _ = squared_mean(v @ v.swapaxes(-1, -2))
    assert value.mean() == pytest.approx(1, abs=0.05) and (v.mean(axis=1) ** 2).sum(axis=1).mean() > 1.4
    products = v[0] @ v[0].T
    draws, _ = squared_mean(products, bootstrap_weights(5, g, n_boot=20_000))
    assert draws.mean() == pytest.approx(value[0], abs=4 * draws.std() / 140)
    whole = squared_mean(products, np.ones((1, 5)))
    assert whole[0][0] == pytest.approx(value[0] * 5 / 4)  # equal weights are no resample: E[w w'] = (P-1)/P there
    assert np.isnan(squared_mean(np.ones((1, 1)))[0])


def test_between_models_is_the_component_of_the_two_way_table():
    y = panel(np.random.default_rng(1), [1, 2, 0, 1])
    for c in range(4):
        assert between_models(y)[c] == pytest.approx(components(y[:, [c]].mean(axis=3, keepdims=True)).values[0])


def test_noise_of_a_category_does_not_amplify_and_spread_of_models_does():
    g = np.random.default_rng(2)
    y = panel(g, [1, 1, 1, 1])
    y[:, 0] += 1.5 * g.standard_normal(y[:, 0].shape)
    same, more = amplification(y, 0, g, n_boot=500), amplification(panel(g, [2, 1, 1, 1]), 0, g, n_boot=500)
    assert 1 in same.interval and y[:, 0].var() > 1.3 * y[:, 1].var()
    assert more.interval.lo > 1 and more.ratio == pytest.approx(4, rel=0.35) and more.t > 2
    less = amplification(panel(g, [0.4, 1, 1, 1]), 0, g, n_boot=500)
    assert less.interval.hi < 1


def test_a_ratio_to_nothing_is_undefined():
    g = np.random.default_rng(3)
    found = amplification(panel(g, [1, 0, 0, 0], noise=1.0), 0, g, n_boot=300)
    assert math.isnan(found.interval.lo) and found.interval.reason
    assert "two models" in amplification(panel(g, [1], (3, 1, 4, 2)), 0, g).interval.reason
    with pytest.raises(InputError):
        amplification(panel(g, [1, 1, 1, 1]), 4, g)


def test_orders_that_depend_on_the_level_are_found_whatever_the_units():
    g = np.random.default_rng(4)
    models = np.linspace(-1, 1, 6)[:, None, None] * np.ones((1, 3, 10)) + 0.3 * g.standard_normal((6, 3, 10))
    alike = interaction_on_ranks(np.exp(models * np.array([1, 3, 5])[:, None]), g, n_boot=300, n_permutations=199)
    models[:, 2] *= -1
    turned = interaction_on_ranks(models, g, n_boot=300, n_permutations=199)
    assert alike.interval.lo < 0.1 * turned.value and alike.p > 0.05
    assert turned.interval.lo > 0 and turned.p == pytest.approx(1 / 200)
    assert interaction_on_ranks(models[:1], g, n_permutations=9).interval.reason


def test_families_that_swing_with_load():
    g = np.random.default_rng(5)
    family = np.repeat(["a", "b", "c"], 4)
    y = 0.3 * g.standard_normal((12, 3, 6)) + g.standard_normal((12, 1, 1)) + np.arange(3)[:, None]
    assert family_by_load(y, family, g, n_permutations=499)[1] > 0.05
    y[:4] += 2 * np.arange(3)[:, None]
    f, p, null = family_by_load(y, family, g, n_permutations=499)
    assert p <= 0.01 and f > np.quantile(null, 0.95)
    assert math.isnan(family_by_load(y, np.arange(12), g)[1])


def test_kendall_w_closed_forms():
    g = np.random.default_rng(6)
    x = g.standard_normal((4, 7))
    assert kendall_w(np.tile(x[:1], (3, 1))) == pytest.approx(1)
    assert kendall_w(np.stack([x[0], -x[0]])) == pytest.approx(0)
    # two judges without ties: W = (1 + Spearman's rho) / 2
    rho = np.corrcoef(x[0].argsort().argsort(), x[1].argsort().argsort())[0, 1]
    assert kendall_w(x[:2]) == pytest.approx((1 + rho) / 2)
    # m judges, also with ties: mean rank correlation r gives W = (1 + (m-1) r) / m only where no judge ties
    assert kendall_w(np.exp(x)) == pytest.approx(kendall_w(x)) and kendall_w(np.stack([x, x[::-1]])).shape == (2,)
    tied = np.array([[1, 1, 2, 3], [1, 1, 2, 3.0]])
    assert kendall_w(tied) == pytest.approx(1) and np.isnan(kendall_w(np.ones((2, 4))))
    assert np.isnan(kendall_w(x[:1])) and np.isnan(kendall_w(np.array([[1, np.nan], [1, 2]])))
    assert (kendalltau(x[0], x[1])[0] > 0) == (rho > 0)


def test_order_is_as_consistent_as_random_groups_or_not():
    g = np.random.default_rng(7)
    y = np.linspace(-1, 1, 7)[:, None, None] + 0.8 * g.standard_normal((7, 5, 8))
    alike = order_consistency(y, g, n_splits=200, n_boot=300)
    assert alike.interval.hi < 0.25 and abs(alike.gap) < 0.08 and 0 in alike.interval
    y[:, 2:] = y[::-1, 2:]
    apart = order_consistency(y, g, n_splits=200, n_boot=300)
    assert apart.interval.lo > 0.1 and apart.w < apart.ceiling
    assert order_consistency(y[:, :1], g).interval.reason
