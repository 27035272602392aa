"""Growth of infinitesimal perturbations: finite-time Lyapunov exponents by forward-mode derivatives.

Unlike other observables these are of a map and not of recorded states: they need the network, so they are no columns
of a trace. `phaselens.interventions.growth` gives the maps of a model along depth and along tokens.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.observables.spec import observable

Map = Callable[[Tensor], Tensor]


def pushed(step: Map, states: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """States and their tangents through one map (unit of the states): `f(x)` and `J_f(x) v`, by `torch.func.jvp`.

    Shapes: states and tangents alike, rows in front; the map takes every row by itself, so one forward-mode pass
    serves all of them and keeps no graph.
    """
    with warnings.catch_warnings():
        # What torch loads at the first derivative warns of its own use of torch.jit.
        warnings.simplefilter("ignore", DeprecationWarning)
        found: Any = torch.func.jvp(step, (states.contiguous(),), (tangents.to(states.dtype),))
    return found


def growth_by_map(maps: Sequence[Map], state: Tensor, tangents: Tensor) -> Tensor:
    """Growth of k directions in each map of a chain (ln): `ln |R_ii[l]|` with `J_l Q_(l-1) = Q_l R_l`.

    Tangents are brought back to orthonormal after every map (QR), so the i-th growth is that of the i-th direction and
    none drowns in the first. Shapes: state [*batch, d], tangents [*batch, k, d], k at most d; a map takes rows
    [*batch, k, d] -> [*batch, map, k].
    NaN: a map gives a state or a derivative that is not finite. -inf: a direction is contracted to nothing.
    Raises InputError for no maps or tangents that are dependent.
    Source: Benettin et al. 1980; Shimada and Nagashima 1979.
    """
    if not len(maps):
        raise InputError("no maps were given; an exponent is a growth per map.")
    basis, size = _orthonormal(tangents.double())
    if not bool((size > 1e-9 * size.amax(-1, keepdim=True)).all()):
        raise InputError("the tangents are dependent or hold NaN; give independent directions, such as random ones.")
    states, growth = state.unsqueeze(-2).expand(tangents.shape), []
    for step in maps:
        states, moved = pushed(step, states, basis)
        basis, size = _orthonormal(moved.double())
        growth.append(size.log())
    return torch.stack(growth, dim=-2)


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows with the same spans, and the size of each row off the span of those before."""
    q, r = torch.linalg.qr(rows.mT)
    return q.mT, r.diagonal(dim1=-2, dim2=-1).abs()


@observable(
    axis="layer", per="run", unit="nats per block", lookback=None, keeps=("rotation", "common_scale", "translation")
)
def depth_exponent(growth: Tensor) -> Tensor:
    """Leading finite-time Lyapunov exponent along depth (nats per block): the mean over blocks of the first growth.

    `lambda_1 = (1/L) sum_l ln |R_11[l]|`, with R of `growth_by_map` for the blocks of a network and the state of one
    step, all other positions held. Shapes: growth [..., layer, k] -> [...]; column i gives the i-th exponent.
    NaN: a growth that is not finite. Keeps: an orthogonal change of basis of every layer, one scale for all. Moves
    with: growth of the residual stream itself (that of |h_l| beside it takes it out), the number of blocks (finite
    time: few blocks have not turned a random direction into the leading one), the position.
    Source: Benettin et al. 1980; Shimada and Nagashima 1979.
    """
    return growth[..., 0].mean(-1)


def token_growth(moved: Tensor, start: int) -> Tensor:
    """Growth along tokens of a change made at one position (ln): `ln |dx_s| / |dx_start|`, [..., step from `start`].

    Shapes: moved [..., position, d], tangents of the states of one layer. NaN: nothing moved at the start. -inf: the
    change does not reach a step.
    """
    size = moved.double().norm(dim=-1)[..., start:]
    first = size[..., :1]
    return torch.where(first > 0, (size / first.clamp(min=1e-300)).log(), torch.nan)


@observable(
    axis="step", per="run", unit="nats per token", lookback=None, keeps=("rotation", "common_scale", "translation")
)
def token_exponent(growth: Tensor) -> Tensor:
    """Finite-time exponent along tokens (nats per token): least-squares slope of growth over the steps behind a change.

    `growth[s] = ln |dx_s| / |dx_0|` at the last layer, of a change of the state of one step (`token_growth`). Step 0 is
    where the change was made and is left out: what follows is what attention carries on.
    Shapes: growth [..., step] -> [...]. NaN: fewer than two finite steps behind the change. Keeps: an orthogonal
    change of basis, one scale for all states. Moves with: the number of steps, the position of the change.
    Source: definition of this project, after Benettin et al. 1980.
    """
    values = growth[..., 1:]
    place = torch.arange(1, values.shape[-1] + 1, dtype=values.dtype)
    seen = values.isfinite()
    count = seen.sum(dim=-1)
    x = torch.where(seen, place, 0.0)
    y = torch.where(seen, values, 0.0)
    top = count * (x * y).sum(-1) - x.sum(-1) * y.sum(-1)
    bottom = count * (x * x).sum(-1) - x.sum(-1) ** 2
    return torch.where((count >= 2) & (bottom > 0), top / bottom.clamp(min=1e-12), torch.nan)
