"""Frozen probes on other prompt families; `alignment` has the way to another model."""

from collections.abc import Iterable

import numpy as np

from phaselens.errors import InputError
from phaselens.probes.folds import check_folds
from phaselens.probes.logistic import encode, fit_logistic


def family_transfer(
    X: Iterable, y: np.ndarray, families: np.ndarray, folds: np.ndarray, l2: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Held-out accuracy of probes trained on one prompt family and read on another (1), and the family names.

    Trained on family a outside fold f, read on family b inside fold f, for every f: the diagonal is held out too, and
    no group is on both sides. Shapes: X (layer, example, d), y [example] (-1: no label), families and folds [example];
    returns [layer, family trained on, family read]. NaN: no example of the family read has a label. Raises InputError
    where a train split has one class only.
    """
    codes, classes = encode(y)
    n_folds = check_folds(folds, None, len(codes))
    names = np.unique(np.asarray(families))
    if np.shape(families) != codes.shape:
        raise InputError(f"one family per label is needed; got {np.shape(families)} and {codes.shape}.")
    layers = list(X)
    train = np.stack(
        [[(np.asarray(families) == name) & (np.asarray(folds) != f) for f in range(n_folds)] for name in names]
    )
    probes = fit_logistic(layers, y, None, l2, train=train)
    right = probes.predict(layers) == np.where(codes >= 0, classes[codes], classes[0])
    own_fold = np.moveaxis(right, -1, 2)[:, :, np.arange(len(codes)), np.asarray(folds)]
    out = np.full((len(layers), len(names), len(names)), np.nan)
    for j, name in enumerate(names):
        read = (np.asarray(families) == name) & (codes >= 0)
        if read.any():
            out[:, :, j] = own_fold[:, :, read].mean(axis=-1)
    return out, names
