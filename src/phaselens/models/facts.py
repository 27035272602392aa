"""What is peculiar to one network, as data: read from its configuration where it says so, proved on load in any case.

`PECULIAR` (what to settle before anything is measured) and `MERGES` (how several streams become one, where no module of
the network does it) are the only tables by family; neither holds a path that structure can find.
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

Network = Any  # a causal network of transformers: an nn.Module whose config, head and generate have no common type


class Overrides(TypedDict, total=False):
    """Where structure does not find the way: paths of modules and of a bias, and what is done to the head's product."""

    blocks: str
    norm: str
    tail: list[str]
    head: str
    scale: float
    cap: float
    bias: str


class Proved(TypedDict):
    """The facts that a proof finds out."""

    in_place: bool
    decodes: bool
    chunks: bool
    pads_left: bool
    switch: int | None


@dataclass(frozen=True)
class Facts:
    """What is peculiar to one network.

    `layout`: axes of its residual state (b batch, t time, s streams, d width); `streams`: residual streams per token,
    laid side by side in a state of width streams x width. `tail`: module paths from the last block to the head (the
    final norm is one of them); `head`: path of the unembedding; `scale`, `cap`, `outside_bias`: what happens to its
    product. `in_place`: blocks write into their input, so captured states are copied. `takes`: forward's arguments;
    `cache`: the argument that carries the cache. `pads_left`: left padding leaves the logits as they are (else batch
    prompts of equal length only); `chunks`: a pass in pieces with the cache equals one pass; `decodes`: so does one
    token at a time; None where nothing was proved. `notes`: what a reader of the results should know, one sentence
    each.
    """

    family: str
    layout: str = "btd"
    streams: int = 1
    tail: tuple[str, ...] = ()
    head: str = ""
    scale: float = 1.0
    cap: float | None = None
    outside_bias: bool = False
    in_place: bool = False
    takes: frozenset[str] = frozenset()
    cache: str | None = None
    pads_left: bool | None = None
    chunks: bool | None = None
    decodes: bool | None = None
    switch: int | None = None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """The same as plain JSON values."""
        out = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            k: sorted(v) if isinstance(v, frozenset) else list(v) if isinstance(v, tuple) else v for k, v in out.items()
        }


def text_config(config: PretrainedConfig) -> PretrainedConfig:
    """The part of a configuration that describes the decoder of text."""
    try:
        return config.get_text_config(decoder=True)
    except (AttributeError, TypeError, ValueError):
        return config


LAYER_NAMES = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "decoder_layers")
CONTEXT_NAMES = ("max_position_embeddings", "n_positions", "max_target_positions", "context_length", "max_seq_len")


def declared_layers(config: PretrainedConfig) -> int | None:
    """The number of blocks that the configuration declares, or None."""
    return _first_int(text_config(config), LAYER_NAMES)


def declared_context(config: PretrainedConfig) -> int | None:
    """The longest sequence that the configuration allows, in tokens; None where it sets no limit."""
    return _first_int(text_config(config), CONTEXT_NAMES)


def declared_window(config: PretrainedConfig) -> int | None:
    """The sliding window of attention that the configuration declares, in tokens, or None."""
    return _first_int(text_config(config), ("sliding_window", "sliding_window_size", "attention_window"))


def switch_candidates(config: PretrainedConfig) -> list[int]:
    """Lengths that the configuration names as those of an earlier training, where rotary factors may change."""
    found: set[int] = set()
    parts = [text_config(config).to_dict()]
    while parts:
        part = parts.pop()
        parts += [value for value in part.values() if isinstance(value, dict)]
        value = part.get("original_max_position_embeddings")
        found |= {value} if isinstance(value, int) and value > 0 else set()
    return sorted(found)


def _first_int(config: PretrainedConfig, names: tuple[str, ...]) -> int | None:
    values = (_attribute(config, name) for name in names)
    return next((int(v) for v in values if isinstance(v, int) and not isinstance(v, bool) and v > 0), None)


def _attribute(config: PretrainedConfig, name: str) -> object:
    """An attribute, or None where there is none or where it differs from layer to layer (the library then raises)."""
    try:
        return getattr(config, name, None)
    except RuntimeError:
        return None


def numbers_named(config: PretrainedConfig, pattern: str) -> dict[str, float]:
    """Positive numbers in the text configuration whose name matches `pattern`."""
    found = {}
    for name, value in text_config(config).to_dict().items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0 and re.search(pattern, name):
            found[name] = float(value)
    return found


def cap_candidates(config: PretrainedConfig) -> dict[str, float]:
    """Soft caps that the configuration names; attention caps are among them and fall out in the proof."""
    return numbers_named(config, r"cap(ping)?$")


def scale_candidates(config: PretrainedConfig) -> dict[str, float]:
    """Numbers that the configuration names and that may multiply or divide the logits."""
    found = numbers_named(config, r"scal|mult|logit|mup|dim_model_base")
    return {**found, **{f"1 / {name}": 1.0 / value for name, value in found.items()}}


def special_ids(config: PretrainedConfig) -> frozenset[int]:
    """Token ids that the configuration gives a special part (padding, end, images ...)."""
    found: set[int] = set()
    for part in (config, text_config(config)):
        for name, value in part.to_dict().items():
            if re.search(r"token_?(id|index)s?$|_id$", name):
                values = value if isinstance(value, (list, tuple)) else [value]
                found.update(v for v in values if isinstance(v, int) and not isinstance(v, bool))
    return frozenset(found)


def _no_rescale(network: Network) -> str | None:
    """RWKV halves its states every few blocks at inference: switch that off (logits move by a norm's epsilon)."""
    config = network.config
    if not getattr(config, "rescale_every", 0):
        return None
    core = getattr(network, "rwkv", network)
    if getattr(core, "layers_are_rescaled", False):
        core.train()
        core._rescale_layers()
        network.eval()
    every, config.rescale_every = config.rescale_every, 0
    return f"rescaling of the state every {every} blocks was switched off, so that layers share one scale"


class AltupMerge(nn.Module):
    """Gemma 3n: the streams are projected, brought to the first one's magnitude, and averaged before the final norm."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        core = next(m for m in network.modules() if hasattr(m, "altup_unembed_projections"))
        self.projections = core.altup_unembed_projections

    def forward(self, streams: Tensor) -> Tensor:
        """[streams, batch, time, d] to [batch, time, d], in the order of operations of the library."""
        first = streams[0]
        magnitude = torch.mean(first**2, dim=-1, keepdim=True) ** 0.5
        merged = [first]
        for i, projection in enumerate(self.projections):
            current = projection(streams[i + 1])
            own = torch.sqrt(torch.mean(current**2, dim=-1, keepdim=True).clamp(min=1e-5))
            merged.append(current * magnitude / own)
        return torch.mean(torch.stack(merged), dim=0)


MERGES: Mapping[str, Callable[[nn.Module], nn.Module]] = {"gemma3n": AltupMerge, "gemma3n_text": AltupMerge}

WHY: Mapping[str, str] = tomllib.loads(files("phaselens.models").joinpath("refused_families.toml").read_text("utf-8"))

PECULIAR: Mapping[str, Callable[[nn.Module], str | None]] = {"rwkv": _no_rescale}


def settle(network: Network) -> tuple[str, ...]:
    """Apply what `PECULIAR` says for this family, before anything is measured; returns notes for the reader."""
    change = PECULIAR.get(network.config.model_type)
    note = change(network) if change else None
    return (note,) if note else ()
