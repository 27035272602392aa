"""Geometry of the hidden state one step at a time: the observables of trajectory.py and depth.py for a live monitor.

The same formulas on the same float32 states. A step of a small model is a few thousand numbers, and of the general path
(windows of states, one function per observable) the calls alone cost more than the arithmetic; here all layers and runs
of a step are one array, the unit states and the last step are kept from step to step, and what is left are about sixty
operations. Sums over a state are those of the general path (some columns are small differences of large sums, and would
show another order of adding); the rest is NumPy. Tests compare both number by number, on odd states too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch

from phaselens.observables.depth import MIN_BLOCKS
from phaselens.observables.trajectory import FROZEN_BELOW, MASSIVE_ABOVE, MASSIVE_RATIO, NORM_FLOOR, ZERO_STEP_BELOW

NAN = np.float32(np.nan)
# Name and lookback in steps, as declared by the observables.
STEPWISE = {
    "step_length": 1,
    "turning_angle": 2,
    "instability": 2,
    "frozen": 1,
    "zero_step": 1,
    "relative_step": 1,
    "log_rms": 0,
    "log_rms_core": 0,
    "depth_step": 0,
    "depth_angle": 0,
    "depth_instability": 0,
    "coherence": 0,
    "state_sync": 0,
}
BACK = max(STEPWISE.values())


class StepGeometry:
    """Follows runs side by side and gives their geometry at each step, float32 [run, layer] by name and in its unit.

    `layers` are the recorded ones, ascending; `n_blocks` is L. NaN as the observables of the same names have it: too
    few steps before, a neighbouring layer that is not recorded, fewer than 4 blocks. Memory: three states a run and
    layer.
    """

    def __init__(self, names: Iterable[str], layers: Sequence[int], n_blocks: int) -> None:
        self.names, self.layers, self.n_blocks = tuple(names), tuple(layers), n_blocks
        self._gaps = np.diff(np.array(self.layers)) != 1
        self._along = any(STEPWISE[name] for name in self.names)
        self._run, self._step = np.empty(0, np.int64), np.empty(0, np.int64)
        self._known = np.empty(0, np.int64)
        self._unit = self._norm = self._move = self._length = None

    def push(self, run: np.ndarray, step: np.ndarray, hidden: np.ndarray) -> dict[str, np.ndarray]:
        """Take the states [run, layer, d_model] of one step of each run; give what is measured there.

        A run that was not in the push before, or whose step does not follow, begins anew.
        """
        known = self._known_before(run, step)
        norm = _length(hidden)
        unit = hidden / np.maximum(norm, NORM_FLOOR)[..., None]
        with np.errstate(all="ignore"):
            out = self._of_sizes(hidden, norm) | self._along_depth(unit, norm)
            if self._along:
                out |= self._along_steps(unit, norm, known)
        self._unit, self._norm = unit, norm
        self._run, self._step, self._known = run, step, known
        return {name: out[name] for name in self.names}

    def _known_before(self, run: np.ndarray, step: np.ndarray) -> np.ndarray:
        """How many steps right before this one are known of each run, up to 2; earlier states are put in its order."""
        if self._unit is None:
            return np.zeros(len(run), np.int64)
        if len(run) != len(self._run) or (run != self._run).any():
            place = {int(number): i for i, number in enumerate(self._run)}
            at = np.array([place.get(int(number), -1) for number in run])
            self._unit, self._norm = self._unit[at], self._norm[at]
            if self._move is not None:
                self._move, self._length = self._move[at], self._length[at]
            self._step, self._known = np.where(at < 0, -2, self._step[at]), self._known[at]
        return np.where(step == self._step + 1, np.minimum(self._known + 1, BACK), 0)

    def _of_sizes(self, hidden: np.ndarray, norm: np.ndarray) -> dict[str, np.ndarray]:
        log_rms = np.log(norm) - np.float32(0.5 * math.log(hidden.shape[-1]))
        out = {"log_rms": log_rms, "log_rms_core": log_rms}
        if "log_rms_core" in self.names and max(hidden.max(), -hidden.min()) > MASSIVE_ABOVE:
            suspects = (np.abs(hidden).max(-1) > MASSIVE_ABOVE).nonzero()
            some = hidden[suspects]
            size = np.abs(some)
            middle = np.partition(size, (size.shape[-1] - 1) // 2)[:, (size.shape[-1] - 1) // 2, None]
            core = ~((size > MASSIVE_ABOVE) & (size > MASSIVE_RATIO * middle))
            out["log_rms_core"] = log_rms.copy()
            out["log_rms_core"][suspects] = 0.5 * np.log((some * some * core).sum(-1) / core.sum(-1))
        return out

    def _along_steps(self, unit: np.ndarray, norm: np.ndarray, known: np.ndarray) -> dict[str, np.ndarray]:
        """Values that look back; NaN where too few steps are known."""
        out = {name: np.full(norm.shape, NAN) for name, back in STEPWISE.items() if back}
        if not known.any():
            self._move = self._length = None
            return out
        move = unit - self._unit
        length = _length(move)
        one = (known >= 1)[:, None]
        out["step_length"] = np.where(one, length, NAN)
        out["frozen"], out["zero_step"] = (
            np.where(one, _below(length, limit), NAN) for limit in (FROZEN_BELOW, ZERO_STEP_BELOW)
        )
        out["relative_step"] = np.where(one, _raw(length, norm, self._norm) / self._norm, NAN)
        if self._move is not None and (known >= BACK).any():
            angle = _angle(self._length, length, _dots(move, self._move))
            two = (known >= BACK)[:, None]
            out["turning_angle"], out["instability"] = np.where(two, angle, NAN), np.where(two, length * angle, NAN)
        self._move, self._length = move, length
        return out

    def _along_depth(self, unit: np.ndarray, norm: np.ndarray) -> dict[str, np.ndarray]:
        """Values that compare neighbouring layers."""
        names = ("depth_step", "depth_angle", "depth_instability", "coherence", "state_sync")
        out = {name: np.full(norm.shape, NAN) for name in names}
        if len(self.layers) < 2:
            return out
        climb = unit[:, 1:] - unit[:, :-1]
        length = _length(climb)
        if self._gaps.any():
            length[:, self._gaps] = NAN
        square = length * length
        out["coherence"][:, :-1] = 1 - square / 2
        deep = self.n_blocks >= MIN_BLOCKS
        if deep:
            out["depth_step"][:, 1:] = length
        if len(self.layers) < 3:
            return out
        dots = _dots(climb[:, 1:], climb[:, :-1])
        if deep:
            angle = _angle(length[:, :-1], length[:, 1:], dots)
            out["depth_angle"][:, 2:], out["depth_instability"][:, 2:] = angle, length[:, 1:] * angle
        low, middle, high = norm[:, :-2], norm[:, 1:-1], norm[:, 2:]
        grown, growing = middle - low, high - middle
        # As `state_sync`: products of raw differences from those of unit states.
        raw_dots = high * low * dots - high * grown * (square[:, 1:] / 2)
        raw_dots += growing * low * (square[:, :-1] / 2) + growing * grown
        raw = _raw(length, norm[:, 1:], norm[:, :-1])
        out["state_sync"][:, 1:-1] = np.clip(raw_dots / (raw[:, 1:] * raw[:, :-1]), -1, 1)
        return out


def _length(vectors: np.ndarray) -> np.ndarray:
    return torch.linalg.vector_norm(torch.from_numpy(vectors), dim=-1).numpy()


def _dots(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (torch.from_numpy(one) * torch.from_numpy(other)).sum(-1).numpy()


def _below(values: np.ndarray, limit: float) -> np.ndarray:
    return np.where(np.isnan(values), NAN, (values < limit).astype(np.float32))


def _raw(length: np.ndarray, after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """`raw_lengths` of trajectory.py for unit states."""
    grown = after - before
    return np.sqrt(after * before * (length * length) + grown * grown)


def _angle(before: np.ndarray, after: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """`curvature_between` of trajectory.py: the angle."""
    angle = np.arccos(np.clip(dots / (before * after), -1, 1))
    angle[(before < ZERO_STEP_BELOW) | (after < ZERO_STEP_BELOW)] = 0
    return angle
