"""Experiment: is the order of models by ratio_norm the same in every category, at any temperature, in any window?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from phaselens.claims import IntervalEvidence, Requirement, above, below
from phaselens.dynamics.regimes import WINDOW, max_over_mean, window_values
from phaselens.dynamics.stability import spearman
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.claim_versions import Version, decided, units_needed
from phaselens.experiments.crossed_design import BY_MEASURE, MEAN_CT, MEASURES, RATIO, Cells, cells, sampled_arm
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts, n_prompts_of
from phaselens.statistics.agreement import kendall_w
from phaselens.statistics.concordance import OrderConsistency, order_consistency
from phaselens.statistics.intervals import percentile_interval, undefined_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import resampled_median

CLAIMS = ("R2", "R3")
MARGIN = 0.1
ENOUGH_CEILING = 0.7
SAME = 0.7
TEMPERATURES = ("t0.1", "t0.4", "t0.7", "t1")
STARTS = (0, WINDOW, 2 * WINDOW)
FEWEST_MODELS = 4
PERMUTATIONS = 2000
HALVES = 100


@dataclass(frozen=True, eq=False)
class Consistency:
    """The order of models over categories by one measure, its permutation p-value and the 95 % point of the null."""

    measure: str
    cells: Cells
    y: np.ndarray | None
    found: OrderConsistency | None
    p: float
    null: float
    reason: str


def consistency(panel: Panel, measure: str) -> Consistency:
    """Concordance of the models' order over categories by one measure (seed means of the balanced part)."""
    of = cells(panel, BY_MEASURE[measure])
    y = of.balanced
    models, categories = of.y.shape[:2]
    why = (
        "" if y is not None else "no run has a value" if not of.n_runs else "no two prompts of every category complete"
    )
    if not why and (models < 2 or categories < 2):
        why = f"{models} models and {categories} categories have values: two of each are needed"
    if why:
        return Consistency(measure, cells=of, y=None, found=None, p=math.nan, null=math.nan, reason=why)
    means = y.mean(axis=3)
    found = order_consistency(means, panel.generator(f"order {measure}"), n_boot=panel.n_boot)
    p, null = _label_null(means.mean(axis=2), panel.generator(f"order null {measure}"))
    return Consistency(measure, cells=of, y=y, found=found, p=p, null=null, reason=found.interval.reason)


