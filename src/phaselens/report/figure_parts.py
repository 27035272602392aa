"""What figures share: how one is laid out, and the marks of its points, names, axes and curves over depth."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.models_shown import Member
from phaselens.report.study_files import Row
from phaselens.report.written_values import is_number, number, tick


@dataclass(frozen=True)
class Layout:
    """Total width, panels side by side, room for names at the left and at the right, height of a row and of a plot."""

    width: float
    across: int = 1
    left: float = 0.0
    right: float = 0.0
    row: float = 20.0
    plot: float = 0.0

    @property
    def wide(self) -> bool:
        """Whether it is the one for a wide page."""
        return self.width > 500

    def named(self, member: Member) -> tuple[str, str]:
        """The name of a model, short on a narrow page, and its style class."""
        return member.label if self.wide else member.short, "label twin-name" if member.twin else "label"


def dot(x: float, y: float, r: float, kind: str, *inside: object) -> Markup:
    """Write a point of an estimate."""
    return svg.element("circle", *inside, cx=float(x), cy=float(y), r=r, class_=f"dot {kind}")


def names(rows: Iterable[tuple[str, str]], x: float, y: float, step: float, room: float) -> list[Markup]:
    """Write names (text, style class) that end at x, one below the other from y, each shortened to its room."""
    return [svg.text(svg.fitted(name, room), x, y + k * step, kind, "end") for k, (name, kind) in enumerate(rows)]


def columns(
    axis: Scale, ticks: Iterable[float], top: float, bottom: float, *, at: float | None = None, low: float = 14
) -> list[Markup]:
    """Write upright grid lines, the one `at` a value stronger, with their numbers below."""
    marks = []
    for value in ticks:
        marks.append(svg.line(axis(value), top, axis(value), bottom, "unity" if value == at else "grid"))
        marks.append(svg.text(number(value), axis(value), bottom + low, "tick", "middle"))
    return marks


def share_axis(axis: Scale, y: float) -> Markup:
    """Write the axis below bars of shares (0 to 1)."""
    ends = ((0, None), (0.5, "middle"), (1, "end"))
    ticks = (svg.text(number(tick), axis(tick), y + 14, "tick", anchor) for tick, anchor in ends)
    return svg.group(svg.line(axis.start, y, axis.end, y, "axis"), *ticks)


def parts(axis: Scale, y: float, high: float, shares: Iterable[tuple[str, float, str]]) -> Markup:
    """Write a bar cut into shares: (style class, share, tip) each."""
    marks, at = [], 0.0
    for kind, share, said in shares:
        left, right = axis.clipped(at), axis.clipped(at + share)
        at += share
        if right > left:
            marks.append(svg.rect(left, y, right - left, high, kind, svg.tip(said)))
    return svg.group(*marks)


def levels(x: Scale, y: Scale, values: Iterable[float], at: float | None = None) -> list[Markup]:
    """Write level grid lines, the one `at` a value stronger, with their numbers at the left."""
    marks = []
    for value in values:
        marks.append(svg.line(x.start, y(value), x.end, y(value), "unity" if value == at else "grid"))
        marks.append(svg.text(tick(value), x.start - 5, y(value) + 4, "tick", "end"))
    return marks


def axes(
    x: Scale,
    y: Scale,
    heading: str,
    *,
    room: float = 0.0,
    below: str = "",
    ticks: Sequence[float] = (0, 0.5, 1),
    values: Sequence[float] | None = None,
    at: float | None = None,
) -> Markup:
    """Write the axes of a panel of curves over l/L (or over what `below` says) and its heading, `room` px longer."""
    marks = [svg.text(svg.fitted(heading, x.end - x.start + 14 + room, 11.5), x.start, y.end - 12, "heading")]
    marks += levels(x, y, y.ticks(4) if values is None else values, at)
    marks.append(svg.line(x.start, y.start, x.end, y.start, "axis"))
    for value in ticks:
        anchor = "middle" if below or 0 < value < 1 else "end" if value else None
        marks.append(svg.line(x(value), y.start, x(value), y.start + 3, "axis"))
        words = "l/L = 1" if value == 1 and not below else number(value)
        marks.append(svg.text(words, x(value), y.start + 15, "tick", anchor))
    if below:
        marks.append(svg.text(below, (x.start + x.end) / 2, y.start + 29, "axis-name", "middle"))
    return svg.group(*marks)


@dataclass(frozen=True)
class Curve:
    """One column of rows over their `depth`: its name and style class, and the columns of its interval ("": none)."""

    name: str
    kind: str
    rows: Sequence[Row]
    value: str
    lo: str = ""
    hi: str = ""
    short: str = ""

    def pieces(self, log: bool = False) -> list[list[tuple[float, float]]]:
        """Cut it at its undefined values: pieces of (depth, value) in order of depth."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for row in sorted(self.rows, key=lambda r: r["depth"] if is_number(r["depth"]) else 0.0):
            value = row[self.value]
            if is_number(value) and is_number(row["depth"]) and (not log or value > 0):
                pieces[-1].append((row["depth"], value))
            elif pieces[-1]:
                pieces.append([])
        return [piece for piece in pieces if piece]

    def drawn(self, x: Scale, y: Scale, *, dots: bool = False) -> Markup:
        """Draw its interval as a ribbon and its pieces as lines, with a dot at every value where asked for."""
        marks = [self._ribbon(x, y)]
        for piece in self.pieces(y.log):
            at = [(x(a), y.clipped(b)) for a, b in piece]
            if len(at) > 1:
                marks.append(svg.path(at, f"curve {self.kind}", svg.tip(self.name)))
            if dots or len(at) == 1:
                tips = [svg.tip(f"{self.name}: {number(b)}" if dots else self.name) for _, b in piece]
                marks += [dot(*place, 2.4, self.kind, tip) for place, tip in zip(at, tips, strict=True)]
        return svg.group(*marks)

    def _ribbon(self, x: Scale, y: Scale) -> Markup:
        ends = (self.lo, self.hi, "depth")
        both = [
            r for r in self.rows if self.lo and all(is_number(r[c]) for c in ends) and (not y.log or r[self.lo] > 0)
        ]
        if len(both) < 2:
            return Markup("")
        both.sort(key=lambda r: r["depth"])
        upper = [(x(r["depth"]), y.clipped(r[self.hi])) for r in both]
        lower = [(x(r["depth"]), y.clipped(r[self.lo])) for r in reversed(both)]
        return svg.path([*upper, *lower], f"ribbon {self.kind}")


def end_names(
    x: Scale, y: Scale, curves: Iterable[Curve], room: float, where: str = "", also: Sequence[tuple] = ()
) -> Markup:
    """Write each curve's name where it ends, moved apart where they would touch; tips say its value at that `where`.

    `also` are further (name, style class, value).
    """
    ends = [(one, *found[-1][-1]) for one in curves if (found := one.pieces(y.log))]
    ends += [(Curve(name, kind, (), ""), x.high, value) for name, kind, value in also]
    places = svg.spread([y.clipped(value) for _, _, value in ends], 13.0, y.end, y.start)
    marks = []
    for (one, depth, value), place in zip(ends, places, strict=True):
        tip = [svg.tip(f"{one.name}: {number(value)} {where}")] if where else []
        label = svg.fitted(one.short if one.short and room < 130 else one.name, room - 14, 11)
        marks.append(svg.path([(x(depth) + 2, y.clipped(value)), (x.end + 9, place)], f"leader {one.kind}"))
        said = Markup("").join((*tip, Markup.escape(label)))
        marks.append(svg.text(said, x.end + 12, place + 4, f"end-label {one.kind}"))
    return svg.group(*marks)
