"""What is done to states inside a running model, as pure functions of states with leading dimensions.

Every function has a `strength` that broadcasts against [..., d]; at strength 0 (or with an empty subspace, or a turn
that is the identity) the result equals the states bit by bit, as long as they are finite, because what is added is an
exact zero. Arithmetic is in float32 or the states' own wider type, and goes back to the states' type.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from phaselens.errors import InputError

Strength = float | Tensor


def add(states: Tensor, direction: Tensor, strength: Strength = 1.0) -> Tensor:
    """`h + strength * v` (unit of the states): noise, steering, any step. Shapes: states [..., d], v broadcasts."""
    _width(states, direction, "a direction to add")
    exact = _exact(states)
    return _back(exact + _like(strength, exact) * _like(direction, exact), states)


def towards(states: Tensor, value: Tensor, strength: Strength = 1.0) -> Tensor:
    """`h + strength * (v - h)` (unit of the states); exactly `v` where the strength is 1: replacement, patch."""
    _width(states, value, "a value to put in")
    exact, amount = _exact(states), _like(strength, _exact(states))
    value = _like(value, exact)
    return _back(torch.where(amount == 1, value, exact + amount * (value - exact)), states)


def without(states: Tensor, basis: Tensor, centre: Tensor | None = None, strength: Strength = 1.0) -> Tensor:
    """`h - strength * B'B (h - c)` (unit of the states): the span of orthonormal rows B [k, d] taken out around c [d].

    Keeps: everything orthogonal to the rows; applying it twice. Raises InputError for rows that are not orthonormal.
    """
    _width(states, basis, "a subspace")
    _orthonormal(basis)
    exact, rows = _exact(states), _like(basis, _exact(states))
    around = exact if centre is None else exact - _like(centre, exact)
    return _back(exact - _like(strength, exact) * (around @ rows.T @ rows), states)


def turned(states: Tensor, basis: Tensor, turn: Tensor, centre: Tensor | None = None) -> Tensor:
    """`h + B'(R - 1)B (h - c)` (unit of the states): an orthogonal R [k, k] inside the span of orthonormal rows B.

    Keeps: the length of h - c, and everything orthogonal to the rows. Raises InputError where B or R is not orthogonal.
    """
    _width(states, basis, "a subspace")
    _orthonormal(basis)
    _orthonormal(turn)
    if turn.shape != (len(basis), len(basis)):
        raise InputError(
            f"a turn of a subspace of rank {len(basis)} is [{len(basis)}, {len(basis)}]; got {tuple(turn.shape)}."
        )
    exact = _exact(states)
    rows = _like(basis, exact)
    change = _like(turn, exact) - torch.eye(len(rows), dtype=exact.dtype, device=exact.device)
    around = exact if centre is None else exact - _like(centre, exact)
    return _back(exact + around @ rows.T @ change.T @ rows, states)


def massive(states: Tensor, *, least: float = 100.0, ratio: float = 1000.0) -> Tensor:
    """Which dimensions are massive in each state: `|x| > 100` and `> 1000 x` the median `|x|` (bool [..., d])."""
    size = states.abs()
    return (size > least) & (size > ratio * size.median(dim=-1, keepdim=True).values)


@dataclass(frozen=True)
class Massive:
    """A dimension that is large in some state: where, its |x| there, and that over two medians of |x|.

    `over_state` compares with the median over the dimensions of its own state (the rule of the definitions),
    `over_tokens` with that over all states of the layer (Sun et al. 2024). Large is more than 100 and more than 1,000
    medians; a state that is large throughout, as a sink's often is, hides its massive dimensions from the first.
    """

    state: int
    dimension: int
    size: float
    over_state: float
    over_tokens: float

    def __str__(self) -> str:
        return (
            f"dimension {self.dimension} at state {self.state}: |x| = {self.size:,.0f}, {self.over_state:,.0f} x the "
            f"median of its own state, {self.over_tokens:,.0f} x that over all states"
        )


def massive_dimensions(states: Tensor, *, least: float = 100.0, ratio: float = 1000.0) -> tuple[Massive, ...]:
    """Dimensions that are massive by either rule in some state [state, d] of one layer, largest first.

    Each at the state where it is largest; none for no states. Raises InputError for another shape.
    """
    if states.ndim != 2:
        raise InputError(f"the states of one layer [state, d] are wanted; got shape {list(states.shape)}.")
    if not states.numel():
        return ()
    size, at = states.abs().double().max(dim=0)
    medians = states.abs().double().median(dim=1).values[at]
    whole = states.abs().double().median()
    found = (size > least) & ((size > ratio * medians) | (size > ratio * whole))
    rows = [
        Massive(int(at[k]), k, float(size[k]), float(size[k] / medians[k]), float(size[k] / whole))
        for k in found.nonzero()[:, 0].tolist()
    ]
    return tuple(sorted(rows, key=lambda m: -m.size))


def rms(states: Tensor, *, without_massive: bool = False) -> float:
    """Root mean square over all states and dimensions (unit of the states); NaN for no states.

    With `without_massive`, massive dimensions of each state are left out of the mean.
    """
    squares = states.double().square()
    if without_massive:
        kept = ~massive(states)
        return float((squares * kept).sum() / kept.sum()) ** 0.5
    return float(squares.mean()) ** 0.5


def _exact(states: Tensor) -> Tensor:
    return states if states.dtype in (torch.float32, torch.float64) else states.float()


def _back(made: Tensor, states: Tensor) -> Tensor:
    return made.to(states.dtype)


def _like(value: Strength, states: Tensor) -> Tensor:
    return torch.as_tensor(value).to(device=states.device, dtype=states.dtype)


def _width(states: Tensor, given: Tensor, what: str) -> None:
    if given.ndim == 0 or given.shape[-1] != states.shape[-1]:
        raise InputError(f"{what} has shape {list(given.shape)}; these states are {states.shape[-1]} wide.")


def _orthonormal(rows: Tensor) -> None:
    if rows.ndim != 2:
        raise InputError(f"rows [k, d] are wanted; got shape {list(rows.shape)}.")
    gram = rows.double() @ rows.double().T
    wrong = gram - torch.eye(len(rows), dtype=gram.dtype, device=gram.device)
    if wrong.numel() and float(wrong.abs().max()) > 1e-4:
        raise InputError("the rows of a subspace must be orthonormal (torch.linalg.qr makes them so).")
