"""Put the page together: read the folder, draw the figures, fill the template, write one file."""

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import jinja2
from markupsafe import Markup

from phaselens.report import (
    acted,
    ambiguity,
    captions,
    controls,
    correctness,
    curves,
    cycles,
    gd,
    graphs,
    labels,
    methods,
    motifs,
    order,
    phase_map,
    prints,
    probe_study,
    prose,
    states,
    svg,
    symbols,
    tables,
    trajectory,
    validity,
    variance,
)
from phaselens.report.cast import Member, cast
from phaselens.report.folder import Folder, Row, read_folder
from phaselens.report.words import DASH, defined, is_number, visible
from phaselens.trace.store import atomic_write
from phaselens.version import __version__

CONTENTS = (
    ("summary", "Summary"),
    ("ledger", "Ledger"),
    ("panel", "Panel"),
    ("regimes", "Phase map"),
    ("trajectory", "One run"),
    ("gd", "G and D"),
    ("depth", "Depth profiles"),
    ("variance", "Variance"),
    ("order", "Order of models"),
    ("states", "States"),
    ("motifs", "Motifs"),
    ("cycles", "Cycles"),
    ("ambiguity", "Ambiguity"),
    ("correctness", "Right and wrong answers"),
    ("probes", "Probes"),
    ("interventions", "Interventions"),
    ("fingerprints", "Fingerprints"),
    ("topology", "Groups of models"),
    ("normalisation", "Normalisations"),
    ("validity", "Instrument"),
    ("methods", "Methods"),
    ("notes", "Notes"),
    ("definitions", "Definitions"),
)
ALIASES = {"mean ct": "ct", "frozen": "frozen", "layers": "layer l", "prompts": "n", "runs": "n", "tokens": "n"}


@dataclass(frozen=True)
class Pair:
    """A figure drawn twice: for wide pages and for narrow ones."""

    wide: Markup
    narrow: Markup


def render(study_dir: str | Path, paper: bool = False) -> Path:
    """Write `report.html` into a study folder from the files that it holds, and return its path.

    With `paper` it is `report-print.html`: every table open, no contents and no script, for a browser to print as PDF.

    One file that needs no network, no JavaScript and nothing beside it; the same files give the same bytes. A results
    file that is absent or cannot be used leaves a sentence that says so in its place.
    Raises StudyFileError if the folder is not that of a study, OutputError if the page cannot be written.
    """
    where = Path(study_dir)
    name = "report-print.html" if paper else "report.html"
    return atomic_write(where / name, page(read_folder(where), paper).encode("utf-8"))


