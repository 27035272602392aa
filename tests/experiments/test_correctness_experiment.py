import numpy as np
import pytest
from tests.experiments.graded_panel import graded_model, graded_panel

from phaselens.claims import claims_by_id, judge
from phaselens.experiments import Panel, experiments_by_name
from phaselens.experiments.correctness import CORRECTNESS, analyse_correctness, correctness_evidence
from phaselens.validity.simulated_answers import Links
from phaselens.validity.simulated_answers import graded_model as model_with


def known_by_text(states, **size):
    return model_with("m", np.random.default_rng(5), difficulty=1.0, states=states, **size)


def verdicts(panel, *ids):
    ids = ids or CORRECTNESS.claims
    found = correctness_evidence(panel, ids)
    return {c.id: judge(c, found[c.id], found[c.id].p).verdict for c in claims_by_id(ids)}


@pytest.fixture(scope="module")
def nothing():
    return verdicts(graded_panel(1))


@pytest.mark.parametrize(
    ("claim", "planted"),
    [
        ("S1", {"trap": 0.6}),
        ("S2", {"resolves": 2.0}),
        ("S5", {"coherent": 1.0}),
        ("S7", {"hops": 1.0}),
        ("X3", {"regime": 1.0}),
        ("A5", {"grammar": 1.0}),
        ("R5", {"loops": 1.0}),
    ],
)
def test_a_planted_link_is_found_and_its_opposite_or_absence_is_not(nothing, claim, planted):
    assert verdicts(graded_panel(1, **planted), claim) == {claim: "supported"}
    assert nothing[claim] != "supported"


@pytest.mark.parametrize(
    ("claim", "planted"), [("S1", {"trap": -0.6}), ("S2", {"resolves": -2.0}), ("S7", {"hops": -1.0})]
)
def test_the_opposite_rejects(claim, planted):
    assert verdicts(graded_panel(1, **planted), claim) == {claim: "rejected"}


def test_decoupled_is_shown_by_equivalence_and_coupled_rejects(nothing):
    assert nothing["S3"] == "supported"
    assert verdicts(graded_panel(1, unstable=1.0), "S3") == {"S3": "rejected"}


def test_reasoning_goes_with_the_band_over_models_or_against_it():
    near = [2.5, 2.6, 3.0, 3.4, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5]
    right = [0.95, 0.9, 0.8, 0.75, 0.65, 0.55, 0.5, 0.35, 0.25, 0.15]
    small = {"models": 10, "prompts": 60, "calibration": 10, "samples": 1}
    assert verdicts(graded_panel(**small, closeness=near, right=right), "R8") == {"R8": "supported"}
    assert verdicts(graded_panel(**small, closeness=near, right=right[::-1]), "R8") == {"R8": "rejected"}


def test_states_that_know_more_than_text_are_told_from_states_that_do_not():
    told = {"prompts": 200, "samples": 6, "right": 0.5}
    knows, same = (Panel((known_by_text(states, **told),), n_boot=200) for states in (0.6, 0.0))
    assert verdicts(knows, "O3") == {"O3": "supported"} and verdicts(same, "O3")["O3"] in ("rejected", "open")
    bare = graded_panel(1, prompts=20)
    assert verdicts(bare, "O3") == {"O3": "not applicable"}


def test_four_coupled_models_of_opposite_signs_are_not_decoupled():
    planted = {"unstable": [0.6, -0.6, 0.6, -0.6], "prompts": 350, "samples": 1}
    found = correctness_evidence(graded_panel(4, **planted), ("S3",))["S3"]
    (claim,) = claims_by_id(["S3"])
    assert judge(claim, found, found.p).verdict == "rejected" and "tau" in found.beside


@pytest.mark.parametrize("tagged", [False, True])
def test_what_moves_with_the_kind_of_question_is_not_taken_for_a_link(tagged):
    rng = np.random.default_rng(3)
    planted = Links(trap=0.3, coherent=0.5)
    confounded = Panel((model_with("m", rng, planted, kinds=1.0, tagged=tagged),), n_boot=200)
    found = correctness_evidence(confounded, ("S1", "S5"))
    assert all(judge(c, found[c.id], found[c.id].p).verdict != "supported" for c in claims_by_id(("S1", "S5")))
    assert float(found["S1"].beside.split()[-1]) > found["S1"].estimate + 0.1, "without strata it looks like a trap"


def test_too_little_is_open_and_no_grades_do_not_apply():
    few = graded_panel(1, trap=0.6, prompts=60, calibration=20)
    assert verdicts(few, "S1", "S3") == {"S1": "open", "S3": "open"}
    m = graded_model("m", np.random.default_rng(0), prompts=20, calibration=10)
    ungraded = Panel(
        (type(m)(m.info, {k: v for k, v in m.runs.items() if k != "correct"}, m.steps, m.layers),), n_boot=100
    )
    word, found = verdicts(ungraded), analyse_correctness(ungraded)
    assert {word[c] for c in ("S1", "S2", "S3", "S5", "S7", "A5", "R8")} == {"not applicable"} and word["R5"] == "open"
    assert found.tables["correctness"].num_rows == 0 and "graded" in found.notes[0]


def test_the_table_says_what_gains_over_the_best_baseline_and_what_does_not():
    rows = analyse_correctness(graded_panel(1, coherent=1.0, prompts=80)).tables["correctness"].to_pylist()
    by_name = {r["score"]: r for r in rows}
    assert by_name["mean coherence"]["gain_lo"] > 0.1 and by_name["mean coherence"]["auroc"] > 0.8
    assert by_name["mean coherence"]["oriented"] == "turned" and by_name["combined"]["auroc"] > 0.8
    assert by_name["length"]["auroc"] == 0.5 and by_name["mean entropy"]["kind"] == "baseline"
    absent = analyse_correctness(graded_panel(1, prompts=80)).tables
    null = absent["correctness"].to_pylist()
    beyond = [r for r in null if r["kind"] == "dynamics" and r["gain_lo"] > 0]
    assert len(beyond) <= 0.15 * len(null)
    (planted,) = analyse_correctness(graded_panel(1, coherent=1.0, prompts=80)).tables["correctness_chance"].to_pylist()
    (chance,) = absent["correctness_chance"].to_pylist()
    assert "coherence" in planted["best"] and planted["p"] < 0.01 and planted["auroc"] > planted["by_chance_95"]
    assert chance["p"] > 0.05 and chance["by_chance_95"] > 0.55 and chance["n_scores"] > 20
    assert by_name["mean coherence"]["within_lo"] > 0.7
    early = absent["earliness"].to_pylist()
    assert {r["step"] for r in early} == set(range(1, 17))
    assert experiments_by_name(["correctness"])[0].claims == CORRECTNESS.claims
