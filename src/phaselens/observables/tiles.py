"""The lens kernel: one product with the head, in tiles of the vocabulary, and the statistics of every variant from it.

A tile of logits is measured while it is in cache: once when the product has made it (maxima of blocks, and sums of
exponentials by a running peak), and once when the totals are known (rank, KL, Jensen-Shannon). In between the logits of
a block of rows stand in one reused buffer, less a number of their row that is near its mean, which keeps every sum
accurate in float32 whatever the shift of the logits was. Variants of a lens that read the same product (temperatures,
token sets, soft caps) are measured on the same tiles.

Logits are kept in units of ln 2, since exp2 is four times as fast as exp where Torch hands exp to MKL; ln m is
log1p(m 2^40) - 40 ln 2 for the same reason, good to V 2^-40 in a sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from phaselens.observables.nucleus import nucleus_by_bisection
from phaselens.products import product
from phaselens.types import Readout

TOP = 10
ONE_PERCENT = 0.01
BUFFER_BYTES = 96 * 2**20
MIN_ROWS = 192
TILE, TILE_NUMBERS = 2048, 2**20
NUCLEUS_BYTES = 24 * 2**20
# Blocks in which the ten largest are searched, in rows from WIDE on and below.
WIDE, BLOCK, NARROW_BLOCK = 4096, 16, 8
LIFT = 40
LOG2E, LN2 = 1 / math.log(2), math.log(2)
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
        parts.append(measure(source, (len(states) // n_layers, n_layers), vocab, here, wanted, buffers, means))
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
    scratch = tuple(buffer(buffers, name, (count * width,), device) for name in ("y", "scaled", "p", "work"))
    tiles = [(a, min(a + width, vocab)) for a in range(0, vocab, width)]
    # Each tile in one piece: rows that are a vocabulary apart would miss the processor's table of pages.
    z = [flat[a * count : b * count].view(count, b - a) for a, b in tiles]
    selections: list[_Selection] = []
    for v in variants:
        same = next((s for s in selections if s.takes(v)), None)
        if same is None:
            selections.append(same := _Selection(v, shape, tiles, vocab, scratch, wanted))
        same.readings.append(_Reading(v, same))
    for i, (a, b) in enumerate(tiles):
        logits, parts = source(a, b), {}
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


class _Selection:
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
        self.scratch, self.readings = scratch, []
        self.emitted = variant.emitted
        self.spans = [_span(self.tokens, a, b) for a, b in tiles]
        device = self.emitted.device
        self.exact = torch.float32 if device.type == "mps" else torch.float64
        self.count = shape[0] * shape[1]
        self.sums = torch.zeros(2, self.count, dtype=self.exact, device=device)
        self.rank = torch.zeros(self.count, device=device)
        self.peak: Tensor | None = None
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
            self.rank += torch.gt(v, self.emitted_at, out=self.part(3, v.shape[1])).sum(-1)
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


class _Reading:
    """One variant: a selection of logits at one temperature, or at one for each layer."""

    def __init__(self, variant: Variant, selection: _Selection) -> None:
        self.variant, self.of = variant, selection
        heat = variant.temperature
        device = variant.emitted.device
        heat = heat.float() if isinstance(heat, Tensor) else torch.full((selection.shape[1],), heat, device=device)
        self.plain = bool((heat == 1).all())
        self.key = variant.temperature if isinstance(variant.temperature, float) else id(variant.temperature)
        self.cold = (1 / heat).repeat(selection.shape[0])[:, None]
        # Sums of e, of e ln e, and in the second pass of p[L] ln e, of the mixture's m ln m, and of tokens above 1 %.
        self.total, self.weighted = torch.zeros(2, selection.count, dtype=selection.exact, device=device)
        self.cross, self.above = torch.zeros(2, selection.count, dtype=selection.exact, device=device)
        self.mixed = torch.zeros(selection.shape[0], selection.shape[1] - 1, dtype=selection.exact, device=device)

    def _scaled(self, y: Tensor) -> Tensor:
        return y if self.plain else torch.mul(y, self.cold, out=self.of.part(1, y.shape[1]))

    def mass(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Sums [row] of e = 2^y and of e y over a tile of y = z - its peak, at this temperature."""
        y = self._scaled(y)
        e = torch.exp2(y, out=self.of.part(2, y.shape[1]))
        total = e.sum(-1).to(self.total.dtype)
        return total, e.mul_(y).sum(-1).to(self.total.dtype)

    def add(self, mass: tuple[Tensor, Tensor], fall: Tensor | None, rise: Tensor) -> None:
        """Add the sums of a tile. `fall` is what the old peak is above the new one, less than 0, `rise` the tile's."""
        if fall is None:
            self.total, self.weighted = mass
            return
        found = []
        for (total, weighted), step in (((self.total, self.weighted), fall), (mass, rise)):
            step = (step * self.cold[:, 0]).to(total.dtype)
            shrink = torch.exp2(step)
            found.append((total * shrink, (weighted + step * total) * shrink))
        self.total, self.weighted = (sum(pair) for pair in zip(*found, strict=True))

    def settle(self) -> None:
        """Totals are whole: what follows from them."""
        of, wanted = self.of, self.of.wanted
        self.log_total = self.total.log2()
        self.entropy = ((self.log_total - self.weighted / self.total) * LN2).clamp(min=0).float()
        self.scale = (2.0**LIFT / self.total).float()[:, None]
        self.top = self._log_p(of.top)
        passing = self.top.exp() > ONE_PERCENT
        self.few = passing.sum(-1).float()
        several = of.shape[1] > 1
        # Only where all of the ten largest pass is a look at the rest needed.
        self.counts = "count_above_1pct" in wanted and bool(passing[:, -1].any())
        self.diverges, self.mixes = "kl_from_final" in wanted and several, "js_next" in wanted and several
        self.needs_second = self.counts or self.diverges or self.mixes

    def _log_p(self, z: Tensor) -> Tensor:
        """Ln p of logits [row, n]."""
        return (((z - self.of.peak[:, None]) * self.cold - self.log_total[:, None]) * LN2).float()

    def second(self, y: Tensor) -> None:
        """Add a tile to what needs probabilities; they are multiplied by 2^40 here."""
        width, shape = y.shape[1], self.of.shape
        y = self._scaled(y)
        p = torch.exp2(y, out=self.of.part(2, width)).mul_(self.scale)
        flat_work = self.of.part(3, width)
        if self.counts:
            self.above += torch.gt(p, ONE_PERCENT * 2.0**LIFT, out=flat_work).sum(-1)
        y, p, work = (t.unflatten(0, shape) for t in (y, p, flat_work))
        if self.diverges:
            self.cross += torch.mul(y, p[:, -1:], out=work).sum(-1).flatten()
        if self.mixes:
            both = torch.add(p[:, :-1], p[:, 1:], out=work[:, :-1])
            logs = torch.log1p(both, out=p[:, :-1]).sub_((LIFT + 1) * LN2)
            self.mixed += logs.mul_(both).sum(-1)

    def statistics(self, z: Sequence[Tensor]) -> dict[str, Tensor]:
        """All statistics [row, layer]; those not asked for may be missing or wrong."""
        of, wanted = self.of, self.of.wanted
        none = (self.variant.emitted < 0).repeat_interleave(of.shape[1])
        spread = of.spread * self.cold[:, 0]
        out = {"entropy_nats": self.entropy, "logit_spread": spread, "top_log_probs": self.top}
        out["log_vocabulary"] = torch.full_like(self.entropy, math.log(of.size))
        out["count_above_1pct"] = self.above.float() if self.counts else self.few
        out["emitted_log_prob"] = self._log_p(of.capped(of.emitted_at))[:, 0].clamp(max=0).masked_fill(none, math.nan)
        out["emitted_rank"] = of.rank.masked_fill(none, math.nan)
        out["emitted_is_top"] = (of.rank == 0).float().masked_fill(none, math.nan)
        if "nucleus" in wanted:
            out["nucleus"] = self._nucleus(z)
        out = {name: values.unflatten(0, of.shape) for name, values in out.items()}
        undefined = ~out["logit_spread"].isfinite()
        cross = (self.log_total - self.cross * 2.0**-LIFT).unflatten(0, of.shape) * LN2
        out["kl_from_final"] = (cross.float() - out["entropy_nats"][:, -1:]).clamp(min=0)
        out["kl_from_final"][:, -1] = 0.0
        out["agrees_with_final"] = of.agrees.unflatten(0, of.shape).masked_fill(undefined[:, -1:], math.nan)
        out["js_next"] = self._js(out["entropy_nats"])
        return {
            name: values.masked_fill(undefined if values.dim() == 2 else undefined.unsqueeze(-1), math.nan)
            for name, values in out.items()
        }

    def _js(self, entropy: Tensor) -> Tensor:
        """Jensen-Shannon divergence of each layer to the next, H((p+q)/2) - (H(p)+H(q))/2 in nats; NaN at the last."""
        out = torch.full_like(entropy, math.nan)
        mixture = self.mixed.float() * -(2.0 ** -(LIFT + 1))
        out[:, :-1] = (mixture - 0.5 * (entropy[:, 1:] + entropy[:, :-1])).clamp(0, LN2)
        return out

    def _nucleus(self, z: Sequence[Tensor]) -> Tensor:
        """Mass, size and entropy of the nucleus [row, 3], some whole rows at a time."""
        of, out = self.of, []
        at_once = max(1, NUCLEUS_BYTES // (4 * of.size))
        for start in range(0, of.count, at_once):
            rows = slice(start, start + at_once)
            v = torch.cat([of.own(i, tile[rows]) for i, tile in enumerate(z)], 1)
            y = (of.capped(v, rows) - of.peak[rows, None]) * self.cold[rows]
            total = self.total[rows].float()
            p = torch.exp2(y).div_(total[:, None])
            out.append(nucleus_by_bisection(p, y * LN2, torch.empty_like(y), self.top[rows], total.log()))
        return torch.cat(out)
