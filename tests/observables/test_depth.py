"""Geometry along depth: the same closed forms, and neighbours that were not recorded."""

import math

import pytest
import torch

from phaselens.observables import DEPTH, by_name, evaluate


def measured(name, points, layers=None, n_blocks=None, **settings):
    """One observable of states `points` [layer, d_model] at one step, over layers."""
    hidden = torch.as_tensor(points, dtype=torch.float64).unsqueeze(1)
    layers = torch.arange(len(points)) if layers is None else torch.tensor(layers)
    inputs = {"hidden": hidden, "layers": layers, "n_blocks": n_blocks or len(points) - 1}
    return evaluate(by_name([name]), inputs, settings)[name][:, 0]


def points(n=7, d=12, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 3


def test_a_great_circle_along_depth():
    angle = torch.arange(6, dtype=torch.float64) * 0.4
    circle = torch.stack((angle.cos(), angle.sin()), -1) * torch.linspace(1, 90, 6, dtype=torch.float64)[:, None]
    step = 2 * math.sin(0.2)
    assert torch.allclose(measured("depth_step", circle)[1:], torch.tensor(step, dtype=torch.float64))
    assert torch.allclose(measured("depth_angle", circle)[2:], torch.tensor(0.4, dtype=torch.float64))
    assert torch.allclose(measured("depth_instability", circle)[2:], torch.tensor(0.4 * step, dtype=torch.float64))
    assert torch.allclose(measured("coherence", circle)[:-1], torch.tensor(math.cos(0.4), dtype=torch.float64))


def test_depth_is_the_step_geometry_of_the_transposed_states():
    states = points()
    along = evaluate(by_name(["instability"]), {"hidden": states.unsqueeze(0)})["instability"][0]
    assert torch.allclose(measured("depth_instability", states), along, equal_nan=True)


@pytest.mark.parametrize("normalisation", ["unit", "raw"])
def test_cosines_are_those_of_the_raw_states(normalisation):
    h = points()
    cosine = torch.nn.functional.cosine_similarity
    found = measured("coherence", h, normalisation=normalisation)
    assert torch.allclose(found[:-1], cosine(h[1:], h[:-1], -1))
    added = h[1:] - h[:-1]
    found = measured("state_sync", h, normalisation=normalisation)
    assert torch.allclose(found[1:-1], cosine(added[1:], added[:-1], -1))


def test_state_sync_of_blocks_that_add_the_same_or_take_it_back():
    line = torch.tensor([[1.0, 0.0], [2.0, 1.0], [3.0, 2.0], [2.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    assert torch.allclose(measured("state_sync", line)[1:-1], torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64))


def test_state_sync_keeps_digits_when_blocks_add_little():
    """In float32, with additions a thousandth of the state, as in the middle of a deep model."""
    draw = torch.Generator().manual_seed(1)
    start, added = torch.randn(64, generator=draw) * 30, torch.randn(6, 64, generator=draw) * 0.03
    h = torch.cat((start[None], start + added.cumsum(0)))
    exact = torch.nn.functional.cosine_similarity((h[1:] - h[:-1]).double()[1:], (h[1:] - h[:-1]).double()[:-1], -1)
    inputs = {"hidden": h.unsqueeze(1), "layers": torch.arange(7), "n_blocks": 6}
    found = evaluate(by_name(["state_sync"]), inputs)["state_sync"][1:-1, 0]
    assert (found - exact).abs().max() < 1e-3


def test_undefined_ends():
    h = points()
    for name, below, above in (
        ("depth_step", 1, 0),
        ("depth_angle", 2, 0),
        ("depth_instability", 2, 0),
        ("coherence", 0, 1),
        ("state_sync", 1, 1),
    ):
        defined = measured(name, h).isfinite().tolist()
        assert defined == [False] * below + [True] * (len(h) - below - above) + [False] * above


def test_a_layer_that_was_not_recorded_has_no_neighbour():
    h, layers = points(6), [0, 1, 2, 4, 5, 6]
    defined = {name: measured(name, h, layers, 6).isfinite().tolist() for name in ("depth_step", "coherence")}
    assert defined["depth_step"] == [False, True, True, False, True, True]
    assert defined["coherence"] == [True, True, False, True, True, False]
    assert measured("depth_angle", h, layers, 6).isfinite().tolist() == [False, False, True, False, False, True]
    assert measured("state_sync", h, layers, 6).isfinite().tolist() == [False, True, False, False, True, False]


def test_shallow_models_have_no_depth_geometry_but_cosines():
    h = points(4)
    assert measured("depth_step", h).isnan().all()
    assert measured("coherence", h)[:-1].isfinite().all()


def test_one_recorded_layer_is_enough_to_run():
    for one in DEPTH:
        assert measured(one.name, points(1), [6], 6).isnan().all()
