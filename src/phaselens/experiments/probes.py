"""Experiment: what probes read along depth in every model, and the evidence for F1, F2, F3 and F4.

Reads `ModelData.readings`, which a study fills where it names `probe_tasks`; without them every claim is not applicable
and says so. All models are asked about the same groups, and one bootstrap of groups serves every model of a task.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from phaselens.claims import (
    LEVEL,
    IntervalEvidence,
    Outcome,
    PermutationEvidence,
    Region,
    Requirement,
    above,
    below,
    outside,
)
from phaselens.claims.verdict_records import Evidence, OutcomeWord, word_of
from phaselens.dynamics.clusters import distances, groupings
from phaselens.dynamics.fingerprints import fingerprints
from phaselens.experiments.base import ModelData, Panel, Result, StoredReading, declared
from phaselens.experiments.fingerprints import FINGERPRINTS, sample_of, without_twins
from phaselens.experiments.probe_transfer import between_models, between_templates
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.probes.capacity import CapacityCurve, PeakDifference, capacity_curve, majority_share, peak_difference
from phaselens.statistics.agreement import grouping_agreement, mantel
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.multiplicity import holm
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import bootstrap_weights

FUNCTIONS = ("syntax-like", "decision-like", "stabilisation")
AS_GOOD = 0.05
FEWEST_MODELS = 6
PEAK_DRAWS = 10_000
GRID = (0.0, 0.25, 0.5, 0.75, 1.0)
NEED = 'add probe_tasks = ["pos", "choice-chosen", "stabilisation"] to the study'
Pair = tuple[ModelData, StoredReading]


@dataclass(frozen=True, eq=False)
class Asked:
    """One task with every trained model that has it: readings, curves from one bootstrap, and that bootstrap.

    `weights` int [B, unit] over the sorted units of all models together.
    """

    task: str
    function: str
    pairs: tuple[Pair, ...]
    names: np.ndarray
    weights: np.ndarray
    curves: tuple[CapacityCurve, ...]

    def of(self, reading: StoredReading) -> np.ndarray:
        """The columns of the bootstrap that are this reading's units."""
        return self.weights[:, np.searchsorted(self.names, np.unique(reading.units))]


def asked(panel: Panel, task: str, models: Sequence[ModelData], n_boot: int) -> Asked:
    """A task over some models, groups resampled for all of them at once."""
    pairs = tuple((m, m.readings[task]) for m in models if task in m.readings)
    names = np.unique(np.concatenate([r.units for _, r in pairs]))
    weights = bootstrap_weights(len(names), panel.generator(f"probe {task}"), n_boot=n_boot)
    made = Asked(task, pairs[0][1].function, pairs, names, weights, ())
    curves = tuple(capacity_curve(r.hits, r.codes, r.units, weights=made.of(r)) for _, r in pairs)
    return Asked(task, made.function, pairs, names, weights, curves)


def mean_over_models(task: Asked, gain: Callable[[StoredReading], np.ndarray], *, capacity: bool) -> Interval:
    """Interval of the mean over models of the mean of a per-example value [example] (1), groups resampled.

    With `capacity` the value of each model is divided by 1 - its majority share.
    """
    draws = np.zeros(len(task.weights))
    for _, reading in task.pairs:
        member = np.unique(reading.units, return_inverse=True)[1]
        known = reading.codes >= 0
        weights, size = task.of(reading), int(member.max()) + 1
        total = weights @ np.bincount(member[known], minlength=size).astype(float)
        sums = weights @ np.bincount(member[known], gain(reading)[known], minlength=size)
        scale = 1 - majority_share(reading.codes) if capacity else 1.0
        draws = draws + np.where(total > 0, sums / np.where(total > 0, total, 1), np.nan) / scale
    return percentile_interval(draws / len(task.pairs), len(task.names))


# --- F1 ---


