"""State normalisations that need a calibration: centre and scale per layer and dimension, fitted once, then frozen.

`raw` and `unit` need none and are settings of the geometry (`trajectory.states`). The three here are fitted on
calibration states of one model, never on the run that they are applied to; the geometry then reads the normalised
states as `raw`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaselens.errors import InputError, unknown_name
from phaselens.observables.trajectory import CALIBRATED, NORM_FLOOR, NORMALISATIONS

METHODS = (*NORMALISATIONS, *CALIBRATED)
CLIP = 5.0
MAD_TO_SD = 1.4826  # 1 / Phi^-1(3/4): the MAD of a Gaussian to its SD
IQR_TO_SD = 1.349  # 2 Phi^-1(3/4)
FEWEST_STATES = 2


@dataclass(frozen=True, eq=False)
class Calibration:
    """Centre and scale of the states of one model, by layer; what `normalise` needs.

    `centre` and `scale` are [layer, d_model] (`rms`: one value for all dimensions of a layer), NaN scale where a
    dimension is dropped; `dropped` and `n_states` are int [layer]. `raw` and `unit` hold no numbers.
    """

    method: str
    centre: Float[Tensor, "layer d_model"]
    scale: Float[Tensor, "layer d_model"]
    dropped: Int[Tensor, " layer"]
    n_states: Int[Tensor, " layer"]


def fit_normalisation(hidden: Float[Tensor, ...], method: str) -> Calibration:
    """Fit centre and scale on calibration states (units of the residual stream), one layer at a time.

    `rms`: centre 0, scale sqrt(mean h^2) over all states and dimensions of the layer. `zscore`: mean and standard
    deviation (n - 1) of each dimension. `clipped_mad`: median and 1.4826 MAD of each dimension; where MAD is 0, IQR /
    1.349; where that is 0 too the dimension is dropped and counted, as is one without spread under `zscore`.
    States that are not finite are left out; fewer than two left drop every dimension of that layer.
    Shapes: hidden [layer, state, d_model].
    Moves with: the prompts of the calibration split, so never fit on the runs that are measured.
    Raises UnknownNameError for another method, InputError for another shape.
    Source: docs/definitions, section 1 (`rms` as one scalar per layer is our reading: per state it would be `unit`).
    """
    if method not in METHODS:
        raise unknown_name("state normalisation", method, METHODS)
    if hidden.ndim != 3:
        raise InputError(f"calibration states are [layer, state, d_model]; got {tuple(hidden.shape)}.")
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    seen = hidden.isfinite().all(-1)
    count = seen.sum(-1)
    states = hidden.masked_fill(~seen.unsqueeze(-1), math.nan)
    centre, scale = _FITS[method](states)
    usable = (scale > 0) & (count >= FEWEST_STATES).unsqueeze(-1)
    scale = torch.where(usable, scale, math.nan)
    return Calibration(method, centre, scale, (~usable).sum(-1), count)


def normalise(hidden: Float[Tensor, "*batch layer step d_model"], calibration: Calibration) -> Tensor:
    """States in units of the calibration's scale, [*batch, layer, step, d_model].

    `(h - centre) / scale`; `clipped_mad` clips this to [-5, 5]. A dropped dimension is 0 everywhere, which takes it
    out of every distance and angle. `unit` is h / max(|h|, 1e-8), `raw` is h. NaN states stay NaN.
    Raises InputError where layers or width differ from the calibration's.
    """
    if calibration.method == "raw":
        return hidden
    if calibration.method == "unit":
        return hidden / torch.linalg.vector_norm(hidden, dim=-1, keepdim=True).clamp(min=NORM_FLOOR)
    wanted = tuple(calibration.centre.shape)
    if hidden.ndim < 3 or (hidden.shape[-3], hidden.shape[-1]) != wanted:
        raise InputError(
            f"the calibration is of {wanted[0]} layers of width {wanted[1]}; got states of shape "
            f"{tuple(hidden.shape)}, wanted [..., layer, step, d_model]."
        )
    centre = calibration.centre.to(hidden.device, hidden.dtype).unsqueeze(-2)
    scale = calibration.scale.to(hidden.device, hidden.dtype).unsqueeze(-2)
    out = (hidden - centre) / scale
    if calibration.method == "clipped_mad":
        out = out.clamp(-CLIP, CLIP)
    return out.masked_fill(scale.isnan() & hidden.isfinite(), 0.0)


def _fit_nothing(states: Tensor) -> tuple[Tensor, Tensor]:
    like = states[:, :1].nansum(1) * 0
    return like, like + 1


def _fit_rms(states: Tensor) -> tuple[Tensor, Tensor]:
    mean_square = states.square().nanmean(dim=(-2, -1)).unsqueeze(-1)
    like = torch.zeros_like(states[:, 0, :]) if states.shape[1] else states.new_zeros(len(states), states.shape[-1])
    return like, mean_square.sqrt() + like


def _fit_zscore(states: Tensor) -> tuple[Tensor, Tensor]:
    centre = states.nanmean(-2)
    square = (states - centre.unsqueeze(-2)).square()
    count = (~square.isnan()).sum(-2)
    return centre, (square.nansum(-2) / (count - 1).clamp(min=1)).sqrt()


def _fit_clipped_mad(states: Tensor) -> tuple[Tensor, Tensor]:
    q1, centre, q3 = _quantiles(states, (0.25, 0.5, 0.75))
    (mad,) = _quantiles((states - centre.unsqueeze(-2)).abs(), (0.5,))
    return centre, torch.where(mad > 0, MAD_TO_SD * mad, (q3 - q1) / IQR_TO_SD)


def _quantiles(values: Tensor, levels: tuple[float, ...]) -> list[Tensor]:
    """Quantiles along the states, linear between order statistics, NaN left out; as `numpy.nanquantile`.

    `torch.nanquantile` refuses tensors of more than 16 million numbers, and calibration states have more.
    """
    ordered = values.sort(-2).values  # NaN last
    last = ((~values.isnan()).sum(-2, keepdim=True) - 1).clamp(min=0)
    found = []
    for level in levels:
        place = level * last.to(values.dtype)
        low = place.floor()
        below, above = (ordered.gather(-2, at.long()) for at in (low, torch.minimum(low + 1, last)))
        found.append((below + (place - low) * (above - below)).squeeze(-2))
    return found


_FITS = {
    "raw": _fit_nothing,
    "unit": _fit_nothing,
    "rms": _fit_rms,
    "zscore": _fit_zscore,
    "clipped_mad": _fit_clipped_mad,
}
