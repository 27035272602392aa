"""What can be read from which layer: batched fitters whose results are frozen, and what such a reading is worth."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Fetched when first used: what is read off stored capacities needs no torch.
_CROSSFIT = dict.fromkeys(("HeldOut", "Task", "cross_fit", "make_task"), "crossfit")
_HOMES = {**_CROSSFIT, "grouped_folds": "folds", "Probes": "frozen", "fit_logistic": "logistic"}

if TYPE_CHECKING:
    from phaselens.probes.crossfit import HeldOut, Task, cross_fit, make_task
    from phaselens.probes.folds import grouped_folds
    from phaselens.probes.frozen import Probes
    from phaselens.probes.logistic import fit_logistic

__all__ = ["HeldOut", "Probes", "Task", "cross_fit", "fit_logistic", "grouped_folds", "make_task"]


def __getattr__(name: str) -> Any:
    """Fetch one of the names above from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'phaselens.probes' has no attribute {name!r}; it has {', '.join(sorted(_HOMES))}")
    return getattr(import_module(f"phaselens.probes.{_HOMES[name]}"), name)
