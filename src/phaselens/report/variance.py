"""Shares of variance with their intervals, one panel a measure; the published three-way shares stand beside ours."""

from markupsafe import Markup

from phaselens.dynamics.published_figures import SHARES
from phaselens.report import svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.captions import written
from phaselens.report.data_tables import Reasons, Table, declared, name_cell, text_cell
from phaselens.report.figure_parts import Layout, columns
from phaselens.report.forest_plot import whisker
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import estimated, extent, is_number, listing, number, visible

TITLE = "Shares of variance"
NAMES = {"model:category": "model × category", "model:prompt": "model × prompt"}
BLOCKS = (
    ("these", "these levels", "hue0"),
    ("sampled", "levels as a sample", "hue1"),
    ("three-way", "three-way", "hue2"),
)


WIDE, NARROW = Layout(920, 2, 150, row=19), Layout(360, 1, 118, row=19)
HEAD, BLOCK, FOOT, BAR = 30.0, 22.0, 26.0, 10.0
FARTHEST = -1.0, 2.0


def shares(name: str, rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw each share (1) as a bar from 0 with its 95 % interval; ticks: published three-way shares."""
    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    blocks = [b for b in BLOCKS if any(row["population"] == b[0] for row in rows)]
    terms = {b[0]: list(dict.fromkeys(str(r["term"]) for r in rows if r["population"] == b[0])) for b in blocks}
    inner = sum(BLOCK + layout.row * len(terms[b[0]]) for b in blocks)
    low, high = _ends(rows)
    pitch, marks = layout.width / layout.across, []
    for k, measure in enumerate(measures):
        left, top = (k % layout.across) * pitch, (k // layout.across) * (HEAD + inner + FOOT)
        axis = Scale(low, high, left + layout.left, left + pitch - 18)
        marks.append(svg.text(svg.fitted(measure, pitch - 20), left + layout.left, top + 16, "heading"))
        marks.append(_ticks(axis, top + HEAD, top + HEAD + inner))
        y = top + HEAD
        for population, title, kind in blocks:
            marks.append(svg.text(svg.fitted(title, layout.left - 8, 11), left + 4, y + 15, "note"))
            y += BLOCK
            for term in terms[population]:
                own = [
                    r for r in rows if (r["measure"], r["population"], r["term"]) == (measure, population, term)
                ]  # one row, or none
                marks += [_bar(axis, y, layout.row, left=left, room=layout.left, kind=kind, row=row) for row in own]
                y += layout.row
    lines = -(-len(measures) // layout.across)
    said = "; ".join(f"{r['measure']}, {r['population']}, {r['term']}: {_said(r)}" for r in rows)
    return svg.frame(name, TITLE, f"{said}.", layout.width, lines * (HEAD + inner + FOOT), *marks)


def _ends(rows: list[Row]) -> tuple[float, float]:
    """Give the axis: all of 0 to 1 and the shares; intervals of few prompts reach far beyond and are cut by arrows."""
    shares = [row["share"] for row in rows if is_number(row["share"])]
    ends = [row[c] for row in rows for c in ("lo", "hi") if is_number(row[c]) and FARTHEST[0] <= row[c] <= FARTHEST[1]]
    return span([0.0, 1.0, *shares, *ends], pad=0.04) or (0.0, 1.0)


def _said(row: Row) -> str:
    return f"{estimated(row['share'], row['lo'], row['hi'])}"


def _ticks(axis: Scale, top: float, bottom: float) -> Markup:
    line = svg.line(axis.start, bottom, axis.end, bottom, "axis")
    return svg.group(*columns(axis, axis.ticks(5), top, bottom, at=0), line)


def _bar(axis: Scale, y: float, high: float, left: float, room: float, kind: str, row: Row) -> Markup:
    term = str(row["term"])
    middle = y + high / 2
    label = svg.fitted(NAMES.get(term, term), room - 14, 12)
    marks = [svg.text(label, left + room - 8, middle + 4, "label", "end")]
    if not is_number(row["share"]):
        return svg.group(*marks, svg.text("—", axis(0.0) + 4, middle + 4, "note"))
    ends = sorted((axis(0.0), axis.clipped(row["share"])))
    tip = svg.tip(f"{term}: {_said(row)}, {number(row['levels'])} levels")
    marks.append(svg.rect(ends[0], middle - BAR / 2, max(ends[1] - ends[0], 0.5), BAR, f"share-bar {kind}", tip))
    if is_number(row["lo"]) and is_number(row["hi"]):
        marks.append(whisker(axis, middle, row["lo"], row["hi"], kind))
    published = dict(SHARES).get(term) if row["population"] == "three-way" else None
    if published is not None:
        x = axis.clipped(published)
        mark = svg.line(x, middle - 8, x, middle + 8, "stroke null")
        marks.append(svg.group(svg.tip(f"published: {term} {number(published)}"), mark))
    return svg.group(*marks)


def caption(rows: list[Row]) -> Markup:
    """Caption of the share bars."""
    levels = listing(extent((row[f"n_{noun}"] for row in rows), noun) for noun in ("models", "categories"))
    arms = listing(dict.fromkeys(visible(str(row["arm"])) for row in rows))
    estimators = listing(dict.fromkeys(visible(str(row["estimator"])) for row in rows))
    return written("variance", rows, levels=levels, arms=arms, estimators=estimators)


def table(folder: Folder) -> Table | None:
    """Build the table behind the bars: share, interval, number of levels, degrees of freedom, kind of interval."""
    rows, reasons = folder.rows("variance_shares"), Reasons()
    groups: dict[str, list] = {}
    for r in rows:
        why = visible(str(r["reason"])) or "not estimable in this design"
        title = dict((b[0], b[1]) for b in BLOCKS).get(str(r["population"]), str(r["population"]))
        line = [
            name_cell(NAMES.get(str(r["term"]), str(r["term"]))),
            text_cell(title),
            reasons.estimate(r["share"], r["lo"], r["hi"], why, why),
            reasons.cell(r["levels"]),
            reasons.cell(r["df"]),
            text_cell(r["interval"]),
            text_cell(r["estimator"]),
        ]
        groups.setdefault(str(r["measure"]), []).append(line)
    return declared("variance", list(groups.items()), reasons.found)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = folder.rows("variance_shares")
    if not rows:
        return []
    drawn = pair("variance", shares, rows, layouts=(WIDE, NARROW), caption=caption(rows), claims=("V1", "V2", "V3"))
    return [drawn, listed(table(folder), "The numbers of this figure")]


SECTION = Section("variance", "Variance", "What varies", ("variance_shares",), _blocks, ("share of variance",))