def decodable(panel: Panel, tasks: Mapping[str, Asked]) -> PermutationEvidence:
    """Evidence for F1: the weakest of the functional families decides."""
    lacking = [f for f in FUNCTIONS if not any(t.function == f for t in tasks.values())]
    chosen = [next(t for t in tasks.values() if t.function == f) for f in FUNCTIONS if f not in lacking]
    why = f"no {' and no '.join(lacking)} task was probed: {NEED}" if lacking else ""
    if lacking:
        return PermutationEvidence(math.nan, math.nan, math.nan, counts(panel), 0, why, lacking=why)
    judged = {t.task: _best(t, t.pairs) for t in chosen}
    weakest = max(judged, key=lambda name: (judged[name][2], -judged[name][0]))
    estimate, null, p = judged[weakest]
    alone = [_best(t, [x for x in t.pairs if x[0].info.twin_of is None])[2] for t in chosen]
    twins = any(m.info.twin_of is not None for m in panel.trained)
    return PermutationEvidence(
        estimate,
        null=float(np.quantile(null, 0.95)),
        p_with_twins=p,
        counts=counts(panel),
        n=len(panel.trained),
        needed="more probe_examples, or more permutations",
        p_without_twins=max(alone) if twins else math.nan,
        twins=twins,
        outcomes=tuple(_worst(name, [baseline(t, name) for t in chosen]) for name in (*BASELINES, "control task")),
        reasons={"estimate": f"capacity at the best layer, {weakest}"},
        of=weakest,
    )


def _best(task: Asked, pairs: Sequence[Pair]) -> tuple[float, np.ndarray, float]:
    """Capacity at the best layer, mean over models; its null; p."""
    value = float(np.mean([r.best for _, r in pairs]))
    null = np.mean([r.null for _, r in pairs], axis=0)
    return value, null, permutation_p(value, null)


BASELINES = ("embedding (l = 0)", "untrained twin", "covariates")


def baseline(task: Asked, name: str) -> Outcome:
    """Whether the best layer says more than a baseline (capacity, groups resampled), or than control tasks."""
    if name == "control task":
        values = np.array([r.selectivity[int(np.argmax(r.curve_of))] for _, r in task.pairs])
        if not np.isfinite(values).any():
            return Outcome(name, "missing", f"{task.task}: no word types, so no control task can be drawn")
        low = float(np.nanmin(values))
        said = f"{task.task}: least selectivity of a model {low:.3g}"
        return Outcome(name, "survived" if low > 0 else "undecided", said)
    field = {"embedding (l = 0)": "first_hits", "untrained twin": "twin_hits", "covariates": "covariate_hits"}[name]
    if any(getattr(r, field) is None for _, r in task.pairs):
        return Outcome(name, "missing", f"{task.task} was probed without it")
    interval = mean_over_models(task, lambda r: r.best_hits - getattr(r, field), capacity=True)
    word = word_of(interval.lo > 0, interval.hi < AS_GOOD)
    return Outcome(name, word, f"{task.task}: capacity less that of it [{interval.lo:.3g}, {interval.hi:.3g}]")


def _worst(name: str, outcomes: Sequence[Outcome]) -> Outcome:
    order = ("explains it away", "missing", "undecided", "survived")
    return min(outcomes, key=lambda o: order.index(o.outcome))


# --- F2 ---


