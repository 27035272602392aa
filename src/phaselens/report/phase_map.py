"""The phase map: ratio_norm of every model, its interval, its runs and its nulls, on one axis with the published
bands.
"""

from markupsafe import Markup

from phaselens.dynamics.published_figures import BANDS, Band
from phaselens.report import captions, data_tables, regime_labels, svg
from phaselens.report.axis_scale import Scale, span
from phaselens.report.figure_parts import Layout, dot
from phaselens.report.models_shown import Member, of
from phaselens.report.section import Block, Said, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import DASH, estimated, is_number, number, visible

RUNS_DRAWN = 400
FAR = 4.0  # from this ratio of its ends on the axis is logarithmic
NAME_LETTER = 7.2  # width of a capital of a band's name, px
TITLE = "ratio_norm of every model, with its nulls"


WIDE = Layout(920, left=236, right=748, row=34)  # right: where the plot ends
NARROW = Layout(360, left=10, right=350, row=48)  # labels stand above their rows
HEAD, FOOT, STRIP = 70.0, 34.0, 74.0


def phase_map(
    name: str, members: list[Member], models: list[Row], runs: list[Row], nulls: list[Row], layout: Layout = WIDE
) -> Markup:
    """Draw ratio_norm (1) per model at l* and at L, its runs as ticks, and the nulls below.

    The lower strip shows the whole published range on a logarithmic axis and where the upper axis lies in it. A model
    whose value is undefined keeps its row, with a dash.
    """
    own = [null for null in nulls if null["model"]]
    general = [null for null in nulls if not null["model"]]
    bottom = HEAD + layout.row * len(members) + (22 + layout.row * len(general) if general else 0) + 8
    low, high = _range(models, nulls)
    axis = Scale(low, high, layout.left, layout.right, log=high / low > FAR)
    body = [_bands(axis, layout, HEAD - 8, bottom), _key(layout), _ticks(axis, bottom)]
    y = HEAD
    for member in members:
        body.append(_model(axis, layout, y, member, of(models, member), of(runs, member)))
        body.append(_own_nulls(axis, layout, y, member, own))
        y += layout.row
    if general:
        body.append(svg.line(0, y + 6, layout.width, y + 6, "rule"))
        body.append(svg.text("nulls: the same number where there is nothing to find", 0, y + 20, "note"))
        y += 22
    for null in general:
        body.append(_null(axis, layout, y, null))
        y += layout.row
    body.append(_strip(axis, layout, bottom + FOOT, members, models, general))
    return svg.frame(name, TITLE, _describe(members, models, nulls), layout.width, bottom + FOOT + STRIP, *body)


def _range(models: list[Row], nulls: list[Row]) -> tuple[float, float]:
    """Give the axis: all models and the lowest band; nulls only while they do not crowd the models (factor 1.25)."""
    ends = [row[column] for row in models for column in ("ratio_norm", "lo", "hi") if is_number(row[column])]
    ends += [BANDS[0].low, BANDS[0].high]
    high = max(ends) * 1.25
    ends += [row[c] for row in nulls for c in ("ratio_norm", "lo", "hi") if is_number(row[c]) and row[c] <= high]
    low, high = span(ends, pad=0.05) or (1.0, 2.0)
    return max(low, 0.9), high


def _bands(axis: Scale, layout: Layout, top: float, bottom: float) -> Markup:
    marks, named = [], []
    for band in BANDS:
        if band.high < axis.low or band.low > axis.high:
            continue
        left, right = axis.clipped(band.low), axis.clipped(band.high)
        marks.append(svg.rect(left, top, max(right - left, 1.5), bottom - top, "band", svg.tip(_band(band))))
        named.append((band.name, (left + right) / 2))
    marks += _band_names(named, axis, top)
    note = "shaded: published bands, a comparison only"
    marks.append(svg.text(note, layout.right, 14, "note", "end"))
    return svg.group(*marks)


def _band_names(named: list[tuple[str, float]], axis: Scale, top: float) -> list[Markup]:
    """Write the names over their bands, one line higher where a name would touch the one before it."""
    marks, ends = [], [-1e9, -1e9]
    for name, middle in named:
        half = len(name) * NAME_LETTER / 2
        x = min(max(middle, axis.start + half), axis.end - half)
        line = 0 if x - half > ends[0] + 4 else 1
        ends[line] = x + half
        marks.append(svg.text(name, x, top - 5 - 11 * line, "band-name", "middle"))
    return marks


def _band(band: Band) -> str:
    ends = f"about {number(band.low)}" if band.low == band.high else f"{number(band.low)}–{number(band.high)}"
    return f"published band {band.name}: {ends}"


