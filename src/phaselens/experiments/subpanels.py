"""Experiment: the ledger made again on random small panels from the columns in memory, and what of it the full panel
keeps. T2.

No model runs. Every experiment that can give its evidence without tables is asked on each panel; the yardstick is a
true effect of known size, sub-sampled in the same way.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from phaselens.claims import (
    LEVEL,
    Evidence,
    IntervalEvidence,
    Outcome,
    Requirement,
    above,
    below,
    claims_by_id,
    judge_all,
)
from phaselens.claims.verdict_records import OutcomeWord
from phaselens.dynamics.stability import Survival, lost_at_scale, subpanels
from phaselens.experiments.base import Experiment, ModelData, Panel, Result, declared
from phaselens.experiments.fingerprints import FINGERPRINTS
from phaselens.experiments.gd import GD
from phaselens.experiments.regimes import REGIMES
from phaselens.experiments.result_tables import filled
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.separation import separation, uniform_null

SIZE = 6
SMALLEST = 8
BOOTSTRAPS = 200
LOST = 0.5
TRUE_GAP = 8
TRUE_STUDIES = 60
NULL_DRAWS = 4000


def part_of(panel: Panel, chosen: Sequence[int]) -> Panel:
    """The panel of some of the trained models (by their place among them) with their untrained twins.

    A twin whose original is not among them is no twin there.
    """
    names = {panel.trained[i].info.name for i in chosen}

    def alone(model: ModelData) -> ModelData:
        lost = not model.info.twin and model.info.twin_of is not None and model.info.twin_of not in names
        return replace(model, info=replace(model.info, twin_of=None)) if lost else model

    kept = [m for m in panel.models if (m.info.twin_of if m.info.twin else m.info.name) in names]
    return replace(panel, models=tuple(alone(m) for m in kept), n_boot=min(BOOTSTRAPS, panel.n_boot))


def verdicts(panel: Panel, experiments: Sequence[Experiment]) -> dict[str, str]:
    """The verdict of every claim of these experiments on a panel, Holm within documents over all of them."""
    found: dict[str, Evidence] = {}
    for one in experiments:
        found |= one.evidence_of(panel)
    claims = claims_by_id([c for one in experiments for c in one.claims])
    return {v.id: v.verdict for v in judge_all(claims, found)}


def true_effect(m: int, n_panels: int, generator: np.random.Generator) -> tuple[float, Interval, float]:
    """What small panels lose of a true effect (proportion), its interval, and how often they find it.

    Two groups of models 8 within-group SDs apart, three eighths of them in the upper one, tested by the S test on
    panels of six and on all M; studies are resampled.
    """
    upper = np.arange(m) < max(2, round(m * 3 / 8))
    null = {size: uniform_null(size, generator, n_draws=NULL_DRAWS) for size in {SIZE, m}}

    def supported(values: np.ndarray) -> bool:
        return separation(values, generator, n_draws=NULL_DRAWS, null=lambda n, g, n_draws, among: null[n]).p <= LEVEL

    small, full = np.zeros((TRUE_STUDIES, n_panels)), np.zeros(TRUE_STUDIES)
    for i in range(TRUE_STUDIES):
        values = generator.standard_normal(m) + TRUE_GAP * upper
        small[i] = [supported(values[p]) for p in subpanels(m, generator, size=SIZE, n_panels=n_panels)]
        full[i] = supported(values)
    found = lost_at_scale(small, full, generator)
    return found.lost, found.interval, found.found


def _evidence(panel: Panel, lost: Survival | None, truth: tuple[float, Interval, float] | None) -> dict:
    m = len(panel.trained)
    lacking = (
        f"{m} trained models: sub-panels of {SIZE} say something about scale from {SMALLEST} on; add {SMALLEST - m}"
        if lost is None or truth is None
        else ""
    )
    if lost is None or truth is None:
        nothing = undefined_interval(lacking)
        found = IntervalEvidence(math.nan, nothing, (), (), counts=counts(panel), n=m, needed=lacking, lacking=lacking)
        return {"T2": found}
    once = lost.found * lost.n_claims > 0
    seen = Requirement(
        "findings on small panels",
        once,
        "no claim is supported on any small panel, so there is nothing to survive",
        "effects that panels of six can see: more prompts, or models that differ more",
    )
    word: OutcomeWord = "survived" if lost.interval.lo > truth[1].hi else "undecided"
    why = f"a true effect of {TRUE_GAP} SD loses {truth[0]:.2f} [{truth[1].lo:.2f}, {truth[1].hi:.2f}]"
    found = IntervalEvidence(
        estimate=lost.lost,
        interval=lost.interval,
        supported=above(LOST),
        rejected=below(LOST),
        counts=counts(panel) | {"claims": lost.n_claims},
        n=lost.n_claims,
        needed="more claims (name more experiments), or more models",
        outcomes=(Outcome("simulated true effect", word, why),),
        requirements=(seen,),
        null=truth[0],
        reasons={"p": "not part of this claim's rule"},
    )
    return {"T2": found}


def replayed(panel: Panel, experiments: Sequence[Experiment]) -> Result:
    """Table subpanels; evidence for T2, over the claims of `experiments`."""
    m, n_panels = len(panel.trained), panel.subpanels
    if m < SMALLEST:
        return Result(filled(subpanels=[]), evidence=_evidence(panel, None, None))
    panels = subpanels(m, panel.generator("subpanels"), size=SIZE, n_panels=n_panels)
    full = verdicts(part_of(panel, range(m)), experiments)
    small = [verdicts(part_of(panel, chosen), experiments) for chosen in panels]
    hits = np.array([[one[claim] == "supported" for one in small] for claim in full], float)
    kept = np.array([word == "supported" for word in full.values()], float)
    lost = lost_at_scale(hits, kept, panel.generator("claims resampled"))
    truth = true_effect(m, n_panels, panel.generator("simulated true effect"))
    return Result(
        filled(subpanels=[_row(c, word, small) for c, word in full.items()]), evidence=_evidence(panel, lost, truth)
    )


def _row(claim: str, full: str, small: Sequence[Mapping[str, str]]) -> dict:
    said = [one[claim] for one in small]
    return {
        "claim": claim,
        "found": said.count("supported") / len(said),
        "full": full,
        "full_supported": full == "supported",
        **{f"n_{w.replace(' ', '_')}": said.count(w) for w in ("supported", "rejected", "open", "not applicable")},
        "n_panels": len(said),
        "size": SIZE,
    }


def analyse_subpanels(panel: Panel) -> Result:
    """The claims of whatever gives its evidence without tables, quickly, and is about any panel, judged again."""
    return replayed(panel, (REGIMES, GD, FINGERPRINTS))


SUBPANELS = declared("subpanels", analyse_subpanels)
