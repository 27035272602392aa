"""Rows of a user's file, and what a mapping of columns takes from them: one clear error for each mistake."""

import csv
import io
import math
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, urlsplit

from phaselens.batteries.file_text import PARQUET, beginning, parsed, read_text
from phaselens.errors import InputError, PromptError, StudyFileError, UnknownNameError, missing_extra, unknown_name

# What a field is taken from: a column, a template over columns such as "Q: {question}", or a list of columns.
Columns = Mapping[str, str | Sequence[str]]
HUB = "hf:/"  # as a path hf:// has lost a slash
SAVED = ("dataset_info.json", "dataset_dict.json")
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """One record of a file: `number` counts lines (items in a JSON list) from 1, `place` says it in words."""

    number: int
    place: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Table:
    """The rows of a file and the names of its columns, also of those that no row fills."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def read_table(path: str | Path, encoding: str = "utf-8") -> Table:
    """The records of a file, by its suffix: .csv and .tsv with a header, .json (a list), .txt (lines), else JSON Lines.

    A Parquet file, a folder saved by Hugging Face `datasets`, and `hf://datasets/OWNER/NAME?split=...` are read too.
    A CSV whose header has semicolons and no comma is parted by them; TSV knows no quotes. Empty cells and lines go.

    Raises:
        StudyFileError: not there, not readable, another encoding, or a line is wrong; says which line.

    """
    saved = _saved(path)
    if saved is not None:
        return saved
    path, header = Path(path), list[str]()
    text = read_text(path, encoding)
    match path.suffix.lower():
        case ".csv":
            mark = ";" if ";" in (first := text.partition("\n")[0]) and "," not in first else ","
            rows = list(_delimited(path, text, mark, csv.QUOTE_MINIMAL, header))
        case ".tsv":
            rows = list(_delimited(path, text, "\t", csv.QUOTE_NONE, header))
        case ".json":
            rows = list(_items(path, text))
        case ".txt":
            lines = enumerate(text.split("\n"), start=1)
            rows = [Row(n, f"line {n}", {"text": line.rstrip("\r")}) for n, line in lines if line.strip()]
        case _:
            rows = list(_lines(path, text))
    if not rows:
        raise StudyFileError(f"{path} has no prompts: no row was found in it.")
    return Table(path, tuple(dict.fromkeys(header or (name for row in rows for name in row.values))), tuple(rows))


def _saved(path: str | Path) -> Table | None:
    """The rows of a Parquet file or of a data set of Hugging Face; None for anything else."""
    given, name = Path(path), str(path)
    if name.startswith(HUB) or any((given / kept).is_file() for kept in SAVED):
        columns, records = _data_set(name)
    elif beginning(given).startswith(PARQUET):
        import pyarrow.parquet

        try:
            found = pyarrow.parquet.read_table(given)
        except (OSError, pyarrow.ArrowException) as error:
            why = str(error).splitlines()[0]
            raise StudyFileError(f"{path} is a Parquet file that cannot be read: {why}.") from error
        columns, records = found.column_names, found.to_pylist()
    else:
        return None
    if not records:
        raise StudyFileError(f"{path} has no prompts: no row was found in it.")
    rows = (_object(given, number, f"row {number}", record) for number, record in enumerate(records, start=1))
    return Table(given, tuple(columns), tuple(rows))


def _data_set(name: str) -> tuple[list[str], list[dict[str, object]]]:
    """Columns and records of a folder of `datasets`, or of a data set on the Hub."""
    try:
        import datasets
    except ModuleNotFoundError as error:
        raise missing_extra("A saved data set", "datasets", "bridges") from error
    try:
        if name.startswith(HUB):
            place = urlsplit(name.removeprefix(HUB).lstrip("/").removeprefix("datasets/"))
            how = {key: values[0] for key, values in parse_qs(place.query).items()}
            found = datasets.load_dataset(place.path, how.get("name"), split=how.get("split"))
        else:
            found = datasets.load_from_disk(name)
    except Exception as error:  # the library raises errors of many kinds
        raise StudyFileError(f"{name} is no data set that can be read: {str(error).splitlines()[0]}") from error
    if isinstance(found, dict):
        raise StudyFileError(f"{name} has the splits {', '.join(found)}: give one of them (its folder, or ?split=...).")
    return list(found.column_names), found.to_list()


def mapped(table: Table, columns: Columns | None, fields: Sequence[str]) -> Table:
    """The same rows with our field names: as `columns` says, or as they stand where it is None.

    With a mapping, columns that it does not name are left alone. Without one every column must be a field.

    Raises:
        StudyFileError: a field or column that is not known (says the nearest), or an empty column within a template.

    """
    try:
        if columns is None:
            for row in table.rows:
                _known(row.values, fields, f"{row.place}: ", "field")
            return table
        _known(columns, fields, "columns: ", "field")
        for source in columns.values():
            _known(_sources(source, table.columns), table.columns, "", "column")
    except UnknownNameError as error:
        raise StudyFileError(f"{table.path}, {error}") from error
    rows = build(table, lambda row: Row(row.number, row.place, _taken(row.values, columns)))
    return Table(table.path, tuple(columns), tuple(rows))


def build(table: Table, make: Callable[[Row], T]) -> list[T]:
    """`make` of every row; what it refuses is said with the place of the row.

    Raises StudyFileError.
    """
    out = []
    for row in table.rows:
        try:
            out.append(make(row))
        except InputError as error:
            raise StudyFileError(f"{table.path}, {row.place}: {error}") from error
    return out


def require_unique_ids(table: Table, ids: Sequence[str]) -> None:
    """Raise StudyFileError where two rows have one id; says where both stand."""
    seen: dict[str, Row] = {}
    for row, id_ in zip(table.rows, ids, strict=True):
        if id_ in seen:
            raise StudyFileError(
                f"{table.path}, {row.place}: the id {id_!r} occurs more than once (first at {seen[id_].place}); "
                "ids name prompts."
            )
        seen[id_] = row


def word(value: Any, name: str) -> str:
    """A cell as text: whole numbers without a decimal point.

    Raises PromptError for lists and tables.
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float) and math.isnan(value):
        raise PromptError(f"{name!r} is NaN, which names nothing: leave it out (null).")
    if isinstance(value, str | int | float):
        return str(value)
    raise PromptError(f"{name!r} is a {type(value).__name__}, wanted text or a number.")


