"""Kaplan-Meier with right censoring, from counts, so that resamples and surrogates are one more dimension."""

import math

import numpy as np

from phaselens.errors import InputError


def life_table(
    duration: np.ndarray, event: np.ndarray, *, last: int, group: np.ndarray | None = None, n_groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """How many subjects have their event, and how many are censored, at each whole time 0..last (counts).

    Times beyond `last` are counted as censored at `last` (still there at the end). Add tables over groups, or multiply
    by the counts of a resample, to pool them.
    Shapes: duration int [n], event bool [n], group int [n] -> two int64 [n_groups, last + 1].
    Raises InputError for a negative or undefined duration.
    """
    duration, event = np.asarray(duration), np.asarray(event, bool)
    if duration.shape != event.shape or duration.ndim != 1 or last < 0:
        raise InputError(f"duration and event must be [n], last >= 0; got {duration.shape}, {event.shape}, {last}.")
    if len(duration) and (not np.isfinite(duration).all() or (duration < 0).any() or (duration % 1).any()):
        raise InputError("durations are whole numbers of steps, 0 or more, and none is undefined.")
    event = event & (duration <= last)
    at = np.minimum(duration, last).astype(np.int64)
    code = at if group is None else np.asarray(group, np.int64) * (last + 1) + at
    size = n_groups * (last + 1)
    events = np.bincount(code[event], minlength=size).reshape(n_groups, last + 1)
    censored = np.bincount(code[~event], minlength=size).reshape(n_groups, last + 1)
    return events, censored


def survival(events: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """Kaplan-Meier probability of no event up to and including each time (proportion).

    `S(t) = prod_{u <= t} (1 - d_u / n_u)`, n_u those with no event and not censored before u; one censored at u counts
    as at risk at u. Shapes: events, censored [..., time] (counts or weights) -> [..., time].
    NaN: times at which nobody is at risk while the curve is above 0 (it is unknown from there on).
    Source: Kaplan and Meier 1958.
    """
    events, at_risk = np.asarray(events, float), risk(events, censored)
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = np.where(at_risk > 0, 1 - events / at_risk, np.nan)
    curve = np.cumprod(kept, axis=-1)
    ended = np.maximum.accumulate(np.where(at_risk > 0, kept == 0, False), axis=-1)
    return np.where(ended, 0.0, curve)


def risk(events: np.ndarray, censored: np.ndarray) -> np.ndarray:
    """How many are at risk just before each time (counts), [..., time]."""
    leaving = np.asarray(events, float) + np.asarray(censored, float)
    return np.flip(np.cumsum(np.flip(leaving, axis=-1), axis=-1), axis=-1)


def event_share(events: np.ndarray, censored: np.ndarray, at: int) -> np.ndarray | np.float64:
    """Share with an event up to and including time `at`, censoring taken out (proportion), [...]: `1 - S(at)`.

    NaN: nobody was followed that far. Raises InputError for a time beyond the table.
    """
    if not 0 <= at < np.shape(events)[-1]:
        raise InputError(f"the table holds times 0..{np.shape(events)[-1] - 1}; got {at}.")
    return 1 - survival(events, censored)[..., at]


def event_rate(events: np.ndarray, censored: np.ndarray, at: int) -> np.ndarray | np.float64:
    """Events per step at risk up to and including time `at` (1 / step), [...]: `sum d_t / sum n_t`, t = 1..at.

    It tells curves apart that all have come to 0 by then, and needs nobody to be followed so far.
    NaN: nobody was at risk at time 1. Raises InputError for a time beyond the table.
    Source: the occurrence / exposure rate, e.g. Aalen, Borgan and Gjessing 2008, section 5.1.
    """
    if not 0 < at < np.shape(events)[-1]:
        raise InputError(f"the table holds times 0..{np.shape(events)[-1] - 1}; got {at}.")
    exposure = risk(events, censored)[..., 1 : at + 1].sum(axis=-1)
    seen = np.asarray(events, float)[..., 1 : at + 1].sum(axis=-1)
    return np.divide(seen, exposure, out=np.full(np.shape(exposure), math.nan), where=exposure > 0)
