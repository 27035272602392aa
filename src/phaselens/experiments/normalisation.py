"""Experiment: what each normalisation of states does to how well models can be told apart. N1 and the grid."""

import math
from dataclasses import dataclass

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, inside, outside
from phaselens.claims.verdict_records import OutcomeWord
from phaselens.dynamics import regimes
from phaselens.dynamics.fingerprints import (
    Discrimination,
    by_prompt,
    icc_difference,
    icc_without,
    leave_one_out_accuracy,
)
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import Interval, jackknife_interval, undefined_interval

METHODS = ("unit", "raw", "rms", "zscore", "clipped_mad")
COMPARED = ("clipped_mad", "raw")
FIGURES = ("ln ratio_norm", "ln mean ct")
DECIDES = FIGURES[0]
PROFILE = "ln mean ct at four depths"
MARGIN = 0.05
KEPT = 0.01
FEWEST_PROMPTS = 4


@dataclass(frozen=True, eq=False)
class Told:
    """One figure of the trained models by prompt under each normalisation, float64 [model, prompt] each.

    `ct[method]` [model, prompt, layer place] is ln mean ct at relative depths, the fingerprint of that normalisation.
    """

    figures: dict[tuple[str, str], np.ndarray]
    profiles: dict[str, np.ndarray]


def column(method: str) -> str:
    """The column of instability under a normalisation; that of `unit` has the plain name."""
    return "instability" if method == "unit" else f"instability__{method}"


def _by_prompt(panel: Panel, model: ModelData, per_run: np.ndarray) -> np.ndarray:
    """Mean over the runs of each prompt: [run, feature] -> [prompt, feature]."""
    index = panel.unit_index(model)
    return by_prompt(per_run[index >= 0], index[index >= 0], len(panel.units))


