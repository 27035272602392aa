"""Where a value stands on paper: linear and logarithmic scales with their ticks, and ranges that hold a set of
values.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from phaselens.report.written_values import is_number


@dataclass(frozen=True)
class Scale:
    """Map values from `low..high` to pixels `start..end`, linearly or (if `log`) by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Give the pixel of a value; values beyond the range are placed beyond it."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def clipped(self, value: float) -> float:
        """Give the pixel of a value, held at the ends of the range."""
        return self(min(max(value, self.low), self.high))

    def holds(self, value: object) -> bool:
        """Say whether the value is a number inside the range."""
        return is_number(value) and self.low <= value <= self.high

    def ticks(self, wanted: int = 5) -> list[float]:
        """Give about `wanted` round values inside the range."""
        return _log_ticks(self.low, self.high, wanted) if self.log else _linear_ticks(self.low, self.high, wanted)


def span(values: Iterable[object], *, log: bool = False, pad: float = 0.06) -> tuple[float, float] | None:
    """Give the least range, with a margin, that holds all finite values (if `log`, the positive ones); else None."""
    known = [float(v) for v in values if is_number(v) and (not log or v > 0)]
    if not known:
        return None
    low, high = min(known), max(known)
    if log:
        room = max((math.log(high) - math.log(low)) * pad, 0.02)
        return low * math.exp(-room), high * math.exp(room)
    room = (high - low) * pad or abs(high) * pad or 1.0
    return low - room, high + room


def _linear_ticks(low: float, high: float, wanted: int) -> list[float]:
    rough = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) + 0.0 for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    if high / low < 4:  # less than a factor of four: decades would give one tick or none
        return [tick for tick in _linear_ticks(low, high, wanted) if tick > 0]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    choices = [
        [m * 10.0**d for d in decades[:: max(1, stride)] for m in marks if low <= m * 10.0**d <= high]
        for marks, stride in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 2), ((1,), 3))
    ]
    return next((c for c in choices if len(c) <= wanted + 1), choices[-1])
