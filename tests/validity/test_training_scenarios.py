"""The scenarios of R4, R6 and R7 plant what they say, and the rules say about them what they must."""

import numpy as np
import pytest

from phaselens.experiments.training import last_checkpoints, trained_models
from phaselens.validity.scenario_catalog import declared
from phaselens.validity.simulated_training import checkpoints, families

TRAINING = declared("training")

G = np.random.default_rng


def test_every_claim_has_a_null_an_effect_at_which_its_power_is_quoted_and_an_artefact():
    for claim in ("R4", "R6", "R7"):
        own = [s for s in TRAINING if s.claims == (claim,)]
        assert {"null", "effect", "artefact"} <= {s.kind for s in own}
        assert sum(s.headline for s in own) == 1


def test_medians_are_planted_and_checkpoints_share_a_training():
    models = trained_models(checkpoints(G(0), correlation=0.9, trainings=3))
    assert len(models) == 15 and len(last_checkpoints(models)) == 3
    within = [m for m in models if m.training == models[0].training]
    x, y = np.log([m.info.training_tokens for m in within]), [m.ratio for m in within]
    assert np.corrcoef(x, y)[0, 1] > 0.5
    apart = trained_models(families(G(0), gap=4.0))
    means = [np.mean([m.ratio for m in apart if m.info.family == f"family {i}"]) for i in range(4)]
    assert means == sorted(means)


@pytest.mark.parametrize("scenario", TRAINING, ids=lambda s: s.id)
def test_rules_say_what_they_must(scenario):
    """Four studies each: a null or artefact is hardly ever supported, an effect never rejected."""
    words = [scenario.judge(scenario.make(G(i)))[scenario.claims[0]].verdict for i in range(4)]
    if scenario.kind != "effect":
        assert words.count("supported") <= 1, words
    else:
        assert "rejected" not in words, words
