"""The control table: each perturbation against probes that are refit on it and against probes frozen before it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from phaselens.probes.crossfit import L2, HeldOut, Task, fit_layer, held_out
from phaselens.probes.design import as_features, make_design
from phaselens.probes.frozen import Probes
from phaselens.probes.logistic import check_classes

Perturb = Callable[..., Tensor]
DRAWS_AT_ONCE = 20


@dataclass(frozen=True, eq=False)
class ControlResult:
    """Held-out accuracy of one task under one perturbation (1): refit and frozen [layer, draw], balanced likewise."""

    refit: np.ndarray
    frozen: np.ndarray
    refit_balanced: np.ndarray
    frozen_balanced: np.ndarray


def control_table(
    X: Iterable,
    found: Mapping[str, HeldOut],
    perturbations: Mapping[str, Perturb],
    generator: np.random.Generator,
    *,
    l2: L2 = 1.0,
    n_draws: int = 20,
    needs_labels: frozenset[str] = frozenset(),
    tol: float | None = None,
) -> dict[tuple[str, str], ControlResult]:
    """Accuracy of every task under every perturbation of hidden states, refit and frozen, by (perturbation, task) (1).

    The frozen probe of a fold reads the perturbed states of that fold; the refit one is trained and tested on
    perturbed states. Blocks of a perturbation are the task's folds. Perturbations named in `needs_labels` are drawn per
    task (first draw of its labels), the others once for all tasks that share folds.
    Shapes: X (layer, example, d), read one layer at a time; `found` from `cross_fit` on the same X.
    """
    kept: dict[tuple[str, str], list[list[tuple[float, ...]]]] = {}
    for index, layer in enumerate(X):
        features = as_features(layer, f"layer {index}").float()
        for name, perturb in perturbations.items():
            seeds = generator.integers(2**62, size=n_draws)
            for batch in _batches({t: h.task for t, h in found.items()}, name in needs_labels):
                first = next(iter(batch.values()))
                for seed in seeds:
                    moved = perturb(
                        features,
                        torch.Generator().manual_seed(int(seed)),
                        labels=torch.as_tensor(first.codes[0]),
                        blocks=torch.as_tensor(first.folds),
                    )
                    for task, accuracies in _both(moved, index, batch, found, l2, tol).items():
                        layers = kept.setdefault((name, task), [])
                        if len(layers) == index:
                            layers.append([])
                        layers[index].append(accuracies)
    return {key: ControlResult(*np.moveaxis(np.array(rows), -1, 0)) for key, rows in kept.items()}


def control_accuracy(
    X: Iterable, task: Task, codes: np.ndarray, *, l2: L2 = 1.0, tol: float | None = None
) -> np.ndarray:
    """Held-out accuracy on other labels of the same examples and folds (1): permuted labels or control tasks.

    Shapes: X (layer, example, d), read one layer at a time; codes int [draw, example] into the task's classes; returns
    [layer, draw]. Raises InputError where a draw leaves a train fold with one class.
    """
    out = []
    for index, layer in enumerate(X):
        design, hits = make_design(layer, f"layer {index}"), []
        for start in range(0, len(codes), DRAWS_AT_ONCE):
            part = Task(codes[start : start + DRAWS_AT_ONCE], task.classes, task.folds)
            check_classes(part.problem_codes(), part.train(), len(task.classes))
            guess = held_out(part, fit_layer(design, {"": part}, l2, tol=tol)[""]).argmax(dim=-1).cpu().numpy()
            known = part.codes >= 0
            hits += (((guess == part.codes) & known).sum(axis=1) / known.sum(axis=1)).tolist()
        out.append(hits)
    return np.array(out)


def balanced_accuracy(predicted: np.ndarray, codes: np.ndarray, n_classes: int) -> float:
    """Mean over classes of the share predicted right (1); a class that does not occur is left out."""
    shares = [np.mean(predicted[codes == k] == k) for k in range(n_classes) if (codes == k).any()]
    return float(np.mean(shares))


def frozen_scores(probes: Probes, index: int, moved: Tensor, folds: np.ndarray) -> Tensor:
    """Score of each example of a changed layer by the frozen probe of its own fold: [draw, example, K] (nats)."""
    scores = probes.layer_scores(index, moved)
    return scores[:, torch.as_tensor(folds), torch.arange(len(folds))]


def _batches(tasks: dict[str, Task], alone: bool) -> list[dict[str, Task]]:
    if alone:
        return [{name: task} for name, task in tasks.items()]
    batches: dict[bytes, dict[str, Task]] = {}
    for name, task in tasks.items():
        batches.setdefault(task.folds.tobytes(), {})[name] = task
    return list(batches.values())


def _both(
    moved: Tensor, index: int, batch: dict[str, Task], found: Mapping[str, HeldOut], l2: L2, tol: float | None
) -> dict[str, tuple[float, float, float, float]]:
    refits = fit_layer(make_design(moved), batch, l2, tol=tol)
    out = {}
    for name, task in batch.items():
        codes = task.codes[0]
        seen = codes >= 0
        pairs = []
        for scores in (held_out(task, refits[name]), frozen_scores(found[name].probes, index, moved, task.folds)):
            guess = scores[0].argmax(dim=-1).cpu().numpy()[seen]
            pairs.append(
                (float((guess == codes[seen]).mean()), balanced_accuracy(guess, codes[seen], len(task.classes)))
            )
        out[name] = (pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1])
    return out
