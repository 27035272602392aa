"""Experiment: does anything measured say whether the answer is right, beyond what the output says anyway?

Scores of a run against baselines, on graded runs; one set of draws over units serves all models.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from phaselens.claims.verdict_records import Evidence
from phaselens.dynamics.correctness_scores import prefix_means
from phaselens.dynamics.early_exit import exit_curve
from phaselens.experiments import answer_claims, later_claims
from phaselens.experiments.ambiguity import turbulent_above
from phaselens.experiments.base import Panel, Result, declared
from phaselens.experiments.by_model import model_rows
from phaselens.experiments.graded_runs import (
    AT_OUTPUT,
    AT_RECORD,
    COMBINED,
    Graded,
    graded_runs,
    lacking_grades,
    strata_of,
)
from phaselens.experiments.result_tables import bounds, filled
from phaselens.statistics.detection import (
    auroc,
    auroc_of_kind,
    auroc_of_kind_by_chance,
    calibration_curve,
    highest_auroc_by_chance,
    resampled_auroc,
    resampled_auroc_within,
    resampled_average_precision,
    resampled_rejection,
    run_weights,
)
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.logistic_regression import held_out_probability

CLAIMS = (*answer_claims.CLAIMS, *later_claims.CLAIMS)
FOLLOWED = ("turning_angle", "coherence", "instability", "turbulence")
OUTPUT = ("surprisal", "entropy")
UPTO = 16
DRAWS_BESIDE = 500  # of the resamples, for the statistics that no claim is judged by
Resampled = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
THRESHOLDS = np.array([0.5, 0.7, 0.8, 0.9, 0.95, 0.99])


def oriented(one: Graded, values: np.ndarray) -> tuple[np.ndarray, str]:
    """A score turned so that high means wrong, by calibration runs; as it is where those say nothing."""
    seen = ~one.measured
    if seen.sum() < 10:
        return values, "as given"
    there = auroc(values[seen], one.wrong[seen])
    return (-values, "turned") if there < 0.5 else (values, "as given")


def combined(panel: Panel, one: Graded, *, constant: bool) -> np.ndarray:
    """Probability (or log odds beyond the constant) of a wrong answer from a fixed list of scores, units held out."""
    every = {**one.scores, **one.baselines}
    features = [every[name] for name in COMBINED if name in every]
    out = np.full(len(one.wrong), np.nan)
    here = one.measured
    if features:
        x = np.column_stack(features)[here]
        draws = panel.generator(f"combined {one.model.info.name}")
        out[here] = held_out_probability(x, one.wrong[here], one.unit[here], draws, constant=constant)
    return out


def scored(panel: Panel, one: Graded) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows of the table correctness for one model, and the scores as they were oriented."""
    here = one.measured
    wrong, unit = one.wrong[here], one.unit[here]
    weights, n_prompts = run_weights(panel.weights, unit), len(np.unique(unit))
    kind, stratum = kinds_of(one)[here], one.strata[here]
    found, how = {}, {}
    for name, values in {**one.baselines, **one.scores}.items():
        found[name], how[name] = oriented(one, values)
    found["combined"], how["combined"] = combined(panel, one, constant=False), "as given"
    of = {name: auroc(v[here], wrong) for name, v in found.items()}
    every = np.vstack([np.ones(len(wrong), int), weights[:DRAWS_BESIDE]])
    inner = {n: resampled_auroc_within(v[here], wrong, stratum, every) for n, v in found.items()}
    usable = [n for n in one.baselines if np.isfinite(inner[n][0])]
    best = max(usable, key=lambda n: inner[n][0], default="")
    base = inner[best] if best else np.full(len(every), np.nan)
    rows = []
    for name, values in found.items():
        draws = resampled_auroc(values[here], wrong, weights)
        around = percentile_interval(draws, n_prompts)
        gained = inner[name] - base
        gain, known = percentile_interval(gained[1:], n_prompts), np.isfinite(values[here])
        rows.append(
            {**one.model.info.named, "score": name, "kind": kind_of_score(one, name), "oriented": how[name]}
            | {"auroc": of[name], **bounds(around), "reason": around.reason, "best_baseline": best}
            | _beside("within", partial(_within, kind), values[here], wrong, weights, n_prompts)
            | _beside("auprc", resampled_average_precision, values[here], wrong, weights, n_prompts)
            | _beside("prr", resampled_rejection, values[here], wrong, weights, n_prompts)
            | {"gain": float(gained[0]), **bounds(gain, "gain"), "n_prompts": n_prompts}
            | {"n_runs": int(known.sum()), "n_wrong": int(wrong[known].sum())}
        )
    return rows, found


