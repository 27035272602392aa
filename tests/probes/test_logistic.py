import numpy as np
import pytest
import torch
from planted_states import planted, standardised
from sklearn.linear_model import LogisticRegression

from phaselens.errors import InputError, StateError
from phaselens.probes import cross_fit, fit_logistic, grouped_folds, make_task
from phaselens.probes.design import make_design
from phaselens.probes.logistic import choose_l2


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("l2", [0.3, 10.0, 1000.0])
def test_equal_to_scikit_learn(classes, l2):
    X, y, groups = planted(classes=classes)
    folds = grouped_folds(groups, 3)
    train = folds != np.arange(3)[:, None]
    probes = fit_logistic(X, y, groups, l2, train=train)
    guesses = probes.predict(X)
    for layer in range(2):
        for fold in range(3):
            ready = standardised(X[layer], train[fold])
            theirs = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=5000).fit(ready[train[fold]], y[train[fold]])
            assert probes.weight[layer, fold].numpy() == pytest.approx(theirs.coef_, abs=1e-3)
            assert probes.bias[layer, fold].numpy() == pytest.approx(theirs.intercept_, abs=1e-3)
            assert (guesses[layer, fold] == theirs.predict(ready)).mean() > 0.99
            chances = probes.predict_proba(X)[layer, fold].numpy()
            assert chances == pytest.approx(theirs.predict_proba(ready), abs=1e-3)


def test_massive_features_do_not_spoil_the_fit():
    X, y, _ = planted()
    X[:, :, 3] = 400 + 40 * torch.randn(X.shape[:2], generator=torch.Generator().manual_seed(0))
    probes = fit_logistic(X, y, None, 0.1)
    every = np.ones(len(y), bool)
    for layer in range(2):
        ready = standardised(X[layer], every)
        theirs = LogisticRegression(C=10, tol=1e-10, max_iter=20_000).fit(ready, y)
        assert probes.weight[layer].numpy() == pytest.approx(theirs.coef_, rel=1e-3, abs=1e-3)
        assert (probes.predict(X)[layer] == theirs.predict(ready)).mean() > 0.99


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_and_more_features_than_examples(classes):
    """The optimum lies far out and the loss is nearly flat there."""
    draw = np.random.default_rng(0)
    x = draw.standard_normal((40, 100)) / np.arange(1, 101)
    y = np.digitize(x[:, 0], [-0.5, 0.5][: classes - 1])
    theirs = LogisticRegression(C=1000, tol=1e-9, max_iter=50_000).fit(standardised(x, np.ones(40, bool)), y)
    assert fit_logistic(x[None], y, None, 1e-3).weight[0].numpy() == pytest.approx(theirs.coef_, abs=1e-3)


def test_the_gradient_vanishes_at_the_fit():
    """The first-order condition of the stated objective, without another implementation."""
    X, y, _ = planted(classes=3)
    probes = fit_logistic(X, y, None, 5.0, tol=1e-8)
    x = standardised(X[1], np.ones(len(y), bool))
    p = probes.predict_proba(X)[1].double().numpy()
    off = p - np.eye(3)[y]
    assert off.T @ x + 5.0 * probes.weight[1].double().numpy() == pytest.approx(0, abs=2e-3)
    assert off.sum(0) == pytest.approx(0, abs=2e-3)


def test_single_precision_goes_on_in_double_where_the_tolerance_asks_for_it():
    X, y, _ = planted(n=60)
    every = np.ones(60, bool)
    theirs = LogisticRegression(C=1, tol=1e-12, max_iter=5000).fit(standardised(X[0], every), y)
    assert fit_logistic(X[:1], y, None, 1.0, tol=1e-11).weight[0].numpy() == pytest.approx(theirs.coef_, abs=1e-5)
    with pytest.raises(StateError, match="and not 1e-08"):
        fit_logistic(X, y, None, 1.0, tol=1e-8, max_iter=1)


def test_batches_of_labels_and_folds_equal_single_fits():
    X, y, groups = planted(classes=3)
    draws = np.stack([y, np.random.default_rng(1).permutation(y)])
    train = grouped_folds(groups, 4) != np.arange(4)[:, None]
    together = fit_logistic(X, draws, groups, 3.0, train=train)
    assert together.weight.shape == (2, 2, 4, 3, 16) and together.scores(X).shape == (2, 2, 4, len(y), 3)
    alone = fit_logistic(X[1:], draws[1], groups, 3.0, train=train[2])
    assert together.weight[1, 1, 2].numpy() == pytest.approx(alone.weight[0].numpy(), abs=1e-3)


def test_layers_are_read_one_at_a_time():
    X, y, _ = planted()
    alive = []

    def stream():
        for layer in X:
            alive.append(1)
            yield layer.numpy()

    assert fit_logistic(stream(), y, None, 1.0).weight == pytest.approx(fit_logistic(X, y, None, 1.0).weight)
    assert len(alive) == 2


def test_text_labels_and_examples_without_label():
    X, y, _ = planted(strength=(3.0, 3.0))
    words = np.where(y == 1, "yes", "no")
    assert set(fit_logistic(X, words, None, 1.0).predict(X)[0]) == {"yes", "no"}
    partly = y.copy()
    partly[:60] = -1
    left = fit_logistic(X, partly, None, 1.0)
    cut = fit_logistic(X[:, 60:], y[60:], None, 1.0)
    assert left.weight.numpy() == pytest.approx(cut.weight.numpy(), abs=1e-3)


