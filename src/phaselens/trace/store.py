"""The only opener of trace files, and the one way any file of a study is written.

A file is written under a temporary name, flushed to the disk and renamed, so a killed process leaves whole files or
none. Parquet bytes depend on the content alone: no clock, no machine. Units and definitions ride in the metadata of the
fields; schema version, unit of work and a hash of the content ride in the metadata of the file.
"""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phaselens.errors import OutputError, StateError, StudyFileError
from phaselens.trace.schema import SCHEMA_VERSION, TABLES, validate
from phaselens.trace.trace import Trace

TEMPORARY = ".part"
META_KEY = b"phaselens"
# `runs` comes last: it is there only when everything before it is.
WRITE_ORDER = ("layers", "steps", "runs")


def atomic_write(path: str | Path, data: bytes | str | Callable[[BinaryIO], object]) -> Path:
    """Write `data` to `path`, whole or not at all; return the path.

    `data` is bytes, text (UTF-8), or a function that is handed the open binary file. On any failure the temporary file
    is removed and what stood at `path` before stays as it was.

    Raises:
        OutputError: the place cannot be written or is full; says that finished files are kept and a re-run resumes.

    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        reason = error.strerror or str(error)
        raise OutputError(
            f"cannot write {path}: {reason}. Files finished before it are kept and no partial file is left. "
            "Make room, or see that the folder is writable, and run the same command again: it resumes there."
        ) from error
    except BaseException:
        _remove(temporary)
        raise
    return path


def _remove(path: Path) -> None:
    """Remove a temporary file; that it cannot be removed must not hide why it was given up."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be synced."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # folders cannot be opened on Windows; the rename is still atomic there
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: str | Path) -> int:
    """Remove temporary files that a killed process left under `folder`; return how many."""
    left = [path for path in Path(folder).rglob(f".*{TEMPORARY}") if path.is_file()]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Sha256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def content_hash(table: pa.Table) -> str:
    """Sha256 of names, types and values of `table` (NaN counts as one value, null as another), in hex."""
    hasher = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name)
        hasher.update(f"{name}:{column.type}:{len(column)};".encode())
        if pa.types.is_string(column.type) or pa.types.is_boolean(column.type):
            hasher.update(canonical_json(column.to_pylist()).encode())
        else:
            hasher.update(np.ascontiguousarray(column.to_numpy()).tobytes())
    return hasher.hexdigest()


def table_bytes(table: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """Parquet bytes of `table` with `facts` as JSON in the metadata of the file; equal input gives equal bytes."""
    sink = io.BytesIO()
    plain = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    pq.write_table(
        table.replace_schema_metadata({META_KEY: canonical_json(facts).encode()}),
        sink,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in table.column_names if name not in plain],
        # Bounds of a page leave NaN out, and readers that trust them give wrong answers (DuckDB issue 25521).
        write_statistics=[name for name in table.column_names if name not in plain],
        version="2.6",
        row_group_size=1 << 18,
    )
    return sink.getvalue()


def write_table(path: str | Path, table: pa.Table, facts: Mapping[str, Any] | None = None) -> Path:
    """Write any Arrow table of a study to `path` as Parquet, whole or not at all."""
    return atomic_write(path, table_bytes(table, {"schema_version": SCHEMA_VERSION, **(facts or {})}))


def trace_paths(folder: str | Path, unit: str) -> dict[str, Path]:
    """Where the tables of the trace `unit` stand in `folder`."""
    return {name: Path(folder) / f"{unit}.{name}.parquet" for name in TABLES}


def hidden_path(folder: str | Path, unit: str) -> Path:
    """Where the hidden states of the trace `unit` stand in `folder`, if they were kept."""
    return Path(folder) / f"{unit}.hidden.safetensors"


def write_trace(trace: Trace, folder: str | Path, unit: str, key: str | None = None) -> dict[str, Path]:
    """Write `trace` as `UNIT.runs|steps|layers.parquet` (and `UNIT.hidden.safetensors`); return the paths.

    `key` is the hash of what the trace depends on (default: `unit`); `is_valid` asks for it. Equal traces give equal
    bytes.

    Raises:
        StateError: the trace is not well-formed.
        OutputError: the place cannot be written or is full; no partial file is left.

    """
    trace.validate()
    facts = {"schema_version": SCHEMA_VERSION, "unit": unit, "key": key or unit, "has_hidden": trace.hidden is not None}
    paths = trace_paths(folder, unit)
    if trace.hidden is not None:
        _write_hidden(hidden_path(folder, unit), trace.hidden, facts)
    for name in WRITE_ORDER:
        table = trace.table(name)
        own = {"table": name, "content": content_hash(table)}
        if name == "runs":
            own["meta"] = trace.meta
        atomic_write(paths[name], table_bytes(table, {**facts, **own}))
    return paths


