"""What ambiguity does: an ambiguous prompt against the same prompt disambiguated in two ways.

A pair is one ambiguous prompt with both of its disambiguations. Differences are ambiguous less the mean of the two, and
values that go together, as those of one homonym's pairs, are averaged into one unit before they come here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.multiplicity import holm
from phaselens.statistics.resampling import bootstrap_weights, resampled_ratio

MARGIN = 0.4  # SD of the differences: 60 pairs then show a true 0 to be small with power .86
LEVEL = 0.05
FEWEST_UNITS = 60
FLAGS = ("YES", "PARTIAL", "NO", "UNDETERMINED")


def comparable_pairs(ambiguous: np.ndarray, first: np.ndarray, second: np.ndarray, *, within: int = 1) -> np.ndarray:
    """Pairs whose three prompts have the same length to within one token (bool [pair]); lengths are int [pair]."""
    lengths = np.stack([np.asarray(ambiguous), np.asarray(first), np.asarray(second)])
    return lengths.max(axis=0) - lengths.min(axis=0) <= within


def paired_difference(ambiguous: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Ambiguous less the mean of its two disambiguations (unit of the values), [..., pair]; NaN where one is NaN."""
    return np.asarray(ambiguous, float) - (np.asarray(first, float) + np.asarray(second, float)) / 2


