"""Curves over relative depth l/L: GD_ratio with labels at its ends, and small panels for the other observables."""

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from phaselens.report import captions, svg, symbols
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import Curve, Layout, axes, end_names
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Legend, Said, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.symbols import unit_of
from phaselens.report.written_values import is_number, visible

GD_WIDE, GD_NARROW = Layout(920, 2, right=140, plot=250), Layout(360, 1, right=118, plot=220)
WIDE, NARROW = Layout(920, 4, plot=104), Layout(360, 2, plot=96)
LEFT, HEAD, FOOT = 44.0, 26.0, 34.0
LEAST_KL = 1e-4  # below: equal to the output to rounding


def gd_by_depth(name: str, members: list[Member], rows: list[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw GD_ratio (1, log axis) over l/L, a panel per version, trained models labelled at the end of their curve."""
    return _by(name, "GD_ratio by relative depth", members, rows, "version", "GD_ratio", layout, log=True)


def kl_by_depth(name: str, members: list[Member], rows: list[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw the KL of each lens from the output (nats, log axis) over l/L, a panel per lens."""
    shown = [row for row in rows if is_number(row["kl"]) and row["kl"] > LEAST_KL]
    return _by(name, "KL from the output by relative depth", members, shown, "lens", "kl", layout, log=True)


def capacity_by_depth(name: str, members: Sequence[Member], rows: Sequence[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw the capacity of probes (1) over l/L, a panel per task, trained models labelled at the end of their curve."""
    own = [{"twin": False, **row} for row in rows]
    return _by(name, "Capacity of probes by relative depth", members, own, "task", "capacity", layout)


def _by(
    name: str,
    title: str,
    members: Sequence[Member],
    rows: Sequence[Row],
    key: str,
    column: str,
    layout: Layout,
    *,
    log: bool = False,
) -> Markup:
    """Draw one column, all panels (one a value of `key`) with one axis."""
    ends = [row[c] for row in rows for c in (column, "lo", "hi")]
    domain = span(ends if log else [0.0, *ends], log=log) or ((0.1, 10.0) if log else (0.0, 1.0))
    if column == "kl":
        domain = max(domain[0], LEAST_KL), domain[1]
    kinds = dict.fromkeys(str(row[key]) for row in rows)
    panels = [(visible(one), column, [row for row in rows if str(row[key]) == one], domain) for one in kinds]
    plot = layout.plot if key == "version" and len(panels) <= 2 else 0.66 * layout.plot
    plot = max(plot, 13.0 * sum(not m.twin for m in members))  # room for every label
    return grid(name, title, members, panels, replace(layout, plot=plot), log=log)


def profiles(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw every observable of `results/depth.parquet` over l/L, in small panels, each in its own unit."""
    panels = []
    for observable in dict.fromkeys(str(row["observable"]) for row in rows):
        chosen = [row for row in rows if str(row["observable"]) == observable]
        domain = span([row[c] for row in chosen for c in ("value", "lo", "hi")]) or (0.0, 1.0)
        panels.append((heading(observable), "value", chosen, domain))
    return grid(name, "Observables by relative depth", members, panels, layout)


def heading(observable: str) -> str:
    """Name an observable with its unit."""
    unit = unit_of(observable)
    return f"{visible(observable)} ({unit})" if unit else visible(observable)


def grid(
    name: str, title: str, members: Sequence[Member], panels: list, layout: Layout, *, log: bool = False
) -> Markup:
    """Draw panels (heading, column, rows, domain) of curves over l/L, named at their ends where there is room."""
    across = min(layout.across, len(panels))
    pitch, high = layout.width / layout.across, HEAD + layout.plot + FOOT
    marks = []
    for k, (heading, column, rows, domain) in enumerate(panels):
        left, top = (k % across) * pitch, (k // across) * high
        x = Scale(0.0, 1.0, left + LEFT, left + pitch - 14 - layout.right)
        y = Scale(domain[0], domain[1], top + HEAD + layout.plot, top + HEAD, log=log)
        own = [(m.label, m.kind, of(rows, m), column) for m in members]
        twins = [Curve(*one) for m, one in zip(members, own, strict=True) if m.twin]
        trained = [Curve(*one, "lo", "hi", m.short) for m, one in zip(members, own, strict=True) if not m.twin]
        marks.append(axes(x, y, heading, room=layout.right, at=1 if log else None))
        marks += [one.drawn(x, y) for one in (*twins, *trained)]  # trained curves lie on top
        if layout.right:
            marks.append(end_names(x, y, trained, layout.right, "at the last layer"))
    said = f"{title} for {len(members)} models: " + ", ".join(str(panel[0]) for panel in panels) + "."
    return svg.frame(name, title, said, layout.width, high * -(-len(panels) // across), *marks)


def drawable(rows: list[Row], key: str, column: str) -> tuple[list[Row], list[str]]:
    """Split off what no model has: the rows of names with a number somewhere, and the other names."""
    known = {str(row[key]) for row in rows if is_number(row[column])}
    absent = dict.fromkeys(str(row[key]) for row in rows if str(row[key]) not in known)
    return [row for row in rows if str(row[key]) in known], list(absent)


def nothing_defined(folder: Folder, table: str, column: str) -> Said | None:
    """Say that nothing in a table is defined for any model; None where something is."""
    rows = folder.rows(table)
    if not rows or any(is_number(row[column]) for row in rows):
        return None
    return Said([f"results/{table}.parquet holds no defined {column} for any model: there is nothing to draw."])


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows, shown = folder.rows("depth"), []
    for group in symbols.FIGURES:
        every = [row for row in rows if symbols.group_of(str(row["observable"])) == group]
        own, undefined = drawable(every, "observable", "value")
        if own:
            said = captions.profiles(own, group, undefined)
            shown.append(pair(f"depth-{group}", profiles, members, own, layouts=(WIDE, NARROW), caption=said))
    legend = Legend(twins=any(m.twin for m in members)) if shown else None
    return [nothing_defined(folder, "depth", "value"), legend, *shown]


SECTION = Section("depth", "Depth profiles", "Depth profiles", ("depth",), _blocks, always=True)
