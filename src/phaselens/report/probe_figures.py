"""The figures of a probe: capacity along depth with its baselines, small curves beside it, and transfer matrices."""

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import Curve, Layout, axes, dot, end_names
from phaselens.report.study_files import Row
from phaselens.report.written_values import is_number, number, visible

WIDE, NARROW = Layout(920, 4, right=150, plot=230), Layout(360, 2, right=98, plot=190)
LAYOUTS = {"wide": WIDE, "narrow": NARROW}
LEFT, HEAD, FOOT, SMALL, CELL = 46.0, 26.0, 34.0, 110.0, 34.0
BASELINES = (("twin", "untrained twin", "hue1 dash1"), ("covariates", "covariates", "hue2 dash3"))


def capacity(name: str, task: Row, layout: Layout = WIDE) -> Markup:
    """Draw capacity over l/L with its interval, the high-capacity region, the interval of the peak, and baselines."""
    rows: Sequence[Row] = task["layers"]
    columns = ("capacity", "lo", "hi", "twin", "covariates")
    domain = span([0.0, *(row[c] for row in rows for c in columns)]) or (0.0, 1.0)
    x = Scale(0.0, 1.0, LEFT, layout.width - 14 - layout.right)
    y = Scale(*domain, HEAD + layout.plot, HEAD)
    own = Curve("this model", "hue0", rows, "capacity", "lo", "hi")
    others = [c for column, label, kind in BASELINES if (c := Curve(label, kind, rows, column)).pieces()]
    first = [("l = 0", "anyone", found[0][0][1])] if (found := own.pieces()) else []
    marks = [_region(x, y, rows), axes(x, y, "capacity (1) by relative depth")]
    marks += [svg.line(x.start, y(level), x.end, y(level), "unity") for _, _, level in first]
    marks += [own.drawn(x, y, dots=True), *(one.drawn(x, y) for one in others), _peak(x, y, task)]
    marks.append(end_names(x, y, [own, *others], layout.right, also=first))
    said = f"Capacity of {task['task']} at {len(rows)} layers, with {', '.join(c.name for c in others) or 'no twin'}."
    return svg.frame(name, "Capacity by relative depth", said, layout.width, HEAD + layout.plot + FOOT, *marks)


def small(name: str, task: Row, layout: Layout = WIDE) -> Markup:
    """Draw AUROC, selectivity and compression over l/L, and accuracy against how many numbers of a state are kept."""
    rows: Sequence[Row] = task["layers"]
    panels = [
        (title, [Curve(title, "hue0", rows, column)], False)
        for title, column in (("AUROC", "auroc"), ("selectivity", "selectivity"), ("MDL compression", "compression"))
    ]
    panels = [panel for panel in panels if panel[1][0].pieces()]
    ranks: Mapping[str, list] = task["ranks"]
    at_k = [dict(zip(("depth", *ranks), one, strict=True)) for one in zip(ranks["k"], *ranks.values(), strict=True)]
    kept = [Curve(name, kind, at_k, name) for name, kind in (("subspace", "hue0"), ("features", "hue1 dash1"))]
    if all(curve.pieces() for curve in kept):
        panels.append(("accuracy by rank k", kept, True))
    pitch, high = layout.width / layout.across, HEAD + SMALL + FOOT
    marks = []
    for k, (title, curves, log) in enumerate(panels):
        left, top = (k % layout.across) * pitch, (k // layout.across) * high
        every = [point for curve in curves for piece in curve.pieces() for point in piece]
        ends = (1.0, float(max(p[0] for p in every))) if log else (0.0, 1.0)
        x = Scale(*ends, left + LEFT, left + pitch - 14, log=log)
        y = Scale(*(span([v for _, v in every]) or (0.0, 1.0)), top + HEAD + SMALL, top + HEAD)
        marks.append(axes(x, y, title, below="k", ticks=ranks["k"]) if log else axes(x, y, title))
        marks += [curve.drawn(x, y, dots=True) for curve in curves]
    rows_of = -(-len(panels) // layout.across)
    said = ", ".join(panel[0] for panel in panels) + "."
    return svg.frame(name, f"Further figures of {task['task']}", said, layout.width, high * max(rows_of, 1), *marks)


def transfer(name: str, names: Sequence[str], matrix: Sequence[Sequence[float]], layout: Layout = WIDE) -> Markup:
    """Draw how probes trained on one (row) do on another (column): a matrix of accuracies (1), written and shaded."""
    room = min(220.0, layout.width * 0.4)
    size = min(64.0, (layout.width - room - 10) / max(len(names), 1))
    top = 84.0
    marks = [svg.text("trained on ↓   read on →", room - 6, top - 8, "note", "end")]
    for k, label in enumerate(names):
        at = room + (k + 0.5) * size
        turned = f"rotate(-45 {svg.place(at)} {svg.place(top - 8)})"
        marks.append(svg.text(svg.fitted(label, 96, 11), at, top - 8, "note", transform=turned))
        marks.append(svg.text(svg.fitted(label, room - 14, 11), room - 6, top + (k + 0.6) * CELL, "note", "end"))
        for j, value in enumerate(matrix[k]):
            x, y = room + j * size, top + k * CELL
            shade = f"{0.6 * min(max(value, 0.0), 1.0):.2f}" if is_number(value) else "0"
            shown = svg.tip(f"trained on {visible(label)}, read on {visible(names[j])}: {number(value)}")
            marks.append(svg.rect(x, y, size - 2, CELL - 2, "cell", shown, opacity=shade))
            marks.append(svg.text(number(value, 2), x + size / 2 - 1, y + 0.62 * CELL, "figure", "middle"))
    said = f"Transfer among {len(names)}: {', '.join(map(visible, names))}."
    return svg.frame(name, "Transfer", said, layout.width, top + len(names) * CELL + 8, *marks)


def _region(x: Scale, y: Scale, rows: Sequence[Row]) -> Markup:
    """Shade the layers of the high-capacity region, each from half-way to its neighbours."""
    depths = [float(row["depth"]) for row in rows]
    edges = [0.0, *((a + b) / 2 for a, b in zip(depths, depths[1:], strict=False)), 1.0]
    return svg.group(
        *(
            svg.rect(x(edges[k]), y.end, x(edges[k + 1]) - x(edges[k]), y.start - y.end, "band")
            for k, row in enumerate(rows)
            if row["region"]
        )
    )


def _peak(x: Scale, y: Scale, task: Row) -> Markup:
    """Mark where the peak lies, and the interval of its depth, above the plot."""
    lo, at, hi = (task[k] for k in ("peak_lo", "peak_depth", "peak_hi"))
    marks = []
    if is_number(lo) and is_number(hi):
        marks.append(svg.line(x(lo), y.end - 2, x(hi), y.end - 2, "whisker hue0"))
    if is_number(at):
        shown = svg.tip(f"peak at l/L = {number(at)}")
        marks.append(dot(x(at), y.end - 2, 4.0, "hue0", shown))
    return svg.group(*marks)
