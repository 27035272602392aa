"""From traces on disk to what experiments are given: one panel of columns; and the picture of one run."""

import math
from array import array
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute

from phaselens.errors import StudyFileError, unknown_name
from phaselens.experiments import ModelData, Panel
from phaselens.experiments.result_tables import json_value
from phaselens.interventions.outcome_records import Acted
from phaselens.interventions.record_files import FOLDER, read_acted
from phaselens.studies.store.answer_state_files import read_beginnings
from phaselens.studies.store.panel_record import ModelRecord, Record, UnitRecord
from phaselens.studies.store.reading_files import read_readings, read_scores
from phaselens.trace.store import read_table, stored_columns, trace_paths
from phaselens.trace.transcripts import read_jsonl

NO_MATCH = "no temperature in [0.05, 20] matches"
PICTURE = ("instability", "entropy")
KEPT = 32 << 20  # bytes of columns


class Columns(Mapping[str, np.ndarray]):
    """The columns of one table of one model over all its units, each read when it is asked for.

    `first[i]` is added to the run numbers of file i, so that runs are numbered over all units. Measures stay float32.
    Those asked for last are kept, up to `KEPT` bytes over all tables, so that memory does not grow with the study.
    """

    _kept: ClassVar[OrderedDict[tuple[int, str], np.ndarray]] = OrderedDict()
    _count: ClassVar[Iterator[int]] = count()

    def __init__(self, files: Sequence[Path], first: Sequence[int]) -> None:
        self._readers = [stored_columns(file) for file in files]
        self._first = tuple(first)
        self._number = next(Columns._count)
        self._names = self._readers[0].names if self._readers else ()
        for reader in self._readers:
            if reader.names != self._names:
                differ = sorted(set(reader.names) ^ set(self._names))
                raise StudyFileError(f"{reader.path} and {self._readers[0].path} differ in columns {differ}.")

    def __getitem__(self, name: str) -> np.ndarray:
        key = self._number, name
        if key not in self._kept:
            if name not in self._names:
                raise unknown_name("column", name, self._names)
            parts = [reader.read(name) for reader in self._readers]
            if name == "run":
                parts = [part.astype(np.int64) + first for part, first in zip(parts, self._first, strict=True)]
            self._kept[key] = np.concatenate(parts)
            size = sum(column.nbytes for column in self._kept.values())
            while size > KEPT and len(self._kept) > 1:
                size -= self._kept.popitem(last=False)[1].nbytes
        self._kept.move_to_end(key)
        return self._kept[key]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def panel_of(folder: Path, record: Record, *, seed: int, n_boot: int, subpanels: int = 20) -> Panel:
    """The panel of a study, from its folder."""
    scores, read, acted = (
        read_scores(folder),
        read_readings(folder),
        read_acted(sorted((folder / FOLDER).glob("*.safetensors"))),
    )
    models = tuple(
        replace(
            _with_pairs(folder, m, record.units_of(m.info.name)),
            readings=read.get(m.info.name, {}),
            scores=scores.get(m.info.name),
            acted=acted.get(m.info.name, Acted()),
        )
        for m in record.models
    )
    return Panel(models, seed, n_boot, subpanels=subpanels)


def _with_pairs(folder: Path, model: ModelRecord, units: Sequence[UnitRecord]) -> ModelData:
    """The columns of one model, and apart from them those of its minimal pairs."""
    own = _model_data(folder, model, [u for u in units if not u.paired])
    paired = [u for u in units if u.paired]
    return replace(own, pairs=_model_data(folder, model, paired)) if paired else own


