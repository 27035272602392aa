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
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError, StudyFileError, unknown_name
from phaselens.measure.clouds import Clouds
from phaselens.measure.normalised_geometry import Together
from phaselens.measure.reducer import LensSpec, Reducer
from phaselens.observables import Observable
from phaselens.observing.recording import Gathered, as_observables, column_info
from phaselens.trace import Trace
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript, Transcripts
from phaselens.types import Readout
from phaselens.version import __version__

States = Mapping[str, np.ndarray] | Sequence[np.ndarray] | np.ndarray | str | Path
Tokens = Mapping[str, Sequence[int]] | np.ndarray | None
SYNONYMS = {"batch": "run", "sample": "run", "position": "step", "token": "step", "time": "step", "d_model": "d"}
IDS = ("input_ids", "token_ids", "tokens")
NORMS = ("rms", "layer")
PICKLES = (".pt", ".pth", ".bin", ".pkl", ".pickle")
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
    unembedding: Unembedding | Readout | np.ndarray | None = None,
    tokens: Mapping[str, Sequence[int]] | None = None,
    layers: Sequence[int] | None = None,
    n_layers: int | None = None,
    axes: str | None = None,
    observables: Iterable[str | Observable] | None = None,
    prompt_ids: Mapping[str, str] | None = None,
    categories: Mapping[str, str] | None = None,
) -> Trace:
    """Measure saved hidden states at every step and layer, as a trace; no model is needed.

    `states` is one array [layer, step, d], a list or dict of them (one per run), or a file: `.npy` (one run), `.npz`
    or `.safetensors`. Where names say layers (`blocks.3.hook_resid_post`, `model.layers.3`, `h.3`, `layer_3`) each is
    one layer [run, step, d] or [step, d], as TransformerLens, nnsight, baukit and plain hooks save them; else one per
    run. `axes` says another order, of `run` (or batch), `layer`, `step` (or position) and `d`. Ids beside the states
    (`input_ids`) are the tokens: a state chose the one after it. Runs are numbered by their names, run2 before run10.
    `layers` numbers the layers (default 0, 1, 2 ...: embedding first), and `n_layers` is L of the model (default: the
    last of them).
    `tokens` gives the ids emitted at the steps of a run: without them what needs the emitted token is NaN.
    `prompt_ids` names the prompt of each run (default: its own name), the unit of resampling.

    States must be raw block outputs. The last entry of a library's `hidden_states` is often taken after the final norm:
    leave it out, or name it so in `layers` only if it is raw. NaN: steps that hold a value that is not finite, and
    those that are zero in every layer (padding).
    Raises InputError for arrays that do not fit together, StudyFileError for a file that cannot be read.
    """
    tensors, ids = _split(states, tokens)
    if isinstance(ids, Mapping):
        tokens = ids
    elif axes is None and len(tensors) == 1:
        axes = _told(next(iter(tensors.values())), ids)
    runs, said = _arrays(tensors, axes)
    runs = {name: _without_padding(array) for name, array in runs.items()}
    if ids is not None and not isinstance(ids, Mapping):
        tokens = cast(Mapping[str, Sequence[int]], _chosen(ids, runs))
    for what, given in (("tokens", tokens), ("prompt_ids", prompt_ids), ("categories", categories)):
        for name in given or ():
            if name not in runs:
                raise unknown_name(f"run in {what}", name, runs)
    depth, width = _common(runs)
    recorded = tuple(int(n) for n in layers) if layers is not None else said or tuple(range(depth))
    blocks = max(recorded) if n_layers is None else n_layers
    _check_layers(recorded, depth, blocks)
    readout = None if unembedding is None else _readout(unembedding, width)
    chosen = as_observables(observables, with_lens=readout is not None)
    reducer = _reducer(chosen, recorded, blocks, readout)
    emitted = {name: _emitted(name, tokens, array.shape[1]) for name, array in runs.items()}
    gathered = Gathered()
    for number, (name, array) in enumerate(runs.items()):
        reducer.update(_tile(number, array, emitted[name], recorded))
        gathered(*reducer.rows())
    texts = _said(runs, emitted, prompt_ids or {}, categories or {})
    steps, rows = gathered.table("steps"), gathered.table("layers")
    # Positions count from the first state that was saved, which is seldom that of the sequence: no sink is known.
    steps["sink"] = np.zeros(len(steps["run"]), bool)
    meta = _meta(runs, recorded, blocks, chosen, readout)
    return Trace.from_rows(steps, rows, texts.run_rows(), meta, column_info(reducer))


