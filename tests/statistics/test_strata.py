"""Within strata: closed forms, and what a confounder does with and without them."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.strata import coefficient_within, crossed, random_effects, rank_correlation_within
from phaselens.statistics.unit_effects import rank_correlation_effect


def test_labels_cross():
    found = crossed(np.array(["a", "b", "a", "b"]), np.array([1, 1, 2, 1]))
    assert len(set(found)) == 3 and found[1] == found[3]


def test_with_one_stratum_they_are_least_squares_and_spearman():
    rng = np.random.default_rng(0)
    x, y, unit = rng.normal(size=(60, 2)), rng.normal(size=60), np.arange(60) // 2
    w, one = np.ones((1, 30), int), np.zeros(60, int)
    want = np.linalg.lstsq(np.column_stack([x, np.ones(60)]), y, rcond=None)[0][0]
    assert coefficient_within(x, y, one, unit, w)[0] == pytest.approx(want)
    assert rank_correlation_within(x[:, 0], y, one, w[:, unit])[0] == pytest.approx(spearmanr(x[:, 0], y).statistic)


def test_what_moves_with_the_stratum_alone_is_seen_without_strata_only():
    rng = np.random.default_rng(1)
    stratum, unit = np.arange(400) % 2, np.arange(400)
    x, y = 2 * stratum + rng.normal(size=400), 3 * stratum + rng.normal(size=400)
    w = np.ones((1, 400), int)
    for of in (lambda s: coefficient_within(x[:, None], y, s, unit, w), lambda s: rank_correlation_within(x, y, s, w)):
        assert abs(of(stratum)[0]) < 0.12 and of(np.zeros(400, int))[0] > 0.5
    moved = x + 10 * stratum
    assert coefficient_within(moved[:, None], y, stratum, unit, w) == pytest.approx(
        coefficient_within(x[:, None], y, stratum, unit, w)
    )


def test_as_many_strata_as_there_are_tags_are_still_constants_of_least_squares():
    rng = np.random.default_rng(5)
    stratum, unit = rng.integers(0, 60, 300), rng.integers(0, 50, 300)
    x, y = rng.normal(size=(300, 3)) + stratum[:, None], rng.normal(size=300) - stratum
    w = bootstrap_weights(50, rng, n_boot=4)
    root = np.sqrt(w[1][unit])
    design = np.column_stack([x, stratum[:, None] == np.arange(60)])
    want = np.linalg.lstsq(design * root[:, None], y * root, rcond=None)[0][0]
    assert coefficient_within(x, y, stratum, unit, w)[1] == pytest.approx(want)


def test_a_resample_is_the_same_as_repeating_its_units():
    rng = np.random.default_rng(2)
    stratum, unit = rng.integers(0, 2, 40), np.arange(40) // 2
    x, y = rng.normal(size=40), rng.normal(size=40)
    w = bootstrap_weights(20, rng, n_boot=3)
    again = np.repeat(np.arange(40), w[0][unit])
    slope = coefficient_within(x[:, None], y, stratum, unit, w)[0]
    repeated = coefficient_within(
        x[again, None], y[again], stratum[again], np.arange(len(again)), np.ones((1, len(again)))
    )
    assert slope == pytest.approx(repeated[0])
    assert np.isnan(coefficient_within(np.ones((40, 1)), y, stratum, unit, w)).all()
    assert np.isnan(rank_correlation_within(np.ones(40), y, stratum, w[:, unit])).all()


def test_random_effects_know_how_models_differ():
    alike = random_effects(np.array([0.3, 0.31, 0.29, 0.3]), np.full(4, 0.01))
    assert alike.tau == 0 and alike.mean == pytest.approx(0.3) and alike.interval.lo > 0
    apart = random_effects(np.array([0.35, -0.35, 0.33, -0.36]), np.full(4, 0.002))
    assert apart.tau > 0.3 and apart.interval.lo < -0.3 < 0.3 < apart.interval.hi
    assert random_effects(np.array([0.3]), np.array([0.01])).interval.reason


def test_random_effects_cover_at_their_level():
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        v = rng.uniform(0.01, 0.05, 6)
        found = random_effects(0.2 + 0.2 * rng.normal(size=6) + np.sqrt(v) * rng.normal(size=6), v)
        hits += 0.2 in found.interval
    assert 0.92 < hits / 400 <= 0.99


def test_a_partial_rank_correlation_knows_what_is_given():
    rng = np.random.default_rng(4)
    size = rng.normal(size=40)
    x, y = size + 0.3 * rng.normal(size=40), size + 0.3 * rng.normal(size=40)
    assert rank_correlation_effect(x, y).interval.lo > 0.5
    assert abs(rank_correlation_effect(x, y, given=(size,)).value) < 0.4
    assert "wholly" in rank_correlation_effect(x, y, given=(x,)).interval.reason
    assert rank_correlation_effect(x, y).value == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation_effect(x[:6], y[:6], given=(size[:6],)).interval.reason
