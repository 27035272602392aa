"""Estimates with their intervals in rows, one panel a quantity: ambiguity and pairs of models are shown so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import Layout, columns, dot, names
from phaselens.report.written_values import estimated, is_number


@dataclass(frozen=True)
class Mark:
    """One estimate: value and ends in the panel's unit, the style of its dot, what its tooltip says before them.

    `faint` estimates are drawn smaller, below the others: what they stand beside.
    """

    value: object
    low: object
    high: object
    kind: str
    said: str
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: heading, note under it, marks by row, value of the dashed line (None: none), fixed ends of axis."""

    heading: str
    note: str
    marks: Mapping[str, Sequence[Mark]]
    at: float | None = 0.0
    ends: tuple[float, float] | None = None


WIDE, NARROW = Layout(920, 4, 190), Layout(360, 1, 122)
HEAD, FOOT, GAP = 38.0, 36.0, 24.0


def forest(
    name: str, title: str, rows: Sequence[tuple[str, str, str]], panels: Sequence[Panel], layout: Layout = WIDE
) -> Markup:
    """Draw panels of estimates with 95 % intervals; rows are (key, label, style of the label), the same in every panel.

    A row without a defined estimate holds a dash. Ends of intervals beyond a fixed axis are cut by an arrow.
    """
    across = min(layout.across, max(len(panels), 1))
    pitch, high = (layout.width - layout.left) / across, HEAD + layout.row * len(rows) + FOOT
    marks = []
    for k, panel in enumerate(panels):
        left, top = layout.left + (k % across) * pitch, (k // across) * high
        if k % across == 0:
            labels = [(label, kind) for _, label, kind in rows]
            at = layout.left - 10, top + HEAD + layout.row / 2 + 4
            marks += names(labels, *at, layout.row, layout.left - 16)
        marks.append(_panel(panel, rows, left, top, pitch, layout.row))
    said = "; ".join(
        f"{panel.heading}, {label}: {_said(one)}"
        for panel in panels
        for key, label, _ in rows
        for one in panel.marks.get(key, ())
        if not one.faint
    )
    return svg.frame(name, title, f"{said}.", layout.width, high * -(-len(panels) // across), *marks)


def _said(mark: Mark) -> str:
    return f"{estimated(mark.value, mark.low, mark.high)}"


def _panel(
    panel: Panel, rows: Sequence[tuple[str, str, str]], left: float, top: float, pitch: float, row: float
) -> Markup:
    ends = [end for marks in panel.marks.values() for m in marks for end in (m.value, m.low, m.high)]
    low, high = panel.ends or span([*ends, *(() if panel.at is None else (panel.at,))], pad=0.08) or (-1.0, 1.0)
    axis = Scale(low, high, left + 4, left + pitch - GAP)
    first, last = top + HEAD, top + HEAD + row * len(rows)
    room = axis.end - axis.start
    marks = [
        svg.text(svg.fitted(panel.heading, room), axis.start, top + 14, "heading"),
        svg.text(svg.fitted(panel.note, room, 11), axis.start, top + 28, "note"),
    ]
    marks += columns(axis, axis.ticks(4), first, last, at=panel.at)
    marks.append(svg.line(axis.start, last, axis.end, last, "axis"))
    for k, (key, _, _) in enumerate(rows):
        y, own = first + (k + 0.5) * row, panel.marks.get(key, ())
        marks += [estimate(axis, y + (5 if m.faint else -1), m) for m in own]
        if not any(is_number(m.value) for m in own):
            marks.append(svg.text("—", axis.start + 2, y + 4, "note"))
    return svg.group(*marks)


def estimate(axis: Scale, y: float, mark: Mark) -> Markup:
    """Draw one estimate with its interval; an end beyond the axis is an arrow."""
    if not is_number(mark.value):
        return Markup("")
    marks = [svg.tip(f"{mark.said}: {_said(mark)}")]
    if is_number(mark.low) and is_number(mark.high):
        marks.append(whisker(axis, y, mark.low, mark.high, mark.kind, 2.0 if mark.faint else 4.0))
    if axis.holds(mark.value):
        marks.append(dot(axis(mark.value), y, 1.6 if mark.faint else 2.8, mark.kind))
    return svg.group(*marks)


def whisker(axis: Scale, y: float, low: float, high: float, kind: str, cap: float = 4.0) -> Markup:
    """Draw an interval with caps at its ends; where an end lies beyond the axis it is cut by an arrow instead."""
    x1, x2 = axis.clipped(low), axis.clipped(high)
    ends = []
    for x, inside, way in ((x1, low >= axis.low, 1), (x2, high <= axis.high, -1)):
        at, beside = svg.place(x), svg.place(x + 4.0 * way)
        if inside:
            ends.append(f"M{at} {svg.place(y - cap)}V{svg.place(y + cap)}")
        else:
            ends.append(f"M{beside} {svg.place(y - 3.0)}L{at} {svg.place(y)}L{beside} {svg.place(y + 3.0)}")
    d = f"M{svg.place(x1)} {svg.place(y)}H{svg.place(x2)}{''.join(ends)}"
    return svg.element("path", d=d, class_=f"capped {kind}")
