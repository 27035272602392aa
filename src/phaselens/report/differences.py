"""What differs between two models: the largest that stand, depth curves with the band of the difference, a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from markupsafe import Markup

from phaselens.report import captions, depth_curves
from phaselens.report.axis_scale import span
from phaselens.report.claim_figure import small_figure
from phaselens.report.data_tables import Reasons, Table, declared, name_cell, text_cell
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Card, Cards, Said, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.symbols import group_of
from phaselens.report.written_values import count, estimated, is_number, number, visible

MOST_MODELS, FINDINGS, ROWS, EVERY, LEVEL = 3, 3, 12, "all", 0.05
Pair = tuple[str, str]


def by_pair(rows: list[Row]) -> dict[Pair, list[Row]]:
    """The comparisons over all prompts of each pair of models, the largest in SDs over prompts first."""
    pairs: dict[Pair, list[Row]] = {}
    for r in sorted((r for r in rows if r["category"] == EVERY), key=lambda r: r["rank"]):
        pairs.setdefault((r["first"], r["second"]), []).append(r)
    return pairs


def fate(row: Row) -> str:
    """The first control that a difference does not survive: chance, floor or twins; "" where it stands."""
    lo, hi, p, floor = (row[c] for c in ("lo", "hi", "p", "noise_floor"))
    if not (is_number(lo) and is_number(hi) and is_number(p)) or lo <= 0 <= hi or p >= LEVEL:
        return "chance"
    if is_number(floor) and abs(row["difference"]) <= floor:
        return "floor"
    return "twins" if row["before"] == "yes" else ""


def largest(rows: list[Row]) -> list[Row]:
    """Every observable once, where it differs most."""
    found: dict[str, Row] = {}
    for r in rows:
        found.setdefault(r["observable"], r)
    return list(found.values())


def standing(rows: list[Row], most: int) -> list[Row]:
    """The largest differences of a pair that stand, of unlike groups first, in a group those with known twins first."""
    found = sorted(largest([r for r in rows if not fate(r)]), key=lambda r: not is_number(r["untrained"]))
    groups = [group_of(str(r["observable"])) for r in found]
    order = sorted(range(len(found)), key=lambda k: groups[:k].count(groups[k]))
    return [found[k] for k in order[:most]]


def summary(rows: list[Row], first: str, second: str) -> str:
    """Say how many differences of a pair stand, and what became of the others."""
    fates = Counter(fate(r) for r in rows)
    known = "differ_twins" if any(is_number(r["untrained"]) for r in rows) else "differ_no_twins"
    facts: dict[str, object] = {"of": len(rows), "stand": fates[""], "chance": fates["chance"], "floor": fates["floor"]}
    facts["prompts"] = count(max(int(r["n_units"]) for r in rows), "prompt")
    facts["twins"] = captions.plain(known, n=fates["twins"])
    return captions.plain("differ" if fates[""] else "differ_in_nothing", first=first, second=second, **facts)


def card(name: str, row: Row, names: dict[str, str]) -> Card:
    """One difference that stands: both means, the difference with its interval, effect and p, and that of the twins."""
    told = row["difference"], row["lo"], row["hi"]
    twins = row["untrained"], row["untrained_lo"], row["untrained_hi"]
    known, observable = is_number(row["untrained"]), visible(str(row["observable"]))
    facts = {"difference": estimated(*told), "twins": estimated(*twins)}
    facts |= {
        key: number(row[column], 2) for key, column in (("effect", "effect"), ("p", "p"), ("floor", "noise_floor"))
    }
    facts["prompts"] = count(int(row["n_units"]), "prompt")
    facts["way"] = ", the other way" if known and row["untrained"] * row["difference"] < 0 else ""
    parts = ["differ_by", "differ_known" if known else "differ_unknown", "differ_floor"]
    said = " ".join(captions.plain(part, **facts) for part in parts[: 2 + is_number(row["noise_floor"])])
    means = ", ".join(f"{number(row[f'{who}_mean'], 3)} in {names[row[who]]}" for who in ("first", "second"))
    return Card(observable, _where(row), means, small_figure(name, *told, 0.0, twins), said, observable, style="plain")


def _where(row: Row) -> str:
    return "output" if row["place"] == "output" else f"l/L = {row['depth']:g}"


def figure(
    name: str,
    members: Sequence[Member],
    depth: list[Row],
    apart: list[Row],
    layout: depth_curves.Layout = depth_curves.GD_WIDE,
) -> Markup:
    """Draw, for each pair and observable of `apart`, both models over l/L, and beside it their difference."""
    panels, between = [], Member("difference", False, "", 1 + max(m.hue for m in members), "difference")
    names = {m.model: m.short for m in members}
    groups: dict[tuple, list[Row]] = {}
    for r in apart:
        groups.setdefault((r["observable"], r["first"], r["second"]), []).append(
            {**r, "model": "difference", "twin": 0}
        )
    for (observable, *both), own in groups.items():
        of = [r for r in depth if r["observable"] == observable and r["model"].removesuffix(":untrained") in both]
        titles = depth_curves.heading(str(observable)), " less ".join(names[model] for model in both)
        for title, rows in zip(titles, (of, own), strict=True):
            values = [0.0] * (rows is own) + [r[c] for r in rows for c in ("value", "lo", "hi")]
            panels.append((title, "value", rows, span(values) or (0.0, 1.0)))
    drawn = [*(replace(m, label=m.short) for m in members), between]
    layout = replace(layout, plot=0.6 * layout.plot)
    return depth_curves.grid(name, "What differs, by relative depth", drawn, panels, layout)


def curves(found: dict[Pair, list[Row]], rows: list[Row], most: int) -> list[Row]:
    """The curves to draw: of each pair those of its findings, then those of what differs most."""
    chosen = []
    for key, first in found.items():
        own = [r for r in rows if (r["first"], r["second"]) == key]
        there = list(dict.fromkeys(r["observable"] for r in own))
        wanted = [*(r["observable"] for r in first if r["observable"] in there), *there]
        chosen += [r for name in list(dict.fromkeys(wanted))[:most] for r in own if r["observable"] == name]
    return chosen


def table(pairs: dict[Pair, list[Row]]) -> Table | None:
    """The largest differences of each pair, with what untrained twins differ by and the noise floor."""
    reasons = Reasons()
    groups = [
        (f"{first} less {second}", [_line(r, reasons) for r in largest(rows)[:ROWS]])
        for (first, second), rows in pairs.items()
    ]
    return declared("differences", groups, reasons.found)


def _line(r: Row, reasons: Reasons) -> list:
    why = visible(str(r["reason"])) or "undefined"
    return [
        name_cell(str(r["observable"])),
        text_cell(_where(r)),
        reasons.estimate(r["difference"], r["lo"], r["hi"], why, why),
        reasons.cell(r["effect"], "the prompts do not vary"),
        reasons.cell(r["p"], why),
        reasons.estimate(r["untrained"], r["untrained_lo"], r["untrained_hi"], "no untrained twins of both"),
        text_cell(str(r["before"]) or ("no" if is_number(r["untrained"]) else "unknown")),
        reasons.cell(r["noise_floor"], "measured for the entropy of the output alone"),
        reasons.cell(r["n_units"]),
    ]


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    """What two models differ in: in words, the largest that stand, curves, and the largest as numbers."""
    pairs, trained = by_pair(folder.rows("differences")), [m for m in members if not m.twin]
    if not pairs or len(trained) > MOST_MODELS:
        return []
    names, most = {m.model: m.short for m in trained}, max(1, FINDINGS // len(pairs))
    found = {key: standing(rows, most) for key, rows in pairs.items()}
    shown: list[Block | None] = [Said([summary(r, names[a], names[b]) for (a, b), r in pairs.items()], gone=False)]
    if cards := [card(f"differs-{k}", r, names) for k, r in enumerate(r for own in found.values() for r in own)]:
        shown.append(Cards(cards))
    if drawn := curves(found, folder.rows("differences_curve"), most):
        said = captions.written("differences", n=max(int(r["n_units"]) for r in drawn))
        layouts = depth_curves.GD_WIDE, depth_curves.GD_NARROW
        shown.append(pair("differences", figure, members, folder.rows("depth"), drawn, layouts=layouts, caption=said))
    return [*shown, listed(table(pairs), captions.plain("differ_table"))]


TABLES = ("differences", "differences_curve")
SECTION = Section("differences", "What differs", "What differs", TABLES, _blocks, ("noise floor",), heads=MOST_MODELS)
