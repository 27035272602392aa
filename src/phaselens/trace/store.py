"""The only opener of trace files, and the one way any file of a study is written.

A file is written under a temporary name, flushed to the disk and renamed, so a killed process leaves whole files or
none. Parquet bytes depend on the content alone: no clock, no machine. Units and definitions ride in the metadata of the
fields; schema version and unit of work ride in the metadata of the file, which is sealed (`trace.seal`): whatever is
read is seen to be what was written.
"""

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from phaselens.errors import OutputError, StudyFileError
from phaselens.trace.schema import SCHEMA_VERSION, TABLES, validate
from phaselens.trace.seal import AGAIN, SEAL, DamagedFile, arrays_bytes, file_fits, is_sound, read_arrays, sealed
from phaselens.trace.trace import Trace

TEMPORARY = ".part"
META_KEY, SEAL_KEY = b"phaselens", "phaselens.seal"
HOST = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40] or "host"
OLD = 24 * 3600.0  # seconds after which a temporary file is nobody's, though a process has its pid again
# `runs` comes last: it is there only when everything before it is.
WRITE_ORDER = ("layers", "steps", "runs")
ROWS = 1 << 18  # of a row group


def atomic_write(path: str | Path, data: bytes | str | Callable[[BinaryIO], object]) -> Path:
    """Write `data` to `path`, whole or not at all; return the path.

    `data` is bytes, text (UTF-8), or a function that is handed the open binary file. On any failure the temporary file
    is removed and what stood at `path` before stays as it was.

    Raises:
        OutputError: the place cannot be written or is full; says that finished files are kept and a re-run resumes.

    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{HOST}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY}")
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
    """Remove temporary files under `folder` that killed processes of this machine left; return how many.

    Those of other machines, and of processes that live, stay: they may be writing. After a day none is.
    """
    left = [path for path in Path(folder).rglob(f".*{TEMPORARY}") if _abandoned(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def ended(pid: int) -> bool:
    """Whether this machine has no process of that number any more, or one that is dead and that nobody buried."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's process
        pass
    with contextlib.suppress(OSError, IndexError):  # containers whose first process buries nobody keep its number
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


