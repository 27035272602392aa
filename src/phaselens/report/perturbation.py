"""The page of `phaselens perturb`: gain and output divergence over relative depth, tables, and the verdict."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from markupsafe import Markup, escape

from phaselens.report import svg, words
from phaselens.report.scale import Scale, span
from phaselens.trace.store import atomic_write

Row = Mapping[str, object]
WIDE, PLOT, LEFT, HEAD, FOOT, LABEL = 460.0, 250.0, 52.0, 30.0, 40.0, 128.0
CARRIED = (0.9, 1.1)


def signature_figure(name: str, rows: Sequence[Row], deciding: float) -> Markup:
    """Draw gain g(l -> L) (1, log) and KL(p || p') (nats, log) over l/L: a curve a model, its prompt interval shaded.

    Matched noise of the deciding strength; the band from .9 to 1.1 is what counts as carried.
    """
    mine = [r for r in rows if r["condition"] == "matched" and r["strength"] == deciding]
    models = list(dict.fromkeys(str(r["model"]) for r in mine))
    heading = "gain g(l → L), relative change at L over that at l"
    gain = _panel(mine, models, ("gain", "lo", "hi"), 0.0, heading, band=True)
    kl = _panel(mine, models, ("kl", "kl_lo", "kl_hi"), WIDE, "KL(p || p′) of the output, nats", band=False)
    said = f"Gain and output divergence over relative depth, noise of {deciding:g} x RMS, {len(models)} models."
    return svg.frame(name, "Perturbation signatures", said, 2 * WIDE, HEAD + PLOT + FOOT, gain, kl)


def _panel(
    rows: Sequence[Row], models: Sequence[str], columns: tuple[str, str, str], left: float, heading: str, *, band: bool
) -> Markup:
    value, lo, hi = columns
    ends = [r[c] for r in rows for c in columns]
    domain = span([*ends, *(CARRIED if band else ())], log=True) or (0.1, 10.0)
    x = Scale(0.0, 1.0, left + LEFT, left + WIDE - LABEL)
    y = Scale(*domain, HEAD + PLOT, HEAD, log=True)
    marks = [svg.text(heading, x.start, 14, "heading")]
    if band:
        marks.append(svg.rect(x.start, y(CARRIED[1]), x.end - x.start, y(CARRIED[0]) - y(CARRIED[1]), "band"))
        marks.append(svg.text("carried", x.end - 4, y(CARRIED[1]) - 4, "band-name", "end"))
    for tick in y.ticks(5):
        marks.append(svg.line(x.start, y(tick), x.end, y(tick), "unity" if band and tick == 1 else "grid"))
        marks.append(svg.text(words.tick(tick), x.start - 5, y(tick) + 4, "tick", "end"))
    marks.append(svg.line(x.start, y.start, x.end, y.start, "axis"))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        marks.append(svg.text(words.number(tick), x(tick), y.start + 15, "tick", "middle"))
    marks.append(svg.text("perturbed layer l/L", (x.start + x.end) / 2, y.start + 32, "axis-name", "middle"))
    last: list[tuple[int, str, float]] = []
    for k, model in enumerate(models):
        own = sorted((r for r in rows if r["model"] == model), key=lambda r: r["depth"])  # type: ignore[arg-type,return-value]
        both = [r for r in own if words.is_number(r[lo]) and words.is_number(r[hi]) and r[lo] > 0]  # type: ignore[operator]
        upper = [(x(r["depth"]), y.clipped(r[hi])) for r in both]
        lower = [(x(r["depth"]), y.clipped(r[lo])) for r in reversed(both)]
        if len(both) > 1:
            marks.append(svg.path([*upper, *lower], f"ribbon hue{k % 8}"))
        good = [(x(r["depth"]), y.clipped(r[value])) for r in own if words.is_number(r[value])]
        if good:
            marks.append(svg.path(good, f"curve hue{k % 8}", svg.tip(model)))
            last.append((k, model, good[-1][1]))
    places = svg.spread([at for _, _, at in last], 13.0, y.end, y.start)
    for (k, model, at), place in zip(last, places, strict=True):
        start = x(len(models) and max(r["depth"] for r in rows))  # type: ignore[type-var]
        marks.append(svg.path([(start + 2, at), (x.end + 6, place)], f"leader hue{k % 8}"))
        marks.append(
            svg.text(
                svg.fitted(model.removeprefix("organism:"), LABEL - 14, 11),
                x.end + 9,
                place + 4,
                f"end-label hue{k % 8}",
            )
        )
    return svg.group(*marks)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], caption: str) -> Markup:
    """An HTML table; numbers are written as everywhere in the report."""
    head = Markup("").join(Markup("<th>{}</th>").format(c) for c in columns)
    body = Markup("").join(
        Markup("<tr>{}</tr>").format(Markup("").join(Markup("<td>{}</td>").format(_cell(v)) for v in row))
        for row in rows
    )
    form = (
        '<div class="scroll"><table class="data"><caption><span>{}</span></caption><thead><tr>{}</tr></thead>'
        "<tbody>{}</tbody></table></div>"
    )
    return Markup(form).format(caption, head, body)


def _cell(value: object) -> str:
    return value if isinstance(value, str) else words.value(value)


def page(title: str, sections: Sequence[tuple[str, Markup]]) -> str:
    """One offline page: title, sections, the style sheet of the report."""
    style = resources.files("phaselens.report").joinpath("templates/report.css").read_text(encoding="utf-8")
    parts = Markup("").join(Markup("<section><h2>{}</h2>{}</section>").format(head, body) for head, body in sections)
    return str(
        Markup('<!doctype html><html lang="en"><meta charset="utf-8"><title>{}</title>').format(title)
        + Markup('<meta name="viewport" content="width=device-width"><style>')
        + Markup(style)
        + Markup("</style><main><h1>{}</h1>{}</main></html>").format(title, parts)
    )


def write_page(folder: Path, document: Mapping[str, object]) -> Path:
    """Write `report.html` from the document of a signature study, whole or not at all; return its path."""
    rows: list[Row] = document["signatures"]  # type: ignore[assignment]
    deciding = float(document["deciding"])  # type: ignore[arg-type]
    caption = (
        f"Noise of {deciding:g} × RMS of the layer is added to every generated step at layer l. Left, how much of the "
        "relative change is there at the last layer; right, what it does to the output. Bands are 95 % intervals over "
        "prompts. Below the grey band a model absorbs, above it amplifies."
    )
    figure = Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
        signature_figure("signatures", rows, deciding), caption
    )
    claims = Markup("").join(
        Markup('<p><b>{}</b> <span class="badge {}">{}</span> {} <span class="soft">{}</span></p>').format(
            c["id"], str(c["verdict"]).replace(" ", "-"), c["verdict"], c["statement"], c["why"]
        )
        for c in document["claims"]  # type: ignore[attr-defined]
    )
    sections = [("Signatures", figure), ("Claims", claims), ("Reproducibility", _reproduced(document))]
    sections += [*_acts(document), *_tables(rows, document)]
    return atomic_write(folder / "report.html", page("Perturbation signatures", sections))


def _acts(document: Mapping[str, object]) -> list[tuple[str, Markup]]:
    """Tables of causal regions and of control, where they were asked for."""
    out = []
    if "causal" in document:
        rows = document["causal"]["rows"]  # type: ignore[index]
        figure = Markup("<figure>{}<figcaption>{}</figcaption></figure>").format(
            causal_figure("causal", rows),
            "Fall of the margin ln p(right) − ln p(wrong) when a subspace is taken out at one layer. Grey: 95 % of the "
            "random subspaces of equal removed variance. Only what lies outside it is evidence.",
        )
        out.append(("Causal regions", figure))
    if "control" in document:
        body = [
            (r["arm"], r["triggered"], r["right"], r["change_right"], words.interval(r["right_lo"], r["right_hi"]),
             r["change_ct"], words.interval(r["ct_lo"], r["ct_hi"]), r["extra_tokens"])
            for r in document["control"]["rows"]  # type: ignore[index]
        ]  # fmt: skip
        columns = ("arm", "triggered", "right", "change", "95 %", "change of ct", "95 %", "extra tokens")
        said = "Change of correctness and of ct against no intervention, paired by question."
        out.append(("Control of the dynamics", table(columns, body, said)))
    return out


def causal_figure(name: str, rows: Sequence[Row]) -> Markup:
    """Draw the fall of the margin (nats) over l/L by arm, with the band of random subspaces behind it."""
    arms = [a for a in dict.fromkeys(str(r["arm"]) for r in rows) if not a.startswith("random")]
    domain = span([r[c] for r in rows for c in ("margin", "band_lo", "band_hi")]) or (0.0, 1.0)
    x = Scale(0.0, 1.0, LEFT, 1.5 * WIDE - LABEL)
    y = Scale(*domain, HEAD + PLOT, HEAD)
    marks = [svg.text("fall of the margin, nats", x.start, 14, "heading")]
    known = [r for r in rows if r["arm"] == arms[0] and words.is_number(r["band_lo"])]
    if len(known) > 1:
        upper = [(x(r["depth"]), y(r["band_hi"])) for r in known]
        marks.append(svg.path([*upper, *((x(r["depth"]), y(r["band_lo"])) for r in reversed(known))], "band"))
    for tick in y.ticks(5):
        marks.append(svg.line(x.start, y(tick), x.end, y(tick), "grid"))
        marks.append(svg.text(words.tick(tick), x.start - 5, y(tick) + 4, "tick", "end"))
    for tick in (0, 0.25, 0.5, 0.75, 1):
        marks.append(svg.text(words.number(tick), x(tick), y.start + 15, "tick", "middle"))
    marks.append(svg.text("layer l/L", (x.start + x.end) / 2, y.start + 32, "axis-name", "middle"))
    ends = []
    for k, arm in enumerate(arms):
        own = [(x(r["depth"]), y(r["margin"])) for r in rows if r["arm"] == arm and words.is_number(r["margin"])]
        marks.append(svg.path(own, f"curve hue{k}", svg.tip(arm)))
        ends.append(own[-1][1])
    for k, (arm, at) in enumerate(zip(arms, svg.spread(ends, 13.0, y.end, y.start), strict=True)):
        marks.append(svg.text(arm, x.end + 8, at + 4, f"end-label hue{k}"))
    said = "Fall of the margin over relative depth for every arm, with the band of random subspaces."
    return svg.frame(name, "Causal regions", said, 1.5 * WIDE, HEAD + PLOT + FOOT, *marks)


def _reproduced(document: Mapping[str, object]) -> Markup:
    rows = []
    for r in document["reproducibility"]:  # type: ignore[attr-defined]
        ends = words.interval(r["lo"], r["hi"])
        rows.append((r["model"], r["family"], r["reproducibility"], ends, r["nearest_other"], r["with_nearest"]))
    columns = ("model", "family", "with itself", "95 %", "nearest other", "with that")
    said = "Rank correlation of signatures: one half of the prompts and draws with the other half."
    return table(columns, rows, said)


def _tables(rows: Sequence[Row], document: Mapping[str, object]) -> list[tuple[str, Markup]]:
    out = []
    for model in dict.fromkeys(str(r["model"]) for r in rows):
        mine = []
        for r in (row for row in rows if row["model"] == model):
            ends, kl_ends = words.interval(r["lo"], r["hi"]), words.interval(r["kl_lo"], r["kl_hi"])
            head = (r["condition"], r["strength"], r["layer"], r["depth"])
            mine.append((*head, r["gain"], ends, r["word"], r["kl"], kl_ends))
        columns = ("noise", "strength", "layer", "l/L", "gain", "95 %", "word", "KL, nats", "95 %")
        body = Markup("<details><summary>{} rows</summary>{}</details>").format(
            len(mine), table(columns, mine, "Gain g(l → L) and KL(p || p′), geometric means over prompts.")
        )
        out.append((str(escape(model)), body))
    facts = [(r["model"], r["identity"], r["passes_saved"], "; ".join(r["notes"])) for r in document["models"]]  # type: ignore[attr-defined]
    said = "Largest change of a logit by strength 0 (must be 0), and the share of passes that the shared prefix saves."
    return [*out, ("Checks", table(("model", "identity", "passes saved", "notes"), facts, said))]
