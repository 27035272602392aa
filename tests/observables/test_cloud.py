"""Clouds: closed forms of known spectra, manifolds of known dimension, independent implementations, invariances."""

import inspect
import math

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from phaselens.errors import InputError
from phaselens.observables import CLOUD, OBSERVABLES, base_inputs, cloud, evaluate
from phaselens.observables.cloud import windows

BLOCKS, STEPS, WIDTH = 4, 70, 32
NAMES = {one.name: one for one in CLOUD}


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def measured(hidden, *names, **settings):
    observables = [NAMES[n] for n in names] or CLOUD
    layers = torch.arange(hidden.shape[-3])
    return evaluate(observables, {"hidden": hidden, "layers": layers, "n_blocks": len(layers) - 1}, settings)


def one(points, name, normalisation="raw", **settings):
    if name != "anisotropy":
        settings["normalisation"] = normalisation
    return measured(torch.as_tensor(points, dtype=torch.float64)[None], name, **settings)[name][0].item()


def embedded(points, seed=3, width=64):
    """Points [n, k] in a random subspace of 64 dimensions, shifted."""
    frame = torch.linalg.qr(draw(width, width, seed=seed)).Q[: points.shape[-1]]
    return torch.as_tensor(points) @ frame + draw(width, seed=seed + 1)


def spectrum(points):
    return np.linalg.eigvalsh(np.cov(np.asarray(points).T))[::-1].clip(0)


def test_equal_axes_fill_as_many_dimensions_as_there_are():
    for k in (1, 3, 8):
        points = torch.cat((torch.eye(k), -torch.eye(k)))
        assert one(embedded(points.double()), "effective_rank") == pytest.approx(k)
        assert one(embedded(points.double()), "participation_ratio") == pytest.approx(k)


def test_spectral_measures_equal_those_of_the_covariance():
    points = draw(90, 20) * torch.linspace(0.1, 3, 20)
    e = spectrum(points)
    q = e / e.sum()
    assert one(points, "participation_ratio") == pytest.approx(e.sum() ** 2 / (e**2).sum())
    assert one(points, "effective_rank") == pytest.approx(np.exp(-(q * np.log(q)).sum()))
    assert one(points, "participation_ratio") < one(points, "effective_rank") < 20
    centred = points.numpy() - points.numpy().mean(0)
    assert one(points, "radius_of_gyration") == pytest.approx(np.sqrt((centred**2).sum(1).mean()))


def test_mean_cosine_equals_the_mean_over_pairs():
    points = draw(30, 12) + 0.7
    cosine = torch.nn.functional.cosine_similarity(points[:, None], points[None], dim=-1)
    assert one(points, "anisotropy") == pytest.approx(cosine[~torch.eye(30, dtype=torch.bool)].mean().item())
    assert abs(one(draw(400, 64), "anisotropy")) < 0.005
    assert one(torch.ones(5, 3) * torch.arange(1.0, 6)[:, None], "anisotropy") == pytest.approx(1.0)
    assert one([[1.0, 0.0], [-2.0, 0.0]], "anisotropy") == pytest.approx(-1.0)


def two_nn(points):
    """TwoNN by a k-d tree and least squares; nothing shared with ours but the paper."""
    near = cKDTree(points).query(points, 3)[0]
    mu = np.sort(near[:, 2] / near[:, 1])
    share = np.arange(1, len(mu) + 1) / len(mu)
    keep = int(np.floor(0.9 * len(mu)))
    x, y = np.log(mu[:keep, None]), -np.log(1 - share[:keep])
    return np.linalg.lstsq(x, y, rcond=None)[0][0]


@pytest.mark.parametrize("n", [64, 65, 300])
@pytest.mark.parametrize("k", [1, 2, 5, 10])
def test_intrinsic_dimension_equals_an_independent_implementation(k, n):
    points = embedded(draw(n, k, seed=n + k))
    assert one(points, "intrinsic_dimension") == pytest.approx(two_nn(points.numpy()), rel=1e-6)


@pytest.mark.parametrize("shape", ["cube", "gaussian"])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_intrinsic_dimension_of_manifolds_of_known_dimension(k, shape):
    points = draw(1500, k, seed=k)
    if shape == "cube":
        points = torch.special.ndtr(points)
    assert one(embedded(points), "intrinsic_dimension") == pytest.approx(k, rel=0.12)
    if k == 1:  # A helix has the dimension of a line, though it fills three directions.
        turn = 3 * math.pi * points[:, 0]
        helix = torch.stack((turn.cos(), turn.sin(), 0.2 * turn), -1)
        assert one(embedded(helix), "intrinsic_dimension") == pytest.approx(1, rel=0.12)
        assert one(embedded(helix), "effective_rank") > 1.9


def test_at_64_points_the_dimension_is_right_on_average_and_its_spread_is_what_the_docstring_says():
    clouds = torch.stack([embedded(draw(64, 3, seed=s)) for s in range(200)])[:, None]
    values = measured(clouds, "intrinsic_dimension", normalisation="raw")["intrinsic_dimension"]
    assert values.mean() == pytest.approx(3, rel=0.08)
    assert values.std() / values.mean() == pytest.approx(0.14, abs=0.03)


def test_too_few_points_have_no_dimension_and_doubled_points_count_as_none():
    assert math.isnan(one(draw(63, 8), "intrinsic_dimension"))
    points = draw(66, 8)
    points[1] = points[0]
    assert not math.isnan(one(points, "intrinsic_dimension"))
    points[3] = points[2]
    assert not math.isnan(one(torch.cat((points, draw(2, 8, seed=5))), "intrinsic_dimension"))
    points[5] = points[4]
    assert math.isnan(one(points, "intrinsic_dimension"))


