"""Frozen probes elsewhere: on other models after an alignment, and on other templates of the same task."""

import math
from collections.abc import Sequence
from itertools import permutations

import numpy as np

from phaselens.errors import InputError
from phaselens.experiments.base import ModelData, StoredReading
from phaselens.probes.alignment import transferred
from phaselens.probes.capacity import majority_share

Row = dict[str, object]


def between_models(models: Sequence[ModelData], generator: np.random.Generator) -> list[Row]:
    """Accuracy of a model's frozen peak-layer probes on another's peak layer after Procrustes, every ordered pair (1).

    Only tasks whose labels are the world's, on the examples that both models were asked. `own` is the source's held-out
    accuracy on them, `shuffled` the same transfer with train pairs exchanged. NaN with its reason: too few pairs.
    """
    tasks = dict.fromkeys(name for m in models for name, r in m.readings.items() if r.peak is not None)
    rows = []
    for task in tasks:
        have = [(m, m.readings[task]) for m in models if task in m.readings and m.readings[task].peak is not None]
        rows += [_pair(task, a, b, generator) for a, b in permutations(have, 2)]
    return rows


def _pair(
    task: str,
    first: tuple[ModelData, StoredReading],
    second: tuple[ModelData, StoredReading],
    generator: np.random.Generator,
) -> Row:
    (source, own), (target, other) = first, second
    place = {key: i for i, key in enumerate(other.keys)}
    rows = np.array([i for i, key in enumerate(own.keys) if key in place and own.codes[i] >= 0], int)
    codes, named = own.codes[rows], {"task": task, "source": source.info.name, "target": target.info.name}
    guess = own.peak.predict(np.asarray(own.peak.states)[rows], own.peak.folds[rows]) if len(rows) else codes
    out: Row = {**named, "n": len(rows), "accuracy": math.nan, "shuffled": math.nan, "own": math.nan}
    out |= {"majority": majority_share(codes), "reason": ""}
    if len(rows) < 2:
        return out | {"reason": "the models share no examples"}
    states = np.asarray(other.peak.states)[[place[own.keys[i]] for i in rows]]
    try:
        moved, null = (transferred(own.peak, rows, states, g) for g in (None, generator))
    except InputError as error:
        return out | {"own": float((guess == codes).mean()), "reason": str(error)}
    hits = [float((found == codes).mean()) for found in (moved, null, guess)]
    return out | dict(zip(("accuracy", "shuffled", "own"), hits, strict=True))


def between_templates(models: Sequence[ModelData]) -> list[Row]:
    """Accuracy of probes trained on one template and read on another, wherever a task has templates (1)."""
    return [
        {
            "task": name,
            "model": m.info.name,
            "trained_on": a,
            "read_on": b,
            "accuracy": float(r.template_accuracy[i, j]),
            "majority": float(r.template_majority[j]),
        }
        for m in models
        for name, r in m.readings.items()
        if r.template_accuracy is not None and r.template_majority is not None
        for i, a in enumerate(r.templates)
        for j, b in enumerate(r.templates)
    ]
