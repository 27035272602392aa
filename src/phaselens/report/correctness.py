"""What says that an answer is wrong: AUROC of scores beside baselines, a panel per model."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from phaselens.report import svg
from phaselens.report.axis_scale import Scale
from phaselens.report.captions import plain
from phaselens.report.data_tables import Cell, Table, declared, name_cell, text_cell
from phaselens.report.figure_parts import Layout
from phaselens.report.models_shown import Member
from phaselens.report.section import Block, Section, listed, pair
from phaselens.report.study_files import Folder, Row
from phaselens.report.written_values import DASH, is_number, number, visible

FIELDS = ("outcome", "model", "prompt", "completion", "answer", "read", "rule")
TITLE = "AUROC of scores for a wrong answer, with 95 % intervals over prompts"
SHOWN = 8
ROW, HEAD, FOOT = 19.0, 44.0, 34.0
LOW, HIGH = 0.3, 1.0


BESIDE = ("baseline", "text", "published")  # what the scores of the dynamics must beat
WIDE, NARROW = Layout(920, 2, 180), Layout(360, 1, 150)


def chosen(rows: Sequence[Row]) -> list[Row]:
    """The rows to show of one model: every baseline, the combined score, and the eight best of the dynamics."""
    known = [r for r in rows if is_number(r["auroc"])]
    best = sorted((r for r in known if r["kind"] == "dynamics"), key=lambda r: -r["auroc"])[:SHOWN]
    return sorted([*(r for r in known if r["kind"] != "dynamics"), *best], key=lambda r: -r["auroc"])


def gains(row: Row) -> bool:
    """Whether a score's whole interval of the gain over the best baseline lies above 0."""
    return row["kind"] not in BESIDE and is_number(row["gain_lo"]) and row["gain_lo"] > 0


def forest(name: str, rows: Sequence[Row], layout: Layout = WIDE) -> Markup:
    """Draw the shown scores of every model: a dot and its interval; baselines grey, a guide at the best of them."""
    models = list(dict.fromkeys(str(r["model"]) for r in rows))
    shown = {m: chosen([r for r in rows if r["model"] == m]) for m in models}
    high = HEAD + ROW * max((len(v) for v in shown.values()), default=1) + FOOT
    pitch = layout.width / layout.across
    marks = [
        svg.group(*_panel(m, shown[m], (k % layout.across) * pitch, (k // layout.across) * high, pitch, layout.left))
        for k, m in enumerate(models)
    ]
    words = "; ".join(f"{m}, {r['score']}: {number(r['auroc'])}" for m in models for r in shown[m])
    return svg.frame(name, TITLE, f"{words}.", layout.width, -(-len(models) // layout.across) * high, *marks)


def _panel(model: str, rows: Sequence[Row], left: float, top: float, pitch: float, label: float) -> list[Markup]:
    to = Scale(LOW, HIGH, left + label, left + pitch - 20)
    bottom = top + HEAD + ROW * len(rows) - 6
    base = max((r["auroc"] for r in rows if r["kind"] in BESIDE), default=0.5)
    marks = [svg.text(model, left + 8, top + 16), svg.text("AUROC", to(HIGH), bottom + 28, "axis-name", "end")]
    for tick in (0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        marks.append(svg.line(to(tick), top + HEAD - 10, to(tick), bottom, "grid" if tick != 0.5 else "axis"))
        marks.append(svg.text(number(tick), to(tick), bottom + 15, "tick", "middle"))
    marks.append(svg.line(to.clipped(base), top + HEAD - 10, to.clipped(base), bottom, "rule"))
    for i, row in enumerate(rows):
        y, tone = top + HEAD + ROW * i, "" if row["kind"] in BESIDE else " hue0"
        said = f"{row['score']}: {number(row['auroc'])}, {number(row['lo'])} to {number(row['hi'])}"
        name = svg.fitted(f"{row['score']}{' +' if gains(row) else ''}", label - 14)
        marks.append(svg.text(name, left + label - 8, y + 4, "label", "end"))
        if is_number(row["lo"]):
            kind = "axis" if not tone else f"whisker{tone}"
            marks.append(svg.line(to.clipped(row["lo"]), y, to.clipped(row["hi"]), y, kind))
        kind = f"dot{tone}" if tone else "dot null"
        marks.append(svg.rect(to.clipped(row["auroc"]) - 3, y - 3, 6, 6, kind, svg.tip(said)))
    return marks


def caption(rows: Sequence[Row]) -> str:
    """What is drawn, and what it says: how many scores gain over the best baseline of their model, and how many not."""
    dynamics = [r for r in rows if r["kind"] == "dynamics" and is_number(r["auroc"])]
    gaining = sum(gains(r) for r in dynamics)
    counted = [r for r in rows if r["score"] == "length"]
    wrong = ", ".join(f"{r['model']}: {r['n_wrong']} of {r['n_runs']} runs wrong" for r in counted)
    verdict = (
        f"{gaining} of them add to it, before any correction for their number" if gaining else "none of them adds to it"
    )
    return plain("correctness", shown=SHOWN, of=len(dynamics), wrong=wrong, verdict=verdict)


def examples(results: Mapping[str, Any]) -> Table | None:
    """The rule that graded the runs, how many came out which way, and the first examples; None where none is graded."""
    found = results.get("grading") or {}
    counts = [row for row in found.get("counts", []) if row["right"] + row["wrong"]]
    if not counts:
        return None
    said = "; ".join(f"{visible(str(r['model']))} {r['right']} right, {r['wrong']} wrong" for r in counts)
    left = sum(row["not_graded"] for row in found["counts"])
    said += f"; {number(left)} runs have no answer or no text." if left else "."
    rows = [[_example(one, name) for name in FIELDS] for one in found["examples"]]
    return declared("grading", [("", rows)], rule=visible(str(found["grader"])), said=said)


def _example(one: Row, name: str) -> Cell:
    content = str(one[name] or "")
    return (
        name_cell(content) if name == "outcome" else text_cell(content) if content.strip() else Cell(DASH, kind="text")
    )


def _blocks(folder: Folder, members: list[Member]) -> list[Block | None]:
    rows = [row for row in folder.rows("correctness") if not row["twin"]]
    drawn = pair("correctness", forest, rows, layouts=(WIDE, NARROW), caption=caption(rows)) if rows else None
    return [drawn, listed(examples(folder.results))]


SECTION = Section("correctness", "Right and wrong answers", "Right and wrong answers", ("correctness",), _blocks)
