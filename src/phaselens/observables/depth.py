"""Geometry of the hidden state along depth, at each step, and agreement between neighbouring layers.

The same quantities as along tokens, with layers in the place of steps: the step at l is u[l] - u[l-1]. Values are
undefined where the neighbouring layer was not recorded, and everywhere in models of fewer than 4 blocks for the three
`depth_` ones.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from phaselens.observables.spec import observable, quantity
from phaselens.observables.trajectory import Values, curvature_between, raw_lengths

# Quantities that functions below ask for by name.
from phaselens.observables.trajectory import state_norms as state_norms
from phaselens.observables.trajectory import states as states

MIN_BLOCKS = 4
ROTATION_AND_SCALE = {"rotation", "state_scale", "common_scale"}

Climbs = Float[Tensor, "*batch climbs step"]
Layers = Int[Tensor, " layer"]


@quantity()
def climbs(states: Float[Tensor, "*batch layer step d_model"]) -> Float[Tensor, "*batch climbs step d_model"]:
    """Steps along depth, u[l] - u[l-1], for every layer after the first recorded one."""
    return states[..., 1:, :, :] - states[..., :-1, :, :]


@quantity()
def climb_norms(climbs: Float[Tensor, "*batch climbs step d_model"], layers: Layers) -> Climbs:
    """Length of each step along depth; NaN where a layer between was not recorded."""
    gaps = (layers[1:] - layers[:-1] != 1).unsqueeze(-1)
    return torch.linalg.vector_norm(climbs, dim=-1).masked_fill(gaps, math.nan)


@quantity()
def climb_dots(climbs: Float[Tensor, "*batch climbs step d_model"]) -> Float[Tensor, "*batch bends step"]:
    """Inner product of each step along depth with the one below."""
    return (climbs[..., 1:, :, :] * climbs[..., :-1, :, :]).sum(-1)


@quantity()
def bends(
    climb_norms: Climbs, climb_dots: Float[Tensor, "*batch bends step"], *, curvature: str = "angle"
) -> Float[Tensor, "*batch bends step"]:
    """Curvature along depth, in the chosen form (see `turning_angle`)."""
    return curvature_between(climb_norms[..., :-1, :], climb_norms[..., 1:, :], climb_dots, curvature)


def padded(values: Tensor, below: int, above: int) -> Tensor:
    """Put NaN layers below and above."""
    return functional.pad(values, (0, 0, below, above), value=math.nan)


def _as_deep_as(values: Tensor, whole: Tensor, n_blocks: int) -> Tensor:
    """NaN below until `values` has as many layers as `whole`; all NaN in a model of fewer than 4 blocks."""
    out = padded(values, whole.shape[-2] - values.shape[-2], 0)
    return out if n_blocks >= MIN_BLOCKS else torch.full_like(out, math.nan)


@observable(axis="layer", unit="1", bounds=(0.0, 2.0 + 1e-5), keeps=ROTATION_AND_SCALE)
def depth_step(climb_norms: Climbs, state_norms: Values, n_blocks: int) -> Values:
    """Length of the step of the normalised state from one layer to the next, dimensionless.

    |u[l] - u[l-1]|. NaN at l = 0, above an unrecorded layer, and in models of fewer than 4 blocks.
    Keeps: rotation, positive scaling of each state. Moves with: translation, the state normalisation.
    Source: docs/definitions, section 1.
    """
    return _as_deep_as(climb_norms, state_norms, n_blocks)


@observable(axis="layer", unit="rad", bounds=(0.0, math.pi + 1e-6), keeps=ROTATION_AND_SCALE)
def depth_angle(bends: Float[Tensor, "*batch bends step"], state_norms: Values, n_blocks: int) -> Values:
    """Angle between successive steps along depth, in radians.

    The angle between u[l] - u[l-1] and u[l-1] - u[l-2]; 0 where one is shorter than 1e-6. NaN at l < 2, above an
    unrecorded layer, and in models of fewer than 4 blocks.
    Keeps: rotation, positive scaling of each state. Moves with: translation.
    Source: docs/definitions, section 1.
    """
    return _as_deep_as(bends, state_norms, n_blocks)


@observable(axis="layer", unit="rad", bounds=(0.0, 2 * math.pi + 1e-4), keeps=ROTATION_AND_SCALE)
def depth_instability(
    climb_norms: Climbs, bends: Float[Tensor, "*batch bends step"], state_norms: Values, n_blocks: int
) -> Values:
    """Step length times turning angle along depth, in radians; never to be mixed with ct along tokens.

    depth_step[l] * depth_angle[l]. NaN at l < 2, above an unrecorded layer, and in models of fewer than 4 blocks.
    Keeps: rotation, positive scaling of each state. Moves with: translation.
    Source: docs/definitions, section 1.
    """
    return _as_deep_as(climb_norms[..., 1:, :] * bends, state_norms, n_blocks)


@observable(axis="layer", unit="1", bounds=(-1.0 - 1e-5, 1.0 + 1e-5), keeps=ROTATION_AND_SCALE)
def coherence(climb_norms: Climbs, state_norms: Values, *, normalisation: str = "unit") -> Values:
    """Cosine between the states of neighbouring layers, dimensionless.

    cos(h[l+1], h[l]), as 1 - |u[l+1] - u[l]|^2 / 2. NaN at l = L and below an unrecorded layer.
    Keeps: rotation, positive scaling of each state. Moves with: translation.
    Source: docs/definitions, section 4.
    """
    square = climb_norms.square()
    if normalisation == "raw":
        after, before = state_norms[..., 1:, :], state_norms[..., :-1, :]
        square = (square - (after - before).square()) / (after * before)
    return padded(1 - square / 2, 0, state_norms.shape[-2] - climb_norms.shape[-2])


@observable(axis="layer", unit="1", bounds=(-1.0, 1.0), keeps={"rotation", "common_scale", "translation"})
def state_sync(
    climb_norms: Climbs,
    climb_dots: Float[Tensor, "*batch bends step"],
    state_norms: Values,
    *,
    normalisation: str = "unit",
) -> Values:
    """Cosine between what two successive blocks add to the residual stream, dimensionless.

    cos(h[l+1] - h[l], h[l] - h[l-1]) on raw states. NaN at l = 0 and l = L, beside an unrecorded layer, and where a
    block adds nothing.
    Keeps: rotation, one scaling of all states, translation. Moves with: scaling of single states.
    Source: docs/definitions, section 4.
    """
    if state_norms.shape[-2] < 3:
        return torch.full_like(state_norms, math.nan)
    dots = climb_dots
    if normalisation != "raw":
        # h = n u, so both differences are a step of u plus a change of norm along u[l]; u is a unit vector, so its
        # product with the step to (from) it is minus (plus) half the squared length of that step.
        low, mid, high = state_norms[..., :-2, :], state_norms[..., 1:-1, :], state_norms[..., 2:, :]
        from_below, to_above = climb_norms[..., :-1, :].square() / 2, climb_norms[..., 1:, :].square() / 2
        grown, growing = mid - low, high - mid
        dots = high * low * dots - high * grown * to_above + growing * low * from_below + growing * grown
    lengths = raw_lengths(climb_norms, state_norms[..., 1:, :], state_norms[..., :-1, :], normalisation)
    return padded((dots / (lengths[..., 1:, :] * lengths[..., :-1, :])).clamp(-1, 1), 1, 1)
