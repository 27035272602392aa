"""Groups of a panel under one version of a quantity, and what is left of them under another version."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.agreement import adjusted_rand
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.separation import TWO, Null, Separation, best_partition, separation, uniform_null


@dataclass(frozen=True, eq=False)
class Split:
    """The S test of one version of a quantity over the models of a panel.

    `values` holds one number per model (on the scale of the test, usually a logarithm), `draws` [B, M] the same under
    the prompt bootstrap, `test` the S test of all models, `without_twins` of those that are no twin of another, and
    `interval` the prompt-bootstrap interval of S: how S moves with other prompts, the models held fixed. Resampling
    adds noise within groups, so it lies mostly below the estimate; it decides nothing.
    """

    version: str
    models: tuple[str, ...]
    values: np.ndarray
    draws: np.ndarray
    dropped: tuple[str, ...]
    n_prompts: int
    test: Separation
    without_twins: Separation
    interval: Interval

    @property
    def complete(self) -> bool:
        """Whether every model has a value."""
        return bool(np.isfinite(self.values).all())

    @property
    def p(self) -> float:
        """The larger of the p-values with twins in and with twins dropped (probability).

        NaN where either is undefined.
        """
        return max(self.test.p, self.without_twins.p) if not math.isnan(self.without_twins.p) else math.nan


def split(
    version: str,
    models: tuple[str, ...],
    values: np.ndarray,
    draws: np.ndarray,
    generator: np.random.Generator,
    *,
    twins: tuple[bool, ...],
    n_prompts: int,
    null: Null = uniform_null,
    among: Sequence[int] = TWO,
) -> Split:
    """Test one version over a panel, for groups of the numbers `among`.

    Shapes: values [M], draws [B, M], twins bool [M] (True: dropped once).

    NaN: as `separation`; a model without a value takes no part. Raises InputError where the lengths differ.
    """
    values, draws = np.asarray(values, float), np.asarray(draws, float)
    if not len(models) == len(values) == len(twins) == draws.shape[1]:
        raise InputError(
            f"one value, draw column and twin mark per model; got {len(models)}, {values.shape}, {draws.shape}."
        )
    kept = ~np.asarray(twins, bool)
    test = separation(values, generator, null=null, among=among)
    without = separation(values[kept], generator, null=null, among=among) if not kept.all() else test
    seen = np.isfinite(values)
    of_s = (
        percentile_interval(best_partition(draws[:, seen], test.k)[0], n_prompts)
        if not test.reason
        else undefined_interval(test.reason)
    )
    dropped = tuple(m for m, t in zip(models, twins, strict=True) if t)
    return Split(version, models, values, draws, dropped, n_prompts, test=test, without_twins=without, interval=of_s)


def same_grouping(base: Split, other: Split) -> float:
    """Adjusted Rand index of the two groupings (1) over the models that both place.

    NaN: fewer than four such models.
    """
    _same_models(base, other)
    first, second = np.asarray(base.test.groups), np.asarray(other.test.groups)
    both = (first >= 0) & (second >= 0)
    return adjusted_rand(first[both], second[both]) if both.sum() >= 4 else math.nan


def gap_kept(base: Split, other: Split) -> tuple[float, Interval]:
    """Share of the gap between the groups of `base` that is left in the values of `other` (1), with its interval.

    Slope of the group means of `other` on those of `base`, groups those of `base`, weighted by their models that both
    have; with two groups `(mean_upper(other) - mean_lower(other)) / (mean_upper(base) - mean_lower(base))`. 1: all of
    it is left; 0: nothing; negative: turned round. The interval is of the prompt bootstrap.
    NaN: `base` has no grouping, or no common model in one group. Keeps: a shift of either. Moves with: the scale of
    either, so both must be on one scale.
    """
    _same_models(base, other)
    groups = np.asarray(base.test.groups)
    usable = np.isfinite(base.values) & np.isfinite(other.values)
    member = np.stack([usable & (groups == g) for g in range(max(base.test.k, 1))])
    if base.test.reason or not member.any(axis=1).all():
        return math.nan, undefined_interval(base.test.reason or "no model of one group has both values")
    size = member.sum(axis=1)

    def means(values: np.ndarray) -> np.ndarray:
        found = np.where(usable, values, 0.0) @ member.T / size
        return found - found @ size[:, None] / size.sum()

    def slope(of: np.ndarray, on: np.ndarray) -> np.ndarray | np.float64:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (size * means(of) * means(on)).sum(-1) / (size * means(on) ** 2).sum(-1)

    n_prompts = min(base.n_prompts, other.n_prompts)
    kept = float(slope(other.values, base.values))
    return kept, percentile_interval(np.asarray(slope(other.draws, base.draws)), n_prompts)


def _same_models(base: Split, other: Split) -> None:
    if base.models != other.models:
        raise InputError(f"two splits of the same models are needed; got {base.models} and {other.models}.")