def differing(panel: Panel, task: Asked | None) -> tuple[IntervalEvidence, list[dict[str, object]]]:
    """Evidence for F2, and the table of all pairs."""
    families = {m.info.family for m, _ in task.pairs} if task else set()
    if task is None or len(families) < 2:
        why = f"a syntax-like task in two families is needed: {NEED}"
        none = undefined_interval(why)
        return IntervalEvidence(math.nan, none, above(0), (), counts=counts(panel), n=0, needed=why, lacking=why), []
    found = [
        (a[0], b[0], peak_difference(x, y))
        for (a, x), (b, y) in combinations(zip(task.pairs, task.curves, strict=True), 2)
    ]
    apart = [f for f in found if f[0].info.family != f[1].info.family and not _related(f[0], f[1])]
    twins = [f for f in found if _related(f[0], f[1])]
    adjusted = holm(np.array([f[2].p for f in apart]))
    rows = [_pair_row(task.task, *f, p) for f, p in zip(apart, adjusted, strict=True)]
    rows += [_pair_row(task.task, *f, math.nan) for f in twins]
    best = int(np.nanargmin(adjusted)) if np.isfinite(adjusted).any() else 0
    first, second, found_best = apart[best]
    return (
        IntervalEvidence(
            found_best.difference,
            interval=found_best.interval,
            supported=outside(found_best.allowance),
            rejected=(),
            counts=counts(panel),
            n=len(apart),
            needed="more examples per task (narrower peaks), or models of more layers (a finer grid)",
            outcomes=(_seed_twins([f[2] for f in twins]),),
            p=float(adjusted[best]),
            null=found_best.allowance,
            of=f"{first.info.name} less {second.info.name}",
        ),
        rows,
    )


def _related(first: ModelData, second: ModelData) -> bool:
    roots = [m.info.twin_of or m.info.name for m in (first, second)]
    return roots[0] == roots[1]


def _seed_twins(found: Sequence[PeakDifference]) -> Outcome:
    if not found:
        return Outcome("seed twins", "missing", "no two models are seeds of one recipe: add one and say twin_of")
    beyond = sum(f.beyond_grid and min(1.0, f.p * len(found)) <= LEVEL for f in found)
    word: OutcomeWord = "explains it away" if beyond else "survived"
    return Outcome("seed twins", word, f"{beyond} of {len(found)} pairs of seeds differ beyond the grid")


def _pair_row(task: str, first: ModelData, second: ModelData, d: PeakDifference, p: float) -> dict[str, object]:
    named = {"task": task, "first": first.info.name, "second": second.info.name}
    return {**named, **picked(d, "difference allowance p"), **bounds(d.interval), "p_holm": p}


# --- F3 ---


def distributed(panel: Panel, task: Asked | None) -> IntervalEvidence:
    """Evidence for F3: subspace against single features, and against the same in random rotations."""
    if task is None or any(r.subspace is None for _, r in task.pairs):
        why = f"no syntax-like task was probed with its subspace: {NEED}"
        none = undefined_interval(why)
        return IntervalEvidence(math.nan, none, above(0), below(0), counts=counts(panel), n=0, needed=why, lacking=why)
    own = mean_over_models(task, lambda r: r.subspace - r.features, capacity=False)
    over = mean_over_models(task, lambda r: r.rotated.mean(axis=0) - r.features, capacity=False)
    known = [r.codes >= 0 for _, r in task.pairs]
    value = float(np.mean([(r.subspace - r.features)[k].mean() for (_, r), k in zip(task.pairs, known, strict=True)]))
    said = f"difference less that after rotations [{over.lo:.3g}, {over.hi:.3g}]"
    # Subspace hits are the same in every basis, so the two differences differ by features against rotated features:
    # (subspace - features) - (subspace - rotated) = rotated - features.
    word = word_of(over.lo > 0, over.hi < 0)
    return IntervalEvidence(
        value,
        interval=own,
        supported=above(0),
        rejected=(Region(hi=0),),
        counts=counts(panel),
        n=len(task.pairs),
        needed="more examples per task",
        outcomes=(Outcome("random rotations", word, said),),
        null=0.0,
        of=task.task,
    )


# --- F4 ---


