"""The causal test finds a subspace that is known, does not find one that behaviour does not use, and keeps its band."""

import numpy as np
import pytest
import torch
from tests.capture.zoo import D, L, network
from tools.belief import prefixes
from tools.process_models import process_model, process_of

from phaselens.capture import GREEDY, generate
from phaselens.errors import InputError
from phaselens.interventions.causal_regions import Items, _Runner, causal_effects, two_choices
from phaselens.models import edit, load

WORDS, RIGHT, WRONG = 24, 90, 91


@pytest.fixture(scope="module")
def planted():
    """A network whose output reads one known direction: token i < 24 says +u or -u, and so does the answer's row."""
    net = network("llama", tie_word_embeddings=False)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for block in net.model.layers:
            block.self_attn.o_proj.weight.zero_()
            block.mlp.down_proj.weight.zero_()
        net.model.norm.weight.fill_(1.0)
        table, head = net.model.embed_tokens.weight, net.lm_head.weight
        table.copy_(torch.randn(table.shape, generator=g))
        table[:WORDS] *= 0.3
        table[:, :2] = 0
        table[:, 2] = 8.0  # what is left after a removal keeps its size under the norm
        side = torch.tensor([1.0 if i % 2 else -1.0 for i in range(WORDS)])
        table[:WORDS, 0] = 2 * side
        table[:WORDS, 1] = 2 * side.roll(7) * torch.where(torch.arange(WORDS) < 12, 1.0, -1.0)
        head.zero_()
        head[RIGHT, 0], head[WRONG, 0] = 3.0, -3.0
        head[:40] = torch.randn(40, D, generator=g) * 0.1
        head[:40, 0] = 0
    return load(net)


def items(column):
    """Every word behind two others; the label is what the word says on this axis."""
    g = np.random.default_rng(1)
    last = np.tile(np.arange(WORDS), 2)
    ids = np.stack([g.integers(40, 80, len(last)), g.integers(40, 80, len(last)), last], axis=1)
    plus = last % 2 == 1
    label = plus if column == 0 else (np.roll(np.arange(WORDS) % 2 == 1, 7) ^ (np.arange(WORDS) >= 12))[last]
    right, wrong = np.where(plus, RIGHT, WRONG), np.where(plus, WRONG, RIGHT)
    partner = np.array([np.flatnonzero(label != label[i])[0] for i in range(len(last))])
    units = np.arange(len(last)) % WORDS
    return Items(ids, np.full(len(last), 2), right, wrong, np.where(label, "a", "b"), partner, units)


def test_taking_the_known_subspace_out_ends_the_behaviour_and_random_ones_do_not(planted):
    said = generate(planted, [[41, 42], [43, 44]], max_new_tokens=4, sampling=GREEDY)
    made = causal_effects(planted, items(0), layers=(0, 2), rank=1, n_random=8, elsewhere=said)
    assert made.identity == 0 and (made.capacity > 0.7).all() and (made.plain > 1).all()
    for arm in ("probe subspace", "LEACE", "mean"):
        assert made.margin[arm].mean() < 0.35 * made.plain.mean(), arm
    assert made.margin["patch"].mean() < -1
    assert np.nanmean(made.random["equal rank"]) > 0.8 * made.plain.mean()
    assert (
        np.isfinite(made.random["equal variance"]).any()
        and np.nanmean(made.random["equal variance"]) > made.plain.mean() / 2
    )
    assert made.elsewhere["probe subspace"].shape == (2, 2) and np.isfinite(made.elsewhere["LEACE"]).all()


def test_a_subspace_that_is_decodable_but_not_read_changes_nothing(planted):
    made = causal_effects(planted, items(1), layers=(L,), rank=1, n_random=4)
    assert made.capacity[0] > 0.9
    assert made.margin["probe subspace"].mean() > 0.8 * made.plain.mean()


