"""What came of changing running models, drawn: signatures and growth over depth, causal regions, control arms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from phaselens.dynamics.perturbation_signatures import CARRIED, deciding
from phaselens.report import forest_plot, svg, written_values
from phaselens.report.axis_scale import Scale, span
from phaselens.report.captions import written
from phaselens.report.figure_parts import Curve, Layout, axes, end_names
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Figure, Section
from phaselens.report.study_files import Folder, Row

HEAD, PLOT, FOOT, LEFT = 30.0, 230.0, 44.0, 52.0
TABLES = ("signatures", "growth_curves", "causal", "control")
ARM_HUES = {"probe subspace": 0, "LEACE": 2, "mean": 3, "patch": 1}


WIDE, NARROW = Layout(920, 2, right=124), Layout(360, 1, right=92)
SHAPES = (("wide", WIDE), ("narrow", NARROW))
ROWS_WIDE, ROWS_NARROW = Layout(920, 4, 110), Layout(360, 1, 92)


@dataclass(frozen=True)
class Shown:
    """How a model is shown: its label, and the style class of its curve."""

    label: str
    kind: str


def figures(tables: Mapping[str, Sequence[Row]], shown: Mapping[str, Shown]) -> list[Figure]:
    """The figures that these tables give (of `TABLES`); models are named and coloured as `shown` says."""
    signatures, growth, causal, control = (tables.get(name) or [] for name in TABLES)
    out = []
    if signatures:
        at = deciding({float(r["strength"]) for r in signatures if written_values.is_number(r["strength"])})
        wide, narrow = (signature_figure(f"signatures-{k}", signatures, at, shown, shape) for k, shape in SHAPES)
        out.append(Figure("signatures", wide, narrow, signature_caption(signatures, at)))
    if growth:
        wide, narrow = (growth_figure(f"growth-{k}", growth, shown, shape) for k, shape in SHAPES)
        out.append(Figure("growth", wide, narrow, written("growth")))
    if causal:
        wide, narrow = (causal_figure(f"causal-{k}", causal, shown, shape) for k, shape in SHAPES)
        out.append(Figure("causal", wide, narrow, written("causal")))
    if control:
        layouts = (("wide", ROWS_WIDE), ("narrow", ROWS_NARROW))
        wide, narrow = (control_figure(f"control-{k}", control, shown, layout) for k, layout in layouts)
        out.append(Figure("control", wide, narrow, control_caption(control)))
    return out


def _models(rows: Sequence[Row], shown: Mapping[str, Shown]) -> list[tuple[str, Shown]]:
    names = list(dict.fromkeys(str(r["model"]) for r in rows))
    short = [name.rstrip("/").rpartition("/")[2].removeprefix("organism:") for name in names]
    labels = names if len(set(short)) < len(short) else short
    both = enumerate(zip(names, labels, strict=True))
    return [(name, shown.get(name, Shown(label, f"hue{i % 8}"))) for i, (name, label) in both]


# --- signatures ---


def signature_figure(name: str, rows: Sequence[Row], at: float, shown: Mapping[str, Shown], shape: Layout) -> Markup:
    """Draw gain g(l -> L) (1, log) and KL(p || p') (nats, log) over l/L: a curve a model, its prompt interval shaded.

    Matched noise of one strength; the band from .9 to 1.1 is what counts as carried.
    """
    mine = [r for r in rows if r["condition"] == "matched" and r["strength"] == at]
    models = _models(mine, shown)

    def curves(value: str, lo: str, hi: str) -> list[Curve]:
        own = [(s, [r for r in mine if r["model"] == model]) for model, s in models]
        return [Curve(s.label, s.kind, found, value, lo, hi) for s, found in own]

    gain = _panel(
        curves("gain", "lo", "hi"), (0, 0), shape, "gain g(l → L) (1)", "perturbed layer l/L", log=True, band=CARRIED
    )
    kl = _panel(
        curves("kl", "kl_lo", "kl_hi"),
        (1 % shape.across, 1 // shape.across),
        shape,
        "KL(p || p′) of the output (nats)",
        "perturbed layer l/L",
        log=True,
    )
    said = f"Gain and output divergence over relative depth, noise of {at:g} x RMS, {len(models)} models."
    return _framed(name, "Perturbation signatures", said, 2, shape, gain, kl)


def signature_caption(rows: Sequence[Row], at: float) -> Markup:
    """Caption of the signatures."""
    return written("signatures", at=f"{at:g}", site=rows[0].get("site", "resid_post"))


# --- growth ---


def growth_figure(name: str, rows: Sequence[Row], shown: Mapping[str, Shown], shape: Layout) -> Markup:
    """Draw growth of infinitesimal changes (ln) over depth, less the stream's, and over the steps behind a change."""
    models = _models(rows, shown)

    def curves(along: str) -> list[Curve]:
        own = [(s, [r for r in rows if r["model"] == model and r["along"] == along]) for model, s in models]
        return [Curve(s.label, s.kind, found, "value", "lo", "hi") for s, found in own]

    last = max(int(r["place"]) for r in rows if r["along"] == "tokens")
    depth = _panel(curves("depth"), (0, 0), shape, "growth less the stream's (ln)", "layer l/L")
    tokens = _panel(
        curves("tokens"),
        (1 % shape.across, 1 // shape.across),
        shape,
        "growth behind a change (ln)",
        f"steps behind the change, over {last}",
    )
    said = f"Growth of infinitesimal changes along depth and along tokens, {len(models)} models."
    return _framed(name, "Growth of infinitesimal changes", said, 2, shape, depth, tokens)


# --- causal regions ---


def causal_figure(name: str, rows: Sequence[Row], shown: Mapping[str, Shown], shape: Layout) -> Markup:
    """Draw the fall of the margin (nats) over l/L, a panel a model and a curve an arm, before the random band."""
    panels = []
    models = _models(rows, shown)
    for i, (model, s) in enumerate(models):
        own = [r for r in rows if r["model"] == model]
        arms = [a for a in dict.fromkeys(str(r["arm"]) for r in own) if not a.startswith("random")]
        curves = [
            Curve(arm, f"hue{ARM_HUES.get(arm, 6)}", [r for r in own if r["arm"] == arm], "margin", "lo", "hi")
            for arm in arms
        ]
        place = (i % shape.across, i // shape.across)
        first = [r for r in own if r["arm"] == arms[0]]
        panels.append(_panel(curves, place, shape, f"{s.label}: fall of the margin (nats)", "layer l/L", behind=first))
    said = "Fall of the margin over relative depth for every arm, with the band of random subspaces."
    return _framed(name, "Causal regions", said, len(models), shape, *panels)


# --- control ---


def control_figure(name: str, rows: Sequence[Row], shown: Mapping[str, Shown], layout: Layout) -> Markup:
    """Draw change of correctness and change of ct side by side, two panels a model and a row an arm."""
    arms = [a for a in dict.fromkeys(str(r["arm"]) for r in rows) if a != "none"]  # in the order of the table
    panels = []
    for model, s in _models(rows, shown):
        own = {str(r["arm"]): r for r in rows if r["model"] == model}
        for note, value, lo, hi in (
            ("change of right (share)", "change_right", "right_lo", "right_hi"),
            ("change of mean ct (rad)", "change_ct", "ct_lo", "ct_hi"),
        ):
            marks = {
                arm: [
                    forest_plot.Mark(own[arm][value], own[arm][lo], own[arm][hi], s.kind, f"{s.label}, {arm}, {note}")
                ]
                for arm in arms
                if arm in own
            }
            panels.append(forest_plot.Panel(s.label, note, marks))
    return forest_plot.forest(name, "Control of the dynamics", [(a, a, "label") for a in arms], panels, layout)


def control_caption(rows: Sequence[Row]) -> Markup:
    """Caption of the control arms."""
    own = {arm: [r for r in rows if r["arm"] == arm] for arm in ("none", "monitor")}
    columns = (("none", "right"), ("monitor", "triggered"), ("monitor", "in_time"), ("monitor", "extra_tokens"))
    right, acted, in_time, cost = (_ends([float(r[c]) for r in own[arm]]) for arm, c in columns)
    questions = written_values.extent((r["n"] for r in rows), "questions")
    return written("control", questions=questions, right=right, acted=acted, in_time=in_time, cost=cost)


def _ends(shares: Sequence[float]) -> str:
    if not shares:
        return written_values.DASH
    low, high = (f"{100 * v:.3g}" for v in (min(shares), max(shares)))
    return f"{low} %" if low == high else f"{low} to {high} %"


# --- one panel ---


def _panel(
    curves: Sequence[Curve],
    place: tuple[int, int],
    shape: Layout,
    heading: str,
    below: str,
    *,
    log: bool = False,
    band: tuple[float, float] | None = None,
    behind: Sequence[Row] = (),
) -> Markup:
    """One panel over relative depth: curves, their intervals and names; a flat band, or that of random subspaces."""
    left, top = place[0] * shape.width / shape.across, place[1] * (HEAD + PLOT + FOOT)
    ends = [r[c] for one in curves for r in one.rows for c in (one.value, one.lo, one.hi) if c]
    ends += [r[c] for r in behind for c in ("band_lo", "band_hi")] + ([0.0] if not log else [])
    x = Scale(0.0, 1.0, left + LEFT, left + shape.width / shape.across - shape.right)
    y = Scale(*(span([*ends, *(band or ())], log=log) or (0.1, 10.0)), top + HEAD + PLOT, top + HEAD, log=log)
    marks = []
    if band:
        marks.append(svg.rect(x.start, y(band[1]), x.end - x.start, y(band[0]) - y(band[1]), "band"))
        marks.append(svg.text("carried", x.start + 4, y(band[1]) - 4, "band-name"))
    known = [r for r in behind if written_values.is_number(r["band_lo"])]
    if len(known) > 1:
        lower = [(x(r["depth"]), y(r["band_lo"])) for r in reversed(known)]
        marks.append(svg.path([*((x(r["depth"]), y(r["band_hi"])) for r in known), *lower], "band"))
    at, ticks = 1.0 if log and band else None if log else 0.0, (0, 0.25, 0.5, 0.75, 1)
    marks.append(axes(x, y, heading, room=shape.right, below=below, ticks=ticks, values=y.ticks(5), at=at))
    marks += [
        svg.line(x(r["depth"]), y.start, x(r["depth"]), y.start - 7, "axis", stroke_width="3")
        for r in behind
        if r["region"]
    ]
    return svg.group(*marks, *(one.drawn(x, y) for one in curves), end_names(x, y, curves, shape.right))


def _framed(name: str, title: str, said: str, n: int, shape: Layout, *panels: Markup) -> Markup:
    across = min(n, shape.across)
    down = -(-n // across)
    return svg.frame(name, title, said, across * shape.width / shape.across, down * (HEAD + PLOT + FOOT), *panels)


def _blocks(folder: Folder, members: list[Member]) -> Sequence[Block]:
    return figures({name: folder.rows(name) for name in TABLES}, {m.model: Shown(m.label, m.kind) for m in members})


SECTION = Section("interventions", "Interventions", "Interventions", TABLES, _blocks)
