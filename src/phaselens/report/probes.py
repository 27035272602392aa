"""The page of `phaselens probe`: Markdown tables, and a sentence on what supports a conclusion and what is algebra."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from phaselens.report.words import DASH
from phaselens.trace.store import atomic_write

Row = Mapping[str, object]
ALGEBRA = ("rotation", "feature permutation, fixed")


def write_page(folder: Path, model: str, tasks: Sequence[Row]) -> Path:
    """Write `report.md` from the documents of the tasks, whole or not at all; return its path."""
    parts = [f"# What can be read from {model}\n", _summary(tasks)]
    for task in tasks:
        parts += [f"\n## {task['task']}\n", sentence(task), "\n", _figures(task), _layers(task), _controls(task)]
    parts.append(LEGEND)
    return atomic_write(folder / "report.md", "\n".join(parts))


def sentence(task: Row) -> str:
    """Which published conclusion the control table supports, and which is algebra, in one sentence."""
    rows = {str(row["control"]): row for row in task["controls"]}  # type: ignore[union-attr]
    named = " and ".join(f"{name} (refit {_n(rows[name]['refit'])})" for name in ALGEBRA if name in rows)
    algebra = (
        f"that a refit probe is unmoved by {named} is algebra and supports nothing about how the model stores it"
        if named
        else "the control table was not run"
    )
    return f"The table {_supports(task)}; {algebra}."


def _supports(task: Row) -> str:
    over = task["over"]
    above = [name for name, ends in over.items() if _above(ends)]  # type: ignore[union-attr]
    short = [name for name in over if name not in above]  # type: ignore[union-attr]
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


def _above(ends: Mapping[str, object]) -> bool:
    lo = ends.get("lo")
    return isinstance(lo, (int, float)) and lo > 0


def _summary(tasks: Sequence[Row]) -> str:
    columns = ("task", "examples", "groups", "majority", "capacity at peak", "peak depth (l/L)", "p", "left out")
    rows = []
    for t in tasks:
        peak = next(row for row in t["layers"] if row["layer"] == t["peak_layer"])  # type: ignore[union-attr]
        rows.append(
            (
                t["task"], t["n_labelled"], t["n_groups"], _n(t["majority"]), _range(peak, "capacity", "lo", "hi"),
                _range(t, "peak_depth", "peak_lo", "peak_hi"), _n(t["p"]), t["n_flagged"],
            )
        )  # fmt: skip
    return table(columns, rows)


def _figures(task: Row) -> str:
    lines = [f"- classes: {', '.join(task['classes'])}; labels from: {task['labels_of']}; l2 {_n(task['l2'])}"]  # type: ignore[arg-type]
    for name, ends in task["over"].items():  # type: ignore[union-attr]
        said = f" ({ends['reason']})" if ends.get("reason") else ""
        lines.append(f"- capacity at the best layer less that of {name}: [{_n(ends['lo'])}, {_n(ends['hi'])}]{said}")
    ranks = task["ranks"]
    pairs = zip(ranks["k"], ranks["subspace"], ranks["features"], strict=True)  # type: ignore[index]
    kept = ", ".join(f"k = {k}: {_n(s)} and {_n(f)}" for k, s, f in pairs)
    lines.append(f"- accuracy of a rank-k subspace and of the k best single features: {kept}")
    lines += [f"- {note}" for note in task["notes"]]  # type: ignore[union-attr]
    lines += [f"- left out, {flag['place']}: {flag['reason']}" for flag in task["flags"]]  # type: ignore[union-attr]
    return "\n".join(lines) + "\n"


def _layers(task: Row) -> str:
    columns = (
        "layer", "l/L", "capacity", "AUROC", "selectivity", "compression", "untrained twin", "covariates", "region",
    )  # fmt: skip
    rows = [
        (
            r["layer"], _n(r["depth"]), _range(r, "capacity", "lo", "hi"), _n(r["auroc"]), _n(r["selectivity"]),
            _n(r["compression"]), _n(r["twin"]), _n(r["covariates"]), "high" if r["region"] else "",
        )
        for r in task["layers"]
    ]  # type: ignore[union-attr]  # fmt: skip
    return table(columns, rows)


def _controls(task: Row) -> str:
    columns = ("control", "kind", "refit", "expected", "frozen", "expected")
    rows = []
    for r in task["controls"]:  # type: ignore[union-attr]
        labels = r["refit"] is None
        own = f"accuracy {_n(r['accuracy'])}" if labels else _range(r, "refit", "refit_lo", "refit_hi")
        bound = f" (that is {_n(r['bound'])})" if r["bound"] is not None else ""
        frozen = DASH if labels else _range(r, "frozen", "frozen_lo", "frozen_hi")
        rows.append((r["control"], r["kind"], own, f"{r['refit_expected']}{bound}", frozen, r["frozen_expected"]))
    if not rows:
        return ""
    first = task["controls"][0]  # type: ignore[index]
    head = f"Control table at layer {first['layer']}: balanced accuracy, mean and range over {first['n_draws']} draws; "
    return f"\n{head}unchanged states give {_n(first['unchanged'])}, chance is {_n(first['chance'])}.\n\n" + table(
        columns, rows
    )


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(c).replace("|", "\\|") for c in line) + " |" for line in lines) + "\n"


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
