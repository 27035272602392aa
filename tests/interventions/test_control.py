"""Arms answer the same questions; a threshold no run reaches changes nothing; who acts pays in tokens."""

import numpy as np
import pytest

from phaselens.errors import InputError, UnknownNameError
from phaselens.experiments.control import StoredControl, dynamic, rows_of
from phaselens.interventions.control import ControlPlan, calibrate, control, world_questions
from phaselens.organisms import load

GUARD = "Quiz\nQ: Which colour is the sky? A: blue.\n"


@pytest.fixture(scope="module")
def model():
    return load("organism:llama-512")


@pytest.fixture(scope="module")
def asked():
    return world_questions(12)


def test_every_arm_answers_every_question_and_the_monitor_pays_for_what_it_throws_away(model, asked):
    questions, texts = asked
    plan = ControlPlan(max_new_tokens=8, quantile=0.8)
    made = control(model, questions, texts[:24], plan, guard=GUARD)
    assert set(made.right) == {"none", "again", "cool", "guard", "monitor", "both", "random"}
    assert all(len(v) == 12 for part in (made.right, made.ct, made.tokens, made.triggered) for v in part.values())
    acted = made.triggered["monitor"]
    assert 0 < acted.sum() and not made.triggered["none"].any() and made.identity == 0
    assert (made.tokens["monitor"][acted] > 8).all() and (made.tokens["monitor"][~acted] == 8).all()
    assert np.array_equal(made.right["monitor"][~acted], made.right["none"][~acted])
    assert made.triggered["random"].sum() <= acted.sum()
    assert made.steered.shape == (12,) and made.random_steered.shape == (4, 12) and np.isfinite(made.turbulence).all()
    stored = StoredControl(
        "m", made.units, made.identity, made.right, made.ct, made.tokens, made.triggered, made.steered,
        made.random_steered, made.turbulence,
    )  # fmt: skip
    rows = {r["arm"]: r for r in rows_of(stored, 0)}
    assert rows["monitor"]["extra_tokens"] > 0 and rows["guard"]["extra_tokens"] == 0
    assert dynamic(stored, 0).n == 12


@pytest.mark.parametrize("action", ["temperature", "steer"])
def test_other_actions_leave_runs_that_do_not_trigger_as_they_are(model, asked, action):
    questions, texts = asked
    made = control(model, questions[:4], texts[:24], ControlPlan(action=action, max_new_tokens=6, quantile=0.9))
    assert "guard" not in made.right
    still = ~made.triggered["monitor"]
    assert np.array_equal(made.right["monitor"][still], made.right["none"][still])


def test_what_cannot_be_is_refused_with_what_there_is(model, asked):
    with pytest.raises(UnknownNameError, match="steer"):
        ControlPlan(action="stear")
    with pytest.raises(InputError, match="quantile"):
        ControlPlan(quantile=0.2)
    with pytest.raises(InputError, match="layer 9 cannot be watched: llama-512 has 1 to 6"):
        calibrate(model, asked[1], ControlPlan(layer=9))
    with pytest.raises(InputError, match="no questions"):
        control(model, [], asked[1])
    with pytest.raises(InputError, match="there are"):
        world_questions(10**6)
