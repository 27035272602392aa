"""Experiment: how much do model, category, prompt and seed explain? Shares, amplification, and V1, V2, V3."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from phaselens.claims import IntervalEvidence, Outcome, Requirement, above, below
from phaselens.errors import MissingExtra
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.claim_versions import Version, alike, decided, units_needed
from phaselens.experiments.crossed_design import BY_MEASURE, MEASURES, Cells, cells
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.interactions import Amplification, amplification
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.reml import reml
from phaselens.statistics.variance import TERMS, Components, Design, components, three_way_shares
from phaselens.statistics.variance_bootstrap import prompt_weights, share_draws, share_interval

CLAIMS = ("V1", "V2", "V3")
ENOUGH_PROMPTS = 8
HEAVY = 0.2
DESIGN = 16
SCIENCE = ("reasoning", "science", "scientific reasoning", "scientific_reasoning")
THREE = ("model", "category", "rest")
CHUNK = 100
NO_PLAN = "no prompts that every model has in every category and seed"
REML_ROWS = 2000


@dataclass(frozen=True, eq=False)
class Fit:
    """One measure of the panel: its cells, the balanced part (None: there is none), and the components.

    `components` is None where nothing could be fitted; `reason` then says why.
    """

    measure: str
    cells: Cells
    y: np.ndarray | None
    components: Components | None
    reason: str = ""

    @property
    def n_prompts(self) -> int:
        """Prompts per category that the estimate stands on (count; the most of a category where unbalanced)."""
        return int((self.cells.y if self.y is None else self.y).shape[2])


def fit(panel: Panel, measure: str) -> Fit:
    """The variance components of one measure: balanced ANOVA where the design allows it, else REML."""
    of = cells(panel, BY_MEASURE[measure])
    y = of.balanced
    if y is not None:
        return Fit(measure, of, y, components(y, population="these"))
    if not of.n_runs:
        return Fit(measure, of, None, None, "no run has a value")
    if min(of.y.shape[:2]) < 2:
        return Fit(measure, of, None, None, f"{NO_PLAN}; one model or one category only")
    try:
        few = of.n_runs <= REML_ROWS
        return Fit(measure, of, None, reml(of.y if few else _seed_means(of.y)), NO_PLAN)
    except (MissingExtra, np.linalg.LinAlgError, ValueError) as error:
        return Fit(measure, of, None, None, f"{NO_PLAN}; {error}")


def _seed_means(y: np.ndarray) -> np.ndarray:
    seen = np.isfinite(y)
    count = seen.sum(axis=3, keepdims=True)
    return np.divide(
        np.where(seen, y, 0).sum(axis=3, keepdims=True), count, out=np.full(count.shape, np.nan), where=count > 0
    )


def _share(panel: Panel, one: Fit, of: Mapping[str, float], bound: float) -> Version:
    """A weighted sum of shares of one measure for these levels, with its interval and the p-value of `bound`."""
    if one.y is None:
        known = one.components is not None
        weights = np.array([of.get(t, 0.0) for t in TERMS])
        value = float(np.nansum(one.components.shares * weights)) if known else math.nan
        why = f"{one.reason}: {'REML gives shares without an interval' if known else 'no estimate'}"
        return Version(one.measure, value, undefined_interval(why))
    label = f"variance {one.measure} {sorted(of)}"
    found = share_interval(one.y, of, panel.generator(label), n_boot=panel.n_boot)
    return Version(one.measure, found.value, found.interval, found.p(bound))


def _counts(panel: Panel, one: Fit) -> dict[str, int]:
    design = Design(*one.y.shape) if one.y is not None else Design(*one.cells.y.shape)
    return counts(panel) | {
        "models that count": design.models,
        "categories": design.categories,
        "prompts per category": design.prompts,
        "seeds": design.seeds,
    }


def _lacking(one: Fit) -> str:
    """What the panel lacks for shares of variance to be about anything ("" if nothing)."""
    models, categories = one.cells.y.shape[:2]
    if not one.cells.n_runs:
        return "no run has a value: generate at least 66 tokens and record instability at l*"
    if models < 2 or categories < 2:
        return f"{models} models and {categories} categories have values: two of each are needed"
    return ""


def _light_tails(one: Fit) -> bool:
    """Whether the largest hundredth of the squared residuals holds at most a fifth of their sum (normal: .08)."""
    if one.y is None or one.y.shape[3] < 2:
        return True
    square = np.sort(((one.y - one.y.mean(axis=3, keepdims=True)) ** 2).ravel())
    return bool(square[-max(1, len(square) // 100) :].sum() <= HEAVY * square.sum())


def _shares_evidence(panel: Panel, fits: Mapping[str, Fit], of: Mapping[str, float], bound: float) -> IntervalEvidence:
    """The evidence of V1 and V2: a sum of shares above or below a bound, by both measures.

    Where few runs hold the residual's variance, samples show less of it than there is (at t(2.5) a share of one half
    was taken for less in 37 % of studies), so that a residual below the bound is not said to be there.
    """
    versions = [_share(panel, fits[m], of, bound) for m in MEASURES]
    one = min(fits.values(), key=lambda f: f.n_prompts)
    units = [n for v in versions if (n := units_needed(v, bound, one.n_prompts)) is not None]
    needed = (
        f"about {max(units)} prompts per category if these shares hold (this study: {one.n_prompts})"
        if units
        else "prompts that every model answers in every seed: a balanced design with >= 8 of a category"
    )
    if one.n_prompts < DESIGN:
        needed += f"; {DESIGN} prompts per category find the published shares in .95 of studies, 8 in half of them"
    separable = all(f.components is not None and np.isfinite(f.components.values[2]) for f in fits.values())
    outcomes = (
        Outcome("token pseudo-replication", "survived", "one value per run; prompts are resampled, never tokens"),
        Outcome("interaction separated", "survived" if separable else "missing", "model x category is its own term"),
        alike("both measures", versions, above(bound)),
    )
    return decided(
        versions,
        above(bound),
        below(bound) if "residual" not in of or all(map(_light_tails, fits.values())) else (),
        counts=_counts(panel, one),
        n=one.n_prompts * one.cells.y.shape[1],
        needed=needed,
        outcomes=outcomes,
        null=bound,
        lacking=_lacking(one),
        requirements=(
            Requirement(
                "prompts per category",
                one.n_prompts >= ENOUGH_PROMPTS,
                f"{one.n_prompts} prompts per category are in every model and seed, 8 are needed",
                f"prompts_per_category >= {ENOUGH_PROMPTS}",
            ),
        ),
    )


def science_of(categories: tuple[str, ...]) -> int | None:
    """Which category holds scientific reasoning, by its name; None where there is none."""
    return next((i for name in SCIENCE for i, c in enumerate(categories) if c.lower() == name), None)


def _without_length(one: Fit, length: np.ndarray) -> np.ndarray:
    """The balanced y less its regression on ln tokens, one slope for all runs (unit of y), [M, C, P, R].

    The slope is that within model x category, so what differs between models or categories does not make it.
    """
    y = one.y
    x = length - length.mean(axis=(2, 3), keepdims=True)
    spread = (x**2).sum()
    slope = (x * (y - y.mean(axis=(2, 3), keepdims=True))).sum() / spread if spread > 0 else 0.0
    return y - slope * length


def _lengths(panel: Panel, one: Fit) -> np.ndarray:
    """Ln generated tokens in the cells of the balanced y, [M, C, P, R]."""

    def per_run(m: ModelData) -> np.ndarray:
        return np.where(np.isfinite(BY_MEASURE[one.measure](m)), np.log(np.maximum(m.runs["n_generated"], 1)), np.nan)

    return cells(panel, per_run).balanced


@dataclass(frozen=True, eq=False)
class Amplified:
    """Amplification by every category, as measured and with the number of generated tokens taken out."""

    measure: str
    plain: Mapping[int, Amplification]
    length: Mapping[int, Amplification]
    same_length: bool
    tokens: np.ndarray


def amplified(panel: Panel, one: Fit, *, of: int | None = None) -> Amplified | None:
    """Amplification by one measure, of every category or of one; None without a balanced design of two categories."""
    if one.y is None or min(one.y.shape[:3]) < 2:
        return None
    length = _lengths(panel, one)
    same = bool(np.ptp(length) == 0)
    adjusted = one.y if same else _without_length(one, length)

    def every(y: np.ndarray) -> dict[int, Amplification]:
        return {
            c: amplification(y, c, panel.generator(f"amplification {one.measure} {c}"), n_boot=panel.n_boot)
            for c in (range(y.shape[1]) if of is None else (of,))
        }

    plain = every(one.y)
    tokens = np.exp(length).mean(axis=(0, 2, 3))
    return Amplified(one.measure, plain, plain if same else every(adjusted), same, tokens)


def _v3(panel: Panel, fits: Mapping[str, Fit], found: Mapping[str, Amplified | None]) -> IntervalEvidence:
    """The evidence of V3."""
    one = min(fits.values(), key=lambda f: f.n_prompts)
    at = science_of(one.cells.categories)
    lacking = _lacking(one)
    if not lacking and at is None:
        lacking = f"no category is called {' or '.join(SCIENCE[:2])}: add prompts of scientific reasoning"
    versions, lengths = [], []
    for measure in MEASURES:
        own = found[measure]
        if lacking or own is None:
            versions.append(Version(measure, math.nan, undefined_interval(fits[measure].reason or lacking or NO_PLAN)))
            continue
        a = own.plain[at]
        versions.append(Version(measure, a.ratio, a.interval, _p_of(a)))
        lengths.append(_length_outcome(own, at))
    wanted = [n for v in versions if (n := units_needed(v, 1.0, one.n_prompts)) is not None]
    worst = next((o for word in ("explains it away", "undecided") for o in lengths if o.outcome == word), None)
    missing = Outcome("answer length", "missing", "no balanced design")
    return decided(
        versions,
        above(1.0),
        below(1.0),
        counts=_counts(panel, one),
        n=one.n_prompts,
        needed=f"about {max(wanted)} prompts per category if this ratio holds (this study: {one.n_prompts})"
        if wanted
        else "more models or prompts: the other categories' differences between models are not told from 0",
        outcomes=(worst or (lengths[0] if lengths else missing), alike("both measures", versions, above(1.0))),
        null=1.0,
        lacking=lacking,
    )


def _p_of(a: Amplification) -> float:
    """Two-sided p-value of "as much as the others" from Student's t with one degree less than prompts (1)."""
    return float(2 * stats.t.sf(abs(a.t), a.n_prompts - 1)) if math.isfinite(a.t) and a.n_prompts > 1 else math.nan


