"""Where a network stands: on one device, or its blocks in order over all cards that this process sees."""

import math

import torch
from torch import nn

from phaselens.errors import InputError, missing_extra

ROOM = 0.9  # of the free memory of a card that weights may take where they are spread
WORKING = 0.8  # and where they stand on one: passes and the lens need the rest


def cards(place: torch.device) -> dict[str, int]:
    """Free bytes of every card that this process sees, by device; empty where `place` names one card, or none."""
    if place.type != "cuda" or place.index is not None:
        return {}
    return {f"cuda:{i}": torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())}


def onto(network: nn.Module, place: torch.device) -> nn.Module:
    """The network on its device; one that is too large for the first card is spread over all of them by accelerate.

    Every card takes about as many bytes, so that all have room for keys and values. Raises InputError where the cards
    together are too small.
    """
    found = cards(place)
    size = sum(t.numel() * t.element_size() for t in (*network.parameters(), *network.buffers()))
    if len(found) < 2 or size <= WORKING * next(iter(found.values())):
        return network.to(place)
    try:
        from accelerate import dispatch_model, infer_auto_device_map
    except ImportError as error:
        raise missing_extra("a model larger than one card", "accelerate", "large") from error
    kinds = list(getattr(network, "_no_split_modules", None) or ())
    largest = max(_bytes(m) for m in network.modules() if type(m).__name__ in kinds) if kinds else 0
    room = {i: min(ROOM * free, size / len(found) + largest) for i, free in enumerate(found.values())}
    room[len(found) - 1] = ROOM * list(found.values())[-1]
    room = {i: math.floor(most) for i, most in room.items()}
    split = infer_auto_device_map(network, max_memory=room, no_split_module_classes=kinds)
    if {"cpu", "disk"} & set(split.values()):
        free = ", ".join(f"{name} {free / 1e9:.1f} GB" for name, free in found.items())
        raise InputError(f"the weights take {size / 1e9:.1f} GB, which the cards here do not hold ({free} free). Give "
                         "the worker more cards, or say dtype='bfloat16'.")  # fmt: skip
    names = list(found)
    split = {name: names[place] for name, place in split.items()}
    return dispatch_model(network, split, skip_keys=getattr(network, "_skip_keys_device_placement", None))


def _bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in module.parameters())


def home(network: nn.Module) -> torch.device:
    """Where token ids go in, logits come out, and states are brought to: the device of the head, else of a weight."""
    try:
        weight = getattr(network.get_output_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):
        weight = None
    return (next(network.parameters()) if weight is None else weight).device
