"""Holm and permutation p-values against closed forms; the adjusted Rand index against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from phaselens.errors import InputError
from phaselens.statistics.agreement import adjusted_rand
from phaselens.statistics.multiplicity import holm
from phaselens.statistics.permutation import permutation_p, permutation_test


def test_holm_worked_example():
    # Holm 1979: sorted .01 .02 .03 .04 -> .04 .06 .06 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_holm_is_between_the_raw_and_the_bonferroni_p():
    p = np.random.default_rng(0).random(20) ** 3
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= np.minimum(1, 20 * p)).all()
    assert (np.argsort(adjusted, kind="stable")[:1] == np.argsort(p)[:1]).all()


def test_holm_leaves_undefined_tests_out_of_the_family():
    assert holm([0.01, math.nan, 0.04]) == pytest.approx([0.02, math.nan, 0.04], nan_ok=True)
    assert np.isnan(holm([math.nan])).all() and len(holm([])) == 0


def test_holm_keeps_the_family_error_and_raw_p_does_not():
    p = np.random.default_rng(1).random((2000, 5))
    assert np.mean([holm(row).min() <= 0.05 for row in p]) == pytest.approx(0.05, abs=0.015)
    assert (p.min(axis=1) <= 0.05).mean() > 0.2


@pytest.mark.parametrize("seed", range(8))
def test_adjusted_rand_equals_scikit_learn(seed):
    g = np.random.default_rng(seed)
    a, b = g.integers(0, 3, 15), g.integers(0, 4, 15)
    assert adjusted_rand(a, b) == pytest.approx(adjusted_rand_score(a, b))
    assert adjusted_rand(a, (a + 1) % 3) == 1.0


def test_adjusted_rand_edges():
    assert adjusted_rand([0, 0, 0], [1, 1, 1]) == 1.0 and math.isnan(adjusted_rand([0], [0]))
    assert adjusted_rand([0, 1, 2], [0, 0, 0]) == pytest.approx(adjusted_rand_score([0, 1, 2], [0, 0, 0]))
    with pytest.raises(InputError):
        adjusted_rand([0, 1], [0, 1, 2])


def test_permutation_p_is_never_zero():
    assert permutation_p(10.0, np.zeros(99)) == pytest.approx(0.01)
    assert permutation_p(0.0, np.zeros(99)) == 1.0
    assert math.isnan(permutation_p(math.nan, np.zeros(9))) and math.isnan(permutation_p(1.0, np.array([])))


def test_permutation_test_finds_a_planted_difference_and_respects_blocks():
    x = np.concatenate([np.zeros(10), np.ones(10)]) + 0.01 * np.arange(20)
    labels = np.repeat([0, 1], 10)

    def difference(which):
        return x[which == 1].mean() - x[which == 0].mean()

    free, _ = permutation_test(difference, labels, np.random.default_rng(0), n_permutations=199)
    fixed, null = permutation_test(difference, labels, np.random.default_rng(0), blocks=labels, n_permutations=199)
    assert free == pytest.approx(1 / 200) and fixed == 1.0 and len(set(null)) == 1
    with pytest.raises(InputError):
        permutation_test(difference, labels, np.random.default_rng(0), blocks=np.zeros(3))
