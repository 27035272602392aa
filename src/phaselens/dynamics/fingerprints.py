"""Fingerprints: a model as the vector of medians over prompts of a list of observables fixed beforehand.

Values are [model, prompt, feature], one row per prompt (runs of one prompt averaged first: `by_prompt`), the same
prompts for every model. Features are scaled by their pooled within-model spread, so a distance of 1 along a feature is
one spread of prompts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.agreement import intraclass_correlation
from phaselens.statistics.intervals import Interval, jackknife_interval, percentile_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import bootstrap_weights, resampled_medians, resampled_ratio

DEPTHS = (0.25, 0.5, 0.75, 1.0)
SMALLEST = 0.1


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Scaled vectors [model, feature], the scale [feature] (unit of each feature), and which features were usable.

    A feature is dropped where it has no spread within models or is undefined for some model; the vectors hold the
    kept ones only.
    """

    vectors: np.ndarray
    scale: np.ndarray
    kept: np.ndarray


def layers_at(n_blocks: int, depths: Sequence[float] = DEPTHS) -> tuple[int, ...]:
    """Layers at relative depths, `round(depth L)`, halves to the even number, at least 1."""
    return tuple(max(1, round(depth * n_blocks)) for depth in depths)


def by_prompt(values: np.ndarray, prompt: np.ndarray, n_prompts: int) -> np.ndarray:
    """Mean over the runs of each prompt (unit of the values): [run, feature] -> [prompt, feature].

    NaN values are left out; NaN where a prompt has no defined value.
    """
    values, prompt = np.asarray(values, float), np.asarray(prompt)
    seen = np.isfinite(values)
    sums, counts = np.zeros((2, n_prompts, values.shape[1]))
    np.add.at(sums, prompt, np.where(seen, values, 0.0))
    np.add.at(counts, prompt, seen.astype(float))
    return np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)


def pooled_spread(values: np.ndarray) -> np.ndarray:
    """Standard deviation within models, pooled (unit of each feature): [model, prompt, feature] -> [feature].

    sqrt(sum over models of squares about the model's mean / sum of (prompts - 1)). NaN: no model has two values.
    """
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    filled = np.where(seen, values, 0.0)
    mean = filled.sum(axis=1) / np.maximum(count, 1)
    square = (np.where(seen, values - mean[:, None], 0.0) ** 2).sum(axis=(0, 1))
    freedom = np.maximum(count - 1, 0).sum(axis=0)
    return np.sqrt(np.divide(square, freedom, out=np.full(len(freedom), np.nan), where=freedom > 0))


def fingerprints(values: np.ndarray) -> Fingerprints:
    """Medians over prompts of each feature, scaled by the pooled within-model spread (spreads of prompts).

    Shapes: values [model, prompt, feature]. Moves with: the list of features (so it is fixed beforehand) and the
    prompts. Source: docs/definitions, section 6. Raises InputError for another shape or if no feature is usable.
    """
    values, scale, kept = _scaled(values)
    return Fingerprints(np.nanmedian(values, axis=1), scale, kept)


