"""Simulated studies of the order of models, for R2, R3 and S4: over categories, conditions, layers."""

import numpy as np

from phaselens.dynamics.regimes import WINDOW
from phaselens.dynamics.stability import spearman
from phaselens.experiments import ModelData, Panel
from phaselens.experiments.model_order import STARTS, TEMPERATURES
from phaselens.validity.simulated_panels import BOOTSTRAPS, runs_of
from phaselens.validity.simulated_regimes import peaked
from phaselens.validity.simulated_variance import CATEGORIES, CENTRE, SCALE, info_of, levels_of, planted

PROMPTS = 24
LAYERS = 4
CALIBRATION = 6


def reordered(m: int, wanted: float, generator: np.random.Generator) -> np.ndarray:
    """A permutation of M places whose Spearman correlation with the old order is at most `wanted`, and near it."""
    tried = generator.permuted(np.tile(np.arange(m), (4000, 1)), axis=1)
    found = spearman(np.broadcast_to(np.arange(m), tried.shape), tried)
    return tried[np.argmax(np.where(found <= wanted + 1e-9, found, -2.0))]


def of_conditions(
    generator: np.random.Generator, *, models: int = 8, gap: float = 1.0, moved: float | None = None
) -> Panel:
    """Models `gap` apart (noise SDs of a run) under four temperatures and three windows, in one order.

    With `moved` their order at temperature 1 correlates with the others' by no more than that.
    """
    places = gap * np.arange(models)
    hot = places if moved is None else places[reordered(models, moved, generator)]
    prompt = generator.standard_normal(PROMPTS)
    n_states = STARTS[-1] + WINDOW + 2
    panel = []
    for i in range(models):
        ct, arms = [], []
        for arm in TEMPERATURES:
            place = hot[i] if arm == TEMPERATURES[-1] else places[i]
            y = place + prompt + generator.standard_normal((len(STARTS), PROMPTS))
            parts = [peaked(0.6 + 0.05 * one, generator, n_states=WINDOW + 2)[:, 2:] for one in y]
            ct.append(np.concatenate([np.full((PROMPTS, 2), np.nan), *parts], axis=1))
            arms += [arm] * PROMPTS
        panel.append(_model(i, np.concatenate(ct)[:, :, None], np.array(arms), n_states))
    return Panel(tuple(panel), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)


def _model(i: int, ct: np.ndarray, arms: np.ndarray, n_states: int) -> ModelData:
    run, step, layer = (axis.ravel() for axis in np.indices(ct.shape))
    at = np.arange(len(ct)) % PROMPTS
    runs = runs_of([f"p{j}" for j in at], n_states, category=np.array(CATEGORIES)[at % 6], arm=arms)
    layers = {"run": run, "step": step, "layer": layer + 1, "instability": ct.ravel()}
    return ModelData(info_of(f"m{i}", f"f{i}", n_layers=1), runs, {"run": run, "step": step}, layers)


def of_layers(generator: np.random.Generator, *, category: float, band: float, models: int = 6) -> Panel:
    """Models that differ by category and layer band as said (shares of the variance of a run), with calibration runs.

    Peaks stand out less or more by model, so that clipping values changes the models' order as well.
    """
    shares = {"model": 0.2, "model:category": category, "category": 0.1, "prompt": 0.1, "residual": 0.4}
    fields = [planted(shares, generator, models=models) for _ in range(2)]
    shape = (len(CATEGORIES), fields[0].shape[2], fields[0].shape[3])
    n = int(np.prod(shape))
    kind, prompt, sample = (axis.ravel() for axis in np.indices(shape))
    by_band = [levels_of(band, (models, LAYERS), generator) for _ in fields]
    out = []
    for i in range(models):
        level, ratio = (
            f[i].reshape(n, 1) + b[i] + 0.3 * generator.standard_normal((n, LAYERS))
            for f, b in zip(fields, by_band, strict=True)
        )
        ct = peaked(CENTRE + SCALE * ratio, generator, n_states=WINDOW + 2)
        ct = (ct * (np.exp(SCALE * level) / np.nanmean(ct, axis=-1))[..., None]).transpose(0, 2, 1)
        ct = np.concatenate([ct, ct[:CALIBRATION]])
        run, step, layer = (axis.ravel() for axis in np.indices(ct.shape))
        again = np.append(np.arange(n), np.arange(CALIBRATION))
        own = {"category": np.array(CATEGORIES)[kind[again]], "sample": sample[again]}
        own["calibration"] = np.arange(n + CALIBRATION) >= n
        runs = runs_of([f"{kind[j]}/{prompt[j]}" for j in again], WINDOW + 2, **own)
        layers = {"run": run, "step": step, "layer": layer + 1, "instability": ct.ravel()}
        out.append(ModelData(info_of(f"m{i}", f"f{i}", n_layers=LAYERS), runs, {"run": run, "step": step}, layers))
    return Panel(tuple(out), seed=int(generator.integers(2**31)), n_boot=BOOTSTRAPS)
