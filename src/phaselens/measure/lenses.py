"""Lenses: what each is, which of them read the same product of states with the head, and their values.

A `Pass` is one reading of a lens. Passes over the same states (one norm, one mask, one set of translators) are measured
from one product, whatever their temperatures, tokens and caps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from phaselens.errors import InputError
from phaselens.observables import LENS_STATISTICS, Observable, base_inputs, evaluate, lens_statistics
from phaselens.observables.lens import lens_variants, output_statistics
from phaselens.observables.lens_selection import Variant
from phaselens.observables.trajectory import massive
from phaselens.observables.translators import Translators
from phaselens.types import Readout


@dataclass(frozen=True)
class LensSpec:
    """One lens: `kind` final_norm, raw or tuned, the temperature, and the tokens it is restricted to (None: all).

    `label` is the suffix of its columns ("" for the first lens, whose columns have none). `translators` belong to kind
    tuned. Further variants, each for itself or together: `temperatures`, one per layer 0..L (NaN: none fits, and the
    layer is NaN) on top of `temperature`; `cap`, a soft cap imposed on the centred logits in place of the model's own
    (infinite: the model's own is taken away); `mask_massive`, massive dimensions (`massive`) of a state are 0 when it
    is read; `mask_first`, everything is computed anew with attention to position 0 masked.
    """

    kind: str = "final_norm"
    temperature: float = 1.0
    tokens: tuple[int, ...] | None = None
    label: str = ""
    temperatures: tuple[float, ...] | None = None
    cap: float | None = None
    mask_massive: bool = False
    mask_first: bool = False
    translators: Translators | None = None

    @property
    def is_output(self) -> bool:
        """Whether at layer L this is the distribution that the model itself puts out."""
        return replace(self, label="") == LensSpec()

    def canonical(self) -> dict[str, object]:
        """What identifies the lens, as plain JSON values; variants that are not used are left out."""
        plain = {"kind": self.kind, "temperature": self.temperature, "label": self.label}
        plain["tokens"] = None if self.tokens is None else list(self.tokens)
        if self.temperatures is not None:
            plain["temperatures"] = [None if math.isnan(t) else t for t in self.temperatures]
        if self.cap is not None:
            plain["cap"] = "none" if math.isinf(self.cap) else self.cap
        plain |= {name: True for name in ("mask_massive", "mask_first") if getattr(self, name)}
        return plain if self.translators is None else plain | {"translators": self.translators.fingerprint}


@dataclass(frozen=True)
class Pass:
    """One reading of the lens: over all recorded layers, or over the last one only.

    `tokens` are the columns of the readout that it reads (None: all), `numbers` the number of each token of the model
    among those of the lens (-1: none; None: its own).
    """

    lens: LensSpec
    readout: Readout
    tokens: Tensor | None
    numbers: Tensor | None
    layers: tuple[int, ...]
    observables: tuple[Observable, ...]
    at_output: bool = True
    suffix: str = ""
    step_suffix: str = ""
    over_layers: bool = False

    @property
    def temperature(self) -> float | Tensor:
        """One temperature, or one for each layer that is read."""
        if self.lens.temperatures is None:
            return self.lens.temperature
        whole = torch.tensor(self.lens.temperatures, device=self.readout.weight.device) * self.lens.temperature
        return whole[list(self.layers)]

    @property
    def product(self) -> tuple[Any, ...]:
        """Passes for which this is equal read the same product of states with the head."""
        lens = self.lens
        states = (lens.kind == "raw", lens.mask_massive, id(lens.translators))
        return (*states, self.over_layers, id(self.readout.weight), id(self.readout.bias))


def passes_of(
    lenses: tuple[LensSpec, ...],
    observables: tuple[Observable, ...],
    readout: Readout | None,
    layers: tuple[int, ...],
    n_layers: int,
    output: bool | None,
) -> tuple[Pass, ...]:
    """The passes that the lenses need, in the order of their columns.

    `output` asks for the output's own distribution, read through the first plain final_norm lens, or on its own where
    there is none (None: if there is any lens). Raises InputError for layers without L, or two lenses of one label.
    """
    output = bool(lenses) if output is None else output
    if not observables or not (lenses or output):
        return ()
    if readout is None or not layers or layers[-1] != n_layers:
        raise InputError(
            f"a lens compares with the last layer: got layers {layers} of a model of {n_layers} and "
            f"{'no readout' if readout is None else 'a readout'}. Record layer {n_layers} too and give the readout."
        )
    labels = [lens.label for lens in lenses]
    if len(set(labels)) != len(labels) or "" in labels[1:]:
        raise InputError(f"got the lens labels {labels}; the first may be empty, all must differ.")
    plain = next((i for i, lens in enumerate(lenses) if lens.is_output), None)
    made = []
    for i, lens in enumerate(lenses):
        made.append(
            Pass(
                lens,
                *_restricted(read_by(readout, lens, layers), lens, shared=_shares(lens, lenses, readout)),
                layers=layers,
                observables=observables,
                at_output=output and i == plain,
                suffix=f"__{lens.label}" if i else "",
                step_suffix="" if i == plain else f"__{lens.label or lens.kind}",
                over_layers=True,
            )
        )
    if output and plain is None:
        made.append(Pass(LensSpec(), readout, None, None, layers[-1:], observables))
    return tuple(made)


def read_by(readout: Readout, lens: LensSpec, layers: tuple[int, ...]) -> Readout:
    """The readout as a lens has it: translators, masked dimensions and soft cap built in.

    States then come as [..., layer, d_model] with exactly these `layers`. Raises InputError for a tuned lens without
    translators, translators elsewhere, or a cap that is not positive.
    """
    if (lens.kind == "tuned") != (lens.translators is not None):
        raise InputError(f"lens {lens.label!r}: kind 'tuned', and no other, needs translators.")
    if lens.cap is not None:
        if not lens.cap > 0:
            raise InputError(f"lens {lens.label!r}: a soft cap is positive; got {lens.cap}.")
        readout = replace(readout, cap=None if math.isinf(lens.cap) else lens.cap, centred=not math.isinf(lens.cap))
    changes: list[Callable[[Tensor], Tensor]] = []
    if lens.mask_massive:
        changes.append(lambda hidden: hidden.masked_fill(massive(hidden), 0.0))
    if lens.translators is not None:
        translators = lens.translators
        changes.append(lambda hidden: translators(hidden, layers))
    if not changes:
        return readout
    norm, bare = readout.norm, readout.bare

    def before(hidden: Tensor) -> Tensor:
        for change in changes:
            hidden = change(hidden)
        return hidden

    return replace(
        readout,
        norm=lambda hidden: norm(before(hidden)),
        bare=lambda hidden: before(hidden) if bare is None else bare(before(hidden)),
    )


def _shares(lens: LensSpec, lenses: tuple[LensSpec, ...], readout: Readout) -> bool:
    """Whether some tokens are read from the product of another lens, which reads them all.

    A cap on centred logits, and a bias of -inf, act on the tokens of the lens: these have their own product.
    """
    plain = readout.bias is None or not bool(torch.isneginf(readout.bias).any())
    states = (lens.kind, lens.mask_massive, lens.translators)
    others = [one for one in lenses if one.tokens is None and (one.kind, one.mask_massive, one.translators) == states]
    return bool(others) and plain and lens.cap is None and not readout.centred


def _restricted(readout: Readout, lens: LensSpec, *, shared: bool) -> tuple[Readout, Tensor | None, Tensor | None]:
    """The readout, the tokens of the lens where it reads them from a `shared` product, and the number of each token."""
    if lens.tokens is None:
        return readout, None, None
    vocab, device = readout.weight.shape[0], readout.weight.device
    kept = torch.tensor(sorted(set(lens.tokens)), dtype=torch.int64)
    if len(kept) == 0 or int(kept[0]) < 0 or int(kept[-1]) >= vocab:
        raise InputError(f"the tokens of lens {lens.label!r} must be some of 0..{vocab - 1}.")
    numbers = torch.full((vocab,), -1, dtype=torch.int64)
    numbers[kept] = torch.arange(len(kept))
    if shared:
        return readout, kept.to(device), numbers.to(device)
    return readout.restrict(kept), None, numbers.to(device)


def on_steps(p: Pass) -> list[Observable]:
    """Observables of a pass that have one value per step: their own, and distributions at the output."""
    return [
        one
        for one in p.observables
        if (one.per == "step" and (p.over_layers or one.axis == "vocabulary"))
        or (one.per == "layer" and one.axis == "vocabulary" and p.at_output)
    ]


def _emitted(p: Pass, token: Tensor, device: torch.device) -> Tensor:
    """The number of each emitted token among those of the lens, -1 where it has none."""
    vocab = p.readout.weight.shape[0] if p.numbers is None else len(p.numbers)
    emitted = torch.where(token < vocab, token, -1).to(device)
    return emitted if p.numbers is None else torch.where(emitted >= 0, p.numbers[emitted.clamp(min=0)], -1)


def statistics_of(
    passes: list[Pass], rows: Tensor, token: Tensor, buffers: dict[str, Tensor], logits: Tensor | None
) -> list[dict[str, Tensor]]:
    """Statistics of passes that share a product, over states [row, layer, d_model].

    A pass that reads the output alone takes it from the network's own `logits` [row, vocab] where they are given.
    """
    first = passes[0]
    hidden = rows if first.over_layers else rows[:, -1:]
    wanted = base_inputs(first.observables) & frozenset(LENS_STATISTICS)
    settings: dict[str, Any] = {"wanted": wanted, "buffers": buffers}
    emitted = [_emitted(p, token, rows.device) for p in passes]
    if logits is not None and not first.over_layers:
        return [output_statistics(logits, emitted[0], **settings)]
    kind = "raw" if first.lens.kind == "raw" else "final_norm"
    if len(passes) == 1:
        temperature = first.temperature
        return [lens_statistics(hidden, first.readout, emitted[0], kind=kind, temperature=temperature, **settings)]
    variants = [
        Variant(number, p.temperature, p.tokens, p.readout.cap, p.readout.centred)
        for p, number in zip(passes, emitted, strict=True)
    ]
    return lens_variants(hidden, first.readout, variants, kind=kind, **settings)


def values_of(p: Pass, statistics: dict[str, Tensor], n_layers: int) -> tuple[list[Tensor], list[Tensor]]:
    """Values [row, layer] and [row] of one pass from its statistics."""
    inputs: dict[str, object] = {name: values.transpose(0, 1) for name, values in statistics.items()}
    device = next(iter(statistics.values())).device
    inputs |= {"layers": torch.tensor(p.layers, device=device), "n_blocks": n_layers}
    values = evaluate(p.observables, inputs)
    of_layers = [values[o.name].T for o in p.observables if o.per == "layer"] if p.over_layers else []
    of_steps = [values[o.name] if o.per == "step" else values[o.name][-1] for o in on_steps(p)]
    return of_layers, of_steps
