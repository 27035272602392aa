"""Attention to position 0 masked: later logits forget the first token and nothing else, or the family is named."""

import numpy as np
import pytest
import torch
from tools.tiny import build_tiny

from phaselens.errors import InputError
from phaselens.measure.reducer import LensSpec
from phaselens.models import load, run
from phaselens.models.attention_sink import first_masked, why_not_masked
from phaselens.observing.recording import observe

PAIRS = [((1, 2, 3), (4, 5, 6, 7)), ((9, 2, 3), (4, 5, 6, 7))]


def logits(model, ids):
    return run(model.network, ids, mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
def test_later_logits_forget_the_first_token_and_the_hooks_are_gone(family):
    model = load(build_tiny(family, seed=0), check=False)
    ids = torch.tensor([[1, 2, 3, 4, 5, 6], [7, 2, 3, 4, 5, 6]])
    plain = logits(model, ids)
    assert why_not_masked(model) == ""
    with first_masked(model):
        masked = logits(model, ids)
    torch.testing.assert_close(masked[0, 1:], masked[1, 1:], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(plain[0, 1:], plain[1, 1:], atol=1e-3)
    torch.testing.assert_close(masked[:, 0], plain[:, 0], atol=1e-5, rtol=1e-4)
    assert torch.equal(logits(model, ids), plain)
    with first_masked(model, form=None, closed=False):
        torch.testing.assert_close(logits(model, ids), plain, atol=1e-5, rtol=1e-4)


def test_a_family_without_attention_says_why_not():
    model = load(build_tiny("mamba", seed=0), check=False)
    assert "mask" in why_not_masked(model)
    with pytest.raises(InputError, match="cannot be masked"), first_masked(model):
        pass


def test_observed_values_are_those_of_a_whole_masked_pass_in_pieces_too():
    model = load(build_tiny("llama", seed=0))
    lens = (LensSpec(), LensSpec(mask_first=True, label="nofirst"))
    whole = observe(model, PAIRS, lens=lens, observables=["top1", "step_length"])
    pieces = observe(model, PAIRS, lens=lens, observables=["top1", "step_length"], chunk=2)
    rows, other = whole.numpy("layers"), pieces.numpy("layers")
    np.testing.assert_allclose(rows["top1__nofirst"], other["top1__nofirst"], atol=1e-5, rtol=1e-4)
    last = rows["layer"] == model.n_layers
    # Both runs differ in their first token alone.
    first, second = (rows["top1__nofirst"][last & (rows["run"] == r)] for r in (0, 1))
    np.testing.assert_allclose(first, second, atol=1e-5, rtol=1e-4)
    assert abs(rows["top1"] - rows["top1__nofirst"]).max() > 1e-4
    assert "step_length__nofirst" not in rows
    with pytest.raises(InputError, match="never alone"):
        observe(model, PAIRS, lens=lens[1:])
