"""One step at a time gives the numbers of the general path, on ordinary states and on odd ones."""

import numpy as np
import pytest
import torch

from phaselens.observables import DEPTH, TRAJECTORY, evaluate
from phaselens.observables.stepwise import STEPWISE, StepGeometry

BOTH = TRAJECTORY + DEPTH


def reference(hidden, layers, n_blocks):
    """The general path on whole runs: hidden [run, step, layer, d] -> {name: [run, step, layer]}."""
    whole = torch.tensor(hidden).transpose(1, 2)
    found = evaluate(BOTH, {"hidden": whole, "layers": torch.tensor(layers), "n_blocks": n_blocks})
    return {name: values.transpose(1, 2).numpy() for name, values in found.items()}


def stepped(hidden, layers, n_blocks, names=tuple(STEPWISE)):
    geometry = StepGeometry(names, layers, n_blocks)
    runs = np.arange(len(hidden))
    rows = [geometry.push(runs, np.full(len(runs), s), hidden[:, s]) for s in range(hidden.shape[1])]
    return {name: np.stack([row[name] for row in rows], 1) for name in names}


def agree(one, other, limit=3e-5):
    for name in one:
        assert one[name].dtype == np.float32 and np.array_equal(np.isnan(one[name]), np.isnan(other[name])), name
        ends = np.isinf(other[name])
        assert np.array_equal(one[name][ends], other[name][ends]), name
        gap = np.abs(one[name][~ends] - other[name][~ends]) / np.maximum(1, np.abs(other[name][~ends]))
        assert np.nanmax(gap, initial=0) < limit, (name, np.nanmax(gap))


def drawn(n_layers, *, runs=3, steps=12, width=64, seed=0):
    return np.random.default_rng(seed).standard_normal((runs, steps, n_layers, width)).astype(np.float32)


def test_the_names_and_lookbacks_are_those_declared():
    assert {one.name: one.lookback for one in BOTH} == STEPWISE


@pytest.mark.parametrize(
    ("layers", "n_blocks"), [((0, 1, 2, 3, 4, 5), 5), ((0, 1, 2, 3), 3), ((1, 2, 5, 6, 7), 7), ((4,), 4), ((3, 4), 4)]
)
def test_all_layers_some_layers_and_shallow_models(layers, n_blocks):
    hidden = drawn(len(layers))
    agree(stepped(hidden, layers, n_blocks), reference(hidden, list(layers), n_blocks))


def test_odd_states():
    hidden = drawn(5, steps=16)
    hidden[0, 4:8] = hidden[0, 4]  # stands still
    hidden[0, 9] = hidden[0, 8] * 3  # only its norm moves
    hidden[1, 5, 2] = 0  # no direction
    hidden[1, 9, 3, 7] = 4e5  # a massive dimension
    hidden[2, 3:6, :, 11] = 150  # large, but not massive
    hidden[2, 8, 2] = hidden[2, 8, 1]  # a block that adds nothing
    hidden[2, 12] *= 1e-6
    found, wanted = stepped(hidden, range(5), 4), reference(hidden, list(range(5)), 4)
    # float32 angles of nearly straight lines are good to 4e-4 (see `turning_angle`).
    agree(found, wanted, 5e-4)
    assert found["frozen"][0, 5].all() and found["zero_step"][0, 5].all() and not found["frozen"][0, 8].any()
    assert found["log_rms_core"][1, 9, 3] < found["log_rms"][1, 9, 3] - 5


def test_runs_that_come_go_or_miss_a_step_begin_anew():
    hidden = drawn(5, steps=6)
    geometry = StepGeometry(("instability", "step_length"), range(5), 4)
    runs = np.array([7, 8, 9])
    for s in range(3):
        before = geometry.push(runs, np.full(3, s), hidden[:, s])
    found = geometry.push(np.array([9, 5]), np.array([3, 0]), hidden[[2, 0], 3])
    wanted = reference(hidden, list(range(5)), 4)
    assert np.allclose(found["instability"][0], wanted["instability"][2, 3], atol=1e-5)
    assert np.isnan(found["step_length"][1]).all() and not np.isnan(before["instability"]).any()
    gone = geometry.push(np.array([9, 5]), np.array([5, 1]), hidden[[2, 0], 4])
    assert np.isnan(gone["step_length"][0]).all() and np.isnan(gone["instability"]).all()
    assert not np.isnan(gone["step_length"][1]).any()
