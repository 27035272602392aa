"""Records of interventions as safetensors files, one for each model and kind, and read back without a model library."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from phaselens.errors import InputError, StudyFileError
from phaselens.interventions.outcome_records import KINDS, Acted, Counts, Found
from phaselens.trace.seal import arrays_bytes, is_sound, read_arrays
from phaselens.trace.store import atomic_write

FOLDER = "interventions"
FORM = 2  # of the records: one of another form is made again


def kept(path: Path, kind: str, name: str, make: Callable[[], Found]) -> bool:
    """Make the record of a model called `name` and write it to `path`, or pass over what is there; whether it was.

    What is there counts where it has the form of today's records.

    A model that cannot be asked (InputError) is written as refused with its reason, so that it is not tried again.
    """
    if is_sound(path) and read_arrays(path)[1].get("form") == FORM:
        return True

    try:
        arrays, facts = _plain(make())
    except InputError as error:
        arrays, facts = {"none": np.zeros(0)}, {"model": name, "refused": str(error)}
    atomic_write(path, arrays_bytes(arrays, {"kind": kind, "form": FORM, **facts}))
    return False


def _plain(record: Found) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of numbers by name (`field` or `field/key`), and all the rest as plain values."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    for one in fields(record):
        value = getattr(record, one.name)
        if isinstance(value, dict):
            arrays |= {f"{one.name}/{key}": np.ascontiguousarray(v) for key, v in value.items()}
        elif isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            arrays[one.name] = np.ascontiguousarray(value)
        elif value is not None:
            facts[one.name] = asdict(value) if isinstance(value, Counts) else _list(value)
    return dict(sorted(arrays.items())), facts


def _list(value: Any) -> Any:
    return (
        [v.item() if isinstance(v, np.generic) else v for v in value]
        if isinstance(value, (tuple, np.ndarray))
        else value
    )


def read_record(path: Path) -> tuple[str, Found | str, str]:
    """Kind, record (of a refused model the reason) and model of one file. Raises StudyFileError for another file."""
    arrays, facts = read_arrays(path)
    try:
        kind, form = facts.pop("kind"), facts.pop("form", 1)
        if form != FORM:
            raise ValueError(f"it has form {form} of the records, and this version reads form {FORM}")
        if "refused" in facts:
            return kind, str(facts["refused"]), str(facts["model"])
        return kind, KINDS[kind](**_fields(arrays, facts)), str(facts["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read: {error}. Delete it and run the same command again.") from error


def _fields(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {}
    for name, value in arrays.items():
        own, _, key = name.partition("/")
        if key:
            given.setdefault(own, {})[key] = value
        else:
            given[own] = value
    for name, value in facts.items():
        if name == "counts":
            given[name] = Counts(**value)
        elif isinstance(value, list):
            given[name] = np.array(value) if name == "units" else tuple(value)
        else:
            given[name] = value
    return given


def read_acted(paths: Iterable[Path]) -> dict[str, Acted]:
    """What was found, by model, of these files."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        kind, record, model = read_record(path)
        mine = found.setdefault(model, {"refused": {}})
        if isinstance(record, str):
            mine["refused"][kind] = record
        else:
            mine[kind] = record
    return {model: Acted(**parts) for model, parts in found.items()}
