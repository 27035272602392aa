"""What ambiguity does: paired differences of every outcome in every model, with what a change of words alone does."""

from markupsafe import Markup

from phaselens.report.axis_scale import span
from phaselens.report.captions import written
from phaselens.report.data_tables import Cell, Table, declared, text_cell
from phaselens.report.figure_parts import Layout
from phaselens.report.forest_plot import NARROW, WIDE, Mark, Panel, forest
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.symbols import unit_of
from phaselens.report.written_values import extent, number

__all__ = ["NARROW", "WIDE", "caption", "differences", "flags"]
NOTES = {"twin_cosine": "cosine to both − between them"}


def differences(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw the mean paired difference of each outcome, in its unit, a panel an outcome; below: words alone."""
    outcomes = [o for o in dict.fromkeys(str(r["outcome"]) for r in rows) if not o.startswith("commit_depth at")]
    seen = [m for m in members if of(rows, m)]
    panels = []
    for outcome in outcomes:
        marks = {
            m.model: [
                _mark(m, r, plain)
                for contrast, plain in (("ambiguity", True), ("words", False))
                for r in of(rows, m)
                if r["outcome"] == outcome and r["contrast"] == contrast
            ]
            for m in seen
        }
        unit = unit_of(outcome) or "1"
        panels.append(Panel(outcome, NOTES.get(outcome, f"difference ({unit})"), marks, ends=_ends(seen, marks)))
    lines = [(m.model, *layout.named(m)) for m in seen]
    return forest(name, "Effects of ambiguity", lines, panels, layout)


def _ends(members: list[Member], marks: dict[str, list[Mark]]) -> tuple[float, float] | None:
    """Give the axis: all of the trained models; intervals of untrained twins may be cut by it."""
    own = [m for member in members if not member.twin for m in marks[member.model]]
    return span([0.0, *(end for m in own for end in (m.value, m.low, m.high))], pad=0.08) if own else None


def caption(rows: list[Row]) -> Markup:
    """Caption of the differences."""
    return written("ambiguity", rows, excluded=extent((r["n_excluded"] for r in rows), "pairs"))


def _mark(member: Member, row: Row, plain: bool) -> Mark:
    said = f"{member.label}, {row['outcome']}, {row['contrast']}"
    return Mark(row["mean"], row["lo"], row["hi"], member.kind if plain else "anyone", said, faint=not plain)


def flags(folder: Folder) -> Table | None:
    """Build the table of the flags: what was asked, the flag, and the counts of models behind it."""
    rows = folder.rows("ambiguity_flags")
    keys = ("n_above", "n_below", "n_equivalent", "n_models", "needed_for_yes", "needed_for_partial")
    lines = [[*(text_cell(r[c]) for c in ("question", "outcome", "flag")), *(_count(r[k]) for k in keys)] for r in rows]
    return declared("flags", [("", lines)])


def _count(content: object) -> Cell:
    cell = text_cell(number(content))
    return Cell(cell.text, cell.key, None, "num")


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = folder.rows("ambiguity")
    if not rows:
        return []
    drawn = pair("ambiguity", differences, members, rows, layouts=(WIDE, NARROW), caption=caption(rows))
    return [drawn, listed(flags(folder))]


TERMS = ("twin_cosine", "paired difference")
SECTION = Section("ambiguity", "Ambiguity", "Ambiguity", ("ambiguity", "ambiguity_flags"), _blocks, TERMS)
