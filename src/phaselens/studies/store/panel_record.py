"""What analyses need beside the traces, kept in the folder of a study: the panel as it was measured, and its units.

Whatever a stage before them knows and a trace does not say stands in `panel.json`, so that all analyses can be made
again from the folder alone, without a model.
"""

import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from phaselens.errors import StudyFileError
from phaselens.experiments import ModelInfo
from phaselens.experiments.result_tables import json_value
from phaselens.studies.store.folder import BACK, pretty_json
from phaselens.trace.result_hashes import DECLARATION, MANIFEST
from phaselens.trace.schema import SCHEMA_VERSION
from phaselens.trace.seal import DamagedFile, file_fits, json_bytes
from phaselens.trace.store import atomic_write, digest, read_facts, trace_paths

PANEL, UNITS = "panel.json", "units.json"
SHOWN = 4
# Facts of a model that may be undefined: NaN here, null in the file.
UNDEFINED = tuple(f.name for f in fields(ModelInfo) if isinstance(f.default, float))


@dataclass(frozen=True)
class UnitRecord:
    """One unit of work: whose, which prompts under which arm, and its files, as names inside the folder.

    `paired` marks the prompts of minimal pairs.
    """

    model: str
    arm: str
    calibration: bool
    prompts: tuple[str, ...]
    samples: int
    transcripts: str
    trace: str
    paired: bool = False

    @property
    def name(self) -> str:
        """The name of its trace in the folder `traces`."""
        return Path(self.trace).name


@dataclass(frozen=True)
class ModelRecord:
    """One model of the panel as it was measured.

    `entropy` is its mean output entropy on the calibration prompts at temperature 1 (nats; NaN: not measured), `lenses`
    those that are defined for it, `digit_tokens` the ids whose text has a digit (None: unknown), `word_start_tokens`
    those with which a word begins (None: unknown).
    """

    info: ModelInfo
    entropy: float
    lenses: tuple[str, ...]
    digit_tokens: frozenset[int] | None
    word_start_tokens: frozenset[int] | None = None


@dataclass(frozen=True)
class Pictured:
    """The run that is shown as a picture, and its tokens as text."""

    model: str
    transcripts: str
    trace: str
    run: int
    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """All that analyses need beside the traces: models, units, the common entropy, who failed, and the picture."""

    models: tuple[ModelRecord, ...]
    units: tuple[UnitRecord, ...]
    target: float
    failed: tuple[Mapping[str, str], ...]
    picture: Pictured | None

    def units_of(self, model: str) -> tuple[UnitRecord, ...]:
        """The units of one model, calibration first."""
        return tuple(u for u in self.units if u.model == model)


def write_record(folder: Path, record: Record) -> None:
    """Write `units.json` and `panel.json`; the same record gives the same bytes."""
    units = [{**asdict(u), "prompts": list(u.prompts)} for u in record.units]
    atomic_write(folder / UNITS, pretty_json(units))
    panel = {
        "schema_version": SCHEMA_VERSION,
        "units": digest(units),
        "target": json_value(record.target),
        "models": [_model_row(m) for m in record.models],
        "failed": [dict(f) for f in record.failed],
        "picture": None
        if record.picture is None
        else {**asdict(record.picture), "tokens": list(record.picture.tokens)},
    }
    atomic_write(folder / PANEL, json_bytes(panel))


def _model_row(model: ModelRecord) -> dict[str, object]:
    """One model as plain JSON values; ids of tokens as one line of text, since there may be thousands."""
    return {
        **{k: json_value(v) for k, v in asdict(model.info).items()},
        "entropy": json_value(model.entropy),
        "lenses": list(model.lenses),
        "digit_tokens": _line(model.digit_tokens),
        "word_start_tokens": _line(model.word_start_tokens),
    }


def _line(ids: frozenset[int] | None) -> str | None:
    return None if ids is None else " ".join(str(i) for i in sorted(ids))


def _ids(line: str | None) -> frozenset[int] | None:
    return None if line is None else frozenset(int(i) for i in line.split())


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _analysed(version: object) -> bool:
    """Whether traces of this schema version are analysed: each version only adds columns of runs."""
    return version in range(1, SCHEMA_VERSION + 1)


