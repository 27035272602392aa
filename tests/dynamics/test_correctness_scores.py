import numpy as np
import pytest

from phaselens.dynamics.alarms import Rule, Running, Score, alarm_threshold, first_alarm, peaks, running
from phaselens.dynamics.correctness_scores import (
    commitment_trap,
    cycle_start,
    early_value,
    grammar_violation,
    prefix_means,
    repetition,
    resolved_turbulence,
    slope,
)
from phaselens.dynamics.early_exit import exit_curve
from phaselens.dynamics.regimes import run_mean
from phaselens.errors import InputError, UnknownNameError
from phaselens.statistics.detection import auroc


def test_means_slopes_and_prefixes():
    x = np.array([[np.nan, 1.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0], [np.nan] * 4])
    assert np.allclose(run_mean(x), [2, 5, np.nan], equal_nan=True)
    assert np.allclose(early_value(x, steps=2), [1, 5, np.nan], equal_nan=True)
    assert np.allclose(slope(x), [1, 0, np.nan], equal_nan=True)
    assert np.allclose(prefix_means(x, 3)[0], [np.nan, 1, 1.5], equal_nan=True)


def test_the_trap_is_the_product_of_ranks():
    assert np.allclose(commitment_trap([1, 2], [2, 1], [2, 1]), [1 / 8, 1])
    assert np.isnan(commitment_trap([1, np.nan], [2, 1], [2, 1])[1])


def test_turbulence_that_settles_is_resolved_and_one_that_grows_is_not():
    falling = np.r_[np.ones(8) * 4, np.ones(24)]
    found = resolved_turbulence(np.stack([falling, falling[::-1], np.ones(32)]))
    assert found[0] > 1 and found[1] < 0 and found[2] == pytest.approx(0)


def test_other_orders_violate_the_grammar_and_the_same_order_does_not():
    rng = np.random.default_rng(0)
    units = np.repeat(np.arange(50), 2)
    right = rng.integers(0, 2, 100).astype(bool)
    ordered = np.tile(np.arange(30) % 3, (100, 1))
    mixed = ordered.copy()
    mixed[~right] = rng.integers(0, 3, (int((~right).sum()), 30))
    assert auroc(grammar_violation(mixed, right, units, rng, n_states=3), ~right) > 0.99
    noise = rng.integers(0, 3, (100, 30))
    assert 0.3 < auroc(grammar_violation(noise, right, units, rng, n_states=3), ~right) < 0.7
    assert np.isnan(grammar_violation(np.full((4, 5), -1), np.ones(4, bool), np.arange(4), rng, n_states=3)).all()


def test_a_loop_starts_where_its_first_cycle_does():
    head = list(range(100, 140))
    assert cycle_start(head + [1, 2, 3] * 10) == 40
    assert cycle_start(head) == -1 and cycle_start([7] * 40) == 0 and cycle_start(head + [1, 2, 3] * 2) == -1
    assert repetition([1, 1, 1, 1]) == 0.75 and repetition(range(10)) == 0


@pytest.mark.parametrize("statistic", ["value", "recent", "mean", "debt"])
def test_a_score_taken_one_by_one_is_that_of_the_array(statistic):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, 40))
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    x[0] = np.nan
    score = Score("instability", 3, statistic, window=6, tau=0.1)
    whole = running(x, score)
    for row, expected in zip(x, whole, strict=True):
        one = Running(score)
        found = [one.push(v) for v in row]
        assert np.allclose(found, expected, equal_nan=True)
        half = Running(score)
        for v in row[:20]:
            half.push(v)
        assert np.allclose([half.copy().push(row[20])], [expected[20]], equal_nan=True)


def test_debt_is_the_streaming_form():
    assert running(np.array([[1.0, 3.0, 0.0]]), Score("x", statistic="debt", tau=1.0)).tolist() == [[0, 2, 1.8]]


def test_alarms_of_rules_and_of_arrays_agree():
    scores = np.array([[9.0, 0, 0, 2, 0], [0, 0, 0, 0, 0], [np.nan] * 5])
    assert first_alarm(scores, 1.0, after=1).tolist() == [3, -1, -1]
    assert first_alarm(-scores, -1.0, above=False, after=1).tolist() == [3, -1, -1]
    assert np.allclose(peaks(scores, after=1), [2, 0, np.nan], equal_nan=True)
    rule = Rule(Score("x"), 1.0, after=1, calm=0.5)
    assert [rule.alarms(v, i) for i, v in enumerate(scores[0])] == [False, False, False, True, False]
    assert rule.is_calm(0.4) and not rule.is_calm(0.6) and not rule.is_calm(np.nan)
    with pytest.raises(UnknownNameError, match="'recent'"):
        Score("x", statistic="recents")
    with pytest.raises(InputError, match="window"):
        Score("x", window=0)


def test_the_threshold_keeps_its_false_alarm_rate_on_new_runs():
    rng = np.random.default_rng(2)
    rates = []
    for _ in range(300):
        threshold = alarm_threshold(rng.exponential(size=39), 0.1)
        rates.append((rng.exponential(size=200) > threshold).mean())
    # Exactly (40 - 36) / 40 on average for 39 exchangeable runs.
    assert np.mean(rates) == pytest.approx(0.1, abs=0.01)
    assert alarm_threshold(np.arange(5.0), 0.1) == np.inf
    assert alarm_threshold(-np.arange(39.0), 0.1, above=False) == -alarm_threshold(np.arange(39.0), 0.1)


def test_a_threshold_holds_its_rate_for_a_further_prompt_whose_runs_are_alike():
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(39), rng.integers(1, 8, 39))
    rates = {"by prompt": [], "by run": []}
    for _ in range(300):
        level = rng.exponential(size=40)
        threshold = alarm_threshold(level[units], 0.1, units=units)
        rates["by prompt"].append(level[39] > threshold)
        again = np.repeat(level[:39], np.where(np.arange(39) == level[:39].argmin(), 60, 1))
        rates["by run"].append(level[39] > alarm_threshold(again, 0.1))
    assert np.mean(rates["by prompt"]) == pytest.approx(0.1, abs=0.06)
    # One calm prompt with sixty runs would set the threshold by itself if runs counted.
    assert np.mean(rates["by run"]) > 0.15


def test_leaving_early_saves_layers_and_costs_agreement():
    # Two tokens, layers 1..4: sure from layer 2 on and right; sure at layer 1 and wrong until layer 3.
    top1 = np.array([[0.2, 0.9, 0.9, 0.9], [0.8, 0.9, 0.95, 0.95]])
    agrees = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], float)
    saved, agreement, oracle = exit_curve(top1, agrees, np.array([0.5, 0.85, 2.0]))
    assert np.allclose(saved, [(2 + 3) / 8, (2 + 2) / 8, 0]) and np.allclose(agreement, [0.5, 0.5, 1])
    assert oracle == pytest.approx((2 + 1) / 8)
