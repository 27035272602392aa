"""Measure hidden states that others saved (vLLM, nnsight, TransformerLens, a training loop): no model is loaded.

An array is [layer, step, d_model], one per run: layer 0 the embedding output, layer l the residual stream after block
l, raw, before the final norm. The trace that comes out is the one of `observe`, with the same observables, so
everything that reads traces reads it. With an unembedding the lens is read too.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaselens.clouds import Clouds
from phaselens.errors import InputError, StudyFileError
from phaselens.measure import LensSpec, Reducer
from phaselens.normalised import Together
from phaselens.observables import Observable
from phaselens.recording import Gathered, as_observables, column_info
from phaselens.trace import Trace
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript, Transcripts
from phaselens.types import Readout
from phaselens.version import __version__

States = Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray | str | Path
AXES = ("layer step d", "step layer d")
NORMS = ("rms", "layer")
SUFFIXES = (".npy", ".npz", ".safetensors")


@dataclass(frozen=True, eq=False)
class Unembedding:
    """How a saved state becomes logits: `cap(scale * (weight norm(h) + bias))`.

    `weight` [vocab, d]; `bias` [vocab]; `norm` is "rms" (h / rms * gain), "layer" (LayerNorm), or None where the
    states are to be read as they are; `gain` and `shift` [d]; `eps` as in the model.
    """

    weight: np.ndarray
    bias: np.ndarray | None = None
    norm: str | None = None
    gain: np.ndarray | None = None
    shift: np.ndarray | None = None
    eps: float = 1e-5
    scale: float = 1.0
    cap: float | None = None

    def readout(self, d_model: int) -> Readout:
        """The record that the lens takes. Raises InputError where shapes do not fit states of this width."""
        if self.norm is not None and self.norm not in NORMS:
            raise InputError(f"the norm of an unembedding is one of {', '.join(NORMS)} or None; got {self.norm!r}.")
        weight = _tensor(self.weight, "unembedding")
        if weight.ndim != 2 or weight.shape[1] != d_model:
            raise InputError(f"the unembedding is {tuple(weight.shape)}; wanted [vocab, {d_model}] for these states.")
        parts = {name: getattr(self, name) for name in ("bias", "gain", "shift")}
        wanted = {"bias": weight.shape[0], "gain": d_model, "shift": d_model}
        made = {name: None if v is None else _tensor(v, name) for name, v in parts.items()}
        for name, value in made.items():
            if value is not None and value.shape != (wanted[name],):
                raise InputError(f"{name} of the unembedding is {tuple(value.shape)}; wanted ({wanted[name]},).")
        return Readout(weight, made["bias"], self._norm(made["gain"], made["shift"]), self.scale, self.cap)

    def _norm(self, gain: Tensor | None, shift: Tensor | None) -> Any:
        def apply(hidden: Tensor) -> Tensor:
            if self.norm is None:
                return hidden
            if self.norm == "layer":
                return torch.nn.functional.layer_norm(hidden, hidden.shape[-1:], gain, shift, self.eps)
            normed = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.eps)
            return normed if gain is None else normed * gain

        return apply


def measure_states(
    states: States,
    *,
    unembedding: Unembedding | np.ndarray | None = None,
    tokens: Mapping[str, Sequence[int]] | None = None,
    layers: Sequence[int] | None = None,
    n_layers: int | None = None,
    axes: str = "layer step d",
    observables: Iterable[str | Observable] | None = None,
    prompt_ids: Mapping[str, str] | None = None,
    categories: Mapping[str, str] | None = None,
) -> Trace:
    """Measure saved hidden states at every step and layer, as a trace; no model is needed.

    `states` is one array [layer, step, d], a list or dict of them (one per run), or a file: `.npy` (one run), `.npz`
    or `.safetensors` (one run per name). Runs are numbered by their names, run2 before run10. `layers` numbers the
    first axis (default 0, 1, 2 ...: embedding first), and `n_layers` is L of the model (default: the last of them).
    `tokens` gives the ids emitted at the steps of a run: without them what needs the emitted token is NaN.
    `prompt_ids` names the prompt of each run (default: its own name), the unit of resampling.

    States must be raw block outputs. The last entry of a library's `hidden_states` is often taken after the final norm:
    leave it out, or name it so in `layers` only if it is raw. NaN: steps that hold a value that is not finite.
    Raises InputError for arrays that do not fit together, StudyFileError for a file that cannot be read.
    """
    runs = _arrays(states, axes)
    depth, width = _common(runs)
    recorded = tuple(range(depth)) if layers is None else tuple(int(layer) for layer in layers)
    blocks = max(recorded) if n_layers is None else n_layers
    _check_layers(recorded, depth, blocks)
    readout = None if unembedding is None else _readout(unembedding, width)
    lenses = () if readout is None else (LensSpec(),)
    chosen = as_observables(observables, with_lens=bool(lenses))
    tilewise = tuple(one for one in chosen if one.lookback is not None)
    whole = tuple(one for one in chosen if one.lookback is None)
    first = Reducer(tilewise, recorded, readout, lenses, blocks, output=bool(lenses))
    reducer = Together(first, (Clouds(whole, recorded, blocks),) if whole else ())
    emitted = {name: _emitted(name, tokens, array.shape[1]) for name, array in runs.items()}
    gathered = Gathered()
    for number, (name, array) in enumerate(runs.items()):
        reducer.update(_tile(number, array, emitted[name], recorded))
        gathered(*reducer.rows())
    said = _said(runs, emitted, prompt_ids or {}, categories or {})
    steps, rows = gathered.table("steps"), gathered.table("layers")
    # Positions count from the first state that was saved, which is seldom that of the sequence: no sink is known.
    steps["sink"] = np.zeros(len(steps["run"]), bool)
    meta = _meta(runs, recorded, blocks, chosen, readout)
    return Trace.from_rows(steps, rows, said.run_rows(), meta, column_info(reducer))


def _readout(unembedding: Unembedding | np.ndarray, width: int) -> Readout:
    made = unembedding if isinstance(unembedding, Unembedding) else Unembedding(np.asarray(unembedding))
    return made.readout(width)


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds no numbers: {error}.") from error


def _arrays(states: States, axes: str) -> dict[str, np.ndarray]:
    """The runs by name, each [layer, step, d]."""
    if axes not in AXES:
        raise InputError(f"axes must be one of {', '.join(map(repr, AXES))}; got {axes!r}.")
    if isinstance(states, (str, Path)):
        states = read_states(states)
    elif isinstance(states, np.ndarray) and states.ndim == 3:
        states = [states]
    if not isinstance(states, Mapping):
        states = {f"run{i}": array for i, array in enumerate(states)}
    if not states:
        raise InputError("there are no runs: wanted one array [layer, step, d] or several.")
    out = {}
    for name in sorted(states, key=_natural):
        array = np.asarray(states[name])
        if array.ndim != 3 or not all(array.shape) or array.dtype.kind not in "fiu":
            raise InputError(f"run {name!r} is {array.dtype} {array.shape}; wanted numbers as [layer, step, d].")
        out[str(name)] = array if axes == AXES[0] else array.swapaxes(0, 1)
    return out


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts run2 before run10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(name))]


def read_states(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays from a `.npy`, `.npz` or `.safetensors` file by name; half precision (bfloat16 too) becomes float32.

    Raises StudyFileError where the file cannot be read; pickled arrays are never loaded.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise StudyFileError(f"{path} is none of {', '.join(SUFFIXES)}: save the states as one of these.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return {name: tensor.float().numpy() for name, tensor in sorted(load_file(path).items())}
        loaded = np.load(path, allow_pickle=False)
        return {path.stem: loaded} if path.suffix == ".npy" else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # each of the three readers fails in its own words
        raise StudyFileError(
            f"{path} cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}."
        ) from error


def _common(runs: Mapping[str, np.ndarray]) -> tuple[int, int]:
    """Number of layers and width, which all runs share."""
    shapes = {(a.shape[0], a.shape[2]) for a in runs.values()}
    if len(shapes) > 1:
        said = ", ".join(f"{name} {a.shape}" for name, a in list(runs.items())[:4])
        raise InputError(f"runs differ in layers or width: {said}. Runs of one model have one of each.")
    return shapes.pop()


def _check_layers(layers: tuple[int, ...], depth: int, blocks: int) -> None:
    if len(layers) != depth:
        raise InputError(f"{len(layers)} layer numbers for arrays of {depth} layers; give one for each.")
    if list(layers) != sorted(set(layers)) or layers[0] < 0 or layers[-1] > blocks:
        raise InputError(f"layers must ascend from 0 to at most n_layers = {blocks}; got {list(layers)}.")


def _emitted(name: str, tokens: Mapping[str, Sequence[int]] | None, steps: int) -> np.ndarray:
    """Token ids of one run; -1 where they are not known."""
    if tokens is None or name not in tokens:
        return np.full(steps, -1, dtype=np.int64)
    given = np.asarray(tokens[name], dtype=np.int64)
    if given.shape != (steps,):
        raise InputError(
            f"run {name!r} has {steps} steps and {given.shape} tokens; give the token emitted at each step."
        )
    return given


def _tile(number: int, array: np.ndarray, emitted: np.ndarray, layers: tuple[int, ...]) -> Tile:
    steps = torch.arange(array.shape[1])[None]
    return Tile(
        run=torch.tensor([number]),
        step=steps,
        position=steps,
        token=torch.from_numpy(emitted)[None],
        valid=torch.ones_like(steps, dtype=torch.bool),
        layers=layers,
        hidden=torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None],
    )


def _said(
    runs: Mapping[str, np.ndarray],
    emitted: Mapping[str, np.ndarray],
    prompts: Mapping[str, str],
    categories: Mapping[str, str],
) -> Transcripts:
    """Runs for the table of runs: what was said is known by its tokens at most."""
    return Transcripts(
        tuple(
            Transcript(i, (0,), tuple(emitted[n].tolist()), prompts.get(n, n), categories.get(n, ""))
            for i, n in enumerate(runs)
        )
    )


def _meta(
    runs: Mapping[str, np.ndarray],
    layers: tuple[int, ...],
    blocks: int,
    chosen: Iterable[Observable],
    readout: Readout | None,
) -> dict[str, Any]:
    """What the trace was made from."""
    digest = hashlib.sha256()
    for name, array in runs.items():
        digest.update(f"{name} {array.shape} {array.dtype}".encode() + np.ascontiguousarray(array).tobytes())
    return {
        "phaselens": __version__,
        "model": {"n_layers": blocks, "d_model": next(iter(runs.values())).shape[2], "fingerprint": ""},
        "states": {"sha256": digest.hexdigest(), "runs": list(runs), "lens": readout is not None},
        "plan": {"layers": list(layers), "observables": [one.name for one in chosen]},
        "capture": {"how": "imported"},
    }
