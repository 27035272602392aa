"""The lens: residual states of all layers to statistics of their next-token distributions, without keeping logits.

A distribution over V tokens costs one row of a matrix product; what is measured on it costs about a third of that (the
kernel is in tiles.py). `statistics_from_logits` is the plain form of the same numbers and the reference in tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaselens.errors import InputError
from phaselens.observables.lens_selection import LOG2E, TOP, Variant
from phaselens.observables.lens_tiles import measure, read_states
from phaselens.observables.lens_variant import ONE_PERCENT
from phaselens.observables.nucleus import nucleus_by_sorting
from phaselens.types import Readout

TINY = torch.finfo(torch.float32).tiny

# Names are what observables in distribution.py ask for. All are [row, layer], `top_log_probs` with a trailing 10 and
# `nucleus` with a trailing 3 (mass, size, entropy).
LENS_STATISTICS = tuple(
    "entropy_nats log_vocabulary top_log_probs count_above_1pct logit_spread emitted_log_prob emitted_rank "
    "emitted_is_top kl_from_final agrees_with_final js_next nucleus".split()
)


def lens_statistics(
    hidden: Float[Tensor, "row layer d_model"],
    readout: Readout,
    emitted: Int[Tensor, " row"],
    *,
    kind: str = "final_norm",
    temperature: float | Tensor = 1.0,
    wanted: frozenset[str] = frozenset(LENS_STATISTICS),
    buffers: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Statistics of p = softmax(logits / temperature) at every layer of every row, in nats where they have a unit.

    `hidden` holds the layers of one step side by side, the last one being the reference for `kl_from_final`,
    `agrees_with_final` and `emitted_is_top`; `emitted` is the index of the emitted token among the rows of the
    readout, -1 where there is none (its statistics are then NaN). `kind` is the lens, `final_norm` or `raw` (no norm).
    `temperature` may differ between layers, [layer]; a layer whose temperature is NaN is NaN.
    Returns float32 [row, layer] for each name in `wanted`. A row whose logits are not finite is NaN; tokens whose bias
    is -inf are left out of the vocabulary.

    Extra memory is about 130 MB (250 MB for a vocabulary of 262,144) and does not depend on the number of rows. A
    caller of many small pieces hands in the same dictionary `buffers` each time, and working memory is kept there.

    Keeps: a constant added to all logits. Moves with: temperature, the vocabulary, the lens.
    Raises InputError for an unknown lens or statistic, or a temperature that is not positive.
    Source: docs/definitions, sections 3 and 4.
    """
    _check(kind, temperature, wanted)
    readout, emitted = _without_impossible(readout, emitted)
    variant = Variant(emitted, temperature, None, readout.cap, readout.centred)
    return lens_variants(hidden, readout, (variant,), kind=kind, wanted=wanted, buffers=buffers)[0]


def lens_variants(
    hidden: Float[Tensor, "row layer d_model"],
    readout: Readout,
    variants: Sequence[Variant],
    *,
    kind: str = "final_norm",
    wanted: frozenset[str] = frozenset(LENS_STATISTICS),
    buffers: dict[str, Tensor] | None = None,
) -> list[dict[str, Tensor]]:
    """`lens_statistics` of several variants that read the same product with the head, which is made once.

    The cap of the readout does not count, that of each variant does; no bias may be -inf.
    """
    n_rows, n_layers = hidden.shape[:2]
    if n_rows == 0 or n_layers == 0:
        empty = {name: _empty(name, n_rows, n_layers, hidden.device) for name in sorted(wanted)}
        return [empty for _ in variants]
    with torch.no_grad():
        return read_states(hidden, readout, variants, kind == "final_norm", wanted, {} if buffers is None else buffers)


def entropies(
    hidden: Float[Tensor, "row layer d_model"],
    readout: Readout,
    temperatures: Sequence[float],
    buffers: dict[str, Tensor] | None = None,
) -> Float[Tensor, "row layer temperature"]:
    """Entropy of the `final_norm` lens at each of several temperatures, in nats, from one product with the head.

    NaN where the logits are not finite. As `entropy_nats` of `lens_statistics`.
    """
    none = torch.full((len(hidden),), -1, device=hidden.device)
    readout, _ = _without_impossible(readout, none)
    variants = [Variant(none, t, None, readout.cap, readout.centred) for t in temperatures]
    found = lens_variants(hidden, readout, variants, wanted=frozenset({"entropy_nats"}), buffers=buffers)
    return torch.stack([one["entropy_nats"] for one in found], -1)


