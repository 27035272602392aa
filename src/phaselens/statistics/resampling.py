"""The prompt bootstrap, vectorised: a resample is a row of multinomial weights over prompts.

All runs and tokens of a prompt move together, so an interval says how far the number would move with other prompts of the
same kind, not with other tokens of the same text.
"""

import numpy as np

from phaselens.errors import InputError


def bootstrap_weights(n_units: int, generator: np.random.Generator, *, n_boot: int = 2000) -> np.ndarray:
    """How often each unit is drawn in each resample (counts).

    Each row is Multinomial(n_units; 1/n_units, ...), the same as drawing n_units units with replacement.
    Shapes: returns int64 [n_boot, n_units]. Raises InputError for a negative count of units.
    Source: Efron 1979, "Bootstrap methods: another look at the jackknife".
    """
    if n_units < 0 or n_boot < 1:
        raise InputError(f"a bootstrap needs n_units >= 0 and n_boot >= 1; got {n_units} and {n_boot}.")
    if n_units == 0:
        return np.zeros((n_boot, 0), dtype=np.int64)
    return generator.multinomial(n_units, np.full(n_units, 1.0 / n_units), size=n_boot)
