"""What work will take before it starts: tokens, bytes, memory and minutes, from configurations alone.

Weights are never read: a network is built on the meta device from its configuration, so a model of 70 B parameters is
planned where it could not be loaded. Minutes come from a probe of this machine (two seconds of matrix products at the
model's width) and the arithmetic that a pass takes; they are a guide, a factor of two either way.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from phaselens.errors import InputError
from phaselens.interventions.outcome_records import KINDS
from phaselens.models.gguf import converted, gguf_file
from phaselens.observables import DEPTH, DISTRIBUTION, TRAJECTORY
from phaselens.organisms import ORGANISM, path
from phaselens.studies.declaration import Study
from phaselens.studies.declaration_parts import Source
from phaselens.studies.stages.models_and_prompts import battery_of

PROBE_SECONDS, FEW, MANY = 2.0, 64, 1024  # rows of a step that generates, and of a pass that reads
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
DEVICES = {"GPU of 24 GB": 24, "GPU of 48 GB": 48, "GPU of 80 GB": 80, "8 GPUs of 80 GB": 640}
# Seconds beside the arithmetic, per token and block, and per token, layer and lens, as measured on small models.
STEP, ROW = 1e-4, 1e-5
LETTERS = 4.0  # of a token, about
OWN_PASSES = ("probes", "observability", *KINDS)  # no minutes of these are known


@dataclass(frozen=True)
class Shape:
    """What a configuration says: parameters (of which `active` work on a token), blocks, width, vocabulary."""

    name: str
    parameters: int
    active: int
    n_layers: int
    d_model: int
    vocab_size: int


@dataclass(frozen=True)
class Stage:
    """One stage of one model: tokens, bytes on disk, and minutes on this machine."""

    model: str
    stage: str
    tokens: int
    lenses: int
    bytes: int
    minutes: float


def shape_of(source: Source) -> Shape:
    """The shape of a model, from its configuration. Raises InputError where none can be read."""
    place: str | Path = source.source
    if str(place).startswith(ORGANISM):
        place = path(str(place).removeprefix(ORGANISM))
    elif (file := gguf_file(str(place))) is not None:
        place = converted(file)
    elif str(place)[:1] in "/.~" and not Path(place).exists():
        raise InputError(f"no such file or folder: {place}.")
    try:
        config = AutoConfig.from_pretrained(place, revision=source.revision, trust_remote_code=source.trust_remote_code)
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config, trust_remote_code=source.trust_remote_code)
    except (OSError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{source.source}: no configuration can be read to plan with ({first}). Give a folder with a "
            "config.json; weights are not needed."
        ) from error
    text = config.get_text_config()
    total = sum(p.numel() for p in network.parameters())
    expert = sum(p.numel() for n, p in network.named_parameters() if ".experts." in n)
    many = getattr(text, "num_local_experts", None) or getattr(text, "num_experts", None) or 1
    used = min(1.0, (getattr(text, "num_experts_per_tok", None) or many) / many)
    active = int(total - expert * (1 - used))
    return Shape(source.label, total, active, text.num_hidden_layers, text.hidden_size, text.vocab_size)


def speed(width: int, seconds: float = PROBE_SECONDS, rows: int = FEW) -> float:
    """Multiplications a second that this machine does in products [rows, width] x [width, 4 width]."""
    one, other = torch.ones(rows, width), torch.ones(width, 4 * width)
    started, n = time.monotonic(), 0
    while n < 3 or time.monotonic() - started < seconds:
        one @ other
        n += 1
    return n * rows * width * 4 * width / (time.monotonic() - started)


def stages_of(
    shape: Shape, generated: int, prompt: int, lenses: int, rates: tuple[float, float], passes: float = 1.0
) -> list[Stage]:
    """Stages of one model: `generated` tokens after `prompt` ones, seen again `passes` times under so many lenses.

    `rates` are multiplications a second, of few rows and of many.
    """
    columns = len(TRAJECTORY) + len(DEPTH) + len(DISTRIBUTION) * lenses
    read = lenses * (shape.n_layers + 1) * shape.d_model * shape.vocab_size
    written = generated * (4 * (shape.n_layers + 1) * columns + 4 * len(DISTRIBUTION))
    seen, reads = (generated + prompt) * shape.active, generated * lenses * (shape.n_layers + 1)
    making = seen / rates[0] + generated * shape.n_layers * STEP
    seeing = ((seen + generated * read) / rates[1] + reads * ROW) * passes
    return [
        Stage(shape.name, "generate", generated, 0, 8 * generated, round(making / 60, 2)),
        Stage(shape.name, "observe", int(generated * passes), lenses, int(written), round(seeing / 60, 2)),
    ]


def memory_of(shape: Shape, dtype: str, batch: int, length: int) -> dict[str, Any]:
    """Bytes of the weights by dtype and at the peak of a pass, and where each dtype fits."""
    working = 4 * batch * (shape.vocab_size * 3 + 2 * shape.n_layers * length * shape.d_model)
    by = {name: shape.parameters * width for name, width in WIDTHS.items()}
    fits = {n: [where for where, gb in DEVICES.items() if size + working < gb * 1e9] for n, size in by.items()}
    return {"weights": by, "peak": by[dtype] + working, "fits": fits}


def plan_of(study: Study, workers: int = 1, rate: float | None = None) -> dict[str, Any]:
    """What a study takes: per model its shape, memory and stages, and the sum; no weights are read.

    Raises InputError for a model whose configuration cannot be read.
    """
    battery = battery_of(study)
    each = sum(arm.samples for arm in study.arms)
    runs = len(battery.prompts) * each + len(battery.calibration) + len(battery.pairs)
    mean = sum(len(p.text) / LETTERS or len(p.token_ids) for p in battery.prompts) / len(battery.prompts)
    twins = 2 if study.twins else 1
    asked = [(shape_of(source), runs * study.max_new_tokens, int(runs * mean)) for source in study.models]
    found = planned(asked, len(study.lenses), study.dtype, study.batch_size, int(mean) + study.max_new_tokens, rate)
    for row in found["stages"]:
        row |= {k: row[k] * twins for k in ("tokens", "bytes")} | {"minutes": round(row["minutes"] * twins, 2)}
    total = sum(row["minutes"] for row in found["stages"]) / min(workers, len(asked) * twins)
    more = [name for name in OWN_PASSES if name in study.experiments]
    size = sum(r["bytes"] for r in found["stages"])
    return {**found, "workers": workers, "bytes": size, "minutes": round(total, 2), "not_counted": more}


def planned(
    asked: Sequence[tuple[Shape, int, int]],
    lenses: int,
    dtype: str,
    batch: int,
    length: int,
    rate: float | None = None,
    passes: float = 1.0,
) -> dict[str, Any]:
    """Shapes, memory and stages of several models, each with its generated and prompt tokens."""
    each = PROBE_SECONDS / len(asked) / 2
    widths = {shape.d_model for shape, *_ in asked}
    rates = {w: (rate, rate) if rate else (speed(w, each), speed(w, each, MANY)) for w in widths}
    stages = [s for shape, n, p in asked for s in stages_of(shape, n, p, lenses, rates[shape.d_model], passes)]
    return {
        "models": [{**asdict(shape), **memory_of(shape, dtype, batch, length)} for shape, *_ in asked],
        "stages": [asdict(stage) for stage in stages],
        "bytes": sum(s.bytes for s in stages),
        "minutes": round(sum(s.minutes for s in stages), 2),
    }


def short(plan: dict[str, Any]) -> str:
    """The plan in one line."""
    tokens = sum(row["tokens"] for row in plan["stages"] if row["stage"] == "generate")
    peak = max(model["peak"] for model in plan["models"])
    minutes = plan["minutes"]
    took = f"{math.ceil(minutes * 60)} s" if minutes < 1.5 else f"{minutes:,.0f} min"
    return (
        f"plan: {tokens:,} tokens of {len(plan['models'])} models, about {plan['bytes'] / 1e6:,.0f} MB on disk, "
        f"{peak / 1e9:.1f} GB of memory, {took} on this machine (--plan says more)"
        + ("; passes of " + ", ".join(more) + " come on top" if (more := plan.get("not_counted")) else "")
    )
