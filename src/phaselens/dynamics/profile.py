"""How instability is spread over a run: values normalised by a calibration, debt, and the profile over four quarters.

Centre and scale come from calibration runs of the same model and layer, never from the run itself. ct is the
instability along tokens, in radians, [..., step], NaN where undefined.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import theilslopes

from phaselens.dynamics.regimes import late_ct as late_ct  # the late value belongs to the profile; it is defined there
from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights, resampled_ratio

MAD_TO_SD = 1.4826  # 1 / Phi^-1(3/4): the MAD of a Gaussian to its SD
IQR_TO_SD = 1.349  # 2 Phi^-1(3/4)
CLIP = 5.0
TAU_SCALES = 3.0
SEGMENTS = 4
FEWEST_STEPS = 32
LATE_RATIO = 1.5


@dataclass(frozen=True, eq=False)
class ValueCalibration:
    """Robust centre and spread of ct over calibration runs, float64 [...] (rad); the spread is NaN where there is none.

    `tau` is the threshold of `instability_debt`: centre + 3 x spread.
    """

    centre: np.ndarray
    scale: np.ndarray

    @property
    def tau(self) -> np.ndarray:
        """Centre plus three spreads (rad): what counts as high for this model."""
        return self.centre + TAU_SCALES * self.scale


def fit_values(ct: np.ndarray) -> ValueCalibration:
    """Median and 1.4826 MAD of calibration values (rad); MAD 0 gives IQR / 1.349, and 0 again no spread (NaN).

    Shapes: ct [..., value], all values of the calibration runs of one model (and layer); NaN left out.
    Moves with: the calibration prompts. Source: docs/definitions, section 1.
    """
    ct = np.asarray(ct, float)
    centre, scale = np.full(ct.shape[:-1], np.nan), np.full(ct.shape[:-1], np.nan)
    for at in np.ndindex(ct.shape[:-1]):
        values = ct[at][np.isfinite(ct[at])]
        if len(values) >= 2:
            q1, centre[at], q3 = np.quantile(values, (0.25, 0.5, 0.75))
            mad = np.median(np.abs(values - centre[at]))
            scale[at] = MAD_TO_SD * mad if mad > 0 else (q3 - q1) / IQR_TO_SD
    return ValueCalibration(centre, np.where(scale > 0, scale, np.nan))


def clipped_values(ct: np.ndarray, calibration: ValueCalibration) -> np.ndarray:
    """Instability within five calibration spreads of the calibration centre, floored at 0 (rad); [..., step].

    `max(0, centre + scale clip((ct - centre) / scale, -5, 5))`: units stay, outliers do not. NaN: undefined ct, or a
    calibration without spread. Keeps: values within the five spreads. Source: docs/definitions, section 1.
    """
    centre, scale = calibration.centre[..., None], calibration.scale[..., None]
    return np.maximum(0.0, np.clip(np.asarray(ct, float), centre - CLIP * scale, centre + CLIP * scale))


def instability_debt(ct: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """Share of a run's instability that lies above the model's threshold (1), in [0, 1].

    `sum max(0, ct - tau) / sum ct` over defined values. Shapes: ct [..., step], tau [...] -> [...]. NaN: no threshold,
    no defined value, or ct 0 throughout. Keeps: the order of steps. Source: docs/definitions, section 1.
    """
    ct, tau = np.asarray(ct, float), np.asarray(tau, float)[..., None]
    total = np.nansum(ct, axis=-1)
    above = np.nansum(np.maximum(0.0, ct - tau), axis=-1)
    known = np.isfinite(tau[..., 0]) & (total > 0)
    return np.divide(above, total, out=np.full(np.broadcast(above, total).shape, np.nan), where=known)


def segment_means(ct: np.ndarray, *, segments: int = SEGMENTS) -> np.ndarray:
    """Mean of each quarter of a run over the mean of the run (1): [run, step] -> [run, 4].

    Quarters of the defined values, equal to within one value. NaN: fewer than 32 steps up to the last defined value,
    fewer defined values than segments, or mean 0. Keeps: a positive factor on ct.
    """
    ct = np.asarray(ct, float)
    if ct.ndim != 2 or segments < 2:
        raise InputError(f"ct must be [run, step] and segments >= 2; got shape {ct.shape} and {segments}.")
    out = np.full((len(ct), segments), np.nan)
    for row, series in enumerate(ct):
        at = np.flatnonzero(np.isfinite(series))
        if len(at) < segments or at[-1] + 1 < FEWEST_STEPS or not series[at].mean() > 0:
            continue
        edges = np.round(np.linspace(0, len(at), segments + 1)).astype(int)
        sums = np.add.reduceat(series[at], edges[:-1])
        out[row] = sums / np.diff(edges) / series[at].mean()
    return out


def late_divergence(ct: np.ndarray) -> np.ndarray:
    """Whether instability rises late, as 0 or 1: last quarter at least 1.5 x first half, and a slope above 0; [run].

    Means over the last quarter and the first half of the defined values; the slope is that of Theil and Sen, and its
    95 % interval (of Kendall's statistic, values taken as independent) must lie above 0. With no collapse of the text
    it is the late-divergence tension. Shapes: ct [run, step]. NaN: fewer than 32 steps up to the last defined value, or
    mean 0. Keeps: a positive factor on ct. Source: docs/definitions, section 2.
    """
    ct = np.asarray(ct, float)
    whole = np.isfinite(segment_means(ct)).all(axis=1)
    out = np.where(whole, 0.0, np.nan)
    for row in np.flatnonzero(whole):
        at = np.flatnonzero(np.isfinite(ct[row]))
        values = ct[row, at]
        last, first = values[-(len(at) // SEGMENTS) :].mean(), values[: len(at) // 2].mean()
        if last >= LATE_RATIO * first:
            out[row] = float(theilslopes(values, at, 0.95).low_slope > 0)
    return out


@dataclass(frozen=True, eq=False)
class Profile:
    """Mean profile of a set of runs over four quarters, its class, and the interval that decided it.

    `segments` [4] are means over prompts of segment mean / run mean; `interval` is of `contrast` ("last quarter less
    first", or "middle less first" / "middle less last"). A flat profile is one where no change was shown: its interval
    says how large a change it leaves open. `kind` is "" with a reason in the interval where nothing is defined.
    """

    kind: str
    segments: np.ndarray
    contrast: str
    interval: Interval
    n_prompts: int


def profile(ct: np.ndarray, prompt: np.ndarray, generator: np.random.Generator, *, n_boot: int = 2000) -> Profile:
    """Class of the non-stationarity profile: flat, rising, falling, peak or dip (contrasts in units of the run mean).

    Peak (dip): the middle half lies above (below) the first quarter and the last quarter, both intervals off 0; else
    rising (falling): last quarter less first off 0; else flat. Intervals are 95 % over prompts, runs of one prompt
    averaged first; the deciding one is the nearer to 0 of the two for a peak or dip.
    Shapes: ct [run, step], prompt int [run]. No class with fewer than two prompts whose runs have 32 steps.
    Moves with: the length of the runs. Source: docs/definitions, section 1 (the contrasts are our choice).
    """
    shares = segment_means(ct)
    usable = np.isfinite(shares).all(axis=1)
    names = np.unique(np.asarray(prompt)[usable])
    if len(names) < 2:
        reason = f"fewer than two prompts ({len(names)}) with runs of {FEWEST_STEPS} steps"
        return Profile("", np.full(SEGMENTS, np.nan), "", undefined_interval(reason), len(names))
    of_prompt = np.stack([shares[usable & (np.asarray(prompt) == p)].mean(axis=0) for p in names])
    first, last, middle = of_prompt[:, 0], of_prompt[:, -1], of_prompt[:, 1:-1].mean(axis=1)
    contrasts = np.stack([last - first, middle - first, middle - last])
    weights = bootstrap_weights(len(names), generator, n_boot=n_boot)
    draws = resampled_ratio(contrasts, np.ones_like(contrasts), weights)
    trend, from_first, from_last = (percentile_interval(d, len(names)) for d in draws.T)
    kind, contrast, interval = _decide(trend, from_first, from_last)
    return Profile(kind, of_prompt.mean(axis=0), contrast, interval, len(names))


def _decide(trend: Interval, from_first: Interval, from_last: Interval) -> tuple[str, str, Interval]:
    both = (("middle less first", from_first), ("middle less last", from_last))
    if from_first.lo > 0 and from_last.lo > 0:
        return "peak", *min(both, key=lambda named: named[1].lo)
    if from_first.hi < 0 and from_last.hi < 0:
        return "dip", *max(both, key=lambda named: named[1].hi)
    kind = "rising" if trend.lo > 0 else "falling" if trend.hi < 0 else "flat"
    return kind, "last quarter less first", trend