def _length_outcome(own: Amplified, at: int) -> Outcome:
    """What is left of the amplification once the number of generated tokens is taken out."""
    plain, other = own.plain[at], own.length[at]
    if own.same_length:
        return Outcome("answer length", "survived", f"every run has {own.tokens[0]:.0f} generated tokens")
    left = (other.ratio - 1) / (plain.ratio - 1) if plain.ratio != 1 else math.nan
    facts: dict = {"gap_kept": left, "gap_interval": other.interval}
    said = f"{own.measure}: {other.ratio:.3g} [{other.interval.lo:.3g}, {other.interval.hi:.3g}] with length taken out"
    if other.interval.lo > 1:
        return Outcome("answer length", "survived", said, **facts)
    if left < 0.5:
        return Outcome("answer length", "explains it away", said, **facts)
    return Outcome("answer length", "undecided", said, **facts)


def _amplification_rows(one: Fit, found: Amplified | None) -> list[dict]:
    if found is None:
        return []
    claimed = science_of(one.cells.categories)
    rows = []
    for c, category in enumerate(one.cells.categories):
        plain, length = found.plain[c], found.length[c]
        rows.append(
            {"measure": one.measure, "category": category, "claimed": c == claimed, "component": plain.components[c]}
            | {**picked(plain, "ratio t"), **bounds(plain.interval), "ratio_length": length.ratio}
            | {f"{end}_length": value for end, value in bounds(length.interval).items()}
            | {"mean_tokens": found.tokens[c], "n_models": one.y.shape[0], "n_prompts": one.n_prompts}
            | {"reason": plain.interval.reason}
        )
    return rows


