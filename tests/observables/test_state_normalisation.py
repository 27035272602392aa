"""State normalisations: calibration against NumPy and SciPy, dropped dimensions, and what geometry keeps of each."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from phaselens.errors import InputError, UnknownNameError
from phaselens.observables import by_name, evaluate
from phaselens.observables.state_normalisation import METHODS, fit_normalisation, normalise

LAYERS, STATES, WIDTH = 3, 101, 12


def states(seed=0, n=STATES):
    h = torch.randn(LAYERS, n, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return h * torch.linspace(0.1, 40, WIDTH) + torch.arange(LAYERS)[:, None, None] * 3


def fitted(method, h=None):
    return fit_normalisation(states() if h is None else h, method)


def test_centre_and_scale_are_those_of_numpy_and_scipy():
    h = states().numpy()
    z, mad, rms = fitted("zscore"), fitted("clipped_mad"), fitted("rms")
    np.testing.assert_allclose(z.centre, h.mean(1))
    np.testing.assert_allclose(z.scale, h.std(1, ddof=1))
    np.testing.assert_allclose(mad.centre, np.median(h, 1))
    np.testing.assert_allclose(mad.scale, 1.4826 * stats.median_abs_deviation(h, axis=1))
    np.testing.assert_allclose(rms.scale, np.sqrt((h**2).mean((1, 2)))[:, None] * np.ones((1, WIDTH)))
    assert rms.centre.abs().max() == 0
    assert z.dropped.tolist() == [0, 0, 0] and z.n_states.tolist() == [STATES] * 3


def test_normalised_calibration_states_have_the_moments_that_the_name_says():
    h = states()
    z = normalise(h, fitted("zscore"))
    assert z.mean(1).abs().max() < 1e-12 and (z.std(1) - 1).abs().max() < 1e-12
    assert (normalise(h, fitted("rms")).square().mean((1, 2)) - 1).abs().max() < 1e-12
    assert normalise(h, fitted("clipped_mad")).median(1).values.abs().max() < 1e-12
    assert (normalise(h, fitted("unit")).norm(dim=-1) - 1).abs().max() < 1e-12
    assert normalise(h, fitted("raw")) is h


def test_an_outlier_is_clipped_to_five_and_only_there():
    calibration = fitted("clipped_mad")
    h = states(seed=1)
    h[1, 4, 2] = 1e6
    out = normalise(h, calibration)
    assert out[1, 4, 2] == 5 and out.abs().max() == 5
    assert normalise(h, fitted("zscore"))[1, 4, 2] > 1e3
    inside = (h[0] - calibration.centre[0]) / calibration.scale[0]
    assert torch.equal(out[0][inside.abs() < 5], inside[inside.abs() < 5])


def test_a_dimension_without_spread_falls_back_and_then_is_dropped_and_counted():
    h = states()
    h[0, :, 0] = 7.0  # no spread at all
    h[0, :, 1] = 2.0  # MAD 0, but more than a quarter on each side together: IQR is not
    h[0, : STATES // 3, 1] = torch.arange(STATES // 3, dtype=torch.float64) - 100
    assert stats.median_abs_deviation(h[0, :, 1].numpy()) == 0
    calibration = fitted("clipped_mad", h)
    assert calibration.dropped.tolist() == [1, 0, 0]
    np.testing.assert_allclose(calibration.scale[0, 1], stats.iqr(h[0, :, 1].numpy()) / 1.349)
    assert calibration.scale[0, 0].isnan()
    out = normalise(h + 1, calibration)
    assert (out[0, :, 0] == 0).all() and (out[1, :, 0] != 0).any()
    assert fitted("zscore", h).dropped.tolist() == [1, 0, 0]


def test_states_that_are_not_finite_are_left_out_of_the_fit_and_stay_so():
    h = states()
    h[1, 3, 5] = math.nan
    for method in ("rms", "zscore", "clipped_mad"):
        broken, without = fitted(method, h), fitted(method, torch.cat((h[1:2, :3], h[1:2, 4:]), 1))
        torch.testing.assert_close(broken.scale[1:2], without.scale)
        assert broken.n_states.tolist() == [STATES, STATES - 1, STATES]
        assert normalise(h, broken)[1, 3, 5].isnan() and normalise(h, broken)[0].isfinite().all()
    assert fitted("zscore", states(n=1)).dropped.tolist() == [WIDTH] * 3


def test_what_the_geometry_keeps():
    """z-scores undo scaling and shift of single dimensions; rms undoes one scaling; neither undoes a rotation alike."""
    fit, run, other = states(), states(seed=3, n=30), states(seed=4)[0]
    stretch, shift, turned = torch.linspace(1, 9, WIDTH), other[-1], torch.linalg.qr(other[:WIDTH]).Q

    def ct(method, change):
        made = normalise(change(run), fit_normalisation(change(fit), method))
        return evaluate(by_name(["instability"]), {"hidden": made}, {"normalisation": "raw"})["instability"][:, 2:]

    def same(method, change):
        return torch.allclose(ct(method, lambda h: h), ct(method, change))

    for method in ("zscore", "clipped_mad"):
        assert same(method, lambda h: h * stretch + shift) and not same(method, lambda h: h @ turned)
    assert same("rms", lambda h: 3 * h) and same("rms", lambda h: h @ turned)
    assert not same("rms", lambda h: h * stretch)


def test_wrong_names_and_shapes_are_refused():
    with pytest.raises(UnknownNameError, match="zscore"):
        fitted("zscores")
    with pytest.raises(InputError, match="3 layers of width 12"):
        normalise(states()[..., :4], fitted("zscore"))
    with pytest.raises(InputError, match="layer, state, d_model"):
        fit_normalisation(states()[0], "zscore")


@pytest.mark.parametrize("method", METHODS)
def test_float32_batches_and_pure(method):
    h = states().float()
    before = h.clone()
    out = normalise(h.expand(2, *h.shape), fitted(method, h))
    assert out.dtype == torch.float32 and torch.equal(out[0], normalise(h, fitted(method, h)))
    assert torch.equal(h, before)