def read_record(folder: Path) -> Record:
    """The record of a folder. Raises StudyFileError where it is not there or is no record of ours; says what to do."""
    panel, units = (_document(folder, name) for name in (PANEL, UNITS))
    try:
        if not _analysed(panel["schema_version"]):
            raise StudyFileError(
                f"{folder / PANEL} has schema version {panel['schema_version']}, this phaselens analyses "
                f"1 to {SCHEMA_VERSION}: `phaselens run {folder / DECLARATION} --out NEW` traces the study anew."
            )
        if "units" in panel and (digest(units) != panel["units"] or not file_fits(folder / PANEL)):
            raise DamagedFile(
                f"{folder / PANEL} or {folder / UNITS} is not what was written: a SHA-256 does not fit. "
                f"{_resume(folder)} writes them again."
            )
        picture = panel["picture"]
        return Record(
            models=tuple(_model_of(row) for row in panel["models"]),
            units=tuple(UnitRecord(**{**u, "prompts": tuple(u["prompts"])}) for u in units),
            target=_number(panel["target"]),
            failed=tuple(panel["failed"]),
            picture=None if picture is None else Pictured(**{**picture, "tokens": tuple(picture["tokens"])}),
        )
    except DamagedFile:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StudyFileError(
            f"{folder / PANEL} or {folder / UNITS} is not what a study writes ({type(error).__name__}: {error}). "
            f"{_resume(folder)} writes them again."
        ) from error


def _model_of(row: Mapping[str, Any]) -> ModelRecord:
    own = dict(row)
    entropy, lenses, digits = own.pop("entropy"), own.pop("lenses"), own.pop("digit_tokens")
    starts = own.pop("word_start_tokens", None)  # absent from records of earlier versions
    own |= {k: _number(own[k]) for k in UNDEFINED if k in own}
    return ModelRecord(ModelInfo(**own), _number(entropy), tuple(lenses), _ids(digits), _ids(starts))


def _resume(folder: Path) -> str:
    """The command that completes a folder."""
    return f"`phaselens run {folder / DECLARATION} --out {folder}`"


def _document(folder: Path, name: str) -> Any:
    """One JSON file of the folder."""
    path = folder / name
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyFileError(
            f"{folder} is not traced to the end: it has no {name}, so none of its units can be analysed. "
            f"{_resume(folder)} completes it and does nothing twice."
        ) from error
    except (OSError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read ({error}). {_resume(folder)} writes it again.") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a study. Raises StudyFileError where the folder is none of a study."""
    if not folder.is_dir():
        raise StudyFileError(f"{folder} is not a folder. Give the folder of a study, as made by `phaselens run --out`.")
    path = folder / MANIFEST
    if not path.is_file():
        raise StudyFileError(
            f"{folder} has no {MANIFEST}, so it is not the folder of a study. Give one that `phaselens run --out` made."
        )
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read ({error}). {BACK}") from error
    if file_fits(path) is False:
        raise DamagedFile(f"{path} is not what was written: it was edited or damaged. {BACK}")
    if not isinstance(found, dict) or not isinstance(found.get("study"), dict):
        raise StudyFileError(f"{path} is not the manifest of a study. Give a folder that `phaselens run --out` made.")
    if "analysis" in found:
        raise StudyFileError(
            f"{folder} holds analyses of the study {str(found['study'].get('hash'))[:12]} and no traces. Give the "
            "folder of that study."
        )
    return found


def read_declaration(folder: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The declaration of the study, as plain values.

    Raises StudyFileError where it is not there, or is not the one whose hash the manifest holds.
    """
    path = folder / DECLARATION
    try:
        declared = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read ({error}), so the settings of the study are not known.") from error
    if digest(declared) != manifest["study"].get("hash"):
        raise StudyFileError(
            f"{path} was changed after the study was begun: its hash is {digest(declared)[:12]}, the manifest says "
            f"{str(manifest['study'].get('hash'))[:12]}. Put the old one back, or begin another study."
        )
    return declared


def require_traced(folder: Path, units: Sequence[UnitRecord]) -> None:
    """See that every unit has its transcripts and a whole trace of this schema version; reads footers only.

    Raises StudyFileError naming the units that are missing and the command that completes them, or the trace of
    another schema version.
    """
    missing = []
    for unit in units:
        files = [folder / unit.transcripts, *trace_paths(folder / "traces", unit.name).values()]
        if not all(file.is_file() for file in files):
            missing.append(unit)
            continue
        for file in files[1:]:
            facts = read_facts(file)
            if not _analysed(facts.get("schema_version")):
                raise StudyFileError(
                    f"{file} has schema version {facts.get('schema_version')}, this phaselens analyses "
                    f"1 to {SCHEMA_VERSION}. Delete it; {_resume(folder)} traces it anew."
                )
            if facts.get("unit") != unit.name:
                raise StudyFileError(f"{file} is the trace of the unit {facts.get('unit')}: it was renamed.")
    if missing:
        said = [f"{u.name} ({u.model}, {'calibration' if u.calibration else u.arm})" for u in missing[:SHOWN]]
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        raise StudyFileError(
            f"{folder} is not traced to the end: {len(missing)} of {len(units)} units are missing: {', '.join(said)}"
            f"{more}. {_resume(folder)} completes them and does nothing twice."
        )
