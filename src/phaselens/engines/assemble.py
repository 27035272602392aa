"""From traces on disk to what experiments are given: one panel of columns; and the picture of one run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from phaselens.engines.members import Member
from phaselens.engines.traces import Traced, Work
from phaselens.engines.units import transcript_path
from phaselens.engines.vocabulary import digit_tokens
from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.trace.store import read_table, trace_paths
from phaselens.trace.transcripts import Transcripts, read_jsonl

PICTURE = ("instability", "entropy")


def panel_of(
    work: Work,
    members: Sequence[Member],
    traced: Mapping[str, Sequence[Traced]],
    heat: Mapping[str, float],
    curves: Mapping[str, Mapping[str, Any]],
    vocabularies: Mapping[str, Mapping[int, bytes]],
) -> Panel:
    """The panel of a study, from its folder."""
    models = []
    for member in members:
        noise = curves[member.label]["noise_floor"]
        info = _info(member, heat[member.label], math.nan if noise is None else noise)
        models.append(_model_data(work.folder, info, traced[member.label], vocabularies.get(member.label)))
    return Panel(tuple(models), seed=work.study.seed, n_boot=work.study.bootstraps)


def _info(member: Member, temperature: float, noise_floor: float) -> ModelInfo:
    facts = member.facts
    return ModelInfo(
        name=member.label,
        family=facts["family"],
        n_layers=facts["n_layers"],
        d_model=facts["d_model"],
        vocab_size=facts["vocab_size"],
        parameters=facts["parameters"],
        twin=member.untrained,
        twin_of=member.twin_of,
        temperature=temperature,
        noise_floor=noise_floor,
    )


def _model_data(
    folder: Path, info: ModelInfo, traced: Sequence[Traced], vocabulary: Mapping[int, bytes] | None
) -> ModelData:
    """All units of one model as one set of columns, runs numbered over all units."""
    parts: dict[str, list[pa.Table]] = {"runs": [], "steps": [], "layers": []}
    completions: list[tuple[int, ...]] = []
    first = 0
    for one in traced:
        paths = trace_paths(folder / "traces", one.trace)
        said = {t.run: t.completion_ids for t in read_jsonl(transcript_path(folder, one.unit))}
        runs = read_table(paths["runs"])
        numbers = runs.column("run").to_numpy()
        completions += [said[int(number)] for number in numbers]
        for name, path in paths.items():
            table = runs if name == "runs" else read_table(path)
            moved = pa.array(table.column("run").to_numpy().astype(np.int64) + first, pa.int64())
            table = table.set_column(table.schema.get_field_index("run"), "run", moved)
            if name == "runs":
                table = table.append_column("calibration", pa.array([one.unit.calibration] * len(numbers), pa.bool_()))
            parts[name].append(table.replace_schema_metadata(None))
        first += int(numbers.max(initial=-1)) + 1
    tables = {name: pa.concat_tables(tables) for name, tables in parts.items()}
    return ModelData(
        info=info,
        completions=tuple(completions),
        digit_tokens=None if vocabulary is None else digit_tokens(vocabulary),
        **{name: {c: t.column(c).to_numpy() for c in t.column_names} for name, t in tables.items()},
    )


def temperature_rows(
    panel: Panel, members: Sequence[Member], target: float, curves: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What a common temperature does to each model: T, and the mean output entropy_norm at 1 and at T.

    The latter is measured on the traces of the calibration prompts, not read off the curve that gave T.
    """
    out = []
    for member, model in zip(members, panel.models, strict=True):
        values = curves[member.label]["entropy_norm"]
        out.append(
            {
                "model": member.label,
                "twin": member.untrained,
                "T": _plain(model.info.temperature),
                "entropy_norm_before": None if values is None else values[len(values) // 2],
                "entropy_norm_after": _plain(_matched(model)),
                "target": _plain(target),
            }
        )
    return out


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _matched(model: ModelData) -> float:
    """Mean entropy_norm at layer L at the matching temperature over the calibration runs; NaN where not recorded."""
    if "entropy_norm__tmatch" not in model.layers:
        return math.nan
    cells = model.at_layer("entropy_norm__tmatch", model.info.n_layers)
    cells = None if cells is None else cells[~model.measured]
    return math.nan if cells is None or not np.isfinite(cells).any() else float(np.nanmean(cells))


def picture_of(folder: Path, member: Member, traced: Sequence[Traced], tokenizer: Any | None) -> dict[str, Any] | None:
    """One measured run as a picture: layers x steps of instability and entropy, with its tokens; None if there is none.

    The first run of the first measured unit: chosen before anything was seen.
    """
    unit = next((one for one in traced if not one.unit.calibration), None)
    if unit is None:
        return None
    transcripts: Transcripts = read_jsonl(transcript_path(folder, unit.unit))
    run = min(transcripts, key=lambda t: t.run)
    table = read_table(trace_paths(folder / "traces", unit.trace)["layers"])
    rows = {c: table.column(c).to_numpy() for c in ("run", "step", "layer", *PICTURE) if c in table.column_names}
    here = rows["run"] == run.run
    if not here.any() or not set(PICTURE) <= rows.keys():
        return None
    layers, steps = np.unique(rows["layer"][here]), np.unique(rows["step"][here])
    shape = (len(steps), len(layers))
    return {
        "model": member.label,
        "run": run.run,
        "prompt_id": run.prompt_id,
        "category": run.category,
        "arm": run.arm,
        "lens": "final_norm",
        "prompt": run.prompt,
        "layers": layers.tolist(),
        "steps": steps.tolist(),
        "tokens": [_text(tokenizer, run.completion_ids[s]) for s in steps.tolist()],
        **{name: [[_plain(v) for v in row] for row in rows[name][here].reshape(shape).T.tolist()] for name in PICTURE},
    }


def _text(tokenizer: Any | None, token: int) -> str:
    return f"[{token}]" if tokenizer is None else tokenizer.decode([token])
