"""S2's control: a difference that is only one of answer length is gone at equal length, another one stays."""

import numpy as np
import pytest

from phaselens.experiments import Panel
from phaselens.experiments.answer_claims import resolved_at_equal_length, resolved_difference
from phaselens.experiments.correctness import graded_of
from phaselens.validity.simulated_answers import Links
from phaselens.validity.simulated_answers import graded_model as model_with


@pytest.mark.parametrize("through_length", [True, False])
def test_length_explains_what_goes_through_it_alone(through_length):
    rng = np.random.default_rng(0)
    model = model_with("m", rng, Links(resolves=0.3), prompts=150)
    wrong = 1 - model.runs["correct"]
    model.runs["n_generated"] = 40 + (20 * wrong if through_length else rng.integers(0, 20, len(wrong)))
    panel = Panel((model,), n_boot=200)
    every = tuple(graded_of(panel).values())
    assert resolved_difference(panel, every[0]).value > 0.1
    found = resolved_at_equal_length(panel, every)
    assert found.outcome == ("undecided" if through_length else "survived"), found.why
