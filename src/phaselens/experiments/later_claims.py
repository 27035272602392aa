"""Evidence for the claims about what comes later in a run (X3, R5), and about regime and reasoning over models (R8)."""

import math
from collections.abc import Sequence

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Requirement, above, below
from phaselens.claims.verdict_records import word_of
from phaselens.dynamics.correctness_scores import cycle_start, repetition
from phaselens.dynamics.regimes import max_over_mean, ratio_norm, run_mean
from phaselens.experiments.base import ModelData, Panel
from phaselens.experiments.by_model import Own, mean_evidence, refitted_gain
from phaselens.experiments.graded_runs import Graded, lacking_grades, strata_of
from phaselens.experiments.separations import counts
from phaselens.statistics.detection import resampled_auroc_within, run_weights
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.strata import crossed
from phaselens.statistics.unit_effects import UnitEffect, rank_correlation_effect

CLAIMS = ("X3", "R5", "R8")
FEWEST_COLLAPSES, FEWEST_MODELS, FEWEST_LATER, FEWEST_VALUES = 10, 8, 40, 32
BAND = (2.27, 2.92)
ONSET, BEFORE, LAST = 32, 8, 8
REASONING = ("science", "reasoning")


def later_evidence(
    panel: Panel, graded: Sequence[Graded], claims: Sequence[str] = CLAIMS
) -> dict[str, IntervalEvidence]:
    """The evidence of X3, R5 and R8, or some of them."""
    of = {"X3": _x3, "R5": lambda panel, graded: _r5(panel), "R8": _r8}
    return {claim: of[claim](panel, graded) for claim in claims if claim in of}


def _x3(panel: Panel, graded: Sequence[Graded]) -> IntervalEvidence:
    found = [o for m in panel.trained if (o := later_regime(panel, m)) is not None]
    return mean_evidence(found, len(panel.units), counts(panel))


def later_regime(panel: Panel, m: ModelData) -> Own | None:
    """X3: AUROC gain of values 1-8 of the dynamics over prompt length, entropy, surprisal for the later regime (1)."""
    ct = m.at_layer("instability", m.layer_of_record)
    if ct is None or not {"entropy", "surprisal"} <= set(m.steps):
        return None
    first = int(np.argmax(np.isfinite(ct).any(0)))
    window = ct[:, first + 8 : first + 72]
    n = np.isfinite(window).sum(1)
    # The largest of more values is larger: of runs of unlike length as many values as the shortest has.
    window = window[:, : n[n >= FEWEST_VALUES].min(initial=72)]
    later = np.where(n >= FEWEST_VALUES, max_over_mean(window, ("",) * len(window)).value, np.nan)
    use = m.measured & np.isfinite(later)
    if use.sum() < FEWEST_LATER:
        return None
    label = (later > np.median(later[use]))[use].astype(float)
    plain, inner = _early(m, first + 8)
    unit = panel.unit_index(m)[use]
    stratum = strata_of(m)[use]
    outer = [column[use] for column in plain]
    return refitted_gain(panel, m.info.name, ([*outer, *(c[use] for c in inner)], outer), label, unit, stratum)