def page(folder: Folder, paper: bool = False) -> str:
    """Give the whole page of a study as HTML; with `paper` in the form for printing."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("phaselens.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    text = environment.get_template("report.html.j2").render(content(folder), paper=paper)
    return text.replace("<details class=", "<details open class=") if paper else text


def content(folder: Folder) -> dict[str, object]:
    """Give all that the page shows, by the names that its template uses."""
    members, entries = cast(folder), prose.ledger(folder.claims)
    definitions = symbols.used(_names(folder))
    script = _source("report.js")
    return {
        "version": __version__,
        "name": methods.study_name(folder),
        "folder": folder,
        "contents": _contents(folder),
        "style": Markup(_source("report.css")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
        "dash": DASH,
        "lede": prose.lede(entries, members),
        "facts": methods.facts(folder, entries, members),
        "entries": entries,
        "groups": prose.verdict_groups(entries),
        "explained": prose.EXPLAINED,
        "finding": prose.finding,
        "change": prose.change,
        "members": members,
        "swatch": svg.swatch,
        "twins": any(m.twin for m in members),
        "definitions": definitions,
        "symbols": _anchors(definitions),
        "methods": methods.methods(folder),
        "references": methods.references(folder),
        "declared": methods.flat(folder.declaration),
        "recorded": methods.flat(
            folder.manifest, skip=frozenset({"models", "refused", "registered", "name", "units", "study"})
        ),
        "fingerprints": methods.fingerprints(folder.manifest),
        "remarks": [*methods.refusals(folder.manifest), *methods.notes(folder)],
        "empty": _empty(folder),
        **_tables(folder, members),
        **validity.tables(folder),
        **_regimes(folder, members),
        **_runs(folder),
        **_gd(folder, members),
        **_depth(folder, members),
        **_controls(folder, members),
        **_states(folder, members),
        **_words(folder, members),
        **_variance(folder),
        **_order(folder, members),
        **_correctness(folder),
        **_probes(folder, members),
        "acted": _acted(folder, members),
        **_prints(folder, members),
    }


def _contents(folder: Folder) -> tuple[tuple[str, str], ...]:
    """Give the sections of the page; those that a study need not have only where the folder holds their figures."""
    shown = {
        "validity": validity.shown(folder),
        "states": bool(folder.rows("states") or folder.rows("states_transitions")),
        "motifs": bool(motifs.shown(folder.rows("motifs")) and folder.rows("motifs_models")),
        "ambiguity": bool(folder.rows("ambiguity")),
        "cycles": bool(folder.rows("cycles") and folder.rows("cycles_curve")),
        "variance": bool(folder.rows("variance_shares")),
        "order": bool(folder.rows("order_ranks")),
        "correctness": bool(folder.rows("correctness")) or correctness.examples(folder.results) is not None,
        "probes": bool(folder.rows("probe_capacity")),
        "interventions": any(folder.rows(table) for table in acted.TABLES),
        "fingerprints": bool(folder.rows("fingerprints")),
        "topology": bool(folder.rows("topology_models")),
        "normalisation": bool(folder.rows("normalisation")),
    }
    return tuple(entry for entry in CONTENTS if shown.get(entry[0], True))


def _source(name: str) -> str:
    return resources.files("phaselens.report").joinpath("templates", name).read_text(encoding="utf-8")


def _names(folder: Folder) -> set[str]:
    """Collect the names of the quantities that the page shows."""
    names = {str(row["observable"]) for row in folder.rows("depth")}
    names |= {"ratio_norm", "ct"} if folder.rows("regimes_models") or folder.rows("panel") else set()
    names |= {"instability", "entropy"} if "trajectory" in folder.results else set()
    names |= {"G", "D", "GD_ratio", "top1", "rivalry"} if folder.rows("gd_models") or folder.rows("gd_depth") else set()
    names |= {"turbulence", "states", "grammar", "excess"} if folder.rows("states") else set()
    names |= {"motif", "grammar"} if folder.rows("motifs") else set()
    names |= {"collapse of entropy", "Kaplan-Meier"} if folder.rows("cycles") else set()
    names |= {"share of variance"} if folder.rows("variance_shares") else set()
    names |= {"W"} if folder.rows("order_ranks") else set()
    names |= {"fingerprint", "spread"} if folder.rows("fingerprints") else set()
    names |= {"consensus", "fragmentation", "ARI", "stress"} if folder.rows("topology") else set()
    names |= {"ICC", "normalisation"} if folder.rows("normalisation") else set()
    names |= {"twin_cosine", "paired difference"} if folder.rows("ambiguity") else set()
    return names | (
        {"frozen", "collapse", "entropy_norm", "noise floor", "GD_ratio"} if folder.rows("panel") else set()
    )


def _anchors(definitions: Sequence[symbols.Symbol]) -> dict[str, str]:
    """Give the id of every definition, also under the other names that table headings use."""
    taken: set[str] = set()
    anchors = {symbol.name: prose.unique(f"def-{symbol.name}", taken) for symbol in definitions}
    return anchors | {alias: anchors[name] for alias, name in ALIASES.items() if name in anchors}


def _tables(folder: Folder, members: list[Member]) -> dict[str, tables.Table | None]:
    return {
        "panel": tables.panel(folder, members),
        "regimes": tables.regimes(folder, members),
        "separation": tables.separation(folder),
        "gd": tables.gd(folder, members),
        "temperature": tables.temperature(folder),
        "subpanels": tables.subpanels(folder),
        "flags": ambiguity.flags(folder),
    }


def _pair(name: str, draw: Callable[..., Markup], *args: object, layouts: Sequence[object]) -> Pair:
    return Pair(draw(f"{name}-wide", *args, layouts[0]), draw(f"{name}-narrow", *args, layouts[1]))


def _regimes(folder: Folder, members: list[Member]) -> dict[str, object]:
    rows = folder.rows("regimes_models")
    if not rows:
        return {"phase_map": None, "phase_caption": "", "label_bars": None, "label_caption": "", "unlabelled": ""}
    args = (members, rows, folder.rows("regimes_runs"), folder.rows("regimes_nulls"))
    pair = _pair("phase", phase_map.phase_map, *args, layouts=(phase_map.WIDE, phase_map.NARROW))
    shares, bars, unlabelled = labels.labelled(rows), None, ""
    if shares and any(labels.has_label(row) for row in shares):
        bars = _pair("labels", labels.label_bars, members, rows, layouts=(labels.WIDE, labels.NARROW))
    elif shares:
        unlabelled = (
            "No run of any model has a ratio_norm, so no run has a label; the reasons stand under the panel table."
        )
    return {
        "phase_map": pair,
        "phase_caption": captions.phase_map(rows),
        "label_bars": bars,
        "label_caption": captions.label_bars(shares),
        "unlabelled": unlabelled,
    }


def _runs(folder: Folder) -> dict[str, object]:
    if "trajectory" not in folder.results:
        return {"runs": [], "run_faults": []}
    found, faults = trajectory.read_runs(folder.results["trajectory"])
    shown = []
    for k, run in enumerate(found):
        pair = Pair(trajectory.picture(f"run{k}-wide", run), trajectory.tall_picture(f"run{k}-narrow", run))
        shown.append(
            {
                "id": f"fig-run{k}",
                "figures": pair,
                "caption": captions.run(run),
                "prompt": visible(str(run.prompt)) if defined(run.prompt) else "",
                "strip": trajectory.strip(run),
            }
        )
    return {"runs": shown, "run_faults": faults}


def _empty(folder: Folder) -> dict[str, list[str]]:
    """Say, per table, that nothing in it is defined for any model."""
    kinds = (("gd_models", "GD_ratio"), ("gd_depth", "GD_ratio"), ("depth", "value"))
    return {
        table: [f"results/{table}.parquet holds no defined {column} for any model: there is nothing to draw."]
        if folder.rows(table) and not any(is_number(row[column]) for row in folder.rows(table))
        else []
        for table, column in kinds
    }


def _drawable(rows: list[Row], key: str, column: str) -> tuple[list[Row], list[str]]:
    """Split off what no model has: the rows of names with a number somewhere, and the other names."""
    known = {str(row[key]) for row in rows if is_number(row[column])}
    absent = dict.fromkeys(str(row[key]) for row in rows if str(row[key]) not in known)
    return [row for row in rows if str(row[key]) in known], list(absent)


def _gd(folder: Folder, members: list[Member]) -> dict[str, object]:
    rows, undefined = _drawable(folder.rows("gd_models"), "version", "GD_ratio")
    by_depth, _ = _drawable(folder.rows("gd_depth"), "version", "GD_ratio")
    out: dict[str, object] = {"gd_panels": None, "gd_caption": "", "gd_by_depth": None, "gd_depth_caption": ""}
    if rows:
        out["gd_panels"] = _pair("gd", gd.gd_panels, members, rows, layouts=(gd.WIDE, gd.NARROW))
        out["gd_caption"] = captions.gd(rows, len(gd.versions(rows)), undefined)
    if by_depth:
        out["gd_by_depth"] = _pair(
            "gddepth", curves.gd_by_depth, members, by_depth, layouts=(curves.GD_WIDE, curves.GD_NARROW)
        )
        out["gd_depth_caption"] = captions.gd_by_depth(rows)
    return out


def _controls(folder: Folder, members: list[Member]) -> dict[str, object]:
    """The figures of lenses against the output and of pairs of models, where the study has them."""
    rows, found = folder.rows("lens_kl"), [r for r in folder.rows("gd_pairs") if is_number(r["effect"])]
    layouts, broad = (controls.WIDE, controls.NARROW), (curves.GD_WIDE, curves.GD_NARROW)
    known = any(is_number(r["kl"]) for r in rows)
    return {
        "lens_kl": _pair("kl", curves.kl_by_depth, members, rows, layouts=broad) if known else None,
        "kl_caption": controls.kl_caption(rows) if known else "",
        "gd_pairs": _pair("gdpairs", controls.pairs, members, found, layouts=layouts) if found else None,
        "pair_caption": controls.pair_caption(found) if found else "",
    }


def _words(folder: Folder, members: list[Member]) -> dict[str, object]:
    """The figures of motifs and of ambiguity, where the study has them."""
    words, of_models, rows = folder.rows("motifs"), folder.rows("motifs_models"), folder.rows("ambiguity")
    drawn = motifs.shown(words) and of_models
    wide = (motifs.WIDE, motifs.NARROW)
    layouts = (ambiguity.WIDE, ambiguity.NARROW)
    return {
        "motifs": _pair("motifs", motifs.shares, members, words, of_models, layouts=wide) if drawn else None,
        "motif_caption": motifs.caption(words, of_models) if drawn else "",
        "ambiguity": _pair("ambiguity", ambiguity.differences, members, rows, layouts=layouts) if rows else None,
        "ambiguity_caption": ambiguity.caption(rows) if rows else "",
    }


def _states(folder: Folder, members: list[Member]) -> dict[str, object]:
    """The figures of states and cycles, where the study has them."""
    occupancy, steps = states.shown(folder.rows("states")), folder.rows("states_transitions")
    curve, found = folder.rows("cycles_curve"), folder.rows("cycles")
    layouts, shown = (states.WIDE, states.NARROW), (cycles.WIDE, cycles.NARROW)
    return {
        "occupancies": _pair("states", states.occupancy_bars, members, occupancy, layouts=layouts)
        if occupancy
        else None,
        "occupancy_caption": states.occupancy_caption(occupancy) if occupancy else "",
        "graphs": _pair("graphs", graphs.graphs, members, steps, layouts=(graphs.WIDE, graphs.NARROW))
        if steps
        else None,
        "graph_pages": partial(graphs.pages, members, steps) if steps else None,
        "graph_caption": graphs.caption(steps) if steps else "",
        "matrices": _pair("matrices", states.matrices, members, steps, layouts=layouts) if steps else None,
        "matrix_caption": states.matrix_caption(steps) if steps else "",
        "cycle_curves": _pair("cycles", cycles.curves, members, curve, layouts=shown) if curve and found else None,
        "cycle_caption": cycles.caption(found) if curve and found else "",
    }


def _depth(folder: Folder, members: list[Member]) -> dict[str, object]:
    rows, shown = folder.rows("depth"), []
    for group in symbols.FIGURES:
        every = [row for row in rows if symbols.group_of(str(row["observable"])) == group]
        own, undefined = _drawable(every, "observable", "value")
        if own:
            pair = _pair(f"profiles-{group}", curves.profiles, members, own, layouts=(curves.WIDE, curves.NARROW))
            shown.append(
                {"id": f"fig-depth-{group}", "pair": pair, "caption": captions.profiles(own, group, undefined)}
            )
    return {"profiles": shown}


def _variance(folder: Folder) -> dict[str, object]:
    rows = folder.rows("variance_shares")
    out = {"variance_shares": None, "variance_caption": "", "variance": variance.table(folder)}
    if rows:
        pair = _pair("variance", variance.shares, rows, layouts=(variance.WIDE, variance.NARROW))
        out |= {"variance_shares": pair, "variance_caption": variance.caption(rows)}
    return out


def _order(folder: Folder, members: list[Member]) -> dict[str, object]:
    rows, orders = folder.rows("order_ranks"), folder.rows("order_consistency")
    out = {"order_ranks": None, "order_caption": "", "stability": order.table(folder)}
    if rows:
        pair = _pair("order", order.ranks, members, rows, orders, layouts=(order.WIDE, order.NARROW))
        out |= {"order_ranks": pair, "order_caption": order.caption(rows, orders)}
    return out


def _correctness(folder: Folder) -> dict[str, object]:
    rows = [row for row in folder.rows("correctness") if not row["twin"]]
    out = {"correctness": None, "correctness_caption": "", "grading": correctness.examples(folder.results)}
    if rows:
        pair = _pair("correctness", correctness.forest, rows, layouts=(correctness.WIDE, correctness.NARROW))
        out |= {"correctness": pair, "correctness_caption": correctness.caption(rows)}
    return out


def _acted(folder: Folder, members: list[Member]) -> list[acted.Figure]:
    """The figures of interventions, where the study has them."""
    return acted.figures(
        {name: folder.rows(name) for name in acted.TABLES}, {m.model: acted.Shown(m.label, m.kind) for m in members}
    )


def _probes(folder: Folder, members: list[Member]) -> dict[str, object]:
    """The figures of probes in a study, and how groups by function and by dynamics agree."""
    rows = (folder.rows(f"probe_{table}") for table in ("capacity", "transfer", "templates", "groups"))
    figures, agreement = probe_study.section(members, *rows)
    return {"probe_figures": figures, "probe_agreement": agreement}


def _prints(folder: Folder, members: list[Member]) -> dict[str, object]:
    """The figures of fingerprints, groups and normalisations, where the study has them."""
    rows, models, grid = (folder.rows(t) for t in ("fingerprints", "topology_models", "normalisation"))
    parts = (models, folder.rows("topology_merges"), folder.rows("topology_pairs"))
    layouts = (prints.WIDE, prints.NARROW)
    found, figures = folder.rows("identification"), folder.rows("topology")
    return {
        "heat_map": _pair("prints", prints.heat_map, members, rows, layouts=layouts) if rows else None,
        "heat_caption": prints.heat_caption(rows, found) if rows else "",
        "tree": _pair("tree", prints.tree, members, *parts, layouts=layouts) if models and figures else None,
        "tree_caption": prints.tree_caption(figures) if models and figures else "",
        "grid": _pair("grid", prints.grid, grid, layouts=layouts) if grid else None,
        "grid_caption": prints.grid_caption(grid) if grid else "",
    }