def _reducer(chosen: Sequence[Observable], layers: tuple[int, ...], blocks: int, readout: Readout | None) -> Together:
    """What measures these observables: those of a window of steps, and those of whole runs."""
    lenses = () if readout is None else (LensSpec(),)
    tilewise = tuple(one for one in chosen if one.lookback is not None)
    whole = tuple(one for one in chosen if one.lookback is None)
    first = Reducer(tilewise, layers, readout, lenses, blocks, output=bool(lenses))
    return Together(first, (Clouds(whole, layers, blocks),) if whole else ())


def _told(states: Any, ids: Any) -> str | None:
    """The order of three axes where ids beside the states say how many steps there are; None where they do not."""
    n, shape = np.shape(ids)[-1] if ids is not None else -1, tuple(states.shape)
    return "step layer d" if len(shape) == 3 and shape[0] == n != shape[1] else None


def _readout(unembedding: Unembedding | Readout | np.ndarray, width: int) -> Readout:
    if isinstance(unembedding, Readout):
        return unembedding
    made = unembedding if isinstance(unembedding, Unembedding) else Unembedding(np.asarray(unembedding))
    return made.readout(width)


def _tensor(values: Any, name: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} holds no numbers: {error}.") from error


def _arrays(found: Mapping[str, Any], axes: str | None) -> tuple[dict[str, np.ndarray], tuple[int, ...] | None]:
    """The runs by name, each [layer, step, d], and the numbers of the layers where names say them."""
    found = _residual({str(name): value for name, value in found.items()})
    weights = [name for name in found if name.endswith(".weight")]
    if weights:
        raise InputError(f"{weights[0]}: these are the weights of a model, not hidden states; observe runs a model.")
    arrays = {name: _array(name, value) for name, value in found.items()}
    numbers = {name: layer_of(name) for name in arrays}
    by_number = {n: name for name, n in numbers.items() if n is not None}
    if len(arrays) > 1 and all(n is not None for n in numbers.values()):
        return _by_layer(arrays, by_number, axes)
    out: dict[str, np.ndarray] = {}
    for name in sorted(arrays, key=_natural):
        array = arrays[name]
        order = _axes(axes or ("layer step d" if array.ndim == 3 else None), array.ndim, name)
        array = np.transpose(array, [order.index(axis) for axis in ("run", "layer", "step", "d") if axis in order])
        runs = array if "run" in order else array[None]
        out |= {name if len(runs) == 1 else f"{name}.{i}": one for i, one in enumerate(runs)}
    return out, None


def _residual(found: dict[str, Any]) -> dict[str, Any]:
    """Of a whole cache of TransformerLens the residual stream alone: the embedding, and what leaves every block.

    Its bridge gives the same tensor under several names (`blocks.3.hook_resid_post`, `blocks.3.hook_out`).
    """
    leaving = {name: value for name, value in found.items() if name.endswith(".hook_resid_post")}
    entering = {name: value for name, value in found.items() if name.endswith("blocks.0.hook_resid_pre")}
    return {**entering, **leaving} if leaving and all("hook_" in name for name in found) else found


def _by_layer(
    arrays: Mapping[str, np.ndarray], names: Mapping[int, str], axes: str | None
) -> tuple[dict[str, np.ndarray], tuple[int, ...]]:
    """Runs from one tensor per layer, each [run, step, d] or [step, d] (or as `axes` says, without the layer)."""
    if len(names) < len(arrays):
        raise InputError(f"two of {', '.join(sorted(arrays)[:4])} ... name one layer: give one tensor for each layer.")
    layers = tuple(sorted(names))
    shapes = {arrays[name].shape for name in names.values()}
    if len(shapes) > 1:
        raise InputError(f"the layers differ in shape ({', '.join(map(str, sorted(shapes)[:3]))}): wanted one for all.")
    ndim = len(next(iter(shapes)))
    order = _axes(axes or {2: "step d", 3: "run step d"}.get(ndim), ndim, "a layer")
    turned = [order.index(axis) for axis in ("run", "step", "d") if axis in order]
    stacked = np.stack([np.transpose(arrays[names[layer]], turned) for layer in layers], axis=-3)
    runs = stacked if stacked.ndim == 4 else stacked[None]
    return {f"run{i}": run for i, run in enumerate(runs)}, layers


def _axes(said: str | None, ndim: int, name: str) -> list[str]:
    """The names of the axes in their order. Raises InputError where they are not said, or do not fit."""
    order = [SYNONYMS.get(word, word) for word in (said or "").replace(",", " ").strip("[] ").split()]
    if said is None:
        raise InputError(f"{name} has {ndim} axes: say which is which, such as axes = 'run layer step d' (--axes).")
    if len(set(order)) < len(order) or not {"step", "d"} <= set(order) <= {"run", "layer", "step", "d"}:
        raise InputError(
            f"axes are layer, step and d in any order, and run (batch) where there are several; got {said!r}."
        )
    if len(order) != ndim:
        raise InputError(f"{name} has {ndim} axes and {said!r} names {len(order)}.")
    return order


