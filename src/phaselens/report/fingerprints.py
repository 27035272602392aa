"""Fingerprints as a heat map, their dendrogram and map in the plane, and the grid of state normalisations."""

from collections.abc import Sequence

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout, columns, dot, names
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import estimated, extent, interval, is_number, number, visible

FULL = 3.0  # spreads at which a cell has its full colour
DECIDES = "twins removed"


WIDE, NARROW = Layout(920, 2, 190), Layout(360, 1, 118, row=18)
HEAD, FOOT, PLANE = 38.0, 34.0, 260.0


def heat_map(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw the fingerprints, a row a feature and a column a model, in spreads from the mean of the trained models."""
    features = list(dict.fromkeys(str(r["feature"]) for r in rows))
    known = {str(r["model"]) for r in rows}
    shown = [m for m in members if m.model in known]
    cells = {(str(r["model"]), str(r["feature"])): r for r in rows}
    pitch = (layout.width - layout.left) / max(len(shown), 1)
    top = 96.0
    marks = []
    for k, member in enumerate(shown):
        x = layout.left + (k + 0.5) * pitch
        turned = f"rotate(-55 {svg.place(x)} {svg.place(top - 8)})"
        marks.append(svg.text(svg.fitted(member.short, 96, 11), x, top - 8, "note", transform=turned))
    for i, feature in enumerate(features):
        y = top + i * layout.row
        marks.append(svg.text(svg.fitted(feature, layout.left - 8, 11), layout.left - 6, y + 14, "note", "end"))
        for k, member in enumerate(shown):
            if (row := cells.get((member.model, feature))) and is_number(row["scaled"]):
                marks.append(_cell(layout.left + k * pitch, y, pitch - 1, layout.row - 1, member, row))
    said = f"{len(features)} features of {len(shown)} models"
    height = top + len(features) * layout.row + 8
    return svg.frame(name, "Fingerprints of the models", f"{said}.", layout.width, height, *marks)


def _cell(x: float, y: float, width: float, height: float, member: Member, row: Row) -> Markup:
    scaled = row["scaled"]
    words = f"{member.label}, {row['feature']}: {number(row['value'])} {row['unit']}; {number(scaled)} spreads"
    kind = "cell warm" if scaled > 0 else "cell"
    shade = f"{min(abs(scaled) / FULL, 1.0):.2f}"
    return svg.rect(x, y, width, height, kind, svg.tip(f"{words} {interval(row['lo'], row['hi'])}"), fill_opacity=shade)


def deciding(rows: list[Row]) -> list[Row]:
    """Give the rows of the panel without twins, or of all trained models where that has none."""
    return [r for r in rows if r["panel"] == DECIDES] or rows


def tree(
    name: str, members: list[Member], models: list[Row], merges: list[Row], pairs: list[Row], layout: Layout = WIDE
) -> Markup:
    """Draw the dendrogram with its support, and the map in the plane with the robust pairs joined."""
    models, merges, pairs = deciding(models), deciding(merges), deciding(pairs)
    wide = layout.across == 2
    room = layout.width / 2 if wide else layout.width
    high = HEAD + max(len(models) * layout.row, PLANE if wide else 0.0) + FOOT
    left = _dendrogram(members, models, merges, layout, room)
    right = _plane(members, models, pairs, room, room if wide else 0.0, 0.0 if wide else high)
    said = "; ".join(f"{r['model']}: group {r['consensus_group']}" for r in models)
    height = high if wide else high + HEAD + PLANE + FOOT
    return svg.frame(name, "Models by their fingerprints", f"{said}.", layout.width, height, left, right)


def _dendrogram(
    members: list[Member], models: Sequence[Row], merges: Sequence[Row], layout: Layout, room: float
) -> Markup:
    hues = {m.model: m.kind for m in members}
    top = max((r["height"] for r in merges), default=1.0) or 1.0
    x = Scale(0.0, top, layout.left, room - 24)
    at = {i: (x(0.0), HEAD + (r["leaf"] + 0.5) * layout.row) for i, r in enumerate(models)}
    marks = [svg.text("Dendrogram, share of resamples at each merge", 4, 14, "heading")]
    for i, row in enumerate(models):
        label = svg.fitted(visible(str(row["model"])), layout.left - 20)
        marks.append(svg.text(label, layout.left - 10, at[i][1] + 4, "label", "end"))
        marks.append(dot(*at[i], 3.0, hues.get(row["model"], "")))
    for row in merges:
        (x1, y1), (x2, y2), place = at[row["left"]], at[row["right"]], x(row["height"])
        marks.append(svg.path([(x1, y1), (place, y1), (place, y2), (x2, y2)], "curve anyone"))
        at[len(models) + row["merge"]] = (place, (y1 + y2) / 2)
        marks.append(svg.text(number(row["support"], 2), place + 3, (y1 + y2) / 2 - 4, "tick halo"))
    bottom = HEAD + len(models) * layout.row + 6
    marks.append(svg.line(x.start, bottom, x.end, bottom, "axis"))
    for tick in x.ticks(4):
        marks.append(svg.text(number(tick), x(tick), bottom + 13, "tick", "middle"))
    marks.append(svg.text("distance (spreads)", (x.start + x.end) / 2, bottom + 26, "axis-name", "middle"))
    return svg.group(*marks)


def _plane(
    members: list[Member], models: Sequence[Row], pairs: Sequence[Row], room: float, left: float, top: float
) -> Markup:
    hues = {m.model: m.kind for m in members}
    low, high = span([r[c] for r in models for c in ("x", "y")], pad=0.12) or (-1.0, 1.0)
    x = Scale(low, high, left + 20, left + room - 70)
    y = Scale(low, high, top + HEAD + PLANE, top + HEAD)
    where = {r["model"]: (x(r["x"]), y(r["y"])) for r in models}
    marks = [svg.text("Map in the plane, robust pairs joined", left + 20, top + 14, "heading")]
    for row in pairs:
        joined = [n for n in ("principal", "columns") if row[f"robust_{n}"]]
        if joined:
            (x1, y1), (x2, y2) = where[row["first"]], where[row["second"]]
            kind = "curve hue1" if "principal" in joined else "curve anyone dash3"
            words = f"{row['first']} and {row['second']}: robust by {', '.join(joined)}"
            marks.append(svg.path([(x1, y1), (x2, y2)], kind, svg.tip(words)))
    for row in models:
        px, py = where[row["model"]]
        tip = svg.tip(f"{row['model']} ({row['family']})")
        marks.append(dot(px, py, 4.5, hues.get(row["model"], ""), tip))
        label = svg.fitted(visible(str(row["model"])), 86, 10)
        marks.append(svg.text(label, px + 8, py + (13 if py > y(low) - 8 else 4), "note halo"))
    return svg.group(*marks)


def grid(name: str, rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw how well models are told apart under each normalisation, a panel a figure, with 95 % intervals."""
    kinds = list(dict.fromkeys((str(r["figure"]), str(r["value"])) for r in rows))
    methods = list(dict.fromkeys(str(r["method"]) for r in rows))
    across = len(kinds) if layout.across == 2 else 1
    pitch, high = (layout.width - layout.left) / across, HEAD + len(methods) * layout.row + FOOT
    marks = []
    for k, (figure, value) in enumerate(kinds):
        left, top = layout.left + (k % across) * pitch, (k // across) * high
        x = Scale(0.0, 1.0, left + 4, left + pitch - 34)
        marks += [
            svg.text(part, x.start, top + 14 + 14 * line, "heading")
            for line, part in enumerate(svg.wrapped(f"{value} of {figure}", pitch - 34, 12))
        ]
        bottom = top + HEAD + len(methods) * layout.row
        marks += columns(x, (0, 0.5, 1), top + HEAD, bottom)
        if k % across == 0:
            at, room = (layout.left - 10, top + HEAD + layout.row / 2 + 4), layout.left - 14
            marks += names([(method, "label") for method in methods], *at, layout.row, room)
        for i, method in enumerate(methods):
            y = top + HEAD + (i + 0.5) * layout.row
            own = (r for r in rows if (r["method"], r["figure"], r["value"]) == (method, figure, value))
            marks += [_estimate(x, y, row) for row in own]
    title = "How well models are told apart under each normalisation of states"
    return svg.frame(name, title, f"{title}.", layout.width, high * -(-len(kinds) // across), *marks)


def _estimate(x: Scale, y: float, row: Row) -> Markup:
    if not is_number(row["estimate"]):
        return svg.group(svg.tip(visible(str(row["reason"]))), svg.text("—", x.start + 2, y + 4, "note"))
    words = f"{row['method']}: {estimated(row['estimate'], row['lo'], row['hi'])}, n = {row['n_prompts']} prompts"
    marks = [svg.tip(words)]
    if is_number(row["lo"]) and is_number(row["hi"]):
        marks.append(svg.line(x.clipped(row["lo"]), y, x.clipped(row["hi"]), y, "whisker hue0"))
    if is_number(row["chance"]):
        marks.append(svg.line(x(row["chance"]), y - 6, x(row["chance"]), y + 6, "stroke null"))
    marks.append(dot(x.clipped(row["estimate"]), y, 4.0, "hue0"))
    return svg.group(*marks)


def heat_caption(rows: list[Row], found: list[Row]) -> Markup:
    """Caption of the heat map; `found` are the rows of results/identification.parquet."""
    told = [r for r in found if is_number(r["accuracy"]) and is_number(r["chance"])]
    said = "; ".join(
        f"{r['panel']}: {estimated(r['accuracy'], r['lo'], r['hi'])} over halves, "
        f"chance {number(r['chance'])}, p = {number(r['p'])}"
        for r in told
    )
    return written("fingerprints", rows, full=number(FULL), told=said or "not computed")


def tree_caption(figures: list[Row]) -> Markup:
    """Caption of dendrogram and map; `figures` are the rows of results/topology.parquet."""
    row = deciding(figures)[-1]
    numbers = {k: row[f"n_{k}"] for k in ("models", "prompts", "features")}
    numbers |= {k: number(row[k]) for k in ("stress", "fragmentation")}
    ari = f"ARI with families {estimated(row['ari'], row['ari_lo'], row['ari_hi'])} (95 %), p = "
    ari += number(row["ari_p"])
    if not is_number(row["ari"]):
        ari = "ARI with families undefined: no two models of one family, or all of one"
    return written("topology", **numbers, panel=row["panel"], draws=row["n_draws"], ari=ari)


def grid_caption(rows: list[Row]) -> Markup:
    """Caption of the grid of normalisations."""
    prompts = extent((r["n_prompts"] for r in rows if is_number(r["estimate"])), "prompts")
    return written("normalisation", rows, prompts=prompts)


def _heat(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = folder.rows("fingerprints")
    if not rows:
        return []
    said = heat_caption(rows, folder.rows("identification"))
    return [pair("fingerprints", heat_map, members, rows, layouts=(WIDE, NARROW), caption=said, claims=("F0",))]


def _tree(folder: Folder, members: list[Member]) -> list[Block | None]:
    figures, *parts = (folder.rows(name) for name in GROUPS)
    if not (figures and parts[0]):
        return []
    said = tree_caption(figures)
    return [pair("topology", tree, members, *parts, layouts=(WIDE, NARROW), caption=said, claims=("T1", "T2"))]


def _grid(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = folder.rows("normalisation")
    said = grid_caption(rows) if rows else ""
    return [pair("normalisation", grid, rows, layouts=(WIDE, NARROW), caption=said, claims=("N1",))] if rows else []


GROUPS = ("topology", "topology_models", "topology_merges", "topology_pairs")
FINGERPRINTS = Section(
    "fingerprints", "Fingerprints", "Fingerprints", ("fingerprints", "identification"), _heat, ("fingerprint", "spread")
)
TOPOLOGY = Section(
    "topology", "Groups of models", "Groups of models", GROUPS, _tree, ("consensus", "fragmentation", "ARI", "stress")
)
NORMALISATION = Section(
    "normalisation", "Normalisations", "Normalisations of states", ("normalisation",), _grid, ("ICC", "normalisation")
)
