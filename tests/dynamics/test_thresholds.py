import numpy as np
import pytest

from phaselens.dynamics.alarms import Score
from phaselens.dynamics.thresholds import learn_rule
from phaselens.errors import InputError

CT, BASE = Score("instability", 3), Score("surprisal")


def runs(rng, signal, n=400, steps=40):
    wrong = rng.integers(0, 2, n)
    values = rng.normal(size=(n, steps)) + signal * wrong[:, None] * (np.arange(steps) > 15)
    return {CT: values}, {BASE: rng.normal(size=(n, steps))}, wrong, np.arange(n) // 2


def test_a_score_that_says_something_beats_its_baseline_at_the_rate_asked_for():
    rng = np.random.default_rng(0)
    found = learn_rule(*runs(rng, 1.0), rng, rate=0.1, n_boot=300)
    assert found.rule.score == CT and found.rule.above and found.rule.calm < found.rule.threshold
    assert found.false_alarms.value == pytest.approx(0.1, abs=0.06)
    assert found.hits.value > 0.8 and found.gain.interval.lo > 0.5


def test_one_that_says_nothing_hits_as_often_as_it_alarms_falsely():
    rng = np.random.default_rng(1)
    found = learn_rule(*runs(rng, 0.0), rng, rate=0.1, n_boot=300)
    assert found.hits.value < 0.25 and 0 in found.gain.interval
    low = learn_rule(*runs(rng, -1.0), rng, rate=0.1, n_boot=300)
    assert not low.rule.above and low.hits.value > 0.8


def test_the_best_of_many_that_say_nothing_keeps_the_rate():
    """Were the threshold set by the runs that choose the score, a share of .12 of further right runs would alarm."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(160), 3)
        wrong = rng.random(len(unit)) > 0.7
        columns = {
            Score(f"c{i}", 2): rng.normal(size=160)[unit, None] + rng.normal(size=(len(unit), 30)) for i in range(20)
        }
        base = dict(list(columns.items())[:2])
        found.append(learn_rule(columns, base, wrong, unit, rng, rate=0.1, n_boot=20).false_alarms.value)
    assert np.mean(found) < 0.1 + 2 * np.std(found) / np.sqrt(60)
    assert np.mean(found) > 0.06


def test_a_short_answer_is_warned_of_from_its_first_steps_and_never_from_step_eight():
    rng = np.random.default_rng(4)
    wrong = rng.integers(0, 2, 600)
    columns = {CT: rng.normal(size=(600, 8)) + 2.0 * wrong[:, None]}
    base = {BASE: rng.normal(size=(600, 8))}
    with pytest.raises(InputError, match="after = 3"):
        learn_rule(columns, base, wrong, np.arange(600), rng, n_boot=200)
    early = learn_rule(columns, base, wrong, np.arange(600), rng, n_boot=200, after=3)
    assert early.rule.after == 3 and early.hits.value > 0.8
    assert early.false_alarms.value == pytest.approx(0.1, abs=0.06)


def test_halves_without_right_or_wrong_runs_are_refused():
    rng = np.random.default_rng(2)
    columns, base, _, units = runs(rng, 0.0)
    with pytest.raises(InputError, match="right and wrong"):
        learn_rule(columns, base, np.ones(400), units, rng)
    with pytest.raises(InputError, match="recorded none"):
        learn_rule({}, base, np.arange(400) % 2, units // 2, rng)


def test_too_few_right_questions_and_too_short_ones_are_said_and_give_no_infinite_threshold():
    rng = np.random.default_rng(3)
    columns, baselines, wrong, units = runs(rng, 1.0, n=60)
    with pytest.raises(InputError, match=r"a share of 0.01 needs 99"):
        learn_rule(columns, baselines, wrong, units, rng, rate=0.01, n_boot=50)
    plenty = runs(rng, 1.0)
    short = {score: np.where(np.arange(40) < 6, values, np.nan) for score, values in plenty[0].items()}
    with pytest.raises(InputError, match="end before step 8: say after = 3"):
        learn_rule(short, plenty[1], *plenty[2:], rng, n_boot=50)
