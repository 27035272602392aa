"""Observe transcripts in one teacher-forced pass, cut into pieces so that memory does not grow with length."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from phaselens.capture.cache import roomy_cache
from phaselens.capture.intervene import At, Clock, intervening
from phaselens.capture.progress import Progress
from phaselens.capture.prompts import batches, check_transcripts, length_kind
from phaselens.errors import InputError
from phaselens.models import Model, Taps, guarded, record
from phaselens.models.forward import unpadded
from phaselens.models.hooks import check_layers
from phaselens.products import ByOneDNN
from phaselens.trace.tile import Tile
from phaselens.trace.transcripts import Transcript, Transcripts

# Enough rows for full speed of the matrix products; more would leave the processor's cache between two of them.
TOKENS_PER_PASS, DEVICE_TOKENS_PER_PASS = 1024, 8192
TILE_BYTES = 1 << 25
Columns = dict[str, np.ndarray]


class Takes(Protocol):
    """What capture needs: something that takes tiles."""

    def update(self, tile: Tile) -> None:
        """Take the next tile of the batch, or the first of a new one."""


class Reduces(Takes, Protocol):
    """A reducer: it hands out the rows that are finished, too."""

    def rows(self) -> tuple[Columns, Columns]:
        """Hand out the finished rows of the tables `steps` and `layers`, and forget them."""


def replay(
    model: Model,
    transcripts: Transcripts,
    reducer: Takes,
    *,
    layers: Iterable[int] | None = None,
    chunk: int = 256,
    batch_size: int | None = None,
    interventions: Sequence[At] = (),
    sink: Callable[[Columns, Columns], None] | None = None,
    keep_hidden: dict[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> None:
    """Feed prompt and completion (but its last token) once, and hand the states of every step to `reducer` as tiles.

    Runs are padded on the right, where causal networks cannot see; passes are cut into `chunk` positions joined by the
    cache where the model was proved to allow it, else they are one piece. With `sink`, finished rows are drained into
    it after every chunk. With `keep_hidden` (a dict), states are kept in it as `run<number>`, float32 [step, layer,
    d_model]. The batch size is chosen so that one pass holds about 1,024 tokens (8,192 on a device) unless given.
    `progress(done, total)` counts generated tokens.

    Raises PromptError for ids outside the vocabulary or runs longer than the context, InputError for no runs or a
    layer that does not exist, ModelRefused where the network's own logits at the end of a pass are not the lens at L.
    """
    check_transcripts(model, transcripts)
    if chunk < 1:
        raise InputError(f"chunk is {chunk}; wanted at least 1 position per pass.")
    chosen = check_layers(layers, model.n_layers)
    longest = max(len(t.fed) for t in transcripts)
    width = chunk_of(model, chunk, longest)
    size = batch_size or pass_size(model.device, width)
    done, total = 0, sum(t.n_generated for t in transcripts)
    for batch in batches(
        transcripts.runs, lambda t: len(t.fed), size, alike=lambda t: length_kind(model, len(t.fed), len(t.fed))
    ):
        labels = Labels(batch, model.device)
        observing = record(model, chosen), guarded(model), intervening(model, interventions)
        with observing[0] as taps, observing[1] as guard, observing[2] as clock, torch.no_grad():
            for start, stop in _passes(model, labels, chunk, taps, clock):
                guard.check(labels.runs, stop - 1)
                for tile in _tiles(labels, taps, start, stop):
                    reducer.update(tile)
                    if keep_hidden is not None:
                        keep(keep_hidden, tile, labels)
                taps.states.clear()
                if sink is not None:
                    sink(*cast(Reduces, reducer).rows())
        done += sum(t.n_generated for t in batch)
        if progress is not None:
            progress(done, total)


def chunk_of(model: Model, chunk: int, length: int) -> int:
    """Positions per pass of a run of `length`: all where pieces were not proved to be one pass at that length."""
    pieces = model.facts.chunks and length_kind(model, length, length) == "below"
    return min(length, chunk) if pieces else length


def pass_size(device: torch.device, width: int) -> int:
    """How many runs a pass of `width` positions holds, by the number of tokens that suits the device."""
    tokens = TOKENS_PER_PASS if device.type == "cpu" else DEVICE_TOKENS_PER_PASS
    return max(1, min(32, tokens // width))


class Labels:
    """Names of everything in a batch of transcripts: token ids fed [run, position], and which positions are steps."""

    def __init__(self, batch: Sequence[Transcript], device: torch.device) -> None:
        longest = max(len(t.fed) for t in batch)
        pad = batch[0].prompt_ids[0]
        self.ids = torch.tensor([list(t.fed) + [pad] * (longest - len(t.fed)) for t in batch], device=device)
        self.runs = [t.run for t in batch]
        self.run = torch.tensor(self.runs, device=device)
        self.n_prompt = torch.tensor([t.n_prompt for t in batch], device=device)
        self.n_generated = torch.tensor([t.n_generated for t in batch], device=device)
        emitted = [(-1,) * (t.n_prompt - 1) + t.completion_ids + (-1,) * (longest - len(t.fed)) for t in batch]
        self.emitted = torch.tensor(emitted, device=device)
        self.first = min(t.n_prompt for t in batch) - 1
        self.length = longest

    def cut(self, start: int, stop: int, layers: tuple[int, ...], hidden: Tensor) -> Tile:
        """The tile of positions start..stop-1 with these states."""
        position = torch.arange(start, stop, device=self.ids.device).expand(len(self.runs), -1)
        step = position - (self.n_prompt[:, None] - 1)
        valid = (step >= 0) & (step < self.n_generated[:, None])
        return Tile(self.run, step, position, self.emitted[:, start:stop], valid=valid, layers=layers, hidden=hidden)


def _passes(model: Model, labels: Labels, chunk: int, taps: Taps, clock: Clock) -> Iterator[tuple[int, int]]:
    """Run the batch piece by piece; after each piece the taps hold the states of the positions handed out."""
    chunk = chunk_of(model, chunk, labels.length)
    cache = roomy_cache(model, labels.length).get("past_key_values") if labels.length > chunk else None
    for start in range(0, labels.length, chunk):
        stop = min(start + chunk, labels.length)
        clock.begin(stop, labels.n_prompt - 1, labels.runs)
        cache = advance(model, labels.ids[:, start:stop], start, cache, keep_cache=labels.length > chunk)
        if stop > labels.first:
            yield max(start, labels.first), stop
        taps.states.clear()


def advance(model: Model, ids: Tensor, start: int, cache: Any, *, keep_cache: bool) -> Any:
    """One pass over `ids` [run, position] from position `start`; returns the cache after it. No logits are kept."""
    inputs, name = unpadded(model.facts.takes, ids, start=start, kept=1, use_cache=keep_cache), model.facts.cache
    if cache is not None and name is not None:
        inputs[name] = cache
    with ByOneDNN():
        out = model.network(**inputs)
    return getattr(out, name, None) if keep_cache and name else None


def _tiles(labels: Labels, taps: Taps, start: int, stop: int) -> Iterator[Tile]:
    """The states in the taps, stacked in pieces small enough to stay near the processor, in order of position."""
    one = taps.states[taps.layers[0]]
    first = stop - one.shape[1]
    width = one.shape[0] * len(taps.layers) * one.shape[2] * 4
    piece = max(1, TILE_BYTES // width)
    for left in range(start, stop, piece):
        right = min(left + piece, stop)
        states = [taps.states[layer][:, left - first : right - first] for layer in taps.layers]
        yield labels.cut(left, right, taps.layers, torch.stack(states, dim=1).float())


def keep(into: dict[str, np.ndarray], tile: Tile, labels: Labels) -> None:
    """Write the states of a tile into one array per run, float32 [step, layer, d_model], NaN where none came yet."""
    for i, run in enumerate(tile.run.tolist()):
        where = tile.valid[i]
        if not bool(where.any()):
            continue
        name = f"run{run}"
        if name not in into:
            shape = (int(labels.n_generated[i]), tile.hidden.shape[1], tile.hidden.shape[3])
            into[name] = np.full(shape, np.nan, dtype=np.float32)
        steps = tile.step[i][where].cpu().numpy()
        into[name][steps] = tile.hidden[i][:, where].transpose(0, 1).cpu().numpy()
