"""Interventions in every family whose load is proved: an exact nothing at strength 0, with a cache and without."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.capture.stand_ins import Keep
from tools.tiny import VOCAB, build_tiny

from phaselens.capture import GREEDY, live, replay
from phaselens.capture.intervene import AddNoise, At, Replace, Steer, intervening
from phaselens.errors import ModelRefused
from phaselens.interventions.signature import identity_gap
from phaselens.models import load, run
from phaselens.models.families import families_table
from phaselens.models.sites import SITES, site_layers

PROVED = [row["family"] for row in families_table() if row["outcome"].startswith("pass")]
# Families whose blocks do not write attention plus MLP to the stream: they norm the sum (BERT, BART, GPT-1),
# scale the stream (MiniMax), or add three parts (Gemma 4, Granite with shared experts, Falcon-H1). All others have all.
NEITHER = """
    bart beam bert bert-generation big_bird blenderbot-small camembert data2vec-text deepseek_v4 doge electra
    ernie falcon_h1 gemma3n_text gemma4 gemma4_text git granitemoe_swa granitemoehybrid granitemoeshared hy_v4
    longcat_flash marian minimax mvp openai-gpt plbart qwen4_exp qwen4_exp_text rembert roberta roc_bert
    roformer trocr xlm-roberta xmod zaya
""".split()
LACKING = dict.fromkeys(NEITHER, ("attn_out", "mlp_out")) | dict.fromkeys(
    ("mamba", "mamba2", "falcon_mamba"), ("mlp_out",)
)
SHARING = ("gemma3n_text",)  # later layers take the keys and values of earlier ones, so no pass begins in between
NEW = 3


def alike(one: Keep, other: Keep) -> bool:
    """Whether two recordings are the same bits."""
    return one.states.keys() == other.states.keys() and all(
        torch.equal(one.states[key][1], other.states[key][1]) for key in one.states
    )


def said_and_replayed(model, prompts, what):
    """States of a live run under interventions, and of a replay of what it said."""
    lived, replayed = Keep(), Keep()
    said = live(model, prompts, lived, max_new_tokens=NEW, sampling=GREEDY, interventions=what)
    replay(model, said, replayed, interventions=what)
    return lived, replayed


@pytest.mark.slow
@pytest.mark.parametrize("family", PROVED)
def test_the_four_sites_work_in_every_family(family):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' own, about configurations as small as these
        check_sites(family)


def check_sites(family):
    m = load(build_tiny(family, 0))
    there = [site for site in SITES if site_layers(m, site)]
    assert tuple(site for site in SITES if site not in there) == LACKING.get(family, ())
    ids = torch.tensor(np.random.default_rng(3).integers(3, VOCAB - 6, size=(2, 5)))

    def logits():
        return run(m.network, ids, mask=torch.ones_like(ids)).logits

    zero = (AddNoise(0.0, rms=1.7), Steer(torch.ones(m.d_model), 0.0), Replace(torch.ones(m.d_model), 0.0))
    nothing = [At(site, None, "all", one) for site in there for one in zero]
    noise = [At(site, None, None, AddNoise(0.3, rms=1.0, seed=4)) for site in there]
    plain = logits()
    for one in noise:
        with intervening(m, [replace(one, steps="all")]):
            assert not torch.equal(logits(), plain), one.site
    with intervening(m, nothing):
        assert torch.equal(logits(), plain)
    assert torch.equal(logits(), plain)
    if family in SHARING:
        with pytest.raises(ModelRefused, match="read more of earlier blocks"):
            identity_gap(m)
    else:
        assert identity_gap(m) == 0
    for model in (m, replace(m, facts=replace(m.facts, decodes=False))):
        prompts = ids.tolist()
        without, as_read = said_and_replayed(model, prompts, ())
        lived, replayed = said_and_replayed(model, prompts, nothing)
        assert alike(lived, without) and alike(replayed, as_read)
        lived, replayed = said_and_replayed(model, prompts, noise)
        assert replayed.furthest(lived) < 1e-4
