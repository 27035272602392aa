"""Scores that follow a run while it is generated, thresholds learned from labelled runs, and where they are crossed.

A score is a number per step made from one column. `Running` takes values one by one and `running` a whole array; both
give the same numbers, so that a threshold learned offline means the same live.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from phaselens.errors import InputError, unknown_name

STATISTICS = ("value", "recent", "mean", "debt")
DECAY = 0.9


@dataclass(frozen=True)
class Score:
    """Which number of a step is followed: a column of `steps` (layer None) or of `layers` at one layer.

    `statistic`: `value` as it is; `recent` mean of the defined values of the last `window` steps, undefined while fewer
    than half of them are; `mean` of all defined values so far; `debt` the streaming form of instability debt,
    `d = 0.9 d + max(0, x - tau)`.

    Raises UnknownNameError for another statistic, InputError for a window below 1.
    """

    column: str
    layer: int | None = None
    statistic: str = "recent"
    window: int = 8
    tau: float = 0.0

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise unknown_name("statistic of a score", self.statistic, STATISTICS)
        if self.window < 1:
            raise InputError(f"the window of a score holds at least 1 step; got {self.window}.")

    @property
    def name(self) -> str:
        """Short name, e.g. `recent instability @ 9`, `mean entropy`."""
        return f"{self.statistic} {self.column}" + ("" if self.layer is None else f" @ {self.layer}")

    def to_dict(self) -> dict[str, object]:
        """The score as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """When a step alarms: its score lies beyond `threshold` (above it, or below with `above` False), from step `after`.

    A step is calm whose score is not beyond `calm`; where `calm` is NaN, none that is not beyond the threshold.
    """

    score: Score
    threshold: float
    above: bool = True
    after: int = 8
    calm: float = math.nan

    def alarms(self, value: float, step: int) -> bool:
        """Whether a score of this value at this step is an alarm; an undefined one is not."""
        return step >= self.after and _beyond(value, self.threshold, self.above)

    def is_calm(self, value: float) -> bool:
        """Whether a step with this score is one to go back to; an undefined score is not calm."""
        level = self.threshold if math.isnan(self.calm) else self.calm
        return not math.isnan(value) and not _beyond(value, level, self.above)

    def to_dict(self) -> dict[str, object]:
        """The rule as plain JSON values; `calm` is None where it is not given."""
        return {**asdict(self), "calm": None if math.isnan(self.calm) else self.calm}


def _beyond(value: float, level: float, above: bool) -> bool:
    return value > level if above else value < level


class Running:
    """A score taken value by value; its memory does not depend on the length of the run."""

    def __init__(self, score: Score) -> None:
        self._score = score
        self._push: Callable[[float], float] = getattr(self, f"_{score.statistic}")
        self._last: deque[float] = deque(maxlen=score.window)
        self._tau, self._half = score.tau, score.window / 2
        self._sum, self._count = 0.0, 0

    def push(self, value: float) -> float:
        """Take the value of the next step (NaN where undefined); return the score there (NaN where undefined)."""
        return self._push(float(value))

    def copy(self) -> "Running":
        """The same score so far, to be gone on with on its own."""
        out = Running(self._score)
        out._last, out._sum, out._count = self._last.copy(), self._sum, self._count
        return out

    def _value(self, value: float) -> float:
        return value

    def _recent(self, value: float) -> float:
        self._last.append(value)
        known = [v for v in self._last if not math.isnan(v)]
        return math.fsum(known) / len(known) if known and len(known) >= self._half else math.nan

    def _mean(self, value: float) -> float:
        if not math.isnan(value):
            self._sum, self._count = self._sum + value, self._count + 1
        return self._sum / self._count if self._count else math.nan

    def _debt(self, value: float) -> float:
        if not math.isnan(value):
            self._sum, self._count = DECAY * self._sum + max(0.0, value - self._tau), 1
        return self._sum if self._count else math.nan


