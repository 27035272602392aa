"""Signatures: linear networks of known gain, words from intervals, and halves that know their own model."""

import math

import numpy as np
import pytest

from phaselens.dynamics.perturbation_signatures import gain, geometric, split_half, vector, word
from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights


def rms(x, axis=None):
    return np.sqrt(np.mean(np.square(x), axis=axis))


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_a_linear_network_that_scales_states_and_changes_alike_carries(factor):
    g = np.random.default_rng(0)
    states, change = g.standard_normal((200, 16)), g.standard_normal((200, 16))
    out = gain(rms(factor * change, 1), rms(factor * states), rms(change, 1), rms(states))
    assert np.allclose(out, 1)


def test_gain_of_a_linear_network_is_that_of_its_matrix_over_that_of_its_states():
    """States along one axis are stretched by 4, all other axes by 1: a random change in d = 100 is hardly stretched."""
    g = np.random.default_rng(1)
    stretch = np.ones(100)
    stretch[0] = 4.0
    states, change = np.zeros((500, 100)), g.standard_normal((500, 100))
    states[:, 0] = g.standard_normal(500)
    value = gain(rms(change * stretch), rms(states * stretch), rms(change), rms(states))
    assert value == pytest.approx(math.sqrt((16 + 99) / 100) / 4, rel=0.02)
    along = gain(rms(states * stretch), rms(states * stretch), rms(states), rms(states))
    assert along == pytest.approx(1)


def test_gain_is_undefined_without_change_or_states():
    assert np.isnan(gain(1.0, 1.0, 0.0, 1.0)) and np.isnan(gain(1.0, 0.0, 1.0, 1.0)) and gain(0.0, 1.0, 1.0, 1.0) == 0


@pytest.mark.parametrize(
    ("lo", "hi", "expected"),
    [
        (0.2, 0.8, "absorb"),
        (0.85, 0.99, "absorb"),
        (0.92, 0.98, "carry"),
        (0.95, 1.05, "carry"),
        (1.05, 1.3, "amplify"),
        (1.01, 1.09, "carry"),
        (0.8, 1.2, "undetermined"),
    ],
)
def test_words_follow_the_interval(lo, hi, expected):
    assert word(Interval(lo, hi, 0.95)) == expected


def test_an_undefined_interval_is_undetermined():
    assert word(undefined_interval("none")) == "undetermined"


def test_geometric_means_find_a_planted_gain_and_leave_undefined_prompts_out():
    g = np.random.default_rng(2)
    logs = np.log([0.5, 1.0, 2.0]) + 0.1 * g.standard_normal((40, 3))
    logs[0, 1] = np.nan
    found = geometric(logs, bootstrap_weights(40, g, n_boot=400))
    assert [s.word for s in found] == ["absorb", "carry", "amplify"]
    assert all(s.interval.lo < v < s.interval.hi for s, v in zip(found, (0.5, 1.0, 2.0), strict=True))
    assert geometric(logs[:1], np.ones((5, 1)))[0].word == "undetermined"


def test_vector_interpolates_over_relative_depth():
    depth = np.array([0.0, 0.5])
    assert np.allclose(vector(np.array([[0.0, 2.0]]), depth), [[0.0, 1.0, 2.0, 2.0]])
    with pytest.raises(InputError, match="one rising depth each"):
        vector(np.zeros((2, 3)), depth)


def halves(means, noise, n=12, seed=0):
    g = np.random.default_rng(seed)
    return [means[:, None] + noise * g.standard_normal((len(means), n, means.shape[1])) for _ in range(2)]


def test_models_that_differ_are_told_apart_and_one_model_three_times_is_not():
    g = np.random.default_rng(3)
    common = np.linspace(-3, 3, 20)
    families = ("a", "b", "c")
    apart = split_half(*halves(common + 0.5 * g.standard_normal((3, 20)), 0.3), families, g, n_boot=300)
    assert apart.interval.lo > 0 and apart.distance_interval.lo > 0 and apart.n_pairs == 6
    assert all(value > 0.9 and lo.lo > 0.8 for value, lo in apart.reproducibility)
    missed = 0
    for seed in range(20):
        same = split_half(*halves(np.tile(common, (3, 1)), 0.3, seed=seed), families, g, n_boot=200)
        missed += not same.interval.lo <= 0
    assert missed <= 3


def test_one_family_or_one_prompt_gives_no_separation_and_says_why():
    g = np.random.default_rng(4)
    made = halves(g.standard_normal((2, 8)), 0.1)
    one = split_half(*made, ("a", "a"), g, n_boot=50)
    assert math.isnan(one.separation) and "one family" in one.interval.reason and one.reproducibility[0][1].lo > 0
    few = split_half(made[0][:, :1], made[1][:, :1], ("a", "b"), g, n_boot=50)
    assert "fewer than two prompts" in few.interval.reason and math.isnan(few.separation)
    with pytest.raises(InputError, match="two halves"):
        split_half(made[0], made[1][:, :, :3], ("a", "b"), g)
