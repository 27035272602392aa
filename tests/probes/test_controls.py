"""The control table: each expectation is held against the result, and fails where it is not met."""

import math

import pytest

from phaselens.probes.controls import CONTROLS, judged


def row(name, refit, frozen, **more):
    base = {"control": name, "refit": refit, "frozen": frozen, "unchanged": 0.9, "chance": 0.5, "n_draws": 20}
    for which, value in (("refit", refit), ("frozen", frozen)):
        base |= {f"{which}_lo": value - 0.03, f"{which}_hi": value + 0.03}
    return base | {"bound": math.nan} | more


def held(*rows):
    return [(r["refit_holds"], r["frozen_holds"]) for r in judged(rows)]


def test_every_control_of_states_has_an_expectation_that_is_judged():
    assert all(any(c.must) for c in CONTROLS if c.on == "hidden")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("identity", 0.9, 0.85),
        ("Gaussian, pooled", 0.52, 0.7),
        ("Gaussian, by class", 0.8, 0.6),
        ("feature permutation, per example", 0.6, 0.7),
    ],
)
def test_an_expectation_holds_or_not(name, good, bad):
    assert held(row(name, good, bad, bound=0.65)) == [("yes", "no")]


def test_a_dose_must_fall_and_a_rise_is_seen():
    doses = [row(f"noise {k:g} x RMS", v, 0.5) for k, v in ((0.25, 0.88), (0.5, 0.8), (1, 0.86), (2, 0.6))]
    assert [r for r, _ in held(*doses)] == ["yes", "yes", "no", "yes"]
    # the other kind of noise begins anew at the unchanged states
    assert held(*doses, row("noise 0.25 x feature SD", 0.89, 0.5))[-1] == ("yes", "yes")


def test_what_was_not_run_or_has_too_few_draws_is_not_judged():
    assert held(row("rotation", 0.9, 0.3)) == [("yes", "")]
    assert held(row("rotation", 0.9, 0.3, n_draws=100)) == [("yes", "no")]
    assert held(row("labels permuted", math.nan, math.nan)) == [("", "")]
