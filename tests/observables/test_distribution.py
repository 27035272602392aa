"""Distributions whose numbers are known by hand."""

import math

import pytest
import torch

from phaselens.observables import DISTRIBUTION, EXTENDED, OBSERVABLES, base_inputs, evaluate, statistics_from_logits

EVERY = DISTRIBUTION + tuple(o for o in EXTENDED if o.axis == "vocabulary")


def read(p, emitted=0, layers=None, n_blocks=None):
    """All observables of one step with the distributions `p` [layer, V], as floats or lists over layers."""
    logits = torch.as_tensor(p, dtype=torch.float64).log().unsqueeze(0)
    layers = torch.arange(logits.shape[1]) if layers is None else torch.tensor(layers)
    statistics = statistics_from_logits(logits, torch.tensor([emitted]))
    inputs = {name: v.transpose(0, 1) for name, v in statistics.items()} | {
        "layers": layers,
        "n_blocks": logits.shape[1] - 1 if n_blocks is None else n_blocks,
    }
    return {name: v[..., 0].tolist() for name, v in evaluate(EVERY, inputs).items()}


def one_hot(at, size=8, mass=0.93):
    p = torch.full((size,), (1 - mass) / (size - 1), dtype=torch.float64)
    p[at] = mass
    return p.tolist()


def test_uniform_over_more_than_100_tokens():
    found = read([[1 / 128] * 128])
    assert found["n_above_1pct"] == [0]
    assert found["dispersion"] == [0]
    assert found["rivalry"] == pytest.approx([1])
    assert found["entropy_norm"] == pytest.approx([1])
    assert found["branching"] == pytest.approx(128)
    assert found["nucleus_size"] == [127]


def test_a_worked_distribution():
    found = read([[0.5, 0.25, 0.125, 0.125]], emitted=2)
    assert found["entropy"] == pytest.approx([1.75 * math.log(2)])
    assert found["entropy_norm"] == pytest.approx([0.875])
    assert (found["top1"], found["top2"]) == (pytest.approx([0.5]), pytest.approx([0.25]))
    assert found["margin"] == pytest.approx([0.25])
    assert found["rivalry"] == pytest.approx([0.5])
    assert found["n_above_1pct"] == [4]
    assert found["dispersion"] == pytest.approx([math.log(5) / math.log(100)])
    assert found["top10_mass"] == pytest.approx([1])
    assert found["surprisal"] == pytest.approx([3 * math.log(2)])
    assert found["rank"] == [2]
    # Logits are -1, -2, -3, -3 in units of ln 2: mean -2.25, variance (1.5625 + .0625 + 2 * .5625) / 4 = .6875.
    assert found["logit_std"] == pytest.approx([math.sqrt(0.6875) * math.log(2)])
    assert found["commitment"] == pytest.approx(-1.75 * math.log(2))
    assert found["branching"] == pytest.approx(2**1.75)
    assert found["nucleus_mass"] == pytest.approx([1])


def test_nucleus_of_a_worked_distribution():
    found = read([[0.7, 0.295, 0.004, 0.001]])
    assert found["nucleus_size"] == [2]
    assert found["nucleus_mass"] == pytest.approx([0.995])
    a, b = 0.7 / 0.995, 0.295 / 0.995
    assert found["nucleus_entropy"] == pytest.approx([-a * math.log(a) - b * math.log(b)])


def test_never_more_than_99_tokens_above_one_percent():
    p = [0.01005] * 99 + [(1 - 99 * 0.01005) / 20] * 20
    assert read([p])["n_above_1pct"] == [99]
    assert read([p])["dispersion"] == [1]


def test_divergences_between_layers():
    found = read([one_hot(0), one_hot(1), one_hot(1), one_hot(2)], n_blocks=3)
    assert found["kl_to_final"][3] == 0
    p, q = 0.93, 0.07 / 7
    assert found["kl_to_final"][1] == pytest.approx(p * math.log(p / q) + q * math.log(q / p))
    assert math.isnan(found["lens_sync"][0]) and math.isnan(found["lens_sync"][3])
    assert found["lens_sync"][1] == pytest.approx(1)
    m = (p + q) / 2
    js = p * math.log(p / m) + q * math.log(q / m)
    assert found["lens_sync"][2] == pytest.approx(1 - js / math.log(2))
    assert found["turbulence"][2] == pytest.approx(js / math.log(2))


@pytest.mark.parametrize(
    ("argmaxes", "layer"),
    [([3, 0, 1, 2, 2, 2], 3), ([2, 2, 2, 2, 2, 2], 1), ([2, 2, 0, 2, 1, 2], 5), ([0, 2, 2, 2, 2, 2], 1)],
)
def test_commitment_layer(argmaxes, layer):
    found = read([one_hot(a) for a in argmaxes], emitted=2)
    assert found["commit_layer"] == layer
    assert found["commit_depth"] == pytest.approx(layer / 5)
    assert found["commit_layer_emitted"] == layer
    assert found["agrees"] == [float(a == 2) for a in argmaxes]


def test_a_sampled_token_that_is_not_the_argmax_has_no_commitment_of_its_own():
    found = read([one_hot(2)] * 6, emitted=1)
    assert math.isnan(found["commit_layer_emitted"])
    assert found["commit_layer"] == 1


def test_layers_that_were_not_recorded():
    found = read([one_hot(2)] * 4, layers=[0, 1, 3, 4], n_blocks=4)
    assert math.isnan(found["commit_layer"])
    assert [math.isnan(v) for v in found["lens_sync"]] == [True, True, False, True]
    assert found["branching"] > 1
    found = read([one_hot(2)] * 3, layers=[0, 1, 2], n_blocks=4)
    assert math.isnan(found["branching"]) and math.isnan(found["commitment"])


def test_every_distribution_observable_is_covered_here_or_reads_the_same_statistics():
    needed = {name for one in EVERY for name in base_inputs((one,))}
    assert needed >= {"entropy_nats", "top_log_probs", "js_next", "nucleus"}
    assert set(EVERY) <= set(OBSERVABLES)
