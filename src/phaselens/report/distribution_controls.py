"""Controls on the distribution: how far each lens is from the output, and what one difference between models does."""

from markupsafe import Markup

from phaselens.report.captions import written
from phaselens.report.figure_parts import Layout
from phaselens.report.forest_plot import NARROW, WIDE, Mark, Panel, forest
from phaselens.report.models_shown import Member
from phaselens.report.study_files import Row
from phaselens.report.written_values import listing

__all__ = ["NARROW", "WIDE", "kl_caption", "pair_caption", "pairs"]
DIFFERS = {"capped": "soft cap", "corpus": "corpus", "qk_norm": "QK-norm", "training_seed": "seed"}


def pairs(name: str, members: list[Member], rows: list[Row], layout: Layout = WIDE) -> Markup:
    """Draw the effect of one difference on ln GD_ratio (1), a row a pair of models and a panel a version."""
    kinds = {m.model: m.kind for m in members if not m.twin}
    keys = list(dict.fromkeys((str(r["differs"]), str(r["first"]), str(r["second"])) for r in rows))
    lines = [("|".join(k), f"{DIFFERS.get(k[0], k[0])}: {k[2]}", "label") for k in keys]
    panels = []
    for version in dict.fromkeys(str(r["version"]) for r in rows):
        marks: dict[str, list[Mark]] = {}
        for r in rows:
            if r["version"] == version:
                said = f"{r['first']} to {r['second']} ({r['differs']}), {version}"
                mark = Mark(r["effect"], r["lo"], r["hi"], kinds.get(str(r["second"]), "hue0"), said)
                marks.setdefault("|".join((str(r["differs"]), str(r["first"]), str(r["second"]))), []).append(mark)
        panels.append(Panel(version, "difference of ln GD_ratio", marks))
    return forest(name, "What one difference does to GD_ratio", lines, panels, layout)


def pair_caption(rows: list[Row]) -> Markup:
    """Caption of the pairs."""
    kinds = listing(dict.fromkeys(DIFFERS.get(str(r["differs"]), str(r["differs"])) for r in rows))
    return written("pairs", rows, kinds=kinds, pairs=len({(r["first"], r["second"], r["differs"]) for r in rows}))


def kl_caption(rows: list[Row]) -> Markup:
    """Caption of the KL curves."""
    return written("kl", rows)
