"""One test for all observables: what each declares about itself is true, and what it does not declare is not."""

import inspect
import math

import pytest
import torch

from phaselens.errors import InputError, UnknownNameError
from phaselens.observables import (
    DEFAULT,
    EXTENDED,
    LENS_STATISTICS,
    OBSERVABLES,
    base_inputs,
    by_name,
    depth,
    distribution,
    evaluate,
    observable,
    statistics_from_logits,
    trajectory,
)

N_BLOCKS, STEPS, WIDTH, VOCAB = 5, 20, 32, 40
LAYERS = torch.arange(N_BLOCKS + 1)
ON_HIDDEN = [o for o in OBSERVABLES if "hidden" in base_inputs((o,))]
ON_LENS = [o for o in OBSERVABLES if o not in ON_HIDDEN]
HIDDEN_KINDS = ("rotation", "state_scale", "common_scale", "translation")
LOGIT_KINDS = ("logit_shift", "temperature", "vocabulary_permutation")


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hidden_states(seed=0):
    """Random states with what the definitions single out: a massive dimension, a rescaled repeat, an exact repeat."""
    h = draw(2, N_BLOCKS + 1, STEPS, WIDTH, seed=seed)
    h[..., 3] *= 3000
    h[0, :, 4] = 2 * h[0, :, 3]
    h[1, :, 6] = h[1, :, 5]
    return h


def measured(observables, hidden):
    inputs = {"hidden": hidden, "layers": LAYERS, "n_blocks": N_BLOCKS}
    return evaluate(observables, inputs)


def random_logits(seed=0):
    """Logits [step, layer, V], peaked enough for every observable to vary, and emitted tokens among the likely ones."""
    logits = 2.5 * draw(STEPS, N_BLOCKS + 1, VOCAB, seed=seed)
    # Upper layers look more and more like the last one, so that some steps commit before it.
    logits[:, 3:-1] += 3 * logits[:, -1:] * torch.tensor([0.3, 1.0]).reshape(1, 2, 1)
    emitted = logits[:, -1].topk(2).indices[torch.arange(STEPS), torch.arange(STEPS) % 2]
    return logits, emitted


def read(observables, logits, emitted):
    """Values of observables of the lens, [layer, step] or [step], from logits [step, layer, V]."""
    statistics = statistics_from_logits(logits, emitted)
    inputs = {name: values.transpose(0, 1) for name, values in statistics.items()}
    return evaluate(observables, inputs | {"layers": LAYERS, "n_blocks": N_BLOCKS})


def transformed(kind, hidden):
    if kind == "rotation":
        return hidden @ torch.linalg.qr(draw(WIDTH, WIDTH, seed=5)).Q
    if kind == "state_scale":
        return hidden * draw(*hidden.shape[:-1], 1, seed=6).exp()
    return hidden * 7.5 if kind == "common_scale" else hidden + 40 * draw(WIDTH, seed=7)


def changed_logits(kind, logits, emitted):
    if kind == "logit_shift":
        return logits + 20 * draw(*logits.shape[:-1], 1, seed=8), emitted
    if kind == "temperature":
        return logits / 2.7, emitted
    order = torch.randperm(VOCAB, generator=torch.Generator().manual_seed(9))
    return logits[..., order], order.argsort()[emitted]


def same(a, b, tolerance=1e-6):
    return torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("kind", HIDDEN_KINDS)
@pytest.mark.parametrize("one", ON_HIDDEN, ids=lambda o: o.name)
def test_hidden_observables_keep_what_they_declare_and_nothing_else(one, kind):
    before = measured([one], hidden_states())[one.name]
    after = measured([one], transformed(kind, hidden_states()))[one.name]
    assert same(before, after) == (kind in one.keeps)


@pytest.mark.parametrize("kind", LOGIT_KINDS)
@pytest.mark.parametrize("one", ON_LENS, ids=lambda o: o.name)
def test_lens_observables_keep_what_they_declare_and_nothing_else(one, kind):
    logits, emitted = random_logits()
    before = read([one], logits, emitted)[one.name]
    after = read([one], *changed_logits(kind, logits, emitted))[one.name]
    assert before.isfinite().any()
    assert same(before, after) == (kind in one.keeps)


@pytest.mark.parametrize("one", ON_HIDDEN, ids=lambda o: o.name)
def test_lookback_is_enough_and_no_more_than_needed(one):
    whole = measured([one], hidden_states())[one.name]
    for s in range(one.lookback, STEPS):
        part = measured([one], hidden_states()[:, :, s - one.lookback : s + 1])[one.name]
        assert same(part[..., -1], whole[..., s])
    assert not whole[..., : one.lookback].isfinite().any()
    # Nothing after the step, and something of the earliest step it looks back on.
    earlier = hidden_states()
    earlier[:, :, 0] += draw(WIDTH, seed=3)
    moved = [s for s in range(STEPS) if not same(measured([one], earlier)[one.name][..., s], whole[..., s])]
    assert max(moved, default=one.lookback) <= one.lookback


