"""What a page knows before the first run, and the one file that keeps chosen runs without a server."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from phaselens.errors import InputError
from phaselens.trace.schema import LENS_SEPARATOR
from phaselens.trace.store import atomic_write
from phaselens.version import __version__
from phaselens.view.one_run import Reader, facts_of
from phaselens.view.run_table import Runs
from phaselens.web.pages import whole

MOST_KEPT = 50


def about(runs: Runs) -> dict[str, Any]:
    """Folders, columns with units and definitions, and the values that can be filtered by."""
    return {
        "version": __version__,
        "folders": list(dict.fromkeys(u.folder.resolve().name for u in runs.units)),
        "columns": {t: [facts_of(c) for c in found.values()] for t, found in runs.described.items()},
        "facets": runs.facets(),
        "all": len(runs),
    }


def keep(reader: Reader, places: Sequence[int], path: Path) -> Path:
    """Write chosen runs with all their columns (but those of further lenses) as one HTML file; return its path.

    Raises InputError for no run, more than 50, or one that is not there; OutputError where it cannot be written.
    """
    if not 0 < len(places) <= MOST_KEPT:
        raise InputError(f"a page keeps 1 to {MOST_KEPT} runs; got {len(places)}. Their numbers stand in the list.")
    found = []
    for at in dict.fromkeys(places):
        unit, _ = reader.runs.place(at)
        found.append(reader.run(at, [n for n in unit.described("layers") if LENS_SEPARATOR not in n]))
    page = whole("view", {"about": about(reader.runs), "runs": found})
    return atomic_write(path, page.html)
