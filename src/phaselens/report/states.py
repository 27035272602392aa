"""States: how often each model is in which, and how they follow each other along generation and along depth."""

from collections.abc import Sequence
from functools import partial

from markupsafe import Markup

from phaselens.report import svg, transition_graphs
from phaselens.report.axis_scale import Scale
from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout, names, parts, share_axis
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import extent, interval, is_number, number

LETTERS = "ABCDE"
MEANING = {"A": "hidden turbulence", "B": "surface branching", "C": "committed", "D": "full bifurcation", "E": "stable"}
CHOICES = (("all", "all layers"), ("l*", "layer of record l*"))
AXES = (("generation", "l*", "generation, l*"), ("depth", "all", "depth"))


WIDE, NARROW = Layout(920, 4, 190), Layout(360, 1, 100)
HEAD, BAR, GAP = 66.0, 13.0, 24.0
CELL, PLOT, UNDER = 17.0, 112.0, 34.0


def shown(rows: list[Row]) -> list[Row]:
    """Give the rows of the bifurcation alphabet under the panel's threshold."""
    return [r for r in rows if r["alphabet"] == "bifurcation" and r["threshold"] == "panel"]


def occupancy_bars(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw, per model, two bars cut into the shares (0 to 1) of the five states, over all layers and at l*."""
    chosen = shown(rows)
    pitch = (layout.width - layout.left) / len(CHOICES)
    marks = [_key(layout)]
    for k, (choice, title) in enumerate(CHOICES):
        left = layout.left + k * pitch
        axis = Scale(0.0, 1.0, left, left + pitch - GAP)
        marks.append(svg.text(svg.fitted(title, pitch - GAP), left, HEAD - 8, "heading"))
        for i, member in enumerate(members):
            own = [r for r in of(chosen, member) if r["layer_choice"] == choice]
            marks.append(_bar(axis, HEAD + i * layout.row, member, own))
        marks.append(share_axis(axis, HEAD + len(members) * layout.row))
    labels = map(layout.named, members)
    marks += names(labels, layout.left - 10, HEAD + BAR - 2, layout.row, layout.left - 14)
    said = "; ".join(f"{m.label}: {_said(of(chosen, m))}" for m in members)
    height = HEAD + len(members) * layout.row + 24
    return svg.frame(name, "Shares of states, per model", f"{said}.", layout.width, height, *marks)


def _said(rows: Sequence[Row]) -> str:
    every = [r for r in rows if r["layer_choice"] == "all"]
    return ", ".join(f"{str(r['state'])[0]} {number(r['value'])}" for r in every) or "no states"


def _key(layout: Layout) -> Markup:
    marks = []
    across, step = (5, 146.0) if layout.wide else (2, 150.0)
    start = layout.left if layout.wide else 0.0
    for k, letter in enumerate(LETTERS):
        x, y = start + (k % across) * step, 4 + (k // across) * 15
        marks.append(svg.rect(x, y, 10, 10, f"state{letter}"))
        marks.append(svg.text(f"{letter} {MEANING[letter]}", x + 15, y + 9, "note"))
    return svg.group(*marks)


def _bar(axis: Scale, y: float, member: Member, rows: Sequence[Row]) -> Markup:
    found = {str(r["state"])[0]: r for r in rows if is_number(r["value"])}
    if not found:
        return svg.text("— no state", axis.start, y + BAR - 2, "note")
    own = [(letter, found[letter]) for letter in LETTERS if letter in found]
    said = [f"{member.label}: {letter} {number(r['value'])} {interval(r['lo'], r['hi'])}" for letter, r in own]
    return parts(axis, y, BAR, [(f"state{k}", r["value"], words) for (k, r), words in zip(own, said, strict=True)])


def matrices(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw, per trained model, the transition matrices of both axes (probability): the fuller a cell, the more likely.

    A ring: more often than in random order (interval of the excess above 0); a stroke: less often.
    """
    chosen = [r for r in rows if r["alphabet"] == "bifurcation"]
    trained = [m for m in members if not m.twin and of(chosen, m)]
    across = min(layout.across, max(len(trained), 1))
    pitch, high = layout.width / layout.across, 22 + UNDER + PLOT
    marks = []
    for k, member in enumerate(trained):
        left, top = (k % across) * pitch, (k // across) * high
        marks.append(svg.text(svg.fitted(layout.named(member)[0], pitch - 10), left, top + 14, "heading"))
        for i, (axis, choice, title) in enumerate(AXES):
            own = [r for r in of(chosen, member) if r["axis"] == axis and r["layer_choice"] == choice]
            room = (pitch - 12) / len(AXES) if layout.across > 1 else pitch / 2
            marks.append(_matrix(left + i * room, top + 22, title, member, own, room))
    said = f"Transition matrices of {len(trained)} models along generation and along depth, never pooled."
    return svg.frame(name, "Which state follows which", said, layout.width, high * -(-len(trained) // across), *marks)


def _matrix(left: float, top: float, title: str, member: Member, rows: Sequence[Row], room: float) -> Markup:
    marks = [svg.text(svg.fitted(title, room - 4, 10), left, top + 11, "note")]
    x0, y0 = left + 13, top + 27
    for i, letter in enumerate(LETTERS):
        marks.append(svg.text(letter, x0 + (i + 0.5) * CELL, y0 - 3, "tick", "middle"))
        marks.append(svg.text(letter, x0 - 3, y0 + (i + 0.5) * CELL + 4, "tick", "end"))
    for row in rows:
        i, j = LETTERS.index(str(row["origin"])[0]), LETTERS.index(str(row["destination"])[0])
        marks.append(_cell(x0 + j * CELL, y0 + i * CELL, member, row))
    return svg.group(*marks)


def _cell(x: float, y: float, member: Member, row: Row) -> Markup:
    steps = f"{str(row['origin'])[0]} to {str(row['destination'])[0]}"
    if not is_number(row["P"]):
        words = svg.tip(f"{member.label}: {steps} undefined ({row['reason']})")
        return svg.group(words, svg.rect(x, y, CELL - 1, CELL - 1, "band"))
    said = f"{number(row['P'])} {interval(row['lo'], row['hi'])}; in random order {number(row['P_order'])}"
    marks = [
        svg.tip(f"{member.label}: {steps} {said}"),
        svg.rect(x, y, CELL - 1, CELL - 1, "band"),
        svg.rect(x, y, CELL - 1, CELL - 1, "cell", fill_opacity=float(min(max(row["P"], 0.0), 1.0))),
    ]
    middle, at = x + (CELL - 1) / 2, y + (CELL - 1) / 2
    if is_number(row["excess_lo"]) and row["excess_lo"] > 0:
        marks.append(svg.element("circle", cx=middle, cy=at, r=3.2, class_="more"))
    elif is_number(row["excess_hi"]) and row["excess_hi"] < 0:
        marks.append(svg.line(middle - 3.5, at, middle + 3.5, at, "more"))
    return svg.group(*marks)


def occupancy_caption(rows: list[Row]) -> Markup:
    """Caption of the bars."""
    return written("occupancy", sample=_sample(shown(rows)))


def matrix_caption(rows: list[Row]) -> Markup:
    """Caption of the matrices."""
    return written("matrices", sample=_sample(rows))


def _sample(rows: list[Row]) -> str:
    return extent((r["n_prompts"] for r in rows if r["n_prompts"]), "prompts")


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    occupancy, steps = shown(folder.rows("states")), folder.rows("states_transitions")
    layouts: tuple[Layout, ...] = (WIDE, NARROW)
    out: list[Block | None] = []
    if occupancy:
        said = occupancy_caption(occupancy)
        out.append(pair("states", occupancy_bars, members, occupancy, layouts=layouts, caption=said, claims=("G7",)))
    if steps:
        said = matrix_caption(steps)
        out.append(pair("matrices", matrices, members, steps, layouts=layouts, caption=said, claims=("G8",)))
        said, pages = transition_graphs.caption(steps), partial(transition_graphs.pages, members, steps)
        graphs, layouts = transition_graphs.graphs, tuple(transition_graphs.LAYOUTS.values())
        out.append(pair("graphs", graphs, members, steps, layouts=layouts, caption=said, pages=pages))
    return out


TERMS = ("turbulence", "states", "grammar", "excess")
SECTION = Section("states", "States", "States", ("states", "states_transitions"), _blocks, TERMS)
