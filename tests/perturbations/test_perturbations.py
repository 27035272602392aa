import numpy as np
import pytest
import torch

from phaselens import perturbations as p
from phaselens.errors import InputError
from phaselens.perturbations.hidden import haar
from phaselens.probes import cross_fit, grouped_folds, make_task

ALL = [
    p.identity,
    p.rotate,
    p.permute_features,
    p.permute_features_per_example,
    p.permute_examples,
    p.sort_features,
    p.noise(0.5),
    p.noise_per_feature(0.5),
    p.gaussian_pooled,
    p.gaussian_by_class,
]


def states(n=400, d=5, seed=0):
    scale = torch.tensor([10.0, 3.0, 1.0, 0.3, 0.1])[:d]
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) * scale + 2


def drawn(perturb, hidden, seed=1, **more):
    return perturb(hidden, torch.Generator().manual_seed(seed), **more)


@pytest.mark.parametrize("perturb", ALL)
def test_same_seed_same_bytes_and_the_input_stays(perturb):
    hidden = states()
    before, labels = hidden.clone(), torch.arange(400) % 2
    first, again, other = (drawn(perturb, hidden, seed, labels=labels) for seed in (1, 1, 2))
    assert torch.equal(first, again) and torch.equal(hidden, before) and first.shape == hidden.shape
    moves = perturb not in (p.identity, p.sort_features)
    assert torch.equal(first, other) != moves


def test_haar_is_orthogonal_and_uniform():
    turn = haar(6, torch.Generator().manual_seed(0))
    assert (turn @ turn.T).numpy() == pytest.approx(np.eye(6), abs=1e-5)
    draw = torch.Generator().manual_seed(1)
    many = torch.stack([haar(3, draw) for _ in range(1000)])
    assert many.mean(0).abs().max() < 0.08  # without the signs of R the diagonal leans to one side
    assert many.square().mean(0).numpy() == pytest.approx(np.full((3, 3), 1 / 3), abs=0.04)


def test_rotation_keeps_distances_and_permutations_keep_values():
    hidden = states(n=50)
    assert torch.cdist(drawn(p.rotate, hidden), drawn(p.rotate, hidden)).numpy() == pytest.approx(
        torch.cdist(hidden, hidden).numpy(), abs=2e-2
    )
    for perturb in (p.permute_features, p.permute_features_per_example):
        moved = drawn(perturb, hidden)
        assert torch.equal(moved.sort(1).values, hidden.sort(1).values)
    fixed = drawn(p.permute_features, hidden)
    assert sorted(fixed[0].tolist()) == sorted(hidden[0].tolist())
    assert all(any(torch.equal(a, b) for b in hidden.T) for a in fixed.T)
    assert not any(torch.equal(a, b) for a in drawn(p.permute_features_per_example, hidden).T for b in hidden.T)


def test_noise_has_the_stated_size():
    hidden = states(n=20_000)
    centred = hidden - hidden.mean(0)
    added = drawn(p.noise(2.0), hidden) - hidden
    assert added.std(0).numpy() == pytest.approx(np.full(5, 2 * float(centred.square().mean().sqrt())), rel=0.03)
    own = drawn(p.noise_per_feature(2.0), hidden) - hidden
    assert own.std(0).numpy() == pytest.approx(2 * centred.std(0).numpy(), rel=0.03)
    assert torch.equal(drawn(p.noise(0.0), hidden), hidden)
    with pytest.raises(InputError, match="k >= 0"):
        p.noise(-1.0)


