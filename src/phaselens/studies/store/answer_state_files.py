"""The states that answers begin with, read back without any model library."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from phaselens.errors import StudyFileError
from phaselens.trace.seal import read_arrays

ANSWERS = "answers"


def beginnings_path(folder: Path, unit: str) -> Path:
    """Where the states of one unit are kept: float32 [run, d_model], in the order of its transcripts."""
    return folder / ANSWERS / f"{unit}.safetensors"


def read_beginnings(folder: Path, units: Sequence[str], counts: Sequence[int]) -> np.ndarray | None:
    """The states of several units as one array [run, d_model], NaN for units without; None where no unit has any.

    `counts` are the runs of each. Raises StudyFileError for a file that is damaged or of another number of runs.
    """
    found = [_read(beginnings_path(folder, unit), count) for unit, count in zip(units, counts, strict=True)]
    width = next((states.shape[1] for states in found if states is not None), None)
    if width is None:
        return None
    whole = [np.full((n, width), np.nan, np.float32) if s is None else s for s, n in zip(found, counts, strict=True)]
    return np.concatenate(whole)


def _read(path: Path, count: int) -> np.ndarray | None:
    if not path.is_file():
        return None
    states = read_arrays(path)[0]["states"]
    if not states.size:
        return None
    if states.ndim != 2 or len(states) != count:
        raise StudyFileError(f"{path} holds {len(states)} states of {count} runs. Delete it and run the command again.")
    return states
