import numpy as np
import pytest
import torch
from planted_states import planted

from phaselens.errors import InputError
from phaselens.probes import fit_logistic
from phaselens.probes.erasure import (
    concept_columns,
    fit_leace,
    project_out,
    random_subspace,
    random_subspace_of_variance,
    removed_variance,
)


@pytest.fixture(scope="module")
def case():
    X, y, _ = planted(classes=3, strength=(2.0, 2.0))
    return X[0].double(), y, fit_leace(X[0].double(), y)


def shared(states, y):
    wanted = concept_columns(y)
    return (states - states.mean(0)).T @ (wanted - wanted.mean(0)) / len(y)


def test_afterwards_states_and_labels_have_no_covariance(case):
    states, y, eraser = case
    assert shared(states, y).abs().max() > 0.05
    assert shared(eraser(states), y).abs().max() < 1e-10
    assert eraser.rank == 2


def test_no_linear_probe_learns_anything_afterwards_and_did_before(case):
    states, y, eraser = case
    majority = np.bincount(y).max() / len(y)
    before, after = (
        (fit_logistic(x[None], y, None, 1.0).predict(x[None])[0] == y).mean() for x in (states, eraser(states))
    )
    assert before > 0.9 and after == pytest.approx(majority, abs=1e-9)
    assert fit_logistic(eraser(states)[None], y, None, 1.0).weight.abs().max() < 1e-3


def test_mean_stays_and_twice_is_once(case):
    states, _, eraser = case
    once = eraser(states)
    assert once.mean(0).numpy() == pytest.approx(states.mean(0).numpy())
    assert eraser(once).numpy() == pytest.approx(once.numpy())


def test_no_other_guarding_affine_map_moves_states_less(case):
    """Least change in the plain and in the covariance-weighted norm, against the orthogonal projection and mixtures.

    Every x -> x - P(x - m) with P S_xz = S_xz guards; adding a map that vanishes on S_xz gives the others.
    """
    states, y, eraser = case
    cross = shared(states, y)
    q = torch.linalg.svd(cross).U[:, :2]
    shifted = states - states.mean(0)
    metric = torch.linalg.inv(shifted.T @ shifted / len(y))
    base = eraser.left @ eraser.right
    draw = torch.Generator().manual_seed(0)
    free = torch.eye(16, dtype=torch.float64) - q @ q.T

    def cost(p, m):
        moved = shifted @ p.T
        return float(((moved @ m) * moved).sum(1).mean())

    for norm in (torch.eye(16, dtype=torch.float64), metric):
        least = cost(base, norm)
        assert cost(q @ q.T, norm) > 1.01 * least
        for _ in range(20):
            other = base + 0.05 * torch.randn(16, 16, generator=draw, dtype=torch.float64) @ free
            assert (other @ cross - cross).abs().max() < 1e-10 and cost(other, norm) > least


def test_fewer_examples_than_features():
    X, y, _ = planted(n=12, d=30)
    eraser = fit_leace(X[0], y)
    assert shared(eraser(X[0].double()), y).abs().max() < 1e-5


def test_projection_takes_out_the_directions(case):
    states, y, _ = case
    means = torch.stack([states[torch.as_tensor(y == k)].mean(0) for k in np.unique(y)]) - states.mean(0)
    eraser = project_out(means, states.mean(0))
    assert eraser.rank == 2  # three means that sum to nothing span two dimensions
    assert (eraser(states) @ means.T).std(0).max() < 1e-3
    assert removed_variance(eraser, states) > 0


def test_random_subspaces_of_equal_rank_and_of_equal_variance(case):
    states, _, eraser = case
    wanted = removed_variance(eraser, states)
    draw = torch.Generator().manual_seed(1)
    plain = random_subspace(states.mean(0), 2, draw)
    matched = random_subspace_of_variance(states, 2, wanted, draw)
    assert plain.rank == matched.rank == 2
    assert removed_variance(matched, states) == pytest.approx(wanted, rel=2e-3)
    assert abs(removed_variance(plain, states) / wanted - 1) > 0.05
    with pytest.raises(InputError, match="takes out a variance"):
        random_subspace_of_variance(states, 2, 1e6, draw)
    with pytest.raises(InputError, match="rank"):
        random_subspace(states.mean(0), 17, draw)


def test_layers_keep_their_own_eraser_and_dtype():
    X, y, _ = planted()
    out = [fit_leace(layer, y)(layer) for layer in X]
    assert len(out) == 2 and out[0].dtype == X.dtype
