"""Where a network stands: on one device, or its blocks in order over all cards that this process sees."""

import torch
from torch import nn

from phaselens.errors import InputError, missing_extra
from phaselens.models.facts import Network

ROOM = 0.85  # of the free memory of a card that weights may take: passes and the lens need the rest


def cards(place: torch.device) -> list[int]:
    """Free bytes of every card that this process sees; none where `place` is one card, or no card."""
    if place.type != "cuda" or place.index is not None:
        return []
    return [torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())]


def onto(network: nn.Module, place: torch.device) -> nn.Module:
    """The network on its device; one that is too large for the first card is spread over all of them by accelerate.

    Every card takes about as many bytes, so that all have room for keys and values. Raises InputError where the cards
    together are too small.
    """
    free, size = cards(place), _bytes(network)
    if len(free) < 2 or size <= ROOM * free[0]:
        return network.to(place)
    try:
        from accelerate import dispatch_model, infer_auto_device_map
    except ImportError as error:
        raise missing_extra("a model larger than one card", "accelerate", "large") from error
    whole = list(getattr(network, "_no_split_modules", None) or ())
    each = size / len(free) + max((_bytes(m) for m in network.modules() if type(m).__name__ in whole), default=0)
    room = {i: int(min(ROOM * n, each if i + 1 < len(free) else n)) for i, n in enumerate(free)}
    split = infer_auto_device_map(network, max_memory=room, no_split_module_classes=whole)
    if not set(split.values()) <= set(room):
        said = ", ".join(f"{n / 1e9:.1f}" for n in free)
        raise InputError(
            f"the weights take {size / 1e9:.1f} GB, more than the cards here hold ({said} GB free). Give "
            "the worker more cards, or say dtype='bfloat16'."
        )
    split = {name: f"{place.type}:{card}" for name, card in split.items()}
    return dispatch_model(network, split, skip_keys=getattr(network, "_skip_keys_device_placement", None))


def _bytes(module: nn.Module) -> int:
    return sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))


def home(network: Network) -> torch.device:
    """Where token ids go in, logits come out, and states are brought to: the device of the head, else of a weight."""
    try:
        weight = getattr(network.get_output_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):
        weight = None
    return (next(network.parameters()) if weight is None else weight).device