def kind_of_score(one: Graded, name: str) -> str:
    """What a score is: dynamics, combined, or what it must beat: baseline, text, published."""
    if name not in one.baselines:
        return "combined" if name == "combined" else "dynamics"
    return "text" if name.startswith("text: ") else "published" if name.endswith(")") else "baseline"


def _beside(
    name: str, statistic: Resampled, scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray, n_prompts: int
) -> dict[str, float]:
    """One more statistic of a score with its interval over units, as three columns."""
    every = np.vstack([np.ones(len(wrong), int), weights[:DRAWS_BESIDE]])
    draws = statistic(scores, wrong, every)
    around = percentile_interval(draws[1:], n_prompts)
    return {name: float(draws[0]), **bounds(around, name)}


def kinds_of(one: Graded) -> np.ndarray:
    """The kind of question of every run, category and tag, as one number [run]."""
    return strata_of(one.model, ("category", "tag"))[one.rows]


def _within(kind: np.ndarray, scores: np.ndarray, wrong: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return resampled_auroc_within(scores, wrong, kind, weights)


def chance_row(panel: Panel, one: Graded, found: Mapping[str, np.ndarray]) -> dict:
    """What the best of as many scores reaches by chance, and what the kind of question alone tells: one row.

    By chance: answers exchanged between units, sides as they were chosen. The kind alone: the share of wrong answers
    of its category and tag, beside the median of that by chance.
    """
    here = one.measured
    wrong, unit = one.wrong[here], one.unit[here]
    of = {name: v for name in one.scores if np.isfinite(v := auroc(found[name][here], wrong))}
    best = max(of, key=lambda name: of[name], default="")
    generator = panel.generator(f"chance {one.model.info.name}")
    draws = highest_auroc_by_chance(np.array([found[name][here] for name in of]), wrong, unit, generator)
    kind = kinds_of(one)[here]
    by_kind = float(np.median(auroc_of_kind_by_chance(kind, wrong, unit, generator)))
    return (
        {**one.model.info.named, "n_scores": len(of), "best": best, "auroc": of.get(best, np.nan)}
        | {"by_chance": float(np.median(draws)), "by_chance_95": float(np.quantile(draws, 0.95))}
        | {"p": float((1 + (draws >= of[best]).sum()) / (1 + len(draws))) if best else np.nan}
        | {"kinds": len(np.unique(kind)), "kind_alone": auroc_of_kind(kind, wrong), "kind_by_chance": by_kind}
        | {"n_runs": int(here.sum())}
    )


def early_rows(panel: Panel, one: Graded) -> list[dict]:
    """AUROC of running means as a function of the steps seen, 1 to 16: rows of the table earliness."""
    here = one.measured
    wrong, unit = one.wrong[here], one.unit[here]
    weights = run_weights(panel.weights, unit)
    rows = []
    for name, values in cells_of(one, (*FOLLOWED, *OUTPUT)).items():
        means = prefix_means(values, UPTO)
        for step in range(UPTO):
            turned, _ = oriented(one, means[:, step])
            around = percentile_interval(resampled_auroc(turned[here], wrong, weights), len(np.unique(unit)))
            kind = "output" if name in OUTPUT else "dynamics"
            rows.append(
                {**one.model.info.named, "score": name, "kind": kind, "step": step + 1, **bounds(around)}
                | {"auroc": auroc(turned[here], wrong), "n_runs": int(np.isfinite(turned[here]).sum())}
            )
    return rows


def cells_of(one: Graded, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of the graded runs, [run, step]: at the output where there is one there, else at l*."""
    out = {}
    for name in names:
        if name in one.model.steps:
            out[name] = one.model.per_step(name)[one.rows]
            continue
        found = one.model.at_layer(name, one.model.layer_of_record)
        if found is not None:
            out[name] = found[one.rows]
    return out


def exit_rows(one: Graded) -> list[dict]:
    """Layers saved and tokens unchanged when leaving early, for one model: rows of the table early_exit."""
    model = one.model
    if not {"top1", "agrees"} <= set(model.layers) or len(model.recorded_layers) < model.info.n_layers:
        return []
    blocks = [i for i, layer in enumerate(model.recorded_layers) if layer >= 1]
    top1, agrees = (
        model.per_layer(c)[model.measured][:, :, blocks].reshape(-1, len(blocks)) for c in ("top1", "agrees")
    )
    saved, same, oracle = exit_curve(top1, agrees, THRESHOLDS)
    same_of_all = {**model.info.named, "oracle_saved": oracle, "n_tokens": int(np.isfinite(top1).all(1).sum())}
    return [
        {"threshold": t, "saved": s, "agreement": a, **same_of_all}
        for t, s, a in zip(THRESHOLDS, saved, same, strict=True)
    ]


def graded_of(panel: Panel) -> dict[str, Graded]:
    """The graded runs of every trained model that has some right and some wrong, by its name."""
    turbulent = turbulent_above(panel)
    return {m.info.name: one for m in panel.trained if (one := graded_runs(panel, m, turbulent)) is not None}


def correctness_evidence(panel: Panel, claims: Sequence[str] = CLAIMS) -> Mapping[str, Evidence]:
    """The evidence for all of the claims, or some of them, as `analyse_correctness` gives it, without its tables."""
    every = graded_of(panel)
    turned = {name: {n: oriented(one, v)[0] for n, v in one.baselines.items()} for name, one in every.items()}
    return _evidence(panel, every, turned, claims)[0]


def _evidence(
    panel: Panel,
    graded: Mapping[str, Graded],
    turned: Mapping[str, Mapping[str, np.ndarray]],
    claims: Sequence[str] = CLAIMS,
) -> tuple[Mapping[str, Evidence], list[dict]]:
    """The evidence of the claims, and what each model says of those about answers."""
    every = tuple(graded.values())
    found = answer_claims.answers_by_model(panel, every, turned, claims)
    evidence = answer_claims.answers_evidence(panel, every, turned, found) | later_claims.later_evidence(
        panel, every, claims
    )
    return evidence, model_rows(found)


def analyse_correctness(panel: Panel) -> Result:
    """Tables correctness, correctness_chance, earliness, correctness_curve, early_exit; evidence for the claims."""
    turbulent = turbulent_above(panel)
    rows: list[dict] = []
    early: list[dict] = []
    curve: list[dict] = []
    leaving: list[dict] = []
    chance: list[dict] = []
    graded: dict[str, Graded] = {}
    turned: dict[str, Mapping[str, np.ndarray]] = {}
    for model in panel.models:
        one = graded_runs(panel, model, turbulent)
        if one is None:
            continue
        more, found = scored(panel, one)
        rows += more
        chance.append(chance_row(panel, one, found))
        early += early_rows(panel, one)
        leaving += exit_rows(one)
        here, probability = one.measured, combined(panel, one, constant=True)
        for p, share, count in zip(*calibration_curve(probability[here], one.wrong[here]), strict=True):
            kept = {**model.info.named, "score": "combined"}
            curve.append({**kept, "predicted": p, "observed": share, "count": count})
        if not model.info.twin:
            graded[model.info.name], turned[model.info.name] = one, found
    evidence, by_model = _evidence(panel, graded, turned)
    notes = () if rows else (f"correctness: {lacking_grades(panel)}",)
    return Result(
        filled(
            correctness=rows,
            correctness_chance=chance,
            earliness=early,
            correctness_curve=curve,
            early_exit=leaving,
            answers_models=by_model,
        ),
        evidence=evidence,
        notes=notes,
    )


CORRECTNESS = declared(
    "correctness", analyse_correctness, correctness_evidence, layers=AT_RECORD, steps=(*AT_OUTPUT, *OUTPUT), parted=True
)
