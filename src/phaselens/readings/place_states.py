"""Hidden states at labelled places, through the one capture path, streamed to one file per layer."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from phaselens.capture import replay
from phaselens.errors import InputError, unknown_name
from phaselens.models import Model
from phaselens.readings.examples import Places
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript, Transcripts

POOLS = ("mean", "last")


@dataclass(frozen=True, eq=False)
class States:
    """States of every example at every layer, and what else the same pass says about the place.

    `layers[l]` float32 [example, d], memory-mapped where a folder was given; `norm` [layer, example] (unit of the
    states); at the last token of the place: `max_softmax` (probability) and `argmax` (token id) of the output; `length`
    tokens of the place and `position` its last token, int [example].
    """

    numbers: tuple[int, ...]
    layers: tuple[np.ndarray, ...]
    norm: np.ndarray
    max_softmax: np.ndarray
    argmax: np.ndarray
    length: np.ndarray
    position: np.ndarray

    def covariates(self, layer: int) -> np.ndarray:
        """What could be read without any direction of the states: float32 [example, 5], each centred, SD 1.

        Log-odds of max-softmax, log norm at this layer, length, position, and log norm squared.
        """
        p = np.clip(self.max_softmax, 1e-6, 1 - 1e-6)
        size = np.log(np.maximum(self.norm[layer], 1e-8))
        columns = np.stack([np.log(p / (1 - p)), size, self.length, self.position, (size - size.mean()) ** 2], axis=1)
        spread = columns.std(axis=0)
        return ((columns - columns.mean(axis=0)) / np.where(spread > 0, spread, 1)).astype(np.float32)


class _Keeper:
    """Takes tiles and keeps, for each example, the mean or the last state of its tokens."""

    def __init__(self, model: Model, wanted: dict[int, list[tuple[int, int, int]]], out: "_Arrays", pool: str):
        self.model, self.wanted, self.out, self.pool = model, wanted, out, pool

    def update(self, tile: Tile) -> None:
        """Add what this tile holds of the wanted places."""
        first, last = int(tile.position[0, 0]), int(tile.position[0, -1])
        rows: list[tuple[int, int, int, float]] = []
        for row, run in enumerate(tile.run.tolist()):
            for example, lo, hi in self.wanted[run]:
                begin = hi - 1 if self.pool == "last" else lo
                at = range(max(begin, first), min(hi - 1, last) + 1)
                rows += [(row, p - first, example, 1 / (hi - begin)) for p in at]
                if first <= hi - 1 <= last:
                    self._output(tile, row, hi - 1 - first, example)
        if rows:
            which, where, of, weight = (np.array(column) for column in zip(*rows, strict=True))
            states = tile.hidden[torch.as_tensor(which), :, torch.as_tensor(where)].cpu().numpy()
            self.out.add(of, states * weight[:, None, None].astype(np.float32))

    def _output(self, tile: Tile, row: int, at: int, example: int) -> None:
        self.out.ends.append((example, tile.hidden[row, -1, at]))
        if len(self.out.ends) >= 256:
            self.out.drain(self.model)

    def rows(self) -> tuple[dict, dict]:
        """Nothing to hand out: states are kept in their files."""
        return {}, {}


class _Arrays:
    """The arrays that fill while tiles come in."""

    def __init__(self, n: int, layers: int, width: int, folder: Path | None):
        self.layers = [self._array(folder, i, (n, width)) for i in range(layers)]
        self.max_softmax, self.argmax = np.full(n, np.nan), np.full(n, -1)
        self.ends: list[tuple[int, torch.Tensor]] = []

    @staticmethod
    def _array(folder: Path | None, layer: int, shape: tuple[int, int]) -> np.ndarray:
        if folder is None:
            return np.zeros(shape, np.float32)
        return np.lib.format.open_memmap(folder / f"layer-{layer:03d}.npy", mode="w+", dtype=np.float32, shape=shape)

    def add(self, example: np.ndarray, states: np.ndarray) -> None:
        """Add weighted states [place, layer, d] to the rows of their examples."""
        for i, layer in enumerate(self.layers):
            np.add.at(layer, example, states[:, i])

    def drain(self, model: Model) -> None:
        """Read the output at the last tokens that came in; the head is read for many at once."""
        if not self.ends:
            return
        example, states = zip(*self.ends, strict=True)
        with torch.no_grad():
            top = torch.softmax(model.readout.logits(torch.stack(states)), dim=-1).max(dim=-1)
        where = np.array(example)
        self.max_softmax[where], self.argmax[where] = top.values.cpu().numpy(), top.indices.cpu().numpy()
        self.ends = []


def capture_states(
    model: Model,
    places: Places,
    *,
    pool: str = "mean",
    layers: tuple[int, ...] = (),
    folder: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> States:
    """Run every text once and keep the states at the places: the mean over their tokens, or the last (`pool`).

    One replay of the capture path; with `folder` the states of each layer stream into `layer-000.npy` and so on, so
    memory does not grow with examples. `layers` (default: all of 0..L) always includes the last, whose state the output
    is read from. Raises UnknownNameError for another `pool`, InputError for a layer that does not exist.
    """
    if pool not in POOLS:
        raise unknown_name("way of pooling", pool, POOLS)
    wrong = [x for x in layers if not 0 <= x <= model.n_layers]
    if wrong:
        raise InputError(f"{model.name} has layers 0 to {model.n_layers}; got {wrong}.")
    numbers = tuple(sorted({*(layers or range(model.n_layers + 1)), model.n_layers}))
    runs, wanted = _runs(places)
    if folder is not None:
        Path(folder).mkdir(parents=True, exist_ok=True)
    out = _Arrays(len(places.lo), len(numbers), model.d_model, None if folder is None else Path(folder))
    replay(model, runs, _Keeper(model, wanted, out, pool), layers=numbers, progress=progress)
    out.drain(model)
    bad = [i for i, layer in enumerate(out.layers) if not np.isfinite(layer).all()]
    if bad:
        n = int((~np.isfinite(out.layers[bad[0]]).all(axis=1)).sum())
        raise InputError(
            f"{model.name}: states at layer {numbers[bad[0]]} are NaN or infinite in {n} examples. Leave these "
            "examples out, or load the model with --dtype float32."
        )
    norm = np.stack([np.linalg.norm(layer, axis=1) for layer in out.layers])
    at = {"length": np.asarray(places.hi - places.lo), "position": np.asarray(places.hi - 1)}
    return States(numbers, tuple(out.layers), norm, max_softmax=out.max_softmax, argmax=out.argmax, **at)


def _runs(places: Places) -> tuple[Transcripts, dict[int, list[tuple[int, int, int]]]]:
    """One run for each text, from its first wanted token to its last, and the examples that read it."""
    by_text: dict[tuple[int, ...], list[tuple[int, int, int]]] = defaultdict(list)
    for example, (ids, lo, hi) in enumerate(zip(places.ids, places.lo, places.hi, strict=True)):
        by_text[ids].append((example, int(lo), int(hi)))
    runs, wanted = [], {}
    for number, (ids, found) in enumerate(by_text.items()):
        first, last = min(lo for _, lo, _ in found), max(hi for _, _, hi in found)
        # A replay feeds all but the last generated token, so one more is named that is never fed.
        runs.append(Transcript(number, ids[: first + 1], (*ids[first + 1 : last], ids[0])))
        wanted[number] = found
    return Transcripts(tuple(runs)), wanted
