"""The pages for people say what the code says."""

import re
from pathlib import Path

import organism_tables
import pytest
from observable_cards import card, table

from phaselens.observables import CLOUD, OBSERVABLES

ROOT = Path(__file__).parents[1]
MARKED = re.compile(r"(<!-- generated: observables -->\n).*?(<!-- end -->)", re.S)


def with_table(page: str) -> str:
    return MARKED.sub(lambda m: f"{m[1]}{table(OBSERVABLES + CLOUD)}\n{m[2]}", page)


def test_definitions_hold_the_table_that_the_code_declares():
    page = (ROOT / "docs" / "definitions.md").read_text()
    assert with_table(page) == page, "stale: write with_table(page) to docs/definitions.md"


def test_every_observable_has_a_card_with_its_source():
    for one in OBSERVABLES + CLOUD:
        assert "Source" in card(one) and one.unit in card(one), one.name


@pytest.mark.parametrize("page", sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_pages_name_files_that_exist(page):
    named = re.findall(r"`((?:docs|src|benchmarks|tests)/[\w./-]+\.\w+)`", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def test_figures_of_the_panel_are_those_of_the_records():
    page = (ROOT / "docs" / "organisms.md").read_text()
    shown = page.split("<!-- figures -->")[1].split("<!-- /figures -->")[0].strip()
    assert shown == organism_tables.markdown(), "paste what `python docs/organism_tables.py` prints"
