"""Whether work in Python shows a bar: by default in a terminal or notebook, never inside our own command line."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int], None]
OFF = "PHASELENS_PROGRESS"  # "0": no bar unless it is asked for


def _watched() -> bool:
    """Whether somebody looks: standard error is a terminal, or this is a notebook."""
    return os.environ.get(OFF) != "0" and (sys.stderr.isatty() or "ipykernel" in sys.modules)


@contextmanager
def showing(progress: Progress | bool | None, what: str) -> Iterator[Progress | None]:
    """What is told of progress: the given function, a bar (True, or None where somebody looks), or nothing (False)."""
    if callable(progress) or not (_watched() if progress is None else progress):
        yield progress if callable(progress) else None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)
