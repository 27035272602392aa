"""The lens: residual states of all layers to statistics of their next-token distributions, without keeping logits.

A distribution over V tokens costs one row of a matrix product; everything measured on it here costs about a sixth of
that. What makes it cheap: logits go into one reused buffer; the passes over them run on a few steps at a time (all
their layers together, which is what KL and Jensen-Shannon need), small enough to stay in cache; the ten largest are
found through the maxima of blocks of 64; logits are centred in place, which keeps every sum accurate in float32
whatever the shift of the logits was. `statistics_from_logits` is the plain form of the same numbers and the reference
in tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from phaselens.errors import InputError
from phaselens.observables.nucleus import nucleus_by_bisection, nucleus_by_sorting
from phaselens.observables.packed import packed_product
from phaselens.types import Readout

TOP = 10
ONE_PERCENT = 0.01
TINY = torch.finfo(torch.float32).tiny
BUFFER_BYTES = 96 * 2**20
MIN_PRODUCT_ROWS = 128
FEW_ROWS = 8
CACHE_BYTES = 24 * 2**20
DEVICE_CACHE_BYTES = 256 * 2**20
# Widths in which the ten largest are searched by blocks: narrow rows from 128 up to 640 (where the library's own search
# turns fast), wide rows from 4096.
NARROW, NARROW_BLOCK = (128, 640), 8
WIDE, BLOCK = 4096, 64

# Names are what observables in distribution.py ask for. All are [row, layer], `top_log_probs` with a trailing 10 and
# `nucleus` with a trailing 3 (mass, size, entropy).
LENS_STATISTICS = (
    "entropy_nats",
    "log_vocabulary",
    "top_log_probs",
    "count_above_1pct",
    "logit_spread",
    "emitted_log_prob",
    "emitted_rank",
    "emitted_is_top",
    "kl_from_final",
    "agrees_with_final",
    "js_next",
    "nucleus",
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

    Extra memory is about 150 MB (more for vocabularies beyond 200,000) and does not depend on the number of rows. A
    caller of many small pieces hands in the same dictionary `buffers` each time, and working memory is kept there.

    Keeps: a constant added to all logits. Moves with: temperature, the vocabulary, the lens.
    Raises InputError for an unknown lens or statistic, or a temperature that is not positive.
    Source: docs/definitions, sections 3 and 4.
    """
    _check(kind, temperature, wanted)
    readout, emitted = _without_impossible(readout, emitted)
    n_rows, n_layers = hidden.shape[:2]
    out = {name: _empty(name, n_rows, n_layers, hidden.device) for name in sorted(wanted)}
    if n_rows == 0 or n_layers == 0:
        return out
    with torch.no_grad():
        for rows, logits, scratch in _logit_blocks(hidden, readout, kind, temperature, buffers):
            _finish_logits(logits, readout, temperature)
            for name, values in _measure(logits, scratch, emitted[rows], wanted).items():
                out[name][rows] = values
    return out


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
    n_rows, vocab = logits.shape
    buffers = {} if buffers is None else buffers
    shape = (n_rows, 1, vocab)
    z, first, second = (_buffer(buffers, name, shape, logits.device) for name in ("logits", "first", "second"))
    with torch.no_grad():
        torch.sub(logits.float().unsqueeze(1), logits.float().mean(-1)[:, None, None], out=z)
        return _measure(z, (first, second), emitted, wanted)


def _check(kind: str, temperature: float | Tensor, wanted: frozenset[str]) -> None:
    if kind not in ("final_norm", "raw"):
        raise InputError(f"got the lens {kind!r}, wanted final_norm or raw.")
    single = not isinstance(temperature, Tensor)
    if (
        single
        and not 0 < temperature < math.inf
        or not single
        and bool(((temperature <= 0) | temperature.isinf()).any())
    ):
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


