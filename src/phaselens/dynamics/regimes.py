"""Regimes of a run from its instability series: ratio_norm, its companions, and the labels.

`instability` (ct) is the step length times the turning angle along tokens at one layer, in radians; it is defined from
step 2. The published bands are a comparison column and decide nothing: healthy text of small real models lies below
all of them.
"""

import math
from dataclasses import dataclass

import numpy as np

from phaselens.dynamics.published_figures import BANDS
from phaselens.errors import InputError

WINDOW = 64
FROZEN_MEAN = 1e-8  # rad: below it the mean is rounding, and a ratio to it says nothing
REGIMES = tuple(band.name for band in BANDS)
PUBLISHED_BANDS = tuple((band.low, band.high) for band in BANDS)
PUBLISHED_CUTS = (1.985, 2.945, 3.695)
PUBLISHED_RANGE = (1.55, 35.55)


@dataclass(frozen=True)
class Ratio:
    """One number per run, float64 [run], with the reason where it is NaN ("" where it is not)."""

    value: np.ndarray
    reason: tuple[str, ...]


def window_values(ct: np.ndarray, *, window: int = WINDOW, skip: int = 0) -> tuple[np.ndarray, tuple[str, ...]]:
    """The first `window` consecutive defined values of each run (unit of ct), and why there are none.

    Starts `skip` values after the first defined one. Shapes: ct [run, step] -> [run, window].
    NaN: the whole row, with a reason: no defined value; fewer values than the window; an undefined value inside it.
    """
    ct = np.asarray(ct, float)
    if ct.ndim != 2 or window < 1 or skip < 0:
        raise InputError(f"ct must be [run, step], window >= 1, skip >= 0; got shape {ct.shape}, {window}, {skip}.")
    seen = np.isfinite(ct)
    start = np.where(seen.any(axis=1), seen.argmax(axis=1) + skip if ct.shape[1] else 0, 0)
    padded = np.concatenate([ct, np.full((len(ct), window + skip), np.nan)], axis=1)
    values = np.take_along_axis(padded, start[:, None] + np.arange(window), axis=1)
    whole = np.isfinite(values).all(axis=1)
    after = np.arange(ct.shape[1]) >= start[:, None]
    count = (seen & after).sum(axis=1)
    reason = [
        "" if w else _why(n, seen[i, start[i] :], window) for i, (w, n) in enumerate(zip(whole, count, strict=True))
    ]
    return np.where(whole[:, None], values, np.nan), tuple(reason)


def _why(count: int, seen: np.ndarray, window: int) -> str:
    """Why a run has no window: `count` of defined values and `seen` from the window's start on."""
    if not count:
        return "no defined value"
    if seen[window - 1 :].any():
        return "an undefined value inside the window"
    return f"short: {count} of {window} values"


def max_over_mean(values: np.ndarray, reason: tuple[str, ...]) -> Ratio:
    """Maximum over mean of each row (1), in [1, number of values].

    NaN, with reason "frozen": the mean is below 1e-8. Shapes: values [run, value], NaN entries left out. Keeps: a
    positive factor, the order of the values. Moves with: the number of values (the maximum grows with it), a single
    outlier.
    """
    values = np.asarray(values, float)
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    mean = np.where(seen, values, 0.0).sum(axis=1) / np.maximum(count, 1)
    top = np.where(seen, values, -np.inf).max(axis=1, initial=-np.inf)
    frozen = (count > 0) & (mean < FROZEN_MEAN)
    usable = (count > 0) & ~frozen
    ratio = np.divide(top, mean, out=np.full(len(values), np.nan), where=usable)
    why = tuple(
        r or ("frozen" if f else "" if u else "no defined value")
        for r, f, u in zip(reason, frozen, usable, strict=True)
    )
    return Ratio(ratio, why)


def ratio_norm(ct: np.ndarray, *, window: int = WINDOW) -> Ratio:
    """Maximum over mean of the first 64 instabilities of each run (1), in [1, 64].

    `max(ct) / mean(ct)` over exactly `window` consecutive defined values from the first, so all runs have the same
    number of values. Shapes: ct [run, step]. NaN, with a reason: too short, an undefined value inside, or frozen (mean
    < 1e-8). Constant ct gives 1; one non-zero value gives `window`. Keeps: a positive factor on ct. Moves with: the
    window, outliers (a first state that lies apart gives 3-12 by itself), the share of frozen steps (factor 1 / (1 -
    f)). Source: the published series names it; window and minimum mean are fixed here.
    """
    return max_over_mean(*window_values(ct, window=window))


def ratio_without_first(ct: np.ndarray, *, window: int = WINDOW, skip: int = 3) -> Ratio:
    """`ratio_norm` from the fourth defined value on (1): what is left without a first state that lies apart.

    Instability at step s reads states s-2..s, so state 0 (the last of the prompt) touches s = 2 only, and state 1
    touches s = 2 and 3; three values are skipped so that neither counts, and the ones after an outlier at state 2
    neither. NaN as `ratio_norm`.
    """
    return max_over_mean(*window_values(ct, window=window, skip=skip))