def _label_null(means: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """p-value and 95 % point of W when model labels move within each category; means [model, category]."""
    moved = generator.permuted(np.broadcast_to(means.T, (PERMUTATIONS, *means.T.shape)), axis=2)
    null = np.asarray(kendall_w(moved))
    seen = null[np.isfinite(null)]
    return permutation_p(float(kendall_w(means.T)), null), float(np.quantile(seen, 0.95)) if len(seen) else math.nan


def _r2(panel: Panel, one: Consistency) -> IntervalEvidence:
    """The evidence of R2."""
    lacking = one.reason if one.found is None else ""
    found = one.found or OrderConsistency(*(math.nan,) * 3, undefined_interval(one.reason or "nothing"), 0)
    version = Version(RATIO, found.gap, found.interval, one.p)
    wanted = units_needed(version, MARGIN, found.n_prompts)
    shape = (len(one.cells.models), len(one.cells.categories))
    return IntervalEvidence(
        estimate=found.gap,
        interval=found.interval,
        supported=below(MARGIN),
        rejected=above(MARGIN),
        counts=counts(panel) | {"categories": shape[1], "prompts per category": found.n_prompts},
        n=shape[0],
        needed=f"about {wanted} prompts per category if this gap holds (this study: {found.n_prompts})"
        if wanted
        else "more prompts per category",
        p=one.p,
        null=MARGIN,
        lacking=lacking,
        requirements=(
            Requirement(
                "W_ceiling",
                found.ceiling >= ENOUGH_CEILING,
                f"W_ceiling = {found.ceiling:.2f} < .7: the prompts' own noise leaves no order to compare "
                f"(W_obs = {found.w:.2f})",
                f"more prompts per category (this study: {found.n_prompts}), or models that differ more",
            ),
        ),
        of=f"W_obs = {found.w:.2f}, W_ceiling = {found.ceiling:.2f}, gap",
    )


@dataclass(frozen=True, eq=False)
class Condition:
    """Medians of ln ratio_norm per model [M] under one condition with prompt draws [B, M], and per prompt [M, P].

    A model without a run there is NaN.
    """

    name: str
    values: np.ndarray
    draws: np.ndarray
    by_prompt: np.ndarray
    n_prompts: int
    n_runs: int


def condition(panel: Panel, name: str, arm: str, start: int = 0) -> Condition:
    """The order of the trained models under one arm, over the 64 values that begin `start` after the first."""
    models = panel.trained
    values, draws = np.full(len(models), np.nan), np.full((panel.n_boot, len(models)), np.nan)
    by_prompt, n_prompts, n_runs = np.full((len(models), len(panel.units)), np.nan), [], 0
    for i, m in enumerate(models):
        y = _window_ratio(m, start)
        index = panel.unit_index(m)
        use = (index >= 0) & (np.asarray(m.runs["arm"]) == arm) & np.isfinite(y)
        n_prompts.append(n_prompts_of(panel, m, use))
        n_runs += int(use.sum())
        if use.any():
            values[i] = np.median(y[use])
            draws[:, i] = resampled_median(y[use], index[use], panel.weights)
            for j in np.unique(index[use]):
                by_prompt[i, j] = y[use & (index == j)].mean()
    return Condition(name, values, draws, by_prompt, min(n_prompts, default=0), n_runs)


def _window_ratio(model: ModelData, start: int) -> np.ndarray:
    """Ln max / mean over the 64 defined values that begin `start` after the first, [run]; NaN: fewer, or frozen."""
    ct = model.at_layer("instability", model.layer_of_record)
    if ct is None:
        return np.full(len(np.asarray(model.runs["run"])), np.nan)
    ratio = max_over_mean(*window_values(ct, skip=start)).value
    return np.log(ratio, out=np.full(len(ratio), np.nan), where=ratio > 0)


def _self_agreement(panel: Panel, one: Condition, keep: np.ndarray) -> float:
    """Mean Spearman of the models' order between random halves of the prompts (1): does the order agree with itself?

    Half the prompts make each order, so it is a lower bound of what all of them would give.
    """
    table = one.by_prompt[keep]
    table = table[:, np.isfinite(table).all(axis=0)]
    n = table.shape[1]
    if n < 4 or keep.sum() < 2:
        return math.nan
    order = panel.generator(f"halves {one.name}").random((HALVES, n)).argsort(axis=1)
    first, second = (np.median(table[:, half], axis=2).T for half in (order[:, : n // 2], order[:, n // 2 :]))
    found = spearman(first, second)
    return float(found[np.isfinite(found)].mean()) if np.isfinite(found).any() else math.nan


@dataclass(frozen=True, eq=False)
class Pair:
    """The orders of models under two conditions: their correlation, and how far each agrees with itself."""

    kind: str
    first: Condition
    second: Condition
    version: Version
    itself: tuple[float, float]
    n_models: int
    n_prompts: int
    reason: str


def pair(panel: Panel, kind: str, first: Condition, second: Condition) -> Pair:
    """Spearman's correlation of two orders of models, with prompts resampled together in both."""
    keep = np.isfinite(first.values) & np.isfinite(second.values)
    m, n = int(keep.sum()), min(first.n_prompts, second.n_prompts)
    name = f"{kind}: {first.name} against {second.name}"
    if m < 2:
        why = f"{m} models have a value under both"
        nothing = Version(name, math.nan, undefined_interval(why))
        return Pair(kind, first, second, nothing, (math.nan,) * 2, n_models=m, n_prompts=n, reason=why)
    value = float(spearman(first.values[keep], second.values[keep]))
    draws = spearman(first.draws[:, keep], second.draws[:, keep])
    draws = np.where(np.isfinite(first.draws[:, keep] + second.draws[:, keep]).all(axis=1), draws, np.nan)
    moved = panel.generator(f"labels {name}").permuted(np.tile(second.values[keep], (PERMUTATIONS, 1)), axis=1)
    p = permutation_p(value, spearman(np.broadcast_to(first.values[keep], moved.shape), moved))
    interval = percentile_interval(draws, n)
    itself = (_self_agreement(panel, first, keep), _self_agreement(panel, second, keep))
    return Pair(kind, first, second, Version(name, value, interval, p), itself, m, n_prompts=n, reason=interval.reason)


def pairs(panel: Panel) -> tuple[list[Pair], list[str]]:
    """All pairs of temperatures and of windows that the study has, and what it lacks of them, in words."""
    arms = {str(a) for m in panel.trained for a in np.asarray(m.runs["arm"])[m.measured]}
    heats = [condition(panel, t, t) for t in TEMPERATURES if t in arms]
    own = sampled_arm(panel)
    windows = [condition(panel, f"from {s}", own, s) for s in STARTS]
    windows = [w for w in windows if np.isfinite(w.values).sum() >= 2]
    lacking = []
    absent = [t for t in TEMPERATURES if t not in arms]
    if absent:
        lacking.append(f"add [[arms]] with temperature = {', '.join(t[1:] for t in absent)} (samples = 3)")
    if len(windows) < len(STARTS):
        lacking.append(f"set max_new_tokens >= {STARTS[-1] + WINDOW + 2}, for windows of 64 values from 0, 64 and 128")
    out = []
    for kind, found in (("temperature", heats), ("window", windows)):
        out += [pair(panel, kind, a, b) for i, a in enumerate(found) for b in found[i + 1 :]]
    return out, lacking


def _r3(panel: Panel, found: list[Pair], lacking: list[str]) -> IntervalEvidence:
    """The evidence of R3."""
    measurable = [f for f in found if min(f.itself) >= SAME]
    fallen = [f for f in measurable if f.version.interval.hi < SAME]
    versions = [f.version for f in fallen or found]
    models = min((f.n_models for f in found), default=0)
    prompts = min((f.n_prompts for f in found), default=0)
    what = "; ".join(lacking)
    if not versions:
        versions = [Version("no two conditions", math.nan, undefined_interval(what or "no run has a value"))]
    wanted = [n for v in versions if (n := units_needed(v, SAME, prompts)) is not None]
    noisy = [f.version.name for f in found if f not in measurable and not f.version.interval.lo > SAME]
    return decided(
        versions,
        above(SAME),
        below(SAME),
        counts=counts(panel) | {"pairs of conditions": len(found)},
        n=models,
        needed=f"about {max(wanted)} prompts if these correlations hold (this study: {prompts})"
        if wanted
        else "more models or prompts",
        null=SAME,
        lacking="" if fallen or not (lacking or not found) else what or "no run has a value",
        requirements=(
            Requirement(
                "models", models >= FEWEST_MODELS, f"an order of {models} models says nothing", "at least four models"
            ),
            Requirement(
                "an order to compare",
                bool(fallen) or not noisy,
                f"split halves of the prompts agree below .7 in {'; '.join(noisy[:2])}",
                f"more prompts (this study: {prompts}), or models that differ more",
            ),
        ),
    )


def _rank_rows(panel: Panel, one: Consistency) -> list[dict]:
    """Mean of each model in each category with its prompt interval, and its rank there (1 = least)."""
    if one.y is None:
        return []
    means = one.y.mean(axis=3)
    m, c, p = means.shape
    weights = panel.generator(f"ranks {one.measure}").multinomial(p, np.full(p, 1 / p), size=panel.n_boot)
    draws = np.einsum("mcp,bp->bmc", means, weights) / p
    value, rank = means.mean(axis=2), rankdata(means.mean(axis=2), axis=0)
    rows = []
    for i, model in enumerate(one.cells.models):
        for j, category in enumerate(one.cells.categories):
            interval = percentile_interval(draws[:, i, j], p)
            rows.append(
                {
                    "measure": one.measure,
                    "model": model,
                    "category": category,
                    "mean": value[i, j],
                    **bounds(interval),
                    "rank": rank[i, j],
                    "n_prompts": p,
                    "n_runs": p * one.y.shape[3],
                }
            )
    return rows


def _order_row(one: Consistency) -> dict:
    found = one.found or OrderConsistency(*(math.nan,) * 3, undefined_interval(one.reason), 0)
    models, categories = one.cells.y.shape[:2]
    return {**picked(one, "measure p null reason"), "W": found.w, **picked(found, "ceiling gap n_prompts")} | {
        **bounds(found.interval),
        "n_models": models,
        "n_categories": categories,
        "arm": one.cells.arm,
    }


def _stability_row(one: Pair) -> dict:
    v, (first, second) = one.version, one.itself
    return (
        {"first": one.first.name, "second": one.second.name, **picked(one, "kind n_models n_prompts reason")}
        | {"spearman": v.estimate, **bounds(v.interval), "p": v.p, "self_first": first, "self_second": second}
        | {"n_runs": one.first.n_runs + one.second.n_runs}
    )


def order_evidence(panel: Panel, claims: Sequence[str] = CLAIMS) -> dict:
    """The evidence for R2 and R3, or one of them, as `analyse_order` gives it, without its tables."""
    make = {"R2": lambda: _r2(panel, consistency(panel, RATIO)), "R3": lambda: _r3(panel, *pairs(panel))}
    return {claim: make[claim]() for claim in claims}


def analyse_order(panel: Panel) -> Result:
    """Tables order_consistency, order_ranks and order_stability; evidence for R2 and R3."""
    orders = {m: consistency(panel, m) for m in (RATIO, MEAN_CT)}
    found, lacking = pairs(panel)
    return Result(
        filled(
            order_consistency=[_order_row(orders[m]) for m in reversed(MEASURES)],
            order_ranks=[r for m in reversed(MEASURES) for r in _rank_rows(panel, orders[m])],
            order_stability=[_stability_row(f) for f in found],
        ),
        evidence={"R2": _r2(panel, orders[RATIO]), "R3": _r3(panel, found, lacking)},
        notes=tuple(f"order of models over temperature and window: {what}" for what in lacking),
    )


ORDERS = declared("order", analyse_order, order_evidence, parted=True)
