"""Infinitesimal perturbations of a running model: its maps along depth, and tangents along tokens."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from phaselens.errors import InputError
from phaselens.interventions.signature import forward
from phaselens.models import Model, edit, record
from phaselens.models.hooks import begun_at, forms_of
from phaselens.observables.growth import depth_exponents, pushed, token_exponent, token_growth


@dataclass(frozen=True, eq=False)
class Growth:
    """Finite-time exponents of one run.

    `depth` [k] nats per block, of the state of one step while all other positions move with it; `by_block` [L, k]
    growth of each block (ln). `tokens` [draw] nats per token of layer L when the state of that step is moved at
    `layer`; `by_step` [draw, step] growth (ln) relative to that step.
    """

    depth: Tensor
    by_block: Tensor
    tokens: Tensor
    by_step: Tensor


def growth_of(
    model: Model, ids: Tensor, *, step: int = -1, layer: int = 0, k: int = 4, draws: int = 4, seed: int = 0
) -> Growth:
    """Exponents of one run `ids` [position], along depth for the state at position `step`, and along tokens from there.

    Along depth a tangent lives at one position and goes through blocks 1..L; other positions are held at their run
    (causality: earlier ones cannot move, later ones do not act back). Along tokens the state of that position is moved
    at `layer`, and the change of layer L is followed at the positions behind it. States are divided by nothing: a
    growth along depth holds the growth of the residual stream itself, which `log_rms` gives.
    Raises InputError for a position or layer that does not exist, or no position behind `step` for `tokens`.
    """
    n = len(ids)
    at = step + n if step < 0 else step
    if not 0 <= at < n or not 0 <= layer < model.n_layers:
        raise InputError(
            f"position {step} and layer {layer} were asked for; this run has positions 0 to {n - 1}, and layers below "
            f"the last are 0 to {model.n_layers - 1}."
        )
    row = ids[None].to(model.device)
    with torch.no_grad(), record(model, clone=True) as taps, forms_of(model.blocks) as forms:
        forward(model, row, 1)
    states = taps.states
    draw = torch.Generator().manual_seed(seed)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
            maps = [_block(model, states[i], at, i, row, forms) for i in range(model.n_layers)]
            tangents = torch.randn(k, model.d_model, generator=draw).to(model.device)
            exponents, by_block = depth_exponents(maps, states[0][0, at], tangents)
            moved = _along_tokens(model, states[layer], at, layer, row, forms, draws, draw)
    except NotImplementedError as error:
        raise InputError(
            f"{model.name} ({model.family}) uses an operation without a forward-mode derivative in this torch "
            f"({str(error).splitlines()[0]}). Mixtures of experts: load with experts_implementation = 'eager'."
        ) from error
    growth = token_growth(moved, at)
    return Growth(exponents, by_block, token_exponent(growth), growth)


def _block(model: Model, whole: Tensor, at: int, i: int, row: Tensor, forms: list):
    """The map of the state at one position through block i, all else of its input held."""

    def step(state: Tensor) -> Tensor:
        others = torch.arange(whole.shape[1], device=whole.device)[None, :, None] != at
        placed = torch.where(others, whole, state.expand_as(whole))
        return _from(model, placed, i, row, forms, (i + 1,))[i + 1][0, at]

    return step


def _from(model: Model, state: Tensor, layer: int, row: Tensor, forms: list, wanted: tuple[int, ...]) -> dict:
    """The states of the wanted layers of a pass that begins at `layer` with `state`."""
    started = edit(model, {0: lambda _: state}) if layer == 0 else begun_at(model, layer, state, forms)
    with record(model, wanted) as taps, started:
        forward(model, row, 1)
    return taps.states

    return edit(model, {0: lambda _: state}) if layer == 0 else begun_at(model, layer, state, forms)


def _along_tokens(
    model: Model, whole: Tensor, at: int, layer: int, row: Tensor, forms: list, draws: int, draw: torch.Generator
) -> Tensor:
    """Tangents of layer L for random tangents of the state at one position of `layer`: [draw, position, d]."""

    def step(state: Tensor) -> Tensor:
        return _from(model, state, layer, row, forms, (model.n_layers,))[model.n_layers][0]

    tangents = torch.zeros(draws, *whole.shape, device=whole.device)
    tangents[:, 0, at] = torch.randn(draws, whole.shape[-1], generator=draw).to(whole.device)
    return pushed(step, whole, tangents)[1]
