"""Motifs of the grammar along depth: how frequent each is in every model, and what both nulls say of it."""

from collections.abc import Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout, columns, dot
from phaselens.report.forest_plot import HEAD
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Legend, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import extent, is_number, number

WIDE, NARROW = Layout(920, 2, 196, row=19), Layout(360, 1, 168, row=19)
FIGURES, FOOT = 84.0, 38.0


def shown(rows: list[Row]) -> list[Row]:
    """Give the rows of the trained models under the lens that decides."""
    return [r for r in rows if r["group"] == "trained" and r["lens"] == "final_norm"]


def shares(name: str, members: list[Member], rows: list[Row], models: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw each motif's share (0 to 1) of all words of its length, a dot a model, words of two and of three states.

    At the right: p after Holm, and a filled square where the motif is conserved.
    """
    rows, models = shown(rows), shown(models)
    kinds = {m.model: m for m in members if not m.twin}
    marks, top = [], 0.0
    bottoms = []
    wide = layout.across > 1
    high = max((r["share"] for r in models if is_number(r["share"])), default=1.0)
    for length, left, pitch in ((2, 0.0, 400.0), (3, 400.0, 520.0)) if wide else ((2, 0.0, 360.0), (3, 0.0, 360.0)):
        own = [r for r in rows if r["length"] == length]
        names = layout.left if length == 3 or not wide else 120.0
        axis = Scale(0.0, high * 1.08, left + names, left + pitch - FIGURES)
        marks.append(_panel(own, models=models, kinds=kinds, axis=axis, top=top, names=names, layout=layout))
        bottoms.append(top + HEAD + layout.row * len(own) + FOOT)
        top = 0.0 if wide else bottoms[-1]
    said = "; ".join(f"{r['motif']}: p {number(r['p_holm'])}{', conserved' if r['conserved'] else ''}" for r in rows)
    return svg.frame(name, "Motifs of the grammar", f"{said}.", layout.width, max(bottoms), *marks)


def _panel(
    rows: Sequence[Row],
    models: list[Row],
    kinds: dict[str, Member],
    axis: Scale,
    top: float,
    names: float,
    layout: Layout,
) -> Markup:
    bottom = top + HEAD + layout.row * len(rows)
    length = rows[0]["length"] if rows else 0
    title = f"words of {'two' if length == 2 else 'three'} states"
    marks = [
        svg.text(svg.fitted(title, axis.end - axis.start + 60), axis.start, top + 14, "heading"),
        svg.text("share", axis.start, top + 28, "note"),
        svg.text("p, after Holm", axis.end + 10, top + 28, "note"),
    ]
    marks += columns(axis, axis.ticks(3), top + HEAD, bottom)
    for i, row in enumerate(rows):
        y = top + HEAD + (i + 0.5) * layout.row
        words = str(row["motif"]).replace("-", " → ")
        kind = "label own" if row["own_order"] else "label"
        marks.append(svg.text(svg.fitted(words, names - 4, 10.5), axis.start - 10, y + 4, kind, "end"))
        for one in models:
            if one["motif"] == row["motif"] and one["null"] == "order" and str(one["model"]) in kinds:
                marks.append(_expected(axis, y, one))
                marks.append(_dot(axis, y, kinds[str(one["model"])], one))
        marks.append(_verdict(axis.end + 10, y, row))
    return svg.group(*marks)


def _expected(axis: Scale, y: float, row: Row) -> Markup:
    """Mark the share that chains of the same transitions without longer memory have, where the table says it."""
    expected = row.get("share_first_order")
    if not is_number(expected):
        return Markup("")
    return svg.line(axis.clipped(expected), y - 6, axis.clipped(expected), y + 6, "runs")


def _dot(axis: Scale, y: float, member: Member, row: Row) -> Markup:
    if not is_number(row["share"]):
        return Markup("")
    tip = svg.tip(f"{member.label}, {row['motif']}: {number(row['share'])} ({number(row['count'])} times)")
    return dot(axis(row["share"]), y, 3.0, member.kind, tip)


def _verdict(x: float, y: float, row: Row) -> Markup:
    mark = svg.rect(x, y - 4, 8, 8, "verdict" if row["conserved"] else "verdict none")
    written = number(row["p_holm"], 2) if is_number(row["p_holm"]) else "—"
    return svg.group(mark, svg.text(written, x + 14, y + 4, "tick said"))


def caption(rows: list[Row], models: list[Row]) -> Markup:
    """Caption of the shares."""
    rows, models = shown(rows), shown(models)
    most = extent((r["permutations"] for r in rows), "permutations")
    return written("motifs", models, models=extent((r["n_models"] for r in rows), "models"), most=most)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    words, models = folder.rows("motifs"), folder.rows("motifs_models")
    if not shown(words) or not models:
        return []
    drawn = pair("motifs", shares, members, words, models, layouts=(WIDE, NARROW), caption=caption(words, models))
    return [Legend(twins=False), drawn]


SECTION = Section("motifs", "Motifs", "Motifs", ("motifs", "motifs_models"), _blocks, ("motif", "grammar"))
