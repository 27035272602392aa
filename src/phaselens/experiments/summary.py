"""Experiment: one row of figures per model, and every recorded observable by depth."""

import numpy as np

from phaselens.dynamics.regimes import ratio_norm
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.gd import VERSIONS, gd_estimate, version_sums
from phaselens.experiments.regimes import interval_of, model_median, run_collapses, run_figures
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit

KEYS = ("run", "step", "layer", "position", "token")


def mean_over_runs(model: ModelData, values: np.ndarray) -> float:
    """Mean of a per-run figure over the measured runs (its unit); NaN where none is defined."""
    seen = values[model.measured & np.isfinite(values)]
    return float(seen.mean()) if len(seen) else float("nan")


def _panel_row(panel: Panel, model: ModelData) -> dict:
    index = panel.unit_index(model)
    figures = run_figures(model, model.layer_of_record)
    median = model_median(panel, model, figures.ratio)
    around_median, _ = interval_of(panel, model, median, model.measured & np.isfinite(figures.ratio))
    sums = version_sums(panel, model, VERSIONS[0])
    ratio = gd_estimate(panel, sums)
    around_ratio = percentile_interval(ratio.draws, 0 if sums is None else sums.n_prompts)
    return (
        model.info.named
        | picked(model.info, "family parameters n_layers d_model vocab_size noise_floor")
        | {"n_prompts": len(np.unique(index[index >= 0])), "n_runs": int(model.measured.sum())}
        | {"n_tokens": int(np.asarray(model.runs["n_generated"])[model.measured].sum())}
        | {"ratio_norm": median.value, **bounds(around_median, "ratio_norm")}
        | {name: mean_over_runs(model, getattr(figures, name)) for name in ("mean_ct", "frozen_fraction")}
        | {"collapse_share": _collapse_share(model), "entropy_norm": _output_mean(model, "entropy_norm")}
        | {"GD_ratio": ratio.value, **bounds(around_ratio, "GD")}
    )


def _collapse_share(model: ModelData) -> float:
    """Share of measured runs that collapsed (proportion); NaN where completions are not stored."""
    if not model.completions:
        return float("nan")
    return mean_over_runs(model, np.array([c.collapsed for c in run_collapses(model)[0]], dtype=float))


def _output_mean(model: ModelData, column: str) -> float:
    """Mean of an output-level column over the steps of measured runs (its unit); NaN where it was not recorded."""
    if column not in model.steps:
        return float("nan")
    values = model.per_step(column)[model.measured]
    return float(values[np.isfinite(values)].mean()) if np.isfinite(values).any() else float("nan")


def _depth_rows(panel: Panel, model: ModelData) -> list[dict]:
    """Mean of every observable per layer over steps and measured runs, and the median ratio_norm, with intervals."""
    names = [c for c in model.layers if c not in KEYS and "__" not in c]
    index = panel.unit_index(model)
    n = len(panel.units)
    rows = []
    for name in names:
        sums, counts = sums_by_unit(model.per_layer(name), index, n)
        draws = resampled_ratio(sums, counts, panel.weights)
        for i, layer in enumerate(model.recorded_layers):
            total, prompts = float(counts[i].sum()), int((counts[i] > 0).sum())
            value = sums[i].sum() / total if total else np.nan
            rows.append(_depth_row(model, layer, name, value, draws[:, i], prompts))
    if "instability" in model.layers:
        ct = model.per_layer("instability")
        for i, layer in enumerate(model.recorded_layers):
            ratio = ratio_norm(ct[:, :, i]).value
            estimate = model_median(panel, model, ratio)
            _, prompts = interval_of(panel, model, estimate, model.measured & np.isfinite(ratio))
            rows.append(_depth_row(model, layer, "ratio_norm", estimate.value, estimate.draws, prompts))
    return rows


def _depth_row(model: ModelData, layer: int, name: str, value: float, draws: np.ndarray, prompts: int) -> dict:
    interval = percentile_interval(draws, prompts)
    where = {"layer": layer, "depth": layer / model.info.n_layers, "observable": name}
    return model.info.named | where | {"value": value, **bounds(interval), "n_prompts": prompts}


def analyse_panel(panel: Panel) -> Result:
    """Tables panel and depth."""
    return Result(
        filled(
            panel=[_panel_row(panel, m) for m in panel.models],
            depth=[row for m in panel.models for row in _depth_rows(panel, m)],
        )
    )


SUMMARY = declared("panel", analyse_panel)
