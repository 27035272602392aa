"""A claim that must hold in every version and falls in any: which version decides, and what the others say."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from phaselens.claims import IntervalEvidence, Outcome, Region
from phaselens.statistics.intervals import Interval


@dataclass(frozen=True)
class Version:
    """One version of an estimate: what it is of, its interval, and the p-value of its rule (NaN: there is none)."""

    name: str
    estimate: float
    interval: Interval
    p: float = math.nan


def decided(
    versions: Sequence[Version], supported: tuple[Region, ...], rejected: tuple[Region, ...], **more
) -> IntervalEvidence:
    """The evidence of the version that decides: the first that rejects, else the one that supports least.

    The p-value is the largest of all versions, and `beside` says of which; NaN where one has none. `more` are further
    fields of the evidence.
    """
    one = next((v for v in versions if _in(v, rejected)), None)
    if one is None:
        one = max(versions, key=lambda v: (bool(v.interval.reason), not _in(v, supported), _p(v), _left(v, supported)))
    p = [v.p for v in versions]
    whole = bool(p) and all(map(math.isfinite, p))
    return IntervalEvidence(
        estimate=one.estimate,
        interval=one.interval,
        supported=supported,
        rejected=rejected,
        p=max(p) if whole else math.nan,
        of=one.name,
        beside=f"p of {max(versions, key=lambda v: v.p).name}" if whole and len(p) > 1 else "",
        **more,
    )


def alike(name: str, versions: Sequence[Version], supported: tuple[Region, ...]) -> Outcome:
    """Whether all versions say the same: "survived" if each supports; else undecided, with what each says."""
    said = "; ".join(f"{v.name} {v.estimate:.3g} [{v.interval.lo:.3g}, {v.interval.hi:.3g}]" for v in versions)
    return Outcome(name, "survived" if all(_in(v, supported) for v in versions) else "undecided", said)


def units_needed(version: Version, bound: float, n: int) -> int | None:
    """Units (prompts) at which the interval would end at `bound`, its width taken to fall as 1 / sqrt(n) (count).

    None: the estimate or its interval is undefined, or the estimate is at the bound.
    """
    far = version.estimate - bound
    if version.interval.reason or not math.isfinite(far) or far == 0:
        return None
    side = version.estimate - version.interval.lo if far > 0 else version.interval.hi - version.estimate
    return max(n + 1, math.ceil(n * (side / abs(far)) ** 2))


def _in(version: Version, regions: tuple[Region, ...]) -> bool:
    return any(region.holds(version.interval) for region in regions)


def _p(version: Version) -> float:
    return version.p if math.isfinite(version.p) else 1.0


def _left(version: Version, supported: tuple[Region, ...]) -> float:
    """How far the interval is from lying in the region that supports (unit of the estimate)."""
    out = [max(r.lo - version.interval.lo, version.interval.hi - r.hi) for r in supported]
    return min(out, default=0.0) if not version.interval.reason else math.inf
