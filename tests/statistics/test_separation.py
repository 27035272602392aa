"""The S test: closed forms, the quoted 5 % points and powers, and no more false positives than it says."""

import math
from itertools import combinations

import numpy as np
import pytest

from phaselens.errors import InputError
from phaselens.statistics.panel_groups import gap_kept, same_grouping, split
from phaselens.statistics.separation import (
    best_partition,
    even,
    grouped,
    largest_p,
    models_for_power,
    models_for_significance,
    p_values,
    power,
    separation,
    shares,
    uniform_null,
)

PUBLISHED_GD = (2.458, 1.764, 1.577, 0.079, 0.074, 0.059, 0.039, 0.021)  # GPT-2 ... TinyLlama, specification 4


def test_two_points_twice_is_a_perfect_split():
    s, k = best_partition(np.array([0.0, 0.0, 1.0, 1.0]))
    assert s == pytest.approx(1) and k == 2


def test_evenly_spaced_points_have_the_closed_form():
    # four points 0..3: between = 2 * 2 / 4 * 2^2 = 4, total = 5
    assert best_partition(np.arange(4.0))[0] == pytest.approx(0.8)


def test_best_partition_equals_the_search_over_all_groupings():
    g = np.random.default_rng(0)
    for _ in range(20):
        x = g.normal(size=7)
        total = ((x - x.mean()) ** 2).sum()
        shares = []
        for k in range(2, 6):
            for group in combinations(range(7), k):
                a, b = x[list(group)], np.delete(x, group)
                shares.append(len(a) * len(b) / 7 * (a.mean() - b.mean()) ** 2 / total)
        assert best_partition(x)[0] == pytest.approx(max(shares))


def test_s_keeps_shift_scale_and_order_and_not_a_curve():
    x = np.random.default_rng(1).lognormal(size=9)
    s = best_partition(x)[0]
    assert best_partition(-3 * x[::-1] + 100)[0] == pytest.approx(s)
    assert best_partition(np.log(x))[0] != pytest.approx(s, abs=1e-3)


@pytest.mark.parametrize(("m", "point"), [(6, 0.953), (8, 0.927), (12, 0.892), (17, 0.869), (20, 0.859)])
def test_five_percent_points_are_the_quoted_ones(m, point):
    null = uniform_null(m, np.random.default_rng(m))
    assert np.quantile(null, 0.95) == pytest.approx(point, abs=0.004)


@pytest.mark.parametrize(("gap", "quoted"), [(6, 0.50), (8, 0.83), (10, 0.97)])
def test_power_for_eight_models_is_the_quoted_one(gap, quoted):
    assert power(8, gap, np.random.default_rng(gap)) == pytest.approx(quoted, abs=0.02)


def test_the_published_eight_are_significant_with_twins_and_open_without():
    g = np.random.default_rng(0)
    values = np.log(PUBLISHED_GD)
    whole = separation(values, g)
    assert whole.s == pytest.approx(0.950, abs=5e-4) and whole.p == pytest.approx(0.019, abs=0.004)
    assert whole.groups == (1, 1, 1, 0, 0, 0, 0, 0)
    assert whole.p_interval.lo < 0.0189 < whole.p_interval.hi
    without = separation(np.delete(values, [2, 6]), g)  # DistilGPT-2 and Pythia-160M
    assert without.p == pytest.approx(0.08, abs=0.012)


def test_too_few_or_equal_values_are_undefined_with_a_reason():
    g = np.random.default_rng(0)
    few, equal = separation(np.array([1.0, 2.0, 3.0, np.nan]), g), separation(np.ones(6), g)
    assert math.isnan(few.s) and math.isnan(few.p) and few.m == 3 and "need" in few.reason
    assert math.isnan(equal.p) and equal.reason == "all values are equal"
    assert math.isnan(power(3, 8, g))
    with pytest.raises(InputError):
        uniform_null(5, g, n_draws=0)


def test_undefined_models_take_no_part():
    x = np.array([0.0, 0.1, np.nan, 5.0, 5.1, 0.05])
    found = separation(x, np.random.default_rng(0))
    assert found.groups == (0, 0, -1, 1, 1, 0) and found.m == 5


@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_panels_without_groups_pass_at_most_at_the_level(draw):
    g = np.random.default_rng(7)
    critical = np.quantile(uniform_null(8, g), 0.95)
    panels = getattr(g, draw)(size=(4000, 8))
    assert (best_partition(panels)[0] > critical).mean() <= 0.058


def test_models_needed_are_fewer_for_a_sharper_split():
    g = np.random.default_rng(0)
    assert models_for_power(8, g) == 8
    assert models_for_significance(0.927, g) in (8, 9)
    assert models_for_significance(0.859, g) in range(18, 23)
    assert models_for_significance(0.74, g) is None


