"""Does the difference between models depend on something: categories, versions of a measure, load?

All statistics here are squared lengths of a mean vector over prompts. The plain square is too long, for the noise of
the mean adds to it; the mean product of two *different* prompts is not.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, undefined_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.variance_bootstrap import studentised

Numbers = np.ndarray | np.float64


@dataclass(frozen=True, eq=False)
class Amplification:
    """Between-model component of one category over the mean of the others (1), with its interval.

    `t` is the studentised difference to them (above 0: amplified), `components` [category] the noise-corrected
    between-model components (squared unit of y), unclipped, `n_prompts` how many prompts each stands on.
    """

    ratio: float
    interval: Interval
    t: float
    components: np.ndarray
    n_prompts: int


@dataclass(frozen=True, eq=False)
class Interaction:
    """Model x factor component on ranks (squared ranks), its interval, and the p-value of the label shuffle."""

    value: float
    interval: Interval
    p: float
    null: np.ndarray


def squared_mean(products: np.ndarray, weights: np.ndarray | None = None) -> tuple[Numbers, Numbers]:
    """Squared length of the expected vector of a unit, without the noise of the mean, and its error (squared unit).

    `sum_{p != q} v_p . v_q / (P (P-1))`, unbiased. In a resample with counts w it is
    `sum_{p != q} w_p w_q v_p . v_q / (P-1)^2`, since `E[w_p w_q] = (P-1)/P`: pairs of copies of one prompt are left
    out, so the draws are centred on the estimate. Error: jackknife of the U-statistic,
    `error^2 = 4 sum_p w_p (g_p - mean g)^2 / (P (P-1))`, `g_p` the mean product of p with the others.
    Shapes: products [..., P, P] of inner products; weights [n_boot, P] or [n_boot, ..., P]; returns two [n_boot, ...]
    ([...] without weights). NaN: fewer than two units. Source: Hoeffding 1948; Efron and Stein 1981.
    """
    products = np.asarray(products, float)
    n = products.shape[-1]
    if n < 2:
        lost = np.full(products.shape[:-2] if weights is None else (len(weights), *products.shape[:-2]), np.nan)
        return lost, lost
    apart = products * (1 - np.eye(n))
    if weights is None:
        others = apart.sum(axis=-1) / (n - 1)
        value = others.mean(axis=-1)
        return value, np.sqrt(4 * ((others - value[..., None]) ** 2).sum(axis=-1) / (n * (n - 1)))
    w = np.asarray(weights, float)
    pulled = np.einsum("...pq,b...q->b...p", apart, w)
    value = (w * pulled).sum(axis=-1) / (n - 1) ** 2
    others = pulled / np.maximum(n - w, 1)
    centre = (w * others).sum(axis=-1, keepdims=True) / n
    return value, np.sqrt(4 * (w * (others - centre) ** 2).sum(axis=-1) / (n * (n - 1)))


def between_models(y: np.ndarray) -> np.ndarray:
    """Noise-corrected between-model component of each category (squared unit of y), [category].

    `(model MS - prompt MS) / prompts` of the category's two-way table of seed means, where prompt MS is the mean
    square of prompts within models after the prompt's mean over models is taken out (model x prompt): what a prompt
    does to all models alike is no noise in their differences. Unclipped, and independent of how noisy a category is.
    Shapes: y [model, category, prompt, seed]. NaN: fewer than two models or prompts.
    """
    return _model_components(y)[0]


def amplification(
    y: np.ndarray, category: int, generator: np.random.Generator, *, n_boot: int = 2000, level: float = 0.95
) -> Amplification:
    """Does one category spread the models more than the others do (1; 1 = as much)?

    Ratio r of `between_models` in the category, A, to its mean over the others, B. Its interval holds every r for
    which `(A - r B) / sqrt(var A + r^2 var B)` lies between the bootstrap quantiles of its studentised resamples
    (Fieller's set; prompts of different categories are independent, so A and B are).
    NaN, with a reason: fewer than two categories, models or prompts; B not told from 0, where no ratio is bounded.
    Keeps: shift and scale of y. Raises InputError for a category that is not there.
    Source: Fieller 1954; Hwang 1995 (bootstrap-t of Fieller's pivot).
    """
    y = np.asarray(y, float)
    if not 0 <= category < y.shape[1]:
        raise InputError(f"category must be an index below {y.shape[1]}; got {category}.")
    values, errors, products = _model_components(y)
    rest = np.arange(y.shape[1]) != category
    n = y.shape[2]
    if min(y.shape[:3]) < 2:
        why = f"needs two models, categories and prompts; got {y.shape[:3]}"
        return Amplification(math.nan, undefined_interval(why, level), math.nan, values, n)
    a, b = values[category], values[rest].mean()
    var_a, var_b = errors[category] ** 2, (errors[rest] ** 2).sum() / rest.sum() ** 2
    ratio = float(a / b) if b > 0 else math.nan
    t = float((a - b) / math.sqrt(var_a + var_b)) if var_a + var_b > 0 else math.nan
    if not b > 0 or not var_a + var_b > 0:
        why = "the other categories have no between-model component above 0"
        return Amplification(ratio, undefined_interval(why, level), t, values, n)
    w = bootstrap_weights(n, generator, n_boot=n_boot * y.shape[1]).reshape(n_boot, y.shape[1], n)
    drawn, spread = map(np.asarray, squared_mean(products, w))
    da, db = drawn[:, category], drawn[:, rest].mean(axis=1)
    va, vb = spread[:, category] ** 2, (spread[:, rest] ** 2).sum(axis=1) / rest.sum() ** 2
    scale = np.sqrt(va + ratio**2 * vb)
    pivot = np.divide(da - ratio * db, scale, out=np.full(n_boot, np.nan), where=scale > 0)
    lo, hi = np.nanquantile(pivot, [(1 - level) / 2, (1 + level) / 2])
    return Amplification(ratio, _fieller(a, b, var_a, var_b, (lo, hi), level), t, values, n)


def interaction_on_ranks(
    y: np.ndarray, generator: np.random.Generator, *, n_boot: int = 2000, n_permutations: int = 999, level: float = 0.95
) -> Interaction:
    """Does the order of models depend on a factor that every prompt is measured under (squared ranks)?

    Values are ranked within each level of the factor over models and prompts, so levels in other units compare. For
    each prompt the table of ranks [model, level] is centred on both sides; the value is `squared_mean` of these
    tables over prompts, divided by (M-1)(F-1): the model x factor component. 0: the models differ alike at all levels.
    Interval: bootstrap-t over prompts. p: levels shuffled within each (model, prompt), which keeps what a model does
    to a prompt. For a factor that prompts are nested in (category) use `share_interval` on ranks.
    Shapes: y [model, level, prompt]. NaN, with a reason: fewer than two of any.
    """
    y = np.asarray(y, float)
    if y.ndim != 3:
        raise InputError(f"y must be [model, level, prompt]; got {y.shape}.")
    if min(y.shape) < 2:
        why = f"needs two models, levels and prompts; got {y.shape}"
        return Interaction(math.nan, undefined_interval(why, level), math.nan, np.full(n_permutations, np.nan))
    m, f, n = y.shape
    ranks = rankdata(y.transpose(1, 0, 2).reshape(f, -1), axis=1).reshape(f, m, n).transpose(1, 0, 2)
    products = _centred_products(ranks)
    value, error = squared_mean(products)
    draws, errors = map(np.asarray, squared_mean(products, bootstrap_weights(n, generator, n_boot=n_boot)))
    null = np.empty(n_permutations)
    for i in range(n_permutations):
        null[i] = squared_mean(_centred_products(generator.permuted(ranks, axis=1)))[0]
    interval = studentised(float(value), float(error), draws, errors, level)
    return Interaction(float(value), interval, permutation_p(float(value), null), null)


def family_by_load(
    y: np.ndarray, family: np.ndarray, generator: np.random.Generator, *, n_permutations: int = 2000
) -> tuple[float, float, np.ndarray]:
    """Do families of models respond differently to load? Pseudo-F of family x load (1), p-value, and the null.

    `F = (between-family SS of the model x load table, centred on both sides / df) / (within-family SS / df)`; models
    move between families. The prompts only average: the unit is the model. Shapes: y [model, load, prompt], family
    [model]. NaN: fewer than two families, or no family with two models. Keeps: a shift of a model or of a load.
    """
    table = np.nanmean(np.asarray(y, float), axis=2)
    names, code = np.unique(np.asarray(family), return_inverse=True)
    if len(code) != len(table):
        raise InputError(f"one family per model is needed; got {len(code)} families for {len(table)} models.")
    k, m = len(names), len(table)
    if k < 2 or m == k or table.shape[1] < 2:
        return math.nan, math.nan, np.full(n_permutations, np.nan)
    table = table - table.mean(axis=1, keepdims=True)
    table = table - table.mean(axis=0)
    moved = generator.permuted(np.tile(np.arange(m), (n_permutations, 1)), axis=1)
    orders = np.concatenate([np.arange(m)[None], moved])
    member = (code[orders][:, None] == np.arange(k)[:, None]).astype(float)
    size = member.sum(axis=2)
    between = ((member @ table) ** 2 / size[..., None]).sum(axis=(1, 2))
    within = (table**2).sum() - between
    f = np.divide(between / (k - 1), within / (m - k), out=np.full(len(between), np.inf), where=within > 0)
    p = (1 + (f[1:] >= f[0] * (1 - 1e-9)).sum()) / (1 + n_permutations)
    return float(f[0]), float(p), f[1:]


def _model_components(y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Component and error of each category [category], and the inner products of its prompts [category, P, P]."""
    y = np.asarray(y, float)
    if y.ndim != 4 or not np.isfinite(y).all():
        raise InputError(f"y must be [model, category, prompt, seed] without NaN; got shape {y.shape}.")
    m, c, n, _ = y.shape
    if m < 2:
        return np.full(c, np.nan), np.full(c, np.nan), np.full((c, n, n), np.nan)
    x = y.mean(axis=3)
    x = (x - x.mean(axis=0)) / math.sqrt(m - 1)
    products = np.einsum("mcp,mcq->cpq", x, x)
    value, error = map(np.asarray, squared_mean(products))
    return value, error, products


def _centred_products(ranks: np.ndarray) -> np.ndarray:
    m, f, n = ranks.shape
    z = ranks - ranks.mean(axis=0)
    z = ((z - z.mean(axis=1, keepdims=True)) / math.sqrt((m - 1) * (f - 1))).reshape(m * f, n)
    return z.T @ z


def _fieller(a: float, b: float, var_a: float, var_b: float, quantiles: tuple[float, float], level: float) -> Interval:
    """All r with `lo <= (a - r b) / sqrt(var_a + r^2 var_b) <= hi`, where that set is bounded."""
    ends = []
    for q in quantiles[::-1]:  # the upper quantile bounds r from below
        square, cross, constant = b * b - q * q * var_b, -2 * a * b, a * a - q * q * var_a
        inside = cross * cross - 4 * square * constant
        if square <= 0 or inside < 0:
            return undefined_interval("the other categories' component is not told from 0: no bounded ratio", level)
        root = math.sqrt(inside)
        ends.append((-cross - math.copysign(root, q)) / (2 * square))
    return Interval(min(ends), max(ends), level)
