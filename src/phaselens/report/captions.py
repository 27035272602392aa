"""The caption of every figure: what is drawn, in which unit, over what, with which n and which interval."""

from markupsafe import Markup

from phaselens.report.study_files import Row
from phaselens.report.symbols import GROUPS
from phaselens.report.written_values import count, extent, is_number, listing, visible


def _caption(head: str, *body: str) -> Markup:
    """Write a caption: a bold first sentence, then the others."""
    return Markup("<b>{}</b> {}").format(head, " ".join(part for part in body if part))


def _sample(rows: list[Row]) -> str:
    """Say how many prompts and runs stand behind the defined values of a table."""
    rows = [row for row in rows if is_number(row.get("ratio_norm", row.get("GD_ratio")))]
    known = [noun for noun in ("prompts", "runs") if rows and f"n_{noun}" in rows[0]]
    said = listing(extent((row[f"n_{noun}"] for row in rows), noun) for noun in known)
    return f"n: {said} per model." if said else "n: not recorded."


def _absent(names: list[str]) -> str:
    """Name what is undefined for every model."""
    return f"Undefined for every model, so not drawn: {listing(visible(name) for name in names)}." if names else ""


def phase_map(rows: list[Row]) -> Markup:
    """Caption of the phase map."""
    return _caption(
        "Do models fall into regimes?",
        "max(ct)/mean(ct) over the first 64 defined steps of a run, unit 1, ct along tokens.",
        "Circles: at l* = round(0.75 L); squares: at L, the last layer; ticks: single runs at l*;",
        "lines: 95 % intervals over prompts; hollow: untrained twins.",
        "Diamonds: nulls; their lines hold 95 % of the draws (small: a model's own null, named by its tooltip).",
        _sample(rows),
        "Shaded: the published bands of other models, a comparison only; no verdict uses them.",
    )


def label_bars(rows: list[Row]) -> Markup:
    """Caption of the label bars."""
    return _caption(
        "Which label do the runs get?",
        "Share of a model's runs (0 to 1) under each name, at l*. Left: by the published bands, cut at midpoints;",
        "a comparison only, which decides nothing. Right: by quantile bands of this panel's calibration runs.",
        _sample(rows),
        "How sure the label of a model is: bootstrap columns of the table below.",
    )


def gd(rows: list[Row], versions: int, undefined: list[str]) -> Markup:
    """Caption of the GD panels; `undefined` names the versions that no model has, which are not drawn."""
    return _caption(
        "Does the split survive its controls?",
        "GD_ratio = mean G / mean D over steps, layers 1 … L and runs, unit 1, logarithmic axis; dashed line: 1.",
        f"Lines: 95 % intervals over prompts. {count(versions, 'version').capitalize()}, a panel each,",
        "with the models in one order: a split that is real stays where it is.",
        "Filled: trained; hollow: untrained twins; grey ticks: published values of other models, a comparison only.",
        _sample(rows),
        _absent(undefined),
    )


def gd_by_depth(rows: list[Row]) -> Markup:
    """Caption of GD_ratio by depth; `rows` are those of the GD panels, for their n."""
    return _caption(
        "Where in the network the ratio arises.",
        "GD_ratio of each layer, unit 1, logarithmic axis, over relative depth l/L, a panel per version.",
        "Ribbons: 95 % intervals over prompts; dashed: untrained twins, in the colour of their family.",
        _sample(rows),
    )


def profiles(rows: list[Row], group: str, undefined: list[str]) -> Markup:
    """Caption of the depth profiles of one group of observables; `undefined` are not drawn."""
    return _caption(
        f"{GROUPS[group]}, layer by layer.",
        "Mean over steps and runs of each observable, in its own unit, over relative depth l/L (0: embedding;",
        "1: last layer, before the final norm). Ribbons: 95 % intervals over prompts; a gap: undefined there.",
        f"n: {extent((row['n_prompts'] for row in rows if is_number(row['value'])), 'prompts')} per model.",
        _absent(undefined),
    )