@pytest.mark.parametrize("family", ["gpt2", "bloom", "falcon", "llama", "gemma2", "mixtral", "mamba", "rwkv"])
def test_the_last_token_behind_kept_keys_says_what_the_whole_pass_says(family):
    """Items of two lengths, the longer beyond the sliding window, against one pass over each with the state edited."""
    model, g = load(network(family)), np.random.default_rng(2)
    last = np.array([4, 10] * 8)
    ids = np.where(np.arange(11) <= last[:, None], g.integers(1, 90, (16, 11)), 0)
    some = Items(ids, last, np.full(16, RIGHT), np.full(16, WRONG), np.array(["a", "b"] * 8), last, last)
    runner, put = _Runner(model, some), torch.randn(5, 16, model.d_model, generator=torch.Generator().manual_seed(3))
    for layer in (0, 1, model.n_layers):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("phaselens.interventions.causal_regions.ROWS", 24)  # three changes a pass
            got = runner.margin(layer, put)
        for k, i in np.ndindex(5, 16):

            def change(states, k=k, i=i):
                return torch.cat([states[:, :-1], put[k, i].expand(1, 1, -1)], dim=1)

            with torch.no_grad(), edit(model, {layer: change}):
                logits = model.network(torch.tensor(ids[i : i + 1, : last[i] + 1])).logits[0, -1]
            assert got[k, i] == pytest.approx(float(logits[RIGHT] - logits[WRONG]), abs=2e-5, rel=1e-4)


def test_layers_and_units_that_do_not_exist_are_refused(planted):
    with pytest.raises(InputError, match="layers \\[9\\] do not exist.*0 to 3"):
        causal_effects(planted, items(0), layers=(9,))


def test_the_organism_needs_grammatical_number_at_the_noun():
    from phaselens.organisms import load as organism
    from phaselens.organisms.questions import agreement_pairs

    model = organism("organism:llama-512")
    rows = []
    for i, p in enumerate(agreement_pairs()):
        if p.tag.endswith("none between"):
            noun, key = p.text.split()[-1].rstrip("s"), f"{i // 12}-{p.right in ('are', 'is')}"
            rows.append((p.text, p.right, p.wrong, p.tag.split(",")[0], noun, key))
    asked = two_choices(model, rows)
    made = causal_effects(model, asked, layers=(3,), rank=2, n_random=6)
    assert (made.plain > 0).mean() > 0.9
    fall = made.plain.mean() - made.margin["probe subspace"].mean()
    band = made.plain.mean() - np.nanmean(made.random["equal rank"], axis=(1, 2))
    assert fall > np.nanmax(band) and made.margin["patch"][np.isfinite(made.margin["patch"])].mean() < made.plain.mean()


def belief_items(process, n, length):
    """Prefixes of a process; the label is the likeliest next token, which the belief alone decides."""
    found = prefixes(process, n, length, np.random.default_rng(0))
    kept = np.flatnonzero(np.ptp(found.next_token, axis=1) > 0.3)[:240]
    ids = np.array([found.examples.items[i].token_ids for i in kept])
    last = np.array([found.examples.items[i].span[1] - 1 for i in kept])
    order = np.argsort(found.next_token[kept], axis=1)
    units = np.array([found.examples.items[i].group for i in kept])
    partner = np.array([np.flatnonzero(order[:, -1] != top)[k % 50] for k, top in enumerate(order[:, -1])])
    return Items(ids, last, order[:, -1], order[:, 0], order[:, -1].astype(str), partner, units)


@pytest.mark.slow
def test_a_bundled_model_needs_the_belief_subspace_that_theory_says_it_must_have():
    """Mess3: the next token is a linear function of the belief, so two dimensions carry all that behaviour needs."""
    model, process = process_model("mess3"), process_of("mess3")
    asked = belief_items(process, 120, 9)
    last = model.n_layers
    made = causal_effects(model, asked, layers=(0, last), rank=2, n_random=40)
    plain = made.plain.mean()
    assert made.identity == 0 and plain > 0.5 and made.capacity[1] > 0.85
    assert abs(made.margin["probe subspace"][1].mean()) < 0.1 * plain
    assert made.margin["patch"][1].mean() < 0
    left = np.nanmean(made.random["equal rank"][:, 1], axis=-1)
    # LEACE erases what says the label linearly, and no more: the belief within a label stays (.36 of the effect).
    assert made.margin["LEACE"][1].mean() < min(0.5 * plain, left.min())
    assert np.quantile(left, 0.025) > 0.5 * plain
