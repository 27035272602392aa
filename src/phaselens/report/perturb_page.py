"""The page of `phaselens perturb`: gain and output divergence over relative depth, tables, and the verdict."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

from phaselens.report import captions, written_values
from phaselens.report.interventions import figures
from phaselens.report.study_files import Row
from phaselens.report.template_files import text
from phaselens.trace.store import atomic_write

FIGURE = (
    '<figure id="{}"><div class="wide-only">{}</div><div class="narrow-only">{}</div>'
    "<figcaption>{}</figcaption></figure>"
)


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
    return value if isinstance(value, str) else written_values.value(value)


def page(title: str, sections: Sequence[tuple[str, Markup]]) -> str:
    """One offline page: title, sections, the style sheet of the report."""
    parts = Markup("").join(Markup("<section><h2>{}</h2>{}</section>").format(head, body) for head, body in sections)
    return str(
        Markup('<!doctype html><html lang="en"><meta charset="utf-8"><title>{}</title>').format(title)
        + Markup('<meta name="viewport" content="width=device-width"><style>')
        + Markup(text("report.css"))
        + Markup("</style><main><h1>{}</h1>{}</main></html>").format(title, parts)
    )


def write_page(folder: Path, document: Row) -> Path:
    """Write `report.html` from the document of a perturbation study, whole or not at all; return its path."""
    rows: list[Row] = document["signatures"]
    control = document.get("control") or []
    claims = Markup("").join(
        Markup('<p><b>{}</b> <span class="badge {}">{}</span> {} <span class="soft">{}</span></p>').format(
            c["id"], str(c["verdict"]).replace(" ", "-"), c["verdict"], c["statement"], c["why"]
        )
        for c in document["claims"]
    )
    sections = [("Claims", claims)]
    heads = {
        "fig-signatures": "Signatures",
        "fig-growth": "Growth",
        "fig-causal": "Causal regions",
        "fig-control": "Control of the dynamics",
    }
    for one in figures(document, {}):
        drawn = Markup(FIGURE).format(one.id, one.wide, one.narrow, one.caption)
        tables = {
            "fig-signatures": _reproduced(document),
            "fig-growth": _growth(document.get("growth") or []),
            "fig-control": _control(control),
        }
        sections.append((heads[one.id], drawn + tables.get(one.id, Markup(""))))
    sections += _tables(rows, document)
    return atomic_write(folder / "report.html", page("Perturbation", sections))


def _control(rows: Sequence[Row]) -> Markup:
    """The arms as a table."""
    plain = "model arm triggered in_time right change_right".split()
    body = []
    for r in rows:
        right, ct = (written_values.interval(r[f"{of}_lo"], r[f"{of}_hi"]) for of in ("right", "ct"))
        same = "yes" if r["equivalent"] else "no"
        body.append([*(r[k] for k in plain), right, same, r["change_ct"], ct, r["extra_tokens"]])
    columns = (
        "model | arm | acted on | in time | right | change | 95 % | within 5 points | change of ct, rad | 95 % | "
        "extra tokens"
    ).split(" | ")
    return table(columns, body, captions.plain("arms"))


def _growth(rows: Sequence[Row]) -> Markup:
    """The exponents as a table."""
    body = [(r["model"], r["what"], r["value"], written_values.interval(r["lo"], r["hi"]), r["unit"]) for r in rows]
    said = "Finite-time exponents, means over prompts. The stream: growth of the state itself."
    return table(("model", "what", "value", "95 %", "unit"), body, said)


def _reproduced(document: Row) -> Markup:
    rows = []
    for r in document["reproducibility"]:
        ends = written_values.interval(r["lo"], r["hi"])
        rows.append((r["model"], r["family"], r["reproducibility"], ends, r["nearest_other"], r["with_nearest"]))
    columns = ("model", "family", "with itself", "95 %", "nearest other", "with that")
    said = "Rank correlation of signatures: one half of the prompts and draws with the other half."
    return table(columns, rows, said)


def _tables(rows: Sequence[Row], document: Row) -> list[tuple[str, Markup]]:
    out = []
    for model in dict.fromkeys(str(r["model"]) for r in rows):
        mine = []
        for r in (row for row in rows if row["model"] == model):
            ends, kl_ends = written_values.interval(r["lo"], r["hi"]), written_values.interval(r["kl_lo"], r["kl_hi"])
            head = (r["condition"], r["strength"], r["layer"], r["depth"])
            mine.append((*head, r["gain"], ends, r["word"], r["kl"], kl_ends))
        columns = ("noise", "strength", "layer", "l/L", "gain", "95 %", "word", "KL, nats", "95 %")
        body = Markup("<details><summary>{} rows</summary>{}</details>").format(
            len(mine), table(columns, mine, "Gain g(l → L) and KL(p || p′), geometric means over prompts.")
        )
        out.append((str(escape(model)), body))
    facts = [(r["model"], r["identity"], r["passes_saved"], "; ".join(r["notes"])) for r in document["models"]]
    said = "Largest change of a logit by strength 0 (must be 0), and the share of passes that the shared prefix saves."
    return [*out, ("Checks", table(("model", "identity", "passes saved", "notes"), facts, said))]
