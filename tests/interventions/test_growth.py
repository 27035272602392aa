"""Exponents: a linear system of known ones, the finite difference, and tangents that obey causality."""

import math

import numpy as np
import pytest
import torch
from tests.capture.zoo import SMALL_VOCABULARY, D, L, network

from phaselens.errors import InputError
from phaselens.interventions.growth import growth, run_growth
from phaselens.models import edit, load, record, run
from phaselens.observables.growth import depth_exponent, growth_by_map, token_exponent, token_growth
from phaselens.trace.transcripts import Transcript, Transcripts

RATES = torch.tensor([2.0, 1.0, 0.5, 0.1], dtype=torch.float64)


def turn(seed):
    return torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]


def test_a_linear_system_has_the_logs_of_its_rates():
    basis = turn(0)
    matrix = basis @ torch.diag(RATES) @ basis.T
    tangents = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = growth_by_map([lambda x: x @ matrix] * 60, torch.zeros(4, dtype=torch.float64), tangents)
    assert torch.allclose(found[20:].mean(0), RATES.log(), atol=1e-4)
    assert float(depth_exponent(found)) == pytest.approx(math.log(2), abs=0.05)
    assert float(depth_exponent(found[:, 1:])) == pytest.approx(0, abs=0.05)


def test_rotations_have_no_growth_and_the_sum_of_exponents_is_the_log_determinant():
    rotation = turn(2)
    found = growth_by_map([lambda x: x @ rotation] * 5, torch.ones(4, dtype=torch.float64), torch.eye(4).double())
    assert torch.allclose(found, torch.zeros(5, 4, dtype=torch.float64), atol=1e-6)
    matrices = [turn(i) @ torch.diag(RATES) @ turn(i + 9) for i in range(5)]
    maps = [lambda x, m=m: x @ m.T for m in matrices]
    found = growth_by_map(maps, torch.ones(4, dtype=torch.float64), turn(30))
    assert float(found.mean(0).sum()) == pytest.approx(float(RATES.log().sum()), abs=1e-9)


def test_rows_of_a_batch_have_the_growth_that_they_have_alone():
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    maps = [lambda x: (x @ matrix).tanh()] * 3
    states, tangents = torch.stack([torch.ones(4), torch.arange(4.0)]).double(), torch.stack([turn(1), turn(2)])
    found = growth_by_map(maps, states, tangents[:, :2])
    assert found.shape == (2, 3, 2)
    alone = torch.stack([growth_by_map(maps, s, t[:2]) for s, t in zip(states, tangents, strict=True)])
    assert torch.allclose(found, alone)


