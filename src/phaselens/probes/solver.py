"""Many logistic fits on one matrix at once: preconditioned L-BFGS whose every step is two matrix products.

A fit (problem) has one row of coefficients when it is binary and one per class otherwise; the rows of all problems
stand under each other, so one product serves tasks, folds and draws together. The line search is exact up to a share
of the slope and needs no product of its own, since scores are linear in the step. Measured against a Newton step per
problem (a weighted Gram matrix each), one such step costs as much as about a hundred of these.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phaselens.errors import InputError

MEMORY = 10


@dataclass(frozen=True, eq=False)
class Problems:
    """What B fits on one design want, rows of equal class number side by side.

    `targets` [N, example] is 1 where the row's class is the label; `weights` [N, example] are the weights of the
    example in the mean loss (0: not trained on); `owner` int64 [N] is the problem of a row; `penalty` [B] multiplies
    |w|^2 / 2 beside the mean loss; `rows_of` int [B], non-decreasing, is 1 for a binary problem, else its classes.
    """

    targets: Tensor
    weights: Tensor
    owner: Tensor
    penalty: Tensor
    rows_of: tuple[int, ...]

    def __post_init__(self) -> None:
        if list(self.rows_of) != sorted(self.rows_of):
            raise InputError("problems are ordered by their number of rows.")

    def keep(self, which: Tensor) -> tuple["Problems", Tensor]:
        """The problems that `which` (bool [B]) marks, and the mask of their rows [N]."""
        rows = which[self.owner]
        index = torch.cumsum(which.long(), 0) - 1
        left = tuple(r for r, w in zip(self.rows_of, which.tolist(), strict=True) if w)
        return Problems(
            self.targets[rows], self.weights[rows], index[self.owner[rows]], self.penalty[which], left
        ), rows


@dataclass(frozen=True, eq=False)
class Minimum:
    """Coefficients [N, d + 1] (bias last), scores [N, example]; largest gradient entry and steps per problem."""

    weight: Tensor
    scores: Tensor
    gradient: Tensor
    steps: Tensor


def probabilities(scores: Tensor, rows_of: tuple[int, ...]) -> Tensor:
    """Class probabilities of every row (probability): sigmoid for a binary problem, else softmax over its rows.

    Shapes: scores [N, example] -> [N, example].
    """
    out = torch.empty_like(scores)
    start = 0
    for classes in sorted(set(rows_of)):
        stop = start + classes * rows_of.count(classes)
        part = scores[start:stop]
        if classes == 1:
            torch.sigmoid(part, out=out[start:stop])
        else:
            shape = (-1, classes, scores.shape[1])
            torch.softmax(part.reshape(shape), dim=1, out=out[start:stop].view(shape))
        start = stop
    return out


def minimise(
    rows: Tensor,
    problems: Problems,
    factor: Tensor,
    *,
    start: Tensor | None = None,
    tol: float,
    max_iter: int,
    patience: int | None = None,
) -> Minimum:
    """Minimise mean loss + penalty / 2 |w|^2 of every problem until its largest gradient entry is at most `tol`.

    A problem also ends after `max_iter` steps, or after `patience` steps that did not lower its gradient, as in the
    rounding of single precision; `gradient` says how far each came.
    Shapes: rows [example, p], factor [p, p] (inverse of an approximate Hessian), start [N, p] or None (zeros); dtype
    that of rows. Source: Nocedal and Wright 2006, algorithm 7.4, with the first matrix of 7.20 replaced by `factor`.
    """
    size, count = (len(problems.owner), rows.shape[1]), len(problems.rows_of)
    like: dict[str, Any] = {"dtype": rows.dtype, "device": rows.device}
    state = _State(rows, factor, problems, torch.zeros(size, **like) if start is None else start.to(rows.dtype))
    found = Minimum(
        torch.empty(size, **like),
        torch.empty(size[0], len(rows), **like),
        torch.empty(count, **like),
        torch.zeros(count, dtype=torch.long, device=rows.device),
    )
    where, best = torch.arange(count, device=rows.device), torch.full((count,), torch.inf, **like)
    idle = torch.zeros(count, device=rows.device)
    for iteration in range(max_iter + 1):
        worst = state.worst()
        idle = torch.where(worst < 0.9 * best, torch.zeros_like(idle), idle + 1)
        best = torch.minimum(best, worst)
        over = (iteration == max_iter) | ~torch.isfinite(worst) | (idle > (patience or max_iter))
        done = (worst <= tol) | over
        # Leaving the batch copies everything that stays, so it waits until a good part is done.
        if done.all() or done.float().mean() >= 0.25:
            _put(found, owner=problems.owner, which=where[done], state=state, done=done, worst=worst, steps=iteration)
            if done.all():
                return found
            where, best, idle = where[~done], best[~done], idle[~done]
            state.drop(done)
        state.step()
    return found


def _put(
    found: Minimum, owner: Tensor, which: Tensor, state: "_State", done: Tensor, worst: Tensor, steps: int
) -> None:
    rows = torch.isin(owner, which)
    mine = done[state.problems.owner]
    found.weight[rows] = state.weight[mine]
    found.scores[rows] = state.scores[mine]
    found.gradient[which] = worst[done]
    found.steps[which] = steps


class _State:
    """Where all problems stand; private to `minimise`."""

    def __init__(self, rows: Tensor, factor: Tensor, problems: Problems, weight: Tensor) -> None:
        self.rows, self.factor, self.problems, self.weight = rows, factor, problems, weight
        self.scores = weight @ rows.T
        self.past: list[tuple[Tensor, Tensor, Tensor]] = []
        self._set_ridge()
        self.gradient = self._gradient(self._residual(self.scores))

    def _set_ridge(self) -> None:
        self.ridge = self.problems.penalty[self.problems.owner, None].expand(-1, self.rows.shape[1]).clone()
        self.ridge[:, -1] = 0

    def worst(self) -> Tensor:
        out = torch.zeros(len(self.problems.rows_of), dtype=self.rows.dtype, device=self.rows.device)
        largest = self.gradient.abs().amax(dim=1)
        return out.scatter_reduce(0, self.problems.owner, largest, "amax", include_self=False)

    def drop(self, done: Tensor) -> None:
        self.problems, rows = self.problems.keep(~done)
        self.weight, self.scores, self.gradient = self.weight[rows], self.scores[rows], self.gradient[rows]
        self.past = [(s[rows], y[rows], r[~done]) for s, y, r in self.past]
        self._set_ridge()

    def step(self) -> None:
        """One step: direction, line search, and the new gradient."""
        move = -self._direction()
        score_move = move @ self.rows.T
        length, residual = self._search(move, score_move)
        change = length[self.problems.owner, None] * move
        self.weight = self.weight + change
        self.scores.addcmul_(length[self.problems.owner, None], score_move)
        gradient = self._gradient(residual)
        turned = gradient - self.gradient
        curve = self._dot(change, turned)
        self.past.append((change, turned, torch.where(curve > 0, 1 / curve, torch.zeros_like(curve))))
        del self.past[:-MEMORY]
        self.gradient = gradient

    def _residual(self, scores: Tensor) -> Tensor:
        got = probabilities(scores, self.problems.rows_of)
        return got.sub_(self.problems.targets).mul_(self.problems.weights)

    def _gradient(self, residual: Tensor) -> Tensor:
        return torch.addcmul(residual @ self.rows, self.ridge, self.weight)

    def _dot(self, first: Tensor, second: Tensor) -> Tensor:
        out = torch.zeros(len(self.problems.rows_of), dtype=first.dtype, device=first.device)
        return out.index_add(0, self.problems.owner, torch.linalg.vecdot(first, second))

    def _direction(self) -> Tensor:
        owner = self.problems.owner
        out, taken = self.gradient.clone(), []
        for change, turned, inverse in reversed(self.past):
            share = inverse * self._dot(change, out)
            out.addcmul_(share[owner, None], turned, value=-1)
            taken.append(share)
        out = out @ self.factor
        if self.past:
            change, turned, inverse = self.past[-1]
            against = self._dot(turned, turned @ self.factor)
            usable = (inverse > 0) & (against > 0)
            out *= torch.where(usable, 1 / (inverse * against), torch.ones_like(against))[owner, None]
        for (change, turned, inverse), share in zip(self.past, reversed(taken), strict=True):
            back = inverse * self._dot(turned, out)
            out.addcmul_((share - back)[owner, None], change)
        return out

    def _search(self, move: Tensor, score_move: Tensor, wanted: float = 0.3) -> tuple[Tensor, Tensor]:
        """Step lengths [B] at which the slope has fallen to `wanted` of its start, and the residual there."""
        owner = self.problems.owner
        along, bend = self._dot(self.ridge * self.weight, move), self._dot(self.ridge * move, move)
        first = self._dot(self.gradient, move)
        low, high = torch.zeros_like(first), torch.full_like(first, torch.inf)
        slope_low = first
        length = torch.ones_like(first)
        for trial in range(8):
            residual = self._residual(torch.addcmul(self.scores, length[owner, None], score_move))
            slope = self._dot(residual, score_move) + along + length * bend
            if trial == 7 or not (slope.abs() > wanted * first.abs()).any():
                break
            below = slope < 0
            secant = length - slope * (length - low) / (slope - slope_low)
            middle = torch.where(torch.isinf(high), 4 * length, (low + high) / 2)
            low, slope_low = torch.where(below, length, low), torch.where(below, slope, slope_low)
            high = torch.where(below, high, length)
            inside = (secant > low) & (secant < torch.where(torch.isinf(high), 10 * length, high))
            moved = torch.where(inside, secant, torch.where(torch.isinf(high), middle, (low + high) / 2))
            length = torch.where(slope.abs() > wanted * first.abs(), moved, length)
        return length, residual