def test_l2_by_inner_grouped_cv_is_that_of_a_plain_loop():
    X, y, groups = planted(n=150, classes=2, strength=(0.3, 1.0))
    path = (1000.0, 30.0, 1.0)
    chosen = fit_logistic(X, y, groups, path, n_inner=3).l2
    for layer in range(2):
        inner, losses = grouped_folds(groups, 3), []
        for l2 in path:
            loss = 0.0
            for f in range(3):
                ready = standardised(X[layer], inner != f)
                model = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=2000).fit(ready[inner != f], y[inner != f])
                loss -= np.log(
                    model.predict_proba(ready[inner == f])[np.arange((inner == f).sum()), y[inner == f]]
                ).sum()
            losses.append(loss)
        assert chosen[layer] == path[int(np.argmin(losses))]


def test_noise_takes_a_strong_penalty_and_signal_a_weak_one():
    X, y, groups = planted(strength=(0.0, 1.5))
    chosen = fit_logistic(X, y, groups, (1e4, 1.0)).l2
    assert chosen.tolist() == [1e4, 1.0]
    with pytest.raises(InputError, match="as many groups"):
        choose_l2(make_design(X[0]), y[None], np.ones((1, 240), bool), 2, np.array([1.0]), np.zeros(240), n_inner=5)


def test_bad_input_is_said_clearly():
    X, y, groups = planted(n=30)
    with pytest.raises(InputError, match="two classes"):
        fit_logistic(X, np.zeros(30, int), groups, 1.0)
    with pytest.raises(InputError, match="-1 marks"):
        fit_logistic(X, np.where(y == 1, 1, -1), groups, 1.0)
    with pytest.raises(InputError, match="NaN"):
        fit_logistic(torch.where(X > 4, torch.nan, X), y, groups, 1.0)
    with pytest.raises(InputError, match="NaN"):
        fit_logistic(X, np.where(y == 1, np.nan, 0.0), groups, 1.0)
    with pytest.raises(InputError, match="30 labels|30 examples"):
        fit_logistic(X[:, :20], y, groups, 1.0)
    with pytest.raises(InputError, match="same examples"):
        fit_logistic(X, y, groups[:20], 1.0)
    with pytest.raises(InputError, match="example, d"):
        fit_logistic(X[0], y, groups, 1.0)
    with pytest.raises(InputError, match="above 0"):
        fit_logistic(X, y, groups, 0.0)
    with pytest.raises(InputError, match="1 class"):
        fit_logistic(X, y, groups, 1.0, train=y == 1)
    with pytest.raises(InputError, match="layer, example, d"):
        fit_logistic(X, y, groups, 1.0).predict(X[:1])


def test_folds_keep_groups_whole_and_say_what_is_wrong():
    groups = np.repeat(np.arange(11), np.arange(1, 12))
    folds = grouped_folds(groups, 4)
    assert all(len(set(folds[groups == g])) == 1 for g in range(11))
    assert np.ptp(np.bincount(folds)) <= 3
    other = grouped_folds(groups, 4, np.random.default_rng(0))
    assert set(other) == {0, 1, 2, 3}
    with pytest.raises(InputError, match="as many groups"):
        grouped_folds(np.arange(3), 5)
    y = np.tile([0, 1], 33)
    with pytest.raises(InputError, match="in both splits"):
        make_task(y, np.arange(66) % 4, groups=groups)
    with pytest.raises(InputError, match="numbered"):
        make_task(y, np.full(66, 2))
    with pytest.raises(InputError, match="holds 1 class"):
        make_task(np.sort(y), np.sort(y))


def test_cross_fitting_scores_each_example_by_a_probe_that_did_not_see_it():
    X, y, groups = planted(classes=3, n=180)
    folds = grouped_folds(groups, 3)
    task = make_task(y, folds, groups=groups)
    binary = make_task(y == 1, folds)
    found = cross_fit(X, {"three": task, "two": binary}, 2.0)
    for fold in range(3):
        train = folds != fold
        model = LogisticRegression(C=0.5, tol=1e-9, max_iter=5000)
        ready = standardised(X[1], train)
        want = model.fit(ready[train], y[train]).predict(ready[~train])
        assert (found["three"].predictions()[1, 0, ~train] == want).all()
        frozen = found["three"].probes.scores(X)[1, 0, fold, ~train]
        assert found["three"].scores[1, 0, ~train].numpy() == pytest.approx(frozen.numpy(), abs=1e-3)
    assert found["two"].scores.shape == (2, 1, 180, 2)
    nested = cross_fit(X, {"three": task}, (1e4, 1.0))["three"]
    assert nested.probes.l2.shape == (2, 1, 3) and (nested.probes.l2[1] == 1.0).all()


@pytest.mark.parametrize("strength, low, high", [(2.0, 0.85, 1.0), (0.0, 0.3, 0.65)])
def test_signal_is_found_and_its_absence_too(strength, low, high):
    X, y, groups = planted(strength=(strength, strength))
    accuracy = cross_fit(X, {"t": make_task(y, grouped_folds(groups), groups=groups)}, 10.0)["t"].accuracy()
    assert (low <= accuracy).all() and (accuracy <= high).all()
