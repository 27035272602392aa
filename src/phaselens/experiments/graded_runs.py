"""Graded runs of one model as scores that might say whether an answer is right, baselines beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phaselens.dynamics.competitors import calibrated_entropy, latent_amplitude, lens_entropies, text_scores
from phaselens.dynamics.correctness_scores import (
    answer_probe,
    commitment_trap,
    early_value,
    grammar_violation,
    resolved_turbulence,
    slope,
)
from phaselens.dynamics.regimes import run_mean
from phaselens.dynamics.state_alphabets import BIFURCATION, bifurcation_states, marks
from phaselens.experiments.base import ModelData, Panel
from phaselens.statistics.strata import crossed

AT_OUTPUT = ("entropy_norm", "top1", "margin", "rivalry", "n_above_1pct", "logit_std", "commit_depth")
AT_RECORD = tuple(
    "step_length turning_angle instability relative_step log_rms depth_step depth_angle depth_instability "
    "coherence state_sync turbulence kl_to_final".split()
)
STATES = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
KIND = ("category", "tag", "arm")
COMBINED: tuple[str, ...] = tuple(
    "mean instability | early instability | mean turbulence | mean coherence | mean turning_angle".split(" | ")
)
COMBINED += ("resolved turbulence", "commitment trap", "mean log-probability", "mean entropy")


@dataclass(frozen=True, eq=False)
class Graded:
    """Graded runs of one model: `wrong` [run], the unit of each (-1: calibration), scores and baselines by name.

    `rows` are the places of these runs in the model's runs table; `sign` +1 where a high score went with wrong answers
    on calibration runs, else -1 (all +1 where calibration runs were not graded).
    """

    model: ModelData
    rows: np.ndarray
    wrong: np.ndarray
    unit: np.ndarray
    scores: Mapping[str, np.ndarray]
    baselines: Mapping[str, np.ndarray]

    @cached_property
    def strata(self) -> np.ndarray:
        """Stratum of each run, int [run]: only runs of one are compared."""
        return strata_of(self.model)[self.rows]

    @property
    def measured(self) -> np.ndarray:
        """Mask of the runs that are not for calibration."""
        return self.unit >= 0


def strata_of(model: ModelData, names: Sequence[str] = KIND) -> np.ndarray:
    """Category, tag and arm of every run as one number, int [run]: the kind of question, asked in one way."""
    return crossed(*(np.asarray(model.runs[name]) for name in names if name in model.runs))


def lacking_grades(panel: Panel) -> str:
    """Why no model's answers can be told apart: none was graded, or all are right, or all wrong."""
    given = [_grades(m)[m.measured] for m in panel.trained if "correct" in m.runs]
    seen = np.concatenate([*given, np.array([])])
    seen = seen[np.isfinite(seen)]
    if not len(seen):
        return "no run is graded: give the battery answers, and prompts that models get right and wrong"
    words = "right" if seen.all() else "wrong" if not seen.any() else "right in one model, or wrong"
    return (
        f"all {len(seen)} graded runs are {words}: results/grading.json has examples; give prompts that a model gets "
        "right and wrong, or another grader (first line, contains, last number, choice)"
    )


def _grades(model: ModelData) -> np.ndarray:
    """1 right, 0 wrong, NaN not graded; [run]."""
    return np.array([np.nan if c is None else float(c) for c in model.runs["correct"]])


def graded_runs(panel: Panel, model: ModelData, turbulent: float) -> Graded | None:
    """The graded runs of one model; None where none was graded or all answers are alike. `turbulent`: panel's q75."""
    if "correct" not in model.runs:
        return None
    given = _grades(model)
    rows = np.flatnonzero(np.isfinite(given))
    unit = panel.unit_index(model)[rows]
    wrong = 1.0 - given[rows]
    if not len(rows) or not (unit >= 0).any() or len(np.unique(wrong[unit >= 0])) < 2:
        return None
    units = model.units[rows]
    cells = {c: model.per_step(c)[rows] for c in AT_OUTPUT if c in model.steps}
    for name in AT_RECORD:
        found = model.at_layer(name, model.layer_of_record)
        if found is not None and np.isfinite(found).any():
            cells[name] = found[rows]
    scores: dict[str, np.ndarray] = {}
    for name, values in cells.items():
        of = (("mean", run_mean), ("early", early_value), ("slope", slope))
        scores |= {f"{word} {name}": make(values) for word, make in of}
    if "turbulence" in cells:
        scores["resolved turbulence"] = resolved_turbulence(cells["turbulence"])
    if {"turbulence", "step_length"} <= cells.keys() and "commitment" in model.steps:
        commitment = run_mean(model.per_step("commitment")[rows])
        sync = 1 - run_mean(cells["turbulence"])
        scores["commitment trap"] = commitment_trap(commitment, run_mean(cells["step_length"]), sync)
    states = states_at_record(model, turbulent)
    if states is not None:
        draws = panel.generator(f"grammar {model.info.name}")
        right = (wrong == 0) & (unit >= 0)
        scores["grammar violation"] = grammar_violation(states[rows], right, units, draws, n_states=len(BIFURCATION))
    baselines = _baselines(model, rows)
    if "answer_state" in model.runs:
        draws = panel.generator(f"probe {model.info.name}")
        baselines["linear probe"] = answer_probe(model.runs["answer_state"][rows], wrong, units, draws)
    competitors = {k: v for k, v in _published(panel, model, rows, wrong, unit).items() if np.isfinite(v).any()}
    return Graded(model, rows, wrong, unit, scores, baselines | _texts(panel, model, rows, wrong) | competitors)


