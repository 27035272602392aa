"""Two studies on one page: verdicts side by side, both intervals of a claim on one axis, what else was declared."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from phaselens.report import svg, verdict_prose
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import dot
from phaselens.report.forest_plot import whisker
from phaselens.report.study_files import Row
from phaselens.report.template_files import filled
from phaselens.report.written_values import DASH, count, interval, is_number, number, sentence, value, visible
from phaselens.trace.store import atomic_write

WIDTH, HEIGHT, EDGE = 250.0, 56.0, 20.0
KINDS = ("hue0", "hue1")  # first study, second


@dataclass(frozen=True)
class Line:
    """One claim in both studies, as the page writes it; a side is None where the study did not judge the claim."""

    id: str
    statement: str
    sides: tuple[verdict_prose.Entry | None, verdict_prose.Entry | None]
    figure: Markup
    changed: str


def write_comparison(found: Row, out: str | Path) -> Path:
    """Write the page of what `phaselens compare` found as one self-contained file.

    Every claim has `changed` (in words) and `unlike` (its two estimates do not compare). Raises OutputError where the
    file cannot be written.
    """
    return atomic_write(Path(out), comparison(found).encode("utf-8"))


def comparison(found: Row) -> str:
    """Give the page as HTML; it needs no network, no JavaScript and nothing beside it."""
    lines = [_line(row) for row in found["claims"]]
    return filled(
        "compare.html.j2",
        names=[visible(name, 120) for name in found["names"]],
        lede=_lede(lines),
        lines=lines,
        kinds=KINDS,
        swatch=svg.swatch,
        dash=DASH,
        declared=[(visible(row["field"]), _said(row["first"]), _said(row["second"])) for row in found["declaration"]],
    )


def _line(row: Row) -> Line:
    claims = row["first"], row["second"]
    one, other = (None if claim is None else verdict_prose.ledger([claim])[0] for claim in claims)
    statement = next(side.statement for side in (one, other) if side is not None)
    figure = Markup("") if row["unlike"] else intervals(f"compare-{row['id']}", claims)
    return Line(visible(str(row["id"])), statement, (one, other), figure, visible(str(row["changed"])))


def _lede(lines: Sequence[Line]) -> str:
    both = [line for line in lines if None not in line.sides]
    same = sum(one.verdict == other.verdict for one, other in (line.sides for line in both))
    alone = len(lines) - len(both)
    alike = "none of them" if not same else count(same, "of them", "of them")
    said = f"{count(len(both), 'claim')} judged by both studies, {alike} with one verdict"
    return sentence(said + (f"; {count(alone, 'claim')} judged by one alone" if alone else ""))


def _said(content: object) -> str:
    return "not said" if content is None else value(content)


def intervals(name: str, claims: Sequence[Row | None]) -> Markup:
    """Draw the estimates of both studies with their 95 % intervals on one axis, and what chance gives as strokes."""
    each = [(k, *_numbers(claim)) for k, claim in enumerate(claims)]
    shown = [(k, estimate, low, high, null) for k, estimate, low, high, null in each if is_number(estimate)]
    ends = span([x for _, *numbers in shown for x in numbers], pad=0.1)
    if ends is None:
        return Markup("")
    axis, marks = Scale(*ends, EDGE, WIDTH - EDGE), []
    for k, estimate, low, high, null in shown:
        y = 12.0 + 14.0 * k
        if is_number(low) and is_number(high):
            marks.append(whisker(axis, y, low, high, KINDS[k]))
        if is_number(null):
            marks.append(svg.line(axis(null), y - 6, axis(null), y + 6, "stroke null"))
        words = svg.tip(f"{number(estimate)} {interval(low, high)}; null {number(null)}")
        marks.append(dot(axis(estimate), y, 4.0, KINDS[k], words))
    marks.append(svg.line(EDGE, 36, WIDTH - EDGE, 36, "axis"))
    marks += [svg.text(number(tick), axis(tick), 49, "tick", "middle") for tick in axis.ticks(4)]
    said = "; ".join(f"{number(e)} {interval(lo, hi)}" for _, e, lo, hi, _ in shown)
    return svg.frame(name, "Both estimates", said, WIDTH, HEIGHT, *marks)


def _numbers(claim: Row | None) -> tuple[object, object, object, object]:
    ends = (claim or {}).get("interval") or (None, None)
    return (claim or {}).get("estimate"), *ends, (claim or {}).get("null")
