"""Multinomial L2 logistic probes of every layer, all labels and folds of a layer in one batch.

The objective is that of scikit-learn's `LogisticRegression(C=1/l2)` on features centred and divided by one scalar of
the train fold: `sum_i loss_i + l2/2 |w|^2`, bias unpenalised. Two classes have one row of coefficients.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError, StateError
from phaselens.probes.design import Design, fold_moments, make_design
from phaselens.probes.folds import grouped_folds
from phaselens.probes.frozen import Probes
from phaselens.probes.solver import Minimum, Problems, minimise, probabilities

ROWS_AT_ONCE = 256
NEWTON_STEPS = 25


def fit_logistic(
    X: Iterable,
    y: np.ndarray,
    groups: np.ndarray | None = None,
    l2: float | Sequence[float] = 1.0,
    *,
    train: np.ndarray | None = None,
    n_inner: int = 5,
    tol: float | None = None,
    max_iter: int = 1000,
) -> Probes:
    """Fit logistic probes on every layer and freeze them (scores in nats of log-odds).

    Minimises `sum_i -ln p(y_i | x_i) + l2/2 |w|^2` over the train examples, `x` centred and divided by one scalar
    fitted on them; equal to scikit-learn's `LogisticRegression(C=1/l2)` on those features. Several `l2` are compared
    by the held-out loss of inner folds of the train examples that keep groups whole; each layer, label row and train
    row takes its own.
    Shapes: X (layer, example, d), an array or any iterable of [example, d] (read layer by layer); y [*labels, example]
    of one set of classes (`-1` in an integer y, `None` in an object y: no label, left out); groups [example] or None
    (every example its own); train bool [*train, example] or None (all). The probes lead with
    (layer, *labels, *train). Stops where the largest entry of the gradient of the mean loss is at most `tol`; None asks
    for `1e-4 l2 / n`, at most 1e-6, which holds coefficients within about 1e-3 of the minimum.
    Keeps: a rotation, shift or scaling of the features moves no prediction. Moves with: scale per feature.
    Raises InputError for one class only, NaN features, lengths that differ, or fewer groups than inner folds.
    """
    codes, classes = encode(y)
    n_examples = codes.shape[-1]
    train = np.ones(n_examples, bool) if train is None else np.asarray(train, bool)
    if train.shape[-1] != n_examples or (groups is not None and np.shape(groups) != (n_examples,)):
        raise InputError(f"labels, train masks and groups are of the same examples; got {n_examples} labels.")
    path = np.atleast_1d(np.asarray(l2, float))
    if not (path > 0).all() or path.ndim != 1:
        raise InputError(f"l2 is a number above 0, or several of them; got {l2}.")
    lead = (*codes.shape[:-1], *train.shape[:-1])
    used = _pairs(codes, train)
    labels = np.broadcast_to(codes.reshape(*codes.shape[:-1], *[1] * (train.ndim - 1), -1), (*lead, n_examples))
    flat, used = labels.reshape(-1, n_examples), used.reshape(-1, n_examples)
    check_classes(flat, used, len(classes))
    fits = []
    for index, layer in enumerate(X):
        design = make_design(layer, f"layer {index}")
        if len(design.rows) != n_examples:
            raise InputError(f"layer {index} has {len(design.rows)} examples, and there are {n_examples} labels.")
        chosen = np.full(len(flat), path[0])
        if len(path) > 1:
            chosen = choose_l2(design, flat, used, len(classes), path, groups, n_inner=n_inner)
        fits.append(fit_rows(design, flat, used, [len(classes)] * len(flat), chosen, tol=tol, max_iter=max_iter))
    if not fits:
        raise InputError("X holds no layer; its shape is (layer, example, d).")
    return freeze(fits, classes, lead)


def encode(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class numbers (int64, -1 where there is no label) and the classes in sorted order.

    Raises InputError for NaN labels or fewer than two classes.
    """
    y = np.asarray(y)
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise InputError("labels hold NaN; mark an example without label by -1 in an integer array.")
    if y.ndim == 0:
        raise InputError("labels of shape [*labels, example] are needed; got a single value.")
    missing = (
        (y == np.array(None, object))
        if y.dtype == object
        else (y == -1 if y.dtype.kind == "i" else np.zeros(y.shape, bool))
    )
    classes, found = np.unique(y[~missing], return_inverse=True)
    if len(classes) < 2:
        note = " (-1 marks an example without label; name the classes 0, 1, ...)" if missing.any() else ""
        raise InputError(f"a probe needs two classes; the labels hold {len(classes)}: {classes.tolist()}{note}.")
    codes = np.full(y.shape, -1)
    codes[~missing] = found
    return codes, classes