def _texts(panel: Panel, model: ModelData, rows: np.ndarray, wrong: np.ndarray) -> dict[str, np.ndarray]:
    """What text alone says, by name; nothing where texts are not known."""
    if not {"prompt", "answered"} <= set(model.runs):
        return {}
    asked, answered = (np.asarray(model.runs[name])[rows] for name in ("prompt", "answered"))
    both = [f"{a} {b}" for a, b in zip(asked, answered, strict=True)]
    units = model.units[rows]
    found = {
        name: text_scores(texts, wrong, units, panel.generator(f"text {name} {model.info.name}"), of=of)
        for name, texts, of in (
            ("text: prompt", list(map(str, asked)), "words"),
            ("text: prompt and answer", both, "words"),
            ("text: characters", both, "characters"),
        )
    }
    return {name: v for name, v in found.items() if np.isfinite(v).any()}


def _published(
    panel: Panel, model: ModelData, rows: np.ndarray, wrong: np.ndarray, unit: np.ndarray
) -> dict[str, np.ndarray]:
    """Published scores of one forward pass that the recorded columns allow, by name and source."""
    out = {}
    if "entropy" in model.steps:
        entropy = model.per_step("entropy")[rows]
        out["CES (2605.28264)"] = calibrated_entropy(entropy, entropy[(unit < 0) & (wrong == 0)].ravel())
    whole = model.recorded_layers == tuple(range(model.info.n_layers + 1))
    if whole and {"step_length", "depth_step", "log_rms"} <= set(model.layers):
        length, step, rms = (model.per_layer(c)[rows] for c in ("step_length", "depth_step", "log_rms"))
        out["StALT (2605.01853)"] = latent_amplitude(length, step, rms, model.info.d_model)
    if "entropy" in model.layers:
        draws = panel.generator(f"lens entropies {model.info.name}")
        out["lens entropy by layer (2606.01033)"] = lens_entropies(
            model.per_layer("entropy")[rows], wrong, model.units[rows], draws
        )
    return out


def states_at_record(model: ModelData, turbulent: float) -> np.ndarray | None:
    """States of the bifurcation alphabet at l* as numbers, int [run, step], -1 where undefined; None: not recorded."""
    found = {c: model.at_layer(c, model.layer_of_record) for c in STATES}
    if any(v is None for v in found.values()) or not np.isfinite(turbulent):
        return None
    return bifurcation_states(marks({c: v[:, :, None] for c, v in found.items()}, turbulent))[:, :, 0]


def _baselines(model: ModelData, rows: np.ndarray) -> dict[str, np.ndarray]:
    out = {"length": np.asarray(model.runs["n_generated"], float)[rows]}
    if "surprisal" in model.steps:
        mean = run_mean(model.per_step("surprisal")[rows])
        out |= {"mean log-probability": -mean, "perplexity": np.exp(mean)}
        # Beyond the definitions: a short answer stands in the first steps, and a run mean dilutes it.
        out["early log-probability"] = -early_value(model.per_step("surprisal")[rows])
    if "entropy" in model.steps:
        out["mean entropy"] = run_mean(model.per_step("entropy")[rows])
        out["early entropy"] = early_value(model.per_step("entropy")[rows])
    if "coe_r" in model.steps:
        values = model.per_step("coe_r")[rows]
        last = np.where(np.isfinite(values), np.arange(values.shape[1]), -1).max(1)
        out["CoE-R"] = np.where(last >= 0, values[np.arange(len(rows)), last], np.nan)
    return out
