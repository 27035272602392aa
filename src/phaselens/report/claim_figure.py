"""One claim as a figure: its estimate with interval, what the null gives, and every control beside it."""

from collections.abc import Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.study_files import Row, records
from phaselens.report.written_values import estimated, interval, is_number, number, visible

WIDTH, LEFT, RIGHT, ROW, HEAD, FOOT = 720.0, 190.0, 40.0, 34.0, 58.0, 44.0
STYLE = (
    "<style>.claim-text{font:13px Helvetica,Arial,sans-serif;fill:#1b2026}"
    ".claim-soft{font:11px Helvetica,Arial,sans-serif;fill:#59636e}.claim-bar{stroke:#0072b2;stroke-width:3}"
    ".claim-dot{fill:#0072b2}.claim-null{stroke:#cf5500;stroke-width:1.5;stroke-dasharray:5 4}"
    ".claim-axis{stroke:#59636e;stroke-width:1}</style>"
)


def claim_figure(row: Row, statistic: str = "") -> Markup:
    """Draw one row of claims.json: estimate and interval, the null as a line, controls with what they did.

    `statistic` names the axis.
    """
    ends = row.get("interval")
    lo, hi = ends if isinstance(ends, (list, tuple)) else (None, None)
    controls = records(row.get("controls"))
    null = row.get("null")
    scale = _scale([row.get("estimate"), lo, hi, null])
    top = HEAD + ROW
    parts = [
        svg.text(f"{row['id']}: {row['verdict']}", 16.0, 24.0, "claim-text"),
        svg.text(svg.fitted(visible(str(row.get("statement", ""))), WIDTH - 32), 16.0, 42.0, "claim-soft"),
        _marks(str(row["id"]), row.get("estimate"), lo, hi, HEAD + 0.6 * ROW, scale),
    ]
    if is_number(null) and scale is not None:
        at = scale(null)
        parts.append(svg.line(at, HEAD, at, top + 8, "claim-null"))
        parts.append(svg.text(f"null {number(null)}", at + 5, top + 8, "claim-soft"))
    nothing = svg.text("no estimate", LEFT, HEAD + 20, "claim-soft")
    parts.append(nothing if scale is None else _axis(scale, top + 12, statistic))
    for i, control in enumerate(controls):
        said = f"{control.get('name')}: {control.get('outcome')} ({control.get('why')})"
        parts.append(svg.text(svg.fitted(visible(said), WIDTH - 32), 16.0, top + 84 + 18 * i, "claim-soft"))
    height = top + FOOT + 18 * len(controls) + 38
    why = visible(str(row.get("why", "")))
    said = f"estimate {number(row.get('estimate'))} {interval(lo, hi) if ends else ''}; null {number(null)}; {why}"
    framed = svg.frame(f"claim-{row['id']}", f"{row['id']}: {row['verdict']}", said, WIDTH, height, *parts)
    return Markup(str(framed).replace("</desc>", f"</desc>{STYLE}", 1))


def _scale(values: Sequence[object]) -> Scale | None:
    """The axis that holds what is known, drawn over the width beside the names; None where nothing is."""
    ends = span(values, pad=0.12)
    return None if ends is None else Scale(*ends, LEFT, WIDTH - RIGHT)


def _marks(name: str, estimate: object, lo: object, hi: object, y: float, scale: Scale | None) -> Markup:
    parts = [svg.text(name, 16.0, y + 4, "claim-text")]
    if scale is not None and is_number(lo) and is_number(hi):
        parts.append(svg.line(scale(lo), y, scale(hi), y, "claim-bar"))
    if scale is not None and is_number(estimate):
        said = f"{number(estimate)} {interval(lo, hi) if is_number(lo) else ''}".strip()
        parts.append(svg.element("circle", svg.tip(said), cx=scale(estimate), cy=float(y), r=5.0, class_="claim-dot"))
        parts.append(svg.text(said, 44.0, y + 4, "claim-soft"))
    else:
        parts.append(svg.text("no estimate", 44.0, y + 4, "claim-soft"))
    return svg.group(*parts)


def _axis(scale: Scale, y: float, name: str) -> Markup:
    marks = []
    for tick in scale.ticks(6):
        marks.append(svg.line(scale(tick), y, scale(tick), y + 4, "claim-axis"))
        marks.append(svg.text(number(tick), scale(tick), y + 18, "claim-soft", "middle"))
    for k, words in enumerate(svg.wrapped(name, WIDTH - RIGHT - 16, 11)):
        marks.append(svg.text(words, WIDTH - RIGHT, y + 34 + 14 * k, "claim-soft", "end"))
    return svg.group(svg.line(LEFT, y, WIDTH - RIGHT, y, "claim-axis"), *marks)


SMALL = (230.0, 58.0)


def small_figure(
    name: str, estimate: object, low: object, high: object, null: object, twins: Sequence[object] = ()
) -> Markup:
    """An estimate at a glance with its interval, the null dashed, untrained `twins` hollow; empty where it has none."""
    ends = span([estimate, low, high, null, *twins], pad=0.15)
    if ends is None or not is_number(estimate):
        return Markup("")
    width, height = SMALL
    x = Scale(*ends, 8.0, width - 8)
    marks = [svg.line(8, 36, width - 8, 36, "axis")]
    if is_number(null):
        marks.append(svg.line(x(null), 4, x(null), 36, "null-line"))
        marks.append(svg.text(number(null, 2), x(null), 52, "tick", "middle"))
    for at, kind, (_, lo, hi) in ((20, "claim-range", (estimate, low, high)), (29, "twin-range", twins or (None,) * 3)):
        if is_number(lo) and is_number(hi):
            marks.append(svg.line(x(lo), at, x(hi), at, kind))
    if twins and is_number(twins[0]):
        tip = svg.tip(f"untrained twins: {estimated(*twins)}")
        marks.append(svg.element("circle", tip, cx=x(twins[0]), cy=29.0, r=3.5, class_="twin-point"))
    said = estimated(estimate, low, high)
    marks.append(svg.element("circle", svg.tip(said), cx=x(estimate), cy=20.0, r=5.0, class_="claim-point"))
    return svg.frame(f"small-{name}", name, f"{said}; null {number(null)}", width, height, *marks)
