"""The cloud of states of a run: how many dimensions it fills, how far it spreads; and the chain of its layer means.

These read all steps of a run (or of one window of it, see `windows`), so they look back on the whole run. Order does
not matter to a cloud. Shapes are [*batch, layer, step, d_model] in, [*batch, layer] or [*batch] out; states that are
not finite are left out, so runs of unequal length may be padded with NaN. Everything but the chain goes through the
Gram matrix [step, step] of the centred states, in float64: a run has far fewer steps than dimensions.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from phaselens.errors import InputError
from phaselens.observables.depth import Layers
from phaselens.observables.spec import observable, quantity
from phaselens.observables.trajectory import States, Values

# Quantities that functions below ask for by name.
from phaselens.observables.trajectory import state_norms as state_norms
from phaselens.observables.trajectory import states as states

WINDOW = 64
FEWEST_POINTS = 64
KEPT_TENTHS = 9  # Facco et al. drop the largest tenth, where the edge decides; whole numbers keep floor(.9 n) exact
STILL = 1e-20  # of the mean square norm: below it the spread is rounding
SAME_POINT = 1e-13  # of the squared radius: below it a squared distance in float64 is rounding
KEPT = ("rotation", "state_scale", "common_scale")

PerLayer = Float[Tensor, "*batch layer"]
Gram = Float[Tensor, "*batch layer step step"]


def windows(hidden: States, *, size: int = WINDOW) -> Float[Tensor, "*batch layer window size d_model"]:
    """Cut runs into windows of 64 steps, one after the other; what is left over at the end is dropped.

    The window dimension stands where measures expect a batch dimension, behind the layer: [*batch, layer, window].
    """
    if size < 1:
        raise InputError(f"a window has at least one step; got {size}.")
    if hidden.shape[-2] < size:
        return hidden.new_empty((*hidden.shape[:-2], 0, size, hidden.shape[-1]))
    return hidden.unfold(-2, size, size).movedim(-1, -2)


@quantity()
def seen(hidden: States) -> Bool[Tensor, "*batch layer step"]:
    """Whether the state is finite."""
    return hidden.isfinite().all(-1)


@quantity()
def mean_square_norm(states: States, seen: Bool[Tensor, "*batch layer step"]) -> PerLayer:
    """Mean of |u|^2 over the states that are finite: the scale against which rounding is judged."""
    square = states.masked_fill(~seen.unsqueeze(-1), 0).double().square().sum((-2, -1))
    return square / seen.sum(-1).clamp(min=1)


@quantity()
def centred_gram(states: States, seen: Bool[Tensor, "*batch layer step"]) -> Gram:
    """Inner products of the states about their mean, float64; rows of states that are not finite are 0."""
    points = states.masked_fill(~seen.unsqueeze(-1), 0).double()
    centre = points.sum(-2, keepdim=True) / seen.sum(-1)[..., None, None].clamp(min=1)
    points = (points - centre).masked_fill_(~seen.unsqueeze(-1), 0)
    return points @ points.mT


@quantity()
def total_spread(centred_gram: Gram, mean_square_norm: PerLayer, seen: Bool[Tensor, "*batch layer step"]) -> PerLayer:
    """Sum of squared distances from the centre; NaN for fewer than two states, 0 for a cloud that is one point."""
    spread = centred_gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    count = seen.sum(-1)
    spread = spread.masked_fill(spread <= STILL * mean_square_norm * count, 0.0)
    return spread.masked_fill(count < 2, math.nan)


@observable(axis="step", per="run_layer", lookback=None, unit="1", bounds=(1.0 - 1e-6, math.inf), keeps=KEPT)
def effective_rank(centred_gram: Gram, total_spread: PerLayer, state_norms: Values) -> PerLayer:
    """Number of dimensions that the cloud fills, by the entropy of its spectrum, dimensionless.

    exp(-sum q ln q), q = eigenvalues of the centred Gram matrix over their sum; 1 to n - 1. NaN for fewer than two
    states and for a cloud that is one point.
    Keeps: rotation, positive scaling of each state, the order of steps. Moves with: the number of states (compare
    equal windows), translation, the state normalisation.
    Source: docs/definitions, section 6; Roy and Vetterli 2007, "The effective rank".
    """
    spread = _positive(total_spread)
    q = torch.linalg.eigvalsh(centred_gram).clamp(min=0) / spread.unsqueeze(-1)
    return torch.special.entr(q).sum(-1).exp().masked_fill(spread.isnan(), math.nan).to(state_norms.dtype)


@observable(axis="step", per="run_layer", lookback=None, unit="1", bounds=(1.0 - 1e-6, math.inf), keeps=KEPT)
def participation_ratio(centred_gram: Gram, total_spread: PerLayer, state_norms: Values) -> PerLayer:
    """Number of dimensions that the cloud fills, by the second moment of its spectrum, dimensionless.

    (sum e)^2 / sum e^2 over the eigenvalues e of the centred Gram matrix, as trace^2 / |Gram|^2; 1 to n - 1, and never
    above `effective_rank`. NaN for fewer than two states and for a cloud that is one point.
    Keeps: rotation, positive scaling of each state, the order of steps. Moves with: the number of states, translation.
    Source: docs/definitions, section 6; Gao et al. 2017, doi:10.1101/214262.
    """
    return (_positive(total_spread).square() / centred_gram.square().sum((-2, -1))).to(state_norms.dtype)


@observable(axis="step", per="run_layer", lookback=None, unit="1", bounds=(0.0, math.inf), keeps=KEPT)
def radius_of_gyration(
    total_spread: PerLayer, seen: Bool[Tensor, "*batch layer step"], state_norms: Values
) -> PerLayer:
    """Root mean square distance of the states from their centre, dimensionless (unit of the stream under `raw`).

    sqrt(mean |u[s] - mean u|^2); 0 for a cloud that is one point, at most 1 for unit states. NaN for fewer than two.
    Keeps: rotation, positive scaling of each state, the order of steps. Moves with: translation (but not under `raw`).
    Source: docs/definitions, section 6.
    """
    return (total_spread / seen.sum(-1)).sqrt().to(state_norms.dtype)


@observable(axis="step", per="run_layer", lookback=None, unit="1", bounds=(-1.0, 1.0 + 1e-6), keeps=KEPT)
def anisotropy(hidden: States, state_norms: Values, seen: Bool[Tensor, "*batch layer step"]) -> PerLayer:
    """Mean cosine between two different states of the cloud, dimensionless.

    (|sum u|^2 - n) / (n (n - 1)) over unit states; 0 in expectation for independent directions. A state that is
    exactly 0 has no direction and is left out. NaN for fewer than two states.
    Keeps: rotation, positive scaling of each state, the order of steps. Moves with: translation (a common mean raises
    it towards 1).
    Source: docs/definitions, section 6; Ethayarajh 2019, arXiv:1909.00512.
    """
    usable = seen & (state_norms > 0)
    count = usable.sum(-1).double()
    unit = (hidden.double() / state_norms.double().unsqueeze(-1)).masked_fill(~usable.unsqueeze(-1), 0)
    value = (unit.sum(-2).square().sum(-1) - unit.square().sum((-2, -1))) / (count * (count - 1))
    return value.masked_fill(count < 2, math.nan).to(state_norms.dtype)


@observable(axis="step", per="run_layer", lookback=None, unit="1", bounds=(0.0, math.inf), keeps=KEPT)
def intrinsic_dimension(
    centred_gram: Gram, total_spread: PerLayer, seen: Bool[Tensor, "*batch layer step"], state_norms: Values
) -> PerLayer:
    """Dimension of the manifold that the states lie on, by the ratio of the two nearest distances, dimensionless.

    TwoNN: mu = r2 / r1 of each point, sorted; slope through the origin of -ln(1 - i/N) on ln mu over the 90 % smallest.
    Points that coincide with another (r1 = 0) are left out. NaN for fewer than 64 points. The spread at 64 points is
    about 14 %; it assumes points drawn independently, and neighbours in a run are also neighbours in time, so for a
    smooth path it says less about the manifold than about the path (a random walk in 64 dimensions is its null).
    Keeps: rotation, positive scaling of each state, the order of steps. Moves with: the number of states, translation.
    Source: docs/definitions, section 6; Facco et al. 2017, doi:10.1038/s41598-017-11873-y.
    """
    n = centred_gram.shape[-1]
    if n < FEWEST_POINTS:
        return torch.full_like(state_norms[..., :0].sum(-1), math.nan)
    near = _squared_distances(centred_gram, seen).topk(2, dim=-1, largest=False).values
    radius = (total_spread / seen.sum(-1)).unsqueeze(-1)
    usable = seen & (near[..., 0] > SAME_POINT * radius) & near[..., 1].isfinite()
    count = usable.sum(-1, keepdim=True)
    log_mu = (0.5 * (near[..., 1] / near[..., 0]).log()).masked_fill(~usable, math.inf).sort(-1).values
    place = torch.arange(1, n + 1, device=log_mu.device)
    left_out = place > (count * KEPT_TENTHS).div(10, rounding_mode="floor")
    log_mu = log_mu.masked_fill(left_out, 0.0)
    survival = -torch.log1p(-(place.double() / count.clamp(min=1)).masked_fill(left_out, 0.0))
    slope = (log_mu * survival).sum(-1) / log_mu.square().sum(-1)
    return slope.masked_fill(count.squeeze(-1) < FEWEST_POINTS, math.nan).to(state_norms.dtype)


@quantity()
def layer_chain(
    hidden: States, seen: Bool[Tensor, "*batch layer step"], layers: Layers, n_blocks: int
) -> tuple[Float[Tensor, "*batch blocks"], Float[Tensor, "*batch blocks"]]:
    """Length and angle of each link of the chain of layer means, as shares of those from its first to its last."""
    points = hidden.masked_fill(~seen.unsqueeze(-1), 0).double().sum(-2) / seen.sum(-1, keepdim=True)
    if len(layers) != n_blocks + 1:
        links = torch.full_like(points[..., :1, 0], math.nan)
        return links, links
    first, last = points[..., :1, :], points[..., -1:, :]
    length = torch.linalg.vector_norm(points[..., 1:, :] - points[..., :-1, :], dim=-1)
    whole = torch.linalg.vector_norm(last - first, dim=-1)
    angle = _angle(points[..., 1:, :], points[..., :-1, :])
    return length / _positive(whole), angle / _positive(_angle(last, first))


@observable(axis="layer", per="run", lookback=None, unit="1", keeps=("rotation", "common_scale"))
def coe_r(layer_chain: tuple[Tensor, Tensor], state_norms: Values) -> Float[Tensor, "*batch"]:
    """Chain-of-embedding score, real form: mean link length less mean link angle, dimensionless.

    mean over l of M[l]/M - A[l]/A: M[l] = |m[l+1] - m[l]| and A[l] the angle between m[l+1] and m[l], m[l] the mean
    state of the run at layer l; M and A the same from m[0] to m[L]. NaN unless every layer 0..L was recorded, and where
    first and last mean coincide or point the same way. The published score reads the last state after the final norm,
    this one before it.
    Keeps: rotation, one positive scaling of all states. Moves with: scaling of single states, translation.
    Source: Wang et al. 2024, arXiv:2410.13640 (CoE-R).
    """
    length, angle = layer_chain
    return (length - angle).mean(-1).to(state_norms.dtype)


@observable(
    axis="layer", per="run", lookback=None, unit="1", bounds=(0.0, math.inf), keeps=("rotation", "common_scale")
)
def coe_c(layer_chain: tuple[Tensor, Tensor], state_norms: Values) -> Float[Tensor, "*batch"]:
    """Chain-of-embedding score, complex form: length of the mean link as a complex number, dimensionless.

    |mean over l of M[l]/M exp(i A[l]/A)|, with M and A as in `coe_r` (both as shares, as the authors' program does).
    NaN as there.
    Keeps: rotation, one positive scaling of all states. Moves with: scaling of single states, translation.
    Source: Wang et al. 2024, arXiv:2410.13640 (CoE-C).
    """
    length, angle = layer_chain
    return torch.hypot((length * angle.cos()).mean(-1), (length * angle.sin()).mean(-1)).to(state_norms.dtype)


def _positive(size: Tensor) -> Tensor:
    return size.masked_fill(size == 0, math.nan)


def _squared_distances(gram: Tensor, seen: Tensor) -> Tensor:
    """Squared distances from inner products; infinite to a state itself and to states that are not finite."""
    square = gram.diagonal(dim1=-2, dim2=-1)
    apart = (square.unsqueeze(-1) + square.unsqueeze(-2) - 2 * gram).clamp(min=0)
    itself = torch.eye(gram.shape[-1], dtype=torch.bool, device=gram.device)
    return apart.masked_fill(itself | ~(seen.unsqueeze(-1) & seen.unsqueeze(-2)), math.inf)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Angle between vectors by atan2 of difference and sum of the unit vectors, which keeps small angles."""
    a, b = (x / torch.linalg.vector_norm(x, dim=-1, keepdim=True) for x in (a, b))
    return 2 * torch.atan2(torch.linalg.vector_norm(a - b, dim=-1), torch.linalg.vector_norm(a + b, dim=-1))
