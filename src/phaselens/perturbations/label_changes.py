"""What is done to labels: permutation, and the control tasks of Hewitt and Liang."""

import numpy as np

from phaselens.errors import InputError


def permute_labels(
    labels: np.ndarray, generator: np.random.Generator, *, groups: np.ndarray | None = None
) -> np.ndarray:
    """Labels dealt out anew among the labelled examples (class numbers; -1 stays where it is).

    With `groups`, whole groups swap labels where every group has one label (a sentence label moves with its sentence);
    groups of several labels keep their examples together by position: labels are permuted inside each group, so the
    composition of every group stays. Shapes: labels int [example], groups [example] -> int [example].
    """
    labels = np.asarray(labels)
    out = labels.copy()
    known = np.flatnonzero(labels >= 0)
    if groups is None:
        out[known] = labels[generator.permutation(known)]
        return out
    groups = np.asarray(groups)
    if groups.shape != labels.shape:
        raise InputError(f"one group per label is needed; got {groups.shape} and {labels.shape}.")
    names, first, member = np.unique(groups[known], return_index=True, return_inverse=True)
    of_group = labels[known][first]
    if (of_group[member] == labels[known]).all():
        out[known] = of_group[generator.permutation(len(names))][member]
        return out
    for g in range(len(names)):
        inside = known[member == g]
        out[inside] = labels[generator.permutation(inside)]
    return out


def control_labels(
    labels: np.ndarray, types: np.ndarray, generator: np.random.Generator, *, n_draws: int = 1
) -> np.ndarray:
    """Labels of a control task: every word type (or template) has one label, drawn at random (class numbers).

    Each type draws from the frequencies of the true labels; a probe can only learn it by remembering types. A draw in
    which one class does not occur is drawn again, at most 100 times.
    Shapes: labels int [example] (-1: no label, stays), types [example] -> int [draw, example].
    Raises InputError for lengths that differ, or where every example has the same type.
    Source: Hewitt and Liang 2019, "Designing and interpreting probes with control tasks".
    """
    labels, types = np.asarray(labels), np.asarray(types)
    if labels.shape != types.shape:
        raise InputError(f"one type per label is needed; got {types.shape} and {labels.shape}.")
    known = labels >= 0
    share = np.bincount(labels[known]) / known.sum()
    names, member = np.unique(types, return_inverse=True)
    if len(names) < 2:
        raise InputError("a control task needs at least two types; every example has the same one.")
    out = np.empty((n_draws, len(labels)), labels.dtype)
    for i in range(n_draws):
        for _ in range(100):
            out[i] = generator.choice(len(share), size=len(names), p=share)[member]
            if len(np.unique(out[i, known])) >= 2:
                break
    out[:, ~known] = -1
    return out
