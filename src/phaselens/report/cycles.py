"""Collapse and reopening of the output's entropy: a Kaplan-Meier curve per model, with the bands of both nulls."""

from collections.abc import Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout, axes
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import extent, is_number, number, visible

WIDE, NARROW = Layout(920, 4, plot=110), Layout(360, 2, plot=96)
LEFT, HEAD, FOOT = 34.0, 24.0, 38.0
NULLS = (("AR1", "ribbon null", "curve anyone dash3"), ("words", "outline", "curve anyone dash1 thin"))


def deciding(rows: list[Row]) -> list[Row]:
    """Give the rows of the entries that decide: those not inside one word, or all where words are not known."""
    outside = [r for r in rows if r["entries_in"] == "outside"]
    return outside or [r for r in rows if r["entries_in"] == "all"]


def curves(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw the share of collapses not yet reopened (0 to 1) over steps, all trained models first, then each."""
    chosen = deciding(rows)
    twins = {m.model for m in members if m.twin}
    names = [n for n in dict.fromkeys(str(r["model"]) for r in chosen) if n not in twins]
    names = names[-1:] + names[:-1]  # all trained models together stand last in the table
    kinds = {m.model: m.kind for m in members}
    across = min(layout.across, max(len(names), 1))
    pitch, high = layout.width / layout.across, HEAD + layout.plot + FOOT
    marks = []
    for k, model in enumerate(names):
        left, top = (k % across) * pitch, (k // across) * high
        own = sorted((r for r in chosen if str(r["model"]) == model), key=lambda r: r["step"])
        x = Scale(0.0, float(max(r["step"] for r in own) or 1), left + LEFT, left + pitch - 12)
        y = Scale(0.0, 1.0, top + HEAD + layout.plot, top + HEAD)
        steps = range(0, int(x.high) + 1, 4)
        marks.append(axes(x, y, visible(model), below="steps since entry", ticks=steps, values=(0, 0.5, 1)))
        marks.append(_drawn(x, y, own, kinds.get(model, "ink dash0"), model))
        if not any(is_number(r["still"]) for r in own):
            marks.append(svg.text("no such entry: nulls only", x.end, top + HEAD + 12, "note halo", "end"))
    said = "; ".join(f"{n}: {_last(chosen, n)}" for n in names)
    title = "Share of collapses not yet reopened"
    height = high * -(-len(names) // across) if names else high
    return svg.frame(name, title, f"{title}. {said}.", layout.width, height, *marks)


def _last(rows: list[Row], model: str) -> str:
    end = max((r for r in rows if str(r["model"]) == model), key=lambda r: r["step"])
    return f"{number(end['still'])} left at step {end['step']}, {number(end['AR1'])} in the AR(1) surrogate"


def _drawn(x: Scale, y: Scale, rows: Sequence[Row], kind: str, model: str) -> Markup:
    marks = []
    for null, ribbon, line in NULLS:
        marks.append(_ribbon(x, y, rows, f"{null}_lo", f"{null}_hi", ribbon))
        marks.append(_line(x, y, rows, null, line, f"median of the null {null}"))
    marks.append(_ribbon(x, y, rows, "lo", "hi", f"ribbon {kind}"))
    marks.append(_line(x, y, rows, "still", f"curve {kind}", visible(model)))
    return svg.group(*marks)


def _stairs(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A curve that keeps its value until the next step."""
    out = list(points[:1])
    for (_, before), (x, y) in zip(points, points[1:], strict=False):
        out += [(x, before), (x, y)]
    return out


def _line(x: Scale, y: Scale, rows: Sequence[Row], column: str, kind: str, words: str) -> Markup:
    points = [(x(r["step"]), y(r[column])) for r in rows if is_number(r[column])]
    return svg.path(_stairs(points), kind, svg.tip(words)) if len(points) > 1 else Markup("")


def _ribbon(x: Scale, y: Scale, rows: Sequence[Row], low: str, high: str, kind: str) -> Markup:
    both = [r for r in rows if is_number(r[low]) and is_number(r[high])]
    if len(both) < 2:
        return Markup("")
    upper = _stairs([(x(r["step"]), y(r[high])) for r in both])
    lower = _stairs([(x(r["step"]), y(r[low])) for r in both])
    return svg.path([*upper, *reversed(lower)], kind)


def caption(rows: list[Row]) -> Markup:
    """Caption of the curves; `rows` are those of results/cycles.parquet."""
    chosen = [r for r in deciding(rows) if not r["twin"]]
    known = any(r["entries_in"] == "outside" for r in chosen)
    drawn = max((r["n_surrogates"] for r in chosen), default=0)
    entries = extent((r["entries"] for r in chosen), "entries")
    which = "entries that lie inside one word are left out" if known else "word starts are not known: all entries"
    return written("cycles", chosen, which=which, drawn=number(drawn), entries=entries)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    curve, found = folder.rows("cycles_curve"), folder.rows("cycles")
    if not (curve and found):
        return []
    return [pair("cycles", curves, members, curve, layouts=(WIDE, NARROW), caption=caption(found), claims=("C1",))]


TERMS = ("collapse of entropy", "Kaplan-Meier")
SECTION = Section("cycles", "Cycles", "Collapse and reopening", ("cycles", "cycles_curve"), _blocks, TERMS)
