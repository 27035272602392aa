"""Fingerprints, topology and sub-panels on panels with planted models, families and copies, and without any."""

import math
from dataclasses import replace

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.dynamics.clusters import average_linkage
from phaselens.experiments import Panel, registered_claims, run_experiments
from phaselens.experiments.fingerprints import FEATURES, recipes, sample_of
from phaselens.experiments.subpanels import part_of, replayed, verdicts
from phaselens.experiments.topology import leaf_order, wider
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.validity import simulated_fingerprints as simulated


def verdict(panel, name):
    result = run_experiments(panel, [name])
    (found,) = judge_all(claims_by_id([c.id for c in registered_claims([name])]), result.evidence)
    return found, result


def test_the_list_of_features_has_no_name_twice_and_only_known_observables():
    from phaselens.observables import by_name

    assert len({f.name for f in FEATURES}) == len(FEATURES)
    by_name(dict.fromkeys(f.observable for f in FEATURES))


def test_models_that_differ_are_found_again_and_models_that_do_not_are_not():
    found, result = verdict(simulated.different(np.random.default_rng(0), m=9, size=1.0), "fingerprints")
    assert found.verdict == "supported", found.why
    rows = {r["panel"]: r for r in result.tables["identification"].to_pylist()}
    assert rows["all trained"]["accuracy"] > 0.7 and rows["twins dropped"]["n_models"] == 6
    assert rows["nearest other model of the same recipe"]["accuracy"] == 1 and rows["untrained"]["reason"]
    assert len(result.tables["fingerprints"].to_pylist()) == 9 * len(FEATURES)
    found, _ = verdict(simulated.alike(np.random.default_rng(0), m=9, load=0.3), "fingerprints")
    assert found.verdict in ("open", "rejected") and not found.p <= 0.05


def test_the_map_is_in_spreads_about_the_mean_of_the_trained_models():
    _, result = verdict(simulated.different(np.random.default_rng(1), m=6, size=1.0), "fingerprints")
    rows = result.tables["fingerprints"].to_pylist()
    for name in {r["feature"] for r in rows}:
        own = [r for r in rows if r["feature"] == name]
        assert sum(r["scaled"] for r in own) == pytest.approx(0, abs=1e-9)
        assert all(r["lo"] <= r["scaled"] <= r["hi"] for r in own)


def test_without_a_second_seed_the_claim_says_what_to_add():
    panel = simulated.study_with(
        2 * np.random.default_rng(0).standard_normal((6, len(FEATURES))), np.random.default_rng(1)
    )
    found, _ = verdict(panel, "fingerprints")
    assert found.verdict == "open" and found.decided_by == "seeds of one recipe" and "add" in found.needed


def test_twins_of_twins_are_one_recipe():
    panel = simulated.study_with(np.zeros((4, len(FEATURES))), np.random.default_rng(0), twin_of={1: 0, 2: 1})
    assert recipes(panel.trained).tolist() == [0, 0, 0, 1]


def test_dissolved_families_support_standing_ones_reject_and_small_panels_stay_open():
    found, result = verdict(simulated.of_families(np.random.default_rng(1), families=4, each=3, share=0.0), "topology")
    assert found.verdict == "supported", found.why
    assert len(result.tables["topology_models"].to_pylist()) == 24 and found.reasons["p"]
    figures = {r["panel"]: r for r in result.tables["topology"].to_pylist()}
    assert figures["twins removed"]["n_models"] == 12 and 0 <= figures["twins removed"]["stress"] < 1
    found, _ = verdict(simulated.of_families(np.random.default_rng(0), families=4, each=3, share=1.0), "topology")
    assert found.verdict == "rejected", found.why
    found, result = verdict(simulated.of_families(np.random.default_rng(1), families=3, each=2, share=0.0), "topology")
    assert found.verdict == "open" and found.decided_by == "panel scale" and "12 models" in found.needed
    left = [r["left_out_ari"] for r in result.tables["topology_models"].to_pylist()]
    assert all(math.isfinite(x) for x in left)


