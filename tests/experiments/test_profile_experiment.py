"""Profiles over a run on planted instability: what rises is rising, what is even is flat, and debt counts bursts."""

import math

import numpy as np
import planted
import pytest

from phaselens.experiments.profile import analyse_profile

SHAPE = (16, 72, 2, 12)


def build(make, *, calibration=4, steps=72):
    g = np.random.default_rng(0)
    ct = make(1 + 0.1 * g.random((SHAPE[0], steps, SHAPE[2])), g)
    ct[:, :2] = np.nan
    logits = planted.logits(g, shape=(SHAPE[0], steps, *SHAPE[2:]))
    return planted.panel([planted.model("m", logits, g, ct=ct, n_prompts=8, calibration=calibration)])


def rows(panel, table="profile_models"):
    found = analyse_profile(panel).tables[table].to_pylist()
    return {r["layer_choice"]: r for r in found} if table == "profile_models" else found


def burst(ct, g):
    ct[:8, 50] += 9.0  # in measured runs only: the last ones are for calibration
    return ct


def test_even_runs_are_flat_and_rising_runs_rise_with_tension():
    even = rows(build(lambda ct, g: ct))["l*"]
    assert even["kind"] == "flat" and even["contrast_lo"] < 0 < even["contrast_hi"] and even["tension"] == 0
    rising = rows(build(lambda ct, g: ct * np.linspace(1, 3, ct.shape[1])[None, :, None]))["l*"]
    assert rising["kind"] == "rising" and rising["tension"] == 1 and rising["segment_4"] > 1.3 > rising["segment_1"]


def test_debt_is_what_lies_above_the_calibration_threshold():
    plain, bursty = rows(build(lambda ct, g: ct))["l*"], rows(build(burst))["l*"]
    assert plain["debt"] < 0.01 < bursty["debt"] and bursty["debt_lo"] <= bursty["debt"] <= bursty["debt_hi"]
    assert bursty["tau"] == pytest.approx(plain["tau"])
    assert {r["layer_choice"] for r in rows(build(burst), "profile_runs")} == {"l*", "L"}


def test_without_calibration_or_with_short_runs_it_is_undefined_and_says_why():
    bare = rows(build(lambda ct, g: ct, calibration=0))["l*"]
    assert math.isnan(bare["tau"]) and math.isnan(bare["debt"]) and bare["kind"]
    short = rows(build(lambda ct, g: ct, steps=20))["l*"]
    assert short["kind"] == "" and "32 steps" in short["reason"] and math.isnan(short["tension"])
