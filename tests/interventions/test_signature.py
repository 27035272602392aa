"""A signature from shared prefixes is that of whole passes; strength 0 is an exact nothing or the study stops."""

import numpy as np
import pytest
import torch
from tests.capture.zoo import SMALL_VOCABULARY, D, L, network

from phaselens.capture import generate
from phaselens.capture.intervene import At, intervening
from phaselens.errors import InputError, ModelRefused
from phaselens.interventions import signature as module
from phaselens.interventions.signature import SignaturePlan, forward, identity_gap, signature
from phaselens.models import load, record
from phaselens.models.hooks import begun_at, forms_of
from phaselens.perturbations import inside

PLAN = SignaturePlan(strengths=(0.0, 0.1, 1.0), draws=4)


@pytest.fixture(scope="module")
def model():
    return load(network("llama"))


@pytest.fixture(scope="module")
def said(model):
    draw = np.random.default_rng(3)
    return generate(model, [draw.integers(3, SMALL_VOCABULARY, size=n).tolist() for n in (5, 8)], max_new_tokens=6)


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "falcon", "gemma2", "mixtral", "mamba"])
def test_a_pass_begun_at_a_layer_is_the_whole_pass_bit_by_bit(family):
    assert identity_gap(load(network(family))) == 0.0


def test_gain_and_divergence_are_those_of_whole_passes(model, said):
    made = signature(model, said, PLAN)
    assert made.log_gain.shape == (2, L, 2, 2) and np.isfinite(made.log_gain).all() and (made.kl >= 0).all()
    assert made.identity == 0 and made.counts.saved > 0.2
    t, layer = said[0], 2
    draw = torch.Generator().manual_seed(1)
    for _ in range(layer):
        torch.randn(4, 6, D, generator=draw)
        if "difference" in made.beside:
            for _ in range(4):
                torch.randint(2, (1,), generator=draw), torch.randint(9, (6,), generator=draw)
    z = torch.randn(4, 6, D, generator=draw)
    ids = torch.tensor([t.fed])
    with torch.no_grad(), record(model, clone=True) as taps:
        plain = forward(model, ids, 6).log_softmax(-1)
    last = taps.states[L][:, -6:].clone()
    logs, kl = [], []
    for one in z:
        whole = torch.zeros(1, ids.shape[1], D)
        whole[:, -6:] = one

        def change(states, where, whole=whole):
            return inside.add(states, whole, 0.1 * made.rms[layer])

        with (
            torch.no_grad(),
            record(model, clone=True) as taps,
            intervening(model, [At("resid_post", (layer,), "all", change)]),
        ):
            moved = forward(model, ids, 6).log_softmax(-1)
        out = (taps.states[L][:, -6:] - last).square().mean().sqrt() / made.rms[L]
        logs.append(float(torch.log(out / (0.1 * one.square().mean().sqrt()))))
        kl.append(float((plain.exp() * (plain - moved)).sum(-1).mean()))
    assert np.mean(logs) == pytest.approx(made.log_gain[0, layer, 0].mean(), abs=2e-4)
    assert np.mean(kl) == pytest.approx(made.kl[0, layer, 0].mean(), rel=2e-2)


def test_more_noise_is_more_divergence_and_the_same_seed_the_same_numbers(model, said):
    one, two = signature(model, said, PLAN), signature(model, said, PLAN)
    assert (one.kl[:, :, 1] > one.kl[:, :, 0]).all() and np.array_equal(one.kl, two.kl)
    assert set(one.beside) == {"unmatched", "difference"} and "no state has a massive dimension" in one.notes
    assert all(np.isfinite(values).all() for pair in one.beside.values() for values in pair)
    assert np.isfinite(one.substitution[0]).all() and (one.substitution[1] > 0).all()


def test_divergence_is_that_of_the_two_distributions_also_of_far_ones():
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 5, 40, generator=g) * 3
    logits[3] *= 200
    logs = logits.double().log_softmax(-1)
    wanted = (logs[0].exp() * (logs[0] - logs[1:])).sum(-1).mean(-1)
    assert np.allclose(module._divergence(logits), wanted, rtol=1e-4)
    near = torch.cat([logits[:1], logits[:1] + 1e-3 * torch.randn(2, 5, 40, generator=g)])
    logs = near.double().log_softmax(-1)
    assert np.allclose(module._divergence(near), (logs[0].exp() * (logs[0] - logs[1:])).sum(-1).mean(-1), atol=2e-7)


@pytest.mark.parametrize("site", ["attn_out", "mlp_out", "embedding"])
def test_a_site_of_its_own_is_measured_against_itself(model, said, site):
    made = signature(model, said, SignaturePlan(strengths=(0.0, 0.1), draws=2, site=site))
    assert made.site == site and made.layers == ((0,) if site == "embedding" else (1, 2, 3))
    assert np.isfinite(made.log_gain).all() and (made.kl > 0).all() and made.identity == 0
    assert np.isfinite(made.into_rms[list(made.layers)]).all()
    if site == "embedding":
        plain = signature(model, said, SignaturePlan(strengths=(0.0, 0.1), draws=2, layers=(0,)))
        assert np.array_equal(made.kl, plain.kl) and np.array_equal(made.log_gain, plain.log_gain)


def test_passes_cut_into_pieces_give_the_same(model, said, monkeypatch):
    whole = signature(model, said, PLAN)
    monkeypatch.setattr(module, "CELLS", 6 * SMALL_VOCABULARY * 5)
    cut = signature(model, said, PLAN)
    assert cut.counts.run > whole.counts.run
    assert np.allclose(cut.log_gain, whole.log_gain, atol=1e-3) and np.allclose(
        cut.through, whole.through, atol=1e-3, equal_nan=True
    )


def test_a_model_whose_nothing_is_something_is_refused(model, said, monkeypatch):
    monkeypatch.setattr(inside, "add", lambda states, v, s: states + 1e-6 * states.abs().mean())
    with pytest.raises(ModelRefused, match="strength 0 moves its logits"):
        signature(model, said, PLAN)


def test_forward_is_back_after_an_exception(model):
    ids = torch.ones(1, 4, dtype=torch.long)
    with torch.no_grad(), forms_of(model.blocks) as forms:
        plain = forward(model, ids, 4)
    with pytest.raises(ZeroDivisionError), begun_at(model, 2, torch.zeros(1, 4, D), forms):
        raise ZeroDivisionError
    with torch.no_grad():
        assert torch.equal(forward(model, ids, 4), plain)


@pytest.mark.parametrize(
    ("given", "match"),
    [({"draws": 3}, "even number"), ({"strengths": (0.0,)}, "above 0"), ({"beside": ("loud",)}, "known beside")],
)
def test_a_plan_that_cannot_be_is_refused(given, match):
    with pytest.raises(InputError, match=match):
        SignaturePlan(**given)
