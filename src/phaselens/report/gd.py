"""GD_ratio under every version: one small panel per version, models in the same order, one logarithmic axis for all."""

from collections.abc import Sequence

from markupsafe import Markup

from phaselens.dynamics.published_figures import GD_RATIO
from phaselens.report import captions, data_tables, depth_curves, distribution_controls, svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import Layout, columns, dot, names
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Said, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import estimated, is_number, number

TITLE = "GD_ratio of every model under every version"
PUBLISHED = "published, others"


WIDE, NARROW = Layout(920, 4, 190), Layout(360, 1, 122)
HEAD, FOOT, GAP = 50.0, 34.0, 22.0


def versions(rows: list[Row]) -> list[tuple[str, str, str]]:
    """List the (version, lens, control) of the table in the order of their first mention."""
    return list(dict.fromkeys((str(r["version"]), str(r["lens"]), str(r["control"])) for r in rows))


def gd_panels(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw GD_ratio (1) with its 95 % interval per model, a panel per version; published values are ticks."""
    kinds = versions(rows)
    across = 3 if layout.across == 4 and len(kinds) in (3, 5, 6, 9) else min(layout.across, len(kinds))
    pitch = (layout.width - layout.left) / across
    high = HEAD + layout.row * (len(members) + 1) + FOOT
    domain = _domain(rows)
    marks = []
    for k, kind in enumerate(kinds):
        column, line = k % across, k // across
        left = layout.left + column * pitch
        axis = Scale(*domain, left + 4, left + pitch - GAP, log=True)
        top = line * high
        if column == 0:
            at, rows_y = layout.left - 10, top + HEAD + layout.row / 2 + 4
            marks += names(map(layout.named, members), at, rows_y, layout.row, layout.left - 16)
            marks += names([(PUBLISHED, "note")], at, rows_y + len(members) * layout.row, 0, layout.left - 4)
        chosen = [r for r in rows if (str(r["version"]), str(r["lens"]), str(r["control"])) == kind]
        marks.append(_panel(axis, top, layout, kind, members, chosen))
    total = high * -(-len(kinds) // across)
    return svg.frame(name, TITLE, _describe(members, rows), layout.width, total, *marks)


def _domain(rows: list[Row]) -> tuple[float, float]:
    ends = [row[column] for row in rows for column in ("GD_ratio", "lo", "hi")]
    low, high = span([*ends, *(value for _, value in GD_RATIO)], log=True, pad=0.04) or (0.01, 10.0)
    return max(low, 1e-6), min(high, 1e6)


def _panel(
    axis: Scale, top: float, layout: Layout, kind: tuple[str, str, str], members: list[Member], rows: list[Row]
) -> Markup:
    version, lens, control = kind
    first, last = top + HEAD, top + HEAD + layout.row * (len(members) + 1)
    seen = "at the output" if lens == "output" else f"{lens} lens"
    under = (
        seen if control in ("none", "", "None", "lens") else control if lens == "final_norm" else f"{control}, {seen}"
    )
    marks = [
        svg.text(svg.fitted(version, axis.end - axis.start), axis.start, top + 14, "heading"),
        *(
            svg.text(part, axis.start, top + 28 + 13 * k, "note")
            for k, part in enumerate(svg.wrapped(under, axis.end - axis.start + GAP - 4, 10))
        ),
    ]
    marks += columns(axis, axis.ticks(5), first, last, at=1)
    marks.append(svg.line(axis.start, last, axis.end, last, "axis"))
    for k, member in enumerate(members):
        for row in of(rows, member):
            marks.append(_estimate(axis, first + (k + 0.5) * layout.row, member, row))
    y = first + (len(members) + 0.5) * layout.row
    for model, value in GD_RATIO:
        x = axis(value)
        marks.append(
            svg.group(svg.tip(f"published: {model} {number(value)}"), svg.line(x, y - 5, x, y + 5, "stroke null"))
        )
    return svg.group(*marks)


def _estimate(axis: Scale, y: float, member: Member, row: Row) -> Markup:
    value = row["GD_ratio"]
    if not is_number(value) or value <= 0:
        return svg.text("—", axis.start + 2, y + 4, "note")
    marks = [svg.tip(f"{member.label}, {row['version']}: {estimated(value, row['lo'], row['hi'])}")]
    if is_number(row["lo"]) and is_number(row["hi"]) and row["lo"] > 0:
        low, high = axis.clipped(row["lo"]), axis.clipped(row["hi"])
        d = f"M{svg.place(low)} {svg.place(y - 4.5)}v9m0-4.5H{svg.place(high)}m0-4.5v9"
        marks.append(svg.element("path", d=d, class_=f"capped {member.kind}"))
    marks.append(dot(axis.clipped(value), y, 2.8, member.kind))
    return svg.group(*marks)


def _describe(members: Sequence[Member], rows: list[Row]) -> str:
    said = [
        f"{member.label} {row['version']} {number(row['GD_ratio'])}" for member in members for row in of(rows, member)
    ]
    return "Dots with 95 % intervals. " + "; ".join(said) + "."


CLAIMS = ("G1", "G2", "G3", "G4", "G5", "G6", "G9", "G10")


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows, undefined = depth_curves.drawable(folder.rows("gd_models"), "version", "GD_ratio")
    by_depth, _ = depth_curves.drawable(folder.rows("gd_depth"), "version", "GD_ratio")
    broad = (depth_curves.GD_WIDE, depth_curves.GD_NARROW)
    out: list[Block | None] = [depth_curves.nothing_defined(folder, "gd_models", "GD_ratio")]
    if rows:
        said = captions.gd(rows, len(versions(rows)), undefined)
        out.append(pair("gd", gd_panels, members, rows, layouts=(WIDE, NARROW), caption=said, claims=CLAIMS))
        out.append(listed(data_tables.gd(folder, members), "The numbers of this figure"))
    out.append(Said(gone) if (gone := folder.lack("results/temperature.json")) else None)
    out.append(listed(data_tables.temperature(folder), "The common temperature"))
    out.append(depth_curves.nothing_defined(folder, "gd_depth", "GD_ratio"))
    if by_depth:
        said = captions.sampled("gd_by_depth", rows)
        out.append(pair("gd-depth", depth_curves.gd_by_depth, members, by_depth, layouts=broad, caption=said))
    if pairs := [r for r in folder.rows("gd_pairs") if is_number(r["effect"])]:
        layouts = distribution_controls.WIDE, distribution_controls.NARROW
        said = distribution_controls.pair_caption(pairs)
        out.append(pair("gd-pairs", distribution_controls.pairs, members, pairs, layouts=layouts, caption=said))
    lenses = folder.rows("lens_kl")
    if any(is_number(r["kl"]) for r in lenses):
        said = distribution_controls.kl_caption(lenses)
        out.append(pair("lens-kl", depth_curves.kl_by_depth, members, lenses, layouts=broad, caption=said))
    return out


SECTION = Section(
    "gd",
    "G and D",
    "G and D under every control",
    ("gd_models", "gd_depth", "gd_pairs", "lens_kl"),
    _blocks,
    ("G", "D", "GD_ratio", "top1", "rivalry"),
    always=True,
)
