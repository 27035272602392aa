"""Cycles by their rules; an AR(1) series reopens as its surrogate does, and a planted excess is seen above it."""

import numpy as np
import pytest

from phaselens.dynamics.cycles import (
    ar1_surrogate,
    collapse_threshold,
    cycle_table,
    cycles,
    lag_one,
    matched_correlation,
    rivalry_state,
    word_shuffle,
)
from phaselens.errors import InputError
from phaselens.statistics.survival import event_share


def low(text):
    """`-` low, `.` not low, space undefined."""
    return np.array([c == "-" for c in text]), np.array([c != " " for c in text])


def one(text, **more):
    is_low, seen = low(text)
    return cycles(is_low, defined=seen, **more)


def test_an_entry_needs_three_low_steps_and_a_reopening_three_others():
    found = one("..--.---.-..--...--....")
    assert found.step.tolist() == [7] and found.reopened.tolist() == [True] and found.duration.tolist() == [7]
    assert len(one("..--.--.--....").row) == 0 and len(one("--").row) == 0


def test_a_collapse_is_entered_once_until_it_reopens():
    found = one("---.---..---...---...")
    assert found.step.tolist() == [2, 17] and found.duration.tolist() == [10, 1] and found.reopened.all()


@pytest.mark.parametrize(("after", "kind"), [(15, "reopened"), (16, "permanent"), (30, "permanent")])
def test_reopened_within_sixteen_steps_or_permanent(after, kind):
    counts = one("---" + "-" * after + "..." + "." * 9).counts()
    assert counts[kind] == 1 and counts["entries"] == 1 and counts["reopened"] + counts["permanent"] == 1


def test_censored_where_a_reopening_could_no_longer_be_seen():
    assert one("..---" + "-" * 17).counts()["censored"] == 1  # 17 observed, a reopening needs three more
    assert one("..---" + "-" * 18).counts()["permanent"] == 1
    assert one("---..").counts()["censored"] == 1
    assert one("---" + "-" * 10 + "   ").duration.tolist() == [8]  # the run ended, no step after counts
    assert one("---....   ....").duration.tolist() == [1]


def test_reopened_to_rivalry_or_to_neutral():
    rival = np.zeros(20, bool)
    rival[[5, 17]] = True
    found = one("---...---....---....", rivalry=rival)
    assert found.to_rivalry.tolist() == [True, False, True] and found.counts()["to_neutral"] == 1
    p1, p2 = np.array([0.3, 0.3, 0.1, np.nan]), np.array([0.2, 0.1, 0.1, 0.1])
    assert rivalry_state(p1, p2).tolist() == [True, False, False, False]


def test_entries_inside_a_word_are_counted_apart():
    start = np.array([c == "w" for c in "w....www............"])
    found = one(".---....---.........", word_start=start)
    assert found.inside_word.tolist() == [True, True]
    found = one("....---.............", word_start=start)
    assert found.inside_word.tolist() == [False]
    both = cycles(np.stack([low(".---................")[0], low("....---.............")[0]]), word_start=start)
    for which, n in (("all", 2), ("inside", 1), ("outside", 1)):
        events, censored = cycle_table(both, np.zeros(2, int), 1, which=which)
        assert events.sum() + censored.sum() == n
    with pytest.raises(InputError, match="outside"):
        cycle_table(both, np.zeros(2, int), 1, which="within")


def test_batches_equal_a_loop():
    g = np.random.default_rng(0)
    marks, word, rival = g.random((3, 5, 60)) < 0.7, g.random((5, 60)) < 0.4, g.random((3, 5, 60)) < 0.3
    found = cycles(marks, rival, word)
    for row, (d, r) in enumerate(np.ndindex(3, 5)):
        alone, of = cycles(marks[d, r], rival[d, r], word[r]), found.row == row
        for name in ("step", "duration", "reopened", "to_rivalry", "inside_word"):
            assert (getattr(found, name)[of] == getattr(alone, name)).all(), name


def ar1(g, phi, runs, n):
    x = g.standard_normal((runs, n))
    for t in range(1, n):
        x[:, t] = phi * x[:, t - 1] + np.sqrt(1 - phi**2) * x[:, t]
    return x


