"""Variants of the lens: temperatures by layer, caps imposed and taken away, massive dimensions masked, translators."""

import math
from dataclasses import replace

import pytest
import torch

from phaselens.errors import InputError
from phaselens.measure.lenses import LensSpec, read_by
from phaselens.observables import lens_statistics
from phaselens.observables.trajectory import massive
from phaselens.observables.translators import identity_translators
from phaselens.types import Readout

WIDTH, VOCAB, ROWS, LAYERS = 16, 50, 20, (0, 1, 2)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def readout(**facts) -> Readout:
    return Readout(
        draw(VOCAB, WIDTH, seed=1), draw(VOCAB, seed=2), lambda h: h / h.square().mean(-1, True).sqrt(), **facts
    )


STATES, EMITTED = draw(ROWS, len(LAYERS), WIDTH, seed=3), torch.arange(ROWS)


def measured(how: Readout, temperature=1.0, states=STATES) -> dict[str, torch.Tensor]:
    return lens_statistics(states, how, EMITTED, temperature=temperature)


def same(a: dict, b: dict, names=None, tol: float = 1e-4) -> None:
    for name in names or a:
        torch.testing.assert_close(a[name], b[name], atol=tol, rtol=tol, equal_nan=True)


@pytest.mark.parametrize("cap", [None, 3.0])
def test_temperatures_by_layer_are_single_temperatures_layer_by_layer(cap):
    how, heat = readout(cap=cap, scale=0.7), (0.5, 1.0, 4.0)
    many = measured(how, torch.tensor(heat))
    for layer, t in enumerate(heat):
        one = measured(how, t)
        same(
            {k: v[:, layer] for k, v in many.items() if k not in ("js_next", "kl_from_final")},
            {k: v[:, layer] for k, v in one.items()},
            [k for k in many if k not in ("js_next", "kl_from_final")],
        )


def test_a_temperature_divides_the_spread_and_leaves_order_alone():
    how = readout()
    plain, warm = measured(how), measured(how, torch.tensor([2.0, 0.5, 3.0]))
    torch.testing.assert_close(
        warm["logit_spread"] * torch.tensor([2.0, 0.5, 3.0]), plain["logit_spread"], rtol=1e-4, atol=1e-5
    )
    same(plain, warm, ["emitted_rank", "emitted_is_top", "agrees_with_final"])
    assert not torch.allclose(plain["entropy_nats"], warm["entropy_nats"])


def test_a_layer_without_a_temperature_is_nan_and_the_others_are_not():
    found = measured(readout(), torch.tensor([math.nan, 1.0, 1.0]))["entropy_nats"]
    assert found[:, 0].isnan().all()
    assert found[:, 1:].isfinite().all()
    with pytest.raises(InputError, match="temperature"):
        measured(readout(), torch.tensor([1.0, -1.0, 1.0]))


def test_a_huge_cap_is_no_cap_and_a_small_one_is_not():
    plain = measured(readout())
    same(plain, measured(read_by(readout(), LensSpec(cap=1e6), LAYERS)), tol=1e-3)
    small = measured(read_by(readout(), LensSpec(cap=1.0), LAYERS))
    assert (small["entropy_nats"] > plain["entropy_nats"]).all()


def test_an_infinite_cap_takes_the_models_own_away():
    same(measured(readout()), measured(read_by(readout(cap=2.0), LensSpec(cap=math.inf), LAYERS)))
    assert not torch.allclose(measured(readout(cap=2.0))["entropy_nats"], measured(readout())["entropy_nats"])


def test_an_imposed_cap_does_not_depend_on_a_shift_of_all_logits_as_a_models_own_would():
    shifted = replace(readout(), bias=readout().bias + 40.0)
    imposed = LensSpec(cap=2.0)
    same(measured(read_by(readout(), imposed, LAYERS)), measured(read_by(shifted, imposed, LAYERS)), tol=1e-3)
    own = measured(replace(shifted, cap=2.0))["entropy_nats"]
    assert not torch.allclose(own, measured(readout(cap=2.0))["entropy_nats"], atol=0.1)
    how = read_by(readout(), imposed, LAYERS)
    torch.testing.assert_close(
        how.logits(STATES).softmax(-1).amax(-1), measured(how)["top_log_probs"][..., 0].exp(), rtol=1e-4, atol=1e-5
    )


def test_masking_massive_dimensions_zeroes_them_and_only_them():
    planted = STATES.clone()
    planted[:, 1, 5] = 5_000.0
    planted[:, 2, 5] = 90.0  # large, and not massive
    assert massive(planted).nonzero()[:, 1:].unique(dim=0).tolist() == [[1, 5]]
    zeroed = planted.masked_fill(massive(planted), 0.0)
    how = read_by(readout(), LensSpec(mask_massive=True), LAYERS)
    same(measured(how, states=planted), measured(readout(), states=zeroed))
    assert not torch.allclose(
        measured(how, states=planted)["entropy_nats"][:, 1], measured(readout(), states=planted)["entropy_nats"][:, 1]
    )
    same(measured(how), measured(readout()))


def test_the_identity_translators_are_the_final_norm_lens():
    lens = LensSpec("tuned", label="tuned", translators=identity_translators(2, WIDTH))
    same(measured(read_by(readout(), lens, LAYERS)), measured(readout()))
    with pytest.raises(InputError, match="needs translators"):
        read_by(readout(), LensSpec("tuned"), LAYERS)


def test_only_the_plain_lens_is_the_output_and_every_variant_has_a_name_of_its_own():
    variants = [
        LensSpec(temperatures=(1.0, 2.0)),
        LensSpec(cap=2.0),
        LensSpec(cap=math.inf),
        LensSpec(mask_massive=True),
        LensSpec(mask_first=True),
        LensSpec("tuned", translators=identity_translators(2, WIDTH)),
    ]
    assert LensSpec(label="x").is_output
    assert not any(v.is_output for v in variants)
    forms = [str(v.canonical()) for v in (LensSpec(), *variants)]
    assert len(set(forms)) == len(forms)
    assert LensSpec().canonical() == {"kind": "final_norm", "temperature": 1.0, "tokens": None, "label": ""}
