"""Figures of states and cycles: every mark that is a number is a number, and a page without them has no section."""

import re
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import numpy as np
import pytest

from phaselens.experiments.cycles import analyse_cycles
from phaselens.experiments.states import analyse_states
from phaselens.report import cycles as cycle_figures
from phaselens.report import states as state_figures
from phaselens.report.models_shown import Member
from phaselens.validity import simulated_cycles, simulated_states

MEMBERS = [Member(f"m{i}", False, "f", i, f"m{i}") for i in range(2)]
MEMBERS += [Member(f"m{i} (untrained)", True, "f", i, f"m{i} (untrained)") for i in range(2)]


@pytest.fixture(scope="module")
def rows():
    first = analyse_states(simulated_states.with_stay(np.random.default_rng(0), stay=0.4, m=2))
    second = analyse_cycles(simulated_cycles.of_waves(np.random.default_rng(0), low=7, high=4, m=2))
    return {name: table.to_pylist() for name, table in {**first.tables, **second.tables}.items()}


def parsed(svg):
    assert "nan" not in re.sub(r"<(title|desc).*?</\1>", "", str(svg)).lower()
    return ET.fromstring(str(svg))


@pytest.mark.parametrize("layout", [state_figures.WIDE, state_figures.NARROW])
def test_bars_are_as_wide_as_the_shares(rows, layout):
    figure = parsed(state_figures.occupancy_bars("x", MEMBERS, rows["states"], layout))
    bars = [e for e in figure.iter("rect") if e.get("height") == "13"]
    of_one = [r for r in rows["states"] if (r["model"], r["threshold"], r["layer_choice"]) == ("m0", "panel", "all")]
    share = next(r["value"] for r in of_one if r["state"].startswith("B_"))
    room = (layout.width - layout.left) / 2 - state_figures.GAP
    widths = [float(e.get("width")) for e in bars if e.get("class") == "stateB"]
    assert any(w == pytest.approx(share * room, abs=0.02) for w in widths)


@pytest.mark.parametrize("layout", [state_figures.WIDE, state_figures.NARROW])
def test_matrices_show_both_axes_of_trained_models_and_mark_what_lasts(rows, layout):
    figure = parsed(state_figures.matrices("x", MEMBERS, rows["states_transitions"], layout))
    cells = [e for e in figure.iter("rect") if e.get("class") == "cell"]
    assert len(cells) == 2 * 2 * 25 and all(0 <= float(e.get("fill-opacity")) <= 1 for e in cells)
    rings = [e for e in figure.iter("circle") if e.get("class") == "more"]
    assert len(rings) >= 2  # D to D along generation


@pytest.mark.parametrize("layout", [cycle_figures.WIDE, cycle_figures.NARROW])
def test_curves_have_their_bands_and_all_models_come_first(rows, layout):
    figure = parsed(cycle_figures.curves("x", MEMBERS, rows["cycles_curve"], layout))
    headings = [e.text for e in figure.iter("text") if e.get("class") == "heading"]
    assert headings == ["all trained models", "m0", "m1"]
    assert sum("ribbon" in e.get("class", "") for e in figure.iter("path")) == 3 * 2
    assert sum("outline" in e.get("class", "") for e in figure.iter("path")) == 3


def test_captions_say_n_unit_and_interval(rows):
    for words in (
        state_figures.occupancy_caption(rows["states"]),
        state_figures.matrix_caption(rows["states_transitions"]),
        cycle_figures.caption(rows["cycles"]),
    ):
        assert "95 %" in words and "8 prompts" in words and ("0 to 1" in words or "a full cell is 1" in words)


def test_without_tables_there_are_no_figures(rows):
    empty = SimpleNamespace(rows=lambda name: [], lack=lambda *names: [])
    full = SimpleNamespace(rows=lambda name: rows.get(name, []), lack=lambda *names: [])
    for section, n in ((state_figures.SECTION, 3), (cycle_figures.SECTION, 1)):
        assert section.shown(empty, MEMBERS) == [] and len(section.shown(full, MEMBERS)) == n
