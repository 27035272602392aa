"""Transition graphs: states as circles, what follows what as arrows, for both alphabets along both axes."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout
from phaselens.report.models_shown import Member, of
from phaselens.report.study_files import Row
from phaselens.report.written_values import extent, interval, is_number, number

ALPHABETS = {"bifurcation": ("A", "B", "C", "D", "E"), "grammar": ("explore", "process", "decide")}
AXES = (("generation", "l*", "along generation, l*"), ("depth", "all", "along depth"))
DRAWN, FEW = 0.1, 30
WIDEST = 5.0
PAGE = 5


WIDE, NARROW = Layout(920, 4, plot=212), Layout(360, 2, plot=212)
LAYOUTS = {"wide": WIDE, "narrow": NARROW}
HEAD, RING, DOT, LOOP = 24.0, 48.0, 10.0, 18.0


def name_of(state: str, alphabet: str) -> str:
    """Name a state as its circle does: a letter of the first alphabet, a word of the second."""
    return state[0] if alphabet == "bifurcation" else state


def graphs(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw four graphs per trained model: both alphabets, each along generation and along depth, never pooled.

    The width of an arrow is the probability of the next state given this one; arrows below 0.1 are left out. An arrow
    from a state that was left fewer than 30 times is dashed. Colour: more often than in random order of the same
    states.
    """
    trained = [m for m in members if not m.twin and of(rows, m)]
    kinds = [(alphabet, axis) for alphabet in ALPHABETS for axis in AXES]
    lines = -(-len(kinds) // layout.across)
    pitch, block = layout.width / layout.across, HEAD + lines * layout.plot
    marks = []
    for k, member in enumerate(trained):
        top = k * block
        label = member.label if layout.across > 2 else member.short
        marks.append(svg.text(svg.fitted(label, layout.width - 10), 0, top + 14, "heading"))
        for i, (alphabet, (axis, choice, title)) in enumerate(kinds):
            left, y = (i % layout.across) * pitch, top + HEAD + (i // layout.across) * layout.plot
            own = [
                r for r in of(rows, member) if (r["alphabet"], r["axis"], r["layer_choice"]) == (alphabet, axis, choice)
            ]
            marks.append(svg.text(svg.fitted(title, pitch - 6, 11), left, y + 10, "note"))
            marks.append(_graph(left + pitch / 2, y + layout.plot / 2 + 16, member, alphabet, own))
    said = f"Transition graphs of {len(trained)} models: two alphabets, each along generation and along depth."
    return svg.frame(name, "Transition graphs", said, layout.width, block * max(len(trained), 1), *marks)


def pages(members: list[Member], rows: list[Row]) -> list[Markup]:
    """The same for paper: as many models a drawing as a page holds at its full width."""
    trained = [m for m in members if not m.twin and of(rows, m)]
    parts = [trained[k : k + PAGE] for k in range(0, len(trained), PAGE)]
    return [graphs(f"graphs-page{k}", part, rows) for k, part in enumerate(parts)]


def _graph(x: float, y: float, member: Member, alphabet: str, rows: Sequence[Row]) -> Markup:
    states = ALPHABETS[alphabet]
    turn = {state: 2 * math.pi * k / len(states) - math.pi / 2 for k, state in enumerate(states)}
    left = dict.fromkeys(states, 0) | {name_of(str(row["origin"]), alphabet): row["left"] for row in rows}
    marks = []
    for row in sorted(rows, key=lambda r: r["P"] if is_number(r["P"]) else 0.0):
        if is_number(row["P"]) and row["P"] >= DRAWN:
            marks.append(_arrow(x, y=y, turn=turn, left=left, member=member, alphabet=alphabet, row=row))
    if not any(left.values()):
        return svg.text("no transition", x, y, "note", "middle")
    marks += [_state(x, y, turn[state], state, alphabet, left[state]) for state in states]
    return svg.group(*marks)


def _at(x: float, y: float, angle: float, far: float) -> tuple[float, float]:
    return x + far * math.cos(angle), y + far * math.sin(angle)


def _state(x: float, y: float, angle: float, state: str, alphabet: str, n: int) -> Markup:
    px, py = _at(x, y, angle, RING)
    lettered = alphabet == "bifurcation"
    kind = f"state{state}" if lettered else "band"
    circle = svg.element(
        "circle", svg.tip(f"{state}: left {number(n)} times"), cx=px, cy=py, r=DOT, class_=f"{kind} ring"
    )
    marks = [circle, svg.text(state, px, py + 4, "in-state", "middle")] if lettered else [circle]
    lines = [f"n {number(n)}"] if lettered else [state, f"n {number(n)}"]
    tx, ty = _at(x, y, angle, RING + DOT + LOOP + 8)
    if abs(math.sin(angle)) < 0.35:  # at the side: above its loop
        tx, ty = _at(x, y, angle, RING + DOT + LOOP / 2)[0], py - DOT - 13
    elif math.sin(angle) > 0:  # below its loop, so that neighbours do not touch
        tx, ty = px + math.copysign(12.0, math.cos(angle)), py + DOT + LOOP + 10
    ty -= 12 * (len(lines) - 1) if math.sin(angle) <= 0 else 0
    marks += [svg.text(words, tx, ty + 12 * k, "tick halo", "middle") for k, words in enumerate(lines)]
    return svg.group(*marks)


def _arrow(
    x: float, y: float, turn: Mapping[str, float], left: Mapping[str, int], member: Member, alphabet: str, row: Row
) -> Markup:
    origin, end = (name_of(str(row[c]), alphabet) for c in ("origin", "destination"))
    more = is_number(row["excess_lo"]) and row["excess_lo"] > 0
    kind = f"arrow {'hue0' if more else 'anyone'}{' few' if left[origin] < FEW else ''}"
    said = f"{member.label}: {origin} to {end} {number(row['P'])} {interval(row['lo'], row['hi'])}"
    tip = svg.tip(
        f"{said}; in random order {number(row['P_order'])}; n = {number(row['count'])} of {number(left[origin])}"
    )
    wide: dict = {"stroke_width": max(WIDEST * row["P"], 0.8)}
    if origin == end:
        px, py = _at(x, y, turn[origin], RING)
        a, b = (_at(px, py, turn[origin] + way * 0.75, DOT) for way in (-1, 1))
        c, d = (_at(px, py, turn[origin] + way * 0.75, DOT + LOOP) for way in (-1, 1))
        path = f"M{_pair(a)}C{_pair(c)} {_pair(d)} {_pair(b)}"
        return svg.group(tip, svg.element("path", d=path, class_=kind, **wide))
    p, q = _at(x, y, turn[origin], RING), _at(x, y, turn[end], RING)
    far = math.dist(p, q)
    ux, uy = (q[0] - p[0]) / far, (q[1] - p[1]) / far
    nx, ny = -uy * 4.5, ux * 4.5  # both directions run side by side
    gap, head = DOT + 1.5, 3.0 + 0.8 * wide["stroke_width"]
    start = (p[0] + ux * gap + nx, p[1] + uy * gap + ny)
    tipped = (q[0] - ux * gap + nx, q[1] - uy * gap + ny)
    neck = (tipped[0] - ux * head, tipped[1] - uy * head)
    sides = [(neck[0] + w * uy * head * 0.6, neck[1] - w * ux * head * 0.6) for w in (-1, 1)]
    triangle = f"M{_pair(tipped)}L{_pair(sides[0])}L{_pair(sides[1])}z"
    line = svg.element("path", d=f"M{_pair(start)}L{_pair(neck)}", class_=kind, **wide)
    return svg.group(tip, line, svg.element("path", d=triangle, class_=f"arrow-head {kind}"))


def _pair(point: tuple[float, float]) -> str:
    return f"{svg.place(point[0])} {svg.place(point[1])}"


def caption(rows: list[Row]) -> Markup:
    """Caption of the graphs."""
    known = extent((r["n_prompts"] for r in rows if r["n_prompts"]), "prompts")
    return written("graphs", drawn=number(DRAWN), few=FEW, known=known)
