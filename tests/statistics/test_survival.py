"""Kaplan-Meier against a published trial and closed forms."""

import numpy as np
import pytest

from phaselens.errors import InputError
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.survival import event_rate, event_share, life_table, risk, survival

# Freireich et al. 1963 / Gehan 1965: weeks of remission under 6-mercaptopurine, and whether it ended
WEEKS = np.array([6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35])
ENDED = np.array([1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0], bool)


@pytest.fixture
def table():
    return [x[0] for x in life_table(WEEKS, ENDED, last=35)]


def test_the_published_curve(table):
    # Cox and Oakes 1984, table 4.1
    curve = survival(*table)
    weeks = [6, 7, 10, 13, 16, 22, 23]
    assert curve[weeks] == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=5e-4)
    assert risk(*table)[[6, 7, 10, 23]].tolist() == [21, 17, 15, 6]
    assert event_share(*table, 16) == pytest.approx(1 - 0.6275, abs=5e-4)


def test_without_censoring_it_is_the_empirical_share():
    times = np.random.default_rng(0).integers(0, 10, 200)
    table = [x[0] for x in life_table(times, np.ones(200, bool), last=9)]
    assert survival(*table) == pytest.approx([(times > t).mean() for t in range(10)])


def test_censoring_taken_out_and_not():
    g = np.random.default_rng(1)
    true, end = g.geometric(0.1, 20_000), g.integers(1, 30, 20_000)
    table = [x[0] for x in life_table(np.minimum(true, end), true <= end, last=16)]
    assert event_share(*table, 16) == pytest.approx(1 - 0.9**16, abs=0.02)
    assert ((true <= end) & (true <= 16)).mean() < 0.7  # the plain share is far too small


def test_groups_and_resamples_are_one_more_dimension():
    g = np.random.default_rng(2)
    time, event, unit = g.integers(0, 20, 300), g.random(300) < 0.6, g.integers(0, 8, 300)
    events, censored = life_table(time, event, last=12, group=unit, n_groups=8)
    w = bootstrap_weights(8, g, n_boot=5)
    draws = event_share(w @ events, w @ censored, 12)
    for weights, draw in zip(w, draws, strict=True):
        again = np.repeat(np.arange(300), weights[unit])
        whole = life_table(time[again], event[again], last=12)
        assert draw == pytest.approx(event_share(*whole, 12)[0])


def test_the_curve_is_unknown_where_nobody_is_left_and_0_after_the_last_event():
    gone = survival(*life_table(np.array([1, 2]), np.array([True, False]), last=4))[0]
    assert gone[:3].tolist() == [1, 0.5, 0.5] and np.isnan(gone[3:]).all()
    ended = survival(*life_table(np.array([1, 2]), np.array([True, True]), last=4))[0]
    assert ended.tolist() == [1, 0.5, 0, 0, 0]
    nobody = survival(*life_table(np.zeros(0), np.zeros(0, bool), last=2))
    assert np.isnan(nobody).all()


def test_wrong_durations_are_refused():
    with pytest.raises(InputError, match="whole"):
        life_table(np.array([1.5]), np.array([True]), last=3)
    with pytest.raises(InputError):
        life_table(np.array([1, 2]), np.array([True]), last=3)
    with pytest.raises(InputError, match="0..3"):
        event_share(np.zeros((1, 4)), np.zeros((1, 4)), 4)


def test_the_rate_is_events_over_steps_at_risk_and_tells_saturated_curves_apart():
    events, censored = np.zeros((2, 17)), np.zeros((2, 17))
    events[0, 2], events[1, 4] = 10, 10  # all reopened after 2 steps, and after 4
    assert event_rate(events, censored, 16) == pytest.approx([1 / 2, 1 / 4])
    assert event_share(events, censored, 8) == pytest.approx([1, 1])
    censored[0, 16], events[0, 2] = 5, 5  # five of ten followed to the end: 5 / (5 * 2 + 5 * 16)
    assert event_rate(events, censored, 16)[0] == pytest.approx(5 / 90)
    assert np.isnan(event_rate(np.zeros(17), np.zeros(17), 16))
