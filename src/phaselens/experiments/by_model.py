"""What each model says of a claim, and the mean over models, for the claims about answers and what comes later."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, Requirement, above, below
from phaselens.experiments.base import Panel
from phaselens.experiments.graded_runs import Graded
from phaselens.experiments.pooled import each_model, of_draws
from phaselens.experiments.result_tables import bounds
from phaselens.statistics.detection import resampled_auroc_within
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.logistic_regression import resampled_held_out

REFITS, SPLITS, AGAIN = 150, 5, 3  # resamples in which predictions are fitted anew; splits of the whole, of each
# A statistic of runs given the stratum of each and weights [draw, unit]: [draw].
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Own:
    """What one model says of a claim (unit of the claim): its value, draws over units, and the value without strata."""

    model: str
    value: float
    draws: np.ndarray
    plain: float
    runs: int
    units: int


def own(panel: Panel, g: Graded, use: np.ndarray, of: Statistic, strata: np.ndarray | None = None) -> Own | None:
    """One number of one model over the graded runs in `use`, in `strata` (default: theirs); None: undefined."""
    stratum, ones = (g.strata if strata is None else strata)[use], np.ones((1, len(panel.units)), int)
    drawn = of(stratum, np.vstack([ones, panel.weights]))
    if not math.isfinite(drawn[0]):
        return None
    plain = float(of(np.zeros_like(stratum), ones)[0])
    return Own(g.model.info.name, float(drawn[0]), drawn[1:], plain, int(use.sum()), len(np.unique(g.unit[use])))


def refitted_gain(
    panel: Panel,
    model: str,
    features: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    label: np.ndarray,
    unit: np.ndarray,
    stratum: np.ndarray,
) -> Own | None:
    """AUROC gain of held-out logistic predictions from the first over those from the second features (1).

    Both are fitted anew in every resample of units: with predictions held fixed the interval knows nothing of what
    other training runs would have given, and missed 0 in 17 % of studies without a link. Means over splits into folds,
    since one split moves the gain by as much as half of its error does.
    Shapes: a feature, label, unit and stratum [run] each.
    """
    draws = panel.generator(f"refitted gain {model}")
    both = [np.column_stack(list(columns)) for columns in features]

    def gain(of: np.ndarray, w: np.ndarray, splits: int) -> float:
        scores = [[resampled_held_out(x, label, unit, w, draws) for x in both] for _ in range(splits)]
        found = [[resampled_auroc_within(s, label, of, w[None, unit])[0] for s in pair] for pair in scores]
        return float(np.mean([first - second for first, second in found]))

    ones = np.ones(len(panel.units), int)
    value, without = (gain(of, ones, SPLITS) for of in (stratum, np.zeros_like(stratum)))
    if not math.isfinite(value):
        return None
    again = [gain(stratum, w, AGAIN) for w in panel.weights[:REFITS]]
    spread = np.array(again) - np.nanmean(again)
    return Own(model, value, value + spread, without, len(label), len(np.unique(unit)))


def mean_evidence(
    found: Sequence[Own],
    units: int,
    counted: Mapping[str, int],
    *,
    lacking: str = "",
    requirements: tuple[Requirement, ...] = (),
    outcomes: tuple[Outcome, ...] = (),
    least: float = 0.0,
) -> IntervalEvidence:
    """Evidence that a mean over models lies above 0 (below `least` rejects), with what each model says beside."""
    known = of_draws([(o.model, o.value, o.draws) for o in found], units) if found else None
    nothing = percentile_interval(np.full(1, np.nan), units)
    draws = np.mean([o.draws for o in found], axis=0) if found else np.full(1, np.nan)
    return IntervalEvidence(
        estimate=known.whole.value if known else math.nan,
        interval=known.whole.interval if known else nothing,
        supported=above(0),
        rejected=below(least),
        counts=counted,
        n=units,
        needed=f"more prompts about other things (this study: {units} units)",
        requirements=requirements,
        outcomes=(*outcomes, each_model(known, below(least))) if known else (),
        p=below_bound(draws, 0.0),
        null=0.0,
        lacking=lacking,
        beside=f"without strata {np.mean([o.plain for o in found]):.3g}" if found else "",
    )


def below_bound(draws: np.ndarray, bound: float) -> float:
    """P that the truth is at most the bound (probability), from the draws; NaN where too few are defined."""
    seen = draws[np.isfinite(draws)]
    return float((1 + (seen <= bound).sum()) / (len(seen) + 1)) if len(seen) >= 0.9 * len(draws) else math.nan


def model_rows(found: Mapping[str, Sequence[Own]]) -> list[dict]:
    """Rows of the table answers_models."""
    rows = []
    for claim, several in found.items():
        for one in several:
            ends = percentile_interval(one.draws, one.units)
            rows.append(
                {"claim": claim, "model": one.model, "value": one.value, **bounds(ends)}
                | {"without_strata": one.plain, "n_runs": one.runs, "n_units": one.units}
            )
    return rows