def twin_cosine_difference(to_first: np.ndarray, to_second: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Mean cosine of the ambiguous state to its two twins less the cosine between the twins (1), [..., pair].

    Below 0: the ambiguous state is farther from both than they are from each other.
    """
    return (np.asarray(to_first, float) + np.asarray(to_second, float)) / 2 - np.asarray(between, float)


def cliffs_delta(first: np.ndarray, second: np.ndarray) -> float:
    """How often a value of the first sample is above one of the second, less how often below (1), in [-1, 1].

    Over all pairs of values. NaN values are left out; NaN for an empty sample. Keeps: any monotone map. Source: Cliff
    1993.
    """
    x, y = (np.asarray(v, float)[np.isfinite(v)] for v in (first, second))
    if not len(x) or not len(y):
        return math.nan
    y = np.sort(y)
    below, upto = np.searchsorted(y, x, "left"), np.searchsorted(y, x, "right")
    return float((below - (len(y) - upto)).sum() / (len(x) * len(y)))


def equivalence_p(differences: np.ndarray, *, margin: float = MARGIN) -> float:
    """Two one-sided t tests that the mean difference lies within .4 SD of the differences (probability).

    The larger of both p-values, `P(T > (m s - |mean|) sqrt(n) / s)` with n - 1 degrees of freedom and s the standard
    deviation of the sample itself: small means that the mean is inside the margin. NaN: fewer than two differences; no
    spread gives 0 at mean 0 and 1 elsewhere.
    Moves with: the number of pairs (at 60 the power for a true 0 is about .86). Source: Schuirmann 1987.
    """
    d = np.asarray(differences, float)
    d = d[np.isfinite(d)]
    if len(d) < 2:
        return math.nan
    s, mean = d.std(ddof=1), d.mean()
    if s == 0:
        return 0.0 if mean == 0 else 1.0
    t = (margin * s - abs(mean)) / (s / math.sqrt(len(d)))
    return float(stats.t.sf(t, len(d) - 1))


@dataclass(frozen=True)
class Effect:
    """One outcome in one model: mean paired difference with its prompt-bootstrap interval, and the tests.

    `standardised` is mean / SD of the differences, `wilcoxon_p` two-sided and unadjusted, `holm_p` adjusted over the
    outcomes of the model, `equivalence_p` of the TOST at .4 SD. NaN with a reason in the interval where undefined.
    """

    outcome: str
    n_units: int
    mean: float
    interval: Interval
    standardised: float
    cliffs_delta: float
    wilcoxon_p: float
    holm_p: float
    equivalence_p: float

    @property
    def sign(self) -> int:
        """1 or -1 where the interval lies above or below 0, else 0."""
        return 1 if self.interval.lo > 0 else -1 if self.interval.hi < 0 else 0

    @property
    def equivalent(self) -> bool:
        """Whether the TOST passes at 5 %."""
        return self.equivalence_p <= LEVEL


def effects(
    outcomes: Mapping[str, tuple[np.ndarray, np.ndarray]], generator: np.random.Generator, *, n_boot: int = 2000
) -> tuple[Effect, ...]:
    """Effect of ambiguity on each outcome of one model.

    `outcomes` maps a name to (values of the ambiguous prompts, values they are compared with: the mean of the two
    disambiguations), each [pair]; pairs with NaN are left out. Holm runs over the outcomes given.
    Source: docs/definitions, section 13.
    """
    raw = [_effect(name, *pair, generator, n_boot) for name, pair in outcomes.items()]
    adjusted = holm(np.array([one["wilcoxon_p"] for one in raw]))
    return tuple(Effect(**one, holm_p=float(p)) for one, p in zip(raw, adjusted, strict=True))


def _effect(
    name: str, ambiguous: np.ndarray, other: np.ndarray, generator: np.random.Generator, n_boot: int
) -> dict[str, Any]:
    ambiguous, other = np.asarray(ambiguous, float), np.asarray(other, float)
    if ambiguous.shape != other.shape or ambiguous.ndim != 1:
        raise InputError(f"{name}: one value per pair on both sides; got {ambiguous.shape} and {other.shape}.")
    whole = np.isfinite(ambiguous) & np.isfinite(other)
    x, y = ambiguous[whole], other[whole]
    d = x - y
    n = len(d)
    weights = bootstrap_weights(n, generator, n_boot=n_boot)
    draws = resampled_ratio(d, np.ones(n), weights) if n else np.full(n_boot, math.nan)
    spread = d.std(ddof=1) if n > 1 else math.nan
    return {
        "outcome": name,
        "n_units": n,
        "mean": float(d.mean()) if n else math.nan,
        "interval": percentile_interval(draws, n),
        "standardised": float(d.mean() / spread) if n > 1 and spread > 0 else math.nan,
        "cliffs_delta": cliffs_delta(x, y),
        "wilcoxon_p": _wilcoxon_p(d),
        "equivalence_p": equivalence_p(d),
    }


def _wilcoxon_p(d: np.ndarray) -> float:
    """Two-sided p of the signed-rank test; differences of exactly 0 count with half their rank on each side."""
    if len(d) < 2:
        return math.nan
    if not d.any():
        return 1.0
    return float(stats.wilcoxon(d, zero_method="zsplit", method="approx").pvalue)


@dataclass(frozen=True)
class Flag:
    """Verdict over models: YES, PARTIAL, NO or UNDETERMINED, with the counts that decided it."""

    flag: str
    n_models: int
    n_above: int
    n_below: int
    n_equivalent: int
    needed_for_yes: int
    needed_for_partial: int


def flag(of_models: Sequence[Effect], *, sign: int = 0) -> Flag:
    """Flag of one outcome over M models: YES, PARTIAL, NO or UNDETERMINED.

    YES: the interval excludes 0 with one sign in at least ceil(6 M / 7) models; PARTIAL: in at least ceil(2 M / 7);
    NO: the TOST passes in at least ceil(6 M / 7); else UNDETERMINED. `sign` 1 or -1 counts only that direction
    (INCREASES, DELAYS); 0 takes the more frequent one (AFFECTS). Models with fewer than 60 units do not count but stay
    in M. A change in the other direction is thus never NO: the counts show it.
    Source: the published series names the flags; rule as in docs/definitions, section 13.
    """
    m = len(of_models)
    if sign not in (-1, 0, 1):
        raise InputError(f"sign is -1, 0 or 1; got {sign}.")
    yes, partial = -(-6 * m // 7), -(-2 * m // 7)
    usable = [one for one in of_models if one.n_units >= FEWEST_UNITS]
    above, below = (sum(one.sign == s for one in usable) for s in (1, -1))
    equivalent = sum(one.equivalent for one in usable)
    count = {1: above, -1: below, 0: max(above, below)}[sign]
    if m == 0:
        found = "UNDETERMINED"
    elif count >= yes:
        found = "YES"
    elif count >= partial:
        found = "PARTIAL"
    else:
        found = "NO" if equivalent >= yes else "UNDETERMINED"
    return Flag(found, m, above, n_below=below, n_equivalent=equivalent, needed_for_yes=yes, needed_for_partial=partial)
