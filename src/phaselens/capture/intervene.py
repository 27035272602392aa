"""Interventions while a model runs: what is changed, at which site, layers and steps; the same in replay and live.

    At("resid_post", (4,), None, AddNoise(0.1, rms={4: 1.3}))
    At("mlp_out", (2, 3), range(0, 8), Replace(mean))

Several stand side by side and act in the order given. Steps are those of a trace: step 0 is the last prompt token, and
negative steps are earlier prompt tokens.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from phaselens.errors import InputError, unknown_name
from phaselens.models import Model, edit
from phaselens.models.hooks import alter
from phaselens.models.sites import SITES, check_site, find_sites
from phaselens.perturbations import inside

Numbers = float | Sequence[float] | np.ndarray | Tensor
ByLayer = Tensor | Mapping[int, Tensor]
Map = Callable[[Tensor], Tensor]
One = TypeVar("One")


@dataclass(frozen=True, eq=False)
class Where:
    """The place of states [batch, time, d]: site and layer, step int [batch, time], run numbers int [batch]."""

    site: str
    layer: int
    step: Tensor
    run: Tensor


class Perturbation(Protocol):
    """A change of states: takes [batch, time, d] with their place, returns the same shape."""

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The changed states."""


@dataclass(frozen=True)
class At:
    """One intervention: a perturbation at a site, at some layers (None: all it has) and steps.

    `site`: `embedding` (layer 0, the input of the first block), `resid_post` (after block l), `attn_out` and `mlp_out`
    (what attention and MLP of block l add to the residual stream). `steps`: None for every generated step, "all" for
    every position, else the steps themselves.
    """

    site: str
    layers: tuple[int, ...] | None
    steps: Sequence[int] | str | None
    perturbation: Perturbation

    def __post_init__(self) -> None:
        if self.site not in SITES:
            raise unknown_name("site", self.site, SITES)
        if isinstance(self.steps, str) and self.steps != "all":
            raise InputError(f"steps is {self.steps!r}; wanted whole numbers, None (every generated step) or 'all'.")

    def __str__(self) -> str:
        layers = "every layer" if self.layers is None else f"layers {', '.join(map(str, self.layers))}"
        named = {None: "every step", "all": "every position"}
        steps = named.get(self.steps) if self.steps is None or self.steps == "all" else f"steps {self.steps}"
        return f"{type(self.perturbation).__name__} at {self.site}, {layers}, {steps}"

    def reached(self, step: Tensor) -> Tensor:
        """Which of the steps int [batch, time] it changes, bool [batch, time]."""
        if self.steps is None:
            return step >= 0
        if isinstance(self.steps, str):
            return torch.ones_like(step, dtype=torch.bool)
        return torch.isin(step, torch.tensor(list(self.steps), dtype=step.dtype, device=step.device))


# --- perturbations ---


@dataclass(frozen=True, eq=False)
class AddNoise:
    """`h + eps * RMS * z`, z Gaussian of RMS 1 (unit of the states); eps and draw may differ by run.

    `rms` is the RMS of the layer, one number or one for each layer. The noise belongs to (seed, draw, run, site, layer,
    step) and to nothing else: it is the same in any batch, in replay and live.
    """

    eps: Numbers
    rms: float | Mapping[int, float]
    seed: int = 0
    draw: Numbers = 0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states with their noise."""
        size = self.rms[where.layer] if isinstance(self.rms, Mapping) else self.rms
        draws = by_run(self.draw, where, "draw").tolist()
        z = np.empty(states.shape, np.float32)
        for i, run in enumerate(where.run.tolist()):
            key = _key(self.seed, int(draws[i]), run, where.site, where.layer)
            for t, step in enumerate(where.step[i].tolist()):
                z[i, t] = _unit(key, step, states.shape[-1])
        eps = by_run(self.eps, where, "eps")[:, None, None]
        return inside.add(states, torch.from_numpy(z), eps * size)


def _key(*parts: object) -> int:
    return int.from_bytes(hashlib.blake2b("|".join(map(str, parts)).encode(), digest_size=16).digest(), "little")


def _unit(key: int, step: int, width: int) -> np.ndarray:
    """Gaussian numbers of one step, brought to RMS 1."""
    z = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, step % 2**63])).standard_normal(width)
    return z / np.sqrt(np.mean(z * z))


@dataclass(frozen=True, eq=False)
class Steer:
    """`h + strength * v` (unit of the states): a step along a direction [d], one for all layers or one each."""

    direction: ByLayer
    strength: Numbers = 1.0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states after the step."""
        amount = by_run(self.strength, where, "strength")[:, None, None]
        return inside.add(states, at_layer(self.direction, where), amount)


