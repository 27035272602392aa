"""Leaving the network early: how many layers a token needs before its lens is sure, and whether that token is right."""

import numpy as np


def exit_curve(top1: np.ndarray, agrees: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Share of layers saved, and share of tokens that stay the same, when leaving at the first layer that is sure (1).

    A token leaves at the least layer whose top probability reaches the threshold (L where none does); it stays the
    same if the argmax there is the final one. The third number is what an oracle saves that leaves at the commit layer,
    where every token stays the same. Shapes: top1, agrees [token, layer] for layers 1..L; thresholds [k] ->
    [k], [k], 1. NaN: no token. Tokens with an undefined value are left out.
    """
    p, same = np.asarray(top1, float), np.asarray(agrees, float)
    known = np.isfinite(p).all(1) & np.isfinite(same).all(1)
    p, same = p[known], same[known]
    n_layers = p.shape[1]
    if not len(p):
        return np.full(len(thresholds), np.nan), np.full(len(thresholds), np.nan), float("nan")
    saved, agreement = [], []
    for threshold in thresholds:
        sure = p >= threshold
        sure[:, -1] = True
        at = sure.argmax(1)
        saved.append(1 - (at + 1).mean() / n_layers)
        agreement.append(same[np.arange(len(p)), at].mean())
    committed = np.logical_and.accumulate(same[:, ::-1] > 0.5, axis=1)[:, ::-1]
    committed[:, -1] = True
    oracle = 1 - (committed.argmax(1) + 1).mean() / n_layers
    return np.array(saved), np.array(agreement), float(oracle)
