"""Work spread over processes of this machine, forked so that they hold what is loaded; an idle one takes the next."""

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from threadpoolctl import threadpool_limits

from phaselens.errors import InputError, StateError

PR_SET_PDEATHSIG = 1
# What a task says on its way, for the process that started it: any values that can be sent.
Say = Callable[..., None]


MOST = 8  # processes that nobody asked for: each holds its own columns


def can_spread() -> bool:
    """Whether work can be spread here: forking beside loaded libraries is sound on Linux alone."""
    return sys.platform == "linux"


def spare_cores() -> int:
    """How many processes small work may take without being asked: one a core that this process may use, at most 8."""
    return min(len(os.sched_getaffinity(0)), MOST) if can_spread() else 1


def checked(workers: int) -> int:
    """The number of processes, where it can be used. Raises InputError with what can."""
    if workers < 1:
        raise InputError(f"workers must be at least 1; got {workers}.")
    if workers > 1 and not can_spread():
        raise InputError(f"work is spread over processes on Linux only; got workers = {workers} on {sys.platform}.")
    return workers


def spread(
    do: Callable[[int, Say], Any], n: int, workers: int, hear: Callable[..., None] = lambda i, *said: None
) -> list[Any]:
    """`[do(0, say), .., do(n - 1, say)]`, computed by up to `workers` processes; with one, here and in order.

    A process has everything this one holds; what it changes stays its own, and what `do` returns must be sendable.
    `say(*values)` calls `hear(i, *values)` here. Each process computes with one thread, and dies with this one.

    An exception of `do` is raised here, with where it came from, and ends the others. Raises StateError where a process
    was killed from outside.
    """
    workers = min(workers, n)
    if workers <= 1:
        return [do(i, lambda *said, i=i: hear(i, *said)) for i in range(n)]
    out: list[Any] = [None] * n
    hands = [hand(do) for _ in range(workers)]
    try:
        waiting = iter(range(n))
        busy = {line: next(waiting) for _, line in hands}
        for line, i in busy.items():
            line.send(i)
        while busy:
            for line, kind, value in heard(busy):
                if kind == "said":
                    hear(busy[line], *value)
                    continue
                if kind == "lost":
                    raise StateError(
                        "a process was killed in the middle of its work, which is what a machine without memory left "
                        "does. Finished files are kept: run the same command again with fewer --workers."
                    )
                out[busy.pop(line)] = value
                if (following := next(waiting, None)) is not None:
                    busy[line] = following
                    line.send(following)
    finally:
        for process, line in hands:
            line.close()
            process.kill()
            process.join()
    return out


def heard(lines: Iterable[Connection]) -> Iterator[tuple[Connection, str, Any]]:
    """What processes say next: "said" or "done" with what, or "lost" where one was killed. Raises what one raised."""
    for line in wait(list(lines)):
        assert isinstance(line, Connection)
        try:
            kind, value = line.recv()
        except (EOFError, ConnectionResetError):
            kind, value = "lost", None
        if kind == "raised":
            raise value
        yield line, kind, value


def hand(do: Callable[[Any, Say], Any], way: str = "fork") -> tuple[Any, Connection]:
    """A process that does the tasks it is sent, and the line to it; `way` is how it is started, fork or spawn."""
    here, there = multiprocessing.Pipe()
    context: Any = multiprocessing.get_context(way)
    process = context.Process(target=_work, args=(do, there, here), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: ours only draw progress
        process.start()
    there.close()
    return process, here


def _work(do: Callable[[Any, Say], Any], line: Connection, other: Connection) -> None:
    """Do tasks until the line is closed."""
    other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process is told, and ends the others
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with threadpool_limits(1), suppress(EOFError, BrokenPipeError):
        while True:
            i = line.recv()
            try:
                line.send(("done", do(i, lambda *said: line.send(("said", said)))))
            except BrokenPipeError:
                raise
            except Exception as error:
                trace = "".join(traceback.format_exception(error))
                error.add_note(trace)
                try:
                    line.send(("raised", error))
                except (TypeError, AttributeError, pickle.PicklingError):
                    line.send(("raised", StateError(f"{type(error).__name__}: {error}\n{trace}")))
