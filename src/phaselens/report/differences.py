"""What differs between two models: depth curves of both with the band of the difference, and the largest as a table."""

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from phaselens.report import depth_curves
from phaselens.report.axis_scale import span
from phaselens.report.captions import written
from phaselens.report.data_tables import Reasons, Table, declared, name_cell, text_cell
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import is_number, visible

MOST_MODELS, ROWS, EVERY = 3, 12, "all"


def figure(
    name: str,
    members: Sequence[Member],
    depth: list[Row],
    apart: list[Row],
    layout: depth_curves.Layout = depth_curves.GD_WIDE,
) -> Markup:
    """Draw, for each pair and observable that differs most, both models over l/L, and beside it their difference."""
    panels, between = [], Member("difference", False, "", 1 + max(m.hue for m in members), "difference")
    for first, second, observable in dict.fromkeys((r["first"], r["second"], r["observable"]) for r in apart):
        both = [r for r in depth if r["observable"] == observable and r["model"] in (first, second)]
        own: list[Row] = [
            {**r, "model": "difference", "twin": False}
            for r in apart
            if (r["first"], r["second"], r["observable"]) == (first, second, observable)
        ]
        titles = depth_curves.heading(str(observable)), f"{visible(str(first))} less {visible(str(second))}"
        for title, rows in zip(titles, (both, own), strict=True):
            values = [0.0] * (rows is own) + [r[c] for r in rows for c in ("value", "lo", "hi")]
            panels.append((title, "value", rows, span(values) or (0.0, 1.0)))
    layout = replace(layout, plot=0.6 * layout.plot)
    return depth_curves.grid(name, "What differs, by relative depth", [*members, between], panels, layout)


def caption(rows: list[Row]) -> Markup:
    """The caption of the figure."""
    return written("differences", n=max(int(r["n_units"]) for r in rows))


def table(folder: Folder) -> Table | None:
    """The largest differences of each pair, with what untrained twins differ by and the noise floor."""
    rows, reasons = [r for r in folder.rows("differences") if r["category"] == EVERY], Reasons()
    groups: dict[str, list] = {}
    for r in sorted(rows, key=lambda r: r["rank"]):
        lines = groups.setdefault(f"{r['first']} less {r['second']}", [])
        if len(lines) == ROWS or any(line[0].text == visible(str(r["observable"])) for line in lines):
            continue  # an observable stands where it differs most
        why = visible(str(r["reason"])) or "undefined"
        lines.append(
            [
                name_cell(str(r["observable"])),
                text_cell("output" if r["place"] == "output" else f"l/L = {r['depth']:g}"),
                reasons.estimate(r["difference"], r["lo"], r["hi"], why, why),
                reasons.cell(r["effect"], "the prompts do not vary"),
                reasons.cell(r["p"], why),
                reasons.estimate(r["untrained"], r["untrained_lo"], r["untrained_hi"], "no untrained twins of both"),
                text_cell(str(r["before"]) or ("no" if is_number(r["untrained"]) else "unknown")),
                reasons.cell(r["noise_floor"], "measured for the entropy of the output alone"),
                reasons.cell(r["n_units"]),
            ]
        )
    return declared("differences", list(groups.items()), reasons.found)


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    """What two models differ in heads the page of a panel of two or three."""
    rows, trained = folder.rows("differences_curve"), [m for m in members if not m.twin]
    if not rows or len(trained) > MOST_MODELS:
        return []
    layouts = (depth_curves.GD_WIDE, depth_curves.GD_NARROW)
    drawn = pair("differences", figure, trained, folder.rows("depth"), rows, layouts=layouts, caption=caption(rows))
    return [drawn, listed(table(folder), "The largest differences as numbers")]


TABLES = ("differences", "differences_curve")
SECTION = Section("differences", "What differs", "What differs", TABLES, _blocks, ("paired difference",))
