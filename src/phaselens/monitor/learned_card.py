"""From a labelled study to a threshold card of one of its models."""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np

from phaselens.dynamics.alarms import Score
from phaselens.dynamics.thresholds import AFTER, Rate, learn_rule
from phaselens.errors import InputError, unknown_name
from phaselens.experiments import ModelData, Panel
from phaselens.monitor.threshold_card import Card

INNER = ("instability", "step_length", "turning_angle", "coherence", "depth_instability")
STATISTICS = ("recent", "mean")
ADVICE = (
    "Grade them yourself (--to-grade FILE, then --labels FILE), or ask more questions: `phaselens run --model MODEL "
    "--questions --samples 3 --out DIR2`, then `phaselens calibrate DIR2`."
)
BASELINES = ("surprisal", "entropy")


def learn_card(
    panel: Panel, fingerprints: Mapping[str, str], model: str | None = None, *, rate: float = 0.1, after: int = AFTER
) -> Card:
    """Learn the threshold card of `model` (default: the only trained one) from the panel of a graded study.

    `fingerprints` are those of its models by name. Scores are recent and running means of five measures of states at l*
    and at L; baselines those of surprisal and entropy. Raises UnknownNameError for a model that the study lacks,
    InputError where runs are not graded.
    """
    data = model_of(panel, model)
    chosen = data.info.name
    right = np.asarray(data.runs["correct"], float)
    graded = np.isfinite(right) & data.measured
    if not graded.any():
        raise InputError(f"no run of {chosen} is graded: its prompts have no answers. {ADVICE}")
    longest = int(np.asarray(data.runs["n_generated"])[graded].max())
    if longest <= after:
        raise InputError(f"no run of {chosen} goes on to step {after} (the longest: {longest}): say --after 3, or so.")
    columns, plain = _scores(data, graded)
    wrong = 1 - np.asarray(data.runs["correct"], float)[graded]
    units = data.units[graded]
    try:
        learned = learn_rule(
            columns, plain, wrong, units, panel.generator("threshold"), rate=rate, n_boot=panel.n_boot, after=after
        )
    except InputError as error:
        counts = (
            f"{int((1 - wrong).sum())} right and {int(wrong.sum())} wrong runs of {len(np.unique(units))} questions"
        )
        raise InputError(f"{chosen} has {counts}: {error} {ADVICE}") from error
    return Card(
        model=chosen,
        fingerprint=fingerprints[chosen],
        rule=learned.rule,
        target_rate=rate,
        rates={
            "false_alarm_rate": _plain(learned.false_alarms),
            "hit_rate": _plain(learned.hits),
            "baseline_hit_rate": _plain(learned.baseline_hits),
            "baseline_false_alarm_rate": _plain(learned.baseline_false_alarms),
            "gain": _plain(learned.gain),
        },
        baseline=learned.baseline.score.name,
        beats_baseline=bool(learned.gain.interval.lo > 0),
        made_of={
            "learned_from_runs": learned.n_learned,
            "tested_on_runs": learned.n_tested,
            "prompts": len(np.unique(units)),
            "scores_tried": len(columns),
            "seed": panel.seed,
        },
    )


def _scores(data: ModelData, graded: np.ndarray) -> tuple[dict[Score, np.ndarray], dict[Score, np.ndarray]]:
    """Columns of the graded runs [run, step] behind the scores of states at l* and at L, and behind the baselines."""
    layers = dict.fromkeys((data.layer_of_record, data.info.n_layers))
    columns = {
        Score(name, layer, statistic): found[graded]
        for name, layer in product(INNER, layers)
        if (found := data.at_layer(name, layer)) is not None
        for statistic in STATISTICS
    }
    known = [name for name in BASELINES if name in data.steps]
    return columns, {Score(name, None, s): data.per_step(name)[graded] for name in known for s in STATISTICS}


def model_of(panel: Panel, model: str | None) -> ModelData:
    """The trained model of this name in a study (None: the only one).

    Raises InputError where None says too little, UnknownNameError for a model that the study lacks.
    """
    known = {m.info.name: m for m in panel.trained}
    if model is None and len(known) != 1:
        raise InputError(f"the study holds {len(known)} trained models; add --model with one of: {', '.join(known)}.")
    if model is not None and model not in known:
        raise unknown_name("model of the study", model, known)
    return known[model] if model is not None else next(iter(known.values()))


def _plain(rate: Rate) -> dict[str, Any]:
    bounds = (rate.interval.lo, rate.interval.hi)
    lo, hi = (float(b) if np.isfinite(b) else None for b in bounds)
    return {"value": rate.value if np.isfinite(rate.value) else None, "lo": lo, "hi": hi}
