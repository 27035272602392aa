"""Order of models: the same order, another order and noise, each told from the other; panels that grow."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from phaselens.dynamics.order import lost_at_scale, order_agreement, scale_up, subpanels
from phaselens.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


def panel(spread, seed=0, models=10):
    g = rng(seed)
    return spread * g.standard_normal((models, 1)) + g.standard_normal((models, 48))


def test_the_same_order_under_two_settings_and_two_orders_that_have_nothing_in_common():
    first = panel(3.0)
    second = 2 * first + 0.3 * rng(5).standard_normal(first.shape) + 7
    value, interval = order_agreement(first, second, rng())
    assert value == pytest.approx(spearmanr(np.median(first, axis=1), np.median(second, axis=1))[0])
    assert value > 0.9 and interval.lo > 0.7
    value, interval = order_agreement(panel(0.0), panel(0.0, seed=1), rng())
    assert interval.lo < 0.7 and interval.lo < value
    assert order_agreement(first[:2], second[:2], rng())[1].reason
    with pytest.raises(InputError):
        order_agreement(first, second[:4], rng())


def test_panels_hold_six_different_models():
    panels = subpanels(17, rng(), n_panels=50)
    assert panels.shape == (50, 6) and all(len(set(p)) == 6 for p in panels) and len(np.unique(panels)) == 17
    with pytest.raises(InputError):
        subpanels(5, rng())


def correlated(true, n_models=17, n_claims=12, seed=0):
    """Claims 'x goes with y_c over models', judged at p < .05; supported on small panels by luck where r is 0."""
    g = rng(seed)
    x = g.standard_normal(n_models)
    y = true * x + np.sqrt(1 - true**2) * g.standard_normal((n_claims, n_models))
    return lambda claim, models: spearmanr(x[models], y[claim, models]).pvalue < 0.05


def test_lucky_findings_are_lost_on_the_full_panel_and_true_ones_are_not():
    lucky = scale_up(correlated(0.0), 12, 17, rng(), n_panels=20)
    true = scale_up(correlated(0.95), 12, 17, rng(), n_panels=20)
    assert lucky.lost > 0.5 and true.lost == 0 and true.found > lucky.found


def test_shares_by_hand():
    found = lost_at_scale([[1, 1, 0, 0], [1, 0, 0, 0]], [0, 1], rng())
    assert found.lost == pytest.approx(2 / 3) and found.found == pytest.approx(3 / 8) and found.n_claims == 2
    assert lost_at_scale(np.zeros((3, 4)), np.zeros(3), rng()).interval.reason