def test_one_point_fills_no_dimension_and_one_state_is_no_cloud():
    still = draw(1, WIDTH).expand(40, WIDTH).float()
    for name in ("effective_rank", "participation_ratio"):
        assert math.isnan(one(still, name)) and math.isnan(one(still[:1], name))
    assert one(still, "radius_of_gyration") == 0 and math.isnan(one(still[:1], "radius_of_gyration"))
    assert math.isnan(one(still[:1], "anisotropy"))


def test_a_chain_by_hand():
    """Means (1,0), (0,1), (-1,0): links of length sqrt 2 and angle pi/2, whole of length 2 and angle pi."""
    chain = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    hidden = torch.stack((chain, chain), 1) * torch.tensor([0.5, 1.5], dtype=torch.float64)[:, None]
    found = measured(hidden, "coe_r", "coe_c")
    share = math.sqrt(2) / 2
    assert found["coe_r"].item() == pytest.approx(share - 0.5)
    assert found["coe_c"].item() == pytest.approx(share)  # equal links: the mean of equal complex numbers
    part = {"hidden": hidden[1:], "layers": torch.tensor([1, 2]), "n_blocks": 2}
    assert evaluate([NAMES["coe_r"]], part)["coe_r"].isnan()


def test_a_chain_against_a_loop_in_plain_numpy():
    hidden = draw(6, 9, 20) + 0.5
    m = hidden.mean(1).numpy()

    def angle(a, b):
        return math.acos(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    length = [np.linalg.norm(m[i + 1] - m[i]) / np.linalg.norm(m[5] - m[0]) for i in range(5)]
    turn = [angle(m[i + 1], m[i]) / angle(m[5], m[0]) for i in range(5)]
    found = measured(hidden, "coe_r", "coe_c")
    assert found["coe_r"].item() == pytest.approx(np.mean(length) - np.mean(turn))
    expected = abs(np.mean([r * np.exp(1j * a) for r, a in zip(length, turn, strict=True)]))
    assert found["coe_c"].item() == pytest.approx(expected)


def states(seed=0):
    return draw(2, BLOCKS + 1, STEPS, WIDTH, seed=seed) + draw(BLOCKS + 1, 1, WIDTH, seed=seed + 50)


def transformed(kind, hidden):
    if kind == "rotation":
        return hidden @ torch.linalg.qr(draw(WIDTH, WIDTH, seed=5)).Q
    if kind == "state_scale":
        return hidden * draw(*hidden.shape[:-1], 1, seed=6).exp()
    return hidden * 7.5 if kind == "common_scale" else hidden + 40 * draw(WIDTH, seed=7)


@pytest.mark.parametrize("kind", ["rotation", "state_scale", "common_scale", "translation"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared_is_kept_and_nothing_else(name, kind):
    before, after = measured(states(), name)[name], measured(transformed(kind, states()), name)[name]
    assert before.isfinite().all()
    assert torch.allclose(before, after, rtol=1e-6) == (kind in NAMES[name].keeps)


def test_order_of_steps_does_not_matter_and_padding_is_left_out():
    whole = measured(states())
    shuffled = measured(states()[:, :, torch.randperm(STEPS, generator=torch.Generator().manual_seed(0))])
    padding = torch.full((2, BLOCKS + 1, 5, WIDTH), math.nan, dtype=torch.float64)
    padded = measured(torch.cat((states()[:, :, :9], padding, states()[:, :, 9:]), 2))
    for name in NAMES:
        assert torch.allclose(whole[name], shuffled[name]) and torch.allclose(whole[name], padded[name])


@pytest.mark.parametrize("name", NAMES)
def test_bounds_shapes_dtype_and_batch(name):
    declared, values = NAMES[name], measured(states(), name)[name]
    assert values.shape == ((2, BLOCKS + 1) if declared.per == "run_layer" else (2,))
    if declared.bounds:
        assert values.min() >= declared.bounds[0] and values.max() <= declared.bounds[1]
    single = measured(states().float(), name)[name]
    assert single.dtype == torch.float32 and torch.allclose(single.double(), values, rtol=1e-4)
    assert torch.allclose(measured(states()[1], name)[name], values[1])
    for few in (0, 1):
        assert not measured(states()[:, :, :few], name)[name].isfinite().any() or declared.per == "run"


def test_windows_are_cut_one_after_the_other():
    hidden = states()
    cut = windows(hidden, size=30)
    assert cut.shape == (2, BLOCKS + 1, 2, 30, WIDTH) and torch.equal(cut[:, :, 1], hidden[:, :, 30:60])
    found = evaluate([NAMES["effective_rank"]], {"hidden": cut})["effective_rank"]
    assert torch.allclose(found[:, :, 1], measured(hidden[:, :, 30:60], "effective_rank")["effective_rank"])
    assert windows(hidden).shape[2] == 1 and windows(hidden[:, :, :5]).shape == (2, BLOCKS + 1, 0, 64, WIDTH)
    with pytest.raises(InputError):
        windows(hidden, size=0)


def test_declared_functions_are_listed_and_say_what_they_must():
    declared = {f.observable for f in vars(cloud).values() if inspect.isfunction(f) and hasattr(f, "observable")}
    assert declared == set(CLOUD) and not set(CLOUD) & set(OBSERVABLES)
    for measure in CLOUD:
        assert "Source:" in measure.fn.__doc__ and "Moves with" in measure.fn.__doc__
        assert measure.lookback is None and base_inputs((measure,)) <= {"hidden", "layers", "n_blocks"}
