"""What an engine says while it works, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One thing that happened. `kind` is `stage` (a stage begins), `unit` (a unit of work is there), `part` (so much of
    a unit is, in `text` and as `share`) or `note`.

    `done` and `total` count the units of the stage; `tokens` is what the unit recorded or generated (0 where it was
    already on disk, then `skipped`); `seconds` is how long it took.
    """

    kind: str
    stage: str
    text: str = ""
    done: int = 0
    total: int = 0
    tokens: int = 0
    seconds: float = 0.0
    skipped: bool = False
    share: float = 0.0


Listener = Callable[[Event], None]
