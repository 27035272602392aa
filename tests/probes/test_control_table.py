import numpy as np
import pytest
import torch
from planted_states import planted

from phaselens.perturbations import permute_labels
from phaselens.probes import cross_fit, grouped_folds, make_task
from phaselens.probes.capacity import majority_share, max_over_layers_p
from phaselens.probes.control_table import balanced_accuracy, control_accuracy, control_table
from phaselens.probes.controls import CONTROLS

BY_NAME = {control.name: control for control in CONTROLS}
ON_STATES = {name: control.perturb for name, control in BY_NAME.items() if control.on == "hidden"}
L2 = 3.0


@pytest.fixture(scope="module")
def table():
    X, y, groups = planted(n=300, d=10, classes=2, strength=(0.8, 0.8), layers=1)
    task = make_task(y, grouped_folds(groups, 3), groups=groups)
    found = cross_fit(X, {"t": task}, L2)
    rows = {k: ON_STATES[k] for k in ON_STATES if "feature SD" not in k}
    got = control_table(
        X, found, rows, np.random.default_rng(0), l2=L2, n_draws=4, needs_labels=frozenset({"Gaussian, by class"})
    )
    return found["t"].accuracy()[0, 0], {name: got[name, "t"] for name in rows}, majority_share(y)


def test_rotation_and_fixed_permutation_refit_to_the_same_predictions(table):
    base, got, _ = table
    for name in ("identity", "rotation", "feature permutation, fixed"):
        assert got[name].refit == pytest.approx(base, abs=1e-12)
    assert got["identity"].frozen == pytest.approx(base, abs=1e-12)


def test_a_frozen_probe_is_lost_in_a_rotation(table):
    base, got, _ = table
    assert got["rotation"].frozen_balanced.mean() < base - 0.15
    assert np.ptp(got["rotation"].frozen_balanced) > 0.05  # single draws are a band, not chance


def test_rows_that_destroy_and_rows_that_keep(table):
    base, got, majority = table
    assert base > 0.8
    assert got["Gaussian, pooled"].refit.mean() < majority + 0.08
    assert got["Gaussian, by class"].refit.mean() > base - 0.06
    assert got["Gaussian, by class"].frozen.mean() > base - 0.06
    assert got["feature permutation, per example"].refit.mean() < base - 0.1


def test_noise_is_a_dose(table):
    _, got, _ = table
    refit = [got[f"noise {k:g} x RMS"].refit.mean() for k in (0.25, 1, 4)]
    frozen = [got[f"noise {k:g} x RMS"].frozen.mean() for k in (0.25, 1, 4)]
    assert refit == sorted(refit, reverse=True) and frozen == sorted(frozen, reverse=True)
    assert refit[0] - refit[-1] > 0.1


def test_rotation_invariance_of_the_fit_itself():
    X, y, groups = planted(n=120, classes=3, layers=1, strength=(1.0,))
    turn = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(0))).Q
    task = make_task(y, grouped_folds(groups, 3))
    plain, turned = (cross_fit(x, {"t": task}, 1.0)["t"] for x in (X, X @ turn))
    assert turned.scores.numpy() == pytest.approx(plain.scores.numpy(), abs=2e-3)
    assert turned.probes.weight.numpy() == pytest.approx((plain.probes.weight @ turn).numpy(), abs=2e-3)
    # Scaling each feature by itself is no rotation, and does move a penalised fit.
    scaled = cross_fit(X * torch.linspace(0.1, 3, 16), {"t": task}, 1.0)["t"]
    assert (scaled.scores - plain.scores).abs().max() > 0.05


def test_every_control_says_what_it_must_do():
    assert len(BY_NAME) == len(CONTROLS)
    assert all(control.refit and control.frozen for control in CONTROLS)
    assert {c.kind for c in CONTROLS} == {"sanity", "destroys", "dose", "moments"}


def test_permuted_labels_are_at_chance_at_every_layer_and_true_ones_are_not():
    X, y, groups = planted(n=240, layers=2, strength=(0.0, 1.5))
    task = make_task(y, grouped_folds(groups, 3), groups=groups)
    draw = np.random.default_rng(0)
    codes = np.stack([permute_labels(y, draw) for _ in range(25)])
    null = control_accuracy(X, task, codes, l2=30.0)
    assert null.shape == (2, 25) and abs(null.mean() - 0.5) < 0.04
    p, _ = max_over_layers_p(cross_fit(X, {"t": task}, 30.0)["t"].accuracy()[:, 0], null)
    assert p == pytest.approx(1 / 26)
    nothing, _ = max_over_layers_p(cross_fit(X[:1], {"t": task}, 30.0)["t"].accuracy()[:, 0], null[:1])
    assert nothing > 0.05


def test_balanced_accuracy_weighs_classes_alike():
    assert balanced_accuracy(np.zeros(10, int), np.array([0] * 9 + [1]), 2) == 0.5
