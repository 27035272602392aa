"""Whether a probe that learned one template reads the others."""

import numpy as np

from phaselens.errors import InputError
from phaselens.probes.capacity import majority_share
from phaselens.probes.transfer import family_transfer

FEWEST, MOST_FAMILIES = 30, 16


def template_transfer(
    layer: np.ndarray, labels: np.ndarray, codes: np.ndarray, kinds: np.ndarray | None, folds: np.ndarray, l2: float
) -> dict[str, object]:
    """Held-out accuracy of probes trained on one template and read on each (1), and the majority share of each.

    Only templates of at least `FEWEST` labelled examples and two classes; nothing with fewer than two of them, with
    more than `MOST_FAMILIES` (kinds that are words), or where a train split has one class.
    """
    if kinds is None or not 2 <= len(np.unique(kinds)) <= MOST_FAMILIES:
        return {}
    known = codes >= 0
    large = [
        name
        for name in np.unique(kinds)
        if (known & (kinds == name)).sum() >= FEWEST and len(np.unique(codes[known & (kinds == name)])) > 1
    ]
    rows = np.flatnonzero(known & np.isin(kinds, large))
    if len(large) < 2:
        return {}
    inner = np.unique(folds[rows], return_inverse=True)[1]
    try:
        accuracy, names = family_transfer([np.asarray(layer)[rows]], labels[rows], kinds[rows], inner, l2)
    except InputError:  # a class that a template has in one fold only
        return {}
    majority = [majority_share(codes[rows][kinds[rows] == name]) for name in names]
    return {"families": names.tolist(), "accuracy": accuracy[0].tolist(), "majority": majority}
