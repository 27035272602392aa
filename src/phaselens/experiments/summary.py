"""Experiment: one row of figures per model, and every recorded observable by depth."""

import numpy as np

from phaselens.dynamics.regimes import ratio_norm
from phaselens.experiments.base import Experiment, ModelData, Panel, Result
from phaselens.experiments.gd import VERSIONS, gd_estimate, version_sums
from phaselens.experiments.regimes import interval_of, model_median, run_collapses, run_figures
from phaselens.experiments.tables import arrow_table
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit

PANEL = (
    "model:str family:str twin:bool parameters:int n_layers:int d_model:int vocab_size:int n_prompts:int n_runs:int "
    "n_tokens:int ratio_norm:float ratio_norm_lo:float ratio_norm_hi:float mean_ct:float frozen_fraction:float "
    "collapse_share:float entropy_norm:float GD_ratio:float GD_lo:float GD_hi:float noise_floor:float"
)
DEPTH = "model:str twin:bool layer:int depth:float observable:str value:float lo:float hi:float n_prompts:int"
KEYS = ("run", "step", "layer", "position", "token")


def mean_over_runs(model: ModelData, values: np.ndarray) -> float:
    """Mean of a per-run figure over the measured runs (its unit); NaN where none is defined."""
    seen = values[model.measured & np.isfinite(values)]
    return float(seen.mean()) if len(seen) else float("nan")


def _panel_row(panel: Panel, model: ModelData) -> dict:
    info, figures = (
        model.info,
        run_figures(model, model.layer_of_record) if _has(model, "instability", "frozen") else None,
    )
    index = panel.prompt_index(model)
    nan = float("nan")
    row = {
        k: getattr(info, k)
        for k in ("family", "twin", "parameters", "n_layers", "d_model", "vocab_size", "noise_floor")
    }
    row |= {
        "model": info.name,
        "n_prompts": len(np.unique(index[index >= 0])),
        "n_runs": int(model.measured.sum()),
        "n_tokens": int(np.asarray(model.runs["n_generated"])[model.measured].sum()),
        "ratio_norm": nan,
        "ratio_norm_lo": nan,
        "ratio_norm_hi": nan,
        "mean_ct": nan,
        "frozen_fraction": nan,
    }
    if figures is not None:
        ratio = model_median(panel, model, figures.ratio)
        interval, _ = interval_of(panel, model, ratio, model.measured & np.isfinite(figures.ratio))
        row |= {"ratio_norm": ratio.value, "ratio_norm_lo": interval.lo, "ratio_norm_hi": interval.hi}
        row |= {"mean_ct": mean_over_runs(model, figures.mean_ct)}
        row |= {"frozen_fraction": mean_over_runs(model, figures.frozen_fraction)}
    stored = bool(model.completions)
    collapsed = np.array([c.collapsed for c in run_collapses(model)[0]], dtype=float) if stored else np.array([])
    row["collapse_share"] = mean_over_runs(model, collapsed) if stored else nan
    row["entropy_norm"] = nan
    if "entropy_norm" in model.steps:
        sums, cells = sums_by_unit(model.per_step("entropy_norm")[:, :, None], index, len(panel.prompts))
        row["entropy_norm"] = sums.sum() / cells.sum() if cells.sum() else nan
    sums = version_sums(panel, model, VERSIONS[0])
    ratio = gd_estimate(panel, sums)
    prompts = 0 if sums is None else int((sums.cells.sum(axis=0) > 0).sum())
    interval = percentile_interval(ratio.draws, prompts)
    return row | {"GD_ratio": ratio.value, "GD_lo": interval.lo, "GD_hi": interval.hi}


def _has(model: ModelData, *columns: str) -> bool:
    return set(columns) <= set(model.layers)


def _depth_rows(panel: Panel, model: ModelData) -> list[dict]:
    """Mean of every observable at each layer over steps and measured runs, and the median ratio_norm.

    With intervals.
    """
    names = [c for c in model.layers if c not in KEYS and "__" not in c]
    index = panel.prompt_index(model)
    n = len(panel.prompts)
    rows = []
    for name in names:
        sums, counts = sums_by_unit(model.per_layer(name), index, n)
        draws = resampled_ratio(sums, counts, panel.weights)
        for i, layer in enumerate(model.recorded_layers):
            total, prompts = float(counts[i].sum()), int((counts[i] > 0).sum())
            value = sums[i].sum() / total if total else np.nan
            rows.append(_depth_row(model, layer, name, value, draws[:, i], prompts))
    if _has(model, "instability"):
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
            "panel": arrow_table(PANEL, [_panel_row(panel, m) for m in panel.models]),
            "depth": arrow_table(DEPTH, [row for m in panel.models for row in _depth_rows(panel, m)]),
        }
    )


SUMMARY = Experiment(
    name="panel",
    needs_layers=(),
    needs_steps=(),
    claims=(),
    tables=("panel", "depth"),
    function=analyse_panel,
    summary="one row of figures per model, and every recorded observable by depth",
)
