"""What the controls on the distribution need of each model, measured on its calibration prompts and kept beside its
calibration: the tuned lens, a temperature for each layer, the size of its logits, and whether position 0 can be masked.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from phaselens.errors import StudyFileError
from phaselens.measure.reducer import LensSpec
from phaselens.models import Model
from phaselens.models.attention_sink import why_not_masked
from phaselens.observables.lens import entropies
from phaselens.observables.lens_tiles import rows_at_once
from phaselens.observables.translators import Translators, TunedReport, fit_translators
from phaselens.studies.stages.calibration import grid, layer_states, matching_temperature
from phaselens.studies.stages.models_and_prompts import Member
from phaselens.trace.seal import arrays_bytes, is_sound, json_bytes, read_arrays, read_json
from phaselens.trace.store import atomic_write, digest
from phaselens.trace.transcripts import Transcripts

POINTS = 33  # of the curves by layer
CAPS = {"cap_half": 0.5, "cap_one": 1.0, "cap_two": 2.0}
MEASURED = ("tmatch_layers", *CAPS, "nofirst")
SEED = 3


def tuned_lens(model: Model, transcripts: Transcripts, *, rank: int | None = None) -> tuple[LensSpec, TunedReport]:
    """A tuned lens of `model`, trained on `transcripts` that are not measured with it afterwards, and what it reached.

    The lens goes to `observe(model, other, lens=("final_norm", spec))`. The same transcripts give the same lens. Every
    fourth unit is held out and only reported on. Raises as `fit_translators`.
    """
    states, run = layer_states(model, transcripts)
    of_run = {t.run: t.unit or t.prompt_id for t in transcripts}
    prompts = {p: i for i, p in enumerate(dict.fromkeys(of_run[int(r)] for r in run))}
    unit = torch.tensor([prompts[of_run[int(r)]] for r in run])
    generator = torch.Generator().manual_seed(SEED)
    readout = replace(model.readout, weight=model.readout.weight.cpu()) if model.device.type != "cpu" else model.readout
    translators, report = fit_translators(states, readout, unit, rank=rank, generator=generator)
    return LensSpec("tuned", label="tuned", translators=translators), report


def measure_controls(model: Model, transcripts: Transcripts) -> dict[str, object]:
    """Curves of mean entropy over temperature by layer, the median top centred logit, and what cannot be masked.

    `entropy[l][i]` (nats) belongs to layer l and `temperatures[i]`. `top_centred_logit` is the median
    over steps of the largest output logit less the mean over the vocabulary, before any soft cap. Steps that are not
    finite are left out.
    """
    states, _ = layer_states(model, transcripts)
    states = states[states.flatten(1).isfinite().all(1)]
    size = math.ceil(rows_at_once(model.vocab_size) / states.shape[1])
    total, tops = np.zeros((states.shape[1], POINTS)), []
    uncapped = replace(model.readout, cap=None)
    with torch.no_grad():
        for part in states.split(size):
            part = part.to(model.device)
            total += entropies(part, model.readout, grid(POINTS).tolist()).double().sum(0).cpu().numpy()
            last = uncapped.logits(part[:, -1])
            tops.append((last.amax(-1) - last.mean(-1)).cpu())
    known = len(states) > 0
    return {
        "temperatures": grid(POINTS).tolist(),
        "entropy": (total / len(states)).tolist() if known else None,
        "top_centred_logit": float(torch.cat(tops).median()) if known else None,
        "why_not_masked": why_not_masked(model),
    }


def controls_paths(folder: Path, key: str, lenses: Sequence[str]) -> list[Path]:
    """The files that `kept_controls` writes for these lenses."""
    wanted = {"controls.json": set(lenses) & set(MEASURED), "tuned.safetensors": "tuned" in lenses}
    return [folder / f"{key}.{end}" for end, needed in wanted.items() if needed]


def kept_controls(
    folder: Path, key: str, lenses: Sequence[str], model: Callable[[], Model], transcripts: Callable[[], Transcripts]
) -> dict[str, object]:
    """What the wanted control lenses need of one model, from files named by `key` where they are there.

    Keys of the result: `controls` (as `measure_controls`), `tuned` (a `LensSpec`), each only where a lens asks for it.
    """
    out: dict[str, Any] = {}
    if set(lenses) & set(MEASURED):
        path = folder / f"{key}.controls.json"
        if not is_sound(path):
            atomic_write(path, json_bytes(measure_controls(model(), transcripts())))
        out["controls"] = read_json(path)
    if "tuned" in lenses:
        path = folder / f"{key}.tuned.safetensors"
        if not is_sound(path):
            spec, report = tuned_lens(model(), transcripts())
            write_translators(path, spec.translators, report)
        out["tuned"] = LensSpec("tuned", label="tuned", translators=read_translators(path)[0])
    return out


def write_translators(path: Path, translators: Translators | None, report: TunedReport) -> None:
    """Write translators as sealed safetensors, with what their fit reached in the metadata (`report`)."""
    if translators is None:
        raise StudyFileError(f"{path}: there are no translators to write.")
    said = {
        k: [None if math.isnan(x) else x for x in v] if isinstance(v, tuple) else v for k, v in vars(report).items()
    }
    arrays = {k: t.cpu().numpy() for k, t in translators.tensors().items()}
    atomic_write(path, arrays_bytes(arrays, {"report": said}))


def read_translators(path: Path) -> tuple[Translators, TunedReport]:
    """Translators and their report from a file. Raises StudyFileError where it cannot be read or was changed."""
    arrays, facts = read_arrays(path)
    try:
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        found, said = Translators(tensors["up"], tensors.get("down"), tensors["bias"]), facts["report"]
    except KeyError as error:
        raise StudyFileError(f"{path} lacks {error}. Delete it and run the same command again.") from error
    numbers: dict = {
        k: tuple(math.nan if x is None else x for x in v) if isinstance(v, list) else v for k, v in said.items()
    }
    return found, TunedReport(**numbers)


def layer_targets(members: Sequence[Member], curves: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[float, ...]]:
    """The entropy (nats) that each layer of each model is brought to: the panel's median at the same relative depth.

    Median over the trained models of mean entropy at temperature 1, taken between layers linearly in l/L.
    """
    own = {m.label: _at_one(curves[m.label]) for m in members}
    trained = [own[m.label] for m in members if not m.untrained and own[m.label] is not None]
    out = {}
    for m in members:
        n_layers = m.facts["n_layers"]
        depths = np.arange(n_layers + 1) / max(1, n_layers)
        found = [np.interp(depths, np.arange(len(v)) / max(1, len(v) - 1), v) for v in trained]
        out[m.label] = tuple(
            statistics.median(float(f[i]) for f in found) if found else math.nan for i in range(n_layers + 1)
        )
    return out


def _at_one(curve: Mapping[str, Any]) -> np.ndarray | None:
    values = curve.get("controls", {}).get("entropy")
    return None if values is None else np.asarray(values)[:, POINTS // 2]


def matching_temperatures(controls: Mapping[str, Any], targets: Sequence[float]) -> tuple[float, ...]:
    """For each layer the temperature at which its mean entropy is the target; NaN where none in [.05, 20] is."""
    if controls["entropy"] is None:
        return (math.nan,) * len(targets)
    heat = controls["temperatures"]
    curves = ({"temperatures": heat, "entropy": values} for values in controls["entropy"])
    return tuple(matching_temperature(curve, target) for curve, target in zip(curves, targets, strict=True))


def control_lenses(
    wanted: Sequence[str], members: Sequence[Member], curves: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[LensSpec, ...]]:
    """The control lenses among `wanted` that are defined for each model, in order.

    `tmatch_layers` needs a temperature at every layer 1..L, `uncapped` a model with a cap of its own, `nofirst` a
    family that lets position 0 be masked.
    """
    targets = layer_targets(members, curves) if "tmatch_layers" in wanted else {}
    out = {}
    for m in members:
        made = [_lens(name, m, curves[m.label], targets.get(m.label, ())) for name in wanted]
        out[m.label] = tuple(one for one in made if one is not None)
    return out


def _lens(name: str, member: Member, curve: Mapping[str, Any], targets: Sequence[float]) -> LensSpec | None:
    controls = curve.get("controls", {})
    if name == "tuned":
        return curve["tuned"]
    if name == "massive":
        return LensSpec(mask_massive=True, label=name)
    if name == "uncapped":
        return LensSpec(cap=math.inf, label=name) if member.facts["facts"]["cap"] is not None else None
    if name in CAPS:
        top = controls["top_centred_logit"]
        return LensSpec(cap=CAPS[name] * top, label=name) if top else None
    if name == "nofirst":
        return None if controls["why_not_masked"] else LensSpec(mask_first=True, label=name)
    if name == "tmatch_layers":
        found = matching_temperatures(controls, targets)
        usable = all(math.isfinite(t) for t in found[1:])
        return LensSpec(temperatures=found, label=name) if usable else None
    return None


def controls_key(calibration_key: str) -> str:
    """The key of these files: the calibration's, which names model, prompts and versions, and the settings here."""
    return digest({"what": "controls", "calibration": calibration_key, "points": POINTS, "seed": SEED})
