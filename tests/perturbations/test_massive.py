"""Two rules for massive dimensions: a state that is large throughout hides them from the rule over its own median."""

import pytest
import torch

from phaselens.errors import InputError
from phaselens.perturbations.inside import massive, massive_dimensions


def test_a_sink_is_massive_over_all_tokens_and_not_over_its_own_state():
    states = torch.full((100, 64), 1.0)
    states[0] = 20.0  # a sink: large throughout
    states[0, 7] = 9_000.0
    (found,) = massive_dimensions(states)
    assert (found.state, found.dimension, found.size) == (0, 7, 9_000.0)
    assert found.over_state == 450 and found.over_tokens == 9_000
    assert not massive(states).any(), "the rule of the definitions does not see it"
    states[0] = 2.0
    states[0, 7] = 9_000.0
    assert massive(states).nonzero().tolist() == [[0, 7]] and massive_dimensions(states)[0].over_state == 4_500


def test_large_and_small_are_both_asked_for():
    states = torch.full((10, 8), 0.01)
    states[3, 2] = 90.0  # 9,000 medians, and not more than 100
    assert massive_dimensions(states) == () and massive_dimensions(states[:0]) == ()
    with pytest.raises(InputError, match="one layer"):
        massive_dimensions(states[None])


@pytest.mark.real
@pytest.mark.slow
def test_the_sink_of_smollm2(smollm2_model):
    from phaselens.models import record
    from phaselens.models.forward import run

    model = smollm2_model
    ids = torch.tensor([model.tokenizer("The capital of France is Paris, and that of Italy is Rome.")["input_ids"]])
    with torch.no_grad(), record(model) as taps:
        run(model.network, ids)
    found = [m for layer in taps.layers for m in massive_dimensions(taps.states[layer][0].float())]
    most = max(found, key=lambda m: m.over_tokens)
    assert most.state == 0 and most.over_state < 1_000 < 3_000 < most.over_tokens
