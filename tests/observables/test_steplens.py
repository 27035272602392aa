"""One step at a time gives the numbers of the lens, on ordinary logits and on odd ones."""

import numpy as np
import pytest
import torch

from phaselens.observables import DISTRIBUTION, EXTENDED, base_inputs, by_name, evaluate
from phaselens.observables.lens import largest, statistics_from_logits
from phaselens.observables.steplens import PER_LAYER, PER_STEP, StepLens, ten_largest

BY_NAME = {one.name: one for one in DISTRIBUTION}


def drawn(rows, layers, vocab, *, sharp=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = sharp * torch.randn(rows, layers, vocab, generator=generator)
    return logits, torch.randint(0, vocab, (rows,), generator=generator).numpy()


def reference(logits, emitted, layers, n_blocks):
    """The plain form in float64, through the observables themselves: [row, layer] or [row] by name."""
    statistics = statistics_from_logits(
        logits.double(), torch.from_numpy(emitted), base_inputs(DISTRIBUTION) - NOT_LENS
    )
    inputs = {name: values.transpose(0, 1) for name, values in statistics.items()}
    found = evaluate(DISTRIBUTION, {**inputs, "layers": torch.tensor(layers), "n_blocks": n_blocks})
    return {name: values.movedim(-1, 0).numpy() for name, values in found.items()}


NOT_LENS = frozenset({"layers", "n_blocks"})


def agree(found, wanted, limit=3e-5):
    assert found
    for name, values in found.items():
        assert values.dtype == np.float32 and np.array_equal(np.isnan(values), np.isnan(wanted[name])), name
        gap = np.abs(values - wanted[name]) / np.maximum(1, np.abs(wanted[name]))
        assert np.nanmax(gap, initial=0) < limit, (name, np.nanmax(gap))


def test_all_names_are_known_and_others_are_not():
    assert {*PER_LAYER, *PER_STEP} == set(BY_NAME)
    assert StepLens.knows(DISTRIBUTION) and not StepLens.knows(EXTENDED)


@pytest.mark.parametrize("vocab", [1, 3, 9, 10, 200, 4096, 5001])
@pytest.mark.parametrize("layers", [(0, 1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4, 7, 8), (2, 4), (4,)])
def test_the_numbers_of_the_general_path(vocab, layers):
    n_blocks = max(layers)
    lens = StepLens(DISTRIBUTION, layers, n_blocks)
    for step in range(2):
        logits, emitted = drawn(2, len(layers), vocab, seed=step)
        emitted[1] = -1 if step else emitted[1]
        before = logits.clone()
        of_layers, of_steps = lens.measure(logits, emitted)
        assert torch.equal(logits, before)
        wanted = reference(logits, emitted, layers, n_blocks)
        agree(of_layers, wanted)
        at_output = {n: w[:, -1] for n, w in wanted.items() if n in PER_LAYER}
        agree(of_steps, {**wanted, **at_output})
        assert set(of_layers) == set(PER_LAYER) and set(PER_STEP) < set(of_steps)


def test_odd_logits():
    logits, emitted = drawn(6, 4, 4500)
    logits[0] *= 40  # one token has all the mass
    logits[1] *= 1e-4  # flat
    logits[2, 1] = logits[2, 3]  # a layer that already agrees
    logits[3] += 700  # a shift
    logits[4, 2, 5] = torch.inf  # not finite
    logits[5, :, 9] = logits[5].amax(-1)  # a tie for the first place
    wanted = reference(logits, emitted, (1, 2, 3, 4), 4)
    of_layers, of_steps = StepLens(DISTRIBUTION, (1, 2, 3, 4), 4).measure(logits, emitted)
    fine = [0, 1, 2, 3, 5]
    agree({n: v[fine] for n, v in of_layers.items()}, {n: w[fine] for n, w in wanted.items()}, 3e-4)
    assert np.isnan(of_layers["entropy"][4, 2]) and not np.isnan(of_layers["entropy"][4, [0, 1, 3]]).any()
    assert of_layers["kl_to_final"][2, 1] == 0 and of_layers["agrees"][2, 1] == 1
    assert of_steps["commitment"].shape == (6,)


def test_what_is_not_wanted_is_not_measured():
    logits, emitted = drawn(1, 2, 50)
    of_layers, of_steps = StepLens(by_name(["entropy", "commitment"]), (1, 2), 2).measure(logits, emitted)
    assert list(of_layers) == ["entropy"] and set(of_steps) == {"entropy", "commitment"}


@pytest.mark.parametrize("width", [4, 10, 64, 4096, 4097, 9000])
def test_the_ten_largest_with_ties(width):
    values = np.random.default_rng(0).integers(0, 40, (3, 2, width)).astype(np.float32)
    assert np.array_equal(ten_largest(values), largest(torch.from_numpy(values)).numpy())
