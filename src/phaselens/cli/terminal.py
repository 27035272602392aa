"""How the command line shows things: progress on stderr, tables on stdout, JSON without NaN."""

import json
import math
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from phaselens.errors import InputError
from phaselens.signs import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from phaselens.engines.events import Event, Listener

DASH = "\u2013"
EVERY = 30.0  # seconds between lines where there is no terminal
FIRST = 0.02  # of a stage: before, its pace is that of a first pass, and the time left would be far off
SHORT = 30  # cells up to this length stay on one line
GAP = 3  # signs between two columns of a table


def plain(value: Any) -> Any:
    """The same value with NaN and infinity as null, tuples as lists: what JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def say(*lines: str, err: bool = False) -> None:
    """Lines on stdout (`err`: stderr). What a terminal would obey, in names and texts too, is shown as a symbol.

    Every command writes through here, `print_table` or `print_json`, so that one argument is one line.
    """
    for line in lines:
        print(visible(str(line)), file=sys.stderr if err else sys.stdout, flush=True)


def json_text(value: Any, indent: int | None = 2) -> str:
    """JSON without NaN, on a terminal as harmless as any line: what is not printable is escaped."""
    text = json.dumps(plain(value), indent=indent, ensure_ascii=False, allow_nan=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    print(json_text(value))


def number(value: Any, digits: int = 3) -> str:
    """A number for a table; a dash where it is undefined."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}g}"


def bounded(row: Mapping[str, Any], name: str, lo: str, hi: str) -> str:
    """A value with its interval, e.g. `1.41 [1.38, 1.45]`; without one where the interval is undefined."""
    value, low, high = (number(row.get(key)) for key in (name, lo, hi))
    return value if DASH in (low, high) else f"{value} [{low}, {high}]"


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], title: str | None = None) -> None:
    """A table on stdout; numbers to the right. Texts are wrapped to the width of the terminal, names and numbers never.

    Columns that do not fit beside the others follow in a block below, behind the first column again.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    body = [list(row) for row in rows]
    shown = [[visible(cell) if isinstance(cell, str) else number(cell) for cell in row] for row in body]
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    widest = [max(map(cell_len, cells)) for cells in zip(columns, *shown, strict=True)]
    words = [max((cell_len(word) for row in shown for word in row[i].split()), default=0) for i in range(len(columns))]
    needed = [
        max(len(name), min(width, max(SHORT, word), console.width // 2 - GAP))
        for name, width, word in zip(columns, widest, words, strict=True)
    ]
    for n, block in enumerate(_blocks(needed, console.width)):
        head = Text(visible(title)) if title and not n else None
        table = Table(title=head, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
        for i in block:
            numeric = body and all(isinstance(row[i], (int, float, type(None))) for row in body)
            justify: Literal["left", "right"] = "right" if numeric else "left"
            fits = widest[i] <= needed[i]
            table.add_column(columns[i], justify=justify, overflow="fold", no_wrap=fits, min_width=needed[i])
        for row in shown:
            table.add_row(*(Text(row[i]) for i in block))
        console.print(table)


def _blocks(needed: Sequence[int], width: int) -> list[list[int]]:
    """Columns (their numbers) that fit beside each other; every block begins with the first, and holds another."""
    out, used = [[0]], GAP + needed[0]
    for i in range(1, len(needed)):
        if used + GAP + needed[i] > width and len(out[-1]) > 1:
            out, used = [*out, [0]], GAP + needed[0]
        out[-1].append(i)
        used += GAP + needed[i]
    return out


def numbers(given: str | None, kind: type, option: str) -> list[Any]:
    """Numbers of an option that takes several, separated by commas; none where it was not given.

    Raises InputError, naming the option, for what is no number of this kind.
    """
    try:
        return [] if given is None else [kind(part) for part in given.split(",")]
    except ValueError as error:
        raise InputError(
            f"{option} is {given!r}; wanted {'whole ' * (kind is int)}numbers separated by commas."
        ) from error


def names(given: str | None) -> tuple[str, ...] | None:
    """Names separated by commas; None where the option was not given."""
    return None if given is None else tuple(name.strip() for name in given.split(","))


def note(message: str) -> None:
    """One line on stderr."""
    say(message, err=True)


@contextmanager
def watching() -> "Iterator[Listener]":
    """A listener that draws bars with rate and time left on a terminal, and short lines elsewhere; all on stderr."""
    if sys.stderr.isatty():
        with _bars() as listener:
            yield listener
    else:
        yield _lines()


@contextmanager
def _bars() -> "Iterator[Listener]":
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:>16}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[now]}", markup=False),
    )
    with Progress(*columns, console=Console(file=sys.stderr), transient=False) as progress:
        tasks: dict[str, Any] = {}
        counted: dict[str, tuple[int, float]] = {}

        def listener(event: "Event") -> None:
            if event.kind == "note":
                progress.console.print(visible(event.text), markup=False, highlight=False)
            elif event.kind == "stage":
                total = event.total or None
                tasks[event.stage] = progress.add_task(event.stage, total=total, rate="", now=visible(event.text))
                if total is None:
                    progress.update(tasks[event.stage], total=1, completed=0)
            elif event.kind == "part":
                progress.update(tasks[event.stage], completed=event.done + event.share, now=visible(event.text))
            else:
                tokens, seconds = counted.get(event.stage, (0, 0.0))
                counted[event.stage] = tokens + event.tokens, seconds + event.seconds
                progress.update(
                    tasks[event.stage],
                    completed=event.done,
                    rate=rate_text(*counted[event.stage]),
                    now=visible(event.text),
                )

        yield listener
        for task in tasks.values():
            progress.update(task, completed=progress.tasks[task].total, now="")


def rate_text(tokens: int, seconds: float) -> str:
    """Tokens per second, or nothing where there were none."""
    return f"{tokens / seconds:,.0f} tokens/s" if tokens and seconds > 0 else ""


def _lines() -> "Listener":
    """A line when a stage begins, one every 30 seconds with the time left, and one when it is done."""
    state: dict[str, float] = {"tokens": 0, "start": time.monotonic(), "said": time.monotonic(), "skipped": 0}

    def going_on(event: "Event") -> None:
        now, done = time.monotonic(), event.done + event.share
        if now - state["said"] < EVERY or not event.total or done >= event.total:
            return
        state["said"], made = now, done - state["skipped"]
        minutes = (now - state["start"]) / made * (event.total - done) / 60 if made > FIRST * event.total else None
        left = "" if minutes is None else f", about {minutes:.1f} min left"
        note(f"{event.stage}: {done:.1f} of {event.total}{left} ({event.text})")

    def listener(event: "Event") -> None:
        if event.kind == "note":
            note(event.text)
        elif event.kind == "stage":
            state.update(tokens=0, start=time.monotonic(), said=time.monotonic(), skipped=0)
            if not event.total:
                note(f"{event.stage}: {event.text}")
        elif event.kind == "part":
            going_on(event)
        elif event.kind == "unit":
            state["tokens"] += event.tokens
            state["skipped"] += event.skipped
            going_on(event)
            if event.done == event.total:
                seconds = time.monotonic() - state["start"]
                there = f", {state['skipped']:.0f} were there" if state["skipped"] else ""
                rate = rate_text(int(state["tokens"]), seconds)
                note(f"{event.stage}: {event.total} done in {seconds:.1f} s{there}{', ' + rate if rate else ''}")

    return listener


def quiet_models() -> None:
    """Switch off progress bars and advice of the model library, once it is imported."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if transformers.utils.logging.get_verbosity() >= transformers.utils.logging.ERROR:
        warnings.filterwarnings("ignore")
