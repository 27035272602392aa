import numpy as np
import pytest
from sklearn.calibration import calibration_curve as reference_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score

from phaselens.errors import InputError
from phaselens.statistics.detection import (
    auroc,
    auroc_of_kind,
    auroc_of_kind_by_chance,
    calibration_curve,
    highest_auroc_by_chance,
    resampled_auroc,
    resampled_auroc_within,
    resampled_average_precision,
    resampled_rejection,
    run_weights,
)
from phaselens.statistics.logistic_regression import fit_logistic, held_out_probability


def average_precision(scores, wrong):
    return resampled_average_precision(scores, wrong, np.ones((1, len(scores)), int))[0]


def prediction_rejection_ratio(scores, wrong):
    return resampled_rejection(scores, wrong, np.ones((1, len(scores)), int))[0]


@pytest.fixture
def drawn():
    rng = np.random.default_rng(0)
    wrong = rng.integers(0, 2, 300)
    return np.round(rng.normal(size=300) + wrong, 1), wrong, rng


def test_ranking_scores_are_those_of_scikit_learn_with_ties(drawn):
    scores, wrong, _ = drawn
    assert auroc(scores, wrong) == pytest.approx(roc_auc_score(wrong, scores))
    assert average_precision(scores, wrong) == pytest.approx(average_precision_score(wrong, scores))
    assert auroc(-scores, wrong) == pytest.approx(1 - auroc(scores, wrong))
    assert auroc(np.exp(scores), wrong) == pytest.approx(auroc(scores, wrong))


def test_a_resample_is_the_score_of_the_repeated_runs(drawn):
    scores, wrong, rng = drawn
    unit = rng.integers(0, 40, 300)
    weights = run_weights(rng.multinomial(40, np.full(40, 1 / 40), size=7), unit)
    fast = resampled_auroc(scores, wrong, weights)
    again = [np.repeat(np.arange(len(scores)), w) for w in weights]
    assert np.allclose(fast, [auroc(scores[drawn], wrong[drawn]) for drawn in again])
    again = np.repeat(np.arange(300), weights[0])
    assert fast[0] == pytest.approx(roc_auc_score(wrong[again], scores[again]))


def test_undefined_scores_are_left_out_and_one_class_is_undefined(drawn):
    scores, wrong, _ = drawn
    some = scores.copy()
    some[:50] = np.nan
    assert auroc(some, wrong) == pytest.approx(auroc(scores[50:], wrong[50:]))
    for of in (auroc, average_precision, prediction_rejection_ratio):
        assert np.isnan(of(scores, np.ones(300))) and np.isnan(of(scores, np.zeros(300)))
    with pytest.raises(InputError, match="0 or 1"):
        auroc(scores, scores)


def test_rejection_is_one_for_the_oracle_and_nothing_for_chance():
    wrong = np.array([0, 0, 1, 0, 1, 1, 0, 0])
    assert prediction_rejection_ratio(wrong, wrong) == pytest.approx(1)
    assert prediction_rejection_ratio(np.zeros(8), wrong) == pytest.approx(0)
    assert prediction_rejection_ratio(-wrong, wrong) < 0
    # Kept in order of score: right, right, wrong, right; by hand against the oracle's 1, 1, 1, 3/4.
    value = (1 + 1 + 2 / 3 + 3 / 4) / 4
    by_hand = (value - 0.75) / ((1 + 1 + 1 + 3 / 4) / 4 - 0.75)
    assert prediction_rejection_ratio(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 1, 0])) == pytest.approx(by_hand)
    rng = np.random.default_rng(1)
    ratios = [prediction_rejection_ratio(rng.normal(size=200), rng.integers(0, 2, 200)) for _ in range(200)]
    assert abs(np.mean(ratios)) < 0.03


def test_calibration_is_that_of_scikit_learn():
    rng = np.random.default_rng(2)
    p = rng.uniform(size=1000)
    wrong = (rng.uniform(size=1000) < p).astype(int)
    mean, share, count = calibration_curve(p, wrong, n_bins=5)
    their_share, their_mean = reference_curve(wrong, p, n_bins=5, strategy="quantile")
    assert np.allclose(share, their_share, atol=0.01) and np.allclose(mean, their_mean, atol=0.01)
    assert count.sum() == 1000 and np.abs(mean - share).mean() < 0.05
    mean, share, _ = calibration_curve(p**4, wrong, n_bins=5)
    assert np.abs(mean - share).mean() > 0.2


def test_logistic_is_that_of_scikit_learn(drawn):
    _, wrong, rng = drawn
    x = rng.normal(size=(300, 3)) + wrong[:, None] * [1, 0, -0.5]
    ours = fit_logistic(x, wrong, 2.0)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, wrong)
    assert np.allclose(ours, [*theirs.coef_[0], theirs.intercept_[0]], atol=1e-5)