def _abandoned(path: Path) -> bool:
    """Whether nobody writes this temporary file any more."""
    *_, host, pid, _, _ = ("", "", "", *path.name.split("."))
    if host != HOST or not pid.isdigit():
        return False
    if ended(int(pid)):
        return True
    with contextlib.suppress(OSError):  # it was renamed meanwhile
        return time.time() - path.stat().st_mtime > OLD
    return False


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """Sha256 of the canonical JSON of `value`, in hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def table_bytes(table: pa.Table, facts: Mapping[str, Any]) -> bytes:
    """Sealed Parquet bytes of `table`, with `facts` as JSON in the metadata of the file; equal input, equal bytes."""
    sink = io.BytesIO()
    plain = [f.name for f in table.schema if pa.types.is_floating(f.type)]
    table = table.replace_schema_metadata({META_KEY: canonical_json(facts).encode()})
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in table.column_names if name not in plain],
        # Bounds of a page leave NaN out, and readers that trust them give wrong answers (DuckDB issue 25521).
        write_statistics=[name for name in table.column_names if name not in plain],
        version="2.6",
    ) as writer:
        writer.write_table(table, row_group_size=ROWS)
        writer.add_key_value_metadata({SEAL_KEY: SEAL})  # after the schema, so that it is the last mark in the file
    return sealed(sink.getvalue())


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
        atomic_write(hidden_path(folder, unit), arrays_bytes(trace.hidden, facts))
    for name in WRITE_ORDER:
        table = trace.table(name)
        own: dict[str, Any] = {"table": name}
        if name == "runs":
            own["meta"] = trace.meta
        atomic_write(paths[name], table_bytes(table, {**facts, **own}))
    return paths


def read_facts(path: str | Path) -> dict[str, Any]:
    """The facts in the metadata of a Parquet file of ours, without reading its rows.

    Raises:
        StudyFileError: there is no such file, or it is no Parquet file of ours.

    """
    path = Path(path)
    try:
        found = (pq.read_schema(path).metadata or {}).get(META_KEY)
        facts = None if found is None else json.loads(found)
    except (OSError, ValueError, pa.ArrowException) as error:
        if is_sound(path) or not path.is_file() or file_fits(path) is None:
            raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error
        raise DamagedFile(f"{path} is not what was written: its SHA-256 does not fit its bytes. {AGAIN}") from error
    if facts is None:
        raise StudyFileError(f"{path} is a Parquet file, but not one that phaselens wrote.")
    if facts.get("schema_version", 0) > SCHEMA_VERSION:
        raise StudyFileError(
            f"{path} has schema version {facts['schema_version']}, this phaselens reads up to {SCHEMA_VERSION}: "
            "upgrade it."
        )
    return facts


def require_sound(path: Path) -> None:
    """See that a Parquet file is what was written; files from before the seal have a hash of their content instead.

    Raises DamagedFile, naming the file, where it is not; StudyFileError where it is not there.
    """
    try:
        fit = file_fits(path)
    except OSError as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error
    if fit is None:
        content = read_facts(path).get("content")
        fit = content is not None and content_hash(pq.read_table(path, partitioning=None)) == content
    if not fit:
        raise DamagedFile(f"{path} is not what was written: its SHA-256 does not fit its bytes. {AGAIN}")


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


def read_table(path: str | Path, columns: Sequence[str] | None = None, *, verify: bool = True) -> pa.Table:
    """Any Parquet table of a study; only `columns` where given.

    Raises:
        StudyFileError: it is not there, not readable, not what was written, or lacks a column.

    """
    path = Path(path)
    if verify:
        require_sound(path)
    try:
        schema = pq.read_schema(path)
        missing = sorted(set(columns or ()) - set(schema.names))
        if missing:
            raise StudyFileError(f"{path} has no column {', '.join(missing)}; it has {', '.join(schema.names)}.")
        return pq.read_table(path, columns=None if columns is None else list(columns), partitioning=None)
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error


@dataclass(frozen=True, eq=False)
class StoredColumns:
    """A Parquet table of a study, its columns read one by one: no file stays open, footers of few are kept."""

    path: Path
    names: tuple[str, ...]

    @property
    def footer(self) -> pq.FileMetaData:
        """What the file says of its columns and row groups."""
        return _footer(self)

    def read(self, name: str) -> np.ndarray:
        """One column; a measure is float32. Raises StudyFileError where it cannot be read."""
        try:
            with pq.ParquetFile(self.path, metadata=self.footer) as file:
                return file.read(columns=[name], use_threads=False).column(0).to_numpy()
        except (OSError, IndexError, pa.ArrowInvalid) as error:
            raise StudyFileError(f"cannot read column {name!r} of {self.path}: {error}.") from error

    def of_run(self, run: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of one run alone; only row groups that can hold it are read. Raises StudyFileError as `read`."""
        at = self.names.index("run")
        bounds = [self.footer.row_group(i).column(at).statistics for i in range(self.footer.num_row_groups)]
        groups = [i for i, b in enumerate(bounds) if b is None or not b.has_min_max or b.min <= run <= b.max]
        wanted = list(dict.fromkeys(("run", *names)))
        try:
            with pq.ParquetFile(self.path, metadata=self.footer) as file:
                rows = file.read_row_groups(groups, columns=wanted, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:
            raise StudyFileError(f"cannot read run {run} of {self.path}: {error}.") from error
        mine = rows.column("run").to_numpy() == run
        return {name: rows.column(name).to_numpy()[mine] for name in wanted}


def stored_columns(path: str | Path) -> StoredColumns:
    """A Parquet table of a study, none of its columns read yet, its bytes seen to be those that were written.

    Raises StudyFileError where it is not readable.
    """
    path = Path(path)
    require_sound(path)
    try:
        return StoredColumns(path, tuple(pq.read_schema(path).names))
    except (OSError, pa.ArrowInvalid) as error:
        raise StudyFileError(f"cannot read {path} as Parquet: {error}.") from error


@lru_cache(maxsize=128)  # of 100 KB and more each
def _footer(of: StoredColumns) -> pq.FileMetaData:
    return pq.read_metadata(of.path)


def read_trace(folder: str | Path, unit: str | None = None, *, hidden: bool = False, verify: bool = True) -> Trace:
    """The trace `unit` from `folder` (default: the only one there); hidden states only where `hidden` asks for them.

    `verify=False` leaves out the check that every file is what was written.

    Raises:
        StudyFileError: a file is missing, unreadable or not what was written; or `unit` is needed: there are several.

    """
    folder, unit = (Path(folder), unit) if unit is not None else _only_trace(Path(folder))
    paths = trace_paths(folder, unit)
    if verify:
        for path in paths.values():
            require_sound(path)
    meta = read_facts(paths["runs"])
    tables = {name: read_table(path, verify=False) for name, path in paths.items()}
    for name, table in tables.items():
        validate(name, table)
    kept = read_arrays(hidden_path(folder, unit))[0] if hidden and meta["has_hidden"] else None
    return Trace(meta=meta["meta"], hidden=kept, **tables)


def _only_trace(folder: Path) -> tuple[Path, str]:
    """Where the only trace of a folder stands (in it, or in its `traces`), and its name."""
    found = [p for place in (folder, folder / "traces") for p in sorted(place.glob("*.runs.parquet"))]
    names = [p.name.removesuffix(".runs.parquet") for p in found]
    if len(names) != 1:
        some = (
            f"{len(names)} traces ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''})" if names else "no trace"
        )
        raise StudyFileError(f"{folder} holds {some}: give the unit, read_trace(folder, unit).")
    return found[0].parent, names[0]


def is_valid(folder: str | Path, unit: str, key: str | None = None) -> bool:
    """Whether the trace `unit` is on disk, of this `key` (default: `unit`), and what was written, byte for byte."""
    for path in trace_paths(folder, unit).values():
        if not is_sound(path):
            return False
        try:
            facts = read_facts(path)
        except StudyFileError:
            return False
        if facts.get("key") != (key or unit) or facts.get("schema_version") != SCHEMA_VERSION:
            return False
    return not facts.get("has_hidden") or is_sound(hidden_path(folder, unit))
