"""Probes in the report of a study: capacity of every model along depth, and how frozen probes do elsewhere."""

from collections.abc import Sequence

from phaselens.report import depth_curves
from phaselens.report import probe_figures as figures
from phaselens.report.captions import plain
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Figure, Said, Section
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import is_number, listing, number, visible


def section(
    members: Sequence[Member],
    capacity: Sequence[Row],
    transfer: Sequence[Row],
    templates: Sequence[Row],
    groups: Sequence[Row],
) -> tuple[list[Figure], str]:
    """The figures of the section, and the sentence on the two groupings, from the rows of the five probe tables."""
    found = []
    if capacity:
        shapes = (("wide", depth_curves.GD_WIDE), ("narrow", depth_curves.GD_NARROW))
        wide, narrow = (
            depth_curves.capacity_by_depth(f"probes-{k}", members, capacity, layout) for k, layout in shapes
        )
        found.append(Figure("probes", wide, narrow, plain("capacity_of_models")))
    kinds = (
        ("models", transfer, ("source", "target"), plain("transfer_of_models")),
        ("templates", _first(templates), ("trained_on", "read_on"), plain("transfer_of_templates")),
    )
    for kind, rows, axes, said in kinds:
        for task in dict.fromkeys(str(row["task"]) for row in rows):
            names, matrix = _matrix([row for row in rows if str(row["task"]) == task], *axes)
            if not any(is_number(v) for i, line in enumerate(matrix) for k, v in enumerate(line) if i != k):
                continue
            anchor = f"probe-{kind}-{task}"
            each = figures.LAYOUTS.items()
            wide, narrow = (figures.transfer(f"{anchor}-{k}", names, matrix, layout=layout) for k, layout in each)
            found.append(Figure(anchor, wide, narrow, f"{visible(task)}: {said}{_counted(rows, task)}"))
    return found, agreement(groups)


def _counted(rows: Sequence[Row], task: str) -> str:
    """Say on how many examples the accuracies of a task stand, and what a blind guess gives."""
    own = [row for row in rows if str(row["task"]) == task and is_number(row.get("majority"))]
    if not own:
        return ""
    counts = [int(row["n"]) for row in own if is_number(row.get("n"))]
    stands = f" On {_ends(counts)} examples." if counts else ""
    guess = [float(row["majority"]) for row in own]
    return f"{stands} The commonest label alone gives {_ends(guess)}."


def _ends(values: Sequence[float]) -> str:
    low, high = number(min(values)), number(max(values))
    return low if low == high else f"{low} to {high}"


def _first(rows: Sequence[Row]) -> list[Row]:
    """The rows of the first model that has each task; the others stand in the table."""
    first = {str(row["task"]): str(row["model"]) for row in reversed(rows)}
    return [row for row in rows if str(row["model"]) == first[str(row["task"])]]


def _matrix(rows: Sequence[Row], down: str, across: str) -> tuple[list[str], list[list[float]]]:
    names = list(dict.fromkeys(str(row[axis]) for row in rows for axis in (down, across)))
    found = {(str(row[down]), str(row[across])): row["accuracy"] for row in rows}
    own = {str(row[down]): row["own"] for row in rows if "own" in row}
    nothing = float("nan")
    return names, [[found.get((a, b), own.get(a, nothing) if a == b else nothing) for b in names] for a in names]


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


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    found, said = section(members, *(folder.rows(name) for name in TABLES))
    return [*found, Said([said], gone=False) if said and found else None]


TABLES = ("probe_capacity", "probe_transfer", "probe_templates", "probe_groups")
SECTION = Section("probes", "Probes", "Probes", TABLES, _blocks)