def _logs(values: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.log(values)
    return np.where(np.isfinite(out), out, np.nan)


DEPTHS = (0.25, 0.5, 0.75, 1.0)


def told_apart(panel: Panel) -> Told:
    """What each normalisation says about the trained models; methods that were not recorded are absent."""
    figures: dict[tuple[str, str], list[np.ndarray]] = {}
    profiles: dict[str, list[np.ndarray]] = {}
    for method in METHODS:
        if not panel.trained or any(column(method) not in m.layers for m in panel.trained):
            continue
        for model in panel.trained:
            cells = model.per_layer(column(method))
            known = {layer: cells[:, :, i] for i, layer in enumerate(model.recorded_layers)}
            nothing = np.full(cells.shape[:2], np.nan)
            at = known.get(model.layer_of_record, nothing)
            both = np.stack([_logs(regimes.ratio_norm(at).value), _logs(regimes.run_mean(at))], axis=1)
            spread = _by_prompt(panel, model, both)
            for i, name in enumerate(FIGURES):
                figures.setdefault((method, name), []).append(spread[:, i])
            layers = (max(1, round(d * model.info.n_layers)) for d in DEPTHS)
            means = np.stack([_logs(regimes.run_mean(known.get(layer, nothing))) for layer in layers], axis=1)
            profiles.setdefault(method, []).append(_by_prompt(panel, model, means))
    return Told({k: np.stack(v) for k, v in figures.items()}, {k: np.stack(v) for k, v in profiles.items()})


def _difference(told: Told, first: str, second: str, figure: str) -> Discrimination | None:
    pair = [told.figures.get((method, figure)) for method in (first, second)]
    if any(p is None or len(p) < 2 for p in pair):
        return None
    return icc_difference(*pair)


def _icc(y: np.ndarray) -> tuple[float, Interval, int]:
    """ICC(C,1) of models over the prompts that all of them have (1), its interval, and the number of prompts."""
    here = np.isfinite(y).all(axis=0)
    n = int(here.sum())
    if len(y) < 2 or n < 2:
        return (math.nan, undefined_interval(f"{len(y)} models and {n} prompts that all have: two each are needed"), n)
    value, without = icc_without(y[:, here])
    return value, jackknife_interval(value, without), n


def _accuracy(panel: Panel, label: str, values: np.ndarray) -> tuple[float, Interval, int]:
    """Share of single prompts that tell their model (proportion), its interval, and the number of prompts."""
    here = np.isfinite(values).all(axis=(0, 2))
    usable = values[:, here]
    n = int(here.sum())
    if len(values) < 2 or n < FEWEST_PROMPTS or not (usable.std(axis=1) > 0).any():
        return math.nan, undefined_interval(f"{len(values)} models and {n} prompts with all values"), n
    return *leave_one_out_accuracy(usable, panel.generator(f"leave one out {label}"), n_boot=panel.n_boot), n


def _grid_rows(panel: Panel, told: Told) -> list[dict]:
    """Discrimination under each normalisation: ICC of each figure, and accuracy by the depth profile of ln mean ct."""
    rows = []
    for method in METHODS:
        found = []
        for name in FIGURES:
            y = told.figures.get((method, name))
            found.append((name, "ICC", math.nan, None if y is None else _icc(y)))
        values = told.profiles.get(method)
        chance = 1 / len(panel.trained) if panel.trained else math.nan
        found.append((PROFILE, "accuracy", chance, None if values is None else _accuracy(panel, method, values)))
        for figure, value, chance, got in found:
            estimate, interval, n = got or (math.nan, undefined_interval(f"{column(method)} was not recorded"), 0)
            rows.append(
                {"method": method, "figure": figure, "value": value, "estimate": estimate, **bounds(interval)}
                | {"chance": chance, "n_models": len(panel.trained), "n_prompts": n, "reason": interval.reason}
            )
    return rows


def _difference_rows(told: Told) -> list[dict]:
    rows = []
    for first, second in ((m, "raw") for m in METHODS if m != "raw"):
        for figure in FIGURES:
            d = _difference(told, first, second, figure)
            d = d or Discrimination(*(math.nan,) * 3, undefined_interval("not recorded under both"), 0)
            rows.append(
                {"first": first, "second": second, "figure": figure, "icc_first": d.first, "icc_second": d.second}
                | {"difference": d.difference, **bounds(d.interval), "n_prompts": d.n_prompts}
                | {"reason": d.interval.reason}
            )
    return rows


def _dimensions(panel: Panel) -> Outcome:
    """Whether the calibration keeps nearly every dimension of every model."""
    dropped = [m.info.dropped for m in panel.trained]
    if any(math.isnan(d) for d in dropped):
        return Outcome("number of dimensions kept", "missing", "the calibration of some model says nothing of it")
    worst = max(dropped)
    word: OutcomeWord = "survived" if worst <= KEPT else "undecided"
    return Outcome("number of dimensions kept", word, f"at most {worst:.2%} of the dimensions of a layer are left out")


def _evidence(panel: Panel, told: Told) -> dict:
    """Evidence for N1."""
    missing = [m for m in COMPARED if (m, DECIDES) not in told.figures]
    d = _difference(told, *COMPARED, DECIDES)
    lacking = ""
    if missing:
        lacking = f'states were not recorded under {", ".join(missing)}: set normalisations = ["raw", "clipped_mad"]'
    elif d is None:
        lacking = f"{len(panel.trained)} trained model: add models"
    elif d.n_prompts < 2:
        lacking = (
            f"{d.n_prompts} prompts have a ratio_norm in every model: generate at least {regimes.WINDOW + 2} tokens"
        )
    interval = undefined_interval(lacking) if lacking or d is None else d.interval
    found = IntervalEvidence(
        estimate=math.nan if lacking or d is None else d.difference,
        interval=interval,
        supported=outside(0.0),
        rejected=inside(MARGIN),
        counts=counts(panel),
        n=0 if d is None else d.n_prompts,
        needed="more prompts, or more models",
        outcomes=() if lacking else (_dimensions(panel),),
        null=0.0,
        lacking=lacking,
        reasons={"p": "the rule is an interval"},
    )
    return {"N1": found}


def normalisation_evidence(panel: Panel) -> dict:
    """The evidence for N1 as `analyse_normalisation` gives it, without its tables."""
    return _evidence(panel, told_apart(panel))


def analyse_normalisation(panel: Panel) -> Result:
    """Tables normalisation (the grid) and normalisation_differences; evidence for N1."""
    told = told_apart(panel)
    return Result(
        filled(normalisation=_grid_rows(panel, told), normalisation_differences=_difference_rows(told)),
        evidence=_evidence(panel, told),
    )


NORMALISATION = declared(
    "normalisation", analyse_normalisation, normalisation_evidence, layers=tuple(column(m) for m in METHODS)
)
