"""Experiment: one row of figures per model, and every recorded observable by depth."""

import numpy as np

from phaselens.dynamics.regimes import ratio_norm
from phaselens.experiments.base import Experiment, ModelData, Panel, Result
from phaselens.experiments.gd import VERSIONS, gd_estimate, version_sums
from phaselens.experiments.regimes import interval_of, model_median, run_collapses, run_figures
from phaselens.experiments.result_tables import Table
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit

PANEL = Table(
    "panel", "one row of figures per model",
    "model:str family:str twin:bool parameters:int n_layers:int d_model:int vocab_size:int n_prompts:int "
    "n_runs:int n_tokens:int ratio_norm:float ratio_norm_lo:float ratio_norm_hi:float mean_ct:float "
    "frozen_fraction:float collapse_share:float entropy_norm:float GD_ratio:float GD_lo:float GD_hi:float "
    "noise_floor:float",
    always=True,
)  # fmt: skip
DEPTH = Table(
    "depth", "the observables by depth",
    "model:str twin:bool layer:int? depth:float observable:str value:float lo:float hi:float n_prompts:int",
    always=True,
)  # fmt: skip
KEYS = ("run", "step", "layer", "position", "token")


def mean_over_runs(model: ModelData, values: np.ndarray) -> float:
    """Mean of a per-run figure over the measured runs (its unit); NaN where none is defined."""
    seen = values[model.measured & np.isfinite(values)]
    return float(seen.mean()) if len(seen) else float("nan")


FACTS = ("family", "twin", "parameters", "n_layers", "d_model", "vocab_size", "noise_floor")


def _panel_row(panel: Panel, model: ModelData) -> dict:
    index = panel.unit_index(model)
    figures = run_figures(model, model.layer_of_record)
    median = model_median(panel, model, figures.ratio)
    around_median, _ = interval_of(panel, model, median, model.measured & np.isfinite(figures.ratio))
    sums = version_sums(panel, model, VERSIONS[0])
    ratio = gd_estimate(panel, sums)
    around_ratio = percentile_interval(ratio.draws, 0 if sums is None else sums.n_prompts)
    return {
        "model": model.info.name,
        **{fact: getattr(model.info, fact) for fact in FACTS},
        "n_prompts": len(np.unique(index[index >= 0])),
        "n_runs": int(model.measured.sum()),
        "n_tokens": int(np.asarray(model.runs["n_generated"])[model.measured].sum()),
        "ratio_norm": median.value,
        "ratio_norm_lo": around_median.lo,
        "ratio_norm_hi": around_median.hi,
        "mean_ct": mean_over_runs(model, figures.mean_ct),
        "frozen_fraction": mean_over_runs(model, figures.frozen_fraction),
        "collapse_share": _collapse_share(model),
        "entropy_norm": _output_mean(model, "entropy_norm"),
        "GD_ratio": ratio.value,
        "GD_lo": around_ratio.lo,
        "GD_hi": around_ratio.hi,
    }


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
    return {
        "model": model.info.name,
        "twin": model.info.twin,
        "layer": layer,
        "depth": layer / model.info.n_layers,
        "observable": name,
        "value": value,
        "lo": interval.lo,
        "hi": interval.hi,
        "n_prompts": prompts,
    }


def analyse_panel(panel: Panel) -> Result:
    """Tables panel and depth."""
    return Result(
        tables={
            PANEL.name: PANEL.arrow([_panel_row(panel, m) for m in panel.models]),
            DEPTH.name: DEPTH.arrow([row for m in panel.models for row in _depth_rows(panel, m)]),
        }
    )


SUMMARY = Experiment(
    name="panel",
    needs_layers=(),
    needs_steps=(),
    claims=(),
    tables=(PANEL, DEPTH),
    function=analyse_panel,
    summary="one row of figures per model, and every recorded observable by depth",
)
