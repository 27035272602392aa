"""The tables of `results/validity.json`, if the folder holds it: what the rules said about simulated studies."""

from collections.abc import Sequence

from phaselens.report.data_tables import Column, Table, name_cell, text_cell
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Said, Section, listed
from phaselens.report.study_files import Folder
from phaselens.report.written_values import visible
from phaselens.validity.table import CLAIM_COLUMNS, SCENARIO_COLUMNS, claim_rows, scenario_rows

FILE = "results/validity.json"
CAPTION = (
    "Share supported with 95 % Wilson intervals: over all studies without the effect (false positives), in the worst "
    "of their kinds, and at the planted effect (power). Fails: scenarios whose interval excludes what the rule must do."
)
EACH = (
    "One row per claim and scenario. The rate is the share supported; for “unmoved” the share of verdicts that differ "
    "from those of the same studies without the artefact; “shown” binds nothing."
)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    if gone := folder.lack(FILE):
        return [Said(gone)]
    document = folder.results.get("validity")
    if document is None:
        return []
    try:
        claims, scenarios = claim_rows(document), scenario_rows(document)
    except (KeyError, TypeError, AttributeError, IndexError):
        return [Said([f"{FILE} is not what `phaselens validate --out` writes: not shown."])]
    found = _table("scenarios-table", EACH, SCENARIO_COLUMNS, scenarios)
    return [listed(_table("validity-table", CAPTION, CLAIM_COLUMNS, claims)), listed(found, "Every scenario")]


def _table(anchor: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    lines = [[name_cell(visible(row[0])), *(text_cell(cell) for cell in row[1:])] for row in rows]
    return Table(anchor, caption, [Column(c, kind="text") for c in columns], [("", lines)], ())


LEAD = (
    "The rules of the claims, applied by the same code to simulated studies whose truth is known. A rule should "
    "support at most 5\u00a0% of studies without the effect, or with what only looks like it."
)
SECTION = Section("validity", "Instrument", "Does the instrument hold?", (), _blocks, lead=LEAD)
