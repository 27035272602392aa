"""Do the intervals cover at their level? Small simulations that say so, with their own interval."""

from collections.abc import Callable

import numpy as np

from phaselens.statistics.intervals import Interval, proportion_interval


def coverage(
    draw: Callable[[np.random.Generator], np.ndarray],
    interval: Callable[[np.ndarray, np.random.Generator], Interval],
    truth: float,
    generator: np.random.Generator,
    *,
    n_studies: int = 400,
) -> tuple[float, Interval]:
    """Share of simulated studies whose interval holds the truth (proportion), with its Clopper-Pearson interval.

    `draw(generator)` makes the data of one study, `interval(data, generator)` its interval; an undefined interval
    counts as a miss, for it did not cover.
    """
    hits = sum(truth in interval(draw(generator), generator) for _ in range(n_studies))
    return hits / n_studies, proportion_interval(hits, n_studies)
