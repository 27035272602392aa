"""Calibrated state normalisations of one model: fitted on the calibration prompts, stored, read back."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from phaselens.capture.replay import replay
from phaselens.errors import StudyFileError
from phaselens.models import Model
from phaselens.observables.state_normalisation import CALIBRATED, Calibration, fit_normalisation
from phaselens.trace.seal import arrays_bytes, read_arrays
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcripts

FIELDS = ("centre", "scale", "dropped", "n_states")
AT_ONCE = 256 << 20  # bytes of states in memory; more layers than fit are fitted in several passes


class _States:
    """A reducer that keeps the states of all valid steps, by layer."""

    def __init__(self) -> None:
        self.parts: list[Tensor] = []

    def update(self, tile: Tile) -> None:
        for i in range(len(tile.run)):
            self.parts.append(tile.hidden[i][:, tile.valid[i]].cpu())


def fit_states(model: Model, transcripts: Transcripts, methods: Sequence[str]) -> dict[str, Calibration]:
    """Fit the methods that need a calibration on the states of all steps of these runs, layers 0..L.

    States are cut to what AT_ONCE holds by fitting a few layers at a time.
    """
    wanted = [m for m in methods if m in CALIBRATED]
    if not wanted:
        return {}
    one = 4 * sum(t.n_generated for t in transcripts) * model.d_model
    step = max(1, AT_ONCE // max(one, 1))
    found: dict[str, list[Calibration]] = {m: [] for m in wanted}
    for first in range(0, model.n_layers + 1, step):
        kept = _States()
        replay(model, transcripts, kept, layers=range(first, min(first + step, model.n_layers + 1)))
        states = torch.cat(kept.parts, dim=1)
        for method in wanted:
            found[method].append(fit_normalisation(states, method))
    return {
        m: Calibration(m, *(torch.cat([getattr(c, f) for c in parts]) for f in FIELDS)) for m, parts in found.items()
    }


def packed(fitted: Mapping[str, Calibration]) -> bytes:
    """The calibrations as sealed safetensors; the same numbers give the same bytes."""
    return arrays_bytes({f"{m}.{f}": getattr(c, f).numpy() for m, c in fitted.items() for f in FIELDS}, {})


def unpacked(path: Path, methods: Sequence[str]) -> dict[str, Calibration | None]:
    """The methods of a study with their calibrations; `raw` and `unit` have none.

    Raises StudyFileError where the file cannot be read, is not what was written, or lacks one.
    """
    arrays, _ = read_arrays(path)
    try:
        return {
            m: Calibration(m, *(torch.from_numpy(arrays[f"{m}.{f}"]) for f in FIELDS)) if m in CALIBRATED else None
            for m in methods
        }
    except KeyError as error:
        raise StudyFileError(f"{path} lacks {error}. Delete it and run the same command again.") from error


def largest_share_dropped(fitted: Mapping[str, Calibration | None]) -> float:
    """The largest share of dimensions of a layer that clipped_mad leaves out (proportion); NaN: not fitted."""
    one = fitted.get("clipped_mad")
    return math.nan if one is None else float(one.dropped.max()) / one.centre.shape[1]
