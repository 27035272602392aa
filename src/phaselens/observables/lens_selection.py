"""What the lens kernel knows of some tokens under one cap, tile by tile, whatever the temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

TOP = 10
LOG2E, LN2 = 1 / math.log(2), math.log(2)
# Blocks in which the ten largest are searched, in rows from WIDE on and below.
WIDE, BLOCK, NARROW_BLOCK = 4096, 16, 8
# Up to this cap the logistic function, ten times as fast, has the digits of tanh.
SMALL_CAP = 64.0
OF_EMITTED = frozenset({"emitted_rank", "emitted_is_top"})


@dataclass(frozen=True, eq=False)
class Variant:
    """One reading of a product.

    `emitted` [row] are numbers of the emitted tokens among those read (-1: none), `temperature` is one, or one a layer,
    `tokens` are those read (ascending int64 [K]; None: all), `cap` the soft cap in nats, on `centred` logits or not.
    """

    emitted: Tensor
    temperature: float | Tensor = 1.0
    tokens: Tensor | None = None
    cap: float | None = None
    centred: bool = False


@dataclass(frozen=True, eq=False)
class _Part:
    """What the first pass finds in one tile: block maxima [row, block], the largest logit of the last layer with its
    number, the peak [row], sums of logits and of their squares [2, row], and masses by temperature.
    """

    maxima: Tensor
    largest: Tensor
    number: Tensor
    peak: Tensor
    sums: Tensor
    masses: dict[Any, tuple[Tensor, Tensor]]


class Selection:
    """Logits of some tokens under one cap, tile by tile: what does not depend on the temperature. Sums are float64."""

    def __init__(
        self,
        variant: Variant,
        shape: tuple[int, int],
        tiles: Sequence[tuple[int, int]],
        vocab: int,
        scratch: tuple[Tensor, ...],
        wanted: frozenset[str],
    ) -> None:
        self.tokens, self.centred, self.shape, self.wanted = variant.tokens, variant.centred, shape, wanted
        self.cap = None if variant.cap is None else variant.cap * LOG2E
        self.size = vocab if self.tokens is None else len(self.tokens)
        self.scratch, self.readings = scratch, list[Any]()
        self.emitted = variant.emitted
        self.spans = [_span(self.tokens, a, b) for a, b in tiles]
        device = self.emitted.device
        self.exact = torch.float32 if device.type == "mps" else torch.float64
        self.count = shape[0] * shape[1]
        self.sums = torch.zeros(2, self.count, dtype=self.exact, device=device)
        self.rank = torch.zeros(self.count, device=device)
        self.peak: Any = None  # a tensor [row] once there was a tile
        # The largest logit of the last layer, and its number.
        self.best = torch.full((shape[0],), -math.inf, device=device)
        self.chosen = torch.zeros(shape[0], dtype=torch.int64, device=device)
        self.maxima: list[Tensor] = []
        self.blocks: list[Tensor] = []

    def takes(self, v: Variant) -> bool:
        """Whether a variant reads these tokens under this cap."""
        cap = None if v.cap is None else v.cap * LOG2E
        return (self.cap, self.centred) == (cap, v.centred) and self.tokens is v.tokens

    def begin(self, centre: Tensor, means: Tensor | None, tile: Tensor) -> None:
        """What stands between stored logits and those that the cap acts on, and a number near the capped mean."""
        self.shift = centre - means[:, None] if self.centred and means is not None else centre
        self.offset = torch.zeros_like(centre)
        self.offset = self.capped(tile).mean(-1, keepdim=True)

    def capped(self, z: Tensor, rows: slice = slice(None)) -> Tensor:  # noqa: B008  frozen
        """Stored logits under the cap, if there is one, less the row's offset. What asks for order alone needs none."""
        if self.cap is None:
            return z
        x, offset = z + self.shift[rows], self.offset[rows]
        if self.cap > SMALL_CAP * LOG2E:
            return x.div_(self.cap).tanh_().mul_(self.cap).sub_(offset)
        return x.mul_(2 / self.cap).sigmoid_().mul_(2 * self.cap).sub_(offset + self.cap)

    def own(self, i: int, z: Tensor) -> Tensor:
        """The stored logits of these tokens in tile i."""
        _, cut = self.spans[i]
        return z if cut is None else z[:, cut] if isinstance(cut, slice) else z.index_select(1, cut)

    def at(self, flat: Tensor, columns: Tensor) -> Tensor:
        """Stored logits [row, n] at columns of this selection; `flat` holds tile after tile."""
        columns = columns if self.tokens is None else self.tokens[columns]
        start = columns // self.width * self.width
        own = (self.vocab - start).clamp(max=self.width)
        row = torch.arange(self.count, device=flat.device)[:, None]
        return flat.take(start * (self.count - 1) + row * own + columns)

    def part(self, k: int, width: int) -> Tensor:
        """Working memory k as [row, width]."""
        return self.scratch[k][: self.count * width].view(self.count, width)

    def first(self, i: int, z: Tensor, parts: dict[Any, _Part]) -> None:
        """The pass that follows the product: maxima of blocks, sums, exponentials below the tile's own peak.

        `parts` are those of this tile by cap: tokens that are all of the tile have theirs from whoever was first.
        """
        v, start = self.own(i, z), self.spans[i][0]
        if v.shape[1] == 0:
            return
        key = (self.cap, self.centred) if v.shape == z.shape else None
        part = parts.get(key)
        if part is None or not all(one.key in part.masses for one in self.readings):
            part = self._part(v)
            if key is not None:
                parts[key] = part
        self._note_blocks(v.shape[1], start)
        self.maxima.append(part.maxima)
        self.chosen = torch.where(part.largest > self.best, part.number + start, self.chosen)
        self.best = torch.maximum(self.best, part.largest)
        self.sums += part.sums
        peak = part.peak if self.peak is None else torch.maximum(self.peak, part.peak)
        fall = None if self.peak is None else self.peak - peak
        self.peak = peak
        for one in self.readings:
            one.add(part.masses[one.key], fall, part.peak - peak)

    def _part(self, v: Tensor) -> _Part:
        largest, number = v.unflatten(0, self.shape)[:, -1].max(-1)
        maxima = self._block_maxima(v)
        peak, v = self.capped(maxima.amax(1, keepdim=True)), self.capped(v)
        sums = torch.stack((v.sum(-1), torch.linalg.vector_norm(v, dim=-1))).to(self.exact)
        sums[1].square_()
        y = torch.sub(v, peak, out=self.part(0, v.shape[1]))
        return _Part(maxima, largest, number, peak[:, 0], sums, {one.key: one.mass(y) for one in self.readings})

    def _blocks(self, width: int) -> tuple[int, int]:
        """How many blocks a tile of this width has, and how many columns all of them have."""
        n = max(1, width // (BLOCK if self.size >= WIDE else NARROW_BLOCK))
        return n, width // n

    def _block_maxima(self, v: Tensor) -> Tensor:
        """Maxima of blocks [row, block] of every n-th column."""
        width = v.shape[1]
        n, deep = self._blocks(width)
        out = v[:, : deep * n].unflatten(1, (deep, n)).amax(1)
        rest = width - deep * n
        if rest:
            torch.maximum(out[:, :rest], v[:, deep * n :], out=out[:, :rest])
        return out

    def _note_blocks(self, width: int, start: int) -> None:
        """Which columns the blocks of a tile are: first, step, how many [block, 3]."""
        n, deep = self._blocks(width)
        block = torch.arange(n, device=self.emitted.device)
        more = block < width - deep * n
        self.blocks.append(torch.stack((block + start, torch.full_like(block, n), deep + more), 1))

    def settle(self, flat: Tensor, width: int, vocab: int) -> None:
        """Between the passes: what both need to be whole. `flat` holds all tiles of this width."""
        self.width, self.vocab = width, vocab
        mean, squares = self.sums / self.size
        self.spread = (squares - mean.square()).clamp(min=0).sqrt().float() * LN2
        self.top = self._largest(flat)
        index = self.emitted.clamp(min=0).repeat_interleave(self.shape[1])[:, None]
        self.emitted_at = self.at(flat, index)
        chosen = self.chosen.repeat_interleave(self.shape[1])[:, None]
        self.agrees = (self.at(flat, chosen)[:, 0] >= torch.cat(self.maxima, 1).amax(1)).float()
        for one in self.readings:
            one.settle()

    def _largest(self, flat: Tensor) -> Tensor:
        """The ten largest [row, 10], falling; -inf where there are fewer.

        They lie in the ten blocks with the largest maxima, ties included, since only values are asked for.
        """
        maxima, blocks = torch.cat(self.maxima, 1), torch.cat(self.blocks)
        best = blocks[maxima.topk(min(TOP, maxima.shape[1]), sorted=False).indices]
        step = torch.arange(int(blocks[:, 2].max()), device=flat.device)
        columns = best[..., :1] + best[..., 1:2] * step
        inside = step < best[..., 2:]
        values = self.at(flat, columns.where(inside, 0).flatten(1)).where(inside.flatten(1), -math.inf)
        top = self.capped(values.topk(min(TOP, values.shape[1])).values)
        return torch.nn.functional.pad(top, (0, TOP - top.shape[1]), value=-math.inf)

    def second(self, i: int, z: Tensor) -> None:
        """The pass that needs peak and totals."""
        asked = self.wanted & OF_EMITTED
        later = [one for one in self.readings if one.needs_second]
        if not (asked or later):
            return
        v = self.own(i, z)
        if v.shape[1] == 0:
            return
        if asked:
            # Comparison into a float buffer: the sum of its ones is exact and much faster than counting booleans.
            self.rank += torch.gt(v, self.emitted_at, out=self.part(2, v.shape[1])).sum(-1)
        if later:
            y = torch.sub(self.capped(v), self.peak[:, None], out=self.part(0, v.shape[1]))
            for one in later:
                one.second(y)


def _span(tokens: Tensor | None, a: int, b: int) -> tuple[int, slice | Tensor | None]:
    """Number of the first of `tokens` in the tile a..b, and where they are in it (None: all of it)."""
    if tokens is None:
        return a, None
    low, high = torch.searchsorted(tokens, torch.tensor([a, b], device=tokens.device)).tolist()
    inside = tokens[low:high] - a
    if high > low and int(inside[-1] - inside[0]) == high - low - 1:
        return low, slice(int(inside[0]), int(inside[-1]) + 1)
    return low, inside
