"""Order of models: the same order, another order and noise, each told from the other; panels that grow."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from phaselens.dynamics.stability import lost_at_scale, subpanels
from phaselens.errors import InputError


def rng(seed=0):
    return np.random.default_rng(seed)


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


def scale_up(supported, n_claims, n_models, n_panels):
    """What small panels support, and how much of it is lost on the full one."""
    panels = subpanels(n_models, rng(), n_panels=n_panels)
    small = [[supported(c, models) for models in panels] for c in range(n_claims)]
    full = [supported(c, np.arange(n_models)) for c in range(n_claims)]
    return lost_at_scale(np.array(small, float), np.array(full, float), rng())


def test_lucky_findings_are_lost_on_the_full_panel_and_true_ones_are_not():
    lucky = scale_up(correlated(0.0), 12, 17, 20)
    true = scale_up(correlated(0.95), 12, 17, 20)
    assert lucky.lost > 0.5 and true.lost == 0 and true.found > lucky.found


def test_shares_by_hand():
    found = lost_at_scale([[1, 1, 0, 0], [1, 0, 0, 0]], [0, 1], rng())
    assert found.lost == pytest.approx(2 / 3) and found.found == pytest.approx(3 / 8) and found.n_claims == 2
    assert lost_at_scale(np.zeros((3, 4)), np.zeros(3), rng()).interval.reason