def check_classes(codes: np.ndarray, used: np.ndarray, n_classes: int) -> None:
    """Raise InputError where a train split lacks a class. Shapes: codes, used [B, example]."""
    for row, mask in zip(codes, used, strict=True):
        present = np.unique(row[mask])
        if len(present) < 2:
            raise InputError(
                f"a train split holds {len(present)} class of {n_classes}; a probe needs two. Use fewer folds, or "
                "groups that mix the classes."
            )


def fit_rows(
    design: Design,
    codes: np.ndarray,
    used: np.ndarray,
    n_classes: Sequence[int],
    l2: np.ndarray,
    *,
    start: "list[Tensor] | None" = None,
    tol: float | None = None,
    max_iter: int = 1000,
) -> "list[Fit]":
    """Fit B problems on one design, in batches of coefficient rows; those that single precision leaves go on in double.

    Shapes: codes int [B, example], used bool [B, example], n_classes and l2 [B]; `tol` as in `fit_logistic`.
    Raises StateError where a fit does not reach `tol` within `max_iter` steps.
    """
    fits: list[Fit | None] = [None] * len(codes)
    per = np.array([1 if k == 2 else k for k in n_classes])
    for penalty in np.unique(l2):
        order = [b for b in np.argsort(per, kind="stable").tolist() if l2[b] == penalty]
        for part in _parts(order, per):
            _fit_part(
                design, codes, used, per, float(penalty), part=part, fits=fits, start=start, tol=tol, max_iter=max_iter
            )
    return [fit for fit in fits if fit is not None]


@dataclass(frozen=True, eq=False)
class Fit:
    """One fitted problem: coefficients on its own centred and scaled features, and its scores on the design.

    `raw` [K', d + 1] are the coefficients on the design (a start for the next l2), `weight` [K', d] and `bias` [K']
    those on features centred by `centre` [d] and divided by `scale`; `scores` [K', example] (nats).
    """

    raw: Tensor
    weight: Tensor
    bias: Tensor
    centre: Tensor
    scale: float
    scores: Tensor
    l2: float
    steps: int

    def without_scores(self) -> "Fit":
        """The same fit without its scores, so that a layer's scores can be let go."""
        return replace(self, scores=self.scores[:, :0])


def _own_features(
    found: Minimum, rows: Tensor, problem: int, mean: Tensor, spread: Tensor, design: Design, l2: float
) -> Fit:
    """A problem's coefficients moved from the design to features centred and scaled by its own train examples."""
    raw = found.weight[rows]
    shared = raw[:, :-1].double()
    return Fit(
        raw,
        weight=(shared * spread).float(),
        bias=(raw[:, -1].double() + shared @ mean).float(),
        centre=(design.centre.double() + mean * design.scale).float(),
        scale=float(spread) * design.scale,
        scores=found.scores[rows],
        l2=l2,
        steps=int(found.steps[problem]),
    )


def freeze(fits: "list[list[Fit]]", classes: np.ndarray, lead: tuple[int, ...]) -> Probes:
    """The fits of every layer as frozen probes that lead with (layer, *lead)."""
    shape = (len(fits), *lead)
    flat = [fit for layer in fits for fit in layer]
    return Probes(
        weight=torch.stack([f.weight for f in flat]).reshape(*shape, *flat[0].weight.shape),
        bias=torch.stack([f.bias for f in flat]).reshape(*shape, -1),
        centre=torch.stack([f.centre for f in flat]).reshape(*shape, -1),
        scale=torch.tensor([f.scale for f in flat]).reshape(shape),
        classes=classes,
        l2=np.array([f.l2 for f in flat]).reshape(shape),
    )


def choose_l2(
    design: Design,
    codes: np.ndarray,
    used: np.ndarray,
    n_classes: int,
    path: np.ndarray,
    groups: np.ndarray | None,
    *,
    n_inner: int = 5,
    tol: float = 1e-5,
) -> np.ndarray:
    """The l2 of each problem with the least held-out loss over inner grouped folds (unit of l2), shape [B].

    The path runs from strong to weak and each fit starts from the one before.
    """
    folds = np.stack([_inner_folds(mask & (row >= 0), groups, n_inner) for row, mask in zip(codes, used, strict=True)])
    inside = np.stack([used & (folds != f) for f in range(n_inner)], axis=1).reshape(-1, used.shape[1])
    outside = np.stack([used & (folds == f) for f in range(n_inner)], axis=1).reshape(-1, used.shape[1])
    labels = np.repeat(codes, n_inner, axis=0)
    check_classes(labels, inside, n_classes)
    ordered = np.sort(path)[::-1]
    loss = np.empty((len(ordered), len(codes)))
    start = None
    for i, l2 in enumerate(ordered):
        fits = fit_rows(
            design, labels, inside, [n_classes] * len(labels), np.full(len(labels), l2), start=start, tol=tol
        )
        start = [fit.raw for fit in fits]
        per = [held_out_loss(f.scores[:, m], r[m]) for f, r, m in zip(fits, labels, outside, strict=True)]
        loss[i] = np.reshape(per, (len(codes), n_inner)).sum(axis=1)
    return ordered[loss.argmin(axis=0)]