def test_noise_and_undeclared_copies_do_not_support_dissolution():
    found, _ = verdict(simulated.noise_families(np.random.default_rng(0), families=4, each=3), "topology")
    assert found.verdict != "supported" and found.decided_by in ("reproducible fingerprints", "few robust pairs")
    found, result = verdict(simulated.pairs_of_copies(np.random.default_rng(0), pairs=6), "topology")
    assert found.verdict != "supported" and found.decided_by == "few robust pairs"
    rows = result.tables["topology_pairs"].to_pylist()
    copies = {(f"m{2 * i}", f"m{2 * i + 1}") for i in range(6)}
    assert {(r["first"], r["second"]) for r in rows if r["panel"] == "twins removed" and r["robust_columns"]} == copies


def test_the_leaves_of_a_dendrogram_do_not_cross():
    points = np.array([[0.0], [10.0], [0.1], [10.2]])
    assert sorted(map(sorted, (leaf_order(average_linkage(points))[:2], leaf_order(average_linkage(points))[2:]))) == [
        [0, 2],
        [1, 3],
    ]


def test_the_wider_interval():
    one, other = Interval(0.1, 0.4), Interval(0.2, 1.3)
    assert wider(one, other) == Interval(0.1, 1.0)
    assert wider(one, undefined_interval("why")).reason == "why"


@pytest.mark.parametrize("name", ["fingerprints", "topology", "subpanels", "normalisation", "ambiguity"])
def test_one_model_and_empty_columns_do_not_stop_anything(name):
    one = simulated.different(np.random.default_rng(0), m=6, size=1.0).models[0]
    bare = replace(
        one,
        layers={k: one.layers[k] for k in ("run", "step", "layer")},
        steps={k: one.steps[k] for k in ("run", "step")},
    )
    for models in ((one,), (bare,), (one, replace(bare, info=replace(bare.info, name="b")))):
        result = run_experiments(Panel(models, n_boot=100), [name])
        for found in judge_all(registered_claims([name]), result.evidence):
            assert found.verdict == "not applicable" and found.needed, found


def test_sub_panels_keep_their_twins_and_free_the_orphans():
    panel = simulated.different(np.random.default_rng(0), m=9, size=1.0)
    small = part_of(panel, [1, 6, 7])
    assert [m.info.name for m in small.trained] == ["m1", "m6", "m7"]
    assert [m.info.twin_of for m in small.trained] == [None, None, "m1"]


def test_sub_panels_below_eight_models_say_what_to_add():
    panel = simulated.different(np.random.default_rng(0), m=6, size=1.0)
    found, _ = verdict(panel, "subpanels")
    assert found.verdict == "not applicable" and "add 2" in found.needed


def test_a_ledger_on_sub_panels_counts_every_verdict():
    from phaselens.experiments.fingerprints import FINGERPRINTS

    panel = replace(simulated.different(np.random.default_rng(0), m=9, size=1.5), subpanels=3)
    result = replayed(panel, (FINGERPRINTS,))
    (row,) = result.tables["subpanels"].to_pylist()
    said = sum(row[f"n_{w}"] for w in ("supported", "rejected", "open", "not_applicable"))
    assert row["claim"] == "F0" and said == row["n_panels"] == 3
    assert row["full"] == verdicts(part_of(panel, range(9)), (FINGERPRINTS,))["F0"]
    (found,) = judge_all(claims_by_id(["T2"]), result.evidence)
    assert found.verdict == "open" and math.isfinite(found.null)  # one claim has no interval over claims


def test_prompts_that_a_model_lacks_are_left_out_for_all():
    panel = simulated.different(np.random.default_rng(0), m=6, size=1.0)
    first = panel.models[0]
    gone = np.asarray(first.runs["prompt_id"]) == "p3"
    other = replace(first, runs={**first.runs, "prompt_id": np.where(gone, "p0", first.runs["prompt_id"])})
    sample = sample_of(replace(panel, models=(other, *panel.models[1:])))
    assert sample.n_prompts == 7 and sample.values.shape == (6, 7, len(FEATURES))
