"""Exponents: a linear system of known ones, the finite difference, and tangents that obey causality."""

import math

import numpy as np
import pytest
import torch
from tests.capture.zoo import SMALL_VOCABULARY, D, L, network

from phaselens.errors import InputError
from phaselens.interventions.growth import growth_of
from phaselens.models import edit, load, record, run
from phaselens.observables.growth import depth_exponents, largest_growth, token_exponent, token_growth

RATES = torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def turn(seed):
    return torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


def test_a_linear_system_has_the_logs_of_its_rates():
    basis = turn(0)
    matrix = basis @ torch.diag(RATES) @ basis.T
    tangents = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found, by_map = depth_exponents([lambda x: matrix @ x] * 60, torch.zeros(4, dtype=torch.float64), tangents)
    assert torch.allclose(found, RATES.log(), atol=0.05)
    assert torch.allclose(by_map[20:].mean(0), RATES.log(), atol=1e-4)


def test_rotations_have_no_growth_and_the_sum_of_exponents_is_the_log_determinant():
    rotation = turn(2)
    found, _ = depth_exponents([lambda x: rotation @ x] * 5, torch.ones(4, dtype=torch.float64), torch.eye(4).double())
    assert torch.allclose(found, torch.zeros(4, dtype=torch.float64), atol=1e-6)
    matrices = [turn(i) @ torch.diag(RATES) @ turn(i + 9) for i in range(5)]
    maps = [lambda x, m=m: m @ x for m in matrices]
    found, _ = depth_exponents(maps, torch.ones(4, dtype=torch.float64), turn(30))
    assert float(found.sum()) == pytest.approx(float(RATES.log().sum()), abs=1e-9)


def test_a_chaotic_map_has_its_known_exponent():
    """The logistic map at 4 has exponent ln 2."""
    step = lambda x: 4 * x * (1 - x)  # noqa: E731
    found, _ = depth_exponents([step] * 500, torch.tensor([0.3], dtype=torch.float64), torch.ones(1, 1))
    assert float(found[0]) == pytest.approx(math.log(2), abs=0.05)


def test_a_random_direction_grows_between_the_extreme_singular_values():
    value = largest_growth(lambda x: torch.diag(RATES) @ x, torch.zeros(4).double(), torch.Generator().manual_seed(0))
    assert math.log(0.1) < value < math.log(2.0)


def test_growth_along_tokens_of_a_recursion():
    moved = (0.8 ** torch.arange(6.0))[:, None] * torch.ones(1, 3)
    growth = token_growth(moved, 0)
    assert float(token_exponent(growth)) == pytest.approx(math.log(0.8), abs=1e-6)
    assert bool(token_exponent(growth[:2]).isnan()) and bool(token_growth(torch.zeros(3, 2), 0).isnan().all())


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_tangents_of_a_network_are_its_finite_differences(family):
    model = load(network(family))
    ids = torch.tensor(np.random.default_rng(0).integers(3, SMALL_VOCABULARY, size=8))
    found = growth_of(model, ids, step=3, layer=1, k=2, draws=2)
    assert found.depth.shape == (2,) and found.by_block.shape == (L, 2) and bool(found.depth.isfinite().all())
    assert torch.allclose(found.by_block.mean(0), found.depth)
    draw = torch.Generator().manual_seed(0)
    torch.randn(2, D, generator=draw)
    direction = torch.randn(2, D, generator=draw)[0]

    def final(eps):
        def change(state):
            out = state.clone()
            out[:, 3] += eps * direction
            return out

        with record(model, (L,), clone=True) as taps, edit(model, {1: change}):
            run(model.network, ids[None], mask=torch.ones_like(ids)[None])
        return taps.states[L][0].double()

    change = (final(1e-3) - final(-1e-3)) / 2e-3
    size = change.norm(dim=-1)
    assert float(size[:3].max()) == 0
    assert torch.allclose((size[3:] / size[3]).log(), found.by_step[0], atol=5e-3)


def test_a_family_without_a_derivative_says_which_operation_lacks_it():
    with pytest.raises(InputError, match="mixtral.*without a forward-mode derivative"):
        growth_of(load(network("mixtral")), torch.tensor([4, 5, 6, 7]), step=1)


def test_a_place_that_does_not_exist_is_refused():
    model = load(network("llama"))
    with pytest.raises(InputError, match="positions 0 to 3, and layers below the last are 0 to 2"):
        growth_of(model, torch.tensor([4, 5, 6, 7]), step=9)
    with pytest.raises(InputError, match="no maps"):
        depth_exponents([], torch.zeros(2), torch.eye(2))
    with pytest.raises(InputError, match="dependent"):
        depth_exponents([lambda x: x], torch.zeros(2), torch.ones(2, 2))
