"""Trajectories whose geometry is known: lines, reversals, polygons, circles, standing still."""

import math

import pytest
import torch

from phaselens.errors import InputError
from phaselens.observables import TRAJECTORY, base_inputs, by_name, evaluate, resolve


def measured(name, points, **settings):
    """One observable over the trajectory `points` [step, d_model], as a list over steps."""
    hidden = torch.as_tensor(points, dtype=torch.float64).reshape(1, 1, len(points), -1)
    return evaluate(by_name([name]), {"hidden": hidden}, settings)[name][0, 0]


def near(values, expected, tolerance=1e-7):
    assert torch.allclose(values, torch.full_like(values, expected), atol=tolerance), values


def polygon(sides, turns=1):
    angle = torch.arange(sides * turns, dtype=torch.float64) * 2 * math.pi / sides
    return torch.stack((angle.cos(), angle.sin(), torch.zeros_like(angle)), -1)


def test_a_straight_line_does_not_turn():
    points = torch.arange(6.0)[:, None] * torch.tensor([[1.0, -2.0, 0.5]]) + 3
    near(measured("turning_angle", points, normalisation="raw")[2:], 0.0)
    assert measured("turning_angle", points)[2:].min() > 1e-3  # on the sphere it does


def test_an_exact_reversal_turns_by_pi():
    points = [[0.0, 0.0], [1.0, 2.0], [0.0, 0.0], [1.0, 2.0]]
    near(measured("turning_angle", points, normalisation="raw")[2:], math.pi)


@pytest.mark.parametrize("sides", [3, 4, 5, 12])
def test_a_regular_polygon_turns_by_its_exterior_angle(sides):
    near(measured("turning_angle", polygon(sides, 2) + 9, normalisation="raw")[2:], 2 * math.pi / sides)


def test_equal_steps_on_a_great_circle():
    # Chords of a unit circle at central angle a: length 2 sin(a/2), and successive chords turn by a.
    angle, points = 0.3, polygon(1, 1)
    s = torch.arange(8, dtype=torch.float64) * angle
    points = torch.stack((s.cos(), s.sin(), 0 * s), -1) * torch.linspace(1, 50, 8, dtype=torch.float64)[:, None]
    near(measured("step_length", points)[1:], 2 * math.sin(angle / 2))
    near(measured("turning_angle", points)[2:], angle)
    near(measured("instability", points)[2:], 2 * math.sin(angle / 2) * angle)


def test_undefined_steps_are_nan():
    points = polygon(7)
    for name, first in (("step_length", 1), ("frozen", 1), ("turning_angle", 2), ("instability", 2), ("log_rms", 0)):
        values = measured(name, points)
        assert values[:first].isnan().all() and values[first:].isfinite().all()


def test_a_still_state_is_frozen_with_angle_zero_and_a_slow_one_is_frozen_only():
    still = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 5e-4], [1.0, 1.0]], dtype=torch.float64)
    assert measured("zero_step", still)[1:].tolist() == [1, 1, 0, 0]
    assert measured("frozen", still)[1:].tolist() == [1, 1, 1, 0]
    # The angle at s = 3 has a zero step before it, the one at s = 4 has none.
    assert measured("turning_angle", still)[2:4].tolist() == [0, 0]
    assert measured("turning_angle", still)[4] > 0
    assert measured("instability", still)[2:4].tolist() == [0, 0]


def test_relative_step_is_the_raw_one_under_both_normalisations():
    points = torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    raw = (points[1:] - points[:-1]).norm(dim=-1) / points[:-1].norm(dim=-1)
    for normalisation in ("unit", "raw"):
        assert torch.allclose(measured("relative_step", points, normalisation=normalisation)[1:], raw)
    near(measured("relative_step", [[1.0, 1.0], [3.0, 3.0]])[1:], 2.0)


def test_short_steps_keep_their_digits():
    """Differences of inner products would lose them: 1 - cos of 1e-4 is below the spacing of float32 at 1."""
    hidden = torch.tensor([[1.0, 0.0], [1.0, 1e-4], [1.0, 2e-4], [1.0, 3e-4]]).reshape(1, 1, 4, 2)
    found = evaluate(by_name(["step_length"]), {"hidden": hidden})["step_length"][0, 0, 1:]
    assert torch.allclose(found, torch.full_like(found, 1e-4), rtol=1e-4)


