"""How much of a quantity the model, the category, the prompt and the seed explain: balanced analysis of variance.

`y[model, category, prompt, seed]`, prompts nested in categories and crossed with models, is taken as
`mean + model + category + model:category + prompt + model:prompt + residual`. The closed forms hold for balanced data
only; `statistics/reml.py` fits the rest, and says so in the record.
"""

from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError, unknown_name

TERMS = ("model", "category", "model:category", "prompt", "model:prompt", "residual")
POPULATIONS = ("sampled", "these")
_WHERE_TO = {
    "model": "one model only: no difference between models",
    "category": "one category only: no difference between categories",
    "model:category": "one model or one category only: not separable from the other",
    "prompt": "one prompt per category only: not separable from the category",
    "model:prompt": "one model, prompt or seed only: not separable from its neighbours",
    "residual": "nothing is left over",
}


@dataclass(frozen=True)
class Design:
    """How many levels each factor has: models, categories, prompts per category, seeds per prompt."""

    models: int
    categories: int
    prompts: int
    seeds: int

    @property
    def df(self) -> np.ndarray:
        """Degrees of freedom of the six `TERMS` (float64 [6]); 0 where a term is not separable.

        With one seed the model:prompt term and the residual are one; it is called residual.
        """
        m, c, p, r = self.models, self.categories, self.prompts, self.seeds
        inner = (m - 1) * c * (p - 1)
        tail = (inner, m * c * p * (r - 1)) if r > 1 else (0, inner)
        return np.array([m - 1, c - 1, (m - 1) * (c - 1), c * (p - 1), *tail], float)

    @property
    def separable(self) -> np.ndarray:
        """Which terms can be told from the others (bool [6])."""
        return self.df > 0


@dataclass(frozen=True, eq=False)
class Components:
    """Variance components float64 [..., 6] in the order of `TERMS` (squared unit of y), unclipped.

    `population` is "sampled" (levels drawn from a population of models and categories) or "these" (these levels and no
    others); `estimator` says what made the numbers; `reason` [6] says why a term is NaN ("" where it is not).
    """

    values: np.ndarray
    design: Design
    population: str
    estimator: str
    reason: tuple[str, ...]

    @property
    def shares(self) -> np.ndarray:
        """Each component over the sum of those defined (1), [..., 6]; may be negative. NaN: the sum is not above 0."""
        total = np.nansum(self.values, axis=-1, keepdims=True)
        return np.divide(self.values, total, out=np.full(self.values.shape, np.nan), where=total > 0)


def sums_of_squares(y: np.ndarray) -> np.ndarray:
    """Sums of squares of the six terms (squared unit of y); they add to the total about the grand mean.

    `CPR sum (m - g)^2`, `MPR sum (c - g)^2`, `PR sum (mc - m - c + g)^2`, `MR sum (p - c)^2`,
    `R sum (mp - mc - p + c)^2`, `sum (y - mp)^2`, where letters are means over what they do not name.
    Shapes: y [..., model, category, prompt, seed] -> [..., 6]. With one seed the fifth is moved to the sixth, which is
    then what is left over. Keeps: a shift of y. Raises InputError for NaN or fewer than four dimensions.
    Source: Henderson 1953; Searle, Casella and McCulloch 1992, chapter 4.
    """
    y, design = balanced(y)
    m_, c_, p_, r_ = design.models, design.categories, design.prompts, design.seeds
    y = y - y.mean(axis=(-4, -3, -2, -1), keepdims=True)
    mp = y.mean(axis=-1, keepdims=True)
    mc = mp.mean(axis=-2, keepdims=True)
    m = mc.mean(axis=-3, keepdims=True)
    c = mc.mean(axis=-4, keepdims=True)
    p = mp.mean(axis=-4, keepdims=True)
    parts = (
        (c_ * p_ * r_, m),
        (m_ * p_ * r_, c),
        (p_ * r_, mc - m - c),
        (m_ * r_, p - c),
        (r_, mp - mc - p + c),
        (1, y - mp),
    )
    squares = np.stack([n * (part**2).sum(axis=(-4, -3, -2, -1)) for n, part in parts], axis=-1)
    if r_ == 1:
        squares[..., 5], squares[..., 4] = squares[..., 4], 0.0
    return squares


def mean_squares(y: np.ndarray) -> np.ndarray:
    """Sums of squares over degrees of freedom (squared unit of y), [..., 6]. NaN: a term that is not separable."""
    _, design = balanced(y)
    df = design.df
    return np.divide(sums_of_squares(y), df, out=np.full((*np.shape(y)[:-4], 6), np.nan), where=df > 0)


