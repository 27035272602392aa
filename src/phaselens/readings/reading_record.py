"""A reading as a study stores it: held-out hits and nulls, without states or probes."""

from typing import Any

import numpy as np
import torch

from phaselens.errors import InputError
from phaselens.models import Model
from phaselens.perturbations.hidden import haar
from phaselens.probes.crossfit import Task, cross_fit
from phaselens.probes.subspace import subspace_against_features
from phaselens.readings.analysis import Reading, Settings, analyse
from phaselens.readings.examples import place
from phaselens.readings.place_states import capture_states
from phaselens.readings.world_tasks import ReadingTask, examples_of

RANK, ROTATIONS = 8, 20
WORD_TASKS = frozenset({"pos", "depth", "number"})


def stored_reading(
    model: Model, twin: Model, task: ReadingTask, *, most: int, seed: int, settings: Settings
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and facts of one task in one model: what `experiments.base.StoredReading` is made of.

    Raises InputError where the model's answers leave one class only, or its vocabulary cannot place the examples.
    """
    examples, places = place(model, examples_of(task, model, seed=seed, most=most))
    own, other = capture_states(model, places), capture_states(twin, places)
    reading = analyse(
        task.name,
        own.layers,
        examples.labels,
        examples.groups,
        kinds=examples.kinds,
        twin=other.layers,
        covariates=[own.covariates(i) for i in range(len(own.layers))],
        numbers=own.numbers,
        settings=settings,
        disjoint=task.name in WORD_TASKS,
    )
    arrays = {
        "depth": np.array(reading.numbers) / model.n_layers,
        "hits": reading.hits,
        "codes": reading.codes,
        "null": reading.null,
        "selectivity": reading.selectivity,
        "best_hits": reading.best_hits["own"],
        "first_hits": reading.hits[0],
        "twin_hits": reading.best_hits["untrained twin"],
        "covariate_hits": reading.best_hits["covariates"],
        **_dimensions(own.layers[reading.peak], reading, seed),
    }
    facts: dict[str, Any] = {"task": task.name, "function": task.function, "best": reading.best}
    facts["units"] = [str(u) for u in reading.units]
    if task.labels_of == "world":
        arrays |= _peak(own.layers[reading.peak], reading)
        facts["keys"] = [f"{item.text}|{item.span}" for item in examples.items]
    if reading.transfer:
        facts["templates"] = reading.transfer["families"]
        arrays["template_accuracy"] = np.array(reading.transfer["accuracy"])
        arrays["template_majority"] = np.array(reading.transfer["majority"])
    return arrays, facts


def _peak(layer: np.ndarray, reading: Reading) -> dict[str, np.ndarray]:
    """States of the peak layer in float16 and the probe of every fold, for other models to be read with."""
    task = Task(reading.codes[None], reading.classes, reading.folds)
    probes = cross_fit(np.asarray(layer)[None], {"": task}, reading.l2)[""].probes
    found = {name: getattr(probes, name)[0, 0].numpy() for name in ("weight", "bias", "centre", "scale")}
    found |= {"states": np.asarray(layer, np.float16), "folds": reading.folds}
    return {f"peak.{name}": value for name, value in found.items()}


def _dimensions(layer: np.ndarray, reading: Reading, seed: int) -> dict[str, np.ndarray]:
    """Hits of the subspace, the best features, and the best features of random rotations; nothing where undefined."""
    generator = torch.Generator().manual_seed(seed)
    turns = [haar(layer.shape[1], generator) for _ in range(ROTATIONS)]
    task = Task(reading.codes[None], reading.classes, reading.folds)
    try:
        found = subspace_against_features(
            torch.as_tensor(np.asarray(layer)), task, turns, k=min(RANK, layer.shape[1]), l2=reading.l2
        )
    except InputError:
        return {}
    return {"subspace": found.subspace, "features": found.features, "rotated": found.rotated}
