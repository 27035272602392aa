"""Stored readings of probes, read back without any model library."""

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from phaselens.errors import StudyFileError
from phaselens.experiments.base import StoredReading
from phaselens.probes.alignment import PeakProbes

READINGS = "readings"
PEAK = "peak."


def read_readings(folder: Path) -> dict[str, dict[str, StoredReading]]:
    """The readings of a study folder by model and task; tasks that a model could not be asked are left out."""
    out: dict[str, dict[str, StoredReading]] = {}
    for path in sorted((folder / READINGS).glob("*.safetensors")):
        try:
            with safe_open(str(path), "np") as file:
                facts = json.loads(file.metadata()["phaselens"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no mapping
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise StudyFileError(
                f"{path} cannot be read: {error}. Delete it and run the same command again."
            ) from error
        if "refused" not in facts:
            peak = {name.removeprefix(PEAK): arrays.pop(name) for name in sorted(arrays) if name.startswith(PEAK)}
            made = StoredReading(
                facts["task"], facts["function"], units=np.array(facts["units"]), best=facts["best"], **arrays,
                peak=PeakProbes(**peak) if peak else None, keys=tuple(facts.get("keys", ())),
                templates=tuple(facts.get("templates", ())),
            )  # fmt: skip
            out.setdefault(facts["model"], {})[facts["task"]] = made
    return out
