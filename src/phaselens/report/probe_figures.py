"""The figures of a probe: capacity along depth with its baselines, small curves beside it, and transfer matrices."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from phaselens.report import svg, written_values
from phaselens.report.axis_scale import Scale, span
from phaselens.report.study_files import Row
from phaselens.report.written_values import is_number, number, visible

Curve = tuple[str, str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Layout:
    """Total width, panels side by side, height of a plot, room for labels at the right end of curves."""

    width: float
    across: int
    plot: float
    label: float


WIDE, NARROW = Layout(920, 4, 230, 150), Layout(360, 2, 190, 98)
LAYOUTS = {"wide": WIDE, "narrow": NARROW}
LEFT, HEAD, FOOT, SMALL, CELL = 46.0, 26.0, 34.0, 110.0, 34.0
BASELINES = (("twin", "untrained twin", "hue1 dash1"), ("covariates", "covariates", "hue2 dash3"))


def capacity(name: str, task: Row, layout: Layout = WIDE) -> Markup:
    """Draw capacity over l/L with its interval, the high-capacity region, the interval of the peak, and baselines."""
    rows: Sequence[Row] = task["layers"]  # type: ignore[assignment]
    columns = ("capacity", "lo", "hi", "twin", "covariates")
    domain = span([0.0, *(row[c] for row in rows for c in columns)]) or (0.0, 1.0)
    x = Scale(0.0, 1.0, LEFT, layout.width - 14 - layout.label)
    y = Scale(*domain, HEAD + layout.plot, HEAD)
    own = points(rows, "capacity")
    others = [(label, kind, points(rows, column)) for column, label, kind in BASELINES]
    curves: list[Curve] = [("this model", "hue0", own), *(c for c in others if c[2])]
    marks = [_region(x, y, rows), axes(x, y, "capacity (1) by relative depth"), _ribbon(x, y, rows)]
    if own:
        level = own[0][1]
        marks.append(svg.line(x.start, y(level), x.end, y(level), "unity"))
    marks += [_curve(x, y, curve, points_too=k == 0) for k, curve in enumerate(curves)]
    marks += [_peak(x, y, task), _labels(x, y, curves, own, layout.label)]
    said = f"Capacity of {task['task']} at {len(rows)} layers, with {', '.join(c[0] for c in curves[1:]) or 'no twin'}."
    return svg.frame(name, "Capacity by relative depth", said, layout.width, HEAD + layout.plot + FOOT, *marks)


def small(name: str, task: Row, layout: Layout = WIDE) -> Markup:
    """Draw AUROC, selectivity and compression over l/L, and accuracy against how many numbers of a state are kept."""
    rows: Sequence[Row] = task["layers"]  # type: ignore[assignment]
    panels = [
        (title, [(title, "hue0", points(rows, column))], False)
        for title, column in (("AUROC", "auroc"), ("selectivity", "selectivity"), ("MDL compression", "compression"))
    ]
    panels = [panel for panel in panels if panel[1][0][2]]
    ranks: Mapping[str, list] = task["ranks"]  # type: ignore[assignment]
    pairs = [("subspace", "hue0"), ("features", "hue1 dash1")]
    kept = [(label, kind, _defined(zip(ranks["k"], ranks[label], strict=True))) for label, kind in pairs]
    if all(curve[2] for curve in kept):
        panels.append(("accuracy by rank k", kept, True))
    pitch, high = layout.width / layout.across, HEAD + SMALL + FOOT
    marks = []
    for k, (title, curves, log) in enumerate(panels):
        left, top = (k % layout.across) * pitch, (k // layout.across) * high
        every = [p for _, _, curve in curves for p in curve]
        ends = (1.0, float(max(p[0] for p in every))) if log else (0.0, 1.0)
        x = Scale(*ends, left + LEFT, left + pitch - 14, log=log)
        y = Scale(*(span([v for _, v in every]) or (0.0, 1.0)), top + HEAD + SMALL, top + HEAD)
        marks.append(axes(x, y, title, ticks=[p[0] for p in curves[0][2]] if log else None))
        marks += [_curve(x, y, curve, points_too=True) for curve in curves]
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


def points(rows: Sequence[Row], column: str) -> list[tuple[float, float]]:
    """The (depth, value) of the layers where the column has a value."""
    return _defined((row["depth"], row[column]) for row in rows)


def _defined(pairs: Iterable[tuple[object, object]]) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in pairs if is_number(a) and is_number(b)]  # type: ignore[arg-type]


def axes(x: Scale, y: Scale, heading: str, ticks: Sequence[float] | None = None) -> Markup:
    """Write the axes of one panel and its heading; `ticks` are those of a logarithmic axis of k instead of l/L."""
    room = x.end - x.start
    marks = [svg.text(svg.fitted(heading, room + 12, 11.5), x.start, y.end - 10, "heading")]
    for tick in y.ticks(4):
        marks.append(svg.line(x.start, y(tick), x.end, y(tick), "grid"))
        marks.append(svg.text(written_values.tick(tick), x.start - 5, y(tick) + 4, "tick", "end"))
    marks.append(svg.line(x.start, y.start, x.end, y.start, "axis"))
    shown = (0.0, 0.5, 1.0) if ticks is None else ticks
    for k, tick in enumerate(shown):
        anchor = "middle" if 0 < k < len(shown) - 1 else "end" if k else None
        said = "l/L = 1" if ticks is None and tick == 1 else f"k = {number(tick)}" if ticks and not k else number(tick)
        marks.append(svg.line(x(tick), y.start, x(tick), y.start + 3, "axis"))
        marks.append(svg.text(said, x(tick), y.start + 15, "tick", anchor))
    return svg.group(*marks)


def _region(x: Scale, y: Scale, rows: Sequence[Row]) -> Markup:
    """Shade the layers of the high-capacity region, each from half-way to its neighbours."""
    depths = [float(row["depth"]) for row in rows]  # type: ignore[arg-type]
    edges = [0.0, *((a + b) / 2 for a, b in zip(depths, depths[1:], strict=False)), 1.0]
    return svg.group(
        *(
            svg.rect(x(edges[k]), y.end, x(edges[k + 1]) - x(edges[k]), y.start - y.end, "band")
            for k, row in enumerate(rows)
            if row["region"]
        )
    )


def _ribbon(x: Scale, y: Scale, rows: Sequence[Row]) -> Markup:
    lower, upper = points(rows, "lo"), points(rows, "hi")
    if len(lower) < 2 or len(lower) != len(upper):
        return Markup("")
    around = [*upper, *reversed(lower)]
    d = "M" + "L".join(f"{svg.place(x(a))} {svg.place(y.clipped(b))}" for a, b in around) + "Z"
    return svg.element("path", d=d, class_="ribbon hue0")


def _curve(x: Scale, y: Scale, curve: Curve, *, points_too: bool) -> Markup:
    label, kind, found = curve
    marks = [svg.path([(x(a), y.clipped(b)) for a, b in found], f"curve {kind}", svg.tip(label))]
    if points_too:
        marks += [
            svg.element("circle", svg.tip(f"{label}: {number(b)}"), cx=x(a), cy=y(b), r=2.4, class_=f"dot {kind}")
            for a, b in found
        ]
    return svg.group(*marks)


def _peak(x: Scale, y: Scale, task: Row) -> Markup:
    """Mark where the peak lies, and the interval of its depth, above the plot."""
    lo, at, hi = (task[k] for k in ("peak_lo", "peak_depth", "peak_hi"))
    marks = []
    if is_number(lo) and is_number(hi):
        marks.append(svg.line(x(lo), y.end - 2, x(hi), y.end - 2, "whisker hue0"))  # type: ignore[arg-type]
    if is_number(at):
        shown = svg.tip(f"peak at l/L = {number(at)}")
        marks.append(svg.element("circle", shown, cx=x(at), cy=y.end - 2, r=4.0, class_="dot hue0"))  # type: ignore[arg-type]
    return svg.group(*marks)


def _labels(x: Scale, y: Scale, curves: Sequence[Curve], own: Sequence[tuple[float, float]], room: float) -> Markup:
    ends = [(label, kind, y.clipped(found[-1][1])) for label, kind, found in curves if found]
    if own:
        ends.append(("l = 0", "anyone", y(own[0][1])))
    places = svg.spread([at for _, _, at in ends], 14.0, y.end, y.start)
    marks = []
    for (label, kind, at), place in zip(ends, places, strict=True):
        marks.append(svg.path([(x.end + 2, at), (x.end + 12, place)], f"leader {kind}"))
        marks.append(svg.text(svg.fitted(label, room - 4, 11), x.end + 15, place + 4, f"end-label {kind}"))
    return svg.group(*marks)