def test_held_out_predictions_find_a_signal_and_none_where_a_unit_is_all_there_is():
    rng = np.random.default_rng(3)
    units = np.repeat(np.arange(60), 5)
    wrong = rng.integers(0, 2, 60)[units]
    signal = wrong[:, None] + rng.normal(size=(300, 1))
    p = held_out_probability(signal, wrong, units, np.random.default_rng(0))
    assert auroc(p, wrong) > 0.65
    # A feature that only names the prompt: runs of a prompt would give it away, were they split.
    name = rng.normal(size=60)[units][:, None] * [1.0, 1.0]
    # Pooled over folds a score without information lies below one half: what is left out moves the constant.
    assert auroc(held_out_probability(name, wrong, units, np.random.default_rng(0)), wrong) < 0.6
    noise = rng.normal(size=(300, 2))
    with_it, without = (
        np.mean(
            [
                auroc(held_out_probability(noise, y, units, np.random.default_rng(i), constant=c), y)
                for i, y in enumerate(rng.integers(0, 2, (20, 60))[:, units])
            ]
        )
        for c in (True, False)
    )
    assert with_it < 0.46 < 0.47 < without < 0.53
    assert np.isnan(held_out_probability(signal[:3], wrong[:3], units[:3], np.random.default_rng(0))).all()


def test_pairs_of_one_kind_alone_are_compared():
    """A score that only knows the kind: .5 within kinds, whatever it has over all."""
    rng = np.random.default_rng(0)
    kind = np.repeat([0, 1], 400)
    wrong = (rng.random(800) < np.where(kind, 0.8, 0.2)).astype(float)
    ones = np.ones((1, 800), int)
    assert auroc(kind + 0.0, wrong) > 0.75
    assert resampled_auroc_within(kind + 0.0, wrong, kind, ones)[0] == pytest.approx(0.5)
    own = wrong + rng.standard_normal(800)
    pairs = [wrong[kind == k].sum() * (1 - wrong[kind == k]).sum() for k in (0, 1)]
    expected = np.average([auroc(own[kind == k], wrong[kind == k]) for k in (0, 1)], weights=pairs)
    assert resampled_auroc_within(own, wrong, kind, ones)[0] == pytest.approx(expected)
    assert resampled_auroc_within(own + 100 * kind, wrong, kind, ones)[0] == pytest.approx(expected)
    assert resampled_auroc_within(own, wrong, np.zeros(800, int), ones)[0] == pytest.approx(auroc(own, wrong))
    assert np.isnan(resampled_auroc_within(own[:2], np.array([0.0, 1.0]), np.array([0, 1]), ones[:, :2])[0])


def test_what_the_kind_alone_tells():
    kind, unit = np.repeat([0, 1], 300), np.arange(600)
    assert auroc_of_kind(kind, (kind == 1).astype(float)) == 1
    assert auroc_of_kind(kind, np.tile([0.0, 1.0], 300)) == pytest.approx(0.5)
    rng = np.random.default_rng(0)
    wrong = (rng.random(600) < np.where(kind, 0.8, 0.2)).astype(float)
    assert auroc_of_kind(kind, wrong) == pytest.approx(auroc(kind + 0.0, wrong))
    few, many = (auroc_of_kind_by_chance(k, wrong, unit, np.random.default_rng(0)).mean() for k in (kind, unit // 6))
    assert 0.5 < few < 0.54 < 0.6 < many


def test_the_best_of_many_scores_by_chance():
    rng = np.random.default_rng(1)
    unit = np.repeat(np.arange(60), 3)
    wrong = np.repeat(rng.random(60) < 0.3, 3).astype(float)
    useless = np.repeat(rng.standard_normal((40, 60)), 3, axis=1) + 0.1 * rng.standard_normal((40, 180))
    draws = highest_auroc_by_chance(useless, wrong, unit, np.random.default_rng(2))
    best = max(auroc(s, wrong) for s in useless)
    assert 0.55 < np.median(draws) < 0.75 and np.quantile(draws, 0.01) < best < np.quantile(draws, 0.99)
    one = highest_auroc_by_chance(useless[:1], wrong, unit, np.random.default_rng(2))
    assert abs(np.mean(one) - 0.5) < 0.02 < np.median(draws) - np.median(one)
    alone = highest_auroc_by_chance(useless[:1], wrong, np.arange(180), np.random.default_rng(2))
    assert np.std(one) > 1.4 * np.std(alone)  # runs of one unit stay together
    assert auroc(wrong + rng.standard_normal(180), wrong) > np.quantile(one, 0.99)
    gone = np.where(rng.random((1, 180)) < 0.3, np.nan, useless[:1])
    assert abs(np.mean(highest_auroc_by_chance(gone, wrong, unit, np.random.default_rng(2))) - 0.5) < 0.03
    assert np.isnan(highest_auroc_by_chance(useless, np.zeros(180), unit, rng)).all()