def output_statistics(
    logits: Float[Tensor, "row vocab"],
    emitted: Int[Tensor, " row"],
    *,
    wanted: frozenset[str] = frozenset(LENS_STATISTICS),
    buffers: dict[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """The statistics of distributions whose logits are at hand, float32 [row, 1] each: the output as its only layer.

    As `lens_statistics` without the product with the head; `logits` are not changed.
    """
    _check("final_norm", 1.0, wanted)
    with torch.no_grad():
        given = logits.float() * LOG2E
        shape, buffers = (len(logits), 1), {} if buffers is None else buffers
        return measure(lambda a, b: given[:, a:b], shape, logits.shape[1], (Variant(emitted),), wanted, buffers)[0]


def _check(kind: str, temperature: float | Tensor, wanted: frozenset[str]) -> None:
    if kind not in ("final_norm", "raw"):
        raise InputError(f"got the lens {kind!r}, wanted final_norm or raw.")
    if isinstance(temperature, Tensor):
        wrong = bool(((temperature <= 0) | temperature.isinf()).any())
    else:
        wrong = not 0 < temperature < math.inf
    if wrong:
        raise InputError(f"got the temperature {temperature}, wanted a positive number.")
    unknown = sorted(wanted - set(LENS_STATISTICS))
    if unknown:
        raise InputError(f"got the lens statistics {unknown}, wanted some of {', '.join(LENS_STATISTICS)}.")


def _empty(name: str, n_rows: int, n_layers: int, device: torch.device) -> Tensor:
    trailing = {"top_log_probs": (TOP,), "nucleus": (3,)}.get(name, ())
    return torch.empty(n_rows, n_layers, *trailing, device=device)


def _without_impossible(readout: Readout, emitted: Tensor) -> tuple[Readout, Tensor]:
    """Leave out tokens that the bias forbids (-inf), and renumber the emitted ones."""
    if readout.bias is None:
        return readout, emitted
    possible = ~torch.isneginf(readout.bias)
    if bool(possible.all()):
        return readout, emitted
    number = torch.where(possible, possible.cumsum(0) - 1, -1)
    known = number.to(emitted.device)[emitted.clamp(min=0)]
    return readout.restrict(possible.nonzero().squeeze(1)), torch.where(emitted >= 0, known, -1)


def largest(z: Tensor, count: int = TOP) -> Tensor:
    """The `count` largest values of each row, falling; -inf where the row is shorter."""
    top = z.topk(min(count, z.shape[-1])).values
    return torch.nn.functional.pad(top, (0, count - top.shape[-1]), value=-math.inf)


def statistics_from_logits(
    logits: Float[Tensor, "row layer vocab"],
    emitted: Int[Tensor, " row"],
    wanted: frozenset[str] = frozenset(LENS_STATISTICS),
) -> dict[str, Tensor]:
    """The same statistics from logits in plain steps, in the dtype of the logits (float64 for a reference).

    Shapes, undefined values and ties as in `lens_statistics`; -inf logits are tokens of probability 0 outside the
    vocabulary.
    """
    _check("final_norm", 1.0, wanted)
    possible = ~torch.isneginf(logits)
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    safe = log_p.masked_fill(~possible, 0.0)
    size = possible.sum(-1).to(logits.dtype)
    mean = torch.where(possible, logits, 0).sum(-1, keepdim=True) / size.unsqueeze(-1)
    spread = torch.where(possible, logits - mean, 0).square().sum(-1).div(size).sqrt()
    index = emitted.clamp(min=0)[:, None, None].expand(-1, logits.shape[1], 1)
    at = log_p.gather(-1, index)
    none = (emitted < 0).unsqueeze(-1) | torch.isneginf(at.squeeze(-1))
    rank = (log_p > at).sum(-1).to(p.dtype)
    chosen = log_p[:, -1].argmax(-1)[:, None, None].expand(-1, logits.shape[1], 1)
    js = torch.full_like(rank, math.nan)
    if logits.shape[1] > 1:
        mean_p = (p[:, 1:] + p[:, :-1]) / 2
        pull = [torch.xlogy(q, q / mean_p.clamp(min=TINY)).sum(-1) for q in (p[:, 1:], p[:, :-1])]
        js[:, :-1] = (pull[0] + pull[1]) / 2
    out = {
        "entropy_nats": -(p * safe).sum(-1),
        "log_vocabulary": size.log(),
        "top_log_probs": largest(log_p),
        "count_above_1pct": (p > ONE_PERCENT).sum(-1).to(p.dtype),
        "logit_spread": spread,
        "emitted_log_prob": at.squeeze(-1).masked_fill(none, math.nan),
        "emitted_rank": rank.masked_fill(none, math.nan),
        "emitted_is_top": (rank == 0).to(p.dtype).masked_fill(none, math.nan),
        "kl_from_final": (p[:, -1:] * (safe[:, -1:] - safe)).sum(-1),
        "agrees_with_final": (log_p.gather(-1, chosen).squeeze(-1) >= log_p.amax(-1)).to(p.dtype),
        "js_next": js,
    }
    if "nucleus" in wanted:
        out["nucleus"] = nucleus_by_sorting(log_p)
    undefined = ~spread.isfinite()
    out["agrees_with_final"] = out["agrees_with_final"].masked_fill(undefined[:, -1:], math.nan)
    for name, values in out.items():
        mask = undefined if values.dim() == 2 else undefined.unsqueeze(-1)
        out[name] = values.masked_fill(mask, math.nan)
    return {name: out[name] for name in wanted}
