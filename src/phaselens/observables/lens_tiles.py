"""The lens kernel: one product with the head, in tiles of the vocabulary, and the statistics of every variant from it.

A tile of logits is measured while it is in cache: once when the product has made it (maxima of blocks, and sums of
exponentials below its own peak), and once when the totals are known (rank, KL, Jensen-Shannon). In between the logits
of a block of rows stand in one reused buffer, less a number of their row that is near its mean, which keeps every sum
accurate in float32 whatever the shift of the logits was. Variants of a lens that read the same product (temperatures,
token sets, soft caps) are measured on the same tiles.

Logits are kept in units of ln 2, since exp2 is four times as fast as exp where Torch hands exp to MKL; ln m is
log1p(m 2^40) - 40 ln 2 for the same reason, good to V 2^-40 in a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from phaselens.observables.lens_selection import LOG2E, Selection, Variant
from phaselens.observables.lens_variant import Reading
from phaselens.products import product
from phaselens.types import Readout

BUFFER_BYTES = 96 * 2**20
MIN_ROWS = 192
TILE, TILE_NUMBERS = 2048, 2**20

Source = Callable[[int, int], Tensor]


def read_states(
    hidden: Tensor,
    readout: Readout,
    variants: Sequence[Variant],
    norm: bool,
    wanted: frozenset[str],
    buffers: dict[str, Tensor],
) -> list[dict[str, Tensor]]:
    """The wanted statistics [row, layer] of every variant at states [row, layer, d_model]; a product for all."""
    n_rows, n_layers, _ = hidden.shape
    vocab = readout.weight.shape[0]
    size = max(1, rows_at_once(vocab) // n_layers)
    # Blocks of equal size: a short last one would read the whole unembedding for little.
    size = math.ceil(n_rows / math.ceil(n_rows / size))
    mean = readout.weight.mean(0, dtype=torch.float32) if any(v.centred for v in variants) else None
    parts = []
    for start in range(0, n_rows, size):
        rows = slice(start, min(start + size, n_rows))
        states = (readout.before_head(hidden[rows], norm=norm) * (readout.scale * LOG2E)).flatten(0, 1)
        bias = None if readout.bias is None else readout.bias.float() * (readout.scale * LOG2E)
        means = None if mean is None else states @ mean + (0 if bias is None else bias.mean())

        def source(a: int, b: int, states: Tensor = states, bias: Tensor | None = bias) -> Tensor:
            out = product(states, readout.weight[a:b])
            return out if bias is None else out.add_(bias[a:b])

        here = [_of_rows(v, rows) for v in variants]
        parts.append(measure(source, (len(states) // n_layers, n_layers), vocab, here, wanted, buffers, means=means))
    return [{name: torch.cat([p[i][name] for p in parts]) for name in parts[0][i]} for i in range(len(variants))]


def rows_at_once(vocab: int) -> int:
    """Distributions in one block: enough for the product to read the head seldom, few enough for the buffer."""
    return max(MIN_ROWS, min(TILE_NUMBERS // min(vocab, TILE), BUFFER_BYTES // (4 * vocab)))


def _of_rows(v: Variant, rows: slice) -> Variant:
    return Variant(v.emitted[rows], v.temperature, v.tokens, v.cap, v.centred)


def buffer(buffers: dict[str, Tensor], name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An uninitialised tensor of this shape out of a kept piece of memory, which grows when it is too small."""
    size = math.prod(shape)
    if name not in buffers or buffers[name].numel() < size or buffers[name].device != device:
        buffers[name] = torch.empty(size, device=device)
    return buffers[name][:size].view(shape)


def measure(
    source: Source,
    shape: tuple[int, int],
    vocab: int,
    variants: Sequence[Variant],
    wanted: frozenset[str],
    buffers: dict[str, Tensor],
    means: Tensor | None = None,
) -> list[dict[str, Tensor]]:
    """The wanted statistics of every variant at one block of rows; `shape` is (rows, layers).

    `source(a, b)` gives logits [row * layer, b - a] in units of ln 2, which may be changed; `means` their means over
    the vocabulary where a cap needs them.
    """
    device = variants[0].emitted.device
    count = shape[0] * shape[1]
    width = vocab if device.type != "cpu" else min(vocab, max(1, TILE_NUMBERS // count // TILE) * TILE)
    flat = buffer(buffers, "logits", (count * vocab,), device)
    scratch = tuple(buffer(buffers, name, (count * width,), device) for name in ("y", "p", "work"))
    tiles = [(a, min(a + width, vocab)) for a in range(0, vocab, width)]
    # Each tile in one piece: rows that are a vocabulary apart would miss the processor's table of pages.
    z = [flat[a * count : b * count].view(count, b - a) for a, b in tiles]
    selections: list[Selection] = []
    for v in variants:
        same = next((s for s in selections if s.takes(v)), None)
        if same is None:
            selections.append(same := Selection(v, shape, tiles, vocab, scratch, wanted))
        same.readings.append(Reading(v, same))
    for i, (a, b) in enumerate(tiles):
        logits, parts = source(a, b), dict[Any, Any]()
        if i == 0:
            centre = logits.mean(-1, keepdim=True)
        torch.sub(logits, centre, out=z[i])
        for s in selections:
            if i == 0 and s.cap is not None:
                s.begin(centre, means, z[i])
            s.first(i, z[i], parts)
    for s in selections:
        s.settle(flat, width, vocab)
    for i in range(len(tiles)):
        for s in selections:
            s.second(i, z[i])
    found = {id(r.variant): r.statistics(z) for s in selections for r in s.readings}
    return [{name: found[id(v)][name] for name in wanted} for v in variants]
