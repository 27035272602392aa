"""Partial rank correlation: what covariates say is taken out, along curves too, and clusters widen the draws."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from phaselens.statistics.partial import clustered_correlation, rank_residuals

G = np.random.default_rng


def test_without_covariates_it_is_spearmans_correlation():
    x, y = G(0).standard_normal((2, 300))
    left = rank_residuals(np.stack([x, x + y]), np.zeros((300, 0)))
    value, draws = clustered_correlation(left[0], left[1], np.arange(300), np.ones((3, 300)))
    assert value == pytest.approx(spearmanr(x, x + y)[0]) and draws == pytest.approx([value] * 3)


@pytest.mark.parametrize("shape", [np.asarray, np.square, lambda x: np.sin(2 * x)])
def test_what_both_follow_along_a_curve_is_taken_out_and_what_they_share_beyond_it_stays(shape):
    g = G(1)
    seen, hidden, a, b = g.standard_normal((4, 4000))
    null = rank_residuals(np.stack([shape(seen) + 0.3 * a, shape(seen) + 0.3 * b]), seen[:, None])
    assert abs(np.corrcoef(null)[0, 1]) < 0.1
    left = rank_residuals(np.stack([shape(seen) + hidden + 0.3 * a, shape(seen) + hidden + 0.3 * b]), seen[:, None])
    assert np.corrcoef(left)[0, 1] > 0.5


def test_the_means_of_groups_are_taken_out():
    g = G(2)
    groups = g.integers(0, 20, 2000)
    level = g.standard_normal(20)[groups]
    pair = level + g.standard_normal((2, 2000))
    plain, within = (rank_residuals(pair, g.standard_normal((2000, 1)), groups=k) for k in (None, groups))
    assert np.corrcoef(plain)[0, 1] > 0.3 and abs(np.corrcoef(within)[0, 1]) < 0.06


def test_few_rows_are_undefined():
    assert np.isnan(rank_residuals(np.arange(30.0), G(0).standard_normal((30, 5)))).all()
