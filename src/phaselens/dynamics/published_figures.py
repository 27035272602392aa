"""Published figures of the series, shown beside ours for comparison only; nothing is decided by them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Band:
    """A published band of a run's ratio_norm (1): its name and its two ends, equal where one value was given."""

    name: str
    low: float
    high: float


BANDS = (
    Band("UNDERACTIVE", 1.55, 1.70),
    Band("ADAPTIVE", 2.27, 2.92),
    Band("TRANSITION", 2.97, 2.97),
    Band("CHAOTIC", 4.42, 35.55),
)
REGIMES = tuple(band.name.lower() for band in BANDS)

SHARES = (("model", 0.07), ("category", 0.17), ("rest", 0.76))
"""Published three-way shares of variance (1) of ratio_norm, over other models."""

GD_RATIO = (
    ("GPT-2", 2.458),
    ("Phi-1.5", 1.764),
    ("DistilGPT-2", 1.577),
    ("Qwen2.5-0.5B", 0.079),
    ("OPT-125M", 0.074),
    ("Pythia-70M", 0.059),
    ("Pythia-160M", 0.039),
    ("TinyLlama-1.1B", 0.021),
)
"""Published GD_ratio (1) of eight models that are not in the panel unless they are named there."""


def published_figures() -> Mapping[str, object]:
    """All of them, as `results/published.json` holds them."""
    return {"ratio_norm": [asdict(band) for band in BANDS], "variance_shares": dict(SHARES), "GD_ratio": dict(GD_RATIO)}
