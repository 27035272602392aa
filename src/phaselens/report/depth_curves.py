"""Curves over relative depth l/L: GD_ratio with labels at its ends, and small panels for the other observables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from phaselens.report import captions, svg, symbols, written_values
from phaselens.report.axis_scale import Scale, span
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Legend, Said, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.symbols import unit_of
from phaselens.report.written_values import is_number, number, visible


@dataclass(frozen=True)
class Layout:
    """Total width, panels side by side, height of a panel's plot, room for labels at the right end of curves."""

    width: float
    across: int
    plot: float
    label: float


GD_WIDE, GD_NARROW = Layout(920, 2, 250, 140), Layout(360, 1, 220, 118)
WIDE, NARROW = Layout(920, 4, 104, 0), Layout(360, 2, 96, 0)
LEFT, HEAD, FOOT = 44.0, 26.0, 34.0
LEAST_KL = 1e-4  # below: equal to the output to rounding


def gd_by_depth(name: str, members: list[Member], rows: list[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw GD_ratio (1, log axis) over l/L, a panel per version, trained models labelled at the end of their curve."""
    versions = list(dict.fromkeys(str(row["version"]) for row in rows))
    domain = span([row[c] for row in rows for c in ("GD_ratio", "lo", "hi")], log=True) or (0.1, 10.0)
    panels = []
    for version in versions:
        chosen = [row for row in rows if str(row["version"]) == version]
        panels.append((version, "GD_ratio", chosen, domain))
    plot = layout.plot if len(versions) <= 2 else 0.66 * layout.plot
    layout = replace(layout, plot=max(plot, 13.0 * sum(not m.twin for m in members)))  # room for every label
    title = "GD_ratio by relative depth"
    return grid(name, title, members, panels, layout, log=True, labelled=True)


def kl_by_depth(name: str, members: list[Member], rows: list[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw the KL of each lens from the output (nats, log axis) over l/L, a panel per lens."""
    shown = [row for row in rows if is_number(row["kl"]) and row["kl"] > LEAST_KL]
    domain = span([row[c] for row in shown for c in ("kl", "lo", "hi")], log=True) or (0.1, 10.0)
    domain = max(domain[0], LEAST_KL), domain[1]
    panels = [
        (lens, "kl", [row for row in shown if str(row["lens"]) == lens], domain)
        for lens in dict.fromkeys(str(row["lens"]) for row in shown)
    ]
    layout = replace(layout, plot=max(0.66 * layout.plot, 13.0 * sum(not m.twin for m in members)))
    return grid(name, "KL from the output by relative depth", members, panels, layout, log=True, labelled=True)


def capacity_by_depth(name: str, members: Sequence[Member], rows: Sequence[Row], layout: Layout = GD_WIDE) -> Markup:
    """Draw the capacity of probes (1) over l/L, a panel per task, trained models labelled at the end of their curve."""
    domain = span([0.0, *(row[c] for row in rows for c in ("capacity", "lo", "hi"))]) or (0.0, 1.0)
    panels = [
        (visible(task), "capacity", [{"twin": False, **row} for row in rows if str(row["task"]) == task], domain)
        for task in dict.fromkeys(str(row["task"]) for row in rows)
    ]
    layout = replace(layout, plot=max(0.66 * layout.plot, 13.0 * sum(not m.twin for m in members)))
    title = "Capacity of probes by relative depth"
    return grid(name, title, list(members), panels, layout, log=False, labelled=True)


def profiles(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw every observable of `results/depth.parquet` over l/L, in small panels, each in its own unit."""
    panels = []
    for observable in dict.fromkeys(str(row["observable"]) for row in rows):
        chosen = [row for row in rows if str(row["observable"]) == observable]
        domain = span([row[c] for row in chosen for c in ("value", "lo", "hi")]) or (0.0, 1.0)
        panels.append((heading(observable), "value", chosen, domain))
    return grid(name, "Observables by relative depth", members, panels, layout, log=False, labelled=False)


def heading(observable: str) -> str:
    """Name an observable with its unit."""
    unit = unit_of(observable)
    return f"{visible(observable)} ({unit})" if unit else visible(observable)


def grid(
    name: str, title: str, members: list[Member], panels: list, layout: Layout, *, log: bool, labelled: bool
) -> Markup:
    """Draw panels (heading, column, rows, domain) of curves over l/L, side by side; names at the ends of curves."""
    across = min(layout.across, len(panels))
    pitch, high = layout.width / layout.across, HEAD + layout.plot + FOOT
    marks = []
    for k, (heading, column, rows, domain) in enumerate(panels):
        left, top = (k % across) * pitch, (k // across) * high
        x = Scale(0.0, 1.0, left + LEFT, left + pitch - 14 - layout.label)
        y = Scale(domain[0], domain[1], top + HEAD + layout.plot, top + HEAD, log=log)
        marks.append(_axes(x, y, heading, top, pitch))
        marks.append(_curves(x, y, members, rows, column))
        if labelled:
            marks.append(_labels(x, y, members, rows, column, layout.label))
    said = f"{title} for {len(members)} models: " + ", ".join(str(panel[0]) for panel in panels) + "."
    return svg.frame(name, title, said, layout.width, high * -(-len(panels) // across), *marks)


def _axes(x: Scale, y: Scale, heading: str, top: float, pitch: float) -> Markup:
    marks = [svg.text(svg.fitted(heading, pitch - LEFT, 11.5), x.start, top + 14, "heading")]
    for tick in y.ticks(4):
        marks.append(svg.line(x.start, y(tick), x.end, y(tick), "unity" if y.log and tick == 1 else "grid"))
        marks.append(svg.text(written_values.tick(tick), x.start - 5, y(tick) + 4, "tick", "end"))
    marks.append(svg.line(x.start, y.start, x.end, y.start, "axis"))
    for tick in (0, 0.5, 1):
        marks.append(svg.line(x(tick), y.start, x(tick), y.start + 3, "axis"))
        anchor = "end" if tick == 1 else None if tick == 0 else "middle"
        marks.append(svg.text("l/L = 1" if tick == 1 else number(tick), x(tick), y.start + 15, "tick", anchor))
    return svg.group(*marks)


def _points(rows: list[Row], column: str, axis: Scale) -> list[list[tuple[float, float]]]:
    """Cut a curve at its undefined values: pieces of (depth, value) in order of depth."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for row in sorted(rows, key=lambda r: r["depth"] if is_number(r["depth"]) else 0.0):
        good = is_number(row[column]) and is_number(row["depth"]) and (not axis.log or row[column] > 0)
        if good:
            pieces[-1].append((row["depth"], row[column]))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _curves(x: Scale, y: Scale, members: list[Member], rows: list[Row], column: str) -> Markup:
    marks = []
    for member in sorted(members, key=lambda m: not m.twin):  # trained curves lie on top
        own = of(rows, member)
        if not member.twin:
            marks.append(_ribbon(x, y, own, member))
        for piece in _points(own, column, y):
            marks.append(_curve(piece, lambda d: x(d), lambda v: y.clipped(v), member))
    return svg.group(*marks)


def _curve(piece: list, x: Callable[[float], float], y: Callable[[float], float], member: Member) -> Markup:
    shown = svg.tip(member.label)
    if len(piece) == 1:
        (depth, value) = piece[0]
        return svg.element("circle", shown, cx=x(depth), cy=y(value), r=2.0, class_=f"dot {member.kind}")
    return svg.path([(x(d), y(v)) for d, v in piece], f"curve {member.kind}", shown)


def _ribbon(x: Scale, y: Scale, rows: list[Row], member: Member) -> Markup:
    """Shade the interval of a curve, in pieces where both ends are defined."""
    both = [
        r
        for r in rows
        if is_number(r["lo"]) and is_number(r["hi"]) and is_number(r["depth"]) and (not y.log or r["lo"] > 0)
    ]
    both.sort(key=lambda r: r["depth"])
    if len(both) < 2:
        return Markup("")
    upper = [(x(r["depth"]), y.clipped(r["hi"])) for r in both]
    lower = [(x(r["depth"]), y.clipped(r["lo"])) for r in reversed(both)]
    return svg.path([*upper, *lower], f"ribbon {member.kind}")


def _labels(x: Scale, y: Scale, members: list[Member], rows: list[Row], column: str, room: float) -> Markup:
    """Write each trained model's name where its curve ends, moved apart where they would touch."""
    last = []
    for member in members:
        pieces = _points(of(rows, member), column, y)
        if pieces and not member.twin:
            value = pieces[-1][-1][1]
            last.append((member, y.clipped(value), f"{member.label}: {number(value)} at the last layer"))
    places = svg.spread([at for _, at, _ in last], 13.0, y.end, y.start)
    marks = []
    for (member, at, shown), place in zip(last, places, strict=True):
        marks.append(svg.path([(x.end + 2, at), (x.end + 9, place)], f"leader {member.kind}"))
        label = svg.fitted(member.short if room < 130 else member.label, room - 14, 11)
        marks.append(
            svg.text(
                Markup("").join((svg.tip(shown), Markup.escape(label))),
                x.end + 12,
                place + 4,
                f"end-label {member.kind}",
            )
        )
    return svg.group(*marks)


def drawable(rows: list[Row], key: str, column: str) -> tuple[list[Row], list[str]]:
    """Split off what no model has: the rows of names with a number somewhere, and the other names."""
    known = {str(row[key]) for row in rows if is_number(row[column])}
    absent = dict.fromkeys(str(row[key]) for row in rows if str(row[key]) not in known)
    return [row for row in rows if str(row[key]) in known], list(absent)


def nothing_defined(folder: Folder, table: str, column: str) -> Said | None:
    """Say that nothing in a table is defined for any model; None where something is."""
    rows = folder.rows(table)
    if not rows or any(is_number(row[column]) for row in rows):
        return None
    return Said([f"results/{table}.parquet holds no defined {column} for any model: there is nothing to draw."])


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows, shown = folder.rows("depth"), []
    for group in symbols.FIGURES:
        every = [row for row in rows if symbols.group_of(str(row["observable"])) == group]
        own, undefined = drawable(every, "observable", "value")
        if own:
            said = captions.profiles(own, group, undefined)
            shown.append(pair(f"depth-{group}", profiles, members, own, layouts=(WIDE, NARROW), caption=said))
    legend = Legend(twins=any(m.twin for m in members)) if shown else None
    return [nothing_defined(folder, "depth", "value"), legend, *shown]


SECTION = Section("depth", "Depth profiles", "Depth profiles", ("depth",), _blocks, always=True)