def resampled_fingerprints(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Fingerprints of the kept features in each resample of prompts, scaled as the whole (spreads of prompts).

    Shapes: values [model, prompt, feature], weights [n_boot, prompt] -> [n_boot, model, kept feature]. The scale is
    held: it belongs to the list of features, not to the resample.
    """
    scaled, _, _ = _scaled(values)
    return resampled_medians(np.moveaxis(scaled, 1, 0), weights)


def _scaled(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.asarray(values, float)
    if values.ndim != 3:
        raise InputError(f"values must be [model, prompt, feature]; got shape {values.shape}.")
    scale = pooled_spread(values)
    kept = (scale > 0) & np.isfinite(values).any(axis=1).all(axis=0)
    if not kept.any():
        raise InputError("no feature is defined for every model with some spread within models; nothing to compare.")
    return values[..., kept] / scale[kept], scale, kept


def squared_distances(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Mean squared difference over features both have: [..., n, feature], [..., m, feature] -> [..., n, m].

    NaN features are left out pair by pair; inf where two vectors share none.
    """
    seen_q, seen_g = np.isfinite(query), np.isfinite(gallery)
    q, g = np.where(seen_q, query, 0.0), np.where(seen_g, gallery, 0.0)
    turned = np.swapaxes(g, -1, -2)
    apart = (q**2) @ np.swapaxes(seen_g, -1, -2) + seen_q @ turned**2 - 2 * q @ turned
    shared = seen_q.astype(float) @ np.swapaxes(seen_g, -1, -2).astype(float)
    return np.divide(np.maximum(apart, 0.0), shared, out=np.full(apart.shape, np.inf), where=shared > 0)


@dataclass(frozen=True)
class Identification:
    """Share of models whose half-A fingerprint lies nearest to their own half-B one, and its permutation p.

    `accuracy` is the mean over splits, `chance` 1 / M; `within_group` counts a hit on a model of the same group (twins)
    as right; `interval` is the 2.5 to 97.5 % range over splits: it describes, prompts are shared between splits.
    `smallest` is the accuracy that 95 % of panels exceed whose models differ by `SMALLEST` spreads of prompts.
    """

    accuracy: float
    chance: float
    p: float
    within_group: float
    interval: Interval
    smallest: float = math.nan


def split_half_identification(
    values: np.ndarray,
    generator: np.random.Generator,
    *,
    groups: np.ndarray | None = None,
    n_splits: int = 1000,
    n_permutations: int = 199,
    splits_per_permutation: int = 20,
) -> Identification:
    """Identify models across random halves of the prompts (proportion, probability).

    p compares the accuracy over the first `splits_per_permutation` splits with the same splits after models were
    permuted within each prompt, which is exactly what "fingerprints do not depend on the model" allows. `smallest`
    is the 5 % point of that accuracy when each model is then moved by `SMALLEST` times the deviation of one prompt of
    one model, drawn at random: differences as the features have them together, a tenth as large.
    Shapes: values [model, prompt, feature], groups [model] (None: no twins). Raises InputError for fewer than four
    prompts or two models.
    """
    values = np.asarray(values, float)
    n_models, n_prompts = values.shape[:2]
    if n_models < 2 or n_prompts < 4:
        raise InputError(f"identification needs two models and four prompts; got {n_models} and {n_prompts}.")
    groups = np.arange(n_models) if groups is None else np.asarray(groups)
    order = np.argsort(generator.random((n_splits, n_prompts)), axis=1)
    first = (order < n_prompts // 2).astype(np.int16)
    found = _nearest(values, first)
    own = found == np.arange(n_models)
    same = groups[found] == groups
    some = first[:splits_per_permutation]
    null, planted = np.empty((2, n_permutations))
    deviation = np.nan_to_num(values - np.nanmean(values, axis=1, keepdims=True)).reshape(-1, values.shape[2])
    effects = generator.spawn(1)[0].integers(len(deviation), size=(n_permutations, n_models))
    for i in range(n_permutations):
        moved = np.argsort(generator.random((n_models, n_prompts)), axis=0)
        alike = np.take_along_axis(values, moved[..., None], axis=0)
        null[i] = (_nearest(alike, some) == np.arange(n_models)).mean()
        apart = SMALLEST * deviation[effects[i], None]
        planted[i] = (_nearest(alike + apart, some) == np.arange(n_models)).mean()
    per_split = own.mean(axis=1)
    p = permutation_p(float(per_split[:splits_per_permutation].mean()), null)
    spread = percentile_interval(per_split, n_prompts)
    smallest = float(np.quantile(planted, 0.05))
    return Identification(float(per_split.mean()), 1 / n_models, p, float(same.mean()), spread, smallest)


def _nearest(values: np.ndarray, first: np.ndarray) -> np.ndarray:
    """For each split and model the model of the other half whose fingerprint is nearest, int [split, model]."""
    scaled, _, _ = _scaled(values)
    halves = resampled_medians(np.moveaxis(scaled, 1, 0), np.concatenate([first, 1 - first]))
    return squared_distances(halves[: len(first)], halves[len(first) :]).argmin(axis=-1)


def recipe_identification(
    vectors: np.ndarray, recipe: np.ndarray, generator: np.random.Generator, *, n_permutations: int = 2000
) -> tuple[float, float]:
    """Share of models whose nearest other model has the same recipe, and its p with recipes permuted (1, probability).

    For fingerprints across seeds of one recipe. Shapes: vectors [model, feature], recipe [model]; only models whose
    recipe occurs twice are asked. NaN: there is none.
    """
    recipe = np.unique(np.asarray(recipe), return_inverse=True)[1]
    apart = squared_distances(vectors, vectors)
    np.fill_diagonal(apart, np.inf)
    nearest = apart.argmin(axis=1)

    def share(labels: np.ndarray) -> np.ndarray:
        twin = (labels[..., :, None] == labels[..., None, :]).sum(axis=-1) > 1
        hit = (labels[..., nearest] == labels) & twin
        with np.errstate(invalid="ignore"):
            return hit.sum(axis=-1) / twin.sum(axis=-1)

    moved = generator.permuted(np.broadcast_to(recipe, (n_permutations, len(recipe))), axis=1)
    value = float(share(recipe))
    return value, permutation_p(value, share(moved))


def leave_one_out_hits(values: np.ndarray) -> np.ndarray:
    """Whether one prompt's values lie nearest to their own model's fingerprint of all other prompts (bool).

    Shapes: values [model, prompt, feature] -> bool [model, prompt]. Scale and fingerprints come from the other prompts.
    """
    values = np.asarray(values, float)
    n_models, n_prompts = values.shape[:2]
    scaled, _, _ = _scaled(values)
    others = resampled_medians(np.moveaxis(scaled, 1, 0), 1 - np.eye(n_prompts, dtype=np.int16))
    apart = squared_distances(np.moveaxis(scaled, 1, 0), others)
    return (apart.argmin(axis=-1) == np.arange(n_models)).T


def leave_one_out_accuracy(
    values: np.ndarray, generator: np.random.Generator, *, n_boot: int = 2000
) -> tuple[float, Interval]:
    """Share of single prompts that tell their model (proportion), with its prompt-bootstrap interval; chance 1 / M.

    The fingerprints themselves are held while prompts are resampled. Shapes: values [model, prompt, feature].
    """
    per_prompt = leave_one_out_hits(values).mean(axis=0)
    draws = resampled_ratio(
        per_prompt, np.ones_like(per_prompt), bootstrap_weights(len(per_prompt), generator, n_boot=n_boot)
    )
    return float(per_prompt.mean()), percentile_interval(draws, len(per_prompt))


@dataclass(frozen=True)
class Discrimination:
    """How well a number tells models apart under two versions of it: ICC of each, difference, and its interval."""

    first: float
    second: float
    difference: float
    interval: Interval
    n_prompts: int


def icc_difference(first: np.ndarray, second: np.ndarray) -> Discrimination:
    """ICC(C,1) of models under two versions of a number, first less second (1), paired by prompt.

    Consistency, since all models answer the same prompts: a level that a prompt gives to all of them hides no model.
    The interval is the jackknife over prompts; percentiles of resampled prompts lie too close together (10-15 % of
    panels without a difference were told apart at 8 to 24 prompts, with the jackknife 3-6 %).
    Shapes: first, second [model, prompt], the same prompts; prompts undefined for a model in either are left out of
    both. NaN: fewer than two models or prompts. Source: docs/definitions, section 1 and claim N1.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(f"two versions [model, prompt] of one number are needed; got {first.shape}, {second.shape}.")
    usable = np.isfinite(first).all(axis=0) & np.isfinite(second).all(axis=0)
    (one, without_one), (two, without_two) = (icc_without(y[:, usable]) for y in (first, second))
    n = int(usable.sum())
    return Discrimination(one, two, one - two, jackknife_interval(one - two, without_one - without_two), n)


def icc_without(y: np.ndarray) -> tuple[float, np.ndarray]:
    """ICC(C,1) of models over prompts (1), and the same without each prompt: [model, prompt] -> float, [prompt].

    NaN: fewer than two models, fewer than two prompts (three for the second).
    """
    n = y.shape[1]
    left = np.ones((n, n), dtype=int) - np.eye(n, dtype=int)
    whole = float(intraclass_correlation(y, kind="consistency")[0])
    return whole, intraclass_correlation(y, left, kind="consistency") if n else np.empty(0)