def words(value: Any, name: str, separator: str | None = None) -> tuple[str, ...]:
    """A cell as several texts: a list (also as JSON) as it stands, text cut at a `separator`; without blank ones.

    Raises PromptError for a table, or a list that holds one.
    """
    if value is None:
        return ()
    if isinstance(value, str) and value.startswith('["') and value.endswith('"]'):
        value = parsed(value, name)
    cells = list(value) if isinstance(value, list | tuple) else [value]
    parts = [word(cell, name) for cell in cells if cell is not None]
    if separator:
        parts = [part for whole in parts for part in whole.split(separator)]
    return tuple(part.strip() for part in parts if part.strip())


def _delimited(path: Path, text: str, delimiter: str, quoting: Literal[0, 3], header: list[str]) -> Iterator[Row]:
    """Rows of CSV or TSV, and the names of its columns put into `header`.

    A record may span lines, and its place is its first one.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    start = 1
    try:
        for cells in reader:
            number, start = start, reader.line_num + 1
            if not header:
                header += _header(path, cells)
            elif cells and len(cells) != len(header):
                raise StudyFileError(
                    f"{path}, line {number}: {'more' if len(cells) > len(header) else 'fewer'} fields than the header "
                    f"has ({len(cells)}, not {len(header)}: {', '.join(header)}). Is a quote or a separator missing?"
                )
            elif cells:
                yield Row(number, f"line {number}", {k: v for k, v in zip(header, cells, strict=True) if v != ""})
    except csv.Error as error:
        raise StudyFileError(f"{path}, the record that starts at line {start}: {error}.") from error


def _header(path: Path, cells: list[str]) -> list[str]:
    twice = [name for name in cells if name and cells.count(name) > 1]
    if twice:
        raise StudyFileError(f"{path}, line 1: the column {twice[0]!r} occurs more than once.")
    return cells


def _lines(path: Path, text: str) -> Iterator[Row]:
    """Rows of JSON Lines; a bare string is a text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        yield _object(path, number, f"line {number}", parsed(line, f"{path}, line {number}"))


def _items(path: Path, text: str) -> Iterator[Row]:
    """Rows of a JSON list."""
    values = parsed(text, str(path))
    if not isinstance(values, list):
        raise StudyFileError(f"{path}: got a {type(values).__name__}, wanted a list of objects.")
    for number, value in enumerate(values, start=1):
        yield _object(path, number, f"item {number}", value)


def _object(path: Path, number: int, place: str, value: Any) -> Row:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict):
        raise StudyFileError(
            f'{path}, {place}: got a {type(value).__name__}, wanted an object such as {{"text": "..."}}.'
        )
    return Row(number, place, {k: v for k, v in value.items() if v is not None})


def _known(got: Mapping[str, object] | Sequence[str], known: Sequence[str], where: str, kind: str) -> None:
    """Raise UnknownNameError for the first name that is not known."""
    for name in got:
        if name not in known:
            raise UnknownNameError(f"{where}{unknown_name(kind, name, known)}")


def _sources(source: str | Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that a source names. A column whose own name has braces in it is itself, not a template."""
    if not isinstance(source, str):
        return list(source)
    if source in names or "{" not in source:
        return [source]
    try:
        return [field for _, field, _, _ in string.Formatter().parse(source) if field is not None]
    except ValueError as error:
        raise UnknownNameError(f"the template {source!r} cannot be read: {error}.") from error


def _taken(values: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The fields of one row; those without a value are left out."""
    taken = {}
    for field, source in columns.items():
        if not isinstance(source, str):
            value: Any = [values[name] for name in source if name in values] or None
        elif source in values or "{" not in source:
            value = values.get(source)
        else:
            value = _filled_in(source, values)
        if value is not None:
            taken[field] = value
    return taken


def _filled_in(template: str, values: Mapping[str, Any]) -> str:
    """The template with the row's values in it."""
    parts = []
    for literal, field, _, _ in string.Formatter().parse(template):
        parts.append(literal)
        if field is not None:
            if field not in values:
                raise PromptError(f"the column {field!r}, which {template!r} needs, is empty.")
            parts.append(word(values[field], field))
    return "".join(parts)