def test_an_exponent_keeps_a_change_of_basis_one_scale_and_a_shift_and_no_other_scale():
    matrix = torch.randn(4, 4, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    state, tangents, basis = torch.arange(4.0).double(), turn(3)[:2], turn(4)

    def block(x):
        return x + (x @ matrix).tanh()

    def exponent(into, back, start, moved):
        return float(depth_exponent(growth_by_map([lambda x: into(block(back(x)))] * 3, start, moved)))

    plain = exponent(lambda x: x, lambda x: x, state, tangents)
    turned = exponent(lambda x: x @ basis, lambda x: x @ basis.T, state @ basis, tangents @ basis)
    scaled = exponent(lambda x: 3 * x, lambda x: x / 3, 3 * state, tangents)
    shifted = exponent(lambda x: x + 1, lambda x: x - 1, state + 1, tangents)
    assert turned == pytest.approx(plain) and scaled == pytest.approx(plain) and shifted == pytest.approx(plain)
    assert exponent(lambda x: 3 * x, lambda x: x, state, tangents) > plain + 0.5


def test_a_chaotic_map_has_its_known_exponent():
    """The logistic map at 4 has exponent ln 2."""
    found = growth_by_map([lambda x: 4 * x * (1 - x)] * 500, torch.tensor([0.3]).double(), torch.ones(1, 1))
    assert float(depth_exponent(found)) == pytest.approx(math.log(2), abs=0.05)


def test_growth_along_tokens_of_a_recursion():
    moved = (0.8 ** torch.arange(6.0))[:, None] * torch.ones(1, 3)
    growth = token_growth(moved, 0)
    assert float(token_exponent(growth)) == pytest.approx(math.log(0.8), abs=1e-6)
    assert bool(token_exponent(growth[:2]).isnan()) and bool(token_growth(torch.zeros(3, 2), 0).isnan().all())


@pytest.mark.parametrize("family", ["llama", "gpt2", "mixtral"])
def test_tangents_of_a_network_are_its_finite_differences(family):
    model = load(network(family))
    ids = torch.tensor(np.random.default_rng(0).integers(3, SMALL_VOCABULARY, size=8))
    experts = getattr(model.network, "get_experts_implementation", dict)()
    found = run_growth(model, ids, starts=(3, 5), layer=1, k=2, draws=2)
    assert found.by_block.shape == (2, L, 2) and bool(found.by_block.isfinite().all()) and found.gap < 0.01
    assert getattr(model.network, "get_experts_implementation", dict)() == experts
    draw = torch.Generator().manual_seed(0)
    torch.randn(2, 2, D, generator=draw)
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


def test_growth_along_depth_is_the_finite_difference_of_every_block():
    model = load(network("llama"))
    ids = torch.tensor(np.random.default_rng(1).integers(3, SMALL_VOCABULARY, size=6))
    found = run_growth(model, ids, starts=(2, 4), k=1, draws=1)
    tangent = torch.randn(2, 1, D, generator=torch.Generator().manual_seed(0))[1, 0]
    with torch.no_grad(), record(model, clone=True) as taps:
        plain = run(model.network, ids[None], mask=torch.ones_like(ids)[None])
    assert plain is not None
    growths = []
    for i in range(L):
        moved, unit = [], tangent / tangent.norm()
        for sign in (1, -1):

            def change(state, by=sign * 1e-3 * unit, i=i):
                out = taps.states[i].clone()
                out[:, 4] += by
                return out

            with torch.no_grad(), record(model, (i + 1,), clone=True) as after, edit(model, {i: change}):
                run(model.network, ids[None], mask=torch.ones_like(ids)[None])
            moved.append(after.states[i + 1][0, 4].double())
        tangent = ((moved[0] - moved[1]) / 2e-3).float()
        growths.append(float(tangent.norm().log()))
    assert np.allclose(growths, found.by_block[1, :, 0], atol=5e-3)
    size = torch.stack([taps.states[i][0, [2, 4]] for i in range(L + 1)]).norm(dim=-1).log()
    assert torch.allclose(found.stream, size.diff(dim=0).T.double(), atol=1e-5)


def test_growth_of_runs_of_unequal_length_ends_where_they_end():
    model = load(network("gpt2"))
    said = Transcripts((Transcript(0, (4, 5, 6), (7, 8, 9, 4, 5, 6)), Transcript(1, (4, 5), (8, 9))))
    found = growth(model, said, k=2, draws=2, seed=1)
    assert found.by_block.shape == (2, 3, L, 2) and np.isfinite(found.by_block).all() and (found.gap < 0.01).all()
    assert np.isfinite(found.by_step).sum(1).tolist() == [6, 2]


def test_a_place_that_does_not_exist_is_refused():
    model = load(network("llama"))
    with pytest.raises(InputError, match="positions 0 to 3, and layers below the last are 0 to 2"):
        run_growth(model, torch.tensor([4, 5, 6, 7]), starts=(9,))
    with pytest.raises(InputError, match="no maps"):
        growth_by_map([], torch.zeros(2), torch.eye(2))
    with pytest.raises(InputError, match="dependent"):
        growth_by_map([lambda x: x], torch.zeros(2), torch.ones(2, 2))


def test_a_family_without_a_derivative_says_which_operation_lacks_it(monkeypatch):
    def refuse(*_):
        raise NotImplementedError("Trying to use forward AD with aten::some_product that does not support it")

    monkeypatch.setattr("phaselens.interventions.growth.growth_by_map", refuse)
    with pytest.raises(InputError, match="llama.*without a forward-mode derivative.*some_product"):
        run_growth(load(network("llama")), torch.tensor([4, 5, 6, 7]), starts=(1,))
