"""Stored readings of probes, read back without any model library."""

from pathlib import Path

import numpy as np

from phaselens.experiments.base import StoredReading, StoredScores
from phaselens.probes.alignment import PeakProbes
from phaselens.trace.seal import read_arrays

READINGS = "readings"
PEAK = "peak."
SCORES = "observability"


def read_readings(folder: Path) -> dict[str, dict[str, StoredReading]]:
    """The readings of a study folder by model and task; tasks that a model could not be asked are left out."""
    out: dict[str, dict[str, StoredReading]] = {}
    for path in sorted((folder / READINGS).glob("*.safetensors")):
        arrays, facts = read_arrays(path)
        if "refused" not in facts and facts["task"] != SCORES:
            peak = {name.removeprefix(PEAK): arrays.pop(name) for name in sorted(arrays) if name.startswith(PEAK)}
            made = StoredReading(
                facts["task"],
                facts["function"],
                units=np.array(facts["units"]),
                best=facts["best"],
                **arrays,
                peak=PeakProbes(**peak) if peak else None,
                keys=tuple(facts.get("keys", ())),
                templates=tuple(facts.get("templates", ())),
            )
            out.setdefault(facts["model"], {})[facts["task"]] = made
    return out


def read_scores(folder: Path) -> dict[str, StoredScores]:
    """The scores of the next token's loss in a study folder, by model."""
    out = {}
    for path in sorted((folder / READINGS).glob("*.safetensors")):
        arrays, facts = read_arrays(path)
        if facts["task"] == SCORES and "refused" not in facts:
            out[facts["model"]] = StoredScores(**arrays)
    return out
