import numpy as np
import pytest
import torch
from planted_states import planted, standardised
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.neighbors import NearestCentroid
from tools.held_out_ridge import ridge_held_out

from phaselens.errors import InputError
from phaselens.probes.mass_mean import fit_mass_mean
from phaselens.probes.ridge import fit_ridge, ridge_path


@pytest.mark.parametrize("n", [120, 20])  # more and fewer examples than the 30 features
def test_ridge_path_is_that_of_scikit_learn(n):
    X, y, _ = planted(n=n, d=30)
    targets = np.random.default_rng(0).standard_normal((n, 3))
    weight, bias, _ = ridge_path(X[0], targets, (0.1, 10.0))
    ready = standardised(X[0].double(), np.ones(n, bool))
    for i, l2 in enumerate((0.1, 10.0)):
        theirs = Ridge(alpha=l2).fit(ready, targets)
        assert weight[i].numpy() == pytest.approx(theirs.coef_, abs=1e-8)
        assert bias.numpy() == pytest.approx(theirs.intercept_, abs=1e-8)


@pytest.mark.parametrize("n", [90, 20])
def test_left_out_folds_without_refitting_equal_refitting(n):
    X, _, groups = planted(n=n, d=30)
    targets = np.random.default_rng(1).standard_normal((n, 2))
    folds = groups % 3
    got = ridge_held_out(X[1], targets, folds, (0.5, 20.0))
    for i, l2 in enumerate((0.5, 20.0)):
        for fold in range(3):
            train = folds != fold
            ready = standardised(X[1].double(), train)
            theirs = Ridge(alpha=l2).fit(ready[train], targets[train]).predict(ready[~train])
            assert got[i, ~train] == pytest.approx(theirs, abs=1e-7)


@pytest.mark.parametrize("classes", [2, 3])
def test_ridge_classifier(classes):
    X, y, _ = planted(classes=classes)
    probes = fit_ridge(X, y, 3.0)
    theirs = RidgeClassifier(alpha=3.0).fit(standardised(X[0], np.ones(len(y), bool)), y)
    assert probes.weight[0].numpy() == pytest.approx(np.atleast_2d(theirs.coef_), abs=1e-5)
    assert (probes.predict(X)[0] == theirs.predict(standardised(X[0], np.ones(len(y), bool)))).all()


@pytest.mark.parametrize("classes", [2, 3])
def test_mass_mean_is_nearest_mean_and_whitened_is_the_linear_discriminant(classes):
    X, y, _ = planted(classes=classes, strength=(0.3, 1.0))
    ready = standardised(X[0], np.ones(len(y), bool))
    plain = NearestCentroid().fit(ready, y)
    assert (fit_mass_mean(X, y).predict(X)[0] == plain.predict(ready)).all()
    equal = np.full(classes, 1 / classes)
    whitened = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=0.01, priors=equal).fit(ready, y)
    probes = fit_mass_mean(X, y, whiten=True, shrinkage=0.01)
    assert (probes.predict(X)[0] == whitened.predict(ready)).all()
    if classes == 2:
        assert probes.weight[0].numpy() == pytest.approx(whitened.coef_, rel=1e-3)


def test_whitened_mass_mean_survives_any_invertible_map_and_the_plain_one_does_not():
    X, y, _ = planted(strength=(0.3, 0.5))
    mapped = X @ torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    whitened = [fit_mass_mean(x, y, whiten=True, shrinkage=0.0).predict(x) for x in (X, mapped)]
    plain = [fit_mass_mean(x, y).predict(x) for x in (X, mapped)]
    assert (whitened[0] == whitened[1]).mean() > 0.995
    assert (plain[0] != plain[1]).mean() > 0.02


def test_bad_input():
    X, y, _ = planted(n=30)
    with pytest.raises(InputError, match="shrinkage"):
        fit_mass_mean(X, y, shrinkage=2.0)
    with pytest.raises(InputError, match="finite targets"):
        ridge_path(X[0], np.full((30, 1), np.nan), [1.0])
    with pytest.raises(InputError, match="two classes"):
        fit_ridge(X, np.ones(30, int))
