"""Scores of a run that might say whether its answer is right, each from stored columns of the run alone."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata

from phaselens.dynamics.regimes import run_mean
from phaselens.statistics.logistic_regression import held_out_probability

EARLY = 8
FOLDS = 5
PSEUDO = 0.5  # Jeffreys: a transition that was not seen is rare, and not impossible
COMPONENTS = 64


def early_value(values: np.ndarray, *, steps: int = EARLY) -> np.ndarray:
    """Mean of the defined values among the first 8 steps (their unit): [run, step] -> [run]; NaN where none is."""
    return run_mean(np.asarray(values)[:, :steps])


def slope(values: np.ndarray) -> np.ndarray:
    """Least-squares slope of each run over its steps (unit per step): [run, step] -> [run]; NaN below 3 values."""
    x = np.asarray(values, float)
    seen = np.isfinite(x)
    step = np.arange(x.shape[1], dtype=float)
    n = seen.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = np.where(seen, step - (seen * step).sum(1, keepdims=True) / n[:, None], 0.0)
        out = (centred * np.where(seen, x, 0.0)).sum(1) / (centred**2).sum(1)
    return np.where(n >= 3, out, np.nan)


def prefix_means(values: np.ndarray, upto: int = 16) -> np.ndarray:
    """Mean of the defined values of the first 1, 2, ... steps (their unit): [run, step] -> [run, upto]; NaN: none."""
    x = np.asarray(values, float)[:, :upto]
    seen = np.isfinite(x)
    with np.errstate(invalid="ignore", divide="ignore"):
        out = np.cumsum(np.where(seen, x, 0.0), 1) / np.cumsum(seen, 1)
    more = ((0, 0), (0, max(0, upto - out.shape[1])))
    return np.pad(out, more, mode="edge") if out.shape[1] else np.full((len(x), upto), np.nan)


def commitment_trap(commitment: np.ndarray, step_length: np.ndarray, lens_sync: np.ndarray) -> np.ndarray:
    """How deep a run of one model sits in a commitment trap, 0..1: high commitment x short steps x little sync.

    Product of the ranks (each over the number of runs) of `commitment`, `-step_length` and `-lens_sync`, run means of
    one model. Shapes [run]. NaN where one of the three is. Keeps: any rising map of each.
    """
    parts = [np.asarray(v, float) * s for v, s in ((commitment, 1), (step_length, -1), (lens_sync, -1))]
    known = np.isfinite(np.stack(parts)).all(axis=0)
    out = np.full(len(known), np.nan)
    if known.any():
        out[known] = np.prod([rankdata(part[known]) / known.sum() for part in parts], axis=0)
    return out


def resolved_turbulence(turbulence: np.ndarray) -> np.ndarray:
    """How much of a run's early peak of turbulence is gone at its end (1): [run, step] -> [run].

    Largest mean of a quarter in the first half, less the mean of the last quarter, over the mean of the run. Above 0:
    resolved. NaN: fewer than 8 defined values, or a mean of 0.
    """
    x = np.asarray(turbulence, float)
    out = np.full(len(x), np.nan)
    for i, row in enumerate(x):
        seen = row[np.isfinite(row)]
        if len(seen) >= EARLY and seen.mean() > 0:
            quarters = [part.mean() for part in np.array_split(seen, 4)]
            out[i] = (max(quarters[:2]) - quarters[3]) / seen.mean()
    return out


def grammar_violation(
    states: np.ndarray, right: np.ndarray, units: np.ndarray, generator: np.random.Generator, *, n_states: int
) -> np.ndarray:
    """How unlike the runs with right answers the order of a run's states is (nats per step): [run].

    Negative log-likelihood per transition under the chain fitted on right runs of other units (5 folds by unit; half a
    count added to every transition). Shapes: states int [run, step], -1 where a step has none; right bool [run]; units
    [run]. NaN: no transition, or no right run to fit on.
    """
    s = np.asarray(states)
    _, unit = np.unique(np.asarray(units), return_inverse=True)
    fold = generator.permutation(int(unit.max()) + 1 if len(unit) else 0)[unit] % FOLDS
    before, after = s[:, :-1], s[:, 1:]
    known = (before >= 0) & (after >= 0)
    out = np.full(len(s), np.nan)
    for k in range(FOLDS):
        fit = known & ((fold != k) & right)[:, None]
        if not fit.any():
            continue
        counts = np.full((n_states, n_states), PSEUDO)
        np.add.at(counts, (before[fit], after[fit]), 1.0)
        cost = -np.log(counts / counts.sum(1, keepdims=True))
        here = fold == k
        costs = np.where(known[here], cost[before[here], after[here]], np.nan)
        out[here] = run_mean(costs)
    return out


def answer_probe(
    states: np.ndarray, wrong: np.ndarray, units: np.ndarray, generator: np.random.Generator, *, most: int = COMPONENTS
) -> np.ndarray:
    """Linear probe of a wrong answer from the states it begins with (log odds less their constant): [run].

    Regularised logistic regression on the leading 64 principal components (of all runs, labels unseen), no more than a
    tenth of the runs; every run is scored by a fit that never saw its unit. Shapes: states [run, d_model], wrong 0 or 1
    [run], units [run]. NaN: a state that is not finite, or as `held_out_probability`.
    """
    x = np.asarray(states, float)
    known = np.isfinite(x).all(1)
    out = np.full(len(x), np.nan)
    if known.sum() < 2:
        return out
    centred = x[known] - x[known].mean(0)
    _, size, directions = np.linalg.svd(centred, full_matrices=False)
    kept = min(most, max(1, int(known.sum()) // 10), int((size > 1e-6 * size[0]).sum()) if size[0] else 0)
    if kept:
        y, unit = np.asarray(wrong, float)[known], np.asarray(units)[known]
        out[known] = held_out_probability(centred @ directions[:kept].T, y, unit, generator, constant=False)
    return out


def cycle_start(tokens: Sequence[int], *, longest_period: int = 20, fewest: int = 16) -> int:
    """The step at which the stretch that repeats to the end of a text begins (step); -1 where none does.

    Over periods of at most 20 tokens the longest stretch that ends the text; it counts from 16 tokens and two whole
    cycles on. Its first cycle is part of it.
    """
    t = np.asarray(tokens)
    best = -1
    for period in range(1, min(longest_period, len(t) // 2) + 1):
        apart = np.flatnonzero(t[period:] != t[:-period])
        start = int(apart[-1]) + 1 if len(apart) else 0
        length = len(t) - start
        if length >= max(fewest, 2 * period) and (best < 0 or start < best):
            best = start
    return best


def repetition(tokens: Sequence[int]) -> float:
    """Share of tokens among the last 32 that were said before among them (1); NaN for an empty text."""
    last = list(tokens)[-32:]
    return 1 - len(set(last)) / len(last) if last else float("nan")
