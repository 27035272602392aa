"""The lens kernel against the plain float64 form, over every kind of readout."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from phaselens.errors import InputError
from phaselens.observables import LENS_STATISTICS, lens_statistics, lens_tiles, statistics_from_logits
from phaselens.observables.lens import lens_variants, output_statistics
from phaselens.observables.lens_selection import Variant
from phaselens.types import Readout

WIDTH = 24
# What the largest difference to float64 may be; counts and flags must be equal.
TOLERANCE = {
    "entropy_nats": 1e-4,
    "log_vocabulary": 1e-6,
    "top_log_probs": 2e-5,
    "logit_spread": 1e-5,
    "emitted_log_prob": 2e-5,
    "kl_from_final": 1e-4,
    "js_next": 1e-5,
}
EXACT = ("count_above_1pct", "emitted_rank", "emitted_is_top", "agrees_with_final")


def unit(h):
    return h / h.norm(dim=-1, keepdim=True).clamp(min=1e-30)


def problem(vocab, rows=6, layers=4, sharp=3.0, seed=0, **fields):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(vocab, WIDTH, generator=draw)
    bias = torch.randn(vocab, generator=draw) if fields.pop("bias", False) else None
    hidden = torch.randn(rows, layers, WIDTH, generator=draw)
    hidden[:, -2] = hidden[:, -1] + 0.05 * hidden[:, -2]
    readout = Readout(weight, bias, lambda h: unit(h) * sharp, **fields)
    return hidden, readout, torch.randint(0, vocab, (rows,), generator=draw)


def exact(hidden, readout, emitted, kind="final_norm", temperature=1.0):
    """The float64 reference: the readout's own arithmetic from the float32 input of the head on."""
    states = readout.before_head(hidden, norm=kind == "final_norm").double()
    logits = states @ readout.weight.double().T
    logits = (logits if readout.bias is None else logits + readout.bias.double()) * readout.scale
    logits = logits if readout.cap is None else readout.cap * torch.tanh(logits / readout.cap)
    return statistics_from_logits(logits / temperature, emitted)


def assert_close(found, wanted, factor=1.0):
    for name, tolerance in TOLERANCE.items():
        gap = (found[name].double() - wanted[name]).abs()
        assert torch.equal(found[name].isnan(), wanted[name].isnan()), name
        assert gap.nan_to_num(0, posinf=0).max() <= tolerance * factor, (name, gap.nan_to_num(0).max())
    for name in EXACT:
        assert torch.equal(found[name].double().nan_to_num(-1), wanted[name].nan_to_num(-1)), name


@pytest.mark.parametrize("vocab", [2, 5, 9, 64, 97, 1000, 4097, 5000])
@pytest.mark.parametrize("sharp", [0.1, 3.0, 12.0], ids=["flat", "usual", "peaked"])
def test_kernel_equals_the_plain_form_in_float64(vocab, sharp):
    made = problem(vocab, sharp=sharp)
    assert_close(lens_statistics(*made), exact(*made))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("kind", ["final_norm", "raw"])
@pytest.mark.parametrize(
    "fields", [{"cap": 4.0}, {"scale": 0.3}, {"bias": True}, {"cap": 9.0, "scale": 2.0, "bias": True}]
)
def test_cap_scale_bias_temperature_and_lens(fields, kind, temperature):
    made = problem(700, **fields)
    found = lens_statistics(*made, kind=kind, temperature=temperature)
    assert_close(found, exact(*made, kind=kind, temperature=temperature), 1 / min(temperature, 1))


@settings(max_examples=40, deadline=None)
@given(
    vocab=st.integers(1, 400),
    rows=st.integers(1, 5),
    layers=st.integers(1, 5),
    sharp=st.floats(0.01, 30),
    seed=st.integers(0, 10**6),
)
def test_kernel_equals_the_plain_form_anywhere(vocab, rows, layers, sharp, seed):
    made = problem(vocab, rows, max(layers, 2), sharp, seed)
    found, wanted = lens_statistics(*made), exact(*made)
    for name in TOLERANCE:
        assert torch.allclose(found[name].double(), wanted[name], atol=2e-4, rtol=2e-5, equal_nan=True), name