def ratio_without_frozen(ct: np.ndarray, frozen: np.ndarray, *, window: int = WINDOW) -> Ratio:
    """Maximum over mean of the values of the window whose step is not frozen (1).

    A run frozen for a share f has `r0 / (1 - f)`; this is r0. Shapes: ct, frozen [run, step] (frozen 0, 1 or NaN).
    NaN, with a reason: as `ratio_norm`, and where fewer than half of the window's steps move.
    """
    ct, frozen = np.asarray(ct, float), np.asarray(frozen, float)
    values, reason = window_values(ct, window=window)
    # frozen is read where ct is defined, so that both windows start together
    still = window_values(np.where(np.isfinite(ct), np.nan_to_num(frozen), np.nan), window=window)[0] > 0.5
    count = still.sum(axis=1)
    stuck = 2 * count > window
    why = tuple(
        r or (f"frozen in {n} of {window} steps" if s else "") for r, n, s in zip(reason, count, stuck, strict=True)
    )
    return max_over_mean(np.where(still | stuck[:, None], np.nan, values), why)


def q95_over_median(ct: np.ndarray, *, window: int = WINDOW) -> Ratio:
    """95th percentile over median of the same window (1), >= 1: the companion of ratio_norm that one value cannot move.

    NaN, with a reason: as `ratio_norm`; median below 1e-8 counts as frozen.
    """
    values, reason = window_values(ct, window=window)
    defined = np.isfinite(values).all(axis=1)
    out = np.full(len(values), np.nan)
    median = np.zeros(len(values))
    median[defined] = np.median(values[defined], axis=1)
    usable = median >= FROZEN_MEAN
    out[usable] = np.quantile(values[usable], 0.95, axis=1) / median[usable]
    why = (r or ("" if u else "frozen") for r, u in zip(reason, usable, strict=True))
    return Ratio(out, tuple(why))


def late_ct(ct: np.ndarray) -> np.ndarray:
    """Mean instability over the last quarter of a run, at least four values (rad).

    Last `max(4, ceil(n_ct / 4))` defined values. Shapes: ct [run, step] -> [run]. NaN: fewer than four defined values.
    """
    out = np.full(len(ct), np.nan)
    for row, series in enumerate(np.asarray(ct, float)):
        values = series[np.isfinite(series)]
        if len(values) >= 4:
            out[row] = values[-max(4, math.ceil(len(values) / 4)) :].mean()
    return out


def run_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the defined values of each run (unit of the values); [run, step] -> [run]. NaN: no defined value."""
    values = np.asarray(values, float)
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    return np.divide(np.where(seen, values, 0.0).sum(axis=1), count, out=np.full(len(values), np.nan), where=count > 0)


def label_of(values: np.ndarray, cuts: tuple[float, ...]) -> np.ndarray:
    """Index of the regime of each value, 0..3 in the order of `REGIMES`, -1 where the value (or a cut) is NaN.

    A value on a cut belongs to the regime above it. Shapes: [...] -> int [...].
    """
    values = np.asarray(values, float)
    index = np.searchsorted(np.asarray(cuts, float), values, side="right")
    return np.where(np.isfinite(values) & bool(np.isfinite(cuts).all()), index, -1)


def published_label(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nominal regime of each ratio_norm (index into `REGIMES`, -1 where NaN); whether it lies outside all bands.

    Bands U 1.55-1.70, A 2.27-2.92, T about 2.97, C 4.42-35.55, cut at midpoints: U < 1.985 <= A < 2.945 <= T < 3.695
    <= C. Below 1.55 and above 35.55 the label is kept and the second array is True. A comparison column; decides
    nothing.
    """
    values = np.asarray(values, float)
    outside = (values < PUBLISHED_RANGE[0]) | (values > PUBLISHED_RANGE[1])
    return label_of(values, PUBLISHED_CUTS), outside


def panel_cuts(calibration: np.ndarray) -> tuple[float, float, float]:
    """Quartiles of ratio_norm over the panel's calibration runs (1): the cuts of the `_panel` labels.

    Shapes: [n], NaN left out. NaN: fewer than four defined calibration runs, so no label is given.
    """
    values = np.asarray(calibration, float)
    values = values[np.isfinite(values)]
    if len(values) < 4:
        return math.nan, math.nan, math.nan
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return low, middle, high


def label_shares(labels: np.ndarray) -> tuple[float, ...]:
    """Share of each regime among the labels that are given (proportion), four values; NaN: no label is given."""
    given = np.asarray(labels)[np.asarray(labels) >= 0]
    if not len(given):
        return (math.nan,) * len(REGIMES)
    return tuple(float((given == i).mean()) for i in range(len(REGIMES)))
