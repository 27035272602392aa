"""One watched generation as an iterator of steps, from a thread of its own."""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from phaselens.monitor.steps import Step


class Streams(Protocol):
    """What a stream needs of a monitor."""

    on_step: Any

    def generate(self, *args: Any, **kwargs: Any) -> Any:
        """The library's generate, watched."""


class Stream:
    """Iterates over steps as they are made; `result` is what `generate` returned, once the stream has ended.

    A stream that is closed, or left by its loop or `with` block, ends the generation at its next step and waits
    for that.
    """

    def __init__(self, monitor: Streams, args: Sequence[Any], kwargs: Mapping[str, Any], ahead: int) -> None:
        self.result: Any = None
        self._steps: queue.Queue[Step | None] = queue.Queue(maxsize=max(1, ahead))
        self._closed = threading.Event()
        self._error: BaseException | None = None
        self._monitor, self._on_step = monitor, monitor.on_step
        monitor.on_step = self._take
        self._thread = threading.Thread(target=self._run, args=(tuple(args), dict(kwargs)), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Step]:
        try:
            while True:
                try:
                    step = next(self)
                except StopIteration:
                    return
                yield step
        finally:
            self.close()

    def __next__(self) -> Step:
        step = None if self._closed.is_set() else self._steps.get()
        if step is not None:
            return step
        self.close()
        error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the generation at its next step, and wait for that."""
        self._closed.set()
        self._thread.join()
        self._monitor.on_step = self._on_step

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            self.result = self._monitor.generate(*args, **kwargs)
        except BaseException as error:  # raised again where the steps are taken
            self._error = error
        finally:
            self._put(None)

    def _take(self, step: Step) -> bool:
        """Hand a step over; True (stop) once nobody takes them any more."""
        stop = self._on_step(step) is True if self._on_step is not None else False
        return not self._put(step) or stop

    def _put(self, step: Step | None) -> bool:
        while not self._closed.is_set():
            try:
                self._steps.put(step, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False