def expected_mean_squares(design: Design, population: str = "sampled") -> np.ndarray:
    """What each mean square expects of each component: float64 [6, 6], `E[MS] = A @ component` (1).

    "sampled": all terms are random. "these": models and categories are fixed, prompts and seeds random; a component
    is the mean square of its effects over these levels (divided by their number, so that the components add to the
    variance of one observation of a model and category picked at random among these), and the prompt component is
    that of the mean over these models. Raises UnknownNameError for another population.
    """
    m, c, p, r = design.models, design.categories, design.prompts, design.seeds
    if population == "sampled":
        return np.array(
            [
                [c * p * r, 0, p * r, 0, r, 1],
                [0, m * p * r, p * r, m * r, r, 1],
                [0, 0, p * r, 0, r, 1],
                [0, 0, 0, m * r, r, 1],
                [0, 0, 0, 0, r, 1],
                [0, 0, 0, 0, 0, 1],
            ],
            float,
        )
    if population != "these":
        raise unknown_name("population", population, POPULATIONS)
    of_m, of_c = m / max(m - 1, 1), c / max(c - 1, 1)
    return np.array(
        [
            [c * p * r * of_m, 0, 0, 0, r * of_m, 1],
            [0, m * p * r * of_c, 0, m * r, 0, 1],
            [0, 0, p * r * of_m * of_c, 0, r * of_m, 1],
            [0, 0, 0, m * r, 0, 1],
            [0, 0, 0, 0, r * of_m, 1],
            [0, 0, 0, 0, 0, 1],
        ],
        float,
    )


def solve_components(squares: np.ndarray, design: Design, population: str = "sampled") -> np.ndarray:
    """Components from mean squares [..., 6] -> [..., 6]: the expected mean squares solved over the separable terms.

    A term with no degrees of freedom is NaN and its variance sits in the terms that contain it.
    """
    keep = np.flatnonzero(design.separable)
    inverse = np.linalg.inv(expected_mean_squares(design, population)[np.ix_(keep, keep)])
    out = np.full(squares.shape, np.nan)
    out[..., keep] = squares[..., keep] @ inverse.T
    return out


def components(y: np.ndarray, *, population: str = "sampled") -> Components:
    """Variance components of balanced data by expected mean squares (squared unit of y), with their shares.

    Unbiased; a small component can come out negative and is not clipped, since a clipped one is biased. Equal to REML
    wherever none is negative. Shapes: y [..., model, category, prompt, seed]. `population`: as
    `expected_mean_squares`. NaN, with a reason: a term that the design cannot tell from others.
    Keeps: a shift of y. Moves with: a common factor (squared). Raises InputError for unbalanced data.
    Source: Henderson 1953; for "these" levels Cornfield and Tukey 1956.
    """
    _, design = balanced(y)
    values = solve_components(mean_squares(y), design, population)
    reason = tuple("" if s else _WHERE_TO[t] for t, s in zip(TERMS, design.separable, strict=True))
    return Components(values, design, population, "balanced ANOVA", reason)


def three_way_shares(y: np.ndarray, *, of: str = "components") -> np.ndarray:
    """Shares of model, category and rest when nothing else is named (1), [..., 3]: the published comparison.

    "components": additive two-way random effects, rest = all other squares over their degrees of freedom. "squares":
    plain sums of squares over the total, which counts noise as effect. The interaction and the prompts hide in the
    rest, and the runs of a prompt count as independent: both flatter the rest. NaN: one level of either factor.
    """
    _, design = balanced(y)
    squares, df = sums_of_squares(y), design.df
    three = np.stack([squares[..., 0], squares[..., 1], squares[..., 2:].sum(axis=-1)], axis=-1)
    if of == "components":
        degrees = np.array([df[0], df[1], df[2:].sum()])
        with np.errstate(divide="ignore", invalid="ignore"):
            ms = np.where(degrees > 0, three / degrees, np.nan)
        per = design.prompts * design.seeds
        between = (ms[..., :2] - ms[..., 2:]) / (np.array([design.categories, design.models]) * per)
        three = np.concatenate([between, ms[..., 2:]], axis=-1)
    elif of != "squares":
        raise unknown_name("three-way version", of, ("components", "squares"))
    total = three.sum(axis=-1, keepdims=True)
    return np.divide(three, total, out=np.full(three.shape, np.nan), where=total > 0)


def balanced(y: np.ndarray) -> tuple[np.ndarray, Design]:
    """`y` as float64 with its design. Raises InputError for NaN, fewer than four dimensions, or an empty one."""
    y = np.asarray(y, float)
    if y.ndim < 4 or 0 in y.shape[-4:]:
        raise InputError(f"y must be [..., model, category, prompt, seed] with every factor present; got {y.shape}.")
    missing = int((~np.isfinite(y)).sum())
    if missing:
        raise InputError(
            f"{missing} of {y.size} values are undefined, and the closed forms need balanced data. Leave out the "
            "prompts that are incomplete in some model (`complete_prompts`), or fit `statistics.reml.reml`."
        )
    return y, Design(*y.shape[-4:])


def complete_prompts(y: np.ndarray) -> np.ndarray:
    """The largest balanced part of y that keeps every model, category and seed (unit of y): [M, C, P', R].

    A prompt stays if it is defined in every model and seed; each category keeps its first P' such prompts, P' the
    fewest that any category has. Raises InputError where a category has none.
    """
    y = np.asarray(y, float)
    if y.ndim != 4:
        raise InputError(f"y must be [model, category, prompt, seed]; got {y.shape}.")
    whole = np.isfinite(y).all(axis=(0, 3))
    fewest = int(whole.sum(axis=1).min())
    if not fewest:
        raise InputError(f"categories {np.flatnonzero(~whole.any(axis=1)).tolist()} have no prompt defined everywhere.")
    first = np.argsort(~whole, axis=1, kind="stable")[:, :fewest]
    return np.take_along_axis(y, first[None, :, :, None], axis=2)
