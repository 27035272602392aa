"""Prompts from a user's file: JSON Lines or CSV."""

import csv
import json
from pathlib import Path
from typing import Any

from phaselens.batteries.battery import Battery, Prompt
from phaselens.errors import InputError, PromptError, StudyFileError, unknown_name

TEXT_KEYS = ("text", "prompt")
FIELDS = ("id", "text", "prompt", "category", "answer", "prompt_ids", "calibration")
FORM = 'Each line is like {"prompt": "..."} or {"id": "q1", "text": "...", "category": "factual", "answer": "..."}.'


def load_battery(path: str | Path) -> Battery:
    """A battery from a `.jsonl` or `.csv` file, by its suffix.

    Raises:
        StudyFileError: not there, not readable, or a line is wrong; says which line.

    """
    return load_csv(path) if Path(path).suffix.lower() == ".csv" else load_jsonl(path)


def load_jsonl(path: str | Path) -> Battery:
    """A battery from JSON Lines: rows `{"prompt": ...}` or `{"id", "text", "category", "answer"}`.

    A row may give `prompt_ids` (token ids) instead of text, and `"calibration": true`. Ids default to `p0001` and so on
    by line; blank lines are passed over.

    Raises:
        StudyFileError: not there, not UTF-8, or a line is wrong; says which line and what a line looks like.

    """
    path = Path(path)
    rows = []
    for number, line in enumerate(_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            where = f"{path}, line {number}"
            raise StudyFileError(f"{where}: not JSON ({error.msg}, column {error.colno}). {FORM}") from error
        if isinstance(row, str):
            row = {"text": row}
        if not isinstance(row, dict):
            raise StudyFileError(f"{path}, line {number}: got a {type(row).__name__}, wanted an object. {FORM}")
        rows.append((number, row))
    return _battery(path, rows)


def load_csv(path: str | Path) -> Battery:
    """A battery from CSV with a header: `prompt` or `text`, and optionally `id`, `category`, `answer`.

    Raises:
        StudyFileError: not there, not UTF-8, no such header, or a line is wrong; says which line.

    """
    path = Path(path)
    reader = csv.DictReader(_text(path).splitlines())
    if not set(TEXT_KEYS) & set(reader.fieldnames or ()):
        raise StudyFileError(f"{path}, line 1: no column 'prompt' or 'text' among {list(reader.fieldnames or ())}.")
    rows = []
    for row in reader:
        if None in row:
            raise StudyFileError(f"{path}, line {reader.line_num}: more fields than the header has.")
        rows.append((reader.line_num, {k: v for k, v in row.items() if v not in (None, "")}))
    return _battery(path, rows)


def _text(path: Path) -> str:
    """The text of `path`, or one clear error."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise StudyFileError(f"no such file: {path}.") from error
    except UnicodeDecodeError as error:
        raise StudyFileError(f"{path} is not UTF-8 text (byte {error.start}).") from error
    except OSError as error:
        raise StudyFileError(f"cannot read {path}: {error.strerror}.") from error


def _battery(path: Path, rows: list[tuple[int, dict[str, Any]]]) -> Battery:
    """Check rows and sort them into measured and calibration prompts."""
    if not rows:
        raise StudyFileError(f"{path} has no prompts. {FORM}")
    prompts, calibration = [], []
    for number, row in rows:
        try:
            prompt = _prompt(number, row)
        except InputError as error:
            raise StudyFileError(f"{path}, line {number}: {error}") from error
        (calibration if row.get("calibration") in (True, "true", "1") else prompts).append(prompt)
    try:
        return Battery(name=path.stem, prompts=tuple(prompts), calibration=tuple(calibration))
    except InputError as error:
        raise StudyFileError(f"{path}: {error}") from error


def _prompt(number: int, row: dict[str, Any]) -> Prompt:
    """One prompt from one row."""
    for key in row:
        if key not in FIELDS:
            raise unknown_name("field", key, FIELDS)
    given = [key for key in TEXT_KEYS if key in row]
    if len(given) == 2:
        raise PromptError("both 'prompt' and 'text' are given; one of them is enough.")
    text = row[given[0]] if given else ""
    if not isinstance(text, str):
        raise PromptError(f"{given[0]!r} is a {type(text).__name__}, wanted text. {FORM}")
    ids = row.get("prompt_ids")
    if ids is not None and not (isinstance(ids, list) and all(type(i) is int and i >= 0 for i in ids)):
        raise PromptError("'prompt_ids' must be a list of token ids (whole numbers from 0).")
    if not text and not ids:
        raise PromptError(f"the prompt is empty. {FORM}")
    answer = row.get("answer")
    return Prompt(
        id=str(row.get("id", f"p{number:04d}")),
        text=text,
        category=str(row.get("category") or ""),
        answer=None if answer is None else str(answer),
        token_ids=None if ids is None else tuple(ids),
    )
