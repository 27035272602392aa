"""Experiment: are there two, three or four regimes by ratio_norm? Runs, models, nulls, labels, evidence for R1."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.claims import Outcome, absent_in_twins, survives
from phaselens.dynamics import nulls, regimes
from phaselens.dynamics.collapse import Collapse, collapses, frozen_early, mask_digits
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled
from phaselens.experiments.separations import (
    Estimate,
    evidence,
    log_estimate,
    n_prompts_of,
    of_twins,
    panel_split,
    separation_row,
)
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.panel_groups import Split
from phaselens.statistics.resampling import resampled_median

GROUPS = (2, 3, 4)
# Columns of regimes_runs that are figures of `RunFigures`.
PER_RUN = {"ratio_norm": "ratio", "ratio_norm_32": "ratio_32", "ratio_norm_128": "ratio_128", "q95_over_median": "q95"}
PER_RUN |= {"ratio_norm_later": "later", "ratio_norm_moving": "moving"}
PER_RUN |= {name: name for name in ("n_values", "frozen_fraction", "mean_ct", "late_ct")}
SHARES = tuple(name.lower() for name in regimes.REGIMES)


@dataclass(frozen=True, eq=False)
class RunFigures:
    """Per-run figures of one model at one layer, float64 [run] each, and why ratio_norm is NaN ("" where it is not)."""

    ratio: np.ndarray
    reason: tuple[str, ...]
    ratio_32: np.ndarray
    ratio_128: np.ndarray
    q95: np.ndarray
    later: np.ndarray
    moving: np.ndarray
    n_values: np.ndarray
    frozen_fraction: np.ndarray
    mean_ct: np.ndarray
    late_ct: np.ndarray
    frozen_early: np.ndarray


def run_figures(model: ModelData, layer: int) -> RunFigures:
    """Every figure of `regimes` for the runs of one model at one layer.

    All NaN, with the reason, if it was not recorded.
    """
    nothing = np.full((len(np.asarray(model.runs["run"])), 0), np.nan)
    ct, frozen = model.at_layer("instability", layer), model.at_layer("frozen", layer)
    missing = "" if ct is not None else f"layer {layer} was not recorded"
    if missing and "instability" not in model.layers:
        missing = "instability was not recorded"
    ct = nothing if ct is None else ct
    frozen = np.full(ct.shape, np.nan) if frozen is None else frozen
    ratio = regimes.ratio_norm(ct)
    return RunFigures(
        ratio=ratio.value,
        reason=(missing,) * len(ratio.reason) if missing else ratio.reason,
        ratio_32=regimes.ratio_norm(ct, window=32).value,
        ratio_128=regimes.ratio_norm(ct, window=128).value,
        q95=regimes.q95_over_median(ct).value,
        later=regimes.ratio_without_first(ct).value,
        moving=regimes.ratio_without_frozen(ct, frozen).value
        if np.isfinite(frozen).any()
        else np.full(len(ct), np.nan),
        n_values=np.isfinite(ct).sum(axis=1),
        frozen_fraction=regimes.run_mean(frozen),
        mean_ct=regimes.run_mean(ct),
        late_ct=regimes.late_ct(ct),
        frozen_early=frozen_early(frozen),
    )


def model_median(panel: Panel, model: ModelData, per_run: np.ndarray) -> Estimate:
    """Median of a positive per-run figure over the measured runs, taken on its logarithm, with prompt-bootstrap draws.

    NaN, with a reason: no measured run has a value.
    """
    index = panel.unit_index(model)
    use = (index >= 0) & np.isfinite(per_run)
    if not use.any():
        return Estimate(float("nan"), np.full(panel.n_boot, np.nan), "no measured run has a value")
    logs = np.log(per_run[use])
    draws = np.exp(resampled_median(logs, index[use], panel.weights))
    return Estimate(float(np.exp(np.median(logs))), draws)


def run_collapses(model: ModelData) -> tuple[tuple[Collapse, ...], tuple[Collapse, ...]]:
    """Collapse of each run, plain and with digits masked.

    No completions: not collapsed, cause "completion not stored".
    """
    if not model.completions:
        unknown = (Collapse(False, "completion not stored"),) * len(np.asarray(model.runs["run"]))
        return unknown, unknown
    ended = np.asarray(model.runs["finish"]) == "eos"
    plain = collapses(model.completions, ended)
    if not model.digit_tokens:
        return plain, plain
    return plain, collapses([mask_digits(tokens, model.digit_tokens) for tokens in model.completions], ended)


def interval_of(panel: Panel, model: ModelData, estimate: Estimate, usable: np.ndarray) -> tuple[Interval, int]:
    """Prompt-bootstrap interval of an estimate and the number of prompts behind it."""
    n_prompts = n_prompts_of(panel, model, usable)
    return percentile_interval(estimate.draws, n_prompts), n_prompts


def _run_rows(model: ModelData, f: RunFigures, cuts: tuple[float, ...]) -> list[dict]:
    runs, (plain, masked) = model.runs, run_collapses(model)
    label, outside = regimes.published_label(f.ratio)
    by_panel = regimes.label_of(f.ratio, cuts)
    return [
        {
            **model.info.named,
            **{k: runs[k][i] for k in ("arm", "run", "prompt_id", "category", "sample")},
            **{column: getattr(f, figure)[i] for column, figure in PER_RUN.items()},
            "label": regimes.REGIMES[label[i]] if label[i] >= 0 else "",
            "outside_published": bool(outside[i]),
            "label_panel": f"{regimes.REGIMES[by_panel[i]]}_panel" if by_panel[i] >= 0 else "",
        }
        | {"collapsed": plain[i].collapsed, "collapse_cause": plain[i].cause or masked[i].cause}
        | {"collapsed_masked": masked[i].collapsed, "reason": f.reason[i]}
        | {"immediate_collapse": plain[i].collapsed and bool(f.frozen_early[i])}
        for i in np.flatnonzero(model.measured)
    ]


def _model_row(panel: Panel, model: ModelData, choice: str, f: RunFigures, cuts: tuple[float, ...]) -> dict:
    estimate = model_median(panel, model, f.ratio)
    usable = model.measured & np.isfinite(f.ratio)
    interval, n_prompts = interval_of(panel, model, estimate, usable)
    row = model.info.named | {"layer_choice": choice, "ratio_norm": estimate.value, **bounds(interval)}
    row |= {"n_prompts": n_prompts, "n_runs": int(usable.sum())}
    for suffix, by in (("", regimes.PUBLISHED_CUTS), ("_panel", cuts)):
        shares = regimes.label_shares(regimes.label_of(f.ratio[usable], by))
        draws = regimes.label_of(estimate.draws if n_prompts >= 2 else np.array([]), by)
        row |= {f"share_{s}{suffix}": v for s, v in zip(SHARES, shares, strict=True)}
        row |= {f"boot_share_{s}{suffix}": v for s, v in zip(SHARES, regimes.label_shares(draws), strict=True)}
    reasons = [r for r, m in zip(f.reason, model.measured, strict=True) if m and r]
    row["reason"] = "; ".join(sorted(set(reasons))) if reasons else interval.reason
    return row


WALKS = (
    ("random walk", nulls.random_walk, "cumulative sum of Gaussian vectors"),
    ("sphere walk", nulls.sphere_walk, "walk on the sphere with step 0.3"),
    ("independent states", nulls.independent_states, "independent Gaussian vectors"),
    ("outlier first state", nulls.outlier_first_state, "sphere walk whose state 1 is unrelated"),
)


def null_rows(panel: Panel, figures: Mapping[str, RunFigures]) -> list[dict]:
    """Rows of results/regimes_nulls.parquet: trajectories without a model, then what each model's own null says.

    Trajectories have 66 states in the panel's median width (at most 256); lo and hi hold 95 % of 200 draws. Per model:
    the untrained twin, and the model's own runs with frozen steps left out, whose ratio r0 becomes r0 / (1 - f).
    """
    width = int(min(256, np.median([m.info.d_model for m in panel.models]))) if panel.models else 64
    rows = []

    def add(null: str, ratio: np.ndarray, description: str, model: str = "") -> None:
        lo, hi = np.quantile(ratio, [0.025, 0.975]) if len(ratio) else (np.nan, np.nan)
        middle = np.median(ratio) if len(ratio) else np.nan
        rows.append(dict(zip(NULL_COLUMNS, (null, model, middle, lo, hi, description), strict=True)))

    for name, make, description in WALKS:
        ct = nulls.instability_of(make(panel.generator(f"null {name}"), d_model=width))
        add(name, regimes.ratio_norm(ct).value, f"{description}; 66 states, width {width}")
    for share in (0.25, 0.5):
        ct = nulls.instability_of(nulls.partly_frozen(panel.generator(f"null frozen {share}"), share, d_model=width))
        add(
            f"frozen {share:.0%}",
            regimes.ratio_norm(ct).value,
            f"sphere walk frozen for a share f = {share}: r0 / (1 - f)",
        )
    for model in panel.trained:
        moving = figures[model.info.name].moving[model.measured]
        add(
            "frozen steps left out",
            moving[np.isfinite(moving)],
            "runs of the model: r0 of r0 / (1 - f)",
            model.info.name,
        )
        twin = panel.untrained_twin(model.info.name)
        if twin is not None:
            ratio = figures[twin.info.name].ratio[twin.measured]
            add("untrained twin", ratio[np.isfinite(ratio)], "same configuration, re-initialised", model.info.name)
    return rows


NULL_COLUMNS = ("null", "model", "ratio_norm", "lo", "hi", "description")


def _split(
    panel: Panel,
    version: str,
    figures: Mapping[str, RunFigures],
    field: str,
    *,
    twins: bool = False,
    among: tuple[int, ...] = GROUPS,
) -> Split:
    """The S test of the models' medians of one figure of their runs."""
    models = [m for m in panel.models if m.info.twin == twins]
    estimates = {
        m.info.name: log_estimate(model_median(panel, m, getattr(figures[m.info.name], field))) for m in models
    }
    return panel_split(panel, "R1", version, of_twins(panel, estimates) if twins else estimates, among=among)


