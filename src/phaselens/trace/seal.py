"""Files that carry their own SHA-256: over all bytes, the 64 digits of the hash itself taken as zeros.

One rule for Parquet (its footer), safetensors (one metadata entry), JSON and JSON Lines (a first field): whoever reads
the bytes can see that they are those that were written. A seal tells damage and careless edits; it is no signature.
"""

import hashlib
import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from phaselens.errors import StudyFileError

MARK, NOTHING = b"phaselens-sha256-", b"0" * 64
SEAL = (MARK + NOTHING).decode()
META = "phaselens"
AGAIN = "Delete it and run the same command again: it is made anew."


class DamagedFile(StudyFileError):
    """A file of a study is not what was written: bytes of it changed, or it was edited."""


def _place(data: bytes | mmap.mmap) -> int:
    """Where the digits begin; -1: no seal. The seal stands in front of what users say, in Parquet behind it."""
    at = data.rfind(MARK) if data[:4] == b"PAR1" else data.find(MARK)
    return -1 if at < 0 or at + len(MARK) + len(NOTHING) > len(data) else at + len(MARK)


def _hash(data: bytes | mmap.mmap, at: int) -> bytes:
    view = memoryview(data)
    try:
        hasher = hashlib.sha256(view[:at])
        hasher.update(NOTHING)
        hasher.update(view[at + len(NOTHING) :])
    finally:
        view.release()
    return hasher.hexdigest().encode()


def sealed(data: bytes) -> bytes:
    """The same bytes with the seal `SEAL` in them filled in."""
    at = _place(data)
    return data[:at] + _hash(data, at) + data[at + len(NOTHING) :]


def fits(data: bytes | mmap.mmap) -> bool | None:
    """Whether the bytes are those that were sealed; None where there is no seal."""
    at = _place(data)
    return None if at < 0 else bytes(data[at : at + len(NOTHING)]) == _hash(data, at)


def file_fits(path: Path) -> bool | None:
    """The same of a file, without holding it in memory. Raises OSError where it cannot be read."""
    with open(path, "rb") as file:
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return fits(data)
        except ValueError:  # an empty file cannot be mapped
            return None


def read_sealed(path: str | Path) -> bytes:
    """The bytes of a sealed file. Raises DamagedFile where they are not what was written; names the file."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise StudyFileError(f"cannot read {path}: {error.strerror or error}.") from error
    if not fits(data):
        raise DamagedFile(f"{path} is not what was written: its SHA-256 does not fit its bytes. {AGAIN}")
    return data


def is_sound(path: Path) -> bool:
    """Whether the file is there and is what was written."""
    try:
        return bool(file_fits(path))
    except OSError:
        return False


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """An object as sealed JSON for people and machines: indented, no NaN, a newline at the end."""
    text = json.dumps({"seal": SEAL, **value}, indent=2, ensure_ascii=False, allow_nan=False)
    return sealed((text + "\n").encode())


def read_json(path: str | Path) -> dict[str, Any]:
    """The object of a sealed JSON file, without its seal. Raises DamagedFile."""
    return {k: v for k, v in json.loads(read_sealed(path)).items() if k != "seal"}


def arrays_bytes(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """Arrays with plain `facts` as sealed safetensors; one metadata entry, since the order of several is not fixed."""
    from safetensors.numpy import save

    said = json.dumps({"seal": SEAL, **facts}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    plain = {name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}
    return sealed(save(plain, metadata={META: said}))


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays, by name in rising order (the library has another one in every process), and facts of a sealed file.

    Raises DamagedFile.
    """
    from safetensors.numpy import load

    data = read_sealed(path)
    facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"][META])
    return dict(sorted(load(data).items())), {k: v for k, v in facts.items() if k != "seal"}
