"""Experiment: how instability is spread over a run: profiles over quarters, debt, late values and late divergence.

Descriptive, without a claim. Thresholds come from the calibration runs of each model, at the same layer.
"""

import math

import numpy as np

from phaselens.dynamics.profile import fit_values, instability_debt, late_ct, late_divergence, profile
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.regimes import run_collapses
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit

CHOICES = ("l*", "L")
FIGURES = ("debt", "late_ct", "tension")


def run_profile(model: ModelData, layer: int) -> dict[str, np.ndarray] | None:
    """Of every run: ct [run, step] (rad), debt (1), late_ct (rad), late divergence and tension (0 or 1); tau (rad).

    Tension is late divergence without a collapse of the text. None where the layer was not recorded.
    """
    ct = model.at_layer("instability", layer)
    if ct is None:
        return None
    tau = fit_values(ct[~model.measured].ravel()).tau
    late = late_divergence(ct)
    collapsed = np.array([c.collapsed for c in run_collapses(model)[0]])
    return {
        "ct": ct,
        "tau": tau,
        "debt": instability_debt(ct, np.full(len(ct), tau)),
        "late_ct": late_ct(ct),
        "late_divergence": late,
        "tension": np.where(np.isfinite(late), late * ~collapsed, np.nan),
    }


def _model_row(panel: Panel, model: ModelData, choice: str, found: dict[str, np.ndarray]) -> dict:
    index, keep = panel.unit_index(model), model.measured
    shape = profile(
        found["ct"][keep], index[keep], panel.generator(f"profile {model.info.name} {choice}"), n_boot=panel.n_boot
    )
    row = {**model.info.named, "layer_choice": choice, **picked(shape, "kind contrast n_prompts")}
    row |= {f"segment_{k + 1}": value for k, value in enumerate(shape.segments)}
    row |= bounds(shape.interval, "contrast") | {"reason": shape.interval.reason, "tau": float(found["tau"])}
    row |= {"n_runs": int(np.isfinite(found["late_divergence"][keep]).sum())}
    for name in FIGURES:
        sums, n = sums_by_unit(found[name][:, None], index, len(panel.units))
        seen, total = int((n > 0).sum()), n.sum()
        interval = percentile_interval(resampled_ratio(sums, n, panel.weights), seen)
        row |= {name: sums.sum() / total if total else math.nan, **bounds(interval, name)}
    return row


def _run_rows(model: ModelData, choice: str, found: dict[str, np.ndarray]) -> list[dict]:
    names = ("debt", "late_ct", "late_divergence")
    return [
        {**model.info.named, "layer_choice": choice, **{name: found[name][i] for name in names}}
        | {"run": int(model.runs["run"][i]), "prompt_id": str(model.runs["prompt_id"][i])}
        for i in np.flatnonzero(model.measured)
    ]


def analyse_profile(panel: Panel) -> Result:
    """Tables profile_models and profile_runs."""
    models, runs = [], []
    for model in panel.models:
        for choice, layer in zip(CHOICES, (model.layer_of_record, model.info.n_layers), strict=True):
            found = run_profile(model, layer)
            if found is not None:
                models.append(_model_row(panel, model, choice, found))
                runs += _run_rows(model, choice, found)
    return Result(filled(profile_models=models, profile_runs=runs))


PROFILE = declared("profile", analyse_profile)