def _write_hidden(path: Path, hidden: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Hidden states as safetensors; one metadata entry, since the order of several is not fixed."""
    from safetensors.numpy import save

    arrays = {name: np.ascontiguousarray(hidden[name]) for name in sorted(hidden)}
    atomic_write(path, save(arrays, metadata={"phaselens": canonical_json(facts)}))


def read_facts(path: str | Path) -> dict[str, Any]:
    """The facts in the metadata of a Parquet file of ours, without reading its rows.

    Raises:
        StudyFileError: there is no such file, or it is no Parquet file of ours.

    """
    path = Path(path)
    try:
        found = (pq.read_schema(path).metadata or {}).get(META_KEY)
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error
    if found is None:
        raise StudyFileError(f"{path} is a Parquet file, but not one that phaselens wrote.")
    facts = json.loads(found)
    if facts.get("schema_version", 0) > SCHEMA_VERSION:
        raise StudyFileError(
            f"{path} has schema version {facts['schema_version']}, this phaselens reads up to {SCHEMA_VERSION}: "
            "upgrade it."
        )
    return facts


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Any Parquet table of a study; only `columns` where given.

    Raises:
        StudyFileError: it is not there, not readable, or lacks a column.

    """
    path = Path(path)
    try:
        schema = pq.read_schema(path)
        missing = sorted(set(columns or ()) - set(schema.names))
        if missing:
            raise StudyFileError(f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}.")
        return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error


@dataclass(frozen=True)
class StoredColumns:
    """A Parquet table of a study, its columns read one by one: the footer is parsed once, no file stays open."""

    path: Path
    footer: pq.FileMetaData
    names: tuple[str, ...]

    def read(self, name: str) -> np.ndarray:
        """One column; a measure is float32. Raises StudyFileError where it cannot be read."""
        try:
            with pq.ParquetFile(self.path, metadata=self.footer) as file:
                return file.read(columns=[name], use_threads=False).column(0).to_numpy()
        except (OSError, IndexError, pa.ArrowInvalid) as error:
            raise StudyFileError(f"cannot read column {name!r} of {self.path}: {error}.") from error


def stored_columns(path: str | Path) -> StoredColumns:
    """A Parquet table of a study, none of its columns read yet. Raises StudyFileError where it is not readable."""
    path = Path(path)
    try:
        footer = pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error
    return StoredColumns(path, footer, tuple(footer.schema.to_arrow_schema().names))


def read_trace(folder: str | Path, unit: str, *, hidden: bool = False, verify: bool = False) -> Trace:
    """The trace `unit` from `folder`; hidden states only where `hidden` asks for them.

    `verify=True` also compares the content with the hash that was stored beside it.

    Raises:
        StudyFileError: a file is missing or unreadable.
        StateError: the content is not what was written.

    """
    paths = trace_paths(folder, unit)
    facts = {name: read_facts(path) for name, path in paths.items()}
    tables = {name: read_table(path) for name, path in paths.items()}
    for name, table in tables.items():
        validate(name, table)
        if verify and content_hash(table) != facts[name]["content"]:
            raise StateError(f"{paths[name]}: the content is not what was written. Delete it and run again.")
    kept = None
    if hidden and facts["runs"]["has_hidden"]:
        from safetensors.numpy import load_file

        kept = load_file(hidden_path(folder, unit))
    return Trace(meta=facts["runs"]["meta"], hidden=kept, **tables)


def is_valid(folder: str | Path, unit: str, key: str | None = None) -> bool:
    """Whether the trace `unit` is on disk, whole, and of this `key` (default: `unit`). Reads footers only.

    Files are renamed into place when they are whole, so a readable footer with the right key is enough.
    """
    for path in trace_paths(folder, unit).values():
        if not path.is_file():
            return False
        try:
            facts = read_facts(path)
        except StudyFileError:
            return False
        if facts.get("key") != (key or unit) or facts.get("schema_version") != SCHEMA_VERSION:
            return False
        if facts.get("has_hidden") and not hidden_path(folder, unit).is_file():
            return False
    return True
