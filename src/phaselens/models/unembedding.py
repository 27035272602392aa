"""From the head's product to the logits: scale, soft cap and bias are measured with the product turned up and down."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from phaselens.models.facts import Facts, Network, Overrides, cap_candidates, scale_candidates
from phaselens.models.forward import run
from phaselens.models.hooks import LAYOUTS, amplify
from phaselens.types import Readout


class Tail:
    """What stands between the last block and the head, as one function from [..., d_model] to [..., d_head]."""

    def __init__(self, steps: tuple[Callable[[Tensor], Tensor], ...], layout: str, streams: int, wide: bool) -> None:
        self.steps, self.layout, self.streams, self.cast = steps, layout, streams, wide
        weights = (p for step in steps if isinstance(step, nn.Module) for p in step.parameters())
        self.device = next((p.device for p in weights), None)

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply the steps where they stand; the result comes back to the device of `hidden`."""
        if not self.steps:
            return hidden
        return self._apply(hidden if self.device is None else hidden.to(self.device)).to(hidden.device)

    def _apply(self, hidden: Tensor) -> Tensor:
        """The steps; several streams are put apart first, in the layout that the network uses."""
        if self.cast:
            hidden = hidden.float()
        if self.layout in ("btd", "tbd"):
            for step in self.steps:
                hidden = step(hidden)
            return hidden
        lead = hidden.shape[:-1]
        state = hidden.reshape(1, -1, self.streams, hidden.shape[-1] // self.streams)
        state = state.permute([LAYOUTS[self.layout].index(axis) for axis in range(4)])
        for step in self.steps:
            state = step(state)
        return state.reshape(*lead, state.shape[-1])


def make_readout(head: nn.Module, steps: tuple[nn.Module, ...], layout: str, streams: int, rows: int) -> Readout:
    """Readout without scale and cap; steps of a half-precision network are copied in float32."""
    weight, bias = cast(Tensor, head.weight), getattr(head, "bias", None)
    half = weight.dtype != torch.float32
    if half:
        steps = tuple(copy.deepcopy(step).float() for step in steps)
    reshaping = tuple(step for step in steps if isinstance(step, nn.Linear))
    return Readout(
        weight=weight.detach()[:rows],
        bias=None if bias is None else bias.detach()[:rows],
        norm=Tail(steps, layout, streams, half),
        bare=Tail(reshaping, layout, streams, half) if reshaping and streams == 1 else None,
    )


def finish(
    network: Network, readout: Readout, facts: Facts, ids: Tensor, product: Tensor, factor: float, overrides: Overrides
) -> tuple[Readout, Facts]:
    """Add scale, cap and outside bias: from overrides, else from the configuration or measured on three passes.

    `product` is what the head gave for `ids`, `factor` a constant between the last module and the head.
    """
    if readout.bias is not None and factor != 1.0:
        readout = replace(readout, bias=readout.bias / factor)
    scale, cap, bias, notes = after_head(network, facts.head, ids, product)
    scale, cap = float(overrides.get("scale", scale * factor)), overrides["cap"] if "cap" in overrides else cap
    cap = float(cap) if cap else None
    if overrides.get("bias"):
        bias = network.get_parameter(overrides["bias"]).detach().flatten()[: product.shape[-1]] * scale
    if factor != 1.0:
        notes += (f"the head reads its input times {factor:g}",)
    if bias is not None:
        inside = bias / scale if readout.bias is None else readout.bias + bias / scale
        readout = replace(readout, bias=inside)
        notes += ("a bias is added to the logits outside the head",)
    facts = replace(facts, scale=scale, cap=cap, outside_bias=bias is not None, notes=(*facts.notes, *notes))
    return replace(readout, scale=scale, cap=cap), facts


QUIET, LOUD = 0.05, 40.0  # a soft cap of 30 bends the first by 1e-6 (the scale is read there), the second by a third


def after_head(
    network: Network, head_path: str, ids: Tensor, product: Tensor
) -> tuple[float, float | None, Tensor | None, tuple[str, ...]]:
    """Scale, cap, and outside bias of logits = cap(scale * product) + bias, with notes; proved later.

    The head's product is turned to nothing (what is left is a bias), down (what is left is the scale) and up (where a
    soft cap shows), so that small random logits hide nothing.
    """
    head = network.get_submodule(head_path)
    size = max(float(product.nan_to_num(0.0, 0.0, 0.0).abs().max()), 1e-12)
    own = {}
    for target in (0.0, QUIET, LOUD):
        with amplify(head, target / size):
            own[target] = run(network, ids, mask=torch.ones_like(ids)).logits[..., : product.shape[-1]].double()
    left = own[0.0].nan_to_num(0.0, 0.0, 0.0)
    bias = left[0, 0].float() if float(left.abs().max()) > 0.0 else None
    small, loud = product.double() * (QUIET / size), product.double() * (LOUD / size)
    given = own[QUIET] - own[0.0]
    sound = torch.isfinite(given) & torch.isfinite(small)
    scale = float((small * given)[sound].sum() / (small * small)[sound].sum().clamp(min=1e-30))
    scale, where = nearest(scale, {"1": 1.0, **scale_candidates(network.config)})
    caps = {"": None, **cap_candidates(network.config)}
    errors = {name: _cap_error(loud * scale, cap, own[LOUD] - own[0.0]) for name, cap in caps.items()}
    name = min(errors, key=errors.__getitem__)
    notes: tuple[str, ...] = () if caps[name] is None else (f"logits soft-capped at {caps[name]:g} ({name})",)
    notes += () if scale == 1.0 else (f"logits multiplied by {scale:g} ({where})",)
    return scale, caps[name], bias, notes


def _cap_error(value: Tensor, cap: float | None, own: Tensor) -> float:
    gaps = ((value if cap is None else cap * torch.tanh(value / cap)) - own).abs()
    return float(gaps.nan_to_num(0.0, 0.0, 0.0).max())


def nearest(scale: float, known: Mapping[str, float]) -> tuple[float, str]:
    """The named number within 1e-4 of a measured scale, else the measured one."""
    name, value = min(known.items(), key=lambda item: abs(item[1] - scale))
    return (value, name) if abs(value - scale) <= 1e-4 * abs(scale) else (scale, "measured")
