"""The folder of a study: whose it is, who works in it now, and its diary.

All clock times stand in log.jsonl; every other file depends on the study alone.
"""

import contextlib
import json
import os
import time
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from phaselens.errors import OutputError
from phaselens.studies.store.registration import with_own
from phaselens.trace.result_hashes import DECLARATION, MANIFEST, RESULTS
from phaselens.trace.seal import fits, is_sound, json_bytes
from phaselens.trace.store import HOST, atomic_write, digest, ended, read_table, sweep

if TYPE_CHECKING:
    from phaselens.studies.declaration import Study

LOG, LOCK = "log.jsonl", ".lock"
DYING = 10.0  # seconds that workers of a killed process have to end


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
    try:
        import fcntl
    except ImportError:  # a system without advisory locks: nothing to hold
        yield
        return
    handle = _locked(folder / LOCK, fcntl)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        os.close(handle)


def _locked(path: Path, fcntl: ModuleType) -> int:
    """An open, locked file that stands at `path`.

    One that was unlinked between opening and locking locks nothing that others could find, so it is opened again.
    Workers that were forked hold it too, as they write; those of a killed process die with it, which is waited for.
    """
    until = time.monotonic() + DYING
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise OutputError(f"cannot write in {path.parent}: {error.strerror}. Choose another --out.") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(handle), os.stat(path)):
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()} on {HOST}\n".encode())
                return handle
        except FileNotFoundError:
            pass
        except OSError as error:
            owner = os.read(handle, 80).decode(errors="replace").strip() or "unknown"
            os.close(handle)
            pid, _, host = owner.partition(" on ")
            if host == HOST and pid.isdigit() and ended(int(pid)) and time.monotonic() < until:
                time.sleep(0.05)
                continue
            raise OutputError(
                f"another process (pid {owner}) is working in {path.parent}. Wait for it, or choose another --out."
            ) from error
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


def own(folder: Path, name: str, mine: Mapping[str, Any], what: str) -> None:
    """Write whose the folder is (its `key`, else all of it) to its file `name`; raises OutputError for another's.

    A folder that holds nothing but that file is nobody's: what began in it failed before its first result.
    """
    path, plain = folder / name, json.loads(pretty_json(mine))
    others = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p != path)
    if others and not path.is_file():
        raise OutputError(f"{folder} is not empty (it has {others[0]}). Choose another --out.")
    if others:
        theirs = json.loads(path.read_text(encoding="utf-8"))
        if theirs.get("key", theirs) != plain.get("key", plain):
            raise OutputError(f"{folder} holds {what}. Choose another --out.")
        return
    atomic_write(path, pretty_json(mine))


BACK = "Put a copy of it back; without one, begin the study in a new folder: `phaselens run DIR/study.toml --out NEW`."


def _has_data(folder: Path) -> bool:
    return any((folder / "transcripts").glob("*.jsonl"))


def _registered(path: Path) -> dict[str, object]:
    """The manifest of a folder that goes on. Raises OutputError where it cannot be read or was edited."""
    try:
        data = path.read_bytes()
        found = json.loads(data)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path} cannot be read ({error}). {BACK}") from error
    if fits(data) is False or not isinstance(found, dict):
        raise OutputError(f"{path} is not what was written: it was edited or damaged. {BACK}")
    return found


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What of the prompts, the calibration prompts and the models is not what was registered, in words."""
    out = []
    texts = [m["study"].get("sha256") for m in (before, now)]
    for what, name in (("prompts", "prompts"), ("calibration", "calibration prompts"), ("pairs", "minimal pairs")):
        if all(texts):
            out += _changes(name, *(each.get(what, {}) for each in texts))
    prints = ({row["name"]: row.get("fingerprint") for row in m.get("models", ())} for m in (before, now))
    return out + _changes("models", *prints)


def _changes(what: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names that are gone, new, or changed."""
    found = {
        "gone": [n for n in old if n not in new],
        "new": [n for n in new if n not in old],
        "changed": [n for n in old if n in new and old[n] != new[n]],
    }
    return [
        f"{len(names)} of the {what} {word} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for word, names in found.items()
        if names
    ]


def begin(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest before the first token, the study's own claims among those it registers.

    Raises OutputError where the folder was begun under other claims, with other prompts, or with other weights of a
    model: what a study is about and what it claims come before its data.
    """
    path = folder / MANIFEST
    if path.is_file():
        before = _registered(path)
        if before.get("claims_lock") != manifest["claims_lock"]:
            raise OutputError(
                f"{folder} was begun under other claims (lock {str(before.get('claims_lock'))[:12]}, now "
                f"{manifest['claims_lock'][:12]}). Claims come before data: begin a new folder with another --out."
            )
        if (differs := _differences(before, manifest)) and _has_data(folder):
            raise OutputError(
                f"{folder} was begun with other data: {'; '.join(differs)}. What a study is about is registered before "
                "its data: put it back as it was, or begin a new folder with another --out."
            )
    elif _has_data(folder):
        raise OutputError(f"{folder} holds data and no {MANIFEST}, so what was registered is not known. {BACK}")
    declared = tomllib.loads((folder / DECLARATION).read_text(encoding="utf-8"))
    atomic_write(path, json_bytes(with_own(manifest, declared)))


def require_no_fewer(folder: Path, models: Collection[str], failed: Sequence[Mapping[str, str]]) -> None:
    """See that results which stand in the folder are not of more models than those that would replace them.

    Raises OutputError with who is missing and why: nothing is written over without being asked.
    """
    panel = folder / RESULTS / "panel.parquet"
    if not is_sound(panel):
        return
    gone = sorted(set(read_table(panel, ["model"]).column(0).to_pylist()) - set(models))
    if gone:
        why = "; ".join(f"{f['model']}: {f['reason']}" for f in failed if f["model"] in gone)
        raise OutputError(
            f"{folder} has results of models that this run would leave out: {', '.join(gone)}"
            f"{f' ({why})' if why else ''}. They stay as they are. See to these models and run the same command again; "
            "--fewer writes results without them."
        )


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