def _key(layout: Layout) -> Markup:
    x, y = (0.0, 10.0) if layout.wide else (layout.left, 30.0)
    return svg.group(
        _dot(x + 6, y, "hue0", "l*"),
        svg.text("at l*", x + 16, y + 4, "note"),
        _dot(x + 58, y, "hue0", "L"),
        svg.text("at L", x + 67, y + 4, "note"),
        svg.path([(x + 106, y - 6), (x + 106, y + 6)], "runs"),
        svg.text("one run", x + 112, y + 4, "note"),
    )


def _ticks(axis: Scale, bottom: float) -> Markup:
    marks = [svg.line(axis.start, bottom, axis.end, bottom, "axis")]
    for tick in axis.ticks(6):
        marks.append(svg.line(axis(tick), bottom, axis(tick), bottom + 4, "axis"))
        marks.append(svg.text(number(tick), axis(tick), bottom + 16, "tick", "middle"))
    unit = "ratio_norm (1, log axis)" if axis.log else "ratio_norm (1)"
    marks.append(svg.text(unit, axis.end, bottom + 30, "axis-name", "end"))
    return svg.group(*marks)


def _dot(x: float, y: float, kind: str, choice: str) -> Markup:
    if choice == "L":
        return svg.rect(x - 3, y - 3, 6, 6, f"dot {kind}")
    return dot(x, y, 4.5, kind)