def _r1(panel: Panel, at_record: Mapping[str, RunFigures]) -> tuple[tuple[Split, ...], dict]:
    """The splits that decide R1, and the evidence for it."""
    base = _split(panel, "l*, 64 values", at_record, "ratio")
    same = (base.test.k,)  # a control asks for the groups that were found, not for others
    later = _split(panel, "from the fourth value", at_record, "later", among=same)
    robust = _split(panel, "q95/median", at_record, "q95", among=same)
    moving = _split(panel, "frozen steps left out", at_record, "moving", among=same)
    twins = _split(panel, "untrained twin", at_record, "ratio", twins=True, among=same)
    runs = sum(int((m.measured & np.isfinite(at_record[m.info.name].ratio)).sum()) for m in panel.trained)
    all_runs = sum(int(m.measured.sum()) for m in panel.trained)
    fixed = f"{runs} of {all_runs} runs, all over exactly {regimes.WINDOW} values; the others take no part"
    outcomes = (
        Outcome("length fixed", "survived" if runs else "missing", fixed),
        survives("outlier state", base, later if later.complete else robust),
        survives("frozen share", base, moving),
        absent_in_twins("untrained twin", base, twins),
    )
    lacking = "" if runs else f"no run has {regimes.WINDOW} values: generate at least {regimes.WINDOW + 2} tokens"
    return (base, later, robust, moving, twins), {"R1": evidence(panel, base, outcomes, lacking=lacking, among=GROUPS)}


