"""The pages of `phaselens probe`, Markdown and HTML: figures, tables, and what supports a conclusion or is algebra."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from phaselens.report import probe_figures as figures
from phaselens.report.captions import plain
from phaselens.report.section import Figure
from phaselens.report.study_files import Row
from phaselens.report.template_files import filled
from phaselens.report.written_values import DASH, marked
from phaselens.trace.store import atomic_write

HELD = {"yes": ": yes", "no": ": NO", "": ""}
ALGEBRA = ("rotation", "feature permutation, fixed")


def write_page(folder: Path, model: str, tasks: Sequence[Row]) -> Path:
    """Write `report.html` and `report.md` from the documents of the tasks, whole or not at all; return the first."""
    parts = [f"# What can be read from {marked(model)}\n", table(*_summary(tasks))]
    for task in tasks:
        said = "\n".join(f"- {marked(line)}" for line in _figures(task)) + "\n"
        parts += [f"\n## {marked(task['task'])}\n", marked(sentence(task)), "\n", said, table(*_layers(task))]
        for caption, columns, rows in filter(None, (_controls(task), _transfer(task))):
            parts.append(f"\n{marked(caption)}\n\n" + table(columns, rows))
    parts.append(LEGEND)
    atomic_write(folder / "report.md", "\n".join(parts))
    return atomic_write(folder / "report.html", page(model, tasks).encode("utf-8"))


def page(model: str, tasks: Sequence[Row]) -> str:
    """Give the HTML page: one file that needs no network and no JavaScript; the same documents give the same bytes."""
    columns, rows = _summary(tasks)
    summary = _grid("Summary", "Capacity of linear probes, 95 % intervals over groups.", columns, rows)
    each = [_section(k, task) for k, task in enumerate(tasks)]
    return filled(
        "probes.html.j2", clean=True, model=model, legend=" ".join(LEGEND.split()), tasks=each, summary=summary
    )


def _figure(draw: Callable[..., Markup], name: str, caption: str, *given: object) -> Figure:
    wide, narrow = (draw(f"{name}-{w}", *given, layout=lay) for w, lay in figures.LAYOUTS.items())
    return Figure(name, wide, narrow, caption)


def _section(k: int, task: Row) -> dict[str, object]:
    """What the template needs of one task."""
    columns, rows = _layers(task)
    controls = _controls(task)
    moved: Mapping[str, list] = task.get("transfer") or {}
    both = [moved[name] for name in ("families", "accuracy")] if moved else []
    return {
        "anchor": f"task{k}",
        "name": task["task"],
        "sentence": sentence(task),
        "lines": _figures(task),
        "figures": [
            _figure(figures.capacity, f"task{k}", plain("capacity"), task),
            _figure(figures.small, f"task{k}-more", plain("small"), task),
            *([_figure(figures.transfer, f"task{k}-transfer", transfer_caption(moved), *both)] if moved else []),
        ],
        "controls": _grid("Control table", controls[0], *controls[1:], mark=1) if controls else None,
        "layers": _grid("Layers", "Every layer, held out.", columns, rows),
    }


def _grid(
    label: str, caption: str, columns: Sequence[str], rows: Sequence[Sequence[object]], mark: int = -1
) -> dict[str, object]:
    """A table for the template; rows of kind sanity are marked."""
    numeric = [] if mark >= 0 else range(1, len(columns))
    said = [{"cells": [str(c) for c in row], "sanity": mark >= 0 and row[mark] == "sanity"} for row in rows]
    return {"label": label, "caption": caption, "columns": columns, "rows": said, "numeric": numeric, "mark": mark}


def transfer_caption(moved: Mapping[str, list]) -> str:
    """Say what a transfer matrix shows, with the majority shares that its columns are to be read against."""
    pairs = zip(moved["families"], moved["majority"], strict=True)
    shares = ", ".join(f"{name} {_n(share)}" for name, share in pairs)
    return plain("transfer", shares=shares)


def sentence(task: Row) -> str:
    """Which published conclusion the control table supports, and which is algebra, in one sentence."""
    rows = {str(row["control"]): row for row in task["controls"]}
    named = " and ".join(f"{name} (refit {_n(rows[name]['refit'])})" for name in ALGEBRA if name in rows)
    algebra = (
        f"that a refit probe is unmoved by {named} is algebra and supports nothing about how the model stores it"
        if named
        else "the control table was not run"
    )
    return f"The table {_supports(task)}; {algebra}."


def _supports(task: Row) -> str:
    over = task["over"]
    above = [name for name, ends in over.items() if _above(ends)]
    short = [name for name in over if name not in above]
    p = task["p"]
    if not (isinstance(p, (int, float)) and p <= 0.05):
        return f"does not support that {task['task']} is linearly decodable here (best layer: p = {_n(p)})"
    if short:
        return (
            f"supports that {task['task']} is linearly decodable (best layer: p = {_n(p)}) but not beyond "
            f"{', '.join(short)}"
        )
    return (
        f"supports the published conclusion that {task['task']} is linearly decodable (best layer: p = {_n(p)}; above "
        f"{', '.join(above)})"
    )


def _above(ends: Row) -> bool:
    lo = ends.get("lo")
    return isinstance(lo, (int, float)) and lo > 0


Rows = Sequence[Sequence[object]]


def _summary(tasks: Sequence[Row]) -> tuple[Sequence[str], Rows]:
    columns = ("task", "examples", "groups", "majority", "capacity at peak", "peak depth (l/L)", "p", "left out")
    rows = []
    for t in tasks:
        peak = next(row for row in t["layers"] if row["layer"] == t["peak_layer"])
        depth = _range(t, "peak_depth", "peak_lo", "peak_hi")
        head = (t["task"], t["n_labelled"], t["n_groups"], _n(t["majority"]))
        rows.append((*head, _range(peak, "capacity", "lo", "hi"), depth, _n(t["p"]), t["n_flagged"]))
    return columns, rows


def _figures(task: Row) -> list[str]:
    lines = [f"classes: {', '.join(task['classes'])}; labels from: {task['labels_of']}; l2 {_n(task['l2'])}"]
    for name, ends in task["over"].items():
        said = f" ({ends['reason']})" if ends.get("reason") else ""
        lines.append(f"capacity at the best layer less that of {name}: [{_n(ends['lo'])}, {_n(ends['hi'])}]{said}")
    ranks = task["ranks"]
    pairs = zip(ranks["k"], ranks["subspace"], ranks["features"], strict=True)
    kept = ", ".join(f"k = {k}: {_n(s)} and {_n(f)}" for k, s, f in pairs)
    lines.append(f"accuracy of a rank-k subspace and of the k best single features: {kept}")
    lines += list(task["notes"])
    lines += [f"left out, {flag['place']}: {flag['reason']}" for flag in task["flags"]]
    return lines


def _layers(task: Row) -> tuple[Sequence[str], Rows]:
    columns = tuple(
        "layer | l/L | capacity | AUROC | selectivity | compression | untrained twin | covariates | region".split(" | ")
    )
    rows = [
        (
            *(r["layer"], _n(r["depth"]), _range(r, "capacity", "lo", "hi")),
            *(_n(r[k]) for k in ("auroc", "selectivity", "compression", "twin", "covariates")),
            "high" if r["region"] else "",
        )
        for r in task["layers"]
    ]
    return columns, rows


def _transfer(task: Row) -> tuple[str, Sequence[str], Rows] | None:
    """Caption, columns and rows of the transfer matrix, None where there is none."""
    moved: Mapping[str, list] = task.get("transfer") or {}
    if not moved:
        return None
    pairs = zip(moved["families"], moved["accuracy"], strict=True)
    rows = [(name, *(_n(v) for v in row)) for name, row in pairs]
    return transfer_caption(moved), ("trained on", *moved["families"]), rows


def _controls(task: Row) -> tuple[str, Sequence[str], Rows] | None:
    """Caption, columns and rows of the control table, None where it was not run."""
    columns = ("control", "kind", "refit", "expected", "frozen", "expected")
    rows = []
    for r in task["controls"]:
        labels = r["refit"] is None
        own = f"accuracy {_n(r['accuracy'])}" if labels else _range(r, "refit", "refit_lo", "refit_hi")
        bound = f" (that is {_n(r['bound'])})" if r["bound"] is not None else ""
        frozen = DASH if labels else _range(r, "frozen", "frozen_lo", "frozen_hi")
        expected = [f"{r[f'{which}_expected']}{HELD[r.get(f'{which}_holds', '')]}" for which in ("refit", "frozen")]
        rows.append((r["control"], r["kind"], own, f"{expected[0]}{bound}", frozen, expected[1]))
    if not rows:
        return None
    first = task["controls"][0]
    head = f"Control table at layer {first['layer']}: balanced accuracy, mean and range over {first['n_draws']} draws; "
    head += f"unchanged states give {_n(first['unchanged'])}, chance is {_n(first['chance'])}."
    return head, columns, rows


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [[marked(cell) for cell in line] for line in (columns, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], ["---"] * len(columns), *lines[1:]]) + "\n"


def _n(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, (int, float)) and not isinstance(value, bool) else DASH


def _range(row: Row, name: str, lo: str, hi: str) -> str:
    said = _n(row[name])
    return said if DASH in (_n(row[lo]), _n(row[hi])) else f"{said} [{_n(row[lo])}, {_n(row[hi])}]"


LEGEND = """
Capacity is (accuracy - majority) / (1 - majority) on held-out groups. A row of kind *sanity* follows from algebra: it
says that the program works and is evidence of nothing else. Selectivity is accuracy less that on control tasks (each
word type or template has a random label); compression is the uniform code over the online code of the labels. Best
layers of the differences are chosen on one half of the groups and read on the other.
"""
