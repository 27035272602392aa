"""Results, ledger and manifest of a study against the hashes that were written with them."""

import hashlib
import json
import tomllib
from pathlib import Path

from phaselens.errors import StudyFileError
from phaselens.trace.seal import file_fits, json_bytes, read_json
from phaselens.trace.store import atomic_write, digest

DECLARATION, MANIFEST, CLAIMS, RESULTS = "study.toml", "manifest.json", "claims.json", "results"
HASHES = f"{RESULTS}/sha256.json"


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
    elif (changed := _declaration_changed(folder)) is not None:
        out[changed[0]] = changed[1]
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


def _declaration_changed(folder: Path) -> tuple[str, str] | None:
    """The declaration of a study against the hash in its manifest; None where there is nothing to say."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        declared = tomllib.loads((folder / DECLARATION).read_text(encoding="utf-8"))
        if "analysis" in manifest or digest(declared) == manifest["study"].get("hash"):
            return None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return (MANIFEST, f"it or {DECLARATION} cannot be read ({error}).")
    return (DECLARATION, f"{DECLARATION} was changed since the study was begun: its claims were not registered.")