def test_the_correlation_is_found_without_its_bias():
    g = np.random.default_rng(1)
    for phi in (0.5, 0.9):
        x = np.exp(ar1(g, phi, 1000, 72))  # only ranks count
        r = lag_one(x)
        assert r.mean() < phi - 0.03
        assert np.median(matched_correlation(r, 72, g)) == pytest.approx(phi, abs=0.025)
    assert np.isnan(lag_one(np.ones((2, 9)))).all() and np.isnan(lag_one(np.ones((2, 4)))).all()


def reopened(marks, group, n_groups, at=16):
    return event_share(*cycle_table(cycles(marks), group, n_groups), at)


@pytest.mark.parametrize(("phi", "off"), [(0.5, 0.02), (0.8, 0.02), (0.9, 0.03)])
def test_an_ar1_series_reopens_as_its_surrogate_does(phi, off):
    g = np.random.default_rng(2)
    x = ar1(g, phi, 4000, 72)
    edge = collapse_threshold(x)
    null = ar1_surrogate(x, edge, g, n_draws=2)
    assert (null.sum(axis=-1) != (x <= edge).sum(axis=1)).mean() < 1e-3  # but for a tie in single precision
    for at in (4, 16):
        seen = reopened(x <= edge, np.zeros(4000, int), 1, at)[0]
        drawn = reopened(null, np.repeat(np.arange(2), 4000), 2, at).mean()
        assert seen == pytest.approx(drawn, abs=off + 0.015 * (at == 4))


def waves(g, runs, n, low_steps, high_steps):
    """Low and high in turn for fixed times, with noise: a collapse always lasts `low_steps`."""
    at = (np.arange(n) + g.integers(0, low_steps + high_steps, (runs, 1))) % (low_steps + high_steps)
    return np.where(at < low_steps, -3, 3) + g.standard_normal((runs, n))


def test_a_planted_excess_lies_above_the_surrogates_and_a_planted_lack_below():
    g = np.random.default_rng(3)
    group = np.repeat(np.arange(60), 150)
    for values, sign in ((waves(g, 150, 72, 12, 12), 1), (waves(g, 150, 72, 24, 24), -1)):
        null = reopened(ar1_surrogate(values, 0.0, g, n_draws=60), group, 60)
        seen = reopened(values <= 0, np.zeros(150, int), 1)[0]
        assert seen > np.quantile(null, 0.975) if sign > 0 else seen < np.quantile(null, 0.025)


def test_the_word_shuffle_keeps_what_a_place_in_a_word_does():
    g = np.random.default_rng(4)
    word = g.random((40, 72)) < 0.4
    marks = g.random((40, 72)) < np.where(word, 0.1, 0.6)
    null = word_shuffle(marks, word, g, n_draws=50)
    assert (null.sum(axis=-1) == marks.sum(axis=1)).all()
    assert ((null & word).sum(axis=-1) == (marks & word).sum(axis=1)).all() and (null[0] != marks).any()
    # places are drawn evenly: one low step among the word starts of a run falls on each of them
    alone = np.zeros((1, 9), bool)
    alone[0, 3] = True
    where = word_shuffle(alone, np.tile([True, False, False], (1, 3)), g, n_draws=3000)[:, 0].mean(axis=0)
    assert where == pytest.approx([1 / 3, 0, 0] * 3, abs=0.04)


def test_low_stretches_beyond_the_words_are_seen_and_those_of_words_are_not():
    g = np.random.default_rng(5)
    start = np.tile(np.arange(72) % 6 == 0, (200, 1))
    inside = np.where(np.arange(72) % 6 >= 2, g.random((200, 72)) < 0.9, g.random((200, 72)) < 0.05)
    lasting = inside.copy()
    lasting[:, 20:50] = True
    group = np.repeat(np.arange(20), 200)
    for marks, differs in ((inside, False), (lasting, True)):
        null = reopened(word_shuffle(marks, start, g, n_draws=20), group, 20, 8)
        seen = reopened(marks, np.zeros(200, int), 1, 8)[0]
        assert (abs(seen - null.mean()) > 5 * null.std() + 0.02) == differs


def test_undefined_values_are_refused_and_thresholds_say_so():
    g = np.random.default_rng(6)
    with pytest.raises(InputError, match="NaN"):
        ar1_surrogate(np.array([[1, np.nan, 2]]), 0.5, g)
    with pytest.raises(InputError):
        word_shuffle(np.zeros((2, 3), bool), np.zeros(3, bool), g)
    assert np.isnan(collapse_threshold(np.array([np.nan])))
    assert not ar1_surrogate(np.ones((1, 20)), 0.5, g, n_draws=3).any()
