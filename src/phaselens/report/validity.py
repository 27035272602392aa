"""The tables of `results/validity.json`, if the folder holds it: what the rules said about simulated studies."""

from collections.abc import Sequence

from phaselens.report.folder import Folder
from phaselens.report.tables import Column, Table, name_cell, text_cell
from phaselens.report.words import visible
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


def shown(folder: Folder) -> bool:
    """Whether the page has a section on the instrument: the folder holds the file, even one that cannot be read."""
    return "validity" in folder.results or bool(folder.lack(FILE))


def tables(folder: Folder) -> dict[str, Table | list[str] | None]:
    """Build the table per claim, the table per scenario, and a sentence where the file is not what it should be."""
    document = folder.results.get("validity")
    nothing = {"validity_claims": None, "validity_scenarios": None, "validity_faults": folder.lack(FILE)}
    if document is None:
        return nothing
    try:
        claims, scenarios = claim_rows(document), scenario_rows(document)
    except (KeyError, TypeError, AttributeError, IndexError):
        return nothing | {"validity_faults": [f"{FILE} is not what `phaselens validate --out` writes: not shown."]}
    return {
        "validity_claims": _table("validity-table", CAPTION, CLAIM_COLUMNS, claims),
        "validity_scenarios": _table("scenarios-table", EACH, SCENARIO_COLUMNS, scenarios),
        "validity_faults": [],
    }


def _table(anchor: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    lines = [[name_cell(visible(row[0])), *(text_cell(cell) for cell in row[1:])] for row in rows]
    return Table(anchor, caption, [Column(c, kind="text") for c in columns], [("", lines)], ())
