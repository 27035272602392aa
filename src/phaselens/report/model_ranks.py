"""Ranks of the models in every prompt category: one line a model, level where the order is the same everywhere."""

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.captions import written
from phaselens.report.data_tables import Reasons, Table, declared, name_cell, text_cell
from phaselens.report.figure_parts import Layout, dot
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import extent, interval, is_number, number, visible

TITLE = "Rank of every model in every prompt category"


WIDE, NARROW = Layout(920, 2, right=130, row=22), Layout(360, 1, right=112, row=22)
HEAD, FOOT, LEFT = 34.0, 56.0, 26.0


def ranks(name: str, members: list[Member], rows: list[Row], orders: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw the rank (1 = least) of each trained model's mean in each category, a panel per measure."""
    measures = list(dict.fromkeys(str(row["measure"]) for row in rows))
    known = {m.model: m for m in members if not m.twin}
    most = max((row["rank"] for row in rows if is_number(row["rank"])), default=1)
    high, pitch, marks = HEAD + layout.row * max(most, 2) + FOOT, layout.width / layout.across, []
    for k, measure in enumerate(measures):
        left, top = (k % layout.across) * pitch, (k // layout.across) * high
        own = [row for row in rows if row["measure"] == measure]
        said = next((_said(row) for row in orders if row["measure"] == measure), "")
        head = f"{measure}: {said}" if said else measure
        marks.append(_panel(own, known, most, left, top, pitch=pitch, layout=layout, said=head))
    lines = -(-len(measures) // layout.across)
    words = "; ".join(f"{r['measure']}, {r['model']}, {r['category']}: rank {number(r['rank'])}" for r in rows)
    return svg.frame(name, TITLE, f"{words}.", layout.width, lines * high, *marks)


def _said(row: Row) -> str:
    return f"W {number(row['W'], 2)}, ceiling {number(row['ceiling'], 2)}"


def _panel(
    rows: list[Row],
    known: dict[str, Member],
    most: float,
    left: float,
    top: float,
    pitch: float,
    layout: Layout,
    said: str,
) -> Markup:
    categories = list(dict.fromkeys(str(row["category"]) for row in rows))
    right = left + pitch - layout.right
    x = Scale(0.0, max(len(categories) - 1, 1), left + LEFT + 14, right)
    y = Scale(1.0, max(most, 2), top + HEAD + layout.row * (max(most, 2) - 0.5), top + HEAD + layout.row / 2)
    marks = [svg.text(svg.fitted(said, pitch - LEFT - 8, 12.5), left + LEFT, top + 16, "heading")]
    for rank in range(1, int(most) + 1):
        marks.append(svg.line(x.start, y(rank), x.end, y(rank), "grid"))
        marks.append(svg.text(number(rank), x.start - 12, y(rank) + 4, "tick", "end"))
    for c, category in enumerate(categories):
        at, under = x(c), y.start + layout.row / 2 + 12 + (13 if c % 2 else 0)
        marks.append(svg.text(svg.fitted(category, 2 * (x(1) - x(0)) - 6, 11), at, under, "tick", "middle"))
    last = []
    for model in dict.fromkeys(str(row["model"]) for row in rows):
        own = {str(r["category"]): r for r in rows if r["model"] == model}
        points = [(x(c), y(own[name]["rank"])) for c, name in enumerate(categories) if name in own]
        member = known.get(model)
        kind = member.kind if member else "null"
        marks.append(svg.path(points, f"curve {kind}", svg.tip(visible(model))))
        marks += [dot(px, py, 3.0, kind) for px, py in points]
        last.append((member.short if member else visible(model), kind, points[-1][1]))
    places = svg.spread([at for _, _, at in last], 13.0, y.end, y.start)
    for (label, kind, _), at in zip(last, places, strict=True):
        marks.append(svg.text(svg.fitted(label, layout.right - 34, 11), x.end + 10, at + 4, f"end-label {kind}"))
    return svg.group(*marks)


def caption(rows: list[Row], orders: list[Row]) -> Markup:
    """Caption of the ranks."""
    gaps = "; ".join(f"{visible(str(r['measure']))} {number(r['gap'], 2)} {interval(r['lo'], r['hi'])}" for r in orders)
    models = extent((row["n_models"] for row in orders), "models")
    return written("order", rows, gaps=gaps, models=models)


def table(folder: Folder) -> Table | None:
    """Build the table of orders under two conditions: correlation, interval, and how far each agrees with itself."""
    rows, reasons = folder.rows("order_stability"), Reasons()
    few = "fewer than four prompts with a value in every model"
    lines = [
        [
            name_cell(visible(str(r["kind"]))),
            text_cell(r["first"]),
            text_cell(r["second"]),
            reasons.estimate(r["spearman"], r["lo"], r["hi"], str(r["reason"]), str(r["reason"]) or few),
            reasons.cell(r["p"], str(r["reason"]) or few),
            reasons.cell(r["self_first"], few),
            reasons.cell(r["self_second"], few),
            reasons.cell(r["n_models"]),
            reasons.cell(r["n_prompts"]),
        ]
        for r in rows
    ]
    return declared("stability", [("", lines)], reasons.found)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows, orders = folder.rows("order_ranks"), folder.rows("order_consistency")
    if not rows:
        return []
    said = caption(rows, orders)
    drawn = pair("order", ranks, members, rows, orders, layouts=(WIDE, NARROW), caption=said, claims=("R2", "R3"))
    return [drawn, listed(table(folder), "The order over temperatures and windows")]


TABLES = ("order_ranks", "order_consistency", "order_stability")
SECTION = Section("order", "Order of models", "The order of models", TABLES, _blocks, ("W",))