def test_probabilities_are_good_to_one_part_in_100_000():
    made = problem(50_257, rows=3, sharp=6.0)
    found, wanted = lens_statistics(*made), exact(*made)
    assert ((found["top_log_probs"] - wanted["top_log_probs"]).exp() - 1).abs().max() < 1e-5
    assert ((found["emitted_log_prob"] - wanted["emitted_log_prob"]).exp() - 1).abs().max() < 1e-5
    assert_close(found, wanted)


def test_a_shift_of_all_logits_costs_no_accuracy():
    """Logits of real models sit far from 0; a plain float32 sum of p z would lose the digits."""
    hidden, readout, emitted = problem(3000)
    shifted = Readout(readout.weight, torch.full((3000,), -700.0), readout.norm)
    found, plain = lens_statistics(hidden, shifted, emitted), lens_statistics(hidden, readout, emitted)
    for name in ("entropy_nats", "logit_spread", "kl_from_final"):
        assert (found[name] - plain[name]).abs().max() < 1e-3


def test_huge_logits_give_one_token_all_mass_and_stay_finite():
    hidden, readout, emitted = problem(500, sharp=1e6)
    found = lens_statistics(hidden, readout, emitted)
    assert torch.allclose(found["top_log_probs"][..., 0].exp(), torch.ones(6, 4))
    for name in TOLERANCE:
        values = found[name][..., :1] if name == "top_log_probs" else found[name][:, :-1]
        assert values.isfinite().all(), name
    assert (found["js_next"][:, 0] > math.log(2) - 1e-4).any()  # disjoint supports
    assert found["js_next"][:, :-1].max() <= math.log(2)


def test_uniform_distribution():
    made = problem(310)
    flat = Readout(torch.zeros(310, WIDTH), None, made[1].norm)
    found = lens_statistics(made[0], flat, made[2])
    assert torch.allclose(found["entropy_nats"], torch.tensor(310.0).log())
    assert torch.equal(found["count_above_1pct"], torch.zeros(6, 4))
    for name in ("js_next", "kl_from_final", "logit_spread", "emitted_rank"):
        assert found[name].nan_to_num(0).abs().max() < 1e-5
    # Every token ties for the first place, so every layer agrees.
    assert found["agrees_with_final"].min() == 1 and found["emitted_is_top"].min() == 1
    assert torch.equal(found["nucleus"][..., 1], torch.full((6, 4), 307.0))  # 306.9 rounded up


def test_identical_and_disjoint_layers():
    # Two groups of tokens, each read by one half of the state: layers that use different halves share nothing.
    weight = torch.zeros(40, WIDTH)
    weight[:20, 0], weight[20:, 1] = 60.0, 60.0
    hidden = torch.zeros(1, 4, WIDTH)
    hidden[0, (0, 1), 0] = 1.0
    hidden[0, (2, 3), 1] = 1.0
    found = lens_statistics(hidden, Readout(weight, None, lambda h: h), torch.tensor([3]))
    assert torch.allclose(found["js_next"][0, :3], torch.tensor([0.0, math.log(2), 0.0]), atol=2e-6)
    assert found["kl_from_final"][0, 3] == 0 and found["kl_from_final"][0, 2] < 2e-6
    assert found["kl_from_final"][0, 0] > 50
    assert found["agrees_with_final"][0].tolist() == [0, 0, 1, 1]


