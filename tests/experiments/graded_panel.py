"""Panels of graded runs with or without a planted link between dynamics and answers."""

import numpy as np

from phaselens.experiments import ModelData, Panel
from phaselens.validity.simulated_answers import Links
from phaselens.validity.simulated_answers import graded_model as model_with

SIZES = ("prompts", "samples", "calibration", "right")


def graded_model(name: str, rng: np.random.Generator, **planted) -> ModelData:
    """One model; every number plants one link, 0 none. `right` is the share of right answers."""
    size = {k: planted.pop(k) for k in SIZES if k in planted}
    return model_with(name, rng, Links(**planted), **size)


def graded_panel(models: int = 1, seed: int = 0, **planted) -> Panel:
    """A panel of such models; `planted` values that are lists go to the models one by one."""
    rng = np.random.default_rng(seed)
    own = [{k: v[i] if isinstance(v, list) else v for k, v in planted.items()} for i in range(models)]
    return Panel(tuple(graded_model(f"m{i}", rng, **one) for i, one in enumerate(own)), n_boot=200)
