"""X1, X2, X4, S6: each rule with a planted effect and without, and the requirements that keep them open."""

import math
from dataclasses import replace

import numpy as np

from phaselens.claims import claims_by_id, judge
from phaselens.experiments.dynamic_control import (
    change,
    damping,
    dynamic,
    equivalent,
    evidence,
    necessary,
    rows_of,
    semantic,
)
from phaselens.experiments.result_tables import TABLES
from phaselens.interventions.outcome_records import Control

CLAIMS = {c.id: c for c in claims_by_id(["X1", "X2", "X4", "S6"])}
N = 1200


def arm(g, base, flips=0.0, repair=0.0):
    """Right answers of an arm: a share of them drawn anew, and a share of the wrong ones repaired."""
    out = base.copy()
    again = g.random(N) < flips
    out[again] = g.random(int(again.sum())) < base.mean()
    return out | (g.random(N) < repair)


def stored(monitor=0.0, guard=0.0, cool=0.0, steer=0.5, n=N, seed=0, name="m"):
    g = np.random.default_rng(seed)
    base = g.random(N) < 0.5
    turbulence = g.random(N)
    cooled = base.copy()
    cooled[(turbulence > 0.75) & (g.random(N) < cool)] = False
    right = {
        "none": base,
        "again": arm(g, base, 0.05),
        "cool": cooled,
        "guard": arm(g, base, 0.05, guard),
        "monitor": arm(g, base, 0.05, monitor),
        "random": arm(g, base, 0.05),
    }
    plain = 1 + 0.2 * g.standard_normal(N)
    ct = {name: plain + 0.01 * g.standard_normal(N) for name in right} | {"none": plain}
    tokens = {name: np.full(N, 16) for name in right} | {"monitor": np.full(N, 20)}
    units = np.arange(N).astype(str)
    full = Control(
        name,
        "f",
        tuple(units),
        units,
        0.0,
        4,
        1.5,
        1.0,
        "seed",
        right,
        ct,
        tokens,
        {name: np.zeros(N, bool) for name in right},
        plain - steer,
        plain + 0.1 * g.standard_normal((24, N)),
        turbulence,
        in_time={name: np.full(N, name in ("monitor", "random")) for name in right},
    )
    if n == N:
        return full
    parts = ("right", "ct", "tokens", "triggered", "in_time")
    cut = {k: {a: v[:n] for a, v in getattr(full, k).items()} for k in parts}
    return replace(
        full,
        **cut,
        units=full.units[:n],
        steered=full.steered[:n],
        random_steered=full.random_steered[:, :n],
        turbulence=turbulence[:n],
    )


def word(name, found):
    return judge(CLAIMS[name], found, found.p)


def test_x1_a_direction_that_moves_ct_more_than_random_ones():
    assert word("X1", dynamic([stored()], 0)).verdict == "supported"
    assert word("X1", dynamic([stored(steer=0.08)], 0)).verdict in ("rejected", "open")
    assert word("X1", dynamic([replace(stored(), steered=np.zeros(0))], 0)).verdict == "not applicable"
    assert word("X1", dynamic([replace(stored(), identity=1e-4)], 0)).decided_by == "identity null"


def test_x1_a_direction_among_random_ones_is_not_supported_however_many_questions():
    """A direction that moves ct more than most do: the interval over questions excludes 0, its rank does not."""
    one = stored(steer=0.3)
    random = np.abs(np.linspace(0.05, 0.45, 24))[:, None] + one.ct["none"]
    v = word("X1", dynamic([replace(one, random_steered=random)], 0))
    assert v.verdict == "open" and v.decided_by == "random directions"


def test_x2_is_asked_of_every_model():
    alike = [stored(seed=i, name=f"m{i}") for i in range(3)]
    assert word("X2", semantic(alike, 0, dynamic_supported=True)).verdict == "supported"
    v = word("X2", semantic([*alike, stored(monitor=0.14, seed=5, name="odd")], 0, dynamic_supported=True))
    assert v.verdict == "open" and "odd" in v.why


def test_x2_asks_whether_x1_is_supported_and_can_be_supported_itself():
    found = evidence([stored(), stored(seed=1, name="other")], 0)
    assert word("X1", found["X1"]).verdict == "supported" and word("X2", found["X2"]).verdict == "supported"
    still = evidence([stored(steer=0.0)], 0)
    assert word("X2", still["X2"]).decided_by == "X1"


def test_x2_no_repair_is_equivalence_with_enough_questions_only():
    assert word("X2", semantic([stored()], 0, dynamic_supported=True)).verdict == "supported"
    assert word("X2", semantic([stored(monitor=0.3)], 0, dynamic_supported=True)).verdict == "rejected"
    few = word("X2", semantic([stored(n=100)], 0, dynamic_supported=True))
    assert few.verdict == "open" and few.decided_by == "n" and "700" in few.needed
    assert word("X2", semantic([stored()], 0, dynamic_supported=False)).decided_by == "X1"


def test_x2_an_action_after_the_answer_shows_nothing():
    one = stored()
    late = {k: v & (np.arange(N) % 50 == 0) for k, v in one.in_time.items()}
    v = word("X2", semantic([replace(one, in_time=late)], 0, dynamic_supported=True))
    assert v.verdict == "open" and v.decided_by == "answers in time"
    few = {k: v & (np.arange(N) % 15 == 0) for k, v in one.in_time.items()}
    repaired = {**one.right, "monitor": one.right["none"] | few["monitor"]}
    v = word("X2", semantic([replace(one, in_time=few, right=repaired)], 0, dynamic_supported=True))
    assert v.decided_by == "answers in time" and v.verdict == "rejected"


def test_x4_repairs_without_a_fall_of_ct_reject_and_chance_repairs_do_not():
    assert word("X4", necessary([stored(guard=0.3)], 0)).verdict == "rejected"
    assert word("X4", necessary([stored()], 0)).verdict == "open"
    without = stored()
    right = {k: v for k, v in without.right.items() if k != "guard"}
    assert word("X4", necessary([replace(without, right=right)], 0)).verdict == "not applicable"


def test_x4_a_prompt_that_raises_ct_and_repairs_nothing_does_not_reject():
    one = stored()
    ct = {**one.ct, "guard": one.ct["none"] + 0.5}
    v = word("X4", necessary([replace(one, ct=ct)], 0))
    assert v.verdict == "open" and v.decided_by == "guard prompt"


def test_s6_turbulent_answers_that_fall_when_it_is_cool_and_calm_ones_that_do_not():
    assert word("S6", damping([stored(cool=0.6)], 0)).verdict == "supported"
    assert word("S6", damping([stored()], 0)).verdict == "open"


def test_rows_stand_side_by_side_and_say_what_it_costs():
    rows = {r["arm"]: r for r in rows_of(stored(guard=0.3), 0)}
    TABLES["control"].arrow(list(rows.values()))
    assert rows["none"]["change_right"] == 0 and rows["none"]["equivalent"] and rows["monitor"]["equivalent"]
    assert rows["guard"]["right_lo"] > 0.05 and not rows["guard"]["equivalent"]
    assert rows["monitor"]["extra_tokens"] == 0.25


def test_equivalence_at_the_margin():
    g = np.random.default_rng(0)
    units = np.arange(900)
    assert equivalent(change(0.2 * g.standard_normal(900), units, 0))
    assert not equivalent(change(0.05 + 0.2 * g.standard_normal(900), units, 0))
    assert not equivalent(change(g.standard_normal(60), units[:60], 0))
    assert math.isnan(change(np.full(3, np.nan), units[:3], 0).value)