def test_gaussian_stand_ins_have_the_moments_of_their_class_and_nothing_else():
    hidden, labels = states(n=2000), torch.arange(2000) % 2
    hidden[labels == 1] = hidden[labels == 1] ** 3 / 50  # far from Gaussian
    by_class, pooled = drawn(p.gaussian_by_class, hidden, labels=labels), drawn(p.gaussian_pooled, hidden)
    for part in (labels == 0, labels == 1):
        spread = hidden[part].T.cov().diagonal().sqrt()
        assert ((by_class[part].mean(0) - hidden[part].mean(0)) / spread).abs().max() < 0.12
        gap = (by_class[part].T.cov() - hidden[part].T.cov()) / spread / spread[:, None]
        assert gap.abs().max() < 0.25
    assert pooled.mean(0).numpy() == pytest.approx(hidden.mean(0).numpy(), abs=1.5)
    tails = ((by_class - by_class.mean(0)) / by_class.std(0))[labels == 1]
    assert tails.abs().max() < 6 < ((hidden - hidden.mean(0)) / hidden.std(0))[labels == 1].abs().max()
    with pytest.raises(InputError, match="labels"):
        drawn(p.gaussian_by_class, hidden)


def test_moments_inside_folds_do_not_make_random_labels_decodable():
    """Moments over all examples would: the chance difference of class means is then in train and test alike."""
    hidden = torch.randn(240, 150, generator=torch.Generator().manual_seed(0))
    y = np.random.default_rng(0).integers(2, size=240)
    folds = grouped_folds(np.arange(240), 4)
    task, labels = make_task(y, folds), torch.as_tensor(y)
    inside = drawn(p.gaussian_by_class, hidden, labels=labels, blocks=torch.as_tensor(folds))
    leaking = drawn(p.gaussian_by_class, hidden, labels=labels)
    kept, spurious = (cross_fit(x[None], {"t": task}, 100.0)["t"].accuracy()[0, 0] for x in (inside, leaking))
    assert kept < 0.6 < 0.65 < spurious


def test_labels_move_by_group():
    labels = np.array([0, 0, 1, 1, 2, 2, -1])
    groups = np.array([5, 5, 6, 6, 7, 7, 8])
    draw = np.random.default_rng(0)
    moved = np.stack([p.permute_labels(labels, draw, groups=groups) for _ in range(30)])
    assert (moved[:, ::2][:, :3] == moved[:, 1::2]).all() and (moved[:, -1] == -1).all()
    assert all(sorted(row) == sorted(labels) for row in moved) and len({tuple(row) for row in moved}) == 6
    mixed = p.permute_labels(np.array([0, 1, 2, 3]), draw, groups=np.array([0, 0, 1, 1]))
    assert set(mixed[:2]) == {0, 1} and set(mixed[2:]) == {2, 3}
    assert sorted(p.permute_labels(labels, draw)) == sorted(labels)


def test_control_tasks_give_every_type_one_label():
    draw = np.random.default_rng(0)
    types, labels = draw.integers(40, size=500), draw.integers(2, size=500)
    labels[:5] = -1
    drawn_labels = p.control_labels(labels, types, draw, n_draws=20)
    assert drawn_labels.shape == (20, 500) and (drawn_labels[:, :5] == -1).all()
    for kind in range(40):
        assert all(len(set(row[5:][types[5:] == kind])) <= 1 for row in drawn_labels)
    assert np.abs(drawn_labels[:, 5:].mean() - labels[5:].mean()) < 0.06
    with pytest.raises(InputError, match="two types"):
        p.control_labels(labels, np.zeros(500, int), draw)


def test_a_control_task_is_learned_on_shared_types_and_not_on_disjoint_ones():
    draw = np.random.default_rng(0)
    types = draw.integers(30, size=300)
    vectors = draw.standard_normal((30, 40))
    X = torch.from_numpy(vectors[types] + 0.3 * draw.standard_normal((300, 40))).float()[None]
    y = p.control_labels(draw.integers(2, size=300), types, draw)
    shared = cross_fit(X, {"t": make_task(y, grouped_folds(np.arange(300), 3))}, 1.0)["t"].accuracy()
    apart = cross_fit(X, {"t": make_task(y, grouped_folds(types, 3), groups=types)}, 1.0)["t"].accuracy()
    assert shared[0, 0] > 0.95 and apart[0, 0] < 0.75
