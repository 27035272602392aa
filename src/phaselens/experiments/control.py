"""Experiment: does acting on the dynamics change ct, does it change answers, and are the two the same thing?

Change of ct and change of correctness stand side by side for every arm; evidence for X1, X2, X4 and S6.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Region, Requirement, above, below, inside
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights

MARGIN, LEAST, NO_CHANGE = 0.05, 700, 0.1
TURBULENT = 0.75
ROWS = (
    "model:str arm:str n:int triggered:float right:float change_right:float right_lo:float right_hi:float "
    "equivalent:bool change_ct:float ct_lo:float ct_hi:float extra_tokens:float"
)


@dataclass(frozen=True, eq=False)
class StoredControl:
    """Arms of one model as stored: arrays as in `interventions.control.Control`."""

    model: str
    units: np.ndarray
    identity: float
    right: Mapping[str, np.ndarray]
    ct: Mapping[str, np.ndarray]
    tokens: Mapping[str, np.ndarray]
    triggered: Mapping[str, np.ndarray]
    steered: np.ndarray
    random_steered: np.ndarray
    turbulence: np.ndarray


@dataclass(frozen=True)
class Change:
    """A mean over questions with its 95 % and its 90 % interval (for two one-sided tests), units resampled."""

    value: float
    interval: Interval
    narrow: Interval


def change(values: np.ndarray, units: np.ndarray, seed: int, *, n_boot: int = 2000) -> Change:
    """Mean of paired values [question] (their unit), NaN left out, with intervals over units."""
    names, member = np.unique(units, return_inverse=True)
    seen = np.isfinite(values)
    sums = np.bincount(member[seen], values[seen], minlength=len(names))
    counts = np.bincount(member[seen], minlength=len(names))
    if counts.sum() == 0:
        none = undefined_interval("no question has a value")
        return Change(math.nan, none, none)
    weights = _weights(len(names), seed, n_boot)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = (weights @ sums) / (weights @ counts)
    n = int((counts > 0).sum())
    ends = [percentile_interval(drawn, n, level=level) for level in (0.95, 0.90)]
    return Change(float(sums.sum() / counts.sum()), *ends)


@lru_cache(maxsize=2)
def _weights(n_units: int, seed: int, n_boot: int) -> np.ndarray:
    """One bootstrap of units for all arms and claims: the same units move together."""
    return bootstrap_weights(n_units, np.random.default_rng([seed, 61]), n_boot=n_boot).astype(float)


def equivalent(found: Change, margin: float = MARGIN) -> bool:
    """Whether two one-sided tests at 5 % place the mean within the margin: its 90 % interval lies inside."""
    return -margin < found.narrow.lo and found.narrow.hi < margin


def rows_of(stored: StoredControl, seed: int) -> list[dict[str, object]]:
    """One row per arm: change of correctness and of ct against no intervention, and its cost in tokens."""
    rows = []
    for arm in stored.right:
        right = change(stored.right[arm].astype(float) - stored.right["none"], stored.units, seed)
        ct = change(stored.ct[arm] - stored.ct["none"], stored.units, seed)
        rows.append(
            {
                "model": stored.model, "arm": arm, "n": len(stored.units),
                "triggered": float(stored.triggered[arm].mean()), "right": float(stored.right[arm].mean()),
                "change_right": right.value, "right_lo": right.interval.lo, "right_hi": right.interval.hi,
                "equivalent": equivalent(right), "change_ct": ct.value, "ct_lo": ct.interval.lo,
                "ct_hi": ct.interval.hi,
                "extra_tokens": float(stored.tokens[arm].sum() / stored.tokens["none"].sum() - 1),
            }
        )  # fmt: skip
    return rows


def _counts(stored: StoredControl) -> dict[str, int]:
    return {"models": 1, "questions": len(stored.units), "units": len(np.unique(stored.units))}


def _lacking(stored: StoredControl, why: str, supported: tuple[Region, ...]) -> IntervalEvidence:
    none = undefined_interval(why)
    return IntervalEvidence(math.nan, none, supported, (), _counts(stored), 0, why, lacking=why)


def dynamic(stored: StoredControl, seed: int) -> IntervalEvidence:
    """Evidence for X1: absolute change of ct by the calm direction less that by random ones (SDs over questions)."""
    if not len(stored.steered) or not len(stored.random_steered):
        return _lacking(stored, "no run was steered: let the control study steer", above(0))
    plain = stored.ct["none"]
    spread = float(np.nanstd(plain))
    own = np.abs(stored.steered - plain)
    other = np.abs(stored.random_steered - plain).mean(axis=0)
    found = change((own - other) / spread, stored.units, seed)
    identity = Outcome(
        "identity null",
        "survived" if stored.identity == 0 else "explains it away",
        f"largest change of a logit by strength 0: {stored.identity:.3g}",
    )
    return IntervalEvidence(
        found.value, found.interval, above(0), inside(NO_CHANGE), _counts(stored), len(plain), "more questions",
        (identity,), null=0.0, of="change of ct in SDs",
    )  # fmt: skip


def semantic(stored: StoredControl, seed: int, *, dynamic_supported: bool) -> IntervalEvidence:
    """Evidence for X2: change of correctness under the monitor, equivalent to none within 5 points."""
    found = change(stored.right["monitor"].astype(float) - stored.right["none"], stored.units, seed)
    aside = change(stored.right["monitor"].astype(float) - stored.right["random"], stored.units, seed)
    n = len(stored.units)
    said = f"monitor less random trigger [{aside.interval.lo:.3g}, {aside.interval.hi:.3g}]"
    word = "survived" if equivalent(aside) else "explains it away" if aside.interval.lo > 0 else "undecided"
    needs = (
        Requirement("n", n >= LEAST, f"{n} paired questions; no power below {LEAST}", f"{LEAST} questions"),
        Requirement("X1", dynamic_supported, "X1 is not supported: ct was not changed", "an action that changes ct"),
    )
    # Repair is rejected at 95 %, equivalence is shown by the 90 % interval; the random trigger must not do as well.
    repaired = found.interval.lo > MARGIN and aside.interval.lo > 0
    interval = found.interval if repaired else found.narrow
    return IntervalEvidence(
        found.value, interval, inside(MARGIN), (Region(lo=MARGIN),) if repaired else (), _counts(stored), n,
        "more questions", (Outcome("random trigger", word, said),), needs, null=0.0, of="change of correctness",
    )  # fmt: skip


def necessary(stored: StoredControl, seed: int) -> IntervalEvidence:
    """Evidence for X4: repairs by the guard prompt without a fall of ct, less those of another seed alone."""
    if "guard" not in stored.right:
        return _lacking(stored, "no guard prompt was given: name one", ())
    shares = []
    for arm in ("guard", "again"):
        still = ~(stored.ct[arm] < stored.ct["none"])
        shares.append((stored.right[arm] & ~stored.right["none"] & still).astype(float))
    found = change(shares[0] - shares[1], stored.units, seed)
    said = f"{shares[0].mean():.3g} of the questions, {shares[1].mean():.3g} by another seed alone"
    return IntervalEvidence(
        found.value, found.interval, (), (Region(lo=0),), _counts(stored), len(stored.units), "more questions",
        (Outcome("guard prompt", "survived", said),), null=0.0, of="repairs without a fall of ct",
    )  # fmt: skip


def damping(stored: StoredControl, seed: int) -> IntervalEvidence:
    """Evidence for S6: low less normal temperature in turbulent questions, beside calm ones."""
    if "cool" not in stored.right or not len(stored.turbulence):
        return _lacking(stored, "no arm of low temperature, or no turbulence", below(0))
    low = stored.right["cool"].astype(float) - stored.right["none"]
    turbulent = stored.turbulence > np.nanquantile(stored.turbulence, TURBULENT)
    found = change(np.where(turbulent, low, np.nan), stored.units, seed)
    calm = change(np.where(turbulent, np.nan, low), stored.units, seed)
    said = f"calm questions change by {calm.value:.3g} [{calm.interval.lo:.3g}, {calm.interval.hi:.3g}]"
    word = (
        "survived"
        if calm.interval.lo > found.interval.hi or calm.interval.lo > 0
        else ("explains it away" if calm.value <= found.value else "undecided")
    )
    return IntervalEvidence(
        found.value, found.interval, below(0), above(0), _counts(stored), int(turbulent.sum()), "more questions",
        (Outcome("calm runs", word, said),), null=0.0, of="change of correctness, turbulent questions",
    )  # fmt: skip
