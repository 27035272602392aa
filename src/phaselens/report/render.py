"""Put the page together: read the folder, draw the figures, fill the template, write one file."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from phaselens.report import data_tables, methods, svg, symbols, template_files, verdict_prose
from phaselens.report.claim_figure import small_figure
from phaselens.report.models_shown import cast
from phaselens.report.section import Card, Cards, Figure, Section
from phaselens.report.sections import SECTIONS
from phaselens.report.study_files import TABLES, Folder, read_folder
from phaselens.report.written_values import DASH
from phaselens.trace.store import atomic_write

BEFORE = (("summary", "Summary"), ("ledger", "Ledger"), ("panel", "Panel"))
AFTER = (("methods", "Methods"), ("notes", "Notes"), ("definitions", "Definitions"))
PANEL_TERMS = ("frozen", "collapse", "entropy_norm", "noise floor", "GD_ratio", "ratio_norm", "ct")
ALIASES = {"mean ct": "ct", "frozen": "frozen", "layers": "layer l", "prompts": "n", "runs": "n", "tokens": "n"}


def render(study_dir: str | Path, paper: bool = False, sections: Sequence[Section] = SECTIONS) -> Path:
    """Write `report.html` into a study folder from the files that it holds, and return its path.

    `sections` are those of the page in their order; one of your own needs no more than its record. With `paper` it is
    `report-print.html`: every table open, no contents and no script, for a browser to print as PDF.

    One file that needs no network, no JavaScript and nothing beside it; the same files give the same bytes. A results
    file that is absent or cannot be used leaves a sentence that says so in its place.
    Raises StudyFileError if the folder is not that of a study, OutputError if the page cannot be written.
    """
    where = Path(study_dir)
    name = "report-print.html" if paper else "report.html"
    return atomic_write(where / name, page(read_folder(where), paper, sections).encode("utf-8"))


def page(folder: Folder, paper: bool = False, sections: Sequence[Section] = SECTIONS) -> str:
    """Give the whole page of a study as HTML; with `paper` in the form for printing."""
    text = template_files.filled("report.html.j2", **content(folder, sections), paper=paper)
    return text.replace("<details class=", "<details open class=") if paper else text


def content(folder: Folder, sections: Sequence[Section] = SECTIONS) -> dict[str, Any]:
    """Give all that the page shows, by the names that its template uses."""
    members, entries = cast(folder), verdict_prose.ledger(folder.claims)
    found = [(section, section.shown(folder, members)) for section in sections]
    shown = [(section, blocks) for section, blocks in found if blocks or section.always]
    trained = sum(not m.twin for m in members)
    heads = [one for one in shown if trained <= one[0].heads]
    rest = [one for one in shown if one not in heads]
    titles = [(section.anchor, section.title) for section, _ in (*heads, *rest)]
    definitions = symbols.used(_names(folder, [section.terms for section, blocks in shown if blocks]))
    script = template_files.text("report.js")
    return {
        "name": methods.study_name(folder),
        "folder": folder,
        "heads": heads,
        "rest": rest,
        "contents": (*titles[: len(heads)], *BEFORE, *titles[len(heads) :], *AFTER),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        "dash": DASH,
        "lede": verdict_prose.lede(entries, members),
        "facts": methods.facts(folder, entries, members),
        "entries": entries,
        "groups": verdict_prose.verdict_groups(entries),
        "explained": verdict_prose.EXPLAINED,
        "first": None if any(isinstance(b, Cards) for _, own in heads for b in own) else _first(entries),
        "finding": verdict_prose.finding,
        "change": verdict_prose.change,
        "members": members,
        "swatch": svg.swatch,
        "symbols": _anchors(definitions),
        "definitions": definitions,
        "methods": methods.methods(folder),
        "references": methods.references(folder),
        "declared": methods.flat(folder.declaration),
        "recorded": methods.flat(
            folder.manifest, skip=frozenset({"models", "refused", "registered", "name", "units", "study"})
        ),
        "fingerprints": methods.fingerprints(folder.manifest),
        "remarks": [*methods.refusals(folder.manifest), *methods.notes(folder)],
        "columns": [table for table in TABLES.values() if folder.has(table.name)],
        "panel": data_tables.panel(folder, members),
        "separation": data_tables.separation(folder),
        "subpanels": data_tables.subpanels(folder),
    }


def figures(content: Mapping[str, Any]) -> dict[str, Figure]:
    """Every figure of a page by its name, in the order of the page."""
    return {b.name: b for part in ("heads", "rest") for _, own in content[part] for b in own if isinstance(b, Figure)}


def _first(entries: list[verdict_prose.Entry]) -> Cards:
    """The claims that matter most, for the first screen."""
    cards = []
    for e in verdict_prose.matter(entries):
        drawn, said = small_figure(e.anchor, *e.ends), verdict_prose.finding(e)
        cards.append(
            Card(e.id, "", e.statement, drawn, said=said, term="", anchor=e.anchor, badge=e.verdict, style=e.style)
        )
    return Cards(cards)


def _names(folder: Folder, terms: Iterable[Iterable[str]]) -> set[str]:
    """Collect the names of the quantities that the page shows."""
    names = {str(row["observable"]) for row in folder.rows("depth")} | {name for own in terms for name in own}
    return names | (set(PANEL_TERMS) if folder.rows("panel") else set())


def _anchors(definitions: Sequence[symbols.Symbol]) -> dict[str, str]:
    """Give the id of every definition, also under the other names that table headings use."""
    taken: set[str] = set()
    anchors = {symbol.name: verdict_prose.unique(f"def-{symbol.name}", taken) for symbol in definitions}
    return anchors | {alias: anchors[name] for alias, name in ALIASES.items() if name in anchors}
