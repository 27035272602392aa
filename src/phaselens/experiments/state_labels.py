"""The states of a panel's runs: which columns make them, and by whose threshold a cell is turbulent."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phaselens.dynamics.chains import generation_chains
from phaselens.dynamics.state_alphabets import (
    BIFURCATION,
    GRAMMAR,
    Marks,
    bifurcation_states,
    grammar_states,
    marks,
    turbulence_threshold,
)
from phaselens.experiments.base import ModelData, Panel

COLUMNS = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
QUANTILE = 75.0
ALPHABETS: Mapping[str, tuple[str, ...]] = {"bifurcation": BIFURCATION, "grammar": GRAMMAR}


@dataclass(frozen=True, eq=False)
class Cells:
    """The measured runs of one model at the recorded layers of 1..L, under the lens of a column suffix.

    `prompt` int [run] is the index of each run's prompt. Columns are read when they are asked for and not kept.
    """

    model: ModelData
    layers: tuple[int, ...]
    prompt: np.ndarray
    suffix: str = ""

    def columns(self) -> Mapping[str, np.ndarray]:
        """The columns of a state, [run, step, layer]."""
        keep = [self.model.recorded_layers.index(layer) for layer in self.layers]
        whole = (self.model.per_layer(c + self.suffix, stored=True) for c in COLUMNS)
        return {c: x[self.model.measured][:, :, keep] for c, x in zip(COLUMNS, whole, strict=True)}

    def marked(self, threshold: float, *, rivalry: float = 0.5) -> Marks:
        """The marks of every cell under a threshold of turbulence."""
        return marks(self.columns(), threshold, rivalry=rivalry)

    @property
    def at_record(self) -> int | None:
        """Place of the layer of record l* among `layers`; None where it was not recorded."""
        layer = self.model.layer_of_record
        return self.layers.index(layer) if layer in self.layers else None


@dataclass(frozen=True, eq=False)
class Labelled:
    """The states of one model's measured runs under one threshold, int8 [run, step, layer], in both alphabets."""

    cells: Cells
    threshold: float
    states: Mapping[str, np.ndarray]

    def layer_choice(self, choice: str) -> slice | None:
        """The layers of a choice, "l*" or "all", as a slice; None where l* was not recorded."""
        if choice == "all":
            return slice(None)
        at = self.cells.at_record
        return None if at is None else slice(at, at + 1)

    def generation(self, alphabet: str, choice: str) -> np.ndarray | None:
        """Chains along generation, [run, layer, step]: one per run and layer of the choice."""
        where = self.layer_choice(choice)
        return None if where is None else generation_chains(self.states[alphabet][:, :, where])

    @cached_property
    def n_states(self) -> int:
        """Cells with a state (count)."""
        return int((self.states["bifurcation"] >= 0).sum())


def cells_of(panel: Panel, model: ModelData, *, suffix: str = "") -> Cells | None:
    """The cells of a model's measured runs, under the lens of a column suffix; None where its columns are absent."""
    if not {c + suffix for c in COLUMNS} <= set(model.layers):
        return None
    prompt = panel.unit_index(model)[model.measured]
    return Cells(model, tuple(layer for layer in model.recorded_layers if layer >= 1), prompt, suffix)


def calibration_turbulence(models: tuple[ModelData, ...], *, suffix: str = "") -> np.ndarray:
    """Turbulence of the calibration runs of some models at layers 1..L, pooled (1); empty where there are none."""
    found = [np.zeros(0)]
    for model in models:
        if "turbulence" + suffix in model.layers:
            values = model.per_layer("turbulence" + suffix)[~model.measured]
            values = values[:, :, [layer >= 1 for layer in model.recorded_layers]].ravel()
            found.append(values[np.isfinite(values)])
    return np.concatenate(found)


def labelled(cells: Cells, threshold: float) -> Labelled:
    """The states of a model under one threshold, in both alphabets."""
    states = bifurcation_states(cells.marked(threshold))
    return Labelled(cells, threshold, {"bifurcation": states, "grammar": grammar_states(states)})


def by_prompt(per_run: np.ndarray, prompt: np.ndarray, n_prompts: int) -> np.ndarray:
    """Sum of what belongs to each run over the runs of each prompt: [run, ...] -> float64 [prompt, ...]."""
    out = np.zeros((n_prompts, *np.shape(per_run)[1:]))
    np.add.at(out, prompt, per_run)
    return out


def label_panel(panel: Panel, *, suffix: str = "") -> dict[str, Labelled]:
    """The states of every model that has the columns, by name, under one lens.

    The threshold is the 75th percentile of turbulence, pooled over the calibration runs of the trained models. A model
    without a defined cell is left out.
    """
    pooled = float(turbulence_threshold(calibration_turbulence(panel.trained, suffix=suffix), quantile=QUANTILE))
    out = {}
    for model in panel.models:
        cells = cells_of(panel, model, suffix=suffix)
        if cells is None:
            continue
        found = labelled(cells, pooled)
        if found.n_states:
            out[model.info.name] = found
    return out


def own_threshold(model: ModelData) -> float:
    """The 75th percentile of the turbulence of this model's own calibration runs (1); NaN: it has none."""
    return float(turbulence_threshold(calibration_turbulence((model,)), quantile=QUANTILE))
