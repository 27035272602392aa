"""Interventions: an exact nothing at strength 0, the same in replay and live, gone afterwards; errors list what is."""

from dataclasses import replace

import accelerate
import numpy as np
import pytest
import torch
from tests.capture.stand_ins import Keep
from tests.capture.zoo import FAMILIES, SMALL_VOCABULARY, D, L, network

from phaselens.capture import GREEDY, generate, live, replay
from phaselens.capture.intervene import (
    AddNoise,
    At,
    Patch,
    ProjectOut,
    Replace,
    Rotate,
    Steer,
    Tap,
    Through,
    intervening,
    spread,
)
from phaselens.errors import InputError, UnknownNameError
from phaselens.models import load, record, run
from phaselens.models.sites import SITES, find_sites, site_layers
from phaselens.observing.recording import observe

IDS = torch.tensor(np.random.default_rng(3).integers(3, SMALL_VOCABULARY, size=(3, 9)))
PROMPTS = [row[:n].tolist() for row, n in zip(IDS, (9, 4, 6), strict=True)]
BASIS = torch.linalg.qr(torch.randn(D, 2, generator=torch.Generator().manual_seed(0)))[0].T.contiguous()


@pytest.fixture(scope="module")
def models():
    made = {}

    def get(family):
        if family not in made:
            made[family] = load(network(family))
        return made[family]

    return get


def logits(model):
    return run(model.network, IDS, mask=torch.ones_like(IDS)).logits