def _figures(panel: Panel) -> dict[str, RunFigures]:
    return {m.info.name: run_figures(m, m.layer_of_record) for m in panel.models}


def regimes_evidence(panel: Panel) -> dict:
    """The evidence for R1 as `analyse_regimes` gives it, without its tables."""
    return _r1(panel, _figures(panel))[1]


def analyse_regimes(panel: Panel) -> Result:
    """Tables regimes_runs, regimes_models, regimes_nulls; rows of separation; evidence for R1."""
    at_record = _figures(panel)
    at_last = {m.info.name: run_figures(m, m.info.n_layers) for m in panel.models}
    calibration = [at_record[m.info.name].ratio[~m.measured] for m in panel.trained]
    cuts = regimes.panel_cuts(np.concatenate(calibration) if calibration else np.array([]))
    runs, models = [], []
    for m in panel.models:
        runs += _run_rows(m, at_record[m.info.name], cuts)
        models.append(_model_row(panel, m, "l*", at_record[m.info.name], cuts))
        models.append(_model_row(panel, m, "L", at_last[m.info.name], cuts))
    splits, found = _r1(panel, at_record)
    others = (
        _split(panel, "layer L", at_last, "ratio"),
        _split(panel, "32 values", at_record, "ratio_32"),
        _split(panel, "128 values", at_record, "ratio_128"),
    )
    notes = [] if np.isfinite(cuts).all() else ["no panel labels: fewer than four calibration runs have a ratio_norm"]
    if any(m.completions and m.digit_tokens is None for m in panel.models):
        notes.append(
            "digits could not be masked for every model: collapse with digits masked equals plain collapse there"
        )
    return Result(
        filled(regimes_runs=runs, regimes_models=models, regimes_nulls=null_rows(panel, at_record)),
        documents={"separation": [separation_row("R1", s, among=GROUPS) for s in (*splits, *others)]},
        evidence=found,
        notes=tuple(notes),
    )


REGIMES = declared("regimes", analyse_regimes, regimes_evidence)
