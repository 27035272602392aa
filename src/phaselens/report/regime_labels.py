"""The labels of the runs: for every model the share of its runs under each of the four regime names, twice."""

from markupsafe import Markup

from phaselens.dynamics.published_figures import REGIMES
from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.figure_parts import Layout, names, parts, share_axis
from phaselens.report.models_shown import Member, of
from phaselens.report.study_files import Row
from phaselens.report.written_values import is_number, number

TITLE = "Shares of runs under each label, per model"
KINDS = (("", "published bands", "a comparison only"), ("_panel", "panel bands", "quantiles of this panel"))


WIDE, NARROW = Layout(920, 2, 190, right=28), Layout(360, 2, 100, right=14)
HEAD, BAR = 62.0, 13.0


def labelled(rows: list[Row]) -> list[Row]:
    """Give the rows at l* (or of the only layer there is) that carry the shares."""
    known = [row for row in rows if all(f"share_{name}" in row for name in REGIMES)]
    return [row for row in known if row["layer_choice"] != "L"] or known


def has_label(row: Row) -> bool:
    """Say whether any run behind the row has a label."""
    return is_number(row[f"share_{REGIMES[0]}"])


def label_bars(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw, per model, two bars cut into the shares (0 to 1) of runs under each label, with its most likely label.

    The second bar is left out where the table has no panel labels. A model without a labelled run keeps its row, with a
    dash.
    """
    chosen = labelled(rows)
    kinds = [kind for kind in KINDS if any(f"share_{REGIMES[0]}{kind[0]}" in row for row in chosen)]
    pitch = (layout.width - layout.left) / max(1, len(kinds))
    marks = [_key(layout)]
    for k, (suffix, title, under) in enumerate(kinds):
        left = layout.left + k * pitch
        axis = Scale(0.0, 1.0, left, left + pitch - layout.right)
        room = axis.end - axis.start
        marks.append(svg.text(svg.fitted(title, room), axis.start, 38, "heading"))
        marks.append(svg.text(svg.fitted(under, room, 10.5), axis.start, 52, "note"))
        for i, member in enumerate(members):
            y = HEAD + i * layout.row
            marks += [_bar(axis, y, member, row, suffix) for row in of(chosen, member)[:1]]
        marks.append(share_axis(axis, HEAD + len(members) * layout.row))
    labels = map(layout.named, members)
    marks += names(labels, layout.left - 10, HEAD + BAR - 2, layout.row, layout.left - 14)
    said = "; ".join(_said(member, row) for member in members for row in of(chosen, member)[:1])
    return svg.frame(name, TITLE, f"{said}.", layout.width, HEAD + len(members) * layout.row + 24, *marks)


def _key(layout: Layout) -> Markup:
    marks, x = [], layout.left if layout.wide else 0.0
    step = 116.0 if layout.wide else 92.0
    for k, regime in enumerate(REGIMES):
        marks.append(svg.rect(x + k * step, 4, 10, 10, f"share{k}"))
        marks.append(svg.text(regime.capitalize(), x + k * step + 15, 13, "note"))
    return svg.group(*marks)


def _bar(axis: Scale, y: float, member: Member, row: Row, suffix: str) -> Markup:
    shares = [row.get(f"share_{name}{suffix}") for name in REGIMES]
    if not all(is_number(share) for share in shares):
        return svg.text("— no labelled run", axis.start, y + BAR - 2, "note")
    both = enumerate(zip(REGIMES, shares, strict=True))
    return parts(axis, y, BAR, [(f"share{k}", v, f"{member.label}: {name} {number(v)}") for k, (name, v) in both])


def _said(member: Member, row: Row) -> str:
    return f"{member.label}: " + ", ".join(f"{name} {number(row[f'share_{name}'])}" for name in REGIMES)
