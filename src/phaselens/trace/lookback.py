"""What came before a tile: the last few states of each run, so that a run may be cut into tiles anywhere."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from phaselens.trace.tile import Tile

NO_STEP = -(2**40)
# Tiles of up to SHORT positions (live observation) are kept side by side in memory for RING positions.
SHORT, RING = 4, 32


@dataclass(frozen=True)
class Tail:
    """The last `back` steps and states of some runs: run [R], step [R, back], hidden [R, layer, back, d_model]."""

    run: Tensor
    step: Tensor
    hidden: Tensor


@dataclass(frozen=True)
class Joined:
    """A tile with the states before it.

    `known` [run, position] counts the recorded steps right before each recorded state, up to `back`; `ring` holds tail
    and tile side by side where they are (short tiles).
    """

    hidden: Tensor
    tail: Tensor
    ring: Tensor | None
    known: Tensor
    back: int

    def window(self, runs: slice, block: slice, back: int) -> Tensor:
        """States [run, layer, back + position, d_model] of a block of the tile with the `back` steps before it."""
        if self.ring is not None:
            return self.ring[runs, :, block.start + self.back - back : block.stop + self.back]
        if block.start >= back:
            return self.hidden[runs, :, block.start - back : block.stop]
        kept = self.tail[runs, :, self.back - (back - block.start) :]
        return torch.cat((kept, self.hidden[runs, :, : block.stop]), 2)


class Lookback:
    """Follows tiles and remembers the last `back` states of each run of the last one."""

    def __init__(self, back: int) -> None:
        self.back = back
        self._tail: Tail | None = None
        self._ring: Tensor | None = None
        self._end = 0

    def join(self, tile: Tile) -> Joined:
        """The tile with what came before it; from now on the tile is what came before the next one."""
        tail = self._matching(tile)
        step = torch.cat((tail.step, torch.where(tile.valid, tile.step, NO_STEP)), 1)
        ring = self._in_ring(tile, tail) if 0 < self.back and tile.hidden.shape[2] <= SHORT else None
        self._remember(tile, tail, step, ring)
        return Joined(tile.hidden, tail.hidden, ring, self._known(tile, step), self.back)

    def _matching(self, tile: Tile) -> Tail:
        """The states before the tile, run by run; NaN for a run that the tile before did not hold."""
        n_runs, n_layers, _, width = tile.hidden.shape
        kept = self._tail
        if kept is not None and torch.equal(kept.run, tile.run):
            return kept
        hidden = tile.hidden.new_full((n_runs, n_layers, self.back, width), math.nan)
        step = tile.step.new_full((n_runs, self.back), NO_STEP)
        if kept is not None:
            before = {run: i for i, run in enumerate(kept.run.tolist())}
            for i, run in enumerate(tile.run.tolist()):
                if run in before:
                    hidden[i], step[i] = kept.hidden[before[run]], kept.step[before[run]]
        return Tail(tile.run, step, hidden)

    def _in_ring(self, tile: Tile, tail: Tail) -> Tensor:
        """Tail and tile side by side, without moving what already lies there."""
        n_runs, n_layers, n_steps, width = tile.hidden.shape
        shape = (n_runs, n_layers, RING, width)
        lies_there = tail is self._tail and self._end > 0
        if not lies_there or self._end + n_steps > RING:
            if self._ring is None or self._ring.shape != shape or self._ring.device != tile.hidden.device:
                self._ring = tile.hidden.new_empty(shape)
            self._ring[:, :, : self.back] = tail.hidden.clone()
            self._end = self.back
        self._ring[:, :, self._end : self._end + n_steps] = tile.hidden
        self._end += n_steps
        return self._ring[:, :, self._end - n_steps - self.back : self._end]

    def _remember(self, tile: Tile, tail: Tail, step: Tensor, ring: Tensor | None) -> None:
        if ring is not None:
            hidden = ring[:, :, ring.shape[2] - self.back :]
        else:
            self._end = 0
            short = max(0, self.back - tile.hidden.shape[2])
            last = tile.hidden[:, :, tile.hidden.shape[2] - (self.back - short) :]
            hidden = torch.cat((tail.hidden[:, :, self.back - short :], last), 2)
        self._tail = Tail(tile.run, step[:, step.shape[1] - self.back :], hidden)

    def _known(self, tile: Tile, step: Tensor) -> Tensor:
        n_steps = tile.step.shape[1]
        known = torch.zeros_like(tile.step)
        unbroken = tile.valid
        for j in range(1, self.back + 1):
            unbroken = unbroken & (step[:, self.back - j : self.back - j + n_steps] == tile.step - j)
            known = known + unbroken
        return known