def _model_data(folder: Path, model: ModelRecord, units: Sequence[UnitRecord]) -> ModelData:
    """All units of one model as one set of columns, runs numbered over all units."""
    runs: list[pa.Table] = []
    completions: list[array[int]] = []  # a number is 4 bytes, where an int of Python is 36
    prompts: list[str] = []
    answered: list[str] = []
    grades: list[np.ndarray] = []
    files: dict[str, list[Path]] = {"steps": [], "layers": []}
    first = [0]
    for unit in units:
        paths = trace_paths(folder / "traces", unit.name)
        said = {t.run: t for t in read_jsonl(folder / unit.transcripts)}
        table = read_table(paths["runs"]).replace_schema_metadata(None)
        numbers = table.column("run").to_numpy()
        told = [said[int(number)] for number in numbers]
        completions += [array("i", t.completion_ids) for t in told]
        prompts += [t.prompt or "" for t in told]
        answered += [(t.completion or "").lstrip("\n").split("\n")[0] for t in told]
        grades.append(_truths(table.column("correct")))
        moved = pa.array(numbers.astype(np.int64) + first[-1], pa.int64())
        table = table.set_column(table.schema.get_field_index("run"), "run", moved)
        runs.append(table.append_column("calibration", pa.array([unit.calibration] * len(numbers), pa.bool_())))
        for name, of_table in files.items():
            of_table.append(paths[name])
        first.append(first[-1] + int(numbers.max(initial=-1)) + 1)
    table = pa.concat_tables(runs)
    states = read_beginnings(folder, [Path(u.transcripts).stem for u in units], [t.num_rows for t in runs])
    known = {"correct": np.concatenate(grades), "prompt": np.array(prompts), "answered": np.array(answered)}
    known |= {} if states is None else {"answer_state": states}
    tables: dict = {name: Columns(of_table, first[:-1]) for name, of_table in files.items()}
    return ModelData(
        info=model.info,
        runs={c: table.column(c).to_numpy() for c in table.column_names} | known,
        completions=tuple(completions),
        digit_tokens=model.digit_tokens,
        word_start_tokens=model.word_start_tokens,
        **tables,
    )


def _truths(column: pa.ChunkedArray) -> np.ndarray:
    """1, 0, or NaN where it is null."""
    return pa.compute.cast(column, pa.float64()).to_numpy().astype(float)


def temperature_rows(panel: Panel, record: Record) -> list[dict[str, object]]:
    """What a common temperature does to each model: T, and the mean output entropy (nats) at 1 and at T.

    The latter is measured on the traces of the calibration prompts, not read off the curve that gave T.
    """
    return [
        {
            "model": model.info.name,
            "twin": model.info.twin,
            "T": json_value(model.info.temperature),
            "entropy_before": json_value(known.entropy),
            "entropy_after": json_value(_matched(model)),
            "target": json_value(record.target),
            "reason": "" if math.isfinite(model.info.temperature) else NO_MATCH,
        }
        for model, known in zip(panel.models, record.models, strict=True)
    ]


def _matched(model: ModelData) -> float:
    """Mean entropy (nats) at layer L at the matching temperature over the calibration runs; NaN where not recorded."""
    if "entropy__tmatch" not in model.layers:
        return math.nan
    cells = model.at_layer("entropy__tmatch", model.info.n_layers)
    cells = None if cells is None else cells[~model.measured]
    return math.nan if cells is None or not np.isfinite(cells).any() else float(np.nanmean(cells))


def picture_of(folder: Path, record: Record) -> dict[str, object] | None:
    """One measured run as a picture: layers x steps of instability and entropy, with its tokens; None if there is none.

    The first run of the first measured unit of the first trained model: chosen before anything was seen.
    """
    shown = record.picture
    if shown is None:
        return None
    run = next(t for t in read_jsonl(folder / shown.transcripts) if t.run == shown.run)
    table = read_table(trace_paths(folder / "traces", Path(shown.trace).name)["layers"])
    rows = {c: table.column(c).to_numpy() for c in ("run", "step", "layer", *PICTURE) if c in table.column_names}
    here = rows["run"] == run.run
    if not here.any() or not set(PICTURE) <= rows.keys():
        return None
    layers, steps = np.unique(rows["layer"][here]), np.unique(rows["step"][here])
    shape = (len(steps), len(layers))
    return {
        "model": shown.model,
        **{name: getattr(run, name) for name in ("run", "prompt_id", "category", "arm")},
        "lens": "final_norm",
        "prompt": run.prompt,
        "layers": layers.tolist(),
        "steps": steps.tolist(),
        "tokens": [shown.tokens[s] for s in steps.tolist()],
        **{name: json_value(rows[name][here].reshape(shape).T.tolist()) for name in PICTURE},
    }
