"""Figures of transitions, motifs, ambiguity, pairs of models and lenses: a mark a number, and what is beyond is cut."""

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from phaselens.experiments.ambiguity import analyse_ambiguity
from phaselens.experiments.motifs import analyse_motifs
from phaselens.experiments.states import analyse_states
from phaselens.report import (
    ambiguity,
    depth_curves,
    distribution_controls,
    forest_plot,
    motifs,
    transition_graphs,
    variance,
)
from phaselens.report.axis_scale import Scale
from phaselens.report.models_shown import Member
from phaselens.validity import simulated_ambiguity as simulated
from phaselens.validity import simulated_states

MEMBERS = [Member(f"m{i}", False, "f", i, f"m{i}") for i in range(2)]
MEMBERS += [Member(f"m{i} (untrained)", True, "f", i, f"m{i} (untrained)") for i in range(2)]
NAN = math.nan


def parsed(svg):
    assert "nan" not in re.sub(r"<(title|desc).*?</\1>", "", str(svg)).lower()
    return ET.fromstring(str(svg))


def classes(figure, tag, wanted):
    return [e for e in figure.iter(tag) if wanted in e.get("class", "").split()]


@pytest.fixture(scope="module")
def steps():
    table = analyse_states(simulated_states.with_stay(np.random.default_rng(0), stay=0.4, m=2)).tables[
        "states_transitions"
    ]
    return table.to_pylist()


@pytest.mark.parametrize("layout", [transition_graphs.WIDE, transition_graphs.NARROW])
def test_every_likely_transition_is_an_arrow_as_wide_as_its_probability(steps, layout):
    figure = parsed(transition_graphs.graphs("x", MEMBERS, steps, layout))
    shown = [(a, c) for a, c, _ in transition_graphs.AXES]
    drawn = [
        r
        for r in steps
        if not r["twin"] and (r["axis"], r["layer_choice"]) in shown and r["P"] >= transition_graphs.DRAWN
    ]
    lines = [e for e in classes(figure, "path", "arrow") if e.get("stroke-width")]
    assert len(lines) == len(drawn)
    widths = sorted(float(e.get("stroke-width")) for e in lines)
    assert widths == pytest.approx(sorted(max(transition_graphs.WIDEST * r["P"], 0.8) for r in drawn), abs=0.01)
    more = sum(r["excess_lo"] > 0 for r in drawn)
    assert sum("hue0" in e.get("class") for e in lines) == more > 0


def test_a_state_that_is_rarely_left_has_dashed_arrows_and_says_its_n(steps):
    few = [{**r, "count": 1, "left": 5} for r in steps]
    assert not classes(parsed(transition_graphs.graphs("x", MEMBERS, steps)), "path", "few")
    figure = parsed(transition_graphs.graphs("x", MEMBERS, few))
    assert classes(figure, "path", "few") and "n 5" in [e.text for e in figure.iter("text")]
    assert "30" in transition_graphs.caption(few) and "prompts" in transition_graphs.caption(few)


def test_a_model_without_transitions_says_so(steps):
    empty = [{**r, "count": 0, "left": 0, "P": NAN} for r in steps]
    assert [e.text for e in parsed(transition_graphs.graphs("x", MEMBERS, empty)).iter("text")].count(
        "no transition"
    ) == 8


@pytest.mark.parametrize("layout", [motifs.WIDE, motifs.NARROW])
def test_every_motif_has_a_dot_a_model_and_its_p(layout):
    tables = analyse_motifs(
        replace(simulated_states.with_grammar(np.random.default_rng(0), linked=0.3, m=2), n_boot=100)
    ).tables
    rows, models = tables["motifs"].to_pylist(), tables["motifs_models"].to_pylist()
    figure = parsed(motifs.shares("x", MEMBERS, rows, models, layout))
    assert len(classes(figure, "circle", "dot")) == 18 * 2
    squares = classes(figure, "rect", "verdict")
    assert len(squares) == 18 and sum("none" not in e.get("class") for e in squares) == sum(
        r["conserved"] for r in motifs.shown(rows)
    )
    assert "prompts" in motifs.caption(rows, models) and "permutations" in motifs.caption(rows, models)


