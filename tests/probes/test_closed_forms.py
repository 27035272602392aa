import numpy as np
import pytest
from planted_states import planted, standardised
from sklearn.linear_model import Ridge
from tools.held_out_ridge import ridge_held_out

from phaselens.errors import InputError
from phaselens.probes.ridge import ridge_path


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


def test_bad_input():
    X, y, _ = planted(n=30)
    with pytest.raises(InputError, match="finite targets"):
        ridge_path(X[0], np.full((30, 1), np.nan), [1.0])
