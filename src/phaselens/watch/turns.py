"""One model for many streams: whose turn it is, in the order of asking, and the random numbers of each stream."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch


class Turns:
    """A lock that is handed on in the order of asking, so that streams go on token by token side by side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()
        self._taken = False

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for the turn and keep it inside the `with` block."""
        self._wait()
        try:
            yield
        finally:
            self._hand_on()

    @property
    def wanted(self) -> bool:
        """Whether somebody waits."""
        return bool(self._waiting)

    def pass_on(self) -> None:
        """Let all who wait now go first, then go on; only for whoever has the turn."""
        mine = threading.Event()
        with self._lock:
            if not self._waiting:
                return
            self._waiting.append(mine)
            self._waiting.popleft().set()
        mine.wait()

    def _wait(self) -> None:
        mine = threading.Event()
        with self._lock:
            if not self._taken:
                self._taken = True
                return
            self._waiting.append(mine)
        mine.wait()

    def _hand_on(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._taken = False


class Dice:
    """The random numbers of one stream: the library draws from the global generator, which each stream borrows.

    Whoever has the turn puts its own state in and leaves the one found there behind, so that a seed gives the same text
    whatever other streams do.
    """

    def __init__(self, device: torch.device, seed: int | None) -> None:
        self._device = device
        generator = torch.Generator(device if device.type == "cuda" else "cpu")
        generator.seed() if seed is None else generator.manual_seed(seed)
        self._mine = generator.get_state()
        self._found: torch.Tensor | None = None

    def take(self) -> None:
        """Put the state of this stream in."""
        self._found, self._mine = self._get(), self._mine
        self._set(self._mine)

    def leave(self) -> None:
        """Put back the state found before."""
        self._mine = self._get()
        self._set(self._found)

    def _get(self) -> torch.Tensor:
        return torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else torch.get_rng_state()

    def _set(self, state: torch.Tensor) -> None:
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(state, self._device)
        else:
            torch.set_rng_state(state)
