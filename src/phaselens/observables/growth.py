"""Growth of infinitesimal perturbations: finite-time Lyapunov exponents by forward-mode derivatives.

Unlike other observables these are of a map and not of recorded states: they need the network, so they are no columns
of a trace. `phaselens.interventions.growth` gives the maps of a model along depth and along tokens.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from phaselens.errors import InputError

Map = Callable[[Tensor], Tensor]


def pushed(step: Map, state: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """A state and its tangents through one map (unit of the states): `f(x)` and `J_f(x) v`, by `torch.func.jvp`.

    Shapes: state [...], tangents [k, ...] -> [...], [k, ...]. Forward mode: one pass a tangent, no graph is kept.
    """
    made, out = state, []
    with warnings.catch_warnings():
        # What torch loads at the first derivative warns of its own use of torch.jit.
        warnings.simplefilter("ignore", DeprecationWarning)
        for tangent in tangents:
            made, moved = torch.func.jvp(step, (state,), (tangent.to(state.dtype),))
            out.append(moved)
    return made, torch.stack(out)


def depth_exponents(maps: Sequence[Map], state: Tensor, tangents: Tensor) -> tuple[Tensor, Tensor]:
    """Finite-time Lyapunov exponents along a chain of maps (nats per map), with the growth of each map.

    `lambda_i = (1/n) sum_l ln |R_ii[l]|` with `J_l Q_(l-1) = Q_l R_l`: tangents are brought back to orthonormal after
    every map (QR), so that the i-th exponent is that of the i-th direction of growth and none drowns in the first.
    Shapes: state [...] of any form, tangents [k, ...], k at most its size -> exponents [k] in falling order of where
    they converge, growth ln |R_ii| [map, k].
    NaN: a map gives a state or a derivative that is not finite. -inf: a direction is contracted to nothing.
    Keeps: an orthogonal change of basis of every state. Moves with: scaling of the states from layer to layer (a norm
    before the maps takes it out), the number of maps.
    Raises InputError for no maps or tangents that are dependent.
    Source: Benettin et al. 1980; Shimada and Nagashima 1979.
    """
    if not len(maps):
        raise InputError("no maps were given; an exponent is a growth per map.")
    basis, size = _orthonormal(tangents.flatten(1).double())
    if not bool((size > 1e-9 * size.max()).all()):
        raise InputError("the tangents are dependent or hold NaN; give independent directions, such as random ones.")
    growth = []
    for step in maps:
        state, moved = pushed(step, state, basis.view(len(basis), *state.shape))
        basis, size = _orthonormal(moved.flatten(1).double())
        growth.append(size.log())
    together = torch.stack(growth)
    return together.mean(dim=0), together


def _orthonormal(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows with the same spans, and the size of each row off the span of those before."""
    q, r = torch.linalg.qr(rows.T)
    return q.T, r.diagonal().abs()


def largest_growth(step: Map, state: Tensor, generator: torch.Generator, *, n_steps: int = 8) -> float:
    """Growth of a random tangent through one map (ln): the mean over directions of `ln |J v| / |v|`.

    Shapes: state of any form. Over directions drawn uniformly; `n_steps` of them. It lies below the largest singular
    value of J and above the smallest. NaN: not finite.
    """
    size = state.numel()
    drawn = torch.randn(n_steps, size, generator=generator, dtype=torch.float64)
    tangents = (drawn / drawn.norm(dim=1, keepdim=True)).view(n_steps, *state.shape).to(state.device)
    _, moved = pushed(step, state, tangents)
    return float(moved.flatten(1).double().norm(dim=1).log().mean())


def token_growth(moved: Tensor, start: int) -> Tensor:
    """Growth along tokens of a change made at one position (ln): `ln |dx_s| / |dx_start|`, [..., step from `start`].

    Shapes: moved [..., position, d], tangents of the states of one layer. NaN: nothing moved at the start. -inf: the
    change does not reach a step.
    """
    size = moved.double().norm(dim=-1)[..., start:]
    first = size[..., :1]
    return torch.where(first > 0, (size / first.clamp(min=1e-300)).log(), torch.nan)


def token_exponent(growth: Tensor) -> Tensor:
    """Finite-time exponent along tokens (nats per token): least-squares slope of growth over steps 1.., [...].

    Step 0 is where the change was made and is left out: what follows is what attention carries on.
    NaN: fewer than two finite steps.
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