def _early(m: ModelData, upto: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """What is known of each run early: of the output and the prompt, and of the dynamics; each [run]."""
    inner = [
        run_mean(found[:, :upto])
        for name in ("instability", "step_length", "turning_angle")
        for layer in (m.layer_of_record, m.info.n_layers)
        if (found := m.at_layer(name, layer)) is not None
    ]
    plain = [run_mean(m.per_step(name)[:, :upto]) for name in ("entropy", "surprisal")]
    return [*plain, np.asarray(m.runs.get("n_prompt", m.runs["n_generated"]), float)], inner


def late_before_collapse(panel: Panel) -> dict[str, np.ndarray]:
    """Runs that loop from step t on, and calm ones at the same t: low late instability, repetition, entropy [run].

    From steps before t - 8. `stratum` is model, category, tag and arm: only runs of one are compared.
    """
    columns: dict[str, list] = {n: [] for n in ("ct", "repetition", "entropy", "loops", "unit", "stratum")}
    for m in panel.trained:
        ct = m.at_layer("instability", m.layer_of_record)
        if ct is None or not m.completions or "entropy" not in m.steps:
            continue
        entropy, unit, stratum = m.per_step("entropy"), panel.unit_index(m), strata_of(m)
        starts = np.array([cycle_start(tokens) for tokens in m.completions])
        onsets = starts[(starts >= ONSET) & m.measured]
        if not len(onsets):
            continue
        calm = np.flatnonzero((starts < 0) & m.measured)
        pairs = [(int(i), int(starts[i]), 1) for i in np.flatnonzero((starts >= ONSET) & m.measured)]
        pairs += [(int(i), int(onsets[k % len(onsets)]), 0) for k, i in enumerate(calm)]
        for i, t, loops in pairs:
            if len(m.completions[i]) < t:
                continue
            window = slice(max(0, t - BEFORE - LAST), t - BEFORE)
            columns["ct"].append(-run_mean(ct[i : i + 1, window])[0])
            columns["entropy"].append(-run_mean(entropy[i : i + 1, window])[0])
            columns["repetition"].append(repetition(m.completions[i][: t - BEFORE]))
            columns["loops"].append(loops)
            columns["unit"].append(unit[i])
            columns["stratum"].append(f"{m.info.name}\0{stratum[i]}")
    return {n: np.array(values) for n, values in columns.items()}


def _r5(panel: Panel) -> IntervalEvidence:
    """R5: AUROC gain of low late instability over repetition and entropy before a loop begins (1)."""
    found = late_before_collapse(panel)
    loops = np.asarray(found["loops"], float)
    n, value, draws, without = int(loops.sum()), math.nan, np.full(1, np.nan), math.nan
    if n and not loops.all():
        weights = run_weights(np.vstack([np.ones(len(panel.units), int), panel.weights]), found["unit"].astype(int))

        def gain(stratum: np.ndarray) -> np.ndarray:
            of = {
                name: resampled_auroc_within(np.asarray(found[name], float), loops, stratum, weights)
                for name in ("ct", "repetition", "entropy")
            }
            return of["ct"] - of[max(("repetition", "entropy"), key=lambda name: of[name][0])]

        within = gain(crossed(found["stratum"]))
        value, draws, without = float(within[0]), within[1:], float(gain(np.zeros(len(loops), int))[0])
    few = Requirement(
        "collapses", n >= FEWEST_COLLAPSES, f"{n} collapses after step {ONSET}", f"{FEWEST_COLLAPSES} collapses"
    )
    seen = draws[np.isfinite(draws)]
    return IntervalEvidence(
        estimate=value,
        interval=percentile_interval(draws, len(panel.units)),
        supported=above(0),
        rejected=below(0),
        counts=counts(panel) | {"collapses": n},
        n=len(panel.units),
        needed=f"more prompts about other things (this study: {len(panel.units)} units)",
        requirements=(few,),
        p=float((1 + (seen <= 0).sum()) / (len(seen) + 1)) if len(seen) else math.nan,
        null=0.0,
        beside=f"without strata {without:.3g}" if n else "",
    )


def _reasoning(graded: Sequence[Graded]) -> dict[str, list[dict[str, float]]]:
    """Closeness to the band, share of right reasoning, log size and loss of every model, by group of siblings."""
    groups: dict[str, list[dict[str, float]]] = {}
    for g in graded:
        info, ct = g.model.info, g.model.at_layer("instability", g.model.layer_of_record)
        kind = np.isin(np.asarray(g.model.runs["category"]).astype(str)[g.rows], REASONING) & g.measured
        if ct is None or not kind.any():
            continue
        values = ratio_norm(ct).value[g.model.measured]
        if not np.isfinite(values).any():
            continue
        middle = float(np.nanmedian(values))
        near = -max(BAND[0] - middle, middle - BAND[1], 0.0)
        row = {"near": near, "right": float(1 - g.wrong[kind].mean()), "size": math.log(info.parameters)}
        groups.setdefault(info.recipe or info.twin_of or info.name, []).append(row | {"loss": info.training_loss})
    return groups


def _r8(panel: Panel, graded: Sequence[Graded]) -> IntervalEvidence:
    """R8: rank correlation over models, siblings as one, of closeness to the adaptive band with right reasoning (1)."""
    groups = _reasoning(graded)
    of = {k: np.array([np.mean([r[k] for r in g]) for g in groups.values()]) for k in ("near", "right", "size", "loss")}
    n = len(groups)
    found = rank_correlation_effect(of["near"], of["right"])
    lacking = "" if graded else lacking_grades(panel)
    if not lacking and n < FEWEST_MODELS:
        lacking = f"{n} models with graded reasoning (siblings count once), {FEWEST_MODELS} are needed"
    elif not lacking and found.interval.reason:
        lacking = "all models are as near to the band, or answer as many reasoning questions right: ask harder ones"
    return IntervalEvidence(
        estimate=found.value,
        interval=found.interval,
        supported=above(0),
        rejected=below(0),
        counts=counts(panel) | {"models, siblings as one": n},
        n=n,
        needed=f"more models that are siblings of none (this panel: {n})",
        outcomes=() if lacking else tuple(_given(of, name) for name in ("size", "loss")),
        p=found.tails(0.0)[0],
        null=0.0,
        lacking=lacking,
    )


def _given(of: dict[str, np.ndarray], name: str) -> Outcome:
    """What is left of R8's correlation where models of one size, or of one loss, are compared."""
    if not np.isfinite(of[name]).all():
        return Outcome(name, "missing", f"the {name} of {int((~np.isfinite(of[name])).sum())} models is not known")
    left: UnitEffect = rank_correlation_effect(of["near"], of["right"], given=(of[name],))
    if left.interval.reason:
        return Outcome(name, "undecided", left.interval.reason)
    said = f"given {name}: {left.value:.3g} [{left.interval.lo:.3g}, {left.interval.hi:.3g}]"
    word = word_of(left.interval.lo > 0, left.interval.hi < 0)
    return Outcome(name, word, said, p=left.tails(0.0)[0])