def _share_rows(panel: Panel, one: Fit) -> list[dict]:
    """The rows of one measure: shares for these levels and for sampled ones, and the published three-way version."""
    if one.components is None:
        return []
    if one.y is None:
        blank = undefined_interval(f"{one.reason}: REML gives shares without an interval")
        shares = one.components.shares
        return _rows(one, "sampled", TERMS, shares, values=one.components.values, intervals=[blank] * 6, kind="none")
    intervals = [_share(panel, one, {t: 1.0}, 0.0).interval for t in TERMS]
    rows = _rows(one, "these", TERMS, one.components.shares, one.components.values, intervals, "bootstrap-t, prompts")
    sampled = components(one.y, population="sampled")
    draws = share_draws(one.y, panel.generator(f"sampled {one.measure}"), n_boot=panel.n_boot)
    n = min(one.y.shape[0], one.n_prompts)
    intervals = [
        undefined_interval(r) if r else percentile_interval(draws[:, i], n) for i, r in enumerate(sampled.reason)
    ]
    rows += _rows(one, "sampled", TERMS, sampled.shares, sampled.values, intervals, "percentile, models and prompts")
    three = three_way_shares(one.y)
    draws = _three_way_draws(panel, one)
    draws = draws - draws.mean(axis=0) + three  # resampled means carry more noise, which would pass for an effect
    intervals = [_or_undefined(percentile_interval(draws[:, i], one.n_prompts), three[i]) for i in range(3)]
    return rows + _rows(one, "three-way", THREE, three, np.full(3, np.nan), intervals, "percentile, prompts, centred")


