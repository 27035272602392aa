"""ratio_norm and its companions: closed forms (definitions 1, 9, 14), reasons, labels."""

import math

import numpy as np
import pytest

from phaselens.dynamics.regimes import (
    REGIMES,
    label_of,
    label_shares,
    late_ct,
    panel_cuts,
    published_label,
    q95_over_median,
    ratio_norm,
    ratio_without_first,
    ratio_without_frozen,
    run_mean,
    window_values,
)
from phaselens.errors import InputError


def series(values, before=2, after=0):
    return np.concatenate([np.full(before, np.nan), values, np.full(after, np.nan)])[None]


def test_constant_is_one_and_a_single_value_is_their_number():
    assert ratio_norm(series(np.full(64, 0.3))).value[0] == pytest.approx(1)
    single = np.zeros(64)
    single[5] = 2.0
    assert ratio_norm(series(single)).value[0] == pytest.approx(64)


def test_ratio_lies_between_one_and_the_number_of_values():
    ct = np.abs(np.random.default_rng(0).standard_cauchy((200, 66)))
    ratio = ratio_norm(ct).value
    assert (ratio >= 1).all() and (ratio <= 64).all()
    assert ratio_norm(ct * 1e-4).value == pytest.approx(ratio)


def test_only_the_first_64_values_count():
    values = np.ones(70)
    values[64:] = 100
    assert ratio_norm(series(values)).value[0] == pytest.approx(1)
    assert ratio_norm(series(values), window=32).value[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (np.ones(63), "short: 63 of 64 values"),
        (np.zeros(64), "frozen"),
        (np.full(64, 1e-9), "frozen"),
        (np.full(64, np.nan), "no defined value"),
        (np.r_[np.ones(20), np.nan, np.ones(50)], "an undefined value inside the window"),
        (np.r_[np.ones(20), np.inf, np.ones(50)], "an undefined value inside the window"),
    ],
)
def test_undefined_with_a_reason(values, why):
    ratio = ratio_norm(series(values, after=3))
    assert math.isnan(ratio.value[0]) and ratio.reason == (why,)


def test_a_run_without_steps_is_undefined():
    assert ratio_norm(np.empty((2, 0))).reason == ("no defined value",) * 2
    with pytest.raises(InputError):
        ratio_norm(np.ones(64))


def test_rows_do_not_touch_each_other():
    g = np.random.default_rng(3)
    ct = g.random((5, 72))
    ct[:, :2] = np.nan
    ct[2, 30:] = np.nan
    ct[3, :7] = np.nan
    together = ratio_norm(ct)
    for i in range(5):
        alone = ratio_norm(ct[i : i + 1])
        assert alone.value[0] == pytest.approx(together.value[i], nan_ok=True) and alone.reason[0] == together.reason[i]
    values, _ = window_values(ct)
    assert (values[3] == ct[3, 7:71]).all()


def test_a_first_outlier_makes_the_ratio_and_leaving_it_out_unmakes_it():
    values = np.ones(70)
    values[:2] = 9.0
    assert ratio_norm(series(values)).value[0] == pytest.approx(9 / ((62 + 18) / 64))
    assert ratio_without_first(series(values)).value[0] == pytest.approx(1)
    assert q95_over_median(series(values)).value[0] == pytest.approx(1)


def test_frozen_share_multiplies_the_ratio_and_leaving_it_out_divides():
    g = np.random.default_rng(0)
    values = 1 + g.random(64)
    frozen = np.zeros(64)
    frozen[-16:] = 1
    values[-16:] = 0
    moving = values[:48].max() / values[:48].mean()
    assert ratio_norm(series(values)).value[0] == pytest.approx(moving / (1 - 0.25))
    assert ratio_without_frozen(series(values), series(frozen)).value[0] == pytest.approx(moving)


def test_mostly_frozen_runs_say_so():
    frozen = np.r_[np.zeros(20), np.ones(44)]
    ratio = ratio_without_frozen(series(np.ones(64)), series(frozen))
    assert math.isnan(ratio.value[0]) and ratio.reason == ("frozen in 44 of 64 steps",)


def test_late_ct_is_the_last_quarter_at_least_four():
    assert late_ct(series(np.arange(16.0)))[0] == pytest.approx(13.5)
    assert late_ct(series(np.arange(5.0)))[0] == pytest.approx(2.5)
    assert math.isnan(late_ct(series(np.arange(3.0)))[0])
    assert run_mean(series(np.arange(3.0)))[0] == 1 and math.isnan(run_mean(np.full((1, 2), np.nan))[0])


def test_published_bands_and_midpoints():
    values = np.array([1.3, 1.6, 1.985, 2.6, 2.945, 2.97, 3.694, 3.695, 20, 36, np.nan])
    label, outside = published_label(values)
    assert [REGIMES[i][0] if i >= 0 else "-" for i in label] == list("UUAATTTCCC-")
    assert outside.tolist() == [True] + [False] * 8 + [True, False]


def test_healthy_text_of_small_models_is_nominally_underactive_and_outside():
    # specification 4: ratio_norm 1.30-1.51 measured on healthy text
    label, outside = published_label(np.array([1.30, 1.51]))
    assert (label == 0).all() and outside.all()


def test_panel_labels_are_quarters_of_the_calibration_runs():
    calibration = np.arange(100.0)
    cuts = panel_cuts(calibration)
    assert label_shares(label_of(calibration, cuts)) == pytest.approx((0.25,) * 4)
    assert all(math.isnan(c) for c in panel_cuts(np.array([1.0, np.nan, 2.0, 3.0])))
    assert (label_of(calibration, panel_cuts(np.array([]))) == -1).all()
    assert all(math.isnan(s) for s in label_shares(np.array([-1, -1])))