def same_grouping(panel: Panel, tasks: Mapping[str, Asked]) -> tuple[PermutationEvidence, list[dict[str, object]]]:
    """Evidence for F4, fingerprints of the dynamics against capacity over relative depth; and both groupings."""
    sample = without_twins(sample_of(panel))
    every = [m for m in sample.models if tasks and all(t in m.readings for t in tasks)]
    why = NEED if not tasks else sample.reason
    if not why and len(every) < FEWEST_MODELS:
        why = f"{len(every)} models (twins removed) have both; {FEWEST_MODELS} are needed: add models"
    if why:
        return PermutationEvidence(math.nan, math.nan, math.nan, counts(panel), len(every), why, lacking=why), []
    here = sample.of([m in every for m in sample.models])
    dynamic = distances(fingerprints(here.values).vectors)
    functional = distances(np.stack([_profile(m, tasks) for m in every]))
    generator = panel.generator("function and dynamics")
    r, p = mantel(dynamic, functional, generator)
    k = max(2, round(len(every) / 3))
    first, second = groupings(dynamic)[k - 1], groupings(functional)[k - 1]
    ari, p_groups = grouping_agreement(first, second, generator)
    said = f"removed; ARI {ari:.2f} at {k} groups, p = {p_groups:.3g}"
    found = PermutationEvidence(
        r,
        0.0,
        float(np.nanmax([p, p_groups])),
        counts(panel),
        len(every),
        "more models",
        outcomes=(Outcome("twins", "survived", said, p_groups),),
        requirements=(Requirement("defined", math.isfinite(p), "distances have no spread", "more tasks"),),
        of="Mantel r",
    )
    shared = {"k": k, "ari": ari, "p_ari": p_groups, "mantel": r, "p_mantel": p}
    rows: list[dict[str, object]] = [
        {"model": m.info.name, "dynamic_group": int(a), "functional_group": int(b), **shared}
        for m, a, b in zip(every, first, second, strict=True)
    ]
    return found, rows


def _profile(model: ModelData, tasks: Mapping[str, Asked]) -> np.ndarray:
    """Capacity of every task at fixed relative depths, one after the other."""
    return np.concatenate([np.interp(GRID, model.readings[t].depth, model.readings[t].curve_of) for t in tasks])


# --- the declaration ---


def _tasks(panel: Panel, n_boot: int) -> dict[str, Asked]:
    names = dict.fromkeys(name for m in panel.trained for name in m.readings)
    return {name: asked(panel, name, panel.trained, n_boot) for name in names}


def evidence(panel: Panel) -> dict[str, Evidence]:
    """The evidence for F1 to F4."""
    return _judged(panel)[0]


def _judged(
    panel: Panel,
) -> tuple[dict[str, Evidence], dict[str, Asked], list[dict[str, object]], list[dict[str, object]]]:
    tasks = _tasks(panel, panel.n_boot)
    first = next((name for name, t in tasks.items() if t.function == "syntax-like"), None)
    # Holm over pairs and claims needs p-values far below 1 / n_boot.
    fine = None if first is None else asked(panel, first, panel.trained, max(panel.n_boot, PEAK_DRAWS))
    f2, pairs = differing(panel, fine)
    f4, groups = same_grouping(panel, tasks)
    found: dict[str, Evidence] = {
        "F1": decodable(panel, tasks),
        "F2": f2,
        "F3": distributed(panel, None if first is None else tasks[first]),
        "F4": f4,
    }
    return found, tasks, pairs, groups


def _analyse(panel: Panel) -> Result:
    found, tasks, pairs, groups = _judged(panel)
    rows = [
        {
            "model": m.info.name,
            "task": t.task,
            "function": t.function,
            "layer": round(d * m.info.n_layers),
            "depth": float(d),
            "capacity": float(c),
            **bounds(i),
            "selectivity": float(s),
        }
        for t in tasks.values()
        for (m, r), curve in zip(t.pairs, t.curves, strict=True)
        for d, c, i, s in zip(r.depth, curve.capacity, curve.intervals, r.selectivity, strict=True)
    ]
    moved = between_models(panel.trained, panel.generator("probe transfer"))
    tables = filled(
        probe_capacity=rows,
        probe_pairs=pairs,
        probe_transfer=moved,
        probe_templates=between_templates(panel.trained),
        probe_groups=groups,
    )
    return Result(tables, evidence=found)


PROBES = declared("probes", _analyse, evidence, layers=FINGERPRINTS.needs_layers, steps=FINGERPRINTS.needs_steps)
