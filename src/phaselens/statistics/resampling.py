"""The prompt bootstrap, vectorised: a resample is a row of multinomial weights over prompts.

All runs and tokens of a prompt move together, so an interval says how far the number would move with other prompts of
the same kind, not with other tokens of the same text.
"""

import numpy as np

from phaselens.errors import InputError

CELLS = 500_000  # of one block of columns, so that it stays in cache
MANY = 512  # units beyond which a table of runs by units would be the largest thing in memory


def bootstrap_weights(n_units: int, generator: np.random.Generator, *, n_boot: int = 2000) -> np.ndarray:
    """How often each unit is drawn in each resample (counts).

    Each row is Multinomial(n_units; 1/n_units, ...), the same as drawing n_units units with replacement.
    Shapes: returns int64 [n_boot, n_units]. Raises InputError for a negative count of units.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    if n_units < 0 or n_boot < 1:
        raise InputError(f"a bootstrap needs n_units >= 0 and n_boot >= 1; got {n_units} and {n_boot}.")
    if n_units == 0:
        return np.zeros((n_boot, 0), dtype=np.int64)
    return generator.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=n_boot)


def resampled_ratio(numerator: np.ndarray, denominator: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Ratio of weighted sums in each resample (unit of numerator / unit of denominator).

    `sum_u w[b,u] numerator[...,u] / sum_u w[b,u] denominator[...,u]`. With per-unit sums over the same cells it is the
    ratio of means; with per-unit counts as denominator it is the mean.
    Shapes: numerator, denominator [..., unit]; weights [n_boot, unit]; returns float64 [n_boot, ...].
    NaN: the resample holds nothing to divide by (denominator 0).
    Keeps: a common factor of both. Moves with: how tokens are spread over units.
    """
    top = weights @ np.moveaxis(np.asarray(numerator, float), -1, 0).reshape(weights.shape[1], -1)
    bottom = weights @ np.moveaxis(np.asarray(denominator, float), -1, 0).reshape(weights.shape[1], -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bottom != 0, top / bottom, np.nan)
    return ratio.reshape(len(weights), *np.shape(numerator)[:-1])


def resampled_median(values: np.ndarray, unit: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median of the values in each resample (unit of the values).

    A value counts as often as its unit was drawn; an even count takes the mean of the middle two, as `numpy.median`.
    Shapes: values [n], unit int [n] (index into the columns of weights), weights [n_boot, unit]; returns float64
    [n_boot]. NaN: values that are NaN are left out; a resample with none left is NaN.
    """
    values, unit = np.asarray(values, float), np.asarray(unit)
    keep = np.isfinite(values)
    values, unit = values[keep], unit[keep]
    if not len(values):
        return np.full(len(weights), np.nan)
    order = np.argsort(values, kind="stable")
    values = values[order]
    drawn, last = weights.astype(np.int32), len(values) - 1
    out, many = np.empty(len(weights)), max(1, CELLS // len(values))
    for some in (slice(i, i + many) for i in range(0, len(weights), many)):
        count = np.cumsum(drawn[some, unit[order]], axis=1, dtype=np.int32)
        total = count[:, -1]
        low = (count <= ((total - 1) // 2)[:, None]).sum(axis=1)
        high = (count <= (total // 2)[:, None]).sum(axis=1)
        middle = (values[np.minimum(low, last)] + values[np.minimum(high, last)]) / 2
        out[some] = np.where(total > 0, middle, np.nan)
    return out


def resampled_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Median over units of many columns at once in each resample (unit of the values).

    As `resampled_median` with one value per unit. Weights of 0 and 1 give the median of a subset of the units.
    Shapes: values [unit, ...], weights int [n_boot, unit]; returns float64 [n_boot, ...]. NaN: a unit whose value is
    NaN is left out of that column; a column with none left is NaN.
    """
    values = np.asarray(values, float)
    columns = values.reshape(len(values), -1)
    order = np.argsort(columns, axis=0, kind="stable")  # NaN last
    ordered = np.take_along_axis(columns, order, axis=0)
    counts = np.asarray(weights).astype(np.int16)
    out = np.empty((len(counts), columns.shape[1]))
    wide = max(1, CELLS // max(1, counts.size))
    for start in range(0, columns.shape[1], wide):
        some = slice(start, start + wide)
        out[:, some] = _medians(ordered[:, some], counts[:, order[:, some]])
    return out.reshape(len(counts), *values.shape[1:])


def _medians(ordered: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Weighted medians of columns [unit, column] in ascending order, NaN last; counts [n_boot, unit, column]."""
    if not len(ordered):
        return np.full((counts.shape[0], counts.shape[2]), np.nan)
    drawn = np.cumsum(counts * np.isfinite(ordered), axis=1, dtype=np.int16)
    total = drawn[:, -1]
    last = len(ordered) - 1
    low, high = ((drawn <= at[:, None]).sum(axis=1) for at in ((total - 1) // 2, total // 2))
    below, above = (np.take_along_axis(ordered, np.minimum(at, last), axis=0) for at in (low, high))
    return np.where(total > 0, (below + above) / 2, np.nan)


def sums_by_unit(values: np.ndarray, unit: np.ndarray, n_units: int) -> tuple[np.ndarray, np.ndarray]:
    """Sum and count of the finite values of each unit (unit of the values; counts).

    Shapes: values [run, cell, ...], summed over the runs of a unit and over cells; unit int [run] (negative: left out);
    returns two float64 [..., n_units]. NaN values are left out of both.
    """
    values = np.asarray(values, float)
    finite = np.isfinite(values)
    parts = np.where(finite, values, 0.0).sum(axis=1), finite.sum(axis=1).astype(float)
    if n_units > MANY:
        known = np.asarray(unit) >= 0
        out = tuple(np.zeros((n_units, *x.shape[1:])) for x in parts)
        for into, x in zip(out, parts, strict=True):
            np.add.at(into, np.asarray(unit)[known], x[known])
        return np.moveaxis(out[0], 0, -1), np.moveaxis(out[1], 0, -1)
    member = (np.asarray(unit) == np.arange(n_units)[:, None]).astype(float)
    sums, counts = (np.tensordot(x, member, axes=([0], [1])) for x in parts)
    return sums, counts