def _logit_blocks(
    hidden: Tensor, readout: Readout, kind: str, temperature: float | Tensor, buffers: dict[str, Tensor] | None
) -> Iterator[tuple[slice, Tensor, tuple[Tensor, Tensor]]]:
    """Rows, their unfinished logits [row, layer, V], and two scratch buffers of that shape, a cache-sized group at a
    time.

    The matrix product runs on many rows at once (it reads the whole unembedding each time), the rest on few.
    """
    n_rows, n_layers, _ = hidden.shape
    vocab = readout.weight.shape[0]
    step_bytes = 4 * n_layers * vocab
    block = max(BUFFER_BYTES // step_bytes, math.ceil(MIN_PRODUCT_ROWS / n_layers))
    # Blocks of equal size: a short last one would read the whole unembedding for little.
    block = math.ceil(n_rows / math.ceil(n_rows / block))
    cache_bytes = CACHE_BYTES if hidden.device.type == "cpu" else DEVICE_CACHE_BYTES
    group = min(block, max(1, cache_bytes // step_bytes))
    scale = readout.scale if readout.cap is not None else readout.scale / temperature
    buffers = {} if buffers is None else buffers
    logits = _buffer(buffers, "logits", (block * n_layers, vocab), hidden.device)
    first, second = (_buffer(buffers, name, (group, n_layers, vocab), hidden.device) for name in ("first", "second"))
    for start in range(0, n_rows, block):
        stop = min(start + block, n_rows)
        states = readout.before_head(hidden[start:stop], norm=kind == "final_norm")
        if isinstance(scale, Tensor):
            states = states * scale.unsqueeze(-1)
        elif scale != 1.0:
            states = states * scale
        states = states.flatten(0, 1)
        _product(states, readout.weight, logits[: states.shape[0]], buffers)
        whole = logits[: states.shape[0]].unflatten(0, (stop - start, n_layers))
        for at in range(0, stop - start, group):
            part = whole[at : at + group]
            yield slice(start + at, start + at + len(part)), part, (first[: len(part)], second[: len(part)])


def _buffer(buffers: dict[str, Tensor], name: str, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """An uninitialised tensor of this shape out of a kept piece of memory, which grows when it is too small."""
    size = math.prod(shape)
    if name not in buffers or buffers[name].numel() < size or buffers[name].device != device:
        buffers[name] = torch.empty(size, device=device)
    return buffers[name][:size].view(shape)


def _product(states: Tensor, weight: Tensor, out: Tensor, buffers: dict[str, Tensor]) -> None:
    """Product states @ weight.T into `out`, in float32; half-precision weights are widened a tile at a time.

    Few states on a processor go through the other product: it reads the weight once, where the first packs it.
    """
    if weight.dtype == torch.float32:
        if len(states) <= FEW_ROWS and weight.device.type == "cpu":
            turned = _buffer(buffers, "turned", (weight.shape[0], len(states)), states.device)
            # NumPy turns a thin matrix eight times as fast.
            np.copyto(out.numpy(), torch.mm(weight, states.T, out=turned).numpy().T)
            return
        torch.mm(states, weight.T, out=out)
        return
    tile = max(1, CACHE_BYTES // (4 * weight.shape[1]))
    for a in range(0, weight.shape[0], tile):
        out[:, a : a + tile] = states @ weight[a : a + tile].float().T


def logits_of_few(
    hidden: Float[Tensor, "row layer d_model"],
    readout: Readout,
    buffers: dict[str, Tensor],
    packed: Tensor | None = None,
) -> Float[Tensor, "row layer vocab"]:
    """Logits of the lens at a few states, in memory that the next call may write over; `packed` is the head packed."""
    with torch.no_grad():
        states = readout.before_head(hidden)
        if readout.scale != 1.0:
            states = states * readout.scale
        if packed is not None:
            logits = packed_product(states.flatten(0, 1), packed).unflatten(0, hidden.shape[:2])
            _shape_logits(logits, readout, 1.0)
            return logits
        logits = _buffer(buffers, "logits", (*hidden.shape[:2], readout.weight.shape[0]), hidden.device)
        _product(states.flatten(0, 1), readout.weight, logits.flatten(0, 1), buffers)
        _shape_logits(logits, readout, 1.0)
    return logits


def _finish_logits(logits: Tensor, readout: Readout, temperature: float | Tensor) -> None:
    """As `_shape_logits`, then centred: shifting all logits of a row changes no distribution."""
    _shape_logits(logits, readout, temperature)
    logits.sub_(logits.mean(-1, keepdim=True))


def _shape_logits(logits: Tensor, readout: Readout, temperature: float | Tensor) -> None:
    """Bias, soft cap and temperature in place."""
    if isinstance(temperature, Tensor):
        temperature = temperature.unsqueeze(-1)
    rest = 1.0 if readout.cap is not None else 1.0 / temperature
    if readout.bias is not None:
        logits.add_(readout.bias.float() * (readout.scale * rest))
    if readout.cap is not None:
        if readout.centred:
            logits.sub_(logits.mean(-1, keepdim=True))
        logits.div_(readout.cap).tanh_().mul_(readout.cap / temperature)


def _measure(z: Tensor, scratch: tuple[Tensor, Tensor], emitted: Tensor, wanted: frozenset[str]) -> dict[str, Tensor]:
    """All wanted statistics of centred logits z [row, layer, V]; destroys z."""
    p, work = scratch
    torch.softmax(z, -1, out=p)
    # Its own sum runs along the row and is off by 1e-4 at 50,000 equal tokens; the sum here is pairwise.
    p.div_(p.sum(-1, keepdim=True))
    spread = torch.linalg.vector_norm(z, dim=-1) / math.sqrt(z.shape[-1])
    undefined = ~spread.isfinite()
    top = largest(z)
    peak = top[..., 0]
    log_total = peak - p.amax(-1).log()
    entropy = (log_total - torch.mul(z, p, out=work).sum(-1)).clamp(min=0)
    top = top - log_total.unsqueeze(-1)
    out = {"entropy_nats": entropy, "logit_spread": spread, "top_log_probs": top}
    out["log_vocabulary"] = torch.full_like(entropy, math.log(z.shape[-1]))
    if "count_above_1pct" in wanted:
        out["count_above_1pct"] = _count_above(p, top, work)
    if wanted & {"emitted_log_prob", "emitted_rank", "emitted_is_top"}:
        out |= _emitted(z, work, emitted, log_total)
    if wanted & {"kl_from_final", "agrees_with_final"}:
        cross = log_total - torch.mul(z, p[:, -1:], out=work).sum(-1)
        out["kl_from_final"] = (cross - entropy[:, -1:]).clamp(min=0)
        out["kl_from_final"][:, -1] = 0.0
        chosen = z[:, -1].argmax(-1)[:, None, None].expand(-1, z.shape[1], 1)
        agrees = z.gather(-1, chosen).squeeze(-1) >= peak
        out["agrees_with_final"] = agrees.float().masked_fill(undefined[:, -1:], math.nan)
    if "nucleus" in wanted:
        out["nucleus"] = nucleus_by_bisection(p, z, work, top, log_total)
    if "js_next" in wanted:
        out["js_next"] = _js_next(p, entropy, work, z)
    for name, values in out.items():
        mask = undefined if values.dim() == 2 else undefined.unsqueeze(-1)
        out[name] = values.masked_fill(mask, math.nan)
    return {name: out[name] for name in wanted}


def largest(z: Tensor, count: int = TOP) -> Tensor:
    """The `count` largest values of each row, falling; -inf where the row is shorter.

    The ten largest lie in the ten blocks with the largest maxima, ties included, since only values are asked for. A
    block is every n-th column in a narrow row, neighbouring columns in a wide one; in between a plain search is as
    fast.
    """
    width = z.shape[-1]
    if width < count:
        return torch.nn.functional.pad(z.sort(-1, descending=True).values, (0, count - width), value=-math.inf)
    if width < NARROW[0] or NARROW[1] <= width < WIDE:
        return z.topk(count).values
    size, along, across = (NARROW_BLOCK, -1, -2) if width < WIDE else (BLOCK, -2, -1)
    whole = width // size * size
    blocks = z[..., :whole].unflatten(-1, (whole // size, size) if across == -1 else (size, whole // size))
    best = blocks.amax(across).topk(count, sorted=False).indices.unsqueeze(across)
    shape = list(blocks.shape)
    shape[along] = count
    chosen = blocks.gather(along, best.expand(shape)).flatten(-2)
    return torch.cat((chosen, z[..., whole:]), -1).topk(count).values


def _count_above(p: Tensor, top: Tensor, work: Tensor) -> Tensor:
    """Tokens with p > 1 %; only where all of the ten largest pass is a look at the rest needed."""
    passing = top.exp() > ONE_PERCENT
    if not bool(passing[..., -1].any()):
        return passing.sum(-1).float()
    return torch.gt(p, ONE_PERCENT, out=work).sum(-1)


def _emitted(z: Tensor, work: Tensor, emitted: Tensor, log_total: Tensor) -> dict[str, Tensor]:
    """Log-probability and rank of the emitted token, and whether none is larger."""
    index = emitted.clamp(min=0)[:, None, None].expand(-1, z.shape[1], 1)
    at = z.gather(-1, index)
    # Comparison into a float buffer: the sum of its ones is exact and much faster than counting booleans.
    rank = torch.gt(z, at, out=work).sum(-1)
    none = (emitted < 0).unsqueeze(-1)
    return {
        "emitted_log_prob": (at.squeeze(-1) - log_total).clamp(max=0).masked_fill(none, math.nan),
        "emitted_rank": rank.masked_fill(none, math.nan),
        "emitted_is_top": (rank == 0).float().masked_fill(none, math.nan),
    }


def _js_next(p: Tensor, entropy: Tensor, total: Tensor, logs: Tensor) -> Tensor:
    """Jensen-Shannon divergence of each layer to the next, H((p+q)/2) - (H(p)+H(q))/2 in nats; NaN at the last."""
    out = torch.full_like(entropy, math.nan)
    if p.shape[1] < 2:
        return out
    total, logs = total[:, :-1], logs[:, :-1]
    torch.add(p[:, :-1], p[:, 1:], out=total)
    # Both probabilities may have underflowed to 0; m ln m is then 0.
    torch.log(total.clamp_(min=TINY), out=logs)
    mixed = math.log(2) - 0.5 * logs.mul_(total).sum(-1)
    out[:, :-1] = (mixed - 0.5 * (entropy[:, 1:] + entropy[:, :-1])).clamp(0, math.log(2))
    return out


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
