"""Probes in the report of a study: capacity of every model along depth, and how frozen probes do elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from phaselens.report import probe_figures as figures
from phaselens.report import svg
from phaselens.report.cast import Member
from phaselens.report.probe_figures import NARROW, WIDE, Layout, points
from phaselens.report.scale import Scale, span
from phaselens.report.words import is_number, listing, number, visible

Row = Mapping[str, object]


@dataclass(frozen=True)
class Figure:
    """One figure of the section: its id, both forms, and its caption."""

    id: str
    wide: Markup
    narrow: Markup
    caption: str


def section(
    members: Sequence[Member], capacity: Sequence[Row], transfer: Sequence[Row], templates: Sequence[Row],
    groups: Sequence[Row],
) -> tuple[list[Figure], str]:  # fmt: skip
    """The figures of the section, and the sentence on the two groupings, from the rows of the five probe tables."""
    found = []
    if capacity:
        forms = (curves(f"probes-{k}", members, capacity, layout) for k, layout in _layouts())
        found.append(Figure("fig-probes", *forms, CAPACITY))
    kinds = (
        ("models", transfer, ("source", "target"), MODELS),
        ("templates", _first(templates), ("trained_on", "read_on"), TEMPLATES),
    )
    for kind, rows, axes, said in kinds:
        for task in dict.fromkeys(str(row["task"]) for row in rows):
            names, matrix = _matrix([row for row in rows if str(row["task"]) == task], *axes)
            anchor = f"probe-{kind}-{task}"
            forms = (figures.transfer(f"{anchor}-{k}", names, matrix, layout=layout) for k, layout in _layouts())
            found.append(Figure(f"fig-{anchor}", *forms, f"{visible(task)}: {said}"))
    return found, agreement(groups)


def _layouts() -> tuple[tuple[str, Layout], ...]:
    return ("wide", WIDE), ("narrow", NARROW)


def curves(name: str, members: Sequence[Member], rows: Sequence[Row], layout: Layout = WIDE) -> Markup:
    """Draw capacity (1) over l/L, a panel per task and a curve per trained model."""
    tasks = list(dict.fromkeys(str(row["task"]) for row in rows))
    across = min(layout.across, len(tasks))
    pitch, high = layout.width / across, figures.HEAD + figures.SMALL + figures.FOOT
    y_range = span([0.0, *(row["capacity"] for row in rows)]) or (0.0, 1.0)
    marks = []
    for k, task in enumerate(tasks):
        left, top = (k % across) * pitch, (k // across) * high
        x = Scale(0.0, 1.0, left + figures.LEFT, left + pitch - 14)
        y = Scale(*y_range, top + figures.HEAD + figures.SMALL, top + figures.HEAD)
        marks.append(figures.axes(x, y, visible(task)))
        for member in members:
            own = points([r for r in rows if str(r["task"]) == task and str(r["model"]) == member.model], "capacity")
            if own and not member.twin:
                ends = [(x(a), y(b)) for a, b in own]
                marks.append(svg.path(ends, f"curve {member.kind}", svg.tip(member.label)))
    said = f"Capacity by relative depth of {listing(map(visible, tasks))}."
    return svg.frame(name, "Capacity by relative depth", said, layout.width, high * -(-len(tasks) // across), *marks)


def _first(rows: Sequence[Row]) -> list[Row]:
    """The rows of the first model that has each task; the others stand in the table."""
    first = {str(row["task"]): str(row["model"]) for row in reversed(rows)}
    return [row for row in rows if str(row["model"]) == first[str(row["task"])]]


def _matrix(rows: Sequence[Row], down: str, across: str) -> tuple[list[str], list[list[float]]]:
    names = list(dict.fromkeys(str(row[axis]) for row in rows for axis in (down, across)))
    found = {(str(row[down]), str(row[across])): row["accuracy"] for row in rows}
    own = {str(row[down]): row["own"] for row in rows if "own" in row}
    nothing = float("nan")
    return names, [[found.get((a, b), own.get(a, nothing) if a == b else nothing) for b in names] for a in names]  # type: ignore[misc]


def agreement(groups: Sequence[Row]) -> str:
    """Say how far groups by function and by dynamics agree; empty where a study has too few models."""
    if not groups:
        return ""
    row = groups[0]
    parts = [
        f"{label} {number(row[value])} (permutation p = {number(row[p])})"
        for label, value, p in (("Mantel r", "mantel", "p_mantel"), ("adjusted Rand index", "ari", "p_ari"))
        if is_number(row[value])
    ]
    return f"Groups of {len(groups)} models by dynamics and by function, {row['k']} each: {listing(parts)}."


CAPACITY = "Capacity of held-out groups over relative depth, a curve a model in its family's colour."
MODELS = (
    "held-out accuracy of a model's frozen peak-layer probes (row) on another model's peak layer (column) after an "
    "orthogonal alignment that was fitted on other examples; on the diagonal its own."
)
TEMPLATES = (
    "held-out accuracy of probes trained on one template (row) and read on another (column), of the first model that "
    "has them."
)
