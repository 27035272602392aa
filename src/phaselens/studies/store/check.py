"""Is a folder what was written? The seals of all its files, the hashes of its results, and what should be there."""

import hashlib
import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from phaselens.errors import StudyFileError
from phaselens.studies.store.folder import CLAIMS, DECLARATION, LOG, MANIFEST, RESULTS
from phaselens.studies.store.record import PANEL, read_record
from phaselens.trace.seal import file_fits, is_sound, json_bytes, read_json
from phaselens.trace.store import atomic_write, digest, require_sound, trace_paths

HASHES = f"{RESULTS}/sha256.json"
SEALED = (".parquet", ".safetensors", ".jsonl")


@dataclass(frozen=True)
class Problem:
    """One file of a folder that is not what was written, and how that shows."""

    file: str
    what: str


def write_hashes(folder: Path) -> None:
    """Write `results/sha256.json`: the hash of the ledger and of every file of `results`, once all stand there."""
    files = [folder / CLAIMS, *sorted(p for p in (folder / RESULTS).iterdir() if p.name != Path(HASHES).name)]
    atomic_write(folder / HASHES, json_bytes({p.relative_to(folder).as_posix(): _sha256(p) for p in files}))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def edited(folder: Path) -> dict[str, str]:
    """Results, ledger and manifest that are not what the analysis wrote, each with a sentence; cheap enough to ask.

    Nothing is said of folders without `results/sha256.json`: earlier versions, and analyses that were not finished.
    """
    out = {}
    if (folder / MANIFEST).is_file() and file_fits(folder / MANIFEST) is False:
        out[MANIFEST] = f"{MANIFEST} was edited or damaged since it was written: what it says was not registered."
    elif (problem := _declaration_changed(folder)) is not None:
        out[problem.file] = problem.what
    if not (folder / HASHES).is_file():
        return out
    try:
        hashes = read_json(folder / HASHES)
    except (StudyFileError, ValueError):
        return out | {HASHES: f"{HASHES} is not what was written, so nothing says whether the verdicts are."}
    for name, wanted in hashes.items():
        if not (folder / name).is_file():
            out[name] = f"{name} is gone since it was written."
        elif _sha256(folder / name) != wanted:
            out[name] = f"{name} was edited or damaged since it was written. `phaselens run --from DIR` makes it again."
    return out


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


def _declaration_changed(folder: Path) -> Problem | None:
    """The declaration of a study against the hash in its manifest; None where there is nothing to say."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        declared = tomllib.loads((folder / DECLARATION).read_text(encoding="utf-8"))
        if "analysis" in manifest or digest(declared) == manifest["study"].get("hash"):
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Problem(MANIFEST, f"it or {DECLARATION} cannot be read ({error}).")
    return Problem(DECLARATION, f"{DECLARATION} was changed since the study was begun: its claims were not registered.")


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
