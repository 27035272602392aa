"""Fingerprints: hand-worked vectors, identification of planted models beside none, ICC against published values."""

import math

import numpy as np
import pytest

from phaselens.dynamics.fingerprints import (
    by_prompt,
    fingerprints,
    icc_difference,
    layers_at,
    leave_one_out_accuracy,
    leave_one_out_hits,
    pooled_spread,
    recipe_identification,
    resampled_fingerprints,
    split_half_identification,
    squared_distances,
)
from phaselens.errors import InputError
from phaselens.statistics.agreement import intraclass_correlation
from phaselens.statistics.resampling import bootstrap_weights, resampled_medians

# Shrout and Fleiss 1979, table 2: six targets rated by four judges.
RATINGS = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], float)


def rng(seed=0):
    return np.random.default_rng(seed)


def panel(spread=1.0, models=8, prompts=12, features=5, seed=0):
    """Prompts shift all models alike; models differ by `spread` within-model spreads."""
    g = rng(seed)
    return (
        spread * g.standard_normal((models, 1, features))
        + g.standard_normal((1, prompts, features))
        + g.standard_normal((models, prompts, features))
    )


def test_layers_at_relative_depths():
    assert layers_at(12) == (3, 6, 9, 12) and layers_at(6) == (2, 3, 4, 6) and layers_at(1) == (1, 1, 1, 1)


def test_runs_of_a_prompt_are_averaged_first():
    values = np.array([[1.0, np.nan], [3.0, 4.0], [5.0, np.nan]])
    assert by_prompt(values, [0, 0, 1], 3) == pytest.approx(
        np.array([[2, 4], [5, np.nan], [np.nan, np.nan]]), nan_ok=True
    )


def test_a_fingerprint_is_the_median_in_within_model_spreads():
    values = panel()
    found = fingerprints(values)
    spread = np.sqrt(values.var(axis=1, ddof=1).mean(axis=0))
    assert pooled_spread(values) == pytest.approx(spread)
    assert found.vectors == pytest.approx(np.median(values, axis=1) / spread)
    scaled = fingerprints(values * np.array([1, 10, 100, 1e-3, 5]) + 3)
    apart = scaled.vectors - scaled.vectors[0]
    assert apart == pytest.approx(found.vectors - found.vectors[0])


def test_features_without_spread_or_undefined_for_a_model_are_dropped():
    values = panel()
    values[..., 1] = 2.0
    values[3, :, 4] = np.nan
    values[2, 0, 0] = np.nan
    found = fingerprints(values)
    assert found.kept.tolist() == [True, False, True, True, False] and np.isfinite(found.vectors).all()
    with pytest.raises(InputError, match="no feature"):
        fingerprints(np.ones((3, 4, 2)))


def test_resampled_medians_equal_the_repeated_values():
    values, weights = panel()[0], bootstrap_weights(12, rng(3), n_boot=40)
    values[4, 2] = np.nan
    found = resampled_medians(values, weights)
    expected = np.array([np.nanmedian(np.repeat(values, w, axis=0), axis=0) for w in weights])
    assert found == pytest.approx(expected)
    assert np.isnan(resampled_medians(np.full((3, 1), np.nan), np.ones((2, 3), int))).all()
    whole = resampled_fingerprints(panel(), np.ones((1, 12), int))[0]
    assert whole == pytest.approx(fingerprints(panel()).vectors)


def test_distances_leave_out_what_is_undefined():
    a, b = np.array([[0.0, np.nan, 2.0]]), np.array([[1.0, 5.0, 4.0], [np.nan, 1.0, np.nan]])
    assert squared_distances(a, b).tolist() == [[2.5, np.inf]]


def test_planted_models_are_identified_and_alike_ones_are_not():
    found = split_half_identification(panel(2.0), rng(1), n_splits=100, n_permutations=59)
    assert found.accuracy > 0.8 and found.p == pytest.approx(1 / 60) and found.chance == 1 / 8
    none = split_half_identification(panel(0.0), rng(1), n_splits=100, n_permutations=59)
    assert none.accuracy < 0.35 and none.p > 0.05


