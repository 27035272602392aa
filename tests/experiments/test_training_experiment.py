"""R4, R6 and R7: planted effects and nulls over models whose training is known, and panels that lack it."""

import math

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments import ModelInfo, Panel
from phaselens.experiments.training import Trained, evidence_of, last_checkpoints, training_of

PANEL = Panel((), seed=1, n_boot=400)
FAMILIES = ("llama", "gpt2", "opt", "phi")


def info(name, family="llama", parameters=1000, seed=0, **facts):
    known = {"corpus": "c", "loss_tokens": 1e4, "other_tokens": 1e4} | facts
    return ModelInfo(name, family, 6, 96, 512, parameters, training_seed=seed, **known)


def verdict(claim, models):
    (found,) = judge_all(claims_by_id([claim]), evidence_of(PANEL, tuple(models)))
    return found


def by_family(effect, size_effect, each=4, seed=0):
    """Four families x four seeds of unlike sizes; log ratio_norm moves with family and with log size."""
    g = np.random.default_rng(seed)
    out = []
    for i, family in enumerate(FAMILIES):
        for k in range(each):
            size = float(g.uniform(6, 12))
            value = effect * i + size_effect * size + 0.1 * g.standard_normal()
            known = info(f"{family}{k}", family, int(math.exp(size)), k)
            out.append(Trained(known, training_of(known), value))
    return out


def checkpoints(slope, trainings=6, noise=0.05, seed=0):
    g = np.random.default_rng(seed)
    out = []
    for t in range(trainings):
        own = g.standard_normal()
        for tokens in (1e5, 3e5, 1e6, 3e6):
            known = info(f"m{t}-{tokens:g}", parameters=1000 + t, seed=t, training_tokens=tokens)
            out.append(Trained(known, training_of(known), own + slope * math.log(tokens) + noise * g.standard_normal()))
    return out


def losses(of_loss, of_other, n=24, seed=0):
    """Models whose log ratio_norm goes with training loss and with the loss elsewhere, by so much."""
    g = np.random.default_rng(seed)
    out = []
    for i in range(n):
        loss, other = g.standard_normal(2)
        value = of_loss * loss + of_other * other + 0.3 * g.standard_normal()
        known = info(f"m{i}", parameters=int(math.exp(g.uniform(6, 12))), seed=i, training_loss=loss, other_loss=other)
        out.append(Trained(known, training_of(known), value))
    return out


def test_family_and_not_size_is_supported_and_size_alone_is_not():
    found = verdict("R6", by_family(1.0, 0.0))
    assert found.p <= 0.05 and found.controls[0]["name"] == "size"
    assert found.verdict in ("supported", "open") and found.decided_by in ("permutation", "size")
    assert verdict("R6", by_family(2.0, 0.0, each=20)).verdict == "supported"
    assert verdict("R6", by_family(0.0, 1.0)).verdict != "supported"


def test_size_beside_family_explains_it_away():
    found = verdict("R6", by_family(0.3, 1.0, each=8))
    assert (found.verdict, found.decided_by) == ("rejected", "size") or found.decided_by == "permutation"


def test_a_null_panel_is_supported_rarely():
    g = np.random.default_rng(3)
    words = []
    for i in range(60):
        models = [Trained(m.info, m.training, g.standard_normal()) for m in by_family(0, 0, seed=i)]
        words.append(verdict("R6", models).verdict)
    assert words.count("supported") <= 6


def test_too_few_families_is_not_applicable():
    found = verdict("R6", [m for m in by_family(1, 0) if m.info.family in ("llama", "gpt2")])
    assert found.verdict == "not applicable" and "3 families with 3 models each (here 2)" in found.needed


def test_one_checkpoint_a_training_takes_part():
    last = last_checkpoints(tuple(checkpoints(0.0)))
    assert len(last) == 6 and {m.info.training_tokens for m in last} == {3e6}
    unknown = ModelInfo("mine", "llama", 6, 96, 512, 1000)
    assert training_of(unknown) == "mine"


def test_tokens_that_set_it_reject_and_tokens_that_do_not_leave_it_open_or_support():
    assert verdict("R7", checkpoints(1.0)).verdict == "rejected"
    null = verdict("R7", checkpoints(0.0, trainings=40))
    assert null.verdict == "supported" and null.estimate < 0.25
    assert verdict("R7", checkpoints(0.0, trainings=2)).verdict == "not applicable"


def test_loss_beyond_perplexity():
    assert verdict("R4", losses(1.0, 0.0)).verdict == "supported"
    assert verdict("R4", losses(0.0, 1.0)).verdict == "rejected"
    assert verdict("R4", losses(0.7, 0.7)).verdict == "open"


def test_loss_is_open_below_twenty_models_and_not_applicable_where_unknown():
    found = verdict("R4", losses(1.0, 0.0, n=12))
    assert (found.verdict, found.decided_by) == ("open", "number of models") and "20 models" in found.needed
    found = verdict("R4", by_family(1.0, 0.0))
    assert found.verdict == "not applicable" and "other_loss" in found.needed


@pytest.mark.parametrize("claim", ["R4", "R6", "R7"])
def test_models_without_a_ratio_take_no_part(claim):
    models = [Trained(m.info, m.training, math.nan) for m in losses(1.0, 0.0)]
    assert verdict(claim, models).verdict == "not applicable"
