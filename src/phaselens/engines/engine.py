"""What an engine is: it hands units of work to workers somewhere, and says what each worker says.

The folder is the truth, never the engine: no engine tries twice and none keeps a result. Whoever runs one lists what is
missing in the folder afterwards and asks again.
"""

import json
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self


@dataclass(frozen=True)
class Done:
    """What a worker says of one unit: tokens, seconds, whether it was there already, and what it found out (`facts`).

    `error` is why it failed ("": it did not); `fatal`: no fault of the model, so the whole study stops; `note` is for
    the diary. `of` above 0: it is not done yet, `tokens` of so many are.
    """

    key: str
    tokens: int = 0
    seconds: float = 0.0
    skipped: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    fatal: bool = False
    note: str = ""
    of: int = 0

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The same from its line."""
        return cls(**json.loads(text))


class Worker(Protocol):
    """Does units of one folder, and holds the model of the last one."""

    def do(self, unit: Any, hear: "Hear | None" = None) -> Done:
        """Do one unit, and `hear` how far it is; all that may go wrong with a model is in what is returned."""


class Unit(Protocol):
    """A unit of work as engines see it: a name, the model it needs, and how to make who does it.

    `need` is the memory that it takes on a device, in bytes (0: not known).
    """

    @property
    def key(self) -> str:
        """Names the unit."""

    @property
    def model(self) -> str:
        """The model it needs."""

    @property
    def need(self) -> float:
        """Bytes on a device."""

    def to_json(self) -> str:
        """One line of JSON."""

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The same from its line."""

    @staticmethod
    def worker(root: str, threads: int = 0) -> Worker:
        """Who does units of the folder `root`, with so many threads (0: as many as this process has)."""


Hear = Callable[[Done], None]


class Engine(Protocol):
    """Where units are done. `run` returns when every unit was done, failed, or lost with its worker.

    `by_need`: it places units by the memory that they need, so that somebody has to find that out.
    """

    by_need: bool

    def run(self, units: Sequence[Unit], root: str, hear: Hear) -> None:
        """Do the units of the folder `root`; say of each that ended what its worker said."""

    def close(self) -> None:
        """Let the workers go. They live until then, so that a model stays loaded from one call of `run` to the next."""


class Queue:
    """Units by model; whoever asks gets one of the model it holds, else one of the model that most are left of.

    A model that one holds counts as half as many, so that idle workers spread over models before they share one.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._left: dict[str, deque[Unit]] = {}
        for unit in units:
            self._left.setdefault(unit.model, deque()).append(unit)
        self._holders: dict[str, int] = {}

    def take(self, held: str | None) -> Unit | None:
        """The next unit for a worker that holds the model `held`; None: there is none."""
        if held is not None and held in self._left:
            model: str | None = held
        else:
            model = max(self._left, key=lambda m: len(self._left[m]) / (1 + self._holders.get(m, 0)), default=None)
        if model is None:
            return None
        if model != held:
            self._holders[model] = self._holders.get(model, 0) + 1
            if held is not None:
                self._holders[held] = self._holders.get(held, 1) - 1
        unit = self._left[model].popleft()
        if not self._left[model]:
            del self._left[model]
        return unit

    def drop(self, model: str) -> None:
        """Leave out what is left of a model that failed."""
        self._left.pop(model, None)


def by_cards(units: Sequence[Unit], card: float, parts: int = 1) -> list[tuple[float, list[Unit]]]:
    """Units by how many cards of `card` bytes their model needs, most first: whole ones, or the first in `parts`.

    A model that is not known to need anything takes the least.
    """
    need: dict[str, float] = {}
    for unit in units:
        need[unit.model] = max(need.get(unit.model, 0.0), unit.need)
    pieces = {model: max(1, math.ceil(parts * size / card)) for model, size in need.items()}
    share = {model: n / parts if n <= parts else math.ceil(n / parts) for model, n in pieces.items()}
    return [(s, [u for u in units if share[u.model] == s]) for s in sorted(set(share.values()), reverse=True)]


class Serving:
    """A worker on the other side of a line or a cluster: takes a unit as JSON and answers as JSON."""

    def __init__(self, kind: type[Unit], root: str) -> None:
        self._kind, self._root = kind, root
        self._worker: Worker | None = None

    def do(self, text: str, hear: Hear | None = None) -> str:
        """Do one unit."""
        self._worker = self._worker or self._kind.worker(self._root, 1)
        return self._worker.do(self._kind.from_json(text), hear).to_json()
