"""Grouped folds, and the errors that say why a split cannot be used."""

import numpy as np

from phaselens.errors import InputError


def grouped_folds(groups: np.ndarray, n_folds: int = 5, generator: np.random.Generator | None = None) -> np.ndarray:
    """Fold of every example, all examples of a group in one fold, folds as equal in examples as groups allow (1).

    Groups (prompts, word types, templates) go largest first to the fold that holds least; with a generator, groups of
    equal size come in random order. Shapes: groups [example] -> int64 [example] in 0..n_folds-1.
    Raises InputError for fewer groups than folds, or fewer than two folds.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    if n_folds < 2 or len(names) < n_folds:
        raise InputError(
            f"{n_folds} folds need at least 2 folds and as many groups; got {len(names)} groups in {len(member)} "
            "examples. Ask for fewer folds or give more groups (prompts, word types)."
        )
    size = np.bincount(member)
    order = np.arange(len(names)) if generator is None else generator.permutation(len(names))
    order = order[np.argsort(-size[order], kind="stable")]
    held, fold = np.zeros(n_folds, int), np.empty(len(names), int)
    for group in order:
        fold[group] = held.argmin()
        held[fold[group]] += size[group]
    return fold[member]


def check_folds(folds: np.ndarray, groups: np.ndarray | None, n_examples: int) -> int:
    """Number of folds; raises InputError where folds have another length, are not 0..k-1, or cut through a group."""
    folds = np.asarray(folds)
    if folds.shape != (n_examples,):
        raise InputError(f"one fold per example is needed, shape ({n_examples},); got {folds.shape}.")
    n_folds = int(folds.max()) + 1 if len(folds) else 0
    if n_folds < 2 or set(np.unique(folds).tolist()) != set(range(n_folds)):
        raise InputError(f"folds are numbered 0..k-1, k >= 2, each with examples; got {np.unique(folds)[:10]}.")
    if groups is not None:
        for fold in range(n_folds):
            check_disjoint(groups, folds != fold, folds == fold)
    return n_folds


def check_disjoint(groups: np.ndarray, train: np.ndarray, test: np.ndarray) -> None:
    """Raise InputError where a group has examples in both splits, or groups and splits differ in length."""
    groups, train, test = np.asarray(groups), np.asarray(train, bool), np.asarray(test, bool)
    if not groups.shape == train.shape == test.shape:
        raise InputError(f"one group per example is needed; got {groups.shape} groups for splits of {train.shape}.")
    both = np.intersect1d(groups[train], groups[test])
    if len(both):
        raise InputError(
            f"group {both[0]!r} (and {len(both) - 1} more) is in both splits: what is learned from it would be "
            "tested on it. Make folds with grouped_folds(groups)."
        )
