"""One forward pass through any causal network: its arguments, its cache, its logits."""

import inspect
from dataclasses import dataclass

import torch
from torch import Tensor

from phaselens.models.facts import Network

CACHES = ("past_key_values", "cache_params", "state", "mems")


@dataclass(frozen=True)
class Pass:
    """What one pass gave: `logits` [batch, time, rows] in the network's dtype, and the cache after it (or None)."""

    logits: Tensor
    cache: object


def arguments(network: Network) -> frozenset[str]:
    """The names of the arguments that the network's forward takes."""
    return frozenset(inspect.signature(network.forward).parameters)


def cache_name(network: Network) -> str | None:
    """The argument under which the network takes its cache back, or None where it has none."""
    takes = arguments(network)
    return next((name for name in CACHES if name in takes), None)


def run(
    network: Network,
    ids: Tensor,
    *,
    mask: Tensor | None = None,
    positions: Tensor | None = None,
    cache: object = None,
    use_cache: bool = False,
) -> Pass:
    """Run token `ids` (int64 [batch, time]) once, without gradients, and return logits and cache.

    `mask` is [batch, time seen so far + time], 1 where a token is real (default: all); `positions` [batch, time] are
    given on only to networks that take them; both default to what the library's own `generate` prepares.
    """
    takes = arguments(network)
    inputs: dict[str, object] = {"input_ids": ids}
    stateful = cache is not None and "cache_params" in takes  # a recurrent state: it has seen the padding already
    if "attention_mask" in takes and mask is not None and not stateful:
        inputs["attention_mask"] = mask
    if positions is None and mask is not None:
        positions = positions_of(mask)[:, -ids.shape[1] :]
    if "position_ids" in takes and positions is not None:
        inputs["position_ids"] = positions
    if "use_cache" in takes:
        inputs["use_cache"] = use_cache
    name = cache_name(network)
    if cache is not None and name is not None:
        inputs[name] = cache
    if "return_dict" in takes:
        inputs["return_dict"] = True
    with torch.no_grad():
        out = network(**inputs)
    logits = out.logits if hasattr(out, "logits") else out[0]
    return Pass(logits, getattr(out, name, None) if name and use_cache else None)


def unpadded(
    takes: frozenset[str], ids: Tensor, *, start: int = 0, kept: int, use_cache: bool = False
) -> dict[str, object]:
    """Arguments of a pass over `ids` [batch, time] from position `start` on without padding, as far as it `takes` them.

    The library's `logits_to_keep` spares the head all but the last `kept` positions where the family has it.
    """
    end = start + ids.shape[1]
    wanted = {
        "attention_mask": torch.ones(ids.shape[0], end, dtype=torch.long, device=ids.device),
        "position_ids": torch.arange(start, end, device=ids.device).expand(ids.shape[0], -1),
        "use_cache": use_cache,
        "logits_to_keep": kept,
        "return_dict": True,
    }
    return {"input_ids": ids, **{name: value for name, value in wanted.items() if name in takes}}


def positions_of(mask: Tensor) -> Tensor:
    """Position ids for a left-padded mask [batch, time]: 0 at the first real token; 0 under the padding."""
    return (mask.long().cumsum(-1) - 1).clamp(min=0)
