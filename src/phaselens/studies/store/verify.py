"""Is a folder what was written? The seals of all its files, the hashes of its results, and what should be there."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phaselens.errors import StudyFileError
from phaselens.studies.store.folder import LOG
from phaselens.studies.store.panel_record import PANEL, read_record
from phaselens.trace.result_hashes import CLAIMS, HASHES, MANIFEST, RESULTS, edited
from phaselens.trace.seal import file_fits, is_sound
from phaselens.trace.store import require_sound, trace_paths

SEALED = (".parquet", ".safetensors", ".jsonl")


@dataclass(frozen=True)
class Problem:
    """One file of a folder that is not what was written, and how that shows."""

    file: str
    what: str


def problems(folder: Path) -> tuple[int, list[Problem]]:
    """How many files were looked at, and every one that is not what was written, or is not there.

    Raises StudyFileError where the place is no folder, or holds no file of ours.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix in SEALED and p.name != LOG and not p.name.startswith("."))
    if not files and not (folder / MANIFEST).is_file():
        raise StudyFileError(f"{folder} is not a folder with files of phaselens: nothing to verify.")
    found = [Problem(p.relative_to(folder).as_posix(), why) for p in files if (why := _why(p))]
    said = edited(folder)
    found += [Problem(name, what) for name, what in said.items() if name not in {p.file for p in found}]
    plain = [p for p in sorted(folder.glob("calibration/*.json")) if not is_sound(p)]
    found += [Problem(p.relative_to(folder).as_posix(), "its SHA-256 does not fit its bytes") for p in plain]
    if (folder / CLAIMS).is_file() and (folder / MANIFEST).is_file() and not (folder / HASHES).is_file():
        found.append(
            Problem(HASHES, f"is not there, so nothing says whether {CLAIMS} and {RESULTS} are what was written")
        )
    return len(files) + len(said), found + list(_of_study(folder))


def _why(path: Path) -> str:
    """What is wrong with one file; "": nothing."""
    try:
        if path.suffix == ".parquet":
            require_sound(path)
            return ""
        fit = file_fits(path)
    except (StudyFileError, OSError) as error:
        return str(error)
    if fit is None and path.suffix == ".jsonl" and '"phaselens_transcripts":1,' in _first_line(path):
        return ""  # from before the seal
    return "" if fit else "its SHA-256 does not fit its bytes"


def _first_line(path: Path) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline()


def _of_study(folder: Path) -> Iterator[Problem]:
    """Files of units that the study's record names and that are not there."""
    if not (folder / PANEL).is_file():
        return
    try:
        units = read_record(folder).units
    except StudyFileError as error:
        yield Problem(PANEL, str(error))
        return
    for unit in units:
        for file in (folder / unit.transcripts, *trace_paths(folder / "traces", unit.name).values()):
            if not file.is_file():
                yield Problem(file.relative_to(folder).as_posix(), f"is not there (unit of {unit.model})")
