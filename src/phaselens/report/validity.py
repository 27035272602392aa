"""The tables of `results/validity.json`, if the folder holds it: what the rules said about simulated studies."""

from collections.abc import Sequence

from phaselens.report.captions import plain
from phaselens.report.data_tables import Column, Table, name_cell, text_cell
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Said, Section, listed
from phaselens.report.study_files import Folder
from phaselens.report.written_values import visible
from phaselens.validity.table import CLAIM_COLUMNS, SCENARIO_COLUMNS, claim_rows, scenario_rows

FILE = "results/validity.json"


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
    found = _table("scenarios-table", plain("validity_of_scenarios"), SCENARIO_COLUMNS, scenarios)
    return [
        listed(_table("validity-table", plain("validity_of_claims"), CLAIM_COLUMNS, claims)),
        listed(found, "Every scenario"),
    ]


def _table(anchor: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    lines = [[name_cell(visible(row[0])), *(text_cell(cell) for cell in row[1:])] for row in rows]
    return Table(anchor, caption, [Column(c, kind="text") for c in columns], [("", lines)], ())


SECTION = Section("validity", "Instrument", "Does the instrument hold?", (), _blocks, lead=plain("validity"))
