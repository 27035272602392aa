"""The packed head gives the product, follows changes of the weight, and is refused where it does not fit."""

import gc
import weakref

import torch

from phaselens.observables import packed
from phaselens.observables.packed import packed_head, packed_product


def test_the_product_is_that_of_the_weight_and_one_copy_serves_all():
    weight, states = torch.randn(300, 48), torch.randn(4, 48)
    head = packed_head(weight)
    assert head is not None and packed_head(weight) is head
    assert torch.allclose(packed_product(states, head), states @ weight.T, atol=1e-4)
    assert torch.allclose(packed_product(states[:1], head), states[:1] @ weight.T, atol=1e-4)


def test_a_changed_weight_is_packed_anew_and_a_view_counts_as_changed():
    whole = torch.randn(300, 48)
    weight, states = whole.detach()[:200], torch.randn(2, 48)
    before = packed_head(weight)
    whole.mul_(2)
    after = packed_head(weight)
    assert after is not before and torch.allclose(packed_product(states, after), states @ weight.T, atol=1e-4)


def test_what_does_not_fit_is_not_packed(monkeypatch):
    assert packed_head(torch.randn(30, 8).half()) is None
    with torch.inference_mode():
        assert packed_head(torch.randn(30, 8)) is None
    monkeypatch.setattr(packed, "PACK_BYTES", 100)
    assert packed_head(torch.randn(30, 8)) is None


def test_a_build_that_cannot_pack_or_packs_wrongly_is_passed_over(monkeypatch):
    monkeypatch.setattr(packed, "packed_product", lambda states, head: states @ states.T + 1)
    assert packed_head(torch.randn(4, 8)) is None

    def fails(states, head):
        raise RuntimeError("not built in")

    monkeypatch.setattr(packed, "packed_product", fails)
    assert packed_head(torch.randn(30, 8)) is None


def test_the_copy_goes_with_the_weight():
    weight = torch.randn(30, 8)
    packed_head(weight)
    head = weakref.ref(packed_head(weight))
    assert head() is not None
    del weight
    gc.collect()
    assert head() is None