def _or_undefined(interval: Interval, value: float) -> Interval:
    return interval if math.isfinite(value) else undefined_interval("one model or one category only")


def _three_way_draws(panel: Panel, one: Fit) -> np.ndarray:
    """The three-way shares in each resample of prompts within category (1), [n_boot, 3]."""
    m, c, p, r = one.y.shape
    weights = prompt_weights(Design(m, c, p, r), panel.generator(f"three-way {one.measure}"), panel.n_boot)
    drawn = np.repeat(np.tile(np.arange(p), (*weights.shape[:2], 1)).ravel(), weights.ravel()).reshape(weights.shape)
    out = np.empty((len(drawn), 3))
    for start in range(0, len(drawn), CHUNK):
        some = drawn[start : start + CHUNK]
        out[start : start + CHUNK] = three_way_shares(
            np.take_along_axis(one.y[None], some[:, None, :, :, None], axis=3)
        )
    return out


def _rows(one: Fit, population: str, terms, shares, values, intervals: list[Interval], kind: str) -> list[dict]:
    balanced = one.y is not None
    design = Design(*(one.y if balanced else one.cells.y).shape)
    m, c, p, r = design.models, design.categories, design.prompts, design.seeds
    levels = {"model": m, "category": c, "model:category": m * c, "prompt": c * p, "model:prompt": m * c * p}
    df = dict(zip(TERMS, design.df.astype(int), strict=True))
    runs = m * c * p * r if balanced else one.cells.n_runs
    shared: dict[str, object] = {"measure": one.measure, "population": population}
    shared |= {"estimator": one.components.estimator, "interval": kind, "arm": one.cells.arm, "n_runs": runs}
    shared |= {"n_models": m, "n_categories": c, "n_prompts": p, "n_seeds": r}
    return [
        {"term": term, "share": share, **bounds(interval), "component": value, "reason": interval.reason, **shared}
        | {"df": df.get(term, sum(df[t] for t in TERMS[2:])), "levels": levels.get(term, runs)}
        for term, share, value, interval in zip(terms, shares, values, intervals, strict=True)
    ]


def _evidence(panel: Panel, fits: Mapping[str, Fit], claims: Sequence[str], found=None) -> dict:
    if "V3" in claims and found is None:
        found = {m: amplified(panel, fits[m], of=science_of(fits[m].cells.categories)) for m in MEASURES}
    make = {
        "V1": lambda: _shares_evidence(panel, fits, {"category": 1.0, "model": -1.0}, 0.0),
        "V2": lambda: _shares_evidence(panel, fits, {"residual": 1.0}, 0.5),
        "V3": lambda: _v3(panel, fits, found),
    }
    return {claim: make[claim]() for claim in claims}


def variance_evidence(panel: Panel, claims: Sequence[str] = CLAIMS) -> dict:
    """The evidence for V1, V2 and V3, or some of them, as `analyse_variance` gives it, without its tables."""
    return _evidence(panel, {m: fit(panel, m) for m in MEASURES}, claims)


def analyse_variance(panel: Panel) -> Result:
    """Tables variance_shares and variance_amplification; evidence for V1, V2 and V3."""
    fits = {m: fit(panel, m) for m in MEASURES}
    found = {m: amplified(panel, fits[m]) for m in MEASURES}
    notes = []
    for one in fits.values():
        whole = one.cells.y.shape[2]
        if one.y is not None and one.y.shape[2] < whole:
            notes.append(f"variance of {one.measure}: {one.y.shape[2]} of {whole} prompts per category are complete")
        if one.cells.absent:
            notes.append(f"variance of {one.measure}: no value for {', '.join(one.cells.absent)}")
        if one.reason:
            notes.append(f"variance of {one.measure}: {one.reason}")
    return Result(
        filled(
            variance_shares=[r for f in fits.values() for r in _share_rows(panel, f)],
            variance_amplification=[r for m in MEASURES for r in _amplification_rows(fits[m], found[m])],
        ),
        evidence=_evidence(panel, fits, CLAIMS, found),
        notes=tuple(notes),
    )


VARIANCE = declared("variance", analyse_variance, variance_evidence, parted=True)
