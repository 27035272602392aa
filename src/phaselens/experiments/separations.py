"""The S test over a panel: one number per model with its prompt-bootstrap draws, tested, and written as one row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phaselens.claims import LEVEL, SMALLEST_GAP, Outcome, SplitEvidence
from phaselens.experiments.base import ModelData, Panel, shape_of
from phaselens.experiments.result_tables import bounds, json_value
from phaselens.statistics.panel_groups import Split, split
from phaselens.statistics.separation import (
    SMALLEST_PANEL,
    TWO,
    largest_p,
    models_for_power,
    models_for_significance,
    p_values,
    power,
    shares,
)

GAPS = (6, 8, 10)


@dataclass(frozen=True, eq=False)
class Estimate:
    """One number of one model with its prompt-bootstrap draws [B]; NaN with a reason where it is undefined."""

    value: float
    draws: np.ndarray
    reason: str = ""


def log_estimate(estimate: Estimate) -> Estimate:
    """The natural logarithm of an estimate and its draws; NaN where not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value, draws = np.log(estimate.value), np.log(estimate.draws)
    return Estimate(
        float(value) if np.isfinite(value) else float("nan"),
        np.where(np.isfinite(draws), draws, np.nan),
        estimate.reason,
    )


def panel_split(
    panel: Panel, claim: str, version: str, estimates: Mapping[str, Estimate], *, among: Sequence[int] = TWO
) -> Split:
    """The S test over the trained models; `estimates` by model name (of the trained original, for untrained twins).

    A trained model without an estimate takes no part.
    """
    names = tuple(m.info.name for m in panel.trained)
    absent = Estimate(float("nan"), np.full(panel.n_boot, np.nan), "not in this version")
    chosen = [estimates.get(n, absent) for n in names]
    return split(
        version,
        names,
        np.array([e.value for e in chosen]),
        np.stack([e.draws for e in chosen], axis=1) if chosen else np.empty((panel.n_boot, 0)),
        panel.generator(f"{claim} {version}"),
        twins=tuple(m.info.twin_of is not None for m in panel.trained),
        n_prompts=len(panel.units),
        null=panel.null,
        among=among,
    )


def separation_row(claim: str, tested: Split, *, among: tuple[int, ...] = TWO) -> dict:
    """One row of results/separation.json; None where undefined, with `reason`."""
    test, without = tested.test, tested.without_twins
    powers = panel_power(test.m, among)
    row = {
        "claim": claim,
        "version": tested.version,
        "S": test.s,
        **bounds(tested.interval),
        "p": test.p,
        **bounds(test.p_interval, "p"),
        "critical": test.critical,
        "n_groups": test.k,
        "groups": {m: g for m, g in zip(tested.models, test.groups, strict=True) if g >= 0},
        "values": dict(zip(tested.models, tested.values, strict=True)),
        "dropped": list(tested.dropped),
        "S_without_twins": without.s,
        "p_without_twins": without.p,
        **{f"power_{gap}": powers[gap] for gap in GAPS},
        "M": test.m,
        "reason": test.reason or tested.interval.reason,
    }
    return json_value(row)


@lru_cache(maxsize=64)
def panel_power(m: int, among: tuple[int, ...] = TWO) -> dict[int, float]:
    """Power of the S test for two groups of M models at 6, 8 and 10 within-group SDs.

    A constant of M, so its draws have their own seed.
    """
    return {gap: power(m, gap, np.random.default_rng([m, gap]), among=among) for gap in GAPS}


@lru_cache(maxsize=64)
def panel_largest_p(m: int, among: tuple[int, ...] = TWO) -> float:
    """The p that 95 % of panels of M models with groups 6 SDs apart stay below (a constant of M)."""
    return largest_p(m, SMALLEST_GAP, np.random.default_rng([m, SMALLEST_GAP, 95]), among=among)


@lru_cache(maxsize=4)
def enough_models(among: tuple[int, ...] = TWO) -> int | None:
    """Least number of models with power .8 at 8 SD (a constant)."""
    return models_for_power(8, np.random.default_rng(8), among=among)


def evidence(
    panel: Panel,
    tested: Split,
    outcomes: tuple[Outcome, ...],
    *,
    base: Split | None = None,
    lacking: str = "",
    among: tuple[int, ...] = TWO,
) -> SplitEvidence:
    """All that a judge needs beside the split itself: power, counts, and the numbers of models that would settle it."""
    judged = tested if base is None else base
    trainings = len({(shape_of(m.info), m.info.training_seed) for m in panel.trained if m.info.twin_of is None})
    weakest = min((judged.test.s, judged.without_twins.s), default=float("nan"))
    return SplitEvidence(
        split=tested,
        outcomes=outcomes,
        power=panel_power(tested.test.m, among),
        largest_p=panel_largest_p(tested.test.m, among),
        excluded=trainings >= SMALLEST_PANEL and _excluded(panel, tested, among),
        counts=counts(panel) | {"trainings told apart": trainings},
        base=base,
        models_for_power=enough_models(among),
        models_for_split=None
        if np.isnan(weakest) or among != TWO
        else models_for_significance(weakest, panel.generator("models needed"), null=panel.null),
        lacking=lacking,
    )


def _excluded(panel: Panel, tested: Split, among: tuple[int, ...]) -> bool:
    """Whether groups 6 SDs apart are excluded, twins in and twins dropped, and not by one model alone."""
    both = (tested.test, tested.without_twins)
    beyond = all(t.p > LEVEL and t.p > panel_largest_p(t.m, among) for t in both)
    return beyond and not _by_one_model(panel, tested, among)


def _by_one_model(panel: Panel, tested: Split, among: tuple[int, ...]) -> bool:
    """Whether groups are no longer excluded without the lowest or the highest model: one far off hides any groups."""
    x = np.sort(tested.values[np.isfinite(tested.values)])
    if len(x) <= SMALLEST_PANEL:
        return True
    left = np.stack([x[1:], x[:-1]])
    drawn = panel.null(len(x) - 1, panel.generator("left out"), among=among)
    least = p_values(shares(left, among), drawn)[0].min()
    return bool(least <= max(panel_largest_p(len(x) - 1, among), LEVEL))


def counts(panel: Panel) -> dict[str, int]:
    """Models, untrained twins, prompts, units and runs that stand behind the panel's numbers (counts)."""
    return {
        "models": len(panel.trained),
        "untrained twins": len(panel.models) - len(panel.trained),
        "prompts": len(panel.prompts),
        "units": len(panel.units),
        "runs": sum(int(m.measured.sum()) for m in panel.trained),
    }


def of_twins(panel: Panel, estimates: Mapping[str, Estimate]) -> dict[str, Estimate]:
    """Estimates of the untrained twins under the names of their originals."""
    pairs = ((m.info.name, panel.untrained_twin(m.info.name)) for m in panel.trained)
    return {name: estimates[twin.info.name] for name, twin in pairs if twin is not None and twin.info.name in estimates}


def n_prompts_of(panel: Panel, model: ModelData, usable: np.ndarray) -> int:
    """Number of units with at least one usable run (count). Shapes: usable bool [run]."""
    index = panel.unit_index(model)
    return len(np.unique(index[usable & (index >= 0)]))