def _model(axis: Scale, layout: Layout, y: float, member: Member, rows: list[Row], runs: list[Row]) -> Markup:
    middle = y + layout.row / 2 + (8 if not layout.wide else 0)
    marks = [_label(layout, y, member.label, "label twin-name" if member.twin else "label")]
    shown = [axis(run["ratio_norm"]) for run in runs if axis.holds(run["ratio_norm"])]
    shown = shown[:: max(1, -(-len(shown) // RUNS_DRAWN))]
    if shown:
        d = "".join(f"M{svg.place(x)} {svg.place(middle - 10)}v20" for x in shown)
        marks.append(svg.element("path", d=d, class_=f"runs {member.kind}"))
    for row in rows:
        offset = 6 if row["layer_choice"] == "L" else -5
        marks.append(_estimate(axis, middle + offset, row, member.kind, row["layer_choice"], member.label))
    chosen = next((row for row in rows if row["layer_choice"] != "L"), rows[0] if rows else None)
    marks.append(_figure(layout, y, chosen))
    return svg.group(*marks)


def _estimate(axis: Scale, y: float, row: Row, kind: str, choice: str, label: str) -> Markup:
    if not is_number(row["ratio_norm"]):
        return Markup("")
    what = f"{label}, {choice}: {estimated(row['ratio_norm'], row['lo'], row['hi'])}"
    marks = [svg.tip(what)]
    if is_number(row["lo"]) and is_number(row["hi"]):
        marks.append(svg.line(axis.clipped(row["lo"]), y, axis.clipped(row["hi"]), y, f"whisker {kind}"))
    marks.append(_dot(axis(row["ratio_norm"]), y, kind, choice))
    return svg.group(*marks)


def _label(layout: Layout, y: float, label: str, kind: str) -> Markup:
    if not layout.wide:
        return svg.text(svg.fitted(label, 220), layout.left, y + 14, kind)
    return svg.text(svg.fitted(label, layout.left - 24), layout.left - 14, y + layout.row / 2 + 4, kind, "end")


def _figure(layout: Layout, y: float, row: Row | None) -> Markup:
    written = DASH if row is None else f"{estimated(row['ratio_norm'], row['lo'], row['hi'])}"
    written = DASH if row is None or not is_number(row["ratio_norm"]) else written
    if not layout.wide:
        return svg.text(written, layout.right, y + 14, "figure", "end")
    return svg.text(written, layout.right + 14, y + layout.row / 2 + 4, "figure")


def _null(axis: Scale, layout: Layout, y: float, row: Row) -> Markup:
    """Draw one null in a row of its own; where it lies beyond the axis an arrow says so, and its number is printed."""
    middle = y + layout.row / 2 + (8 if not layout.wide else 0)
    label = visible(str(row["null"]))
    marks = [svg.tip(f"{label}: {visible(str(row['description']))}"), _label(layout, y, label, "label null-name")]
    marks.append(_figure(layout, y, row))
    if is_number(row["ratio_norm"]) and row["ratio_norm"] > axis.high:
        d = f"M{svg.place(axis.end - 26)} {svg.place(middle)}h20m-5-4l5 4l-5 4"
        return svg.group(*marks, svg.element("path", d=d, class_="beyond"))
    if is_number(row["lo"]) and is_number(row["hi"]):
        marks.append(svg.line(axis.clipped(row["lo"]), middle, axis.clipped(row["hi"]), middle, "whisker null"))
    if is_number(row["ratio_norm"]):
        marks.append(_diamond(axis.clipped(row["ratio_norm"]), middle, 5))
    return svg.group(*marks)


def _own_nulls(axis: Scale, layout: Layout, y: float, member: Member, nulls: list[Row]) -> Markup:
    """Mark a trained model's own nulls in its row as small diamonds; an untrained twin has a row of its own already."""
    middle = y + layout.row / 2 + (8 if not layout.wide else 0) + 11
    marks = []
    for row in nulls if not member.twin else ():
        if row["model"] == member.model and row["null"] != "untrained twin" and axis.holds(row["ratio_norm"]):
            words = f"{row['null']}: {estimated(row['ratio_norm'], row['lo'], row['hi'])} ({row['description']})"
            marks.append(svg.group(svg.tip(visible(words)), _diamond(axis(row["ratio_norm"]), middle, 3)))
    return svg.group(*marks)


def _diamond(x: float, y: float, r: int) -> Markup:
    return svg.element("path", d=f"M{svg.place(x)} {svg.place(y - r)}l{r} {r}l-{r} {r}l-{r}-{r}z", class_="dot null")


def _strip(
    axis: Scale, layout: Layout, top: float, members: list[Member], models: list[Row], nulls: list[Row]
) -> Markup:
    """Draw the whole published range, so that it is seen how little of it the panel covers."""
    left = layout.left
    whole = Scale(1.0, max(40.0, axis.high), left, layout.right, log=True)
    y = top + 22
    marks = []
    for band in BANDS:
        x1, x2 = whole(band.low), whole(band.high)
        marks.append(svg.rect(x1, y, max(x2 - x1, 1.5), 16, "band", svg.tip(_band(band))))
    for band in (BANDS[0], BANDS[1], BANDS[3]):
        first = band is BANDS[0]
        x = whole.start if first and not layout.wide else whole(band.high if first else band.low)
        marks.append(svg.text(band.name, x, y - 4, "band-name", "end" if first and layout.wide else None))
    for null in nulls:
        if whole.holds(null["ratio_norm"]):
            words = f"null {null['null']}: {number(null['ratio_norm'])}"
            marks.append(svg.group(svg.tip(visible(words)), _diamond(whole(null["ratio_norm"]), y + 8, 3)))
    for member in members:
        for row in of(models, member):
            if whole.holds(row["ratio_norm"]) and row["layer_choice"] != "L":
                x = whole(row["ratio_norm"])
                marks.append(svg.line(x, y + 1, x, y + 15, f"stroke {member.kind}"))
    low, high = whole.clipped(axis.low), whole.clipped(axis.high)
    marks.append(svg.rect(low, y - 1, high - low, 18, "window"))
    marks.append(svg.line(left, y + 17, layout.right, y + 17, "axis"))
    for tick in (1, 2, 3, 5, 10, 20, 35):
        marks.append(svg.text(number(tick), whole(tick), y + 31, "tick", "middle"))
    if layout.wide:
        marks.append(svg.text("the whole published range", left - 14, y + 8, "note", "end"))
        marks.append(svg.text("(log axis; box: the axis above)", left - 14, y + 22, "note", "end"))
    else:
        marks.append(svg.text("the whole published range (log; box: axis above)", left, y + 48, "note"))
    return svg.group(*marks)


def _describe(members: list[Member], models: list[Row], nulls: list[Row]) -> str:
    said = [
        f"{member.label}: {estimated(row['ratio_norm'], row['lo'], row['hi'])}"
        for member in members
        for row in of(models, member)
        if row["layer_choice"] != "L"
    ]
    said += [f"null {row['null']}: {number(row['ratio_norm'])}" for row in nulls]
    return "Dots with 95 % intervals. " + "; ".join(said) + "."


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = folder.rows("regimes_models")
    if not rows:
        return []
    args, claims = (rows, folder.rows("regimes_runs"), folder.rows("regimes_nulls")), ("R1", "R6")
    said = captions.sampled("phase_map", rows)
    drawn = pair("phase", phase_map, members, *args, layouts=(WIDE, NARROW), caption=said, claims=claims)
    out: list[Block | None] = [drawn]
    shares = regime_labels.labelled(rows)
    if shares and any(regime_labels.has_label(row) for row in shares):
        said = captions.sampled("label_bars", shares)
        layouts = regime_labels.WIDE, regime_labels.NARROW
        out.append(pair("labels", regime_labels.label_bars, members, rows, layouts=layouts, caption=said))
    elif shares:
        out.append(Said([captions.plain("unlabelled")]))
    return [*out, listed(data_tables.regimes(folder, members), "The numbers of these figures")]


TABLES = ("regimes_models", "regimes_runs", "regimes_nulls")
SECTION = Section("regimes", "Phase map", "Phase map", TABLES, _blocks, ("ratio_norm", "ct"), always=True)
