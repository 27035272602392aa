"""Studies: the declaration (`declaration`), its stages and stores, the driver (`carry_out`), and the conclusion.

`analyse_study` needs no model library, so the names are fetched when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Outcome": "phaselens.studies.conclude",
    "analyse_study": "phaselens.studies.reanalyse",
    "read_study": "phaselens.studies.declaration",
    "run_study": "phaselens.studies.carry_out",
}

if TYPE_CHECKING:
    from phaselens.studies.carry_out import run_study
    from phaselens.studies.conclude import Outcome
    from phaselens.studies.declaration import read_study
    from phaselens.studies.reanalyse import analyse_study

__all__ = ["Outcome", "analyse_study", "read_study", "run_study"]


def __getattr__(name: str) -> Any:
    """Fetch one of the names above from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'phaselens.studies' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)