@pytest.mark.parametrize("layout", [ambiguity.WIDE, ambiguity.NARROW])
def test_every_outcome_has_its_panel_and_words_alone_stand_below(layout):
    panel = replace(
        simulated.study_with(np.random.default_rng(0), m=2, effects={"turning_angle": 0.8, "commit_depth": 0.8}),
        n_boot=100,
    )
    rows = analyse_ambiguity(panel).tables["ambiguity"].to_pylist()
    figure = parsed(ambiguity.differences("x", MEMBERS, rows, layout))
    outcomes = {r["outcome"] for r in rows if not r["outcome"].startswith("commit_depth at")}
    assert {e.text for e in classes(figure, "text", "heading")} == outcomes
    big = [e for e in classes(figure, "circle", "dot") if e.get("r") == "2.8"]
    assert len(big) == sum(r["contrast"] == "ambiguity" and math.isfinite(r["mean"]) for r in rows if not r["twin"])
    assert "pairs" in ambiguity.caption(rows)


def test_what_lies_beyond_a_fixed_axis_is_an_arrow():
    axis = Scale(0.0, 1.0, 0.0, 100.0)
    inside, beyond = (str(forest_plot.whisker(axis, 10.0, 0.2, high, "hue0")) for high in (0.8, 7.0))
    assert inside.count("V") == 2 and beyond.count("V") == 1 and "M96 7L100 10L96 13" in beyond
    mark = forest_plot.Mark(3.0, 2.0, 4.0, "hue0", "m0")
    assert "circle" not in str(forest_plot.estimate(axis, 10.0, mark)) and "m0: 3.0 [2.0, 4.0]" in str(
        forest_plot.estimate(axis, 10.0, mark)
    )
    assert str(forest_plot.estimate(axis, 10.0, forest_plot.Mark(NAN, NAN, NAN, "hue0", "m0"))) == ""


def test_pairs_have_a_row_each_and_a_panel_a_version():
    rows = [
        {
            "differs": "capped",
            "first": "m0",
            "second": "m1",
            "version": v,
            "effect": e,
            "lo": e - 1,
            "hi": e + 1,
            "n_prompts": 8,
        }
        for v, e in (("final_norm", 1.0), ("raw", -0.5))
    ]
    figure = parsed(distribution_controls.pairs("x", MEMBERS, rows))
    assert [e.text for e in classes(figure, "text", "heading")] == ["final_norm", "raw"]
    assert "soft cap: m1" in [
        e.text for e in figure.iter("text")
    ] and "n: 1 pairs" in distribution_controls.pair_caption(rows)


def test_lenses_are_curves_and_what_equals_the_output_is_left_out():
    rows = [
        {"model": "m0", "twin": False, "lens": lens, "depth": d, "kl": kl, "lo": kl / 2, "hi": kl * 2, "n_prompts": 8}
        for lens in ("final_norm", "tuned")
        for d, kl in ((0.0, 8.0), (0.5, 0.4), (1.0, 1e-9))
    ]
    figure = parsed(depth_curves.kl_by_depth("x", MEMBERS, rows))
    assert len(classes(figure, "path", "curve")) == 2
    assert [e.text for e in classes(figure, "text", "heading")] == ["final_norm", "tuned"]


def test_an_interval_of_few_prompts_does_not_stretch_the_axis_of_shares():
    row = {"measure": "ln mean ct", "population": "these", "term": "model", "share": 0.4, "lo": 0.1, "hi": 600.0}
    row |= {"levels": 5}
    figure = parsed(variance.shares("x", [row]))
    assert max(float(e.text) for e in classes(figure, "text", "tick")) <= 2


def test_for_paper_every_model_is_drawn_once_and_a_page_holds_its_drawing_at_full_width(steps):
    many = [{**row, "model": f"m{k}"} for k in range(7) for row in steps if row["model"] == "m0"]
    members = [Member(f"m{k}", False, "f", k, f"m{k}") for k in range(7)]
    drawn = [parsed(one) for one in transition_graphs.pages(members, many)]
    headings = [[e.text for e in classes(page, "text", "heading")] for page in drawn]
    assert headings == [["m0", "m1", "m2", "m3", "m4"], ["m5", "m6"]]
    for page in drawn:
        _, _, width, height = map(float, page.get("viewBox").split())
        assert height / width <= 235 / 182  # of A4 with its margins, in mm