def layer_of(name: str) -> int | None:
    """The layer of a tensor by its name: the output of block k (from 0) is layer k + 1, what enters it is layer k.

    Modules count blocks (`model.layers.3`, `h.3`, `blocks.3.hook_resid_post`); `hidden_states.3` and `layer_3` count
    states, the embedding first. None where the name says none.
    """
    if re.fullmatch(r"hook_embed|(.*\.)?(wte|embed_tokens|embeddings?)", name):
        return 0
    found = re.search(r"(?:^|\.)(?:blocks|layers|h)\.(\d+)(?:\.(.*))?$", name)
    if found and found[2] in (None, "output", "hook_resid_post", "hook_resid_pre", "input"):
        return int(found[1]) + (found[2] not in ("hook_resid_pre", "input"))
    found = re.fullmatch(r"(?:hidden_?states?|layers?|hs|states?)[._\- ]?(\d+)", name, re.IGNORECASE)
    return int(found[1]) if found else None


def _array(name: str, value: Any) -> np.ndarray:
    """Numbers of one tensor in float32 at most: of bfloat16, of a graph, of a module that gives a tuple, too."""
    value = getattr(value, "output", value)
    value = value[0] if isinstance(value, tuple) else value
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float().numpy() if value.is_floating_point() else value.numpy()
    array = np.asarray(value)
    if array.ndim < 2 or not all(array.shape) or array.dtype.kind not in "fiu":
        raise InputError(f"run {name!r} is {array.dtype} {array.shape}; wanted numbers as [layer, step, d].")
    return array


def _split(states: States, tokens: Tokens) -> tuple[dict[str, Any], Tokens]:
    """The tensors by name, and the ids beside them (`input_ids`), as the tokens that each state chose."""
    if isinstance(states, (str, Path)):
        states = read_states(states)
    elif not isinstance(states, Mapping) and getattr(states, "ndim", 0) >= 3:
        states = {"run0": cast(np.ndarray, states)}
    if not isinstance(states, Mapping):
        states = {f"run{i}": array for i, array in enumerate(states)}
    found = {str(name): value for name, value in states.items() if name not in IDS}
    if not found:
        raise InputError("there are no runs: wanted one array [layer, step, d] or several.")
    return found, tokens if tokens is not None else next((states[name] for name in IDS if name in states), None)


def _chosen(ids: Any, runs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The token that each state chose, of `input_ids` [run, position] or [position]: the id after it; the last: -1."""
    rows = np.atleast_2d(ids.detach().cpu().numpy() if isinstance(ids, Tensor) else np.asarray(ids))
    steps = [run.shape[1] for run in runs.values()]
    if rows.ndim != 2 or len(rows) != len(runs) or any(rows.shape[1] != n for n in steps):
        raise InputError(f"input_ids are {rows.shape}; wanted [{len(runs)}, {steps[0]}], an id for each state.")
    after = np.concatenate([rows[:, 1:], np.full((len(rows), 1), -1)], axis=1)
    return dict(zip(runs, after.astype(np.int64), strict=True))


def _without_padding(array: np.ndarray) -> np.ndarray:
    """The same with NaN at steps that are zero in every layer: padding, which is no state."""
    empty = np.asarray(~array.any(axis=(0, 2)))
    return np.where(empty[None, :, None], np.nan, array) if empty.any() else array


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts run2 before run10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(name))]


def read_states(path: str | Path) -> dict[str, np.ndarray]:
    """Arrays from a `.npy`, `.npz` or `.safetensors` file by name; half precision (bfloat16 too) becomes float32.

    Raises StudyFileError where the file cannot be read; pickled arrays are never loaded.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        pickled = " Pickles (.pt, .bin, .pkl) can run code and are not read." if path.suffix in PICKLES else ""
        raise StudyFileError(f"{path} is none of {', '.join(SUFFIXES)}: save the states as one of these.{pickled}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            found = sorted(load_file(path).items())
            return {name: (t.float() if t.is_floating_point() else t).numpy() for name, t in found}
        loaded = np.load(path, allow_pickle=False)
        return {path.stem: loaded} if path.suffix == ".npy" else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # each of the three readers fails in its own words
        why = (str(error).splitlines() or [type(error).__name__])[0]
        if "pickle" in why:
            why = "it holds no plain arrays (pickled objects can run code and are never loaded)"
        raise StudyFileError(f"{path} cannot be read: {why}.") from error


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
) -> dict[str, object]:
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
