"""Simulated state normalisations, for N1: ratio_norm tells models apart better, or no better, under one of two."""

from dataclasses import replace

import numpy as np

from phaselens.experiments import Panel
from phaselens.experiments.normalisation import COMPARED, column
from phaselens.validity.simulated_panels import RUNS, infos, model_of, study_of
from phaselens.validity.simulated_regimes import CENTRE, N_STATES, peaked, run_ratios

UNIT = 0.1


def study_of_methods(
    generator: np.random.Generator, *, m: int, spreads: tuple[float, float], shared: float = 0.5
) -> Panel:
    """M models whose medians of log ratio_norm have these spreads (0.1) under CLIPPED_MAD and RAW.

    `shared` is the correlation of both within a run: two normalisations of one run see much the same.
    """
    levels = generator.standard_normal(m)
    common, first, second = (run_ratios(np.zeros(m), generator) for _ in range(3))
    runs = [np.sqrt(shared) * common + np.sqrt(1 - shared) * own for own in (first, second)]
    ct = {
        column(method): peaked(CENTRE + UNIT * spread * levels[:, None] + own, generator)
        for method, spread, own in zip(COMPARED, spreads, runs, strict=True)
    }
    trained, _ = infos(m, n_layers=1)
    models = [
        model_of(replace(info, dropped=0.0), {k: v[i].reshape(RUNS, N_STATES, 1) for k, v in ct.items()})
        for i, info in enumerate(trained)
    ]
    return study_of(models, generator)