def test_log_rms_without_massive_dimensions():
    state = torch.ones(1, 1, 2, 64, dtype=torch.float64)
    state[..., 1, 7] = 5000.0
    values = evaluate(by_name(["log_rms", "log_rms_core"]), {"hidden": state})
    near(values["log_rms"][0, 0, 0], 0.0)
    near(values["log_rms"][0, 0, 1], 0.5 * math.log((63 + 5000.0**2) / 64))
    near(values["log_rms_core"][0, 0], 0.0)
    # Large against 100 but not against the median of the state: not massive.
    near(evaluate(by_name(["log_rms_core"]), {"hidden": state * 0 + 500})["log_rms_core"], math.log(500))


def test_forms_of_curvature():
    square = polygon(4, 2)
    near(measured("turning_angle", square, curvature="cosine")[2:], 1.0)
    # Sides of length sqrt 2 at right angles: their difference has length 2.
    near(measured("turning_angle", square, curvature="second_difference")[2:], 2.0)
    lengths = [[0.0, 1.0], [1.0, 1.0], [1.0, 4.0]]
    near(measured("instability", lengths, normalisation="raw")[2:], 3 * math.pi / 2)
    near(measured("instability", lengths, normalisation="raw", incoming=True)[2:], math.pi / 2)


def test_unknown_settings_are_refused():
    with pytest.raises(InputError, match="normalisation 'rms2'"):
        measured("step_length", polygon(4), normalisation="rms2")
    with pytest.raises(InputError, match="curvature 'bent'"):
        measured("turning_angle", polygon(4), curvature="bent")
    with pytest.raises(InputError, match="no wanted observable has the setting"):
        measured("log_rms", polygon(4), window=3)
    with pytest.raises(InputError, match="need \\['hidden'\\]"):
        evaluate(by_name(["step_length"]), {})


def test_shared_results_come_once_and_in_order():
    names = [q.name for q in resolve(TRAJECTORY)]
    assert len(set(names)) == len(names)
    done = {"hidden"}
    for one in resolve(TRAJECTORY):
        assert set(one.needs) <= done
        done.add(one.name)
    assert base_inputs(TRAJECTORY) == {"hidden"}


def test_tortuosity_of_a_line_a_half_circle_and_a_closed_path():
    line = torch.arange(20.0)[:, None] * torch.tensor([[1.0, -2.0, 0.5]]) + 3
    values = measured("tortuosity", line, normalisation="raw")
    assert values[:16].isnan().all()
    near(values[16:], 1.0)
    # 16 chords of a half circle of radius 1: path 32 sin(pi/32), diameter 2.
    angle = torch.arange(17, dtype=torch.float64) * math.pi / 16
    half = torch.stack((angle.cos(), angle.sin()), -1)
    near(measured("tortuosity", half, normalisation="raw")[16:], 16 * math.sin(math.pi / 32))
    # A square walked four times ends where it began, 20 steps do not.
    square = polygon(4, 6)
    assert measured("tortuosity", square)[16:].isnan().all()
    near(measured("tortuosity", polygon(5, 6))[16:], 16.0)
    near(measured("tortuosity", line, normalisation="raw", window=3)[3:], 1.0)


def test_tortuosity_of_a_random_walk_grows_with_the_root_of_the_window():
    """Path about n sigma sqrt(d), distance about sqrt(n) of it: 4 for 16 steps."""
    walk = torch.randn(400, 256, generator=torch.Generator().manual_seed(2), dtype=torch.float64).cumsum(0)
    values = measured("tortuosity", walk, normalisation="raw")[16:]
    assert abs(values.mean() - 4.0) < 0.1


def test_a_calibrated_normalisation_says_where_it_is_made():
    with pytest.raises(InputError, match="needs a calibration"):
        measured("step_length", polygon(4), normalisation="clipped_mad")