def test_twins_are_told_from_others_but_not_from_each_other():
    g = rng(4)
    twins = np.repeat(3 * g.standard_normal((4, 1, 5)), 2, axis=0) + g.standard_normal((8, 24, 5))
    found = split_half_identification(twins, rng(), groups=np.repeat(range(4), 2), n_splits=50, n_permutations=19)
    assert found.within_group > 0.98 and found.accuracy < 0.8
    vectors = fingerprints(twins).vectors
    share, p = recipe_identification(vectors, np.repeat(range(4), 2), rng())
    assert share == 1 and p < 0.02
    share, p = recipe_identification(vectors, np.tile(range(4), 2), rng())
    assert share < 0.3 and p > 0.3
    assert math.isnan(recipe_identification(vectors, np.arange(8), rng())[0])


@pytest.mark.slow
def test_identification_p_is_uniform_without_models():
    p = [
        split_half_identification(
            panel(0.0, models=5, prompts=8, features=3, seed=s),
            rng(s),
            n_splits=8,
            n_permutations=39,
            splits_per_permutation=8,
        ).p
        for s in range(200)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.06)


def test_leave_one_out_uses_the_other_prompts_only():
    values = panel()
    hits = leave_one_out_hits(values)
    fit = fingerprints(values)
    for i, p in ((0, 0), (3, 7), (7, 11)):
        others = np.median(np.delete(values, p, axis=1), axis=1) / fit.scale
        nearest = ((values[i, p] / fit.scale - others) ** 2).sum(axis=1).argmin()
        assert hits[i, p] == (nearest == i)
    accuracy, interval = leave_one_out_accuracy(panel(3.0), rng())
    chance, around = leave_one_out_accuracy(panel(0.0, prompts=30), rng())
    assert accuracy > 0.8 and interval.lo > 1 / 8 and 1 / 8 in around and chance < 0.25


def test_intraclass_correlations_of_shrout_and_fleiss():
    found = {k: intraclass_correlation(RATINGS, kind=k)[0] for k in ("one_way", "absolute", "consistency")}
    assert found == pytest.approx({"one_way": 0.166, "absolute": 0.290, "consistency": 0.715}, abs=6e-4)


def test_resampled_icc_equals_the_repeated_columns():
    w = bootstrap_weights(4, rng(), n_boot=6)
    for kind in ("one_way", "absolute", "consistency"):
        expected = [intraclass_correlation(np.repeat(RATINGS, row, axis=1), kind=kind)[0] for row in w]
        assert intraclass_correlation(RATINGS, w, kind=kind) == pytest.approx(expected)
    assert np.isnan(intraclass_correlation(RATINGS[:1])[0]) and np.isnan(intraclass_correlation(RATINGS * 0)[0])


def test_a_version_that_tells_models_apart_better_is_seen_and_the_same_one_is_not():
    sharp, g = panel(1.0, models=12, prompts=30, features=1)[..., 0], rng(2)
    blurred = sharp + 2 * g.standard_normal(sharp.shape)
    found = icc_difference(sharp, blurred)
    assert found.interval.lo > 0 and found.first > found.second
    same = icc_difference(sharp, 3 * sharp + 1)
    assert same.difference == pytest.approx(0) and same.interval.lo == pytest.approx(0, abs=1e-9)
    sharp[3, 4] = np.nan
    assert icc_difference(sharp, blurred).n_prompts == 29
    assert icc_difference(sharp[:, 4:5], blurred[:, 4:5]).interval.reason


@pytest.mark.parametrize(("prompts", "shared"), [(8, 0.0), (8, 0.5), (24, 0.5)])
def test_the_interval_of_an_icc_difference_covers(prompts, shared):
    """Two versions of equal reliability, their noise correlated by `shared`: the true difference is 0."""
    hits, n = 0, 400
    for s in range(n):
        g = rng(s)
        base = g.standard_normal((10, 1)) + g.standard_normal((1, prompts))
        common, *own = (g.standard_normal((10, prompts)) for _ in range(3))
        one, two = (base + np.sqrt(shared) * common + np.sqrt(1 - shared) * x for x in own)
        hits += 0 in icc_difference(one, two).interval
    assert 0.92 < hits / n < 0.99


def test_a_level_that_a_prompt_gives_to_all_models_hides_none():
    y = panel(1.0, models=8, prompts=12, features=1)[..., 0]
    moved = y + 10 * rng(3).standard_normal(12)
    assert icc_difference(y, moved).difference == pytest.approx(0, abs=1e-12)
