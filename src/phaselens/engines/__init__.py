"""What carries a study out. `local` does it on this machine; units of work are idempotent, so others may do theirs.

`analyse_study` needs no model library, so the names are fetched when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Event": "phaselens.engines.events",
    "Outcome": "phaselens.engines.analysis",
    "analyse_study": "phaselens.engines.again",
    "run_study": "phaselens.engines.local",
}

if TYPE_CHECKING:
    from phaselens.engines.again import analyse_study
    from phaselens.engines.analysis import Outcome
    from phaselens.engines.events import Event
    from phaselens.engines.local import run_study

__all__ = ["Event", "Outcome", "analyse_study", "run_study"]


def __getattr__(name: str) -> Any:
    """Fetch one of the names above from its home."""
    if name not in _HOMES:
        raise AttributeError(f"module 'phaselens.engines' has no attribute {name!r}; it has {', '.join(_HOMES)}")
    return getattr(import_module(_HOMES[name]), name)
