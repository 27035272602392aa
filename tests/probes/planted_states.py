"""States with a planted signal: correlated features of falling variance, classes along a few of them."""

import numpy as np
import torch


def planted(seed=0, *, n=240, d=16, classes=2, layers=2, strength=(0.5, 2.0), per_group=3):
    """X float32 [layer, example, d], labels [example], groups [example]; layer l carries the signal by strength[l]."""
    draw = np.random.default_rng(seed)
    y = draw.integers(classes, size=n)
    means = draw.standard_normal((classes, d))
    spread = np.arange(1, d + 1) ** -0.5
    X = np.stack([(draw.standard_normal((n, d)) + strength[layer] * means[y]) * spread + 3 for layer in range(layers)])
    return torch.from_numpy(X).float(), y, np.arange(n) // per_group


def standardised(layer, train):
    """Features centred and divided by one scalar of the train examples, float64."""
    x = np.asarray(layer, float)
    shifted = x - x[train].mean(0)
    return shifted / np.sqrt(np.square(shifted[train]).mean())
