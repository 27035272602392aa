"""What a user's file is, told by its first bytes, and its text or JSON: one clear line for everything else."""

import json
from pathlib import Path

from phaselens.errors import PromptError, StudyFileError, require_text

PARQUET, ZIP = b"PAR1", b"PK\x03\x04"
# What files that are no text begin with.
BEGINNINGS = {
    PARQUET: "a Parquet file",
    ZIP: "a ZIP archive (.npz, .eval and .xlsx are such)",
    b"\x93NUMPY": "a NumPy array",
    b"GGUF": "model weights (GGUF)",
    b"ARROW1": "an Arrow file",
    b"\x1f\x8b": "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a Zstandard archive",
    b"SQLite format 3": "an SQLite database",
    b"%PDF": "a PDF",
    b"\x89PNG": "a PNG image",
    **{bytes((0x80, version)): "a Python pickle, which can run code and is never read" for version in range(2, 6)},
}


def beginning(path: Path) -> bytes:
    """The first bytes of a file. Raises StudyFileError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(64)
    except FileNotFoundError as error:
        raise StudyFileError(f"no such file: {_short(path)}.") from error
    except (OSError, ValueError) as error:
        raise StudyFileError(f"cannot read {_short(path)}: {getattr(error, 'strerror', error)}.") from error


def what_it_is(head: bytes) -> str | None:
    """What a file that begins so is, in words; None where it may be text."""
    if len(head) > 8 and head[8:9] == b"{" and head[3:8] == b"\0" * 5:
        return "tensors (safetensors)"
    if head.startswith(ZIP) and b"/data.pkl" in head:
        return "pickled tensors of PyTorch, which can run code and are never read"
    return next((name for start, name in BEGINNINGS.items() if head.startswith(start)), None)


def read_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of `path`; raises StudyFileError with one clear line where it cannot be read."""
    kind = what_it_is(beginning(path))
    if kind is not None:
        raise StudyFileError(f"{path} is {kind}, wanted text.")
    try:
        with path.open(encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="") as file:
            return file.read()
    except UnicodeError as error:
        at = f" (byte {error.start})" if isinstance(error, UnicodeDecodeError) else ""
        raise StudyFileError(
            f"{path} is not {encoding.upper()} text{at}. Save it as UTF-8, or in Python say its encoding, "
            'such as encoding="latin-1".'
        ) from error
    except LookupError as error:
        raise StudyFileError(f"cannot read {path}: there is no encoding {encoding!r}.") from error


def parsed(text: str, where: str) -> object:
    """A JSON value; NaN and infinity are read as the numbers they are and refused where a name is wanted.

    Raises StudyFileError for what is no JSON, brackets nested too deeply, numbers of thousands of digits, and texts
    with half a surrogate pair.
    """
    try:
        value = json.loads(text)
        if "\\u" in text:
            require_text(json.dumps(value, ensure_ascii=False), "the text")
        return value
    except RecursionError:
        raise StudyFileError(f"{where}: brackets are nested too deeply to be data.") from None
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}" if error.lineno > 1 else ""
        raise StudyFileError(f"{where}{line}: not JSON ({error.msg}, column {error.colno}).") from error
    except PromptError as error:
        raise StudyFileError(f"{where}: {error}") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise StudyFileError(f"{where}: a number has too many digits to be read.") from error


def _short(path: Path) -> str:
    name = str(path)
    return name if len(name) <= 300 else f"{name[:80]}... ({len(name):,} characters)"
