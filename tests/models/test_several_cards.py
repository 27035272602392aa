"""A model larger than one card: spread over those that a worker sees, it gives the states, lenses and proof of one."""

import sys
from dataclasses import replace

import accelerate
import numpy as np
import pytest
import torch
from tests.capture.zoo import SMALL_VOCABULARY, L, network
from tests.models.pretended import Cards, bring

from phaselens.capture import GREEDY, generate
from phaselens.errors import InputError, MissingExtra
from phaselens.models import devices, load, record, run
from phaselens.models.load import untrained_twin
from phaselens.observing.recording import observe

IDS = np.random.default_rng(3).integers(3, SMALL_VOCABULARY, size=(3, 9)).tolist()
CPU = torch.device("cpu")
loading = sys.modules["phaselens.models.load"]  # the name is that of the function


def size_of(net) -> int:
    return sum(t.numel() * t.element_size() for t in (*net.parameters(), *net.buffers()))


@pytest.fixture
def spread(monkeypatch):
    """Spreads a network over two cards of a share of its size each; what the map said."""
    real, maps = accelerate.dispatch_model, []

    def dispatch(net, split, **given):
        maps.append(split)
        out = real(net, split, **given)
        for name, device in split.items():
            bring(net.get_submodule(name), device)
        return out

    monkeypatch.setattr(accelerate, "dispatch_model", dispatch)

    def onto(net, share=1.1):
        room = [int(share * size_of(net))] * 2
        monkeypatch.setattr(devices, "cards", lambda place: room)
        return devices.onto(net, CPU), maps

    return onto


def columns(model, transcripts):
    trace = observe(model, transcripts)
    return {(t, c): x for t in ("steps", "layers") for c, x in trace.numpy(t).items()}


@pytest.mark.parametrize(("family", "dtype"), [("llama", "float32"), ("gpt2", "float32"), ("llama", "bfloat16")])
def test_two_cards_give_what_one_gives(spread, family, dtype):
    kind = getattr(torch, dtype)
    whole = load(network(family).to(kind))
    said = generate(whole, IDS, max_new_tokens=6, sampling=GREEDY)
    seen = columns(whole, said)
    with Cards() as pretended:
        net, maps = spread(network(family).to(kind))
        model = load(net)
        assert {p.device.index for p in net.parameters()} == {0, 1} and len(set(maps[0].values())) == 2
        assert model.fingerprint == whole.fingerprint and model.proof.passed
        names = [(row.name, row.passed) for row in model.proof.rows]
        assert names == [(row.name, row.passed) for row in whole.proof.rows]
        before = pretended.moved
        assert generate(model, IDS, max_new_tokens=6, sampling=GREEDY).runs == said.runs
        found = columns(model, said)
        assert pretended.moved > before  # states did cross
    assert found.keys() == seen.keys()
    for name, values in seen.items():
        np.testing.assert_array_equal(found[name], values, err_msg=str(name))


def test_states_of_all_blocks_come_to_one_place_and_blocks_stand_in_order(spread):
    with Cards():
        net, maps = spread(network("llama"))
        model = load(net, check=False)
        with record(model) as taps:
            run(model.network, torch.tensor(IDS, device=model.device))
        assert {state.device for state in taps.states.values()} == {model.device}
        blocks = [next(b.parameters()).device.index for b in model.blocks]
        assert blocks == sorted(blocks) and set(blocks) == {0, 1}
        assert taps.stacked().shape[0] == L + 1


def test_the_pretended_cards_tell_a_state_that_was_left_behind(spread):
    with Cards():
        near, far = torch.zeros(2, device="cpu:0"), torch.zeros(2, device="cpu:1")
        for mixed in (lambda: near + far, lambda: torch.stack([near, far]), lambda: near + torch.zeros(2)):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        assert (near + far.to(near.device)).device == torch.device("cpu", 0)
        with pytest.raises(TypeError, match="numpy"):
            near.numpy()
        net, _ = spread(network("llama"))
        model = load(net, check=False)
        with record(replace(model, device=None)) as taps:
            run(model.network, torch.tensor(IDS, device=model.device))
        with pytest.raises(RuntimeError, match="same device"):
            taps.stacked()


def test_an_untrained_twin_is_spread_too(spread, monkeypatch):
    with Cards():
        net, maps = spread(network("llama"))
        twin = untrained_twin(load(net, check=False), 5)
        assert len(maps) == 2 and twin.proof.passed
    monkeypatch.setattr(devices, "cards", lambda place: [])
    alone = untrained_twin(load(network("llama"), check=False), 5)
    assert twin.fingerprint == alone.fingerprint


def test_what_fits_stays_on_one_card_and_what_no_cards_hold_is_refused_with_sizes(spread, monkeypatch):
    net, maps = spread(network("llama"), share=2.0)
    assert maps == [] and not hasattr(net, "hf_device_map")
    with pytest.raises(InputError, match=r"the weights take 0.0 GB, more than the cards here hold \(0.0, 0.0 GB"):
        spread(network("llama"), share=0.2)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtra, match=r"larger than one card needs accelerate: pip install 'phaselens\[large\]'"):
        spread(network("llama"))


def test_cuda_without_a_number_is_all_cards_that_are_seen(tmp_path, monkeypatch):
    network("llama").save_pretrained(tmp_path)
    with monkeypatch.context() as two:
        two.setattr(torch.cuda, "device_count", lambda: 2)
        two.setattr(torch.cuda, "mem_get_info", lambda card: ((card + 1) * 10, 100))
        assert devices.cards(torch.device("cuda")) == [10, 20]
        assert devices.cards(torch.device("cuda:1")) == devices.cards(CPU) == []
    places = []
    monkeypatch.setattr(loading, "device_of", lambda name: torch.device("cuda", 0))  # what a tensor says where it is
    monkeypatch.setattr(loading, "onto", lambda net, place: places.append(place) or net)
    load(tmp_path, device="cuda", check=False)
    load(tmp_path, device="cuda:1", check=False)
    assert places == [torch.device("cuda"), torch.device("cuda:1")]