def running(values: np.ndarray, score: Score) -> np.ndarray:
    """The score at every step (unit of the values), as `Running` gives it one by one.

    Shapes: values [..., step] -> float64 [..., step]. NaN: see `Score`; under `value`, `mean` and `debt` a run has none
    before its first defined value.
    """
    x = np.asarray(values, float)
    known = np.isfinite(x)
    if score.statistic == "value" or not x.shape[-1]:
        return x.copy()
    if score.statistic == "debt":
        return _debt(x, known, score.tau)
    sums, counts = np.cumsum(np.where(known, x, 0.0), -1), np.cumsum(known, -1)
    fewest = 1.0
    if score.statistic == "recent":
        sums, counts = (_less_earlier(total, score.window) for total in (sums, counts))
        fewest = max(1.0, score.window / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts >= fewest, sums / counts, np.nan)


def _less_earlier(total: np.ndarray, window: int) -> np.ndarray:
    """Sums over the last `window` entries from cumulative sums."""
    out = total.copy()
    out[..., window:] -= total[..., :-window]
    return out


def _debt(x: np.ndarray, known: np.ndarray, tau: float) -> np.ndarray:
    out = np.empty_like(x)
    debt = np.zeros(x.shape[:-1])
    for step in range(x.shape[-1]):
        grown = DECAY * debt + np.maximum(0.0, x[..., step] - tau)
        debt = np.where(known[..., step], grown, debt)
        out[..., step] = debt
    return np.where(np.cumsum(known, -1) > 0, out, np.nan)


def first_alarm(scores: np.ndarray, threshold: float, *, above: bool = True, after: int = 8) -> np.ndarray:
    """First step whose score lies beyond the threshold, from step `after` on (step); -1 where there is none.

    Shapes: scores [..., step] -> int [...]. Undefined scores alarm never.
    """
    x = np.asarray(scores, float)
    beyond = x > threshold if above else x < threshold
    beyond[..., :after] = False
    return np.where(beyond.any(-1), beyond.argmax(-1) if x.shape[-1] else -1, -1)


def peaks(scores: np.ndarray, *, above: bool = True, after: int = 8) -> np.ndarray:
    """The score that decides whether a run alarms (unit of the scores): its largest from step `after` on, or smallest.

    Shapes: scores [..., step] -> float [...]. NaN: no defined score there; such a run never alarms.
    """
    x = np.asarray(scores, float)[..., after:]
    sign = 1.0 if above else -1.0
    best = np.where(np.isfinite(x), sign * x, -np.inf).max(-1, initial=-np.inf)
    return np.where(np.isfinite(best), sign * best, np.nan)


def alarm_threshold(
    peaks_of_calm: np.ndarray, rate: float, *, above: bool = True, units: np.ndarray | None = None
) -> float:
    """Threshold beyond which at most a share `rate` of further calm runs peak (unit of the peaks).

    The least peak such that the shares of runs up to it, summed over the J units, reach `(J + 1)(1 - rate)` (the
    largest, with `above` False): for a run of a further prompt the chance of a false alarm is at most `rate`, whatever
    the distribution and however alike the runs of one prompt are. Without `units` every run is one of its own. Shapes:
    peaks and units [run]. Runs whose peak is undefined count as lowest. Infinite: too few units for this rate.

    Raises InputError for a rate outside (0, 1). Source: Lee, Barber and Willett 2023, arXiv:2306.06342, of which Vovk,
    Gammerman and Shafer 2005, "Algorithmic learning in a random world", section 2.2, is the case without units.
    """
    if not 0 < rate < 1:
        raise InputError(f"a false-alarm rate lies between 0 and 1; got {rate}.")
    sign = 1.0 if above else -1.0
    x = np.nan_to_num(sign * np.asarray(peaks_of_calm, float), nan=-np.inf)
    _, place, counts = np.unique(np.arange(len(x)) if units is None else units, return_inverse=True, return_counts=True)
    order = np.argsort(x, kind="stable")
    reached = np.cumsum(1 / counts[place][order]) >= (len(counts) + 1) * (1 - rate) - 1e-9
    return sign * (float(x[order][reached.argmax()]) if reached.any() else math.inf)
