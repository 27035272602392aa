"""What is wrong in a TOML file, in words: which line, which field, what was got and wanted, the nearest name."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from phaselens.errors import unknown_name

LONGEST_NAME = 1000


def mistake(error: Mapping[str, Any], text: str, parts: Mapping[str, type[BaseModel]], whole: type[BaseModel]) -> str:
    """One mistake of `whole` or one of its `parts` in words: line, field, what was got and wanted."""
    place = [str(part) for part in error["loc"]]
    field = ".".join(place) or "study"
    line = _line_of(text, place)
    at = f"line {line}, " if line else ""
    if error["type"] == "extra_forbidden":
        owner = _owner(place, parts, whole)
        return f"{at}{unknown_name('field', place[-1], owner.model_fields)}"
    if error["type"] == "missing":
        return f"{at}field {field!r} is missing."
    message = error["msg"].removeprefix("Value error, ").rstrip(".")
    got = error["input"]
    shown = f", got {got!r}" if isinstance(got, (str, int, float, bool)) else ""
    return f"{at}field {field!r}: {message[:1].lower()}{message[1:]}{shown}."


def _owner(place: list[str], parts: Mapping[str, type[BaseModel]], whole: type[BaseModel]) -> type[BaseModel]:
    """The record that the last name of `place` should be a field of."""
    inside = [part for part in place[:-1] if part in parts]
    return parts[inside[-1]] if inside else whole


def _line_of(text: str, place: list[str]) -> int | None:
    """The line where the field stands, by its last name that is a word; None where it cannot be told."""
    names = [part for part in place if not part.isdigit()]
    for name in reversed(names):
        if len(name) > LONGEST_NAME:  # compiling a pattern of megabytes takes longer than the whole check
            continue
        key = re.compile(rf"^\s*(?:\[\[?\s*)?[\"']?{re.escape(name)}[\"']?\s*(?:=|\.|\])")
        found = [i for i, line in enumerate(text.splitlines(), start=1) if key.match(line)]
        if found:
            nth = next((int(part) for part in place if part.isdigit()), 0)
            return found[min(nth, len(found) - 1)]
    return None
