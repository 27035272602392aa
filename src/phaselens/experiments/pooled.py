"""One number over several models that were asked the same things: mean over models, what was asked resampled.

Models weigh the same, and one bootstrap of units serves all of them, so that a question that is hard for every model
moves every model at once. The interval (expanded percentiles, since units may be 12 nouns) speaks of these models;
whether one of them says the opposite is asked apart.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from phaselens.claims import Outcome, Region
from phaselens.claims.verdict_records import word_of
from phaselens.statistics.intervals import Interval, bootstrap_p, expanded_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.strata import random_effects

BOOTSTRAPS = 2000
NORMAL = 1.96  # half a 95 % interval in standard errors


@dataclass(frozen=True)
class Change:
    """A mean with its 95 % and its 90 % interval (for two one-sided tests), units resampled; `n` units, draws [B]."""

    value: float
    interval: Interval
    narrow: Interval
    n: int = 0
    draws: np.ndarray = field(default_factory=lambda: np.zeros(0), compare=False, repr=False)

    def p(self, bound: float = 0.0) -> float:
        """Two-sided p-value of the bound, as the 95 % interval gives it (probability)."""
        return bootstrap_p(self.draws, bound, n_units=self.n)

    def against_zero(self) -> dict[str, Any]:
        """Estimate, interval, n and the p-value of a null of 0, under the names that evidence has for them."""
        return {"estimate": self.value, "interval": self.interval, "n": self.n, "p": self.p(), "null": 0.0}

    def p_inside(self, margin: float) -> float:
        """p-value of two one-sided tests against a mean beyond +-margin, as the 90 % interval gives it (1)."""
        if not abs(self.value) < margin:
            return 1.0 if math.isfinite(self.value) else math.nan
        return max(self.p(-margin), self.p(margin)) / 2


@dataclass(frozen=True)
class Pooled:
    """The mean over models, and of each model by name."""

    whole: Change
    each: tuple[tuple[str, Change], ...]


@dataclass(frozen=True, eq=False)
class Asked:
    """The values of one model (their unit) [item] and the units of its items [item]; NaN values are left out."""

    model: str
    values: np.ndarray
    units: np.ndarray


def pooled(asked: Sequence[Asked], seed: int, *, n_boot: int = BOOTSTRAPS) -> Pooled:
    """Mean over items of each model, and the mean of these, with intervals over units (unit of the values).

    NaN: a model without any value is left out; none has one.
    """
    names = np.unique(np.concatenate([np.asarray(a.units).astype(str) for a in asked]))
    weights = _weights(len(names), seed, n_boot)
    values, draws, each = [], [], []
    for one in asked:
        member = np.searchsorted(names, np.asarray(one.units).astype(str))
        seen = np.isfinite(one.values)
        sums = np.bincount(member[seen], one.values[seen], minlength=len(names))
        counts = np.bincount(member[seen], minlength=len(names))
        if counts.sum() == 0:
            none = undefined_interval("no item has a value")
            each.append((one.model, Change(math.nan, none, none)))
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            drawn = (weights @ sums) / (weights @ counts)
        values.append(float(sums.sum() / counts.sum()))
        draws.append(drawn)
        each.append((one.model, _change(values[-1], drawn, int((counts > 0).sum()))))
    if not values:
        return Pooled(each[0][1], tuple(each))
    n = max(change.n for _, change in each)
    return Pooled(_change(float(np.mean(values)), np.mean(draws, axis=0), n), tuple(each))


@lru_cache(maxsize=4)
def _weights(n_units: int, seed: int, n_boot: int) -> np.ndarray:
    """One bootstrap of units for all arms, models and claims: the same units move together."""
    return bootstrap_weights(n_units, np.random.default_rng([seed, 61]), n_boot=n_boot).astype(float)


def of_draws(parts: Sequence[tuple[str, float, np.ndarray]], n: int) -> Pooled:
    """The same from estimates with draws of one bootstrap of `n` units: (model, value, draws [n_boot]) each."""
    each = tuple((name, _change(value, drawn, n)) for name, value, drawn in parts)
    whole = _change(float(np.mean([v for _, v, _ in parts])), np.mean([d for _, _, d in parts], axis=0), n)
    return Pooled(whole, each)


def _change(value: float, drawn: np.ndarray, n: int) -> Change:
    wide, narrow = (expanded_interval(drawn, n, level=level) for level in (0.95, 0.90))
    return Change(value, wide, narrow, n, drawn)


def each_model(found: Pooled, opposite: Sequence[Region]) -> Outcome:
    """Whether any model says the opposite of the mean: its own 95 % interval lies there."""
    against = [name for name, change in found.each if any(region.holds(change.interval) for region in opposite)]
    if len(found.each) == 1:
        return Outcome("each model", "undecided" if against else "survived", "one model was asked")
    said = f"{', '.join(against)} says the opposite" if against else "none says the opposite"
    return Outcome("each model", "undecided" if against else "survived", f"{said}; {signs(found)}")


def signs(found: Pooled) -> str:
    """In words: how many models lie above and below 0 and how surely, how they spread, and the mean of such models."""
    known = [c for _, c in found.each if math.isfinite(c.value) and not c.interval.reason]
    above, below = ([c for c in known if side * c.value > 0] for side in (1, -1))
    sure = [sum(c.interval.lo > 0 for c in above), sum(c.interval.hi < 0 for c in below)]
    words = f"{len(above)} of {len(known)} models above 0 ({sure[0]} surely), {len(below)} below ({sure[1]})"
    if len(known) < 2:
        return words
    half = [(c.interval.hi - c.interval.lo) / 2 / NORMAL for c in known]
    of = random_effects(np.array([c.value for c in known]), np.array(half) ** 2)
    return f"{words}; tau {of.tau:.2g}; models such as these {of.mean:.3g} [{of.interval.lo:.3g}, {of.interval.hi:.3g}]"


def beyond(own: float, random: np.ndarray, name: str, what: str, level: float = 0.05) -> Outcome:
    """Whether a value lies above what as good as all random draws [draw] give: `p = (1 + #{random >= own}) / (1 + K)`.

    Below their median nothing is left of it; between, it is open. Too few draws to reach the level are no control.
    """
    random = random[np.isfinite(random)]
    least = math.ceil(1 / level - 1)
    if len(random) < least:
        return Outcome(name, "missing", f"{len(random)} {what} cannot reach p <= {level:g}: draw at least {least}")
    p = (1 + int((random >= own).sum())) / (1 + len(random))
    said = (
        f"{own:.3g} against {np.median(random):.3g} (largest {random.max():.3g}) of {len(random)} {what}, p = {p:.3g}"
    )
    word = word_of(p <= level, own <= np.median(random))
    return Outcome(name, word, said, p=p)


def identity(worst: Sequence[float]) -> Outcome:
    """The identity null: noise of strength 0 through the same hooks changed no bit."""
    gap = max(worst)
    said = f"largest change of a logit by strength 0: {gap:.3g}"
    return Outcome("identity null", "survived" if gap == 0 else "explains it away", said)