@pytest.mark.parametrize("one", OBSERVABLES, ids=lambda o: o.name)
def test_values_lie_within_bounds_and_are_what_the_dtype_says(one):
    values = torch.cat([everything(one, seed).flatten() for seed in range(5)])
    values = values[~values.isnan()]
    assert len(values) > 0
    if one.bounds is not None:
        assert values.min() >= one.bounds[0] and values.max() <= one.bounds[1]
    if one.dtype == "bool":
        assert set(values.tolist()) <= {0.0, 1.0}
    if one.dtype == "int":
        assert torch.equal(values, values.round())


def everything(one, seed=0, dtype=torch.float64):
    if one in ON_HIDDEN:
        return measured([one], hidden_states(seed).to(dtype))[one.name]
    logits, emitted = random_logits(seed)
    return read([one], logits.to(dtype), emitted)[one.name]


@pytest.mark.parametrize("one", OBSERVABLES, ids=lambda o: o.name)
def test_float32_in_float32_out_and_close_to_float64(one):
    single, double = everything(one, dtype=torch.float32), everything(one)
    assert single.dtype == torch.float32
    assert same(single, double, 1e-3)


@pytest.mark.parametrize("one", ON_HIDDEN, ids=lambda o: o.name)
def test_hidden_nan_in_nan_out(one):
    h = hidden_states()
    h[0, :, 2] = math.nan
    values, clean = measured([one], h)[one.name], measured([one], hidden_states())[one.name]
    assert values[0, ..., 2].isnan().all()
    touched = range(2, 3 + one.lookback)
    others = [s for s in range(STEPS) if s not in touched]
    assert same(values[0][..., others], clean[0][..., others])
    assert same(values[1], clean[1])


@pytest.mark.parametrize("one", ON_LENS, ids=lambda o: o.name)
def test_lens_nan_in_nan_out(one):
    logits, emitted = random_logits()
    clean = read([one], logits, emitted)[one.name]
    logits[2] = math.nan
    values = read([one], logits, emitted)[one.name]
    assert values[..., 2].isnan().all()
    others = [s for s in range(STEPS) if s != 2]
    assert same(values[..., others], clean[..., others])


@pytest.mark.parametrize("steps", [0, 1])
def test_empty_and_one_step(steps):
    values = measured(ON_HIDDEN, hidden_states()[:, :, :steps])
    assert all(v.shape == (2, N_BLOCKS + 1, steps) for v in values.values())
    logits, emitted = random_logits()
    values = read(ON_LENS, logits[:steps], emitted[:steps])
    for one in ON_LENS:
        assert values[one.name].shape == ((N_BLOCKS + 1, steps) if one.per == "layer" else (steps,))


def test_batch_equals_loop():
    both = measured(ON_HIDDEN, hidden_states())
    for run in range(2):
        alone = measured(ON_HIDDEN, hidden_states()[run])
        assert all(same(alone[name], both[name][run], 1e-12) for name in both)
    logits, emitted = random_logits()
    both = read(ON_LENS, logits, emitted)
    for s in range(STEPS):
        alone = read(ON_LENS, logits[s : s + 1], emitted[s : s + 1])
        assert all(same(alone[name][..., 0], both[name][..., s], 1e-12) for name in both)


@pytest.mark.parametrize("module", [trajectory, depth, distribution], ids=lambda m: m.__name__)
def test_every_declared_function_is_in_the_list(module):
    declared = {f.observable for f in vars(module).values() if inspect.isfunction(f) and hasattr(f, "observable")}
    assert declared <= set(OBSERVABLES)


def test_names_are_unique_and_the_lists_are_a_partition():
    names = [o.name for o in OBSERVABLES]
    assert len(set(names)) == len(names)
    assert set(DEFAULT) | set(EXTENDED) == set(OBSERVABLES)
    assert not set(DEFAULT) & set(EXTENDED)
    assert all(o.fn.__name__ == o.name for o in OBSERVABLES)


@pytest.mark.parametrize("one", OBSERVABLES, ids=lambda o: o.name)
def test_docstrings_say_unit_undefined_values_and_source(one):
    for word in ("Source:", "Moves with" if one.name not in ("rank", "agrees") else "Keeps:"):
        assert word in one.fn.__doc__, f"{one.name} does not say {word}"
    assert one.summary.endswith(".")


@pytest.mark.parametrize("one", ON_LENS, ids=lambda o: o.name)
def test_lens_observables_ask_only_for_lens_statistics(one):
    assert base_inputs((one,)) <= set(LENS_STATISTICS) | {"layers", "n_blocks"}


def test_by_name_keeps_the_order_and_suggests():
    assert [o.name for o in by_name(["rank", "frozen"])] == ["rank", "frozen"]
    with pytest.raises(UnknownNameError, match="Did you mean 'entropy'"):
        by_name(["entropi"])


def test_a_wrong_declaration_is_refused():
    with pytest.raises(InputError, match="keeps names"):
        observable(axis="step", unit="1", keeps={"everything"})
    with pytest.raises(InputError, match="no docstring"):
        observable(axis="step", unit="1")(lambda hidden: hidden)
