"""The nulls of ratio_norm give the figures of definitions 9, by the same instability as the observable."""

import numpy as np
import pytest
import torch

from phaselens.dynamics import nulls
from phaselens.dynamics.regimes import ratio_norm
from phaselens.errors import InputError
from phaselens.observables import by_name, evaluate


def ratios(states):
    ct = nulls.instability_of(states)
    assert ct.shape[1] == 64
    return ratio_norm(ct).value, ct.argmax(axis=1)


def test_random_walk_is_about_three_with_its_maximum_at_the_start():
    ratio, where = ratios(nulls.random_walk(np.random.default_rng(0), d_model=128))
    assert np.median(ratio) == pytest.approx(3.1, abs=0.15) and (where < 6).mean() > 0.99


@pytest.mark.parametrize(("make", "about"), [(nulls.sphere_walk, 1.1), (nulls.independent_states, 1.05)])
def test_walks_without_events_stay_near_one(make, about):
    ratio, _ = ratios(make(np.random.default_rng(0), n_draws=60, d_model=512))
    assert np.median(ratio) == pytest.approx(about, abs=0.06)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_frozen_share_divides(share):
    g = np.random.default_rng(0)
    free, _ = ratios(nulls.sphere_walk(g, d_model=128))
    ratio, _ = ratios(nulls.partly_frozen(g, share, d_model=128))
    assert np.median(ratio) == pytest.approx(np.median(free) / (1 - share), rel=0.05)
    with pytest.raises(InputError):
        nulls.partly_frozen(g, 1.0)


@pytest.mark.parametrize("step", [0.2, 0.3, 0.5])
def test_one_outlier_gives_three_to_twelve(step):
    ratio, where = ratios(nulls.outlier_first_state(np.random.default_rng(0), d_model=128, step=step))
    assert 3 < np.median(ratio) < 12.5 and (where < 2).all()


def test_an_outlier_before_the_window_moves_nothing():
    states = nulls.sphere_walk(np.random.default_rng(0), d_model=128)
    plain = np.median(ratios(states)[0])
    states[:, 0] *= -1
    assert np.median(ratios(states)[0]) == pytest.approx(plain, rel=0.05)


def test_great_circle_turns_by_a_constant_angle():
    angle = 2 * np.pi / 7 * np.arange(12)
    circle = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=-1)[None]
    # equal steps on a circle of k = 7: chord 2 sin(pi / 7), turn 2 pi / 7
    assert nulls.instability_of(circle) == pytest.approx(2 * np.sin(np.pi / 7) * 2 * np.pi / 7)
    assert nulls.instability_of(5 * circle) == pytest.approx(nulls.instability_of(circle))


def test_standing_still_has_no_instability():
    assert (nulls.instability_of(np.ones((1, 6, 4))) == 0).all()


def test_draws_come_from_the_generator():
    first, again, other = (nulls.random_walk(np.random.default_rng(s), n_draws=2) for s in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("make", [nulls.random_walk, nulls.sphere_walk, nulls.independent_states])
def test_nulls_and_models_are_measured_by_one_definition(make):
    states = make(np.random.default_rng(3), n_draws=3, d_model=24)
    states[1, 30:35] = states[1, 30]  # a stretch that stands still
    hidden = torch.tensor(states)[:, None]  # [run, layer, step, d_model]
    observed = evaluate(by_name(["instability"]), {"hidden": hidden})["instability"]
    assert observed[:, 0, 2:].numpy() == pytest.approx(nulls.instability_of(states), abs=1e-9)
    assert observed[:, 0, :2].isnan().all()