def test_ties_at_the_top_and_across_blocks():
    vocab = 6000
    weight = torch.zeros(vocab, WIDTH)
    weight[::300, 0] = 5.0  # twenty equal winners, in twenty different blocks of 64
    weight[1::3000, 0] = 4.0
    hidden = torch.ones(2, 3, WIDTH)
    made = hidden, Readout(weight, None, lambda h: h), torch.tensor([600, 1])
    found = lens_statistics(*made)
    assert_close(found, exact(*made))
    assert found["emitted_rank"][:, 0].tolist() == [0, 20]


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 9000), distinct=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_the_ten_largest_are_found_with_any_ties(width, distinct, seed):
    z = torch.randint(0, distinct, (2, width), generator=torch.Generator().manual_seed(seed)).float()
    z[1] = -(torch.arange(width) * 7919 % width).float() / 64
    wanted = z.double().log_softmax(-1).sort(-1, descending=True).values[:, :10]
    found = output_statistics(z, torch.zeros(2, dtype=torch.int64))["top_log_probs"][:, 0]
    assert torch.allclose(found[:, : wanted.shape[1]].double(), wanted, atol=1e-5, rtol=1e-6)
    assert torch.isneginf(found[:, wanted.shape[1] :]).all()


def test_rows_that_are_not_finite_are_nan_and_touch_nothing_else():
    hidden, readout, emitted = problem(600)
    clean = lens_statistics(hidden, readout, emitted)
    for bad in (math.nan, math.inf):
        broken = hidden.clone()
        broken[2, 1] = bad
        broken[4, -1] = bad
        found = lens_statistics(broken, readout, emitted)
        for name, values in found.items():
            assert values[2, 1].isnan().all(), name
            assert torch.equal(values[(0, 1, 3, 5), :].nan_to_num(-1), clean[name][(0, 1, 3, 5), :].nan_to_num(-1))
        assert found["js_next"][2, 0].isnan() and found["js_next"][2, 2].isfinite()
        # Without its reference a step has no divergence from it, but still an entropy.
        assert found["kl_from_final"][4].isnan().all() and found["agrees_with_final"][4].isnan().all()
        assert found["entropy_nats"][4, :-1].isfinite().all()


def test_forbidden_tokens_are_no_part_of_the_vocabulary():
    hidden, readout, emitted = problem(600, bias=True)
    readout.bias[::7] = -math.inf
    emitted[:3] = torch.tensor([0, 7, 8])
    found = lens_statistics(hidden, readout, emitted)
    assert_close(found, exact(hidden, readout, emitted))
    allowed = torch.arange(600)[torch.arange(600) % 7 != 0]
    fewer = lens_statistics(hidden, readout.restrict(allowed), torch.full((6,), -1))
    assert torch.equal(found["entropy_nats"], fewer["entropy_nats"])
    assert found["emitted_rank"][:2].isnan().all() and found["emitted_rank"][2].isfinite().all()


