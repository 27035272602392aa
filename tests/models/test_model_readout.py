import pytest
import torch

from phaselens.types import Readout


def readout(**changes):
    draw = torch.Generator().manual_seed(0)
    given = {"weight": torch.randn(11, 6, generator=draw), "bias": torch.randn(11, generator=draw), "norm": torch.tanh}
    return Readout(**{**given, **changes})


def states():
    return 3.0 * torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(1))


def test_formula():
    r, h = readout(scale=0.5, cap=2.0), states()
    expected = 2.0 * torch.tanh(0.5 * (torch.tanh(h) @ r.weight.T + r.bias) / 2.0)
    torch.testing.assert_close(r.logits(h), expected)
    torch.testing.assert_close(readout(bias=None).logits(h), torch.tanh(h) @ r.weight.T)


def test_raw_lens_leaves_the_norm_out():
    r, h = readout(), states()
    torch.testing.assert_close(r.logits(h, norm=False), h @ r.weight.T + r.bias)


def test_restrict_keeps_rows_in_order():
    r, h, rows = readout(cap=3.0), states(), torch.tensor([7, 0, 3])
    torch.testing.assert_close(r.restrict(rows).logits(h), r.logits(h)[..., rows])


def test_half_weights_give_float32_logits():
    r = readout()
    half = readout(weight=r.weight.half(), bias=r.bias.half())
    assert half.logits(states()).dtype == torch.float32


def test_raw_lens_where_the_shapes_do_not_fit():
    r = readout(norm=lambda h: h[..., :6])
    wide = torch.zeros(3, 12)
    assert r.logits(wide).shape == (3, 11)
    with pytest.raises(ValueError, match="raw lens is undefined"):
        r.logits(wide, norm=False)
    assert readout(bare=lambda h: h[..., :6]).logits(wide, norm=False).shape == (3, 11)
