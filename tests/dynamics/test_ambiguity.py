"""Ambiguity: paired effects, Cliff's delta and TOST by hand, and the rule of the flags at its edges."""

import math

import numpy as np
import pytest
from scipy import stats

from phaselens.dynamics.ambiguity import (
    Effect,
    cliffs_delta,
    comparable_pairs,
    effects,
    equivalence_p,
    flag,
    paired_difference,
    twin_cosine_difference,
)
from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval


def rng(seed=0):
    return np.random.default_rng(seed)


def test_differences_are_against_the_mean_of_both_twins():
    assert paired_difference([3.0, 1.0], [1.0, 2.0], [2.0, np.nan]) == pytest.approx([1.5, np.nan], nan_ok=True)
    assert twin_cosine_difference([0.8], [0.6], [0.9]) == pytest.approx(-0.2)
    assert comparable_pairs([5, 5, 5], [6, 6, 5], [5, 4, 5]).tolist() == [True, False, True]


def test_cliffs_delta_counts_pairs():
    x, y = rng().integers(0, 6, 30), rng(1).integers(0, 6, 25)
    by_pairs = np.sign(x[:, None] - y[None].astype(float)).mean()
    assert cliffs_delta(x, y) == pytest.approx(by_pairs) and cliffs_delta(y, x) == pytest.approx(-by_pairs)
    assert cliffs_delta([2, 3], [0, 1]) == 1 and cliffs_delta([1, 1], [1, 1]) == 0
    assert math.isnan(cliffs_delta([np.nan], [1.0]))


def test_equivalence_equals_two_one_sided_t_tests():
    d = rng(3).normal(0.1, 1, 80)
    m = 0.4 * d.std(ddof=1)
    lower = stats.ttest_1samp(d, -m, alternative="greater").pvalue
    upper = stats.ttest_1samp(d, m, alternative="less").pvalue
    assert equivalence_p(d) == pytest.approx(max(lower, upper))
    assert equivalence_p(np.zeros(9)) == 0 and equivalence_p(np.ones(9)) == 1 and math.isnan(equivalence_p([1.0]))


def test_equivalence_at_sixty_pairs_has_power_at_zero_and_its_level_at_the_margin():
    g = rng(4)
    null, edge = (np.mean([equivalence_p(g.normal(mu, 1, 60)) <= 0.05 for _ in range(600)]) for mu in (0, 0.4))
    assert null == pytest.approx(0.86, abs=0.05) and edge < 0.08


def outcomes(shift, n=70, seed=0):
    g = rng(seed)
    twin = g.standard_normal(n)
    return {"moved": (twin + shift + g.standard_normal(n), twin), "same": (twin + g.standard_normal(n), twin)}


def test_a_planted_effect_beside_none():
    moved, same = effects(outcomes(1.0), rng())
    assert moved.sign == 1 and moved.holm_p < 0.001 and not moved.equivalent and moved.cliffs_delta > 0.3
    assert moved.standardised == pytest.approx(1.0, abs=0.3) and moved.n_units == 70
    assert same.sign == 0 and same.holm_p > 0.05
    ambiguous, other = outcomes(1.0)["moved"]
    assert moved.wilcoxon_p == pytest.approx(stats.wilcoxon(ambiguous - other, method="approx").pvalue)
    assert moved.holm_p == pytest.approx(2 * moved.wilcoxon_p) and same.holm_p == pytest.approx(same.wilcoxon_p)


def test_pairs_with_nan_are_left_out_and_one_pair_decides_nothing():
    ambiguous, other = outcomes(1.0)["moved"]
    ambiguous[:3] = np.nan
    (found,) = effects({"moved": (ambiguous, other)}, rng())
    assert found.n_units == 67
    (found,) = effects({"moved": (ambiguous[:4], other[:4])}, rng())
    assert found.n_units == 1 and found.sign == 0 and not found.equivalent and found.interval.reason
    (found,) = effects({"still": (other, other)}, rng())
    assert found.wilcoxon_p == 1 and found.equivalent and math.isnan(found.standardised)
    with pytest.raises(InputError, match="one value per pair"):
        effects({"moved": (ambiguous, other[:5])}, rng())


def one(sign, equivalent=False, n=60):
    lo, hi = {1: (0.1, 0.2), -1: (-0.2, -0.1), 0: (-0.1, 0.1)}[sign]
    return Effect("x", n, (lo + hi) / 2, Interval(lo, hi), 0.0, 0.0, 0.5, 0.5, 0.01 if equivalent else 0.5)


@pytest.mark.parametrize(
    ("signs", "equivalent", "expected"),
    [
        ([1] * 6 + [0], 0, "YES"),
        ([1] * 5 + [0] * 2, 0, "PARTIAL"),
        ([-1] * 6 + [1], 0, "YES"),
        ([1] * 5 + [-1] * 2, 0, "PARTIAL"),
        ([1] * 2 + [0] * 5, 0, "PARTIAL"),
        ([1] + [0] * 6, 0, "UNDETERMINED"),
        ([0] * 7, 6, "NO"),
        ([0] * 7, 5, "UNDETERMINED"),
        ([], 0, "UNDETERMINED"),
        ([1], 0, "YES"),
    ],
)
def test_the_rule_of_the_flags(signs, equivalent, expected):
    models = [one(s, i >= len(signs) - equivalent) for i, s in enumerate(signs)]
    assert flag(models).flag == expected


def test_a_direction_counts_one_sign_only_and_the_other_is_not_a_no():
    down = [one(-1)] * 7
    assert flag(down).flag == flag(down, sign=-1).flag == "YES"
    found = flag(down, sign=1)
    assert found.flag == "UNDETERMINED" and found.n_below == 7 and found.needed_for_yes == 6
    assert flag([one(1, n=59)] * 7).flag == "UNDETERMINED"
    with pytest.raises(InputError):
        flag(down, sign=2)
