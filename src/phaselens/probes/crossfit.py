"""Held-out scores: every example is scored by the probe of the fold that did not see its group."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.probes.design import Design, make_design
from phaselens.probes.folds import check_folds
from phaselens.probes.frozen import Probes
from phaselens.probes.logistic import Fit, check_classes, choose_l2, encode, fit_rows, freeze

L2 = float | tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Task:
    """Labels of one question over the examples, and the folds they are tested on.

    `codes` int [draw, example] (-1: no label) into `classes`; one draw for true labels, more for control tasks.
    `folds` int [example] in 0..k-1.
    """

    codes: np.ndarray
    classes: np.ndarray
    folds: np.ndarray

    @property
    def n_folds(self) -> int:
        """Number of folds."""
        return int(self.folds.max()) + 1

    def train(self) -> np.ndarray:
        """Which examples each problem trains on: bool [draw * fold, example]."""
        apart = self.folds != np.arange(self.n_folds)[:, None]
        return ((self.codes >= 0)[:, None] & apart).reshape(-1, len(self.folds))

    def problem_codes(self) -> np.ndarray:
        """Labels of each problem: int [draw * fold, example]."""
        return np.repeat(self.codes, self.n_folds, axis=0)


def make_task(y: np.ndarray, folds: np.ndarray, *, groups: np.ndarray | None = None) -> Task:
    """A task from labels [example] or [draw, example]; checks folds against groups, and every train fold for classes.

    Raises InputError for one class, folds that cut a group, or lengths that differ.
    """
    codes, classes = encode(y)
    codes = np.atleast_2d(codes)
    check_folds(folds, groups, codes.shape[1])
    task = Task(codes, classes, np.asarray(folds))
    check_classes(task.problem_codes(), task.train(), len(classes))
    return task


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Cross-fitted result of one task: scores float32 [layer, draw, example, K] (nats) and the probes behind them.

    The probes lead with (layer, draw, fold).
    """

    task: Task
    scores: Tensor
    probes: Probes

    def predictions(self) -> np.ndarray:
        """Class number of the largest held-out score: int [layer, draw, example]."""
        return self.scores.argmax(dim=-1).cpu().numpy()

    def hits(self) -> np.ndarray:
        """1 where the held-out prediction is the label, 0 where not, NaN without a label: [layer, draw, example]."""
        right = (self.predictions() == self.task.codes).astype(float)
        return np.where(self.task.codes >= 0, right, np.nan)

    def accuracy(self) -> np.ndarray:
        """Share of labelled examples predicted right when held out (1): [layer, draw]."""
        return np.nanmean(self.hits(), axis=-1)


def cross_fit(X: Iterable, tasks: Mapping[str, Task], l2: L2 = 1.0, *, tol: float | None = None) -> dict[str, HeldOut]:
    """Cross-fit every task on every layer, the tasks of a layer in one batch (scores in nats).

    Objective as `fit_logistic`. Several `l2`: each outer fold takes the one of least loss over the other folds in turn.
    Shapes: X (layer, example, d) or any iterable of [example, d], read one at a time.
    Raises InputError for NaN features or lengths that differ.
    """
    scores: dict[str, list[Tensor]] = {name: [] for name in tasks}
    fits: dict[str, list[list[Fit]]] = {name: [] for name in tasks}
    for index, layer in enumerate(X):
        design = make_design(layer, f"layer {index}")
        for name, found in fit_layer(design, tasks, l2, tol=tol).items():
            scores[name].append(held_out(tasks[name], found))
            fits[name].append([fit.without_scores() for fit in found])
    return {
        name: HeldOut(
            task, torch.stack(scores[name]), freeze(fits[name], task.classes, (len(task.codes), task.n_folds))
        )
        for name, task in tasks.items()
    }


def fit_layer(design: Design, tasks: Mapping[str, Task], l2: L2, *, tol: float | None = None) -> dict[str, list[Fit]]:
    """Fit every (draw, fold) of every task on one layer: for each task a list of draw * fold fits."""
    wrong = {name: task.codes.shape[1] for name, task in tasks.items() if task.codes.shape[1] != len(design.rows)}
    if wrong:
        raise InputError(f"a layer of {len(design.rows)} examples, and tasks with another number of labels: {wrong}.")
    codes = {name: task.problem_codes() for name, task in tasks.items()}
    used = {name: task.train() for name, task in tasks.items()}
    sizes = [len(task.classes) for name, task in tasks.items() for _ in codes[name]]
    chosen = [_penalties(design, task, codes[name], used[name], l2) for name, task in tasks.items()]
    fits = fit_rows(
        design,
        np.concatenate(list(codes.values())),
        np.concatenate(list(used.values())),
        sizes,
        np.concatenate(chosen),
        tol=tol,
    )
    out, start = {}, 0
    for name in tasks:
        out[name] = fits[start : start + len(codes[name])]
        start += len(codes[name])
    return out


def held_out(task: Task, fits: list[Fit]) -> Tensor:
    """Score of every example by the fit of its own fold: [draw, example, K] (nats)."""
    folds = torch.as_tensor(task.folds)
    picked = []
    for draw in range(len(task.codes)):
        mine = torch.stack([fit.scores for fit in fits[draw * task.n_folds : (draw + 1) * task.n_folds]])
        picked.append(mine[folds.to(mine.device), :, torch.arange(len(folds), device=mine.device)])
    scores = torch.stack(picked)
    return torch.cat([torch.zeros_like(scores), scores], dim=-1) if scores.shape[-1] == 1 else scores


def _penalties(design: Design, task: Task, codes: np.ndarray, used: np.ndarray, l2: L2) -> np.ndarray:
    path = np.atleast_1d(np.asarray(l2, float))
    if len(path) == 1:
        return np.full(len(codes), path[0])
    if task.n_folds < 3:
        raise InputError("to choose l2 inside each train fold, at least three folds are needed.")
    return choose_l2(design, codes, used, len(task.classes), path, task.folds, n_inner=task.n_folds - 1)