def _split(values, draws=None, names=None, twins=None):
    values = np.asarray(values, float)
    draws = np.tile(values, (50, 1)) if draws is None else draws
    names = names or tuple(f"m{i}" for i in range(len(values)))
    twins = twins or (False,) * len(values)
    return split("v", names, values, draws, np.random.default_rng(0), twins=twins, n_prompts=8)


def test_gap_kept_is_the_share_of_the_gap():
    base = _split([0, 0.1, 0, 4, 4.1, 4])
    assert gap_kept(base, base)[0] == pytest.approx(1)
    assert gap_kept(base, _split(base.values * 0.25 + 7))[0] == pytest.approx(0.25)
    turned, interval = gap_kept(base, _split(-base.values))
    assert turned == pytest.approx(-1) and interval.hi == pytest.approx(-1)
    assert same_grouping(base, _split(-base.values)) == 1.0
    assert same_grouping(base, _split([0, 4, 0, 4, 0, 4])) < 0.5


def test_twins_are_dropped_once():
    tested = _split([0, 0.6, 0.9, 4, 4.1, 5], twins=(False, True, False, False, True, False))
    assert tested.dropped == ("m1", "m4") and tested.without_twins.m == 4 and tested.p == tested.without_twins.p
    assert tested.test.p < tested.without_twins.p


def test_splits_of_other_models_do_not_compare():
    with pytest.raises(InputError):
        gap_kept(_split([0, 0, 1, 1]), _split([0, 0, 1, 1], names=("a", "b", "c", "d")))


@pytest.mark.parametrize("k", [2, 3, 4])
def test_dynamic_programming_finds_the_best_of_all_contiguous_partitions(k):
    g = np.random.default_rng(k)
    panels = np.sort(g.normal(size=(5, 10)), axis=-1)
    found, ends = best_partition(panels, k)
    for x, s, cuts in zip(panels, found, ends, strict=True):

        def inside(at, x=x):
            return sum(((part - part.mean()) ** 2).sum() for part in np.split(x, at))

        ways = [at for at in combinations(range(2, 9), k - 1) if min(np.diff([0, *at, 10])) >= 2]
        best = min(ways, key=inside)
        assert tuple(cuts) == best
        assert s == pytest.approx(1 - inside(best) / ((x - x.mean()) ** 2).sum())


def test_three_and_four_groups_are_found_and_their_number_is_said():
    g = np.random.default_rng(0)
    for k in (3, 4):
        values = np.repeat(np.arange(k), 3) * 10 + g.normal(size=3 * k)
        found = separation(g.permutation(values), g, among=(2, 3, 4))
        assert found.k == k and found.p <= 0.05 and sorted(found.groups) == sorted(np.repeat(np.arange(k), 3))


def test_the_least_p_of_several_numbers_of_groups_holds_its_level_and_has_the_quoted_power():
    g = np.random.default_rng(3)
    among = (2, 3, 4)
    null = uniform_null(12, g, among=among)
    for draw in (g.random, g.standard_normal):
        p = p_values(shares(draw((2000, 12)), among), null)[0]
        assert (p <= 0.05).mean() <= 0.065
    quoted = {(12, 3): 0.99, (12, 4): 0.96, (8, 3): 0.72, (8, 4): 0.90}
    for (m, k), value in quoted.items():
        assert power(m, 10, g, among=among, groups=k, n_draws=4000) == pytest.approx(value, abs=0.04)


def test_a_p_above_the_largest_excludes_groups_with_an_error_of_five_per_cent():
    g, among = np.random.default_rng(5), (2, 3, 4)
    bound, null = largest_p(12, 8, g, among=among), uniform_null(12, g, among=among)
    for k in among:
        x = grouped(12, 8, g, sizes=even(12, k), n_draws=2000)
        assert (p_values(shares(x, among), null)[0] > bound).mean() <= 0.06
    x = g.standard_normal((2000, 12))
    assert (p_values(shares(x, among), null)[0] > bound).mean() > 0.5  # and it is not an empty rule


def test_the_gap_kept_of_three_groups_is_their_common_scale():
    values = np.array([0.0, 0.1, 5, 5.1, 11, 11.1])
    names = tuple("abcdef")
    draws = np.tile(values, (50, 1))
    base, other = (
        split("v", names, v, d, np.random.default_rng(0), twins=(False,) * 6, n_prompts=8, among=(3,))
        for v, d in ((values, draws), (values / 4, draws / 4))
    )
    assert gap_kept(base, other)[0] == pytest.approx(0.25) and same_grouping(base, other) == 1