def held_out_loss(scores: Tensor, codes: np.ndarray) -> float:
    """Sum of `-ln p(label)` (nats). Shapes: scores [K or 1, example], codes [example] without -1."""
    both = torch.cat([torch.zeros_like(scores), scores]) if len(scores) == 1 else scores
    return float(torch.nn.functional.cross_entropy(both.T.double(), torch.as_tensor(codes), reduction="sum"))


def _pairs(codes: np.ndarray, train: np.ndarray) -> np.ndarray:
    labelled = (codes >= 0).reshape(*codes.shape[:-1], *[1] * (train.ndim - 1), codes.shape[-1])
    return labelled & train


def _inner_folds(mask: np.ndarray, groups: np.ndarray | None, n_inner: int) -> np.ndarray:
    folds = np.full(len(mask), -1)
    named = np.arange(len(mask)) if groups is None else np.asarray(groups)
    folds[mask] = grouped_folds(named[mask], n_inner)
    return folds


def _parts(order: list[int], per: np.ndarray) -> Iterable[list[int]]:
    part: list[int] = []
    for b in order:
        if part and per[part].sum() + per[b] > ROWS_AT_ONCE:
            yield part
            part = []
        part.append(b)
    if part:
        yield part


def _fit_part(
    design: Design,
    codes: np.ndarray,
    used: np.ndarray,
    per: np.ndarray,
    l2: float,
    part: list[int],
    fits: "list[Fit | None]",
    start: "list[Tensor] | None",
    tol: float | None,
    max_iter: int,
) -> None:
    rows, device = design.rows, design.rows.device
    count = used[part].sum(axis=1)
    weights = torch.as_tensor(used[part] / count[:, None], dtype=rows.dtype, device=device)
    mean, spread = fold_moments(design, weights)
    owner = torch.as_tensor(np.repeat(np.arange(len(part)), per[part]), device=device)
    label = np.concatenate([np.where(per[b] == 1, 1, np.arange(per[b])) for b in part])
    targets = torch.as_tensor(codes[part][owner.cpu().numpy()] == label[:, None], dtype=rows.dtype, device=device)
    penalty = (l2 / torch.as_tensor(count, device=device) * spread.square()).to(rows.dtype)
    problems = Problems(targets, weights[owner], owner, penalty, tuple(int(per[b]) for b in part))
    began = None if start is None else torch.cat([start[b] for b in part])
    factor = design.factor(float(penalty.double().log().mean().exp()))
    if tol is None:
        tol = min(1e-6, max(1e-10, 1e-4 * float(penalty.min())))
    found = minimise(rows, problems, factor, start=began, tol=tol, max_iter=max_iter, patience=15)
    found = _finish(design, problems, found, tol, max_iter)
    for i, b in enumerate(part):
        mine = owner == i
        fits[b] = _own_features(found, rows=mine, problem=i, mean=mean[i], spread=spread[i], design=design, l2=l2)


def _finish(design: Design, problems: Problems, found: Minimum, tol: float, max_iter: int) -> Minimum:
    """Take in double precision, one by one, the problems that single precision left above `tol`.

    Most of them are nearly separable: there the bound on the Hessian is far from it, so each gets a factor of its own,
    weighted by `p (1 - p)` where it stands, anew after every few steps.
    """
    rows = design.rows.double()
    for problem in (~(found.gradient <= tol)).nonzero()[:, 0].tolist():
        only = torch.arange(len(problems.rows_of), device=rows.device) == problem
        part, mine = problems.keep(only)
        part = replace(
            part, targets=part.targets.double(), weights=part.weights.double(), penalty=part.penalty.double()
        )
        weight = torch.nan_to_num(found.weight[mine].double())
        for _ in range(max(1, max_iter // NEWTON_STEPS)):
            own = _weighted_factor(rows, part, weight)
            better = minimise(rows, part, own, start=weight, tol=tol, max_iter=min(max_iter, NEWTON_STEPS))
            weight = better.weight
            if better.gradient <= tol:
                break
        else:
            raise StateError(
                f"a logistic fit reached a gradient of {float(better.gradient):.2g} and not {tol:.2g} in {max_iter} "
                "steps. Use a larger l2, a larger tol, or more steps."
            )
        found.weight[mine], found.scores[mine] = weight.to(found.weight), better.scores.to(found.scores)
    return found


def _weighted_factor(rows: Tensor, problem: Problems, weight: Tensor) -> Tensor:
    """Inverse Hessian of a binary problem; of several classes, the mean over their diagonal blocks."""
    chance = probabilities(weight @ rows.T, problem.rows_of)
    curvature = (problem.weights * chance * (1 - chance)).mean(dim=0)
    matrix = rows.T @ (curvature[:, None] * rows)
    matrix.diagonal()[:-1] += problem.penalty
    matrix.diagonal()[-1] += 1e-9
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix))
