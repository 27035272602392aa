import pytest
import torch
from tools.tiny import VOCAB, build_tiny
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from phaselens.errors import InputError
from phaselens.models import edit, load, record, run
from phaselens.models.hooks import LAYOUTS, canonical, native, output_state, watch, with_state


@pytest.fixture(scope="module")
def gpt2():
    return load(build_tiny("gpt2", 0))


@pytest.fixture
def ids():
    return torch.randint(3, VOCAB, (3, 9), generator=torch.Generator().manual_seed(4))


def hook_count(network):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules())


@pytest.mark.parametrize("family", ["gpt2", "llama", "opt"])
def test_states_are_the_librarys_own_up_to_the_final_norm(family, ids):
    network = build_tiny(family, 1)
    model = load(network)
    with torch.no_grad(), record(model) as taps:
        out = network(ids, output_hidden_states=True)
    assert taps.calls == 1 and taps.stacked().shape == (model.n_layers + 1, 3, 9, model.d_model)
    for layer in range(model.n_layers):
        assert torch.equal(taps.states[layer], out.hidden_states[layer])
    last = taps.states[model.n_layers]
    assert not torch.allclose(last, out.hidden_states[-1])
    assert torch.equal(model.readout.norm(last), out.hidden_states[-1])


def test_hooks_change_nothing_and_go_away(gpt2, ids):
    before, plain = hook_count(gpt2.network), run(gpt2.network, ids).logits
    with record(gpt2):
        assert torch.equal(run(gpt2.network, ids).logits, plain)
    with pytest.raises(ZeroDivisionError), record(gpt2), edit(gpt2, {2: lambda h: h * 2}):
        assert hook_count(gpt2.network) > before
        raise ZeroDivisionError
    assert hook_count(gpt2.network) == before
    assert torch.equal(run(gpt2.network, ids).logits, plain)


def test_chosen_layers_and_last_position(gpt2, ids):
    with record(gpt2) as whole:
        run(gpt2.network, ids)
    with record(gpt2, (4, 0, 2), last_only=True) as taps:
        run(gpt2.network, ids)
        run(gpt2.network, ids)
    assert taps.calls == 2 and list(taps.states) == [0, 2, 4]
    assert torch.equal(taps.stacked(), torch.stack([whole.states[layer][:, -1:] for layer in (4, 0, 2)]))


def test_identity_edit_is_bit_identical_and_a_real_one_is_not(gpt2, ids):
    plain = run(gpt2.network, ids).logits
    with edit(gpt2, dict.fromkeys(range(5), lambda h: h)):
        assert torch.equal(run(gpt2.network, ids).logits, plain)
    with edit(gpt2, dict.fromkeys(range(5), lambda h: h + 0.0)):
        assert torch.equal(run(gpt2.network, ids).logits, plain)
    for layer in range(5):
        with edit(gpt2, {layer: lambda h: -h}):
            assert not torch.equal(run(gpt2.network, ids).logits, plain)


@pytest.mark.parametrize("record_first", [True, False])
def test_taps_see_the_edited_state_whichever_opens_first(gpt2, ids, record_first):
    target = torch.zeros(3, 9, gpt2.d_model)
    with record(gpt2) as plain:
        run(gpt2.network, ids)
    for layer in range(5):
        tap, change = record(gpt2), edit(gpt2, {layer: lambda h: target})
        with tap if record_first else change as one, change if record_first else tap as two:
            run(gpt2.network, ids)
        states = (one if record_first else two).states
        assert torch.equal(states[layer], target)
        assert all(torch.equal(states[i], plain.states[i]) for i in range(layer))


def test_an_edit_at_one_position_reaches_only_later_ones(gpt2, ids):
    def change(h):
        h = h.clone()
        h[:, 5] += 1.0
        return h

    plain = run(gpt2.network, ids).logits
    with edit(gpt2, {1: change}):
        moved = (run(gpt2.network, ids).logits - plain).abs().amax(dim=(0, 2))
    assert (moved[:5] == 0).all() and (moved[5:] > 0).all()


def test_wrong_layers_and_shapes_are_refused(gpt2, ids):
    with pytest.raises(InputError, match=r"layers \[5\] do not exist.*0 \(embedding\) to 4"), record(gpt2, [5]):
        pass
    with pytest.raises(InputError, match="layers"), edit(gpt2, {-1: lambda h: h}):
        pass
    with pytest.raises(InputError, match="edit of layer 2 returned shape"), edit(gpt2, {2: lambda h: h[:, -1:]}):
        run(gpt2.network, ids)
    assert hook_count(gpt2.network) == 0


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_layouts_turn_back(layout):
    draw = torch.Generator().manual_seed(0)
    shape = {"btd": (2, 5, 8), "tbd": (5, 2, 8), "btsd": (2, 5, 3, 4), "sbtd": (3, 2, 5, 4)}[layout]
    state = torch.randn(shape, generator=draw)
    plain = canonical(state, layout)
    assert plain.shape == (2, 5, 8 if len(shape) == 3 else 12)
    assert torch.equal(native(plain, layout, state), state)
    first = state[{"btd": (1, 3), "tbd": (3, 1), "btsd": (1, 3, 0), "sbtd": (0, 1, 3)}[layout]]
    assert torch.equal(plain[1, 3, : len(first)], first)


def test_output_forms_are_kept():
    old, new, more = torch.zeros(2), torch.ones(2), torch.full((1,), 7.0)
    for output in (old, (old, more), [old, more], BaseModelOutput(last_hidden_state=old, hidden_states=(more,))):
        changed = with_state(output, new)
        assert type(changed) is type(output)
        assert torch.equal(output_state(changed), new) and torch.equal(output_state(output), old)
    assert output_state((None, old)) is None


def test_a_network_that_writes_in_place_is_noticed():
    class Rude(nn.Module):
        def __init__(self, block):
            super().__init__()
            self.block = block

        def forward(self, hidden_states, *args, **kwargs):
            out = self.block(hidden_states, *args, **kwargs)
            hidden_states += 1.0
            return out

    network = build_tiny("gpt2", 2)
    network.transformer.h[2] = Rude(network.transformer.h[2])
    model = load(network)
    assert model.facts.in_place
    ids = torch.arange(3, 9)[None]
    with watch({"2": model.blocks[2]}) as calls, record(model) as taps:
        run(network, ids)
    assert torch.equal(taps.states[2], calls[0].into)


@pytest.mark.parametrize("family", ["deepseek_v4", "gemma3n_text"])
def test_several_streams_are_one_wide_state(family, ids):
    model = load(build_tiny(family, 0))
    assert model.facts.streams == 4 and model.d_model == 4 * 64
    with record(model) as taps:
        logits = run(model.network, ids).logits
    torch.testing.assert_close(model.readout.logits(taps.states[model.n_layers]), logits, atol=1e-4, rtol=1e-4)
    flat = taps.states[model.n_layers].reshape(-1, model.d_model)
    torch.testing.assert_close(model.readout.logits(flat), logits.reshape(27, -1), atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="raw lens is undefined"):
        model.readout.logits(flat, norm=False)