@dataclass(frozen=True, eq=False)
class Replace:
    """`h + strength * (v - h)`: a fixed value [d], such as the mean state; strength 1 puts it in place."""

    value: ByLayer
    strength: Numbers = 1.0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states replaced."""
        amount = by_run(self.strength, where, "strength")[:, None, None]
        return inside.towards(states, at_layer(self.value, where), amount)


@dataclass(frozen=True, eq=False)
class ProjectOut:
    """The span of orthonormal rows [k, d] taken out of the states, around a centre [d] (None: the origin)."""

    basis: ByLayer
    centre: ByLayer | None = None
    strength: Numbers = 1.0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states without the subspace."""
        centre = None if self.centre is None else at_layer(self.centre, where)
        amount = by_run(self.strength, where, "strength")[:, None, None]
        return inside.without(states, at_layer(self.basis, where), centre, amount)


@dataclass(frozen=True, eq=False)
class Rotate:
    """An orthogonal turn [k, k] inside the span of orthonormal rows [k, d], around a centre (None: the origin)."""

    basis: ByLayer
    turn: Tensor
    centre: ByLayer | None = None

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states turned."""
        centre = None if self.centre is None else at_layer(self.centre, where)
        return inside.turned(states, at_layer(self.basis, where), self.turn, centre)


@dataclass(frozen=True, eq=False)
class Through:
    """The states through any map [..., d] -> [..., d], such as a fitted eraser; strength 0 leaves them."""

    apply: Map | Mapping[int, Map]
    strength: Numbers = 1.0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states through the map of their layer."""
        chosen = at_layer(self.apply, where)
        amount = by_run(self.strength, where, "strength")[:, None, None]
        return inside.towards(states, chosen(states.cpu()).to(states.device), amount)


