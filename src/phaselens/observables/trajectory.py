"""Geometry of the hidden state along generated tokens, at each layer.

With h[l,s] the residual state and u = h / max(|h|, 1e-8): the step is v[s] = u[s] - u[s-1]. Steps are explicit
differences, never differences of inner products, so short steps keep their digits. Shapes are [*batch, layer, step,
d_model] in and [*batch, layer, step] out; steps without enough past are NaN.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from phaselens.errors import InputError
from phaselens.observables.spec import observable, quantity

FROZEN_BELOW = 1e-3
ZERO_STEP_BELOW = 1e-6  # a unit state is good to about 1e-7 in float32: the direction of a shorter step is rounding
NORM_FLOOR = 1e-8
MASSIVE_ABOVE = 100.0  # both thresholds are those of Sun et al. 2024, arXiv:2402.17762
MASSIVE_RATIO = 1000.0
NORMALISATIONS = ("unit", "raw")
CURVATURES = ("angle", "cosine", "second_difference")
CALIBRATED = ("rms", "zscore", "clipped_mad")
WINDOW = 16
UNIT_GEOMETRY = frozenset({"rotation", "state_scale", "common_scale"})

Values = Float[Tensor, "*batch layer step"]
States = Float[Tensor, "*batch layer step d_model"]


@quantity()
def state_norms(hidden: States) -> Values:
    """Norm of the state, |h[l,s]|, in units of the residual stream."""
    return torch.linalg.vector_norm(hidden, dim=-1)


@quantity()
def states(hidden: States, state_norms: Values, *, normalisation: str = "unit") -> States:
    """States as the geometry sees them: `unit` divides by max(|h|, 1e-8), `raw` leaves them.

    Raises InputError for another normalisation; those that need a calibration come before
    (`observables.state_normalisation`) and are then `raw` here.
    """
    if normalisation == "unit":
        return hidden / state_norms.clamp(min=NORM_FLOOR).unsqueeze(-1)
    if normalisation == "raw":
        return hidden
    if normalisation in CALIBRATED:
        raise InputError(
            f"{normalisation} needs a calibration: apply normalise(hidden, calibration) of "
            'observables.state_normalisation to the states, then measure them with normalisation="raw".'
        )
    raise InputError(f"got the state normalisation {normalisation!r}, wanted one of {', '.join(NORMALISATIONS)}.")


@quantity(lookback=1)
def steps(states: States) -> Float[Tensor, "*batch layer moves d_model"]:
    """Steps along tokens, v[s] = u[s] - u[s-1], for s = 1..; one fewer than states."""
    return states[..., 1:, :] - states[..., :-1, :]


@quantity(lookback=1)
def step_norms(steps: Float[Tensor, "*batch layer moves d_model"]) -> Float[Tensor, "*batch layer moves"]:
    """Length of each step."""
    return torch.linalg.vector_norm(steps, dim=-1)


@quantity(lookback=2)
def step_dots(steps: Float[Tensor, "*batch layer moves d_model"]) -> Float[Tensor, "*batch layer turns"]:
    """Inner product of each step with the one before."""
    return (steps[..., 1:, :] * steps[..., :-1, :]).sum(-1)


@quantity(lookback=2)
def turns(
    step_norms: Float[Tensor, "*batch layer moves"],
    step_dots: Float[Tensor, "*batch layer turns"],
    *,
    curvature: str = "angle",
) -> Float[Tensor, "*batch layer turns"]:
    """Curvature at each step that has two steps, in the chosen form (see `turning_angle`)."""
    return curvature_between(step_norms[..., :-1], step_norms[..., 1:], step_dots, curvature)


def curvature_between(before: Tensor, after: Tensor, dots: Tensor, curvature: str) -> Tensor:
    """Curvature from the lengths of two successive steps and their inner product.

    `angle` arccos of the cosine, in radians; `cosine` 1 - cosine; `second_difference` |v[s] - v[s-1]|. The first two
    are 0 where a step is shorter than 1e-6. Raises InputError for another form.
    """
    if curvature == "second_difference":
        return (before.square() + after.square() - 2 * dots).clamp(min=0).sqrt()
    cosine = (dots / (before * after)).clamp(-1, 1)
    still = (before < ZERO_STEP_BELOW) | (after < ZERO_STEP_BELOW)
    if curvature == "angle":
        return cosine.acos().masked_fill(still, 0.0)
    if curvature == "cosine":
        return (1 - cosine).masked_fill(still, 0.0)
    raise InputError(f"got the curvature {curvature!r}, wanted one of {', '.join(CURVATURES)}.")


def below(values: Tensor, threshold: float) -> Tensor:
    """1 where a value is below the threshold, 0 where it is not, NaN where it is NaN."""
    return (values < threshold).to(values.dtype).masked_fill(values.isnan(), math.nan)


def undefined_first(values: Tensor, steps: int) -> Tensor:
    """Put `steps` NaN in front along the last dimension."""
    return functional.pad(values, (steps, 0), value=math.nan)


def _as_long_as(values: Tensor, whole: Tensor) -> Tensor:
    """NaN in front until `values` has as many steps as `whole`; with too few steps nothing is defined."""
    return undefined_first(values, whole.shape[-1] - values.shape[-1])


@observable(axis="step", lookback=1, unit="1", bounds=(0.0, 2.0 + 1e-5), keeps=UNIT_GEOMETRY)
def step_length(step_norms: Float[Tensor, "*batch layer moves"], state_norms: Values) -> Values:
    """Length of the step of the normalised state along tokens, dimensionless (delta_t).

    |u[s] - u[s-1]| with u the unit state. NaN at s = 0. Bounds hold for unit states.
    Keeps: rotation, positive scaling of each state. Moves with: translation, the site, the state normalisation.
    Source: the published series names it; formula as in docs/definitions, section 1.
    """
    return _as_long_as(step_norms, state_norms)


@observable(axis="step", lookback=2, unit="rad", bounds=(0.0, math.pi + 1e-6), keeps=UNIT_GEOMETRY)
def turning_angle(turns: Float[Tensor, "*batch layer turns"], state_norms: Values) -> Values:
    """Angle between successive steps of the hidden trajectory, in radians (curvature_t).

    arccos(clip(v[s-1]·v[s] / (|v[s-1]||v[s]|))); 0 where a step is shorter than 1e-6 (see `zero_step`). NaN at s < 2.
    In float32 angles within 1e-3 of 0 or pi are good to about 4e-4. With `curvature="cosine"` or `"second_difference"`
    the other two forms, in units of 1.
    Keeps: rotation, positive scaling of each state. Moves with: translation (a translation moved it by .31).
    Source: docs/definitions, section 1 (our choice of curvature).
    """
    return _as_long_as(turns, state_norms)


@observable(axis="step", lookback=2, unit="rad", bounds=(0.0, 2 * math.pi + 1e-4), keeps=UNIT_GEOMETRY)
def instability(
    step_norms: Float[Tensor, "*batch layer moves"],
    turns: Float[Tensor, "*batch layer turns"],
    state_norms: Values,
    *,
    incoming: bool = False,
) -> Values:
    """Step length times turning angle along tokens, in radians (ct_t).

    step_length[s] * turning_angle[s]; with `incoming=True` the length of the step before. NaN at s < 2.
    Keeps: rotation, positive scaling of each state. Moves with: translation, the site.
    Source: the published series (delta x curvature on L2-normalised states).
    """
    lengths = step_norms[..., :-1] if incoming else step_norms[..., 1:]
    return _as_long_as(lengths * turns, state_norms)


@observable(axis="step", lookback=1, unit="1", bounds=(0.0, 1.0), keeps=UNIT_GEOMETRY, dtype="bool")
def frozen(step_norms: Float[Tensor, "*batch layer moves"], state_norms: Values) -> Values:
    """Whether the normalised state stood nearly still, as 0 or 1.

    step_length < 1e-3. NaN at s = 0. Not the same as `zero_step`.
    Keeps: rotation, positive scaling of each state. Moves with: translation.
    Source: docs/definitions, section 1.
    """
    return _as_long_as(below(step_norms, FROZEN_BELOW), state_norms)


@observable(axis="step", lookback=1, unit="1", bounds=(0.0, 1.0), keeps=UNIT_GEOMETRY, dtype="bool")
def zero_step(step_norms: Float[Tensor, "*batch layer moves"], state_norms: Values) -> Values:
    """Whether the step is too short for an angle, as 0 or 1.

    step_length < 1e-6; `turning_angle` is 0 there by definition. NaN at s = 0.
    Keeps: rotation, positive scaling of each state. Moves with: translation.
    Source: docs/definitions, section 1.
    """
    return _as_long_as(below(step_norms, ZERO_STEP_BELOW), state_norms)


@observable(axis="step", lookback=1, unit="1", bounds=(0.0, math.inf), keeps={"rotation", "common_scale"})
def relative_step(
    step_norms: Float[Tensor, "*batch layer moves"], state_norms: Values, *, normalisation: str = "unit"
) -> Values:
    """Length of the step of the raw state relative to the state it leaves, dimensionless.

    |h[s] - h[s-1]| / |h[s-1]|, states not normalised. NaN at s = 0; NaN or infinite where |h[s-1]| is 0.
    Keeps: rotation, one positive scaling of all states. Moves with: scaling of single states, translation.
    Source: docs/definitions, section 1.
    """
    lengths = raw_lengths(step_norms, state_norms[..., 1:], state_norms[..., :-1], normalisation)
    return _as_long_as(lengths / state_norms[..., :-1], state_norms)


def raw_lengths(lengths: Tensor, after: Tensor, before: Tensor, normalisation: str) -> Tensor:
    """Length of the difference of two raw states, from that of the normalised ones and both norms.

    For unit states |a u - b w|^2 = ab |u - w|^2 + (a - b)^2, a sum without cancellation that saves a pass over the
    states.
    """
    if normalisation == "raw":
        return lengths
    return (after * before * lengths.square() + (after - before).square()).sqrt()


@observable(axis="step", unit="ln", keeps={"rotation"})
def log_rms(hidden: States, state_norms: Values) -> Values:
    """Logarithm of the root mean square of the state, in ln units of the residual stream.

    ln sqrt(mean h^2). -inf for a state that is exactly 0.
    Keeps: rotation. Moves with: scaling, translation, massive dimensions (compare `log_rms_core`).
    Source: docs/definitions, section 1.
    """
    return state_norms.log() - 0.5 * math.log(hidden.shape[-1])


def massive(hidden: Float[Tensor, "*batch d_model"]) -> Bool[Tensor, "*batch d_model"]:
    """Which dimensions of each state are massive: |x| > 100 and |x| > 1000 x the median of |x| over the same state.

    Source: as `log_rms_core`.
    """
    size = hidden.abs()
    if hidden.numel() == 0 or not bool(size.amax() > MASSIVE_ABOVE):
        return torch.zeros_like(hidden, dtype=torch.bool)
    return (size > MASSIVE_ABOVE) & (size > MASSIVE_RATIO * size.median(-1, keepdim=True).values)


@observable(axis="step", unit="ln")
def log_rms_core(hidden: States, log_rms_all: Values) -> Values:
    """Logarithm of the root mean square of the state without massive dimensions, in ln units of the residual stream.

    ln sqrt(mean h^2) over the dimensions that are not massive; massive means |x| > 100 and |x| > 1000 x the median of
    |x| over the same state. -inf for a state that is exactly 0.
    Moves with: rotation (it spreads a massive dimension over all), scaling, translation.
    Source: docs/definitions, section 1; massive activations after Sun et al. 2024, arXiv:2402.17762.
    """
    suspects = (hidden.abs().amax(-1) > MASSIVE_ABOVE).nonzero(as_tuple=True)
    if suspects[0].numel() == 0:
        return log_rms_all
    some = hidden[suspects]
    core = ~massive(some)
    mean_square = (some.square() * core).sum(-1) / core.sum(-1)
    return log_rms_all.index_put(suspects, 0.5 * mean_square.log())


@quantity()
def log_rms_all(hidden: States, state_norms: Values) -> Values:
    """`log_rms`, as the starting point of its version without massive dimensions."""
    return log_rms(hidden, state_norms)


@observable(axis="step", lookback=WINDOW, unit="1", bounds=(1.0 - 1e-5, math.inf), keeps=UNIT_GEOMETRY)
def tortuosity(
    states: States, step_norms: Float[Tensor, "*batch layer moves"], state_norms: Values, *, window: int = WINDOW
) -> Values:
    """Length of the last 16 steps over the straight distance that they cover, dimensionless.

    sum_{i<16} |v[s-i]| / |u[s] - u[s-16]|: 1 on a straight line, about 4 for a random walk in many dimensions. NaN at
    s < 16, and where the distance is below 1e-6 (a closed or standing path). Another `window` looks back that far.
    Keeps: rotation, positive scaling of each state. Moves with: translation, the window, the state normalisation.
    Source: docs/definitions, section 1 (the window as 16 steps between 17 states is our reading).
    """
    if states.shape[-2] <= window:
        return torch.full_like(state_norms, math.nan)
    path = step_norms.unfold(-1, window, 1).sum(-1)
    chord = torch.linalg.vector_norm(states[..., window:, :] - states[..., :-window, :], dim=-1)
    return _as_long_as((path / chord).masked_fill(chord < ZERO_STEP_BELOW, math.nan), state_norms)
