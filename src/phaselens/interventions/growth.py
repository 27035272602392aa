"""Infinitesimal perturbations of a running model: its maps along depth, and tangents along tokens."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from phaselens.errors import InputError
from phaselens.interventions.outcome_records import Growth
from phaselens.interventions.signature import forward
from phaselens.models import Model, record
from phaselens.models.facts import Network
from phaselens.models.hooks import begun_at, forms_of
from phaselens.observables.growth import depth_exponent, growth_by_map, pushed, token_exponent, token_growth
from phaselens.trace.transcripts import Transcript, Transcripts

STARTS = 3
FINITE = 0.01  # of the RMS of the state: where the finite difference is neither rounding nor bent


@dataclass(frozen=True, eq=False)
class RunGrowth:
    """Growth of infinitesimal changes in one run (ln).

    `by_block` [start, L, k]: of the state of one position through each block, tangents orthonormal before it. `stream`
    [start, L]: `ln |h_l| / |h_(l-1)|` of the same states. `by_step` [draw, step]: of layer L at the positions from the
    first start on, when the state there is moved at `layer`. `gap`: relative difference of the tangents behind
    `by_step` from central finite differences.
    """

    by_block: Tensor
    stream: Tensor
    by_step: Tensor
    gap: float


def run_growth(
    model: Model,
    ids: Tensor,
    *,
    starts: Sequence[int] = (-1,),
    layer: int = 0,
    k: int = 4,
    draws: int = 4,
    seed: int = 0,
) -> RunGrowth:
    """Growth in one run `ids` [position]: along depth for the state of each start, along tokens from the first start.

    Along depth a tangent lives at one position and goes through blocks 1..L; other positions are held at their run
    (causality: earlier ones cannot move, later ones do not act back). Along tokens the state of that position is moved
    at `layer`, and the change of layer L is followed at the positions behind it. States are divided by nothing: a
    growth along depth holds the growth of the residual stream itself, which `stream` gives.
    Raises InputError for a position or layer that does not exist, a family without a forward-mode derivative.
    """
    n = len(ids)
    at = torch.tensor([s + n if s < 0 else s for s in starts])
    if not len(at) or not bool(((at >= 0) & (at < n)).all()) or not 0 <= layer < model.n_layers:
        raise InputError(
            f"positions {list(starts)} and layer {layer} were asked for; this run has positions 0 to {n - 1}, and "
            f"layers below the last are 0 to {model.n_layers - 1}."
        )
    row = ids[None].to(model.device)
    draw = torch.Generator().manual_seed(seed)
    with _derivable(model.network), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        with record(model, clone=True) as taps, forms_of(model.blocks) as forms:
            forward(model, row, 1)
        run = _Run(model, row, torch.stack([taps.states[i][0] for i in range(model.n_layers + 1)]), forms)
        try:
            by_block = run.along_depth(at, torch.randn(len(at), k, model.d_model, generator=draw))
            moved, gap = run.along_tokens(int(at[0]), layer, torch.randn(draws, model.d_model, generator=draw))
        except NotImplementedError as error:
            raise InputError(
                f"{model.name} ({model.family}) uses an operation without a forward-mode derivative in this torch "
                f"({str(error).splitlines()[0]}), so growth cannot be had of it."
            ) from error
    size = run.states[:, at].double().norm(dim=-1).log()
    return RunGrowth(by_block.cpu(), size.diff(dim=0).T.cpu(), token_growth(moved.cpu(), int(at[0])), gap)


@contextmanager
def _derivable(network: Network) -> Iterator[None]:
    """Mixtures of experts one expert after the other: products in groups have no forward-mode derivative."""
    before: dict = getattr(network, "get_experts_implementation", dict)()
    if not any(before.values()):
        yield
        return
    network.set_experts_implementation("eager")
    try:
        yield
    finally:
        network.set_experts_implementation(before)


@dataclass(frozen=True, eq=False)
class _Run:
    """One run of a model: its ids [1, position], its states [layer, position, d], the forms of its blocks."""

    model: Model
    row: Tensor
    states: Tensor
    forms: list

    def along_depth(self, at: Tensor, tangents: Tensor) -> Tensor:
        """Growth of the tangents [start, k, d] in every block: [start, L, k]."""
        device = self.model.device
        rows = torch.arange(len(self.row[0]))[None, :, None] == at.repeat_interleave(tangents.shape[1])[:, None, None]
        place, shape = rows.to(device), tangents.shape

        def block(i: int) -> Callable[[Tensor], Tensor]:
            def step(state: Tensor) -> Tensor:
                placed = torch.where(place, state.reshape(-1, 1, shape[-1]), self.states[i])
                out = self.begun(placed, i, i + 1)
                return out[torch.arange(len(out)), at.repeat_interleave(shape[1])].reshape(shape)

            return step

        return growth_by_map(
            [block(i) for i in range(self.model.n_layers)], self.states[0, at.to(device)], tangents.to(device)
        )

    def along_tokens(self, at: int, layer: int, directions: Tensor) -> tuple[Tensor, float]:
        """Tangents of layer L for directions [draw, d] at one position of `layer`: [draw, position, d], and the gap."""
        tangents = torch.zeros(len(directions), *self.states.shape[1:])
        tangents[:, at] = directions
        tangents = tangents.to(self.model.device)
        states = self.states[layer].expand_as(tangents)

        def step(state: Tensor) -> Tensor:
            return self.begun(state, layer, self.model.n_layers)

        moved = pushed(step, states, tangents)[1].double()
        rms = float(self.states[layer, at].double().square().mean().sqrt())
        finite = step(states + FINITE * rms * tangents).double() - step(states - FINITE * rms * tangents).double()
        return moved, float((finite / (2 * FINITE * rms) - moved).norm() / moved.norm())

    def begun(self, states: Tensor, layer: int, wanted: int) -> Tensor:
        """States of a later layer of a pass that begins at `layer` with `states` [row, position, d]."""
        with record(self.model, (wanted,)) as taps, begun_at(self.model, layer, states, self.forms, until=wanted):
            forward(self.model, self.row.expand(len(states), -1), 1)
        return taps.states[wanted]


def growth(
    model: Model,
    said: Transcripts,
    *,
    k: int = 4,
    draws: int = 4,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda i, n: None,
) -> Growth:
    """Growth of one model over runs, from steps 0, T/3 and 2T/3 of each. Raises as `run_growth`."""
    runs, found = said.runs, []
    for i, t in enumerate(runs):
        progress(i + 1, len(runs))
        one = run_growth(model, torch.tensor(t.fed), starts=_starts(t), k=k, draws=draws, seed=seed * 1_000_003 + i)
        found.append(one)
    by_block = torch.stack([one.by_block for one in found])
    by_step = torch.full((len(runs), max(one.by_step.shape[1] for one in found)), torch.nan, dtype=torch.float64)
    for i, one in enumerate(found):
        by_step[i, : one.by_step.shape[1]] = one.by_step.mean(0)
    return Growth(
        model=model.name,
        family=model.family,
        n_layers=model.n_layers,
        prompts=tuple(t.prompt_id or f"run {t.run}" for t in runs),
        by_block=by_block.numpy(),
        stream=torch.stack([one.stream for one in found]).numpy(),
        depth=torch.stack([depth_exponent(by_block[..., i:]) for i in range(k)], dim=-1).numpy(),
        by_step=by_step.numpy(),
        tokens=token_exponent(by_step).numpy(),
        gap=np.array([one.gap for one in found]),
    )


def _starts(t: Transcript) -> list[int]:
    """Positions of the steps 0, T/3 and 2T/3; step 0 is the last prompt token."""
    return [t.n_prompt - 1 + i * t.n_generated // STARTS for i in range(STARTS)]
