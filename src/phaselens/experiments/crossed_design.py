"""One number per run as a design: y[model, category, prompt, sample] of the trained models under one sampling arm."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.dynamics.regimes import ratio_norm, run_mean
from phaselens.errors import InputError
from phaselens.experiments.base import ModelData, Panel
from phaselens.statistics.variance import complete_prompts

MEAN_CT, RATIO = "ln mean ct", "ln ratio_norm"
MEASURES = (MEAN_CT, RATIO)
USUAL = "t0.7"

# One number per run of a model, float64 [run]; NaN where it is undefined.
PerRun = Callable[[ModelData], np.ndarray]


@dataclass(frozen=True, eq=False)
class Cells:
    """One measure of every run, float64 [model, category, unit, sample], NaN where there is none; a mean over a unit's
    prompts.

    `prompts[c]` are the units of category c, sorted; categories with fewer are filled with NaN. `absent` names the
    trained models without any defined value, which are not in `models`.
    """

    y: np.ndarray
    arm: str
    models: tuple[str, ...]
    categories: tuple[str, ...]
    prompts: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...]

    @property
    def balanced(self) -> np.ndarray | None:
        """The part that is complete: prompts defined in every model and sample, [M, C, P', R].

        None: a category has fewer than two such prompts, or nothing is there.
        """
        if not self.y.size:
            return None
        try:
            y = complete_prompts(self.y)
        except InputError:
            return None
        return y if y.shape[2] >= 2 else None

    @property
    def n_runs(self) -> int:
        """Runs with a defined value (count)."""
        return int(np.isfinite(self.y).sum())


def sampled_arm(panel: Panel) -> str:
    """The arm with the most samples of a prompt: the one that has a seed to speak of; "" without runs.

    Of several with as many, t0.7 if it is there, else the first by name.
    """
    samples: dict[str, int] = {}
    for m in panel.trained:
        own, sample = _of(m, "arm"), _of(m, "sample")
        for arm in np.unique(own):
            samples[str(arm)] = max(samples.get(str(arm), 0), int(sample[own == arm].max()) + 1)
    return min(samples, key=lambda arm: (-samples[arm], arm != USUAL, arm), default="")


def _of(model: ModelData, column: str) -> np.ndarray:
    return np.asarray(model.runs[column])[model.measured]


def mean_ct(model: ModelData, layer: int | None = None) -> np.ndarray:
    """Natural logarithm of the mean instability of each run (ln rad), at l* unless a layer is named; [run].

    NaN: not recorded, no defined value, or a mean of 0.
    """
    ct = _instability(model, layer)
    return _ln(run_mean(ct))


def ratio(model: ModelData, layer: int | None = None) -> np.ndarray:
    """Natural logarithm of ratio_norm of each run (1), at l* unless a layer is named; [run]. NaN: as `ratio_norm`."""
    return _ln(ratio_norm(_instability(model, layer)).value)


BY_MEASURE: dict[str, Callable[..., np.ndarray]] = {MEAN_CT: mean_ct, RATIO: ratio}


def _instability(model: ModelData, layer: int | None) -> np.ndarray:
    ct = model.at_layer("instability", model.layer_of_record if layer is None else layer)
    return np.full((len(np.asarray(model.runs["run"])), 0), np.nan) if ct is None else ct


def _ln(values: np.ndarray) -> np.ndarray:
    return np.log(values, out=np.full(len(values), np.nan), where=values > 0)


def cells(panel: Panel, per_run: PerRun, *, labels: Mapping[str, np.ndarray] | None = None) -> Cells:
    """The design of one measure over the trained models in the sampled arm; untrained twins take no part.

    `labels` give by model the category of each of its runs (default: the prompt's own; "": the run takes no part).
    """
    arm = sampled_arm(panel)
    parts: list[tuple[np.ndarray, ...]] = []
    models, absent = list[str](), list[str]()
    for m in panel.trained:
        y = np.asarray(per_run(m), float)
        kinds = np.asarray(m.runs["category"] if labels is None else labels[m.info.name])
        use = m.measured & (np.asarray(m.runs["arm"]) == arm) & ((kinds != "") if labels is not None else True)
        if not np.isfinite(y[use]).any():
            absent.append(m.info.name)
            continue
        columns = (y, kinds.astype(str), m.units, np.asarray(m.runs["sample"]))
        parts.append((np.full(int(use.sum()), len(models)), *(column[use] for column in columns)))
        models.append(m.info.name)
    if not parts:
        return Cells(np.full((0, 0, 0, 0), np.nan), arm, (), (), (), tuple(absent))
    model, values, kinds, ids, sample = (np.concatenate(column) for column in zip(*parts, strict=True))
    names, first, kind = np.unique(kinds, return_index=True, return_inverse=True)
    kind, names = np.argsort(np.argsort(first))[kind], names[np.argsort(first)]  # in the order of their first run
    prompts = tuple(tuple(str(p) for p in np.unique(ids[kind == c])) for c in range(len(names)))
    place = np.zeros(len(ids), int)
    for c, own in enumerate(prompts):
        place[kind == c] = np.searchsorted(np.array(own), ids[kind == c])
    shape = (len(models), len(names), max(map(len, prompts)), int(sample.max()) + 1)
    cell, seen = np.ravel_multi_index((model, kind, place, sample), shape), np.isfinite(values)
    n, sums = (np.bincount(cell[seen], w, math.prod(shape)).reshape(shape) for w in (None, values[seen]))
    y = np.divide(sums, n, out=np.full(shape, np.nan), where=n > 0)
    return Cells(y, arm, tuple(models), tuple(map(str, names)), prompts, tuple(absent))
