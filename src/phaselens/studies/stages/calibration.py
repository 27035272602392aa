"""One temperature per model so that all models of a panel have the same mean output entropy; and the noise floor.

The entropy is matched in nats. As a share of ln V it would move with tokens that no model ever uses: doubling a
vocabulary by rows of probability 0 would change the temperature and, with it, verdicts.

Both are measured on calibration prompts, which are never measured prompts.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq
from torch import Tensor

from phaselens.capture.generate import Progress
from phaselens.capture.replay import replay
from phaselens.models import Model
from phaselens.observables.lens import entropies
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcripts

LEAST, GREATEST, POINTS = 0.05, 20.0, 49
NOISE_RUNS = 8


def grid(points: int = POINTS) -> np.ndarray:
    """The fixed temperatures of a curve: an odd number, evenly spaced in the logarithm, 1 in the middle."""
    return np.exp(np.linspace(math.log(LEAST), math.log(GREATEST), points))


class _States:
    """A reducer that keeps the states of valid steps, by (run, step)."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, int], Tensor] = {}

    def update(self, tile: Tile) -> None:
        for r, s in tile.valid.nonzero().tolist():
            self.kept[int(tile.run[r]), int(tile.step[r, s])] = tile.hidden[r, :, s].cpu().clone()


def layer_states(
    model: Model, transcripts: Transcripts, layers: Sequence[int] | None = None, **settings: Any
) -> tuple[Tensor, Tensor]:
    """States at all steps of these layers (None: all), float32 [row, layer, d_model], and the run of each row.

    Rows are sorted by (run, step); `settings` are those of `replay`.
    """
    found = _States()
    replay(model, transcripts, found, layers=layers, **settings)
    keys = sorted(found.kept)
    return torch.stack([found.kept[key] for key in keys]), torch.tensor([run for run, _ in keys])


def output_states(model: Model, transcripts: Transcripts, **settings: Any) -> Tensor:
    """States of the last layer at all steps, float32 [row, d_model], sorted by (run, step)."""
    return layer_states(model, transcripts, (model.n_layers,), **settings)[0][:, 0]


def _entropies(model: Model, states: Tensor, temperatures: np.ndarray) -> Tensor:
    """Output entropy in nats, float64 [row, temperature]; rows whose state is not finite are NaN."""
    return entropies(states.to(model.device)[:, None], model.readout, temperatures.tolist())[:, 0].double().cpu()


def calibrate(model: Model, transcripts: Transcripts, progress: Progress | None = None) -> dict[str, object]:
    """The curve of mean output entropy over temperature, and the noise floor, as plain JSON values.

    `entropy[i]` (nats) belongs to `temperatures[i]`; steps that are not finite are left out and counted. `noise_floor`
    is the largest shift of an output entropy (nats) of the first runs between their batches here and one by one.
    `progress(done, total)` counts tokens.
    """
    first = sorted(transcripts.runs, key=lambda t: t.run)[:NOISE_RUNS]
    entropy = _entropies(model, output_states(model, transcripts, progress=progress), grid())
    alone = _entropies(model, output_states(model, replace(transcripts, runs=tuple(first)), batch_size=1), np.ones(1))
    finite = entropy.isfinite().all(dim=-1)
    gap = (entropy[: len(alone), POINTS // 2] - alone[:, 0]).abs()
    gap = gap[gap.isfinite()]
    curve = entropy[finite].mean(dim=0)
    return {
        "temperatures": grid().tolist(),
        "entropy": curve.tolist() if finite.any() else None,
        "n_steps": int(len(entropy)),
        "n_nonfinite": int((~finite).sum()),
        "noise_floor": float(gap.max()) if len(gap) else None,
    }


def entropy_at_one(curve: Mapping[str, Any]) -> float:
    """Mean output entropy at temperature 1 (nats); NaN where the model had no finite step."""
    return math.nan if curve["entropy"] is None else curve["entropy"][POINTS // 2]


def matching_temperature(curve: Mapping[str, Any], target: float) -> float:
    """The temperature at which the mean output entropy is `target` nats; NaN where none in [0.05, 20] gives it.

    The entropy rises with the temperature, so there is at most one. Between grid points the curve is a cubic spline:
    on two language models (V = 49,152 and 262,144) within 3e-4 nats and 1e-5 of the temperature at 49 points, where a
    monotone cubic needs 97 for 3e-4 and 3e-5.
    """
    if curve["entropy"] is None or not math.isfinite(target):
        return math.nan
    logs, values = np.log(curve["temperatures"]), np.asarray(curve["entropy"])
    if not values[0] <= target <= values[-1]:
        return math.nan
    # Rounding in float32 may bend a flat end of the curve down by 1e-7.
    smooth: Callable[[float], float] = CubicSpline(logs, np.maximum.accumulate(values) - target)
    return float(math.exp(brentq(smooth, logs[0], logs[-1], xtol=1e-12)))