def nothing():
    """Every perturbation in the form in which it does nothing, all of their arithmetic included."""
    zero = {"strength": 0.0}
    return (
        AddNoise(0.0, rms=1.7),
        Steer(torch.ones(D), **zero),
        Replace(torch.ones(D), **zero),
        ProjectOut(BASIS, **zero),
        ProjectOut(torch.empty(0, D)),
        Rotate(BASIS, torch.eye(2)),
        Through(lambda states: 2 * states, **zero),
        Tap(),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_nothing_bit_by_bit_and_noise_is_not_at_every_site(models, family):
    m = models(family)
    plain = logits(m)
    for site in SITES:
        if not site_layers(m, site):
            continue
        with intervening(m, [At(site, None, "all", one) for one in nothing()]):
            assert torch.equal(logits(m), plain), site
        with intervening(m, [At(site, None, "all", AddNoise(0.5, rms=1.0))]):
            assert not torch.equal(logits(m), plain), site
        assert torch.equal(logits(m), plain)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_added_is_what_the_next_layer_sees(models, family):
    m = models(family)
    direction = torch.linspace(-1, 1, D)
    with record(m, clone=True) as taps:
        logits(m)
        plain = dict(taps.states)
    for site, layer in (("embedding", 0), ("resid_post", 2), ("attn_out", 3), ("mlp_out", 3)):
        if layer not in site_layers(m, site):
            continue
        with record(m, clone=True) as taps, intervening(m, [At(site, (layer,), (5,), Steer(direction, 2.0))]):
            logits(m)
        moved = (taps.states[layer] - plain[layer]).abs().amax(dim=-1)
        assert float(moved[:, :5].max()) == 0 and float(moved[:, 5].min()) > 0
        if not (site == "attn_out" and len(find_sites(m).mlp_out) and family in ("gpt2", "llama")):
            continue
        # attention's part goes through the MLP of the same block too: it moves more than the step alone
        assert not torch.allclose(taps.states[layer][:, 5] - plain[layer][:, 5], 2 * direction.expand(3, -1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("site", ["embedding", "resid_post", "mlp_out"])
def test_live_equals_replay_of_what_was_said(models, family, site):
    m = models(family)
    site = site if site_layers(m, site) else "attn_out"
    layers = site_layers(m, site)[-2:]
    noise, step = AddNoise(0.3, rms=1.0, seed=4), Steer(torch.ones(D))
    what = [At(site, layers, None, noise), At(site, layers[-1:], range(2, 4), step)]
    lived, replayed, cut, plain = Keep(), Keep(), Keep(), Keep()
    said = live(m, PROMPTS, lived, max_new_tokens=6, sampling=GREEDY, interventions=what)
    replay(m, said, replayed, interventions=what)
    replay(m, said, cut, chunk=4, batch_size=1, interventions=what)
    replay(m, said, plain)
    assert replayed.furthest(lived) < 1e-4 and replayed.furthest(cut) < 1e-4
    assert replayed.furthest(plain) > 1e-2
    assert [t.completion_ids for t in said] == [
        t.completion_ids for t in generate(m, PROMPTS, max_new_tokens=6, sampling=GREEDY, interventions=what)
    ]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom"])
def test_with_and_without_cache_are_the_same(models, family):
    m = models(family)
    bare = replace(m, facts=replace(m.facts, decodes=False))
    what = [At("resid_post", (2,), None, AddNoise(0.4, rms=1.0)), At("embedding", None, (-1, 0), Steer(torch.ones(D)))]
    with_cache, without = (
        generate(x, PROMPTS, max_new_tokens=8, sampling=GREEDY, interventions=what) for x in (m, bare)
    )
    assert [t.completion_ids for t in with_cache] == [t.completion_ids for t in without]


def test_hooks_are_gone_after_an_exception(models):
    m = models("llama")
    plain = logits(m)

    def broken(states, where):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), intervening(m, [At("mlp_out", None, "all", broken)]):
        logits(m)
    assert torch.equal(logits(m), plain)


def test_strengths_and_draws_in_one_batch_equal_one_by_one(models):
    m = models("gpt2")
    prompts, eps, draw = spread(PROMPTS[:2], (0.0, 0.5), 2)
    assert len(prompts) == 8 and eps.tolist()[:4] == [0.0, 0.0, 0.5, 0.5] and draw.tolist()[:4] == [0, 1, 0, 1]
    together, plain = Keep(), Keep()
    live(
        m,
        prompts,
        together,
        max_new_tokens=4,
        sampling=GREEDY,
        interventions=[At("resid_post", (1,), None, AddNoise(eps, rms=1.0, draw=draw))],
    )
    live(m, prompts, plain, max_new_tokens=4, sampling=GREEDY)
    for run_number in range(8):
        same = np.allclose(together.state(run_number, 0), plain.state(run_number, 0), atol=1e-6)
        assert same == (eps[run_number] == 0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_network_split_over_devices_by_accelerate_gives_the_same(models, family):
    whole = models(family)
    net = network(family)
    path = whole.block_path
    parts = {name: "cpu" for name, _ in net.named_children()}
    inner = path.partition(".")[0]
    del parts[inner]
    parts |= {f"{inner}.{name}": "cpu" for name, _ in net.get_submodule(inner).named_children()}
    del parts[path]
    parts |= {f"{path}.{i}": "cpu" for i in range(L)}
    split = load(accelerate.dispatch_model(net, parts, force_hooks=True), check=False)
    plain, noise = logits(split), AddNoise(0.4, rms=1.0)
    assert torch.equal(plain, logits(whole)) and hasattr(net.get_submodule(f"{path}.1"), "_hf_hook")
    for site in SITES:
        with intervening(split, [At(site, None, "all", one) for one in nothing()]):
            assert torch.equal(logits(split), plain)
        with intervening(split, [At(site, None, "all", noise)]):
            moved = logits(split)
        with intervening(whole, [At(site, None, "all", noise)]):
            assert torch.equal(logits(whole), moved) and not torch.equal(moved, plain)


def test_a_patch_of_the_own_run_is_nothing_and_of_another_is_that_run(models):
    m = models("llama")
    tap = Tap()
    with intervening(m, [At("resid_post", (3,), "all", tap)]):
        plain = logits(m)
    own = tap.source(3)
    assert own.shape == (3, 9, D)
    with intervening(m, [At("resid_post", (3,), "all", Patch({3: own}))]):
        assert torch.equal(logits(m), plain)
    with intervening(m, [At("resid_post", (3,), "all", Patch({3: own[:1]}))]):
        assert torch.allclose(logits(m), plain[:1].expand(3, -1, -1), atol=1e-5)


def test_projection_removes_and_rotation_keeps_length(models):
    m = models("llama")
    with record(m, (2,), clone=True) as taps, intervening(m, [At("resid_post", (2,), "all", ProjectOut(BASIS))]):
        logits(m)
    assert float((taps.states[2] @ BASIS.T).abs().max()) < 1e-5
    turn = torch.tensor([[0.0, -1.0], [1.0, 0.0]])
    with record(m, (2,), clone=True) as taps:
        logits(m)
        plain = taps.states[2]
    with record(m, (2,), clone=True) as taps, intervening(m, [At("resid_post", (2,), "all", Rotate(BASIS, turn))]):
        logits(m)
    assert torch.allclose(taps.states[2].norm(dim=-1), plain.norm(dim=-1), rtol=1e-5)
    assert torch.allclose(taps.states[2] @ BASIS.T, plain @ BASIS.T @ turn.T, atol=1e-5)


def test_errors_say_what_exists(models):
    m, without = models("llama"), models("mamba")
    with pytest.raises(UnknownNameError, match="mlp_out"):
        At("mlp_outt", None, None, Tap())
    with (
        pytest.raises(InputError, match=f"1 to {L}.*Layer 0 is the site 'embedding'"),
        intervening(m, [At("resid_post", (0, 9), None, Tap())]),
    ):
        pass
    with (
        pytest.raises(InputError, match="mamba has no site 'mlp_out'.*It has embedding, resid_post"),
        intervening(without, [At("mlp_out", None, None, Tap())]),
    ):
        pass
    for wrong in (torch.zeros(1, 9, D + 1), torch.zeros(9, D), torch.zeros(2, 9, D)):
        with (
            pytest.raises(InputError, match="a patch at layer 2"),
            intervening(m, [At("resid_post", (2,), "all", Patch({2: wrong}))]),
        ):
            logits(m)
    with (
        pytest.raises(InputError, match="orthonormal"),
        intervening(m, [At("resid_post", (2,), "all", ProjectOut(2 * BASIS))]),
    ):
        logits(m)
    with (
        pytest.raises(InputError, match="one number"),
        intervening(m, [At("resid_post", (2,), "all", Steer(torch.ones(D), [1.0, 2.0]))]),
    ):
        logits(m)
    with (
        pytest.raises(InputError, match=r"\[17\]; these states are 32 wide"),
        intervening(m, [At("resid_post", (2,), "all", Steer(torch.ones(17)))]),
    ):
        logits(m)


def test_a_trace_says_what_was_done_to_the_model(models):
    m = models("llama")
    said = generate(m, PROMPTS, max_new_tokens=4, sampling=GREEDY)
    what = [At("resid_post", (1,), range(0, 2), AddNoise(0.3, rms=1.0))]
    settings = {"lens": None, "observables": ["log_rms"]}
    changed, plain = observe(m, said, interventions=what, **settings), observe(m, said, **settings)
    assert "AddNoise at resid_post, layers 1, steps range(0, 2)" in str(changed.meta["capture"])
    assert "interventions" not in plain.meta["capture"]