@dataclass(frozen=True, eq=False)
class Patch:
    """States of another run put in place: `source[layer]` is [run or 1, step, d], its first step is `first`.

    Steps beyond the source stay as they are; run numbers are rows of the source. Record a source with `Tap`.
    """

    source: ByLayer
    first: int = 0

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states with those of the source in their place."""
        source = at_layer(self.source, where)
        if source.ndim != 3 or source.shape[-1] != states.shape[-1]:
            raise InputError(
                f"a patch at layer {where.layer} has shape {list(source.shape)}; wanted [run or 1, step, "
                f"{states.shape[-1]}] for this model. Record it with Tap at the same site."
            )
        rows = where.run if len(source) > 1 else torch.zeros_like(where.run)
        if int(rows.max()) >= len(source):
            raise InputError(
                f"a patch at layer {where.layer} holds {len(source)} runs, and run {int(rows.max())} is asked for. "
                "Give one source (for all runs) or one for every run number."
            )
        at = where.step - self.first
        there = (at >= 0) & (at < source.shape[1])
        taken = source.to(states)[rows.cpu()[:, None], at.cpu().clamp(0, source.shape[1] - 1)]
        return torch.where(there[..., None], taken, states)


@dataclass(eq=False)
class Tap:
    """Changes nothing: keeps the states of a site as `found[layer][run]`, a list of (steps, states) in order."""

    found: dict[int, dict[int, list[tuple[Tensor, Tensor]]]] = field(default_factory=dict)

    def __call__(self, states: Tensor, where: Where) -> Tensor:
        """The states themselves."""
        for i, run in enumerate(where.run.tolist()):
            kept = self.found.setdefault(where.layer, {}).setdefault(run, [])
            kept.append((where.step[i].cpu(), states[i].detach().cpu().clone()))
        return states

    def source(self, layer: int, *, first: int = 0, n_steps: int | None = None) -> Tensor:
        """States of consecutive steps from `first`, float [run, step, d], for `Patch`; runs in order of their numbers.

        Raises InputError where a layer was not recorded, or a run has fewer steps than asked for.
        """
        if layer not in self.found:
            raise InputError(f"layer {layer} was not recorded; recorded are {sorted(self.found)}.")
        rows = []
        for run in sorted(self.found[layer]):
            steps, states = (torch.cat(parts) for parts in zip(*self.found[layer][run], strict=True))
            kept = states[steps >= first] if n_steps is None else states[(steps >= first) & (steps < first + n_steps)]
            rows.append(kept)
        lengths = {len(row) for row in rows}
        if len(lengths) > 1 or (n_steps is not None and lengths != {n_steps}):
            raise InputError(f"runs have {sorted(lengths)} steps from step {first}; a source has as many in each.")
        return torch.stack(rows)


def by_run(given: Numbers, where: Where, name: str) -> Tensor:
    """One number for each run of the batch, float32 [batch]; sequences are indexed by run number."""
    values = torch.as_tensor(given, dtype=torch.float32)
    if values.ndim == 0:
        return values.expand(len(where.run))
    if values.ndim != 1 or int(where.run.max()) >= len(values):
        raise InputError(
            f"{name} has shape {list(values.shape)}; wanted one number, or one for each run number (up to "
            f"{int(where.run.max())})."
        )
    return values[where.run.cpu()]


def at_layer(given: One | Mapping[int, One], where: Where) -> One:
    """What is meant for this layer. Raises InputError where there is nothing for it."""
    if not isinstance(given, Mapping):
        return given
    if where.layer not in given:
        raise InputError(f"nothing is given for layer {where.layer}; given are {sorted(given)}.")
    return given[where.layer]


# --- the one hook path ---


@dataclass
class Clock:
    """Which steps the positions of the next pass are: columns so far, the column of step 0 by run, and run numbers.

    `end` counts columns including those of the pass; None: passes stand alone and begin at column 0. Set by whoever
    runs the model.
    """

    end: int | None = None
    zero: Tensor | None = None
    runs: Tensor | None = None

    def begin(self, end: int, zero: int | Tensor, runs: Sequence[int]) -> None:
        """A new batch: columns of its first pass, the column(s) of step 0, and its run numbers."""
        self.end, self.runs = end, torch.tensor(list(runs), dtype=torch.long)
        self.zero = torch.as_tensor(zero, dtype=torch.long).expand(len(self.runs)).cpu()

    def where(self, site: str, layer: int, states: Tensor) -> Where:
        """The place of the states [batch, time, d] of this pass."""
        batch, time = states.shape[:2]
        stop = time if self.end is None else self.end
        runs = torch.arange(batch) if self.runs is None else self.runs
        if len(runs) != batch:
            raise InputError(f"{len(runs)} runs were announced and the pass has {batch} rows: one row is one run.")
        zero = torch.zeros(batch, dtype=torch.long) if self.zero is None else self.zero
        step = torch.arange(stop - time, stop) - zero[:, None]
        return Where(site, layer, step.to(states.device), runs.to(states.device))


@contextmanager
def intervening(model: Model, interventions: Sequence[At], clock: Clock | None = None) -> Iterator[Clock]:
    """Apply `interventions` during every forward pass inside the `with` block; nothing hangs on the model afterwards.

    `generate`, `live`, `replay` and `observe` take `interventions` themselves and keep the clock; around a pass of
    your own, step 0 is position 0 unless `clock.begin` says otherwise. Taps see the changed states.

    Raises InputError for a site that the family lacks or a layer that does not exist, with what there is; a
    perturbation raises it for shapes that do not fit.
    """
    clock = clock or Clock()
    places: dict[tuple[str, int], list[At]] = {}
    for one in interventions:
        for layer in check_site(model, one.site, one.layers):
            places.setdefault((one.site, layer), []).append(one)

    def change(place: tuple[str, int], states: Tensor) -> Tensor:
        where = clock.where(*place, states)
        for one in places[place]:
            states = _applied(one, states, where)
        return states

    residual = {p[1]: (lambda s, p=p: change(p, s)) for p in places if p[0] in ("embedding", "resid_post")}
    with ExitStack() as stack:
        if residual:
            stack.enter_context(edit(model, residual))
        modules = {p: find_sites(model).of(p[0])[p[1]] for p in places if p[0] in ("attn_out", "mlp_out")}
        if modules:
            inside_of = {p: model.blocks[p[1] - 1] for p in modules}
            stack.enter_context(alter(model, modules, inside_of, change))
        yield clock


def _applied(one: At, states: Tensor, where: Where) -> Tensor:
    reached = one.reached(where.step)
    if not bool(reached.any()):
        return states
    changed = one.perturbation(states, where)
    if changed is states:
        return states
    if changed.shape != states.shape:
        raise InputError(
            f"the perturbation at {where.site} of layer {where.layer} returned shape {list(changed.shape)}; wanted "
            f"{list(states.shape)}, as given."
        )
    return torch.where(reached[..., None], changed.to(states.dtype), states)


def spread(prompts: Sequence, strengths: Sequence[float], draws: int) -> tuple[list, np.ndarray, np.ndarray]:
    """Every prompt with every strength and draw, for one batch: prompts, strength and draw of each run.

    Runs are numbered in the order of prompts, then strengths, then draws; give the arrays to a perturbation.
    """
    if draws < 1 or not len(strengths):
        raise InputError(f"wanted at least one strength and one draw; got {len(strengths)} and {draws}.")
    each = len(strengths) * draws
    many = [prompt for prompt in prompts for _ in range(each)]
    eps = np.tile(np.repeat(np.asarray(strengths, float), draws), len(prompts))
    return many, eps, np.tile(np.arange(draws), len(prompts) * len(strengths))
