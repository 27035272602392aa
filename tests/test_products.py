"""Products by oneDNN: the numbers of Torch's own, and nothing taken that is not theirs to take."""

import pytest
import torch
from torch.nn.functional import linear

from phaselens import products
from phaselens.observables.growth import pushed
from phaselens.products import ByOneDNN, product


def draw(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("onednn", [True, False])
def test_it_is_the_product_in_float32(monkeypatch, dtype, onednn):
    if not onednn:
        monkeypatch.setattr(products, "_has_onednn", lambda: False)
    states, weight, bias = draw(3, 70, 48), draw(97, 48, dtype=dtype), draw(97)
    wanted = states.double() @ weight.double().T + bias.double()
    found = product(states, weight, bias)
    assert found.dtype == torch.float32 and (found.double() - wanted).abs().max() < 1e-4
    # A view of padded rows, as heads are.
    assert torch.allclose(product(states, weight[:90], None), found[..., :90] - bias[:90], atol=1e-5)


def test_only_wide_float32_layers_without_a_gradient_are_taken(monkeypatch):
    taken = []
    monkeypatch.setattr(products, "product", lambda *args: taken.append(args) or linear(*args))
    layer = torch.nn.Linear(8, 5)
    wide, few = draw(80, 8), draw(4, 8)
    with ByOneDNN():
        layer(wide)  # its weight asks for a gradient
        assert not taken
        with torch.no_grad():
            layer(few)
            torch.nn.Linear(8, 5, dtype=torch.bfloat16)(wide.bfloat16())
            assert not taken
            layer(wide)
            assert len(taken) == 1
    with torch.no_grad():
        layer(wide)
    assert len(taken) == 1


def test_a_network_says_the_same_under_it():
    block = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 32, bias=False))
    states = draw(2, 50, 32)
    with torch.no_grad(), ByOneDNN():
        found = block(states)
    assert torch.allclose(found, block(states), atol=1e-6)


def test_a_tangent_is_left_to_the_product_that_can_carry_it():
    g = torch.Generator().manual_seed(5)
    weight, states, tangents = (torch.randn(n, 32, generator=g) for n in (48, 100, 100))
    with ByOneDNN(), torch.no_grad():
        out, moved = pushed(lambda x: linear(x, weight), states, tangents)
    assert torch.allclose(moved, tangents @ weight.T, atol=1e-5) and torch.allclose(out, states @ weight.T, atol=1e-5)
