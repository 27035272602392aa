"""Next-token distributions one step at a time: the observables of distribution.py for a live monitor.

The same formulas on the same float32 logits as `lens_statistics`. A step is a handful of distributions, too few for the
general path: there fresh tensors, small calls and a copy of the logits cost half as much again as the product with the
head. Here each pass goes over buffers that are kept and are small enough for the cache, in NumPy, and exp and log in
Torch, whose are faster. Tests compare both number by number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from phaselens.observables.lens import TINY
from phaselens.observables.reading import ONE_PERCENT
from phaselens.observables.selection import BLOCK, TOP, WIDE
from phaselens.observables.spec import Observable, base_inputs

NAN = np.float32(np.nan)
Statistics = Mapping[str, np.ndarray]

# Per layer, from the statistics of lens.py; each formula as in distribution.py.
PER_LAYER: dict[str, Callable[[Statistics], np.ndarray]] = {
    "entropy": lambda s: s["entropy_nats"],
    "entropy_norm": lambda s: s["entropy_nats"] / s["log_vocabulary"],
    "top1": lambda s: np.exp(s["top_log_probs"][..., 0]),
    "top2": lambda s: np.exp(s["top_log_probs"][..., 1]),
    "margin": lambda s: np.exp(s["top_log_probs"][..., 0]) - np.exp(s["top_log_probs"][..., 1]),
    "rivalry": lambda s: np.exp(s["top_log_probs"][..., 1] - s["top_log_probs"][..., 0]),
    "top10_mass": lambda s: np.exp(s["top_log_probs"]).sum(-1),
    "n_above_1pct": lambda s: s["count_above_1pct"],
    "dispersion": lambda s: np.log1p(s["count_above_1pct"]) / np.float32(math.log(100)),
    "logit_std": lambda s: s["logit_spread"],
    "surprisal": lambda s: -s["emitted_log_prob"],
    "rank": lambda s: s["emitted_rank"],
    "kl_to_final": lambda s: s["kl_from_final"],
    "agrees": lambda s: s["agrees_with_final"],
    "lens_sync": lambda s: 1 - s["js_next"] / np.float32(math.log(2)),
    "turbulence": lambda s: 1 - (1 - s["js_next"] / np.float32(math.log(2))),
}
PER_STEP = ("commit_layer", "commit_depth", "commit_layer_emitted", "branching", "commitment")


class StepLens:
    """Measures distributions of one step of a few runs, side by side at `layers` (ascending, L last) or at L alone.

    `observables` are those wanted; `n_blocks` is L. NaN as the observables of the same names have it. Memory: four
    buffers of the size of the logits, kept from step to step.
    """

    def __init__(self, observables: Iterable[Observable], layers: Sequence[int], n_blocks: int) -> None:
        wanted = tuple(observables)
        self.layers, self.n_blocks = tuple(layers), n_blocks
        self._needs = base_inputs(wanted)
        self._of_layers = tuple(one.name for one in wanted if one.per == "layer")
        self._at_output = tuple(one.name for one in wanted if one.per == "layer" and one.axis == "vocabulary")
        self._of_steps = tuple(one.name for one in wanted if one.per == "step")
        pairs = zip(self.layers, self.layers[1:], strict=False)
        self._pairs = _regular([i for i, (low, high) in enumerate(pairs) if high - low == 1 and low >= 1])
        self._whole = self.layers[0] <= 1 and len(self.layers) == n_blocks + (self.layers[0] == 0)
        self._kept: tuple[Tensor, ...] = ()
        self._larger = np.empty((0, 0, 0), np.bool_)

    @staticmethod
    def knows(observables: Iterable[Observable]) -> bool:
        """Whether all of these can be measured here."""
        return all(one.name in PER_LAYER or one.name in PER_STEP for one in observables)

    def measure(self, logits: Tensor, emitted: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Values [row, layer] by name, and those with one value per step [row], from logits [row, layer, vocab].

        The logits are finished (bias, scale, cap) and float32, and are not changed. `emitted` [row] is the emitted
        token, -1 for none. Rows whose logits are not finite are NaN.
        """
        with np.errstate(all="ignore"):
            found = self._statistics(logits, emitted)
            of_layers = {name: PER_LAYER[name](found) for name in self._of_layers}
            of_steps = {name: self._step(name, found) for name in self._of_steps}
        return of_layers, of_steps | {name: of_layers[name][:, -1] for name in self._at_output}

    def _buffers(self, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Working memory, made anew only when the shape changes."""
        if self._larger.shape != shape:
            self._kept = tuple(torch.empty(shape) for _ in range(3))
            self._larger = np.empty(shape, np.bool_)
        return self._kept

    def _statistics(self, logits: Tensor, emitted: np.ndarray) -> dict[str, np.ndarray]:
        """Those of lens.py that are wanted, float32 [row, layer], `top_log_probs` with a trailing 10."""
        given = logits.numpy()
        z, chances, spare = self._buffers(given.shape)
        centred, p, work = z.numpy(), chances.numpy(), spare.numpy()
        np.subtract(given, given.mean(-1, keepdims=True), out=centred)
        spread = np.sqrt(np.vecdot(centred, centred) / np.float32(given.shape[-1]))
        peak = centred.max(-1)
        torch.exp(torch.from_numpy(np.subtract(centred, peak[..., None], out=work)), out=chances)
        total = p.sum(-1)
        np.multiply(p, (1 / total)[..., None], out=p)
        log_total = peak + np.log(total)
        entropy = np.maximum(log_total - np.multiply(centred, p, out=work).sum(-1), 0)
        out = {"entropy_nats": entropy, "logit_spread": spread}
        out["log_vocabulary"] = np.full_like(entropy, math.log(given.shape[-1]))
        if self._needs & {"top_log_probs", "count_above_1pct"}:
            out["top_log_probs"] = ten_largest(centred) - log_total[..., None]
            out["count_above_1pct"] = _count_above(p, out["top_log_probs"])
        if self._needs & {"emitted_log_prob", "emitted_rank", "emitted_is_top"}:
            out |= self._emitted(centred, emitted, log_total)
        if self._needs & {"kl_from_final", "agrees_with_final"}:
            cross = log_total[:, :-1] - np.multiply(centred[:, :-1], p[:, -1:], out=work[:, :-1]).sum(-1)
            out["kl_from_final"] = np.maximum(cross - entropy[:, -1:], 0)
            out["kl_from_final"] = np.concatenate([out["kl_from_final"], np.zeros_like(entropy[:, :1])], 1)
            chosen = centred[:, -1].argmax(-1)
            agrees = np.take_along_axis(centred, chosen[:, None, None], -1)[..., 0] >= peak
            out["agrees_with_final"] = np.where(np.isfinite(spread[:, -1:]), agrees.astype(np.float32), NAN)
        if "js_next" in self._needs:
            out["js_next"] = self._js_next(chances, entropy, spare, z)
        return _without(out, ~np.isfinite(spread))

    def _emitted(self, centred: np.ndarray, emitted: np.ndarray, log_total: np.ndarray) -> dict[str, np.ndarray]:
        """Log-probability and rank of the emitted token, and whether none is larger."""
        at = np.take_along_axis(centred, np.maximum(emitted, 0)[:, None, None], -1)
        rank = np.count_nonzero(np.greater(centred, at, out=self._larger), axis=-1).astype(np.float32)
        known = (emitted >= 0)[:, None]
        values = {
            "emitted_log_prob": np.minimum(at[..., 0] - log_total, 0),
            "emitted_rank": rank,
            "emitted_is_top": (rank == 0).astype(np.float32),
        }
        return {name: np.where(known, value, NAN) for name, value in values.items()}

    def _js_next(self, chances: Tensor, entropy: np.ndarray, spare: Tensor, z: Tensor) -> np.ndarray:
        """As in lens.py, where the next layer is read too and both are blocks; NaN elsewhere. Destroys `spare`, `z`."""
        out = np.full_like(entropy, NAN)
        for i in self._pairs:
            after = slice(i.start + 1, i.stop + 1, i.step)
            both = chances[:, i]
            total, logs = spare[:, : both.shape[1]], z[:, : both.shape[1]]
            torch.add(both, chances[:, after], out=total)
            torch.log(total.clamp_(min=TINY), out=logs)
            mixed = math.log(2) - 0.5 * np.multiply(logs.numpy(), total.numpy(), out=logs.numpy()).sum(-1)
            out[:, i] = np.clip(mixed - 0.5 * (entropy[:, after] + entropy[:, i]), 0, math.log(2))
        return out

    def _step(self, name: str, found: Statistics) -> np.ndarray:
        """One value per row of the observables that look at all layers, or at the output."""
        if name in ("branching", "commitment"):
            last = found["entropy_nats"][:, -1]
            return np.exp(last) if name == "branching" else -last
        if not self._whole:
            return np.full(len(found["entropy_nats"]), NAN)
        same = found["agrees_with_final"][:, self.layers[0] == 0 :]
        committed = self.n_blocks + 1 - np.cumprod(same[:, ::-1], -1).sum(-1)
        if name == "commit_depth":
            return committed / np.float32(self.n_blocks)
        if name == "commit_layer_emitted":
            return np.where(found["emitted_is_top"][:, -1] == 1, committed, NAN)
        return committed


def ten_largest(values: np.ndarray) -> np.ndarray:
    """`largest` of lens.py: the ten largest of each row, falling; -inf where the row is shorter."""
    width = values.shape[-1]
    lead = values.shape[:-1]
    values = values.reshape(-1, width)
    if width >= WIDE:
        whole = width // BLOCK * BLOCK
        blocks = values[:, :whole].reshape(len(values), BLOCK, whole // BLOCK)
        best = np.argpartition(blocks.max(1), -TOP, axis=-1)[:, -TOP:]
        rows, across = np.arange(len(values))[:, None, None], np.arange(BLOCK)[:, None]
        some = blocks[rows, across, best[:, None]].reshape(len(values), -1)
        values = some if whole == width else np.concatenate([some, values[:, whole:]], -1)
    elif width < TOP:
        values = np.concatenate([values, np.full((len(values), TOP - width), -np.inf, np.float32)], -1)
    return np.sort(np.partition(values, -TOP, axis=-1)[:, -TOP:], axis=-1)[:, ::-1].reshape(*lead, TOP)


def _regular(indices: list[int]) -> list[slice]:
    """Indices as one slice where they are evenly spaced, else as one each."""
    gaps = set(np.diff(indices).tolist())
    if len(indices) > 1 and len(gaps) == 1:
        return [slice(indices[0], indices[-1] + 1, gaps.pop())]
    return [slice(i, i + 1, 1) for i in indices]


def _count_above(p: np.ndarray, top: np.ndarray) -> np.ndarray:
    passing = np.exp(top) > ONE_PERCENT
    if not passing[..., -1].any():
        return passing.sum(-1).astype(np.float32)
    return np.count_nonzero(p > ONE_PERCENT, axis=-1).astype(np.float32)


def _without(found: dict[str, np.ndarray], undefined: np.ndarray) -> dict[str, np.ndarray]:
    """NaN at rows and layers whose logits are not finite."""
    if not undefined.any():
        return found
    return {
        name: np.where(undefined if values.ndim == 2 else undefined[..., None], NAN, values)
        for name, values in found.items()
    }
