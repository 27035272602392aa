"""G5, G6, G9, G10 on planted panels: the effect, its absence, what a control explains away, and what a panel lacks."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments.gd import GD, VERSIONS, analyse_gd
from phaselens.experiments.gd_controls import GD_CONTROLS, analyse_gd_controls, matched_pairs, pairs_by
from phaselens.validity.simulated_distribution import of_caps, of_corpora, of_sinks, of_sizes


def verdict(claim: str, panel):
    found = GD_CONTROLS.evidence(panel)
    return next(v for v in judge_all(claims_by_id(GD_CONTROLS.claims), found) if v.id == claim)


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng([seed, 7])


@pytest.mark.parametrize(
    ("claim", "make", "settings", "word", "by"),
    [
        ("G5", of_sizes, {"m": 24, "explained": True}, "rejected", "interval"),
        ("G6", of_caps, {"cap": 1.0, "corpus": 0.1}, "supported", "interval"),
        ("G6", of_caps, {"cap": 0.5, "corpus": 0.5}, "open", "interval"),
        ("G6", of_caps, {"cap": 0.1, "corpus": 1.0}, "rejected", "interval"),
        ("G6", of_caps, {"cap": 1.0, "corpus": 0.1, "at_readout": True}, "rejected", "read-out removal"),
        ("G9", of_corpora, {"corpus": 0.6}, "supported", "interval"),
        ("G9", of_corpora, {"corpus": 0.0}, "rejected", "interval"),
        ("G9", of_corpora, {"corpus": 0.6, "by_temperature": True}, "rejected", "temperature-matched"),
        ("G10", of_sinks, {"m": 12, "gap": 10}, "supported", "S test"),
        ("G10", of_sinks, {"m": 12, "gap": 10, "by_sink": True}, "rejected", "sinks"),
    ],
)
def test_what_was_planted_is_what_is_said(claim, make, settings, word, by):
    found = verdict(claim, make(draw(), **settings))
    assert (found.verdict, found.decided_by) == (word, by), found.why


def test_size_that_has_nothing_to_do_with_the_groups_is_never_blamed_and_needs_many_models():
    found = verdict("G5", of_sizes(draw(), m=40, explained=False))
    assert found.verdict == "supported"
    few = verdict("G5", of_sizes(draw(), m=8, explained=False))
    assert few.verdict == "open"
    assert "models" in few.needed


def test_a_panel_without_pairs_or_sizes_gets_no_verdict_and_is_told_what_to_add():
    panel = of_corpora(draw(), corpus=0.6)
    bare = replace(panel, models=tuple(replace(m, info=replace(m.info, recipe="")) for m in panel.models))
    for claim, word in (("G5", "one size"), ("G6", "soft cap or in their corpus"), ("G9", "corpus")):
        found = verdict(claim, bare)
        assert found.verdict == "not applicable"
        assert word in found.needed
    sinks = of_sinks(draw(), m=12, gap=10)
    unmasked = tuple(
        replace(m, layers={k: v for k, v in m.layers.items() if "__nofirst" not in k}) for m in sinks.models
    )
    found = verdict("G10", replace(sinks, models=unmasked))
    assert (found.verdict, found.decided_by) == ("open", "sinks")


def test_pairs_differ_in_one_thing_alone():
    panel = of_caps(draw(), cap=1.0, corpus=0.1)
    assert len(pairs_by(panel, "capped")) == 3
    assert len(pairs_by(panel, "corpus")) == 4
    assert len(pairs_by(panel, "training_seed")) == 6  # three seeds with and three without the cap
    assert pairs_by(panel, "qk_norm") == ()
    for a, b in pairs_by(panel, "capped"):
        assert (a.info.capped, b.info.capped) == (False, True)
        assert a.info.training_seed == b.info.training_seed


def test_matched_pairs_are_disjoint_and_twins_take_no_part():
    panel = of_sizes(draw(), m=8, explained=False)
    sized = [
        replace(m, info=replace(m.info, parameters=100 if i in (0, 3, 4) else 10 ** (i + 3)))
        for i, m in enumerate(panel.models)
    ]
    found = GD_CONTROLS.evidence(replace(panel, models=tuple(sized)))["G5"]
    assert found.counts["matched pairs"] == 1  # m0 above can take m3 or m4, not both
    sized[0] = replace(sized[0], info=replace(sized[0].info, twin_of="m1"))
    assert GD_CONTROLS.evidence(replace(panel, models=tuple(sized)))["G5"].counts["matched pairs"] == 0
    assert callable(matched_pairs)


def test_every_recorded_control_is_a_row_of_the_table_and_a_curve_over_depth():
    panel = of_caps(draw(), cap=1.0, corpus=0.1)
    tables = analyse_gd(panel).tables
    rows = tables["gd_models"].to_pylist()
    named = {r["version"] for r in rows}
    assert {"uncapped", "massive", "nofirst"} <= named
    assert not {"tuned", "cap_half", "tmatch_layers"} & named
    plain = {r["model"]: r["GD_ratio"] for r in rows if r["version"] == "final_norm"}
    uncapped = {r["model"]: r for r in rows if r["version"] == "uncapped"}
    for m in panel.models:
        assert (uncapped[m.info.name]["GD_ratio"] == plain[m.info.name]) == (m.info.capped is False)
        assert uncapped[m.info.name]["lo"] < uncapped[m.info.name]["hi"]
    depth = [r for r in tables["gd_depth"].to_pylist() if r["version"] == "nofirst" and r["model"] == "m0"]
    assert [r["depth"] for r in depth] == [0.5, 1.0]
    assert len(VERSIONS) == len({v.name for v in VERSIONS})


def test_a_tuned_lens_decides_g4_where_it_was_recorded():
    panel = of_sinks(draw(), m=12, gap=10)

    def with_lens(m, source: str):
        extra = {f"{k}__tuned": m.layers[f"{k}{source}"] for k in ("top1", "rivalry")}
        kl = {f"kl_to_final{s}": np.full(len(m.layers["top1"]), v) for s, v in (("", 2.0), ("__tuned", 1.0))}
        return replace(m, layers={**m.layers, **extra, **kl})

    def outcome(of_panel):
        return next(o for o in GD.evidence(of_panel)["G4"].outcomes if o.name == "tuned lens")

    assert outcome(panel).outcome == "missing"
    tuned = replace(panel, models=tuple(with_lens(m, "") for m in panel.models))
    assert outcome(tuned).outcome == "survived"
    kl = analyse_gd_controls(tuned).tables["lens_kl"].to_pylist()
    assert {r["lens"]: r["kl"] for r in kl} == {"final_norm": 2.0, "tuned": 1.0}
    lost = of_sinks(draw(), m=12, gap=10, by_sink=True)
    gone = replace(lost, models=tuple(with_lens(m, "__nofirst") for m in lost.models))
    assert outcome(gone).outcome == "explains it away"
