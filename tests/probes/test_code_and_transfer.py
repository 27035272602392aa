import numpy as np
import pytest
import scipy.linalg
import torch
from planted_states import planted

from phaselens.errors import InputError
from phaselens.probes import cross_fit, fit_logistic, grouped_folds, make_task
from phaselens.probes.alignment import procrustes
from phaselens.probes.mdl import online_code
from phaselens.probes.subspace import (
    best_features,
    feature_curve,
    rank_curve,
    subspace_against_features,
    supervised_basis,
)
from phaselens.probes.transfer import family_transfer


def test_online_code_is_short_where_there_is_signal_and_not_where_there_is_none():
    X, y, groups = planted(strength=(0.0, 3.0))
    code = online_code(X, y, groups, np.random.default_rng(0), l2=(100.0, 1.0))
    assert code.uniform_nats == pytest.approx(240 * np.log(2))
    assert code.compression[1] > 2.5 and 0.8 < code.compression[0] < 1.05
    assert code.l2[0] == 100.0
    again = online_code(X, y, groups, np.random.default_rng(0), l2=(100.0, 1.0))
    assert (again.nats == code.nats).all()


def test_online_code_is_the_sum_of_its_blocks_and_keeps_groups_whole():
    X, y, groups = planted(classes=3, n=90)
    code = online_code(X[:1], y, groups, np.random.default_rng(3), l2=5.0, shares=(0.2, 0.5))
    assert all(len(set(code.blocks[groups == g])) == 1 for g in np.unique(groups))
    assert sorted(set(code.blocks)) == [0, 1, 2]
    total = (code.blocks == 0).sum() * np.log(3)
    for block in (1, 2):
        train, test = code.blocks < block, code.blocks == block
        p = fit_logistic(X[:1], y, None, 5.0, train=train).predict_proba(X[:1])[0].double().numpy()
        mix = 1 / (train.sum() + 1)
        total -= np.log((1 - mix) * p[test, y[test]] + mix / 3).sum()
    assert code.nats[0] == pytest.approx(total, rel=1e-5)
    with pytest.raises(InputError, match="shares"):
        online_code(X, y, groups, np.random.default_rng(0), shares=(0.5, 0.2))


def test_procrustes_recovers_a_rotation_and_is_that_of_scipy():
    draw = np.random.default_rng(0)
    source = draw.standard_normal((50, 6))
    turn = np.linalg.qr(draw.standard_normal((6, 6)))[0]
    exact = procrustes(source, 2.5 * source @ turn + 1)
    assert exact.rotation == pytest.approx(turn) and exact.scale == pytest.approx(2.5)
    assert exact.unexplained == pytest.approx(0, abs=1e-12)
    target = draw.standard_normal((50, 6))
    centred = source - source.mean(0), target - target.mean(0)
    assert procrustes(source, target).rotation == pytest.approx(scipy.linalg.orthogonal_procrustes(*centred)[0])
    assert procrustes(source, target).unexplained > 0.5
    with pytest.raises(InputError, match="paired"):
        procrustes(source, target[:40])


def test_a_frozen_probe_reads_another_model_only_after_alignment():
    X, y, _ = planted(strength=(2.0, 2.0))
    draw = torch.Generator().manual_seed(1)
    wide = torch.linalg.qr(torch.randn(24, 16, generator=draw)).Q.T
    other = X @ wide + 0.02 * torch.randn(2, 240, 24, generator=draw)
    train, test = np.arange(240) < 160, np.arange(240) >= 160
    probes = fit_logistic(X[:1], y, None, 1.0, train=train)
    align = procrustes(other[0, train], X[0, train])
    moved = align(other[0])
    want = (probes.predict(X[:1])[0] == y)[test].mean()
    assert (probes.predict(moved[None])[0] == y)[test].mean() >= want - 0.03 > 0.8
    shuffled = procrustes(other[0, train][torch.randperm(160, generator=draw)], X[0, train])
    assert (probes.predict(shuffled(other[0])[None])[0] == y)[test].mean() < 0.75


def test_transfer_between_families_that_share_a_direction_and_that_do_not():
    X, y, groups = planted(n=400, d=6, strength=(0.0, 0.0))
    family = np.where(np.arange(400) < 200, "a", "b")
    sign = np.where(y == 1, 1.0, -1.0)
    X[0, :, 0] += torch.tensor(3 * sign).float()  # one direction for both
    X[1, :200, 0] += torch.tensor(3 * sign[:200]).float()
    X[1, 200:, 0] -= torch.tensor(3 * sign[200:]).float()  # turned round in b
    found, names = family_transfer(X, y, family, grouped_folds(groups, 4), 1.0)
    assert names.tolist() == ["a", "b"] and found.shape == (2, 2, 2)
    assert (found[0] > 0.95).all()
    assert (found[1].diagonal() > 0.95).all() and found[1, 0, 1] < 0.05 > found[1, 1, 0]


def rotations(d, count=3):
    draw = torch.Generator().manual_seed(0)
    return [torch.linalg.qr(torch.randn(d, d, generator=draw)).Q for _ in range(count)]


def test_supervised_basis_turns_with_the_features_and_starts_with_the_mean_difference():
    X, y, _ = planted(strength=(2.0, 2.0))
    turn = rotations(16, 1)[0]
    basis, turned = supervised_basis(X[0], y, 4), supervised_basis(X[0] @ turn, y, 4)
    assert (basis @ basis.T).numpy() == pytest.approx((turn @ turned @ turned.T @ turn.T).numpy(), abs=1e-3)
    means = X[0, y == 1].mean(0) - X[0, y == 0].mean(0)
    assert abs(float(basis[:, 0] @ means / means.norm())) == pytest.approx(1, abs=1e-4)


def test_spread_signal_needs_a_subspace_and_a_single_feature_does_not():
    draw = np.random.default_rng(0)
    y, n, d = draw.integers(2, size=300), 300, 32
    noise = draw.standard_normal((2, n, d))
    noise[0] += (2 * y[:, None] - 1) * 0.45  # a little in each feature
    noise[1, :, 5] += (2 * y - 1) * 2.5  # all in one
    X = torch.from_numpy(noise).float()
    task = make_task(y, grouped_folds(np.arange(300), 3))
    spread, single = (subspace_against_features(layer, task, rotations(d), k=2, l2=1.0) for layer in X)
    assert spread.difference > 0.1
    rotated = np.nanmean(single.subspace) - np.nanmean(single.rotated, axis=1)
    assert single.difference < 0.03 and (rotated > single.difference + 0.03).all()
    assert best_features(X[1], y, 1).tolist() == [5]
    assert np.nanmean(feature_curve(X[1], task, (1,))) > 0.95 > np.nanmean(feature_curve(X[0], task, (1,))) + 0.15
    curve = np.nanmean(rank_curve(X[0], task, (1, 4)), axis=1)
    whole = cross_fit(X[:1], {"t": task}, 10.0)["t"].accuracy()[0, 0]
    assert curve[0] > 0.9 * whole
