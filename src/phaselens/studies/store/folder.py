"""The folder of a study: whose it is, who works in it now, and its diary.

All clock times stand in log.jsonl; every other file depends on the study alone.
"""

import contextlib
import json
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from phaselens.errors import OutputError
from phaselens.studies.store.registration import with_own
from phaselens.trace.store import atomic_write, digest, sweep

if TYPE_CHECKING:
    from phaselens.studies.declaration import Study

DECLARATION, MANIFEST, LOG, LOCK = "study.toml", "manifest.json", "log.jsonl", ".lock"


def pretty_json(value: Any) -> str:
    """JSON for people and machines: indented, in the order given, no NaN, a newline at the end."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


@contextlib.contextmanager
def opened(out: str | Path, study: "Study") -> Iterator[Path]:
    """The folder `out`, made if it is not there, held by this process, and known to be of this `study`.

    What a killed process left half written is removed. Raises OutputError where the place cannot be written, belongs to
    another study or to something else, or another process works in it; says which.
    """
    folder = Path(out)
    with held(folder):
        _check_owner(folder, study)
        sweep(folder)
        atomic_write(folder / DECLARATION, study.to_toml())
        yield folder


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder (made if it is not there) for this process; the system lets go when it dies, however it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}. Choose another --out.") from error
    path = folder / LOCK
    try:
        import fcntl
    except ImportError:  # a system without advisory locks: nothing to hold
        yield
        return
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"cannot write in {folder}: {error.strerror}. Choose another --out.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(handle, 32).decode(errors="replace").strip() or "unknown"
            raise OutputError(
                f"another process (pid {owner}) is working in {folder}. Wait for it, or choose another --out."
            ) from error
        os.ftruncate(handle, 0)
        os.write(handle, f"{os.getpid()}\n".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(handle)


def _check_owner(folder: Path, study: "Study") -> None:
    """See that the folder is empty or of this study."""
    declaration = folder / DECLARATION
    if not declaration.is_file():
        strange = sorted(p.name for p in folder.iterdir() if p.name != LOCK and not p.name.startswith("."))
        if strange:
            raise OutputError(
                f"{folder} is not empty and holds no study (it has {', '.join(strange[:3])}). Choose another --out."
            )
        return
    try:
        theirs = tomllib.loads(declaration.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"{declaration} cannot be read ({error}). Choose another --out.") from error
    ours = study.declaration()
    if digest(theirs) != digest(ours):
        differs = sorted(k for k in {*theirs, *ours} if theirs.get(k) != ours.get(k))
        raise OutputError(
            f"{folder} belongs to another study, {theirs.get('name', 'without a name')!r}: it differs in "
            f"{', '.join(differs)}. Choose another --out, or remove that folder."
        )


def begin(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest before the first token, the study's own claims among those it registers.

    A folder begun under other claims is refused.

    Raises OutputError where the claims were changed since the folder was begun: claims come before data.
    """
    path = folder / MANIFEST
    if path.is_file():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OutputError(f"{path} cannot be read ({error}). Choose another --out.") from error
        if before.get("claims_lock") != manifest["claims_lock"]:
            raise OutputError(
                f"{folder} was begun under other claims (lock {str(before.get('claims_lock'))[:12]}, now "
                f"{manifest['claims_lock'][:12]}). Claims come before data: begin a new folder with another --out."
            )
    declared = tomllib.loads((folder / DECLARATION).read_text(encoding="utf-8"))
    atomic_write(path, pretty_json(with_own(manifest, declared)))


def log(folder: Path, what: str, **facts: Any) -> None:
    """Add one line with the time to log.jsonl; raises OutputError where the disk is full."""
    line = json.dumps({"time": round(time.time(), 3), "what": what, **facts}, ensure_ascii=False)
    try:
        with open(folder / LOG, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise OutputError(
            f"cannot write {folder / LOG}: {error.strerror}. Finished files are kept; make room and run the same "
            "command again: it resumes there."
        ) from error
