"""Arms answer the same questions; a threshold no run reaches changes nothing; who acts pays in tokens."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.batteries import Prompt
from phaselens.errors import InputError, UnknownNameError
from phaselens.experiments.dynamic_control import dynamic, rows_of
from phaselens.interventions.dynamic_control import (
    ControlPlan,
    calibrate,
    control,
    natural_asked,
    own_asked,
    world_questions,
)
from phaselens.organisms import load


@pytest.fixture(scope="module")
def model():
    return load("organism:llama-512")


@pytest.fixture(scope="module")
def asked():
    return world_questions(12)


def test_every_arm_answers_every_question_and_the_monitor_pays_for_what_it_throws_away(model, asked):
    questions, texts = asked
    plan = ControlPlan(max_new_tokens=8, quantile=0.8, directions=3, steered=6)
    made = control(model, questions, texts[:24], plan)
    assert set(made.right) == {"none", "again", "cool", "guard", "monitor", "both", "random"}
    assert all(len(v) == 12 for part in (made.right, made.ct, made.tokens, made.triggered) for v in part.values())
    acted = made.triggered["monitor"]
    assert 0 < acted.sum() and not made.triggered["none"].any() and made.identity == 0
    assert (made.tokens["monitor"][acted] > 8).all() and (made.tokens["monitor"][~acted] == 8).all()
    assert np.array_equal(made.right["monitor"][~acted], made.right["none"][~acted])
    assert made.triggered["random"].sum() == acted.sum()
    assert made.steered.shape == (6,) and made.random_steered.shape == (3, 6) and np.isfinite(made.turbulence).all()
    rows = {r["arm"]: r for r in rows_of(made, 0)}
    assert rows["monitor"]["extra_tokens"] > 0 and rows["guard"]["extra_tokens"] == 0
    assert dynamic([made], 0).n == 6


@pytest.mark.parametrize("action", ["temperature", "steer"])
def test_other_actions_leave_runs_that_do_not_trigger_as_they_are(model, asked, action):
    questions, texts = asked
    plan = ControlPlan(action=action, max_new_tokens=6, quantile=0.9, directions=2, steered=2)
    made = control(model, [replace(q, guarded="") for q in questions[:4]], texts[:24], plan)
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


def test_the_guard_is_a_solved_item_of_the_same_kind_that_is_never_asked(asked):
    questions, texts = world_questions(200)
    for q in questions:
        head, _, item = q.text.partition("\n")
        first, shown, last = q.guarded.split("\n")[0], q.guarded.split("\n")[1:-1], q.guarded.split("\n")[-1]
        assert first == head and len(shown) == 1 and last == item and shown[0] != item
    assert not {q.text for q in questions} & set(texts)


def test_questions_for_models_of_natural_text_and_of_an_own_battery():
    questions, texts = natural_asked(10)
    assert len(questions) == 10 and texts and all(q.lenient and q.guarded.endswith(q.text) for q in questions)
    with pytest.raises(InputError, match="there are 100"):
        natural_asked(720)
    prompts = [Prompt("a", "1 + 1 =", "sums", "2"), Prompt("b", "Once", "open")]
    assert [q.id for q in own_asked(prompts, ["x"], 5)[0]] == ["a"]
    more = [Prompt(f"{kind}{i}", "?", kind, "1") for kind in ("sums", "facts") for i in range(3)]
    assert [q.id for q in own_asked(more, ["x"], 4)[0]] == ["sums0", "facts0", "sums1", "facts1"]  # in rounds
    with pytest.raises(InputError, match="no prompt of the battery has an answer"):
        own_asked(prompts[1:], ["x"], 5)
