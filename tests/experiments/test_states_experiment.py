"""States, motifs and cycles on planted panels: what is there is found, what is not stays open, and reasons are said."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.dynamics.state_alphabets import BIFURCATION, D
from phaselens.experiments import Panel, run_experiments
from phaselens.experiments.cycles import analyse_cycles, cycles_evidence, word_starts
from phaselens.experiments.motifs import analyse_motifs, motifs_evidence, prompt_chains
from phaselens.experiments.state_labels import label_panel
from phaselens.experiments.states import analyse_states, states_evidence
from phaselens.validity import simulated_cycles, simulated_states

NAMES = ("states", "motifs", "cycles")


def drawn(make, seed=0, **settings) -> Panel:
    return make(np.random.default_rng(seed), **settings)


def ruled(evidence, claim):
    (verdict,) = judge_all(claims_by_id([claim]), evidence)
    return verdict


@pytest.fixture(scope="module")
def lasting():
    """D is followed by D with probability .4; every other state is forgotten at once."""
    panel = drawn(simulated_states.with_stay, stay=0.4, m=2)
    return panel, analyse_states(panel)


def test_occupancies_are_the_shares_of_the_planted_states(lasting):
    panel, result = lasting
    planted = label_panel(panel)["m0"].states["bifurcation"]
    rows = [r for r in result.tables["states"].to_pylist() if r["model"] == "m0" and r["threshold"] == "panel"]
    for choice, cells in (("all", planted), ("l*", planted[:, :, 2:3])):
        of = {r["state"]: r for r in rows if r["layer_choice"] == choice and r["alphabet"] == "bifurcation"}
        for i, name in enumerate(BIFURCATION):
            assert of[name]["value"] == pytest.approx((cells == i).sum() / (cells >= 0).sum())
            assert of[name]["lo"] <= of[name]["value"] <= of[name]["hi"]
        grammar = {r["state"]: r["value"] for r in rows if r["layer_choice"] == choice and r["alphabet"] == "grammar"}
        assert grammar["decide"] == of["C_COMMITTED_NO_BIFURCATION"]["value"]
        assert sum(grammar.values()) == pytest.approx(1)
    first = next(r for r in rows if r["state"].startswith("A_"))
    assert (first["published_gpt2"], first["published_opt125m"]) == (0.22, 0.24)
    assert math.isnan(next(r for r in rows if r["state"] == "explore")["published_gpt2"])
    assert first["n_prompts"] == 8 and first["n_runs"] == 16


def test_transitions_are_those_of_the_planted_chain_and_depth_is_another_matter(lasting):
    rows = lasting[1].tables["states_transitions"].to_pylist()
    of = {(r["axis"], r["layer_choice"], r["origin"][0], r["destination"][0]): r for r in rows if r["model"] == "m0"}
    stays, depth = of["generation", "all", "D", "D"], of["depth", "all", "D", "D"]
    assert stays["lo"] < 0.4 < stays["hi"] and stays["excess_lo"] > 0.1
    assert depth["excess_lo"] < 0 < depth["excess_hi"]
    for axis, choice in (("generation", "l*"), ("generation", "all"), ("depth", "all")):
        for k in ("P", "P_order"):
            whole = [of[axis, choice, "A", x][k] for x in "ABCDE"]
            assert sum(whole) == pytest.approx(1)
        out = [of[axis, choice, "A", x] for x in "ABCDE"]
        assert {r["left"] for r in out} == {sum(r["count"] for r in out)}
        assert [r["P"] for r in out] == pytest.approx([r["count"] / r["left"] for r in out])


def test_dwell_times_of_a_geometric_stay_have_its_mean(lasting):
    rows = lasting[1].tables["states_dwell"].to_pylist()
    found = next(
        r for r in rows if (r["model"], r["axis"], r["layer_choice"], r["state"][0]) == ("m0", "generation", "all", "D")
    )
    assert found["mean_length"] == pytest.approx(1 / 0.6, abs=0.2) and found["visits"] > 100


def test_a_state_that_is_left_sooner_than_chance_is_transient_and_one_that_lasts_is_not(lasting):
    assert ruled(lasting[1].evidence, "G8").verdict == "rejected"
    brief = ruled(states_evidence(drawn(simulated_states.with_stay, stay=0.0, m=2)), "G8")
    assert brief.verdict == "supported" and brief.counts["D events"] >= 100 and brief.counts["models below 0"] == 2
    forgetful = ruled(states_evidence(drawn(simulated_states.with_stay, stay=None, m=2)), "G8")
    assert forgetful.verdict == "open"


def test_fewer_than_fifty_events_leave_it_open_whatever_the_interval():
    panel = drawn(simulated_states.with_stay, stay=0.03, m=2)
    rare = replace(panel.models[0], layers=dict(panel.models[0].layers))
    in_d = np.flatnonzero((rare.layers["turbulence"] > 0.5) & (rare.layers["rivalry"] > 0.5))
    rare.layers["rivalry"] = rare.layers["rivalry"].copy()
    rare.layers["rivalry"][in_d[40:]] = 0.1
    found = ruled(states_evidence(replace(panel, models=(rare, *panel.models[1:]))), "G8")
    assert found.verdict == "open" and found.decided_by == "D events" and "m0" in found.why and "50" in found.needed


def test_states_that_rank_alike_are_consistent_and_independent_marks_are_not():
    words = [ruled(states_evidence(drawn(simulated_states.with_taxonomy, seed)), "G7").verdict for seed in range(6)]
    assert "supported" in words and "rejected" not in words
    null = [
        ruled(states_evidence(drawn(simulated_states.without_taxonomy, seed, alike=False)), "G7") for seed in range(4)
    ]
    assert not {v.verdict for v in null} & {"supported"} and all(v.needed for v in null if v.verdict == "open")
    assert words.count("supported") >= 4, "twins without agreement leave it, however high the marks alone make W"
    before = [
        ruled(states_evidence(drawn(simulated_states.with_taxonomy, seed, before=1.0)), "G7") for seed in range(3)
    ]
    assert not {v.verdict for v in before} & {"supported"}


def test_every_pair_of_thresholds_and_the_other_layers_are_in_the_sweep(lasting):
    rows = lasting[1].tables["states_sweep"].to_pylist()
    for claim in ("G7", "G8"):
        pairs = {(r["quantile"], r["rivalry"], r["version"]) for r in rows if r["claim"] == claim}
        assert len(pairs) == 7 * 5 + 1
    g8 = [r for r in rows if r["claim"] == "G8" and r["version"] == "l*"]
    base = next(r for r in g8 if (r["quantile"], r["rivalry"]) == (75.0, 0.5))
    assert base["value"] == pytest.approx(ruled(lasting[1].evidence, "G8").estimate)


def test_a_claim_that_flips_under_the_sweep_is_open():
    """D lasts, but the most turbulent half of its cells are left at once: at a high threshold the sign turns."""
    panel = drawn(simulated_states.with_stay, stay=0.4, m=2)
    flipped = []
    for model in panel.models:
        layers = {k: np.array(v) for k, v in model.layers.items()}
        labels = label_panel(panel)[model.info.name].states["bifurcation"] == D
        shape = model.per_layer("turbulence").shape
        cells = layers["turbulence"].reshape(shape)
        high = cells[:16, :, :3]
        labels = labels[:, :, :3]
        odd = labels & (np.arange(shape[1])[:, None] % 2 == 1)
        high[...] = np.where(odd, 0.95, np.where(labels, 0.81, high))
        flipped.append(replace(model, layers=layers))
    found = ruled(states_evidence(replace(panel, models=tuple(flipped))), "G8")
    assert found.verdict == "open" and found.decided_by == "threshold sweep"


def test_without_calibration_runs_or_columns_there_are_no_states_and_a_reason():
    panel = drawn(simulated_states.with_stay, stay=0.4, m=2)
    bare = [replace(m, runs=dict(m.runs) | {"calibration": np.zeros(20, bool)}) for m in panel.models]
    result = analyse_states(replace(panel, models=tuple(bare)))
    for claim in ("G7", "G8"):
        found = ruled(result.evidence, claim)
        assert found.verdict == "not applicable" and "calibration" in found.why
    assert result.tables["states"].num_rows == 0 and "calibration" in result.notes[0]
    blind = [replace(m, layers={k: v for k, v in m.layers.items() if k != "agrees"}) for m in panel.models]
    found = analyse_states(replace(panel, models=tuple(blind)))
    assert ruled(found.evidence, "G7").verdict == "not applicable" and "agrees" in found.notes[0]
    assert ruled(motifs_evidence(replace(panel, models=tuple(blind))), "A4").verdict == "not applicable"


def test_one_model_has_no_agreement_but_its_transitions_count():
    panel = drawn(simulated_states.with_stay, stay=0.0, m=1)
    found = states_evidence(panel)
    assert ruled(found, "G7").verdict == "not applicable"
    assert ruled(found, "G8").verdict == "supported" and ruled(found, "G8").n == 1


# motifs

linked = partial(drawn, simulated_states.with_grammar, linked=0.3, m=3)


def test_a_planted_order_along_depth_is_conserved():
    result = analyse_motifs(linked())
    found = ruled(result.evidence, "A4")
    assert found.verdict == "supported" and found.counts["of the grammar's own order"] >= 1
    rows = {(r["group"], r["lens"], r["motif"]): r for r in result.tables["motifs"].to_pylist()}
    whole = rows["trained", "final_norm", "explore-process-decide"]
    assert whole["conserved"] and whole["own_order"] and whole["permutations"] == 2000
    back = rows["trained", "final_norm", "decide-process-explore"]
    assert not back["conserved"] and back["p"] > 0.05
    of_model = [r for r in result.tables["motifs_models"].to_pylist() if r["group"] == "trained" and r["length"] == 2]
    shares = [r["share"] for r in of_model if r["model"] == "m0" and r["null"] == "order" and r["lens"] == "final_norm"]
    assert sum(shares) == pytest.approx(1)
    threes = [r for r in result.tables["motifs_models"].to_pylist() if r["model"] == "m0" and r["null"] == "order"]
    threes = {r["motif"]: r for r in threes if r["length"] == 3 and r["lens"] == "final_norm"}
    assert sum(r["share_first_order"] for r in threes.values()) == pytest.approx(1)
    assert threes["explore-process-decide"]["share"] > threes["explore-process-decide"]["share_first_order"]


def test_controls_of_the_motifs_decide():
    before = ruled(motifs_evidence(linked(before=True)), "A4")
    assert (before.verdict, before.decided_by) == ("rejected", "untrained twin")
    untuned = ruled(motifs_evidence(linked(tuned=False)), "A4")
    assert (untuned.verdict, untuned.decided_by) == ("open", "tuned lens")
    assert {c["name"]: c["outcome"] for c in untuned.controls}["tuned lens"] == "missing"


def test_frequent_at_some_depth_is_not_a_motif():
    deeper = [[0.6, 0.3, 0.1], [0.25, 0.5, 0.25], [0.1, 0.3, 0.6]]
    profile = drawn(simulated_states.with_grammar, linked=0.0, by_layer=deeper, m=3)
    found = ruled(motifs_evidence(profile), "A4")
    assert found.verdict == "open" and found.counts["of the grammar's own order"] == 0


def test_chains_of_a_prompt_are_its_runs_and_steps():
    found = label_panel(linked())["m0"]
    chains = prompt_chains(found)
    assert chains.shape == (8, 2 * simulated_states.STEPS, simulated_states.INNER)
    np.testing.assert_array_equal(
        chains[3, : simulated_states.STEPS], found.states["grammar"][3, :, : simulated_states.INNER]
    )


# cycles


def test_series_that_always_come_back_reopen_more_than_chance_and_loops_less():
    result = analyse_cycles(drawn(simulated_cycles.of_waves, low=7, high=4, m=2))
    found = ruled(result.evidence, "C1")
    assert found.verdict == "supported" and found.estimate == pytest.approx(0.28, abs=0.03) and found.null < 0.2
    loops = ruled(cycles_evidence(drawn(simulated_cycles.of_loops, m=12)), "C1")
    assert loops.verdict != "supported" and loops.interval[1] < loops.null
    rows = {(r["model"], r["entries_in"]): r for r in result.tables["cycles"].to_pylist()}
    for name in ("m0", "all trained models"):
        parts = [rows[name, which] for which in ("inside", "outside", "all")]
        assert parts[0]["entries"] + parts[1]["entries"] == parts[2]["entries"]
        assert all(r["reopened"] + r["permanent"] + r["censored"] == r["entries"] for r in parts)
        assert all(r["to_rivalry"] + r["to_neutral"] == r["reopened"] for r in parts)
    curve = [
        r for r in result.tables["cycles_curve"].to_pylist() if r["entries_in"] == "outside" and r["model"] == "m0"
    ]
    assert [r["step"] for r in curve] == list(range(17))
    assert all(a["still"] >= b["still"] for a, b in zip(curve, curve[1:], strict=False))
    assert 1 - curve[16]["still"] == pytest.approx(rows["m0", "outside"]["share"])
    assert curve[16]["AR1_lo"] <= 1 - rows["m0", "outside"]["AR1"] <= curve[16]["AR1_hi"]


def test_a_series_that_remembers_one_step_reopens_as_its_surrogate():
    found = ruled(cycles_evidence(drawn(simulated_cycles.of_surrogates, phi=0.9)), "C1")
    assert found.verdict == "open" and found.counts["entries"] >= 50


def test_without_known_words_or_entries_it_is_open_and_without_columns_not_applicable():
    panel = drawn(simulated_cycles.of_waves, low=7, high=4, m=2)
    unknown = tuple(replace(m, word_start_tokens=None) for m in panel.models)
    found = ruled(cycles_evidence(replace(panel, models=unknown)), "C1")
    assert (found.verdict, found.decided_by) == ("open", "word starts")
    few = ruled(cycles_evidence(drawn(simulated_cycles.of_words, m=2)), "C1")
    assert (few.verdict, few.decided_by) == ("open", "entries")
    blind = tuple(replace(m, steps={k: v for k, v in m.steps.items() if k != "top2"}) for m in panel.models)
    result = analyse_cycles(replace(panel, models=blind))
    assert ruled(result.evidence, "C1").verdict == "not applicable" and "top2" in result.notes[0]


def test_a_word_begins_with_the_first_token_and_with_those_that_say_so():
    panel = drawn(simulated_cycles.of_words, m=1)
    model = replace(
        panel.models[0],
        completions=((60, 3, 60, 7), (3, 60)) + panel.models[0].completions[2:],
        word_start_tokens=frozenset({3, 7}),
    )
    starts = word_starts(model, 5)
    assert starts[0].tolist() == [True, True, False, True, False]
    assert starts[1].tolist() == [True, False, False, False, False]
    assert word_starts(replace(model, word_start_tokens=None), 5) is None


def test_experiments_on_a_panel_of_another_kind_say_so_and_do_not_fall():
    """Columns of states without output entropies, and the other way round, judged by all three."""
    for panel in (
        drawn(simulated_states.with_stay, stay=0.4, m=2),
        drawn(simulated_cycles.of_waves, low=7, high=4, m=2),
    ):
        result = run_experiments(panel, NAMES)
        verdicts = judge_all(claims_by_id(["G7", "G8", "A4", "C1"]), result.evidence)
        assert "not applicable" in {v.verdict for v in verdicts}
        assert {"states", "states_transitions", "motifs", "cycles", "cycles_curve"} <= set(result.tables)


def test_the_same_panel_gives_the_same_numbers():
    panel = drawn(simulated_states.with_grammar, linked=0.3, m=2)
    first, second = (analyse_motifs(panel).tables["motifs"] for _ in range(2))
    assert repr(first.to_pylist()) == repr(second.to_pylist())
