"""What states know beyond the output: partial correlations by depth, and the table with the controls beside it."""

from markupsafe import Markup

from phaselens.report import depth_curves
from phaselens.report.axis_scale import span
from phaselens.report.captions import written
from phaselens.report.data_tables import Reasons, Table, declared, name_cell, text_cell
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder
from phaselens.report.written_values import visible


def figure(
    name: str, members: list[Member], rows: list[dict], layout: depth_curves.Layout = depth_curves.GD_WIDE
) -> Markup:
    """Draw the partial correlation on the choosing documents over l/L, a curve a model."""
    full = [{**r, "twin": False, "lo": None, "hi": None} for r in rows]
    panels = [("given confidence", "value", full, span([0.0, *(r["value"] for r in rows)]) or (0.0, 1.0))]
    return depth_curves.grid(name, "What states know of the loss", members, panels, layout)


def table(folder: Folder) -> Table | None:
    """Every correlation with its interval, untrained twin, shuffled losses and the published column."""
    rows, reasons = folder.rows("observability"), Reasons()
    groups: dict[str, list] = {}
    for r in rows:
        groups.setdefault(str(r["model"]), []).append(
            [
                name_cell(f"{r['claim']}, given {visible(str(r['given']))}"),
                reasons.estimate(r["estimate"], r["lo"], r["hi"]),
                reasons.estimate(r["untrained"], r["untrained_lo"], r["untrained_hi"], "no untrained twin"),
                reasons.cell(r["shuffled"], "no losses to shuffle"),
                text_cell(str(r["published"])),
                reasons.cell(r["n_units"]),
            ]
        )
    return declared("observability", list(groups.items()), reasons.found)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows, trained = folder.rows("observability_curve"), [m for m in members if not m.twin]
    drawn = None
    if rows:
        layouts = (depth_curves.GD_WIDE, depth_curves.GD_NARROW)
        said = written("observability")
        drawn = pair("observability", figure, trained, rows, layouts=layouts, caption=said, claims=("O1",))
    return [drawn, listed(table(folder), "" if drawn is None else "The correlations and their controls")]


TABLES = ("observability", "observability_curve")
SECTION = Section("observability", "Beyond the output", "What states know beyond the output", TABLES, _blocks)