def test_temperature_law():
    hidden, readout, emitted = problem(800, rows=30)
    one, two = (lens_statistics(hidden, readout, emitted, temperature=t) for t in (1.0, 2.5))
    assert torch.allclose(one["logit_spread"] / 2.5, two["logit_spread"], rtol=1e-5)
    for name in ("emitted_rank", "agrees_with_final", "emitted_is_top"):
        assert torch.equal(one[name], two[name])
    assert (two["entropy_nats"] > one["entropy_nats"]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_widened(dtype):
    hidden, readout, emitted = problem(900)
    half = Readout(readout.weight.to(dtype), None, readout.norm)
    assert_close(lens_statistics(hidden, half, emitted), exact(hidden, half, emitted))


def test_blocks_buffers_and_rows_change_nothing(monkeypatch):
    made = problem(1500, rows=23)
    whole = lens_statistics(*made)
    monkeypatch.setattr(lens_tiles, "BUFFER_BYTES", 5 * 4 * 4 * 1500)
    monkeypatch.setattr(lens_tiles, "MIN_ROWS", 1)
    monkeypatch.setattr(lens_tiles, "TILE", 448)
    monkeypatch.setattr(lens_tiles, "TILE_NUMBERS", 448 * 8)
    buffers = {}
    for _ in range(2):
        parts = lens_statistics(*made, buffers=buffers)
        alone = [lens_statistics(made[0][i : i + 1], made[1], made[2][i : i + 1], buffers=buffers) for i in range(23)]
        for name in LENS_STATISTICS:
            for other in (parts[name], torch.cat([a[name] for a in alone])):
                # Few rows go through another product: equal to rounding of logits of about 10.
                assert torch.allclose(other, whole[name], atol=1e-5, rtol=1e-5, equal_nan=True), name


@pytest.mark.parametrize("tile", [64, 448, 5000])
def test_variants_of_one_product_are_each_their_own_lens(monkeypatch, tile):
    """Against float64: temperatures (one, and one a layer), a cap, tokens scattered, in one piece, and in one tile."""
    monkeypatch.setattr(lens_tiles, "TILE", tile)
    monkeypatch.setattr(lens_tiles, "TILE_NUMBERS", 1)
    hidden, readout, emitted = problem(1500, bias=True)
    scattered = torch.arange(1500)[torch.arange(1500) % 3 != 1]
    chosen = {"all": None, "scattered": scattered, "piece": torch.arange(100, 1500), "few": torch.arange(3, 9)}
    number = {k: emitted if t is None else _numbers(t)[emitted] for k, t in chosen.items()}
    heats = (1.0, 0.6, torch.tensor([0.5, 1.0, 2.0, 3.0]))
    asked = [(k, heat, cap) for k in chosen for heat in heats for cap in (None, 4.0)]
    variants = [Variant(number[k], heat, chosen[k], cap) for k, heat, cap in asked]
    found = lens_variants(hidden, readout, variants)
    for (name, heat, cap), one in zip(asked, found, strict=True):
        kept = readout if chosen[name] is None else readout.restrict(chosen[name])
        logits = hidden_logits(hidden, kept, cap)
        spread = heat if isinstance(heat, float) else heat[:, None]
        assert_close(one, statistics_from_logits(logits / spread, number[name]), 2)


def _numbers(tokens):
    out = torch.full((1500,), -1)
    out[tokens] = torch.arange(len(tokens))
    return out


def hidden_logits(hidden, readout, cap):
    logits = readout.before_head(hidden).double() @ readout.weight.double().T + readout.bias.double()
    return logits if cap is None else cap * torch.tanh(logits / cap)


def test_only_what_is_wanted_and_nothing_of_nothing():
    hidden, readout, emitted = problem(100)
    found = lens_statistics(hidden, readout, emitted, wanted=frozenset({"emitted_rank"}))
    assert set(found) == {"emitted_rank"}
    nothing = lens_statistics(hidden[:0], readout, emitted[:0])
    assert nothing["top_log_probs"].shape == (0, 4, 10)
    alone = lens_statistics(hidden[:, -1:], readout, emitted)
    assert alone["js_next"].isnan().all() and torch.equal(alone["kl_from_final"], torch.zeros(6, 1))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"kind": "tuned2"}, "'tuned2'"), ({"temperature": 0.0}, "0.0"), ({"wanted": frozenset({"gini"})}, "gini")],
)
def test_wrong_requests_are_refused(wrong, says):
    with pytest.raises(InputError, match=says):
        lens_statistics(*problem(20), **wrong)


@pytest.mark.parametrize("vocab", [3, 50, 1000, 5000])
@pytest.mark.parametrize("sharp", [0.05, 1.0, 3.0, 12.0])
def test_nucleus_by_bisection_is_the_sorted_one(vocab, sharp):
    made = problem(vocab, rows=12, sharp=sharp)
    found = lens_statistics(*made, wanted=frozenset({"nucleus"}))["nucleus"].double()
    wanted = exact(*made)["nucleus"]
    assert (found[..., 1] - wanted[..., 1]).abs().max() <= max(1, 1e-4 * vocab)
    assert (found[..., 1] == wanted[..., 1]).double().mean() > 0.9
    same = found[..., 1] == wanted[..., 1]
    assert (found - wanted)[same].abs().max() < 1e-4
    assert found[..., 0].min() >= 0.99 - 1e-6
