"""A cache with room for the whole run: states are written in place, where the library copies all of them every step.

Measured on a CPU (batch 16, 8 layers of width 256): 900 prompt tokens and 24 new ones take 4.6 s instead of 5.5; at 100
tokens it makes no difference.
"""

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from phaselens.models import Model


class RoomyLayer(DynamicLayer):
    """Keys and values of one block, [run, head, position, width], as views into a buffer with `room` positions."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new positions behind the old ones; return views of all of them."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = tuple(
                new.new_empty((*new.shape[:-2], self.room, new.shape[-1])) for new in (key_states, value_states)
            )
        start = self.get_seq_length()
        stop = start + key_states.shape[-2]
        if stop > self.room:
            return super().update(key_states, value_states)
        for buffer, new in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[..., start:stop, :] = new
        self.keys, self.values = (buffer[..., :stop, :] for buffer in self.buffers)
        return self.keys, self.values


def roomy_cache(model: Model, room: int) -> dict[str, object]:
    """The cache argument for one batch of up to `room` positions, or nothing where the library's own kind is needed.

    Only plain attention layers are exchanged; sliding windows, recurrent states and families with a cache class of
    their own keep what the library gives them.
    """
    network = model.network
    takes_default = getattr(network, "_supports_default_dynamic_cache", None)
    if model.facts.cache != "past_key_values" or model.facts.decodes is False or takes_default is None:
        return {}
    if not takes_default() or network.config.is_encoder_decoder:
        return {}
    cache = DynamicCache(config=network.config.get_text_config(decoder=True))
    if not any(type(layer) is DynamicLayer for layer in cache.layers):
        return {}
    cache.layers = [RoomyLayer(room) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return {"past_key_values": cache}
