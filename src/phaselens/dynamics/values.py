"""Normalisation of values along a run (not of states): extremes pulled in, units kept."""

import numpy as np

CLIP = 5.0
MAD_TO_SD = 1.4826
IQR_TO_SD = 1.349


def centre_and_spread(values: np.ndarray) -> tuple[float, float]:
    """Median and 1.4826 MAD of the finite values (unit of the values); IQR / 1.349 where the MAD is 0.

    To be taken on calibration runs, never on the run that is normalised. NaN: fewer than two finite values. The spread
    is 0 where MAD and IQR are.
    """
    x = np.asarray(values, float)
    x = x[np.isfinite(x)]
    if len(x) < 2:
        return float("nan"), float("nan")
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])
    mad = float(np.median(np.abs(x - middle)))
    return float(middle), MAD_TO_SD * mad if mad > 0 else float((high - low) / IQR_TO_SD)


def clipped_values(values: np.ndarray, centre: float, spread: float) -> np.ndarray:
    """Values within 5 spreads of the centre, at least 0 (unit of the values): `clipped_mad` of values.

    `max(0, centre + spread clip((x - centre) / spread, -5, 5))`: units stay. Shapes: [...] -> [...]. NaN stays NaN;
    all NaN where the spread is not above 0. Keeps: values inside the bounds.
    """
    values = np.asarray(values, float)
    if not spread > 0:
        return np.full(values.shape, np.nan)
    return np.maximum(np.clip(values, centre - CLIP * spread, centre + CLIP * spread), 0.0)
