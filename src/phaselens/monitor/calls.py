"""What a call of the library's `generate` asks for, read before it runs; ways of generating that cannot be followed."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList, StopStringCriteria

from phaselens.errors import InputError
from phaselens.models.facts import Network

BEAMS = (
    "beam search keeps several texts at once and throws most away; a monitor follows one text per run. Use num_beams=1."
)
ASSISTED = (
    "assisted decoding proposes tokens in bulk and takes some back, so a pass is no step; leave out assistant_model "
    "and prompt_lookup_num_tokens while a monitor is on."
)
TWICE = "guidance runs the network twice a step, and the monitor would mix the two; leave out guidance_scale."
OTHER = "{name} is a way of generating that the monitor does not know; use greedy decoding or sampling."


@dataclass(frozen=True, eq=False)
class Call:
    """One call of `generate`: its arguments by name, and what follows from them and the network's own settings.

    `ids` [prompt, position]; `n_prompt` the length of every run's prompt without padding; `eos` the ids that end a
    run; `criteria` the user's own.
    """

    arguments: dict[str, Any]
    ids: Tensor
    mask: Tensor
    n_prompt: tuple[int, ...]
    eos: tuple[int, ...]
    criteria: StoppingCriteriaList
    samples: bool
    max_new_tokens: int | None
    min_new_tokens: int | None

    @property
    def n_runs(self) -> int:
        """Rows that the library generates side by side."""
        return len(self.n_prompt)


def read_call(network: Network, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Call:
    """Read a call of `network.generate(*args, **kwargs)`.

    Raises InputError for beams, assisted decoding and other ways that a monitor cannot follow, or without input_ids.
    """
    bound = inspect.signature(type(network).generate).bind(network, *args, **kwargs).arguments
    named = {**{k: v for k, v in bound.items() if k not in ("self", "kwargs")}, **bound.get("kwargs", {})}
    _refuse(network, named)
    ids = named.pop("inputs", None)
    ids = named.pop("input_ids", None) if ids is None else ids
    if not isinstance(ids, Tensor) or ids.dim() != 2 or ids.is_floating_point() or not ids.shape[1]:
        raise InputError("the monitor needs the prompt as input_ids [batch, position]; inputs_embeds name no tokens.")
    mask = named.get("attention_mask")
    mask = _mask(network, named, ids) if mask is None else mask
    copies = setting(network, named, "num_return_sequences") or 1
    return Call(
        arguments=named,
        ids=ids,
        mask=mask,
        n_prompt=tuple(int(n) for n in mask.sum(1).repeat_interleave(copies)),
        eos=_eos(setting(network, named, "eos_token_id")),
        criteria=_criteria(network, named),
        samples=bool(setting(network, named, "do_sample")),
        max_new_tokens=setting(network, named, "max_new_tokens"),
        min_new_tokens=setting(network, named, "min_new_tokens"),
    )


def setting(network: Network, named: Mapping[str, Any], name: str) -> Any:
    """A generation setting: of the call, of its generation_config, or the network's own; None where none has it."""
    for value in (
        named.get(name),
        getattr(named.get("generation_config"), name, None),
        getattr(network.generation_config, name, None),
    ):
        if value is not None:
            return value
    return None


def _refuse(network: Network, named: Mapping[str, Any]) -> None:
    def of(name: str) -> Any:
        return setting(network, named, name)

    if (of("num_beams") or 1) > 1:
        raise InputError(BEAMS)
    if any(named.get(n) is not None for n in ("assistant_model", "assistant_tokenizer")) or any(
        of(n) for n in ("prompt_lookup_num_tokens", "assistant_early_exit", "use_mtp")
    ):
        raise InputError(ASSISTED)
    if (of("guidance_scale") or 1) > 1 or named.get("negative_prompt_ids") is not None:
        raise InputError(TWICE)
    others = ("penalty_alpha", "dola_layers", "constraints", "force_words_ids", "custom_generate", "inputs_embeds")
    for name in others:
        if of(name):
            raise InputError(OTHER.format(name=name))
    if of("cache_implementation") == "paged":
        raise InputError(OTHER.format(name="a paged cache"))


def _mask(network: Network, named: Mapping[str, Any], ids: Tensor) -> Tensor:
    """The attention mask that the library infers: padding tokens are left out where they are no end of text."""
    pad, eos = setting(network, named, "pad_token_id"), _eos(setting(network, named, "eos_token_id"))
    if pad is None or int(pad) in eos or not bool((ids == int(pad)).any()):
        return torch.ones_like(ids)
    return (ids != int(pad)).long()


def _eos(given: Any) -> tuple[int, ...]:
    if given is None:
        return ()
    return tuple(int(i) for i in (given if isinstance(given, (list, tuple)) else torch.as_tensor(given).view(-1)))


def _criteria(network: Network, named: dict[str, Any]) -> StoppingCriteriaList:
    """The user's criteria, and stop strings as one more, so that the end of every single run is seen."""
    given = StoppingCriteriaList(named.pop("stopping_criteria", None) or [])
    strings, tokenizer = setting(network, named, "stop_strings"), named.get("tokenizer")
    if strings is not None and tokenizer is not None:
        given.append(StopStringCriteria(tokenizer=tokenizer, stop_strings=strings))
    return given
