"""From what a user holds to the network itself: compiled, parallel, adapted and value-head models wrap one."""

from torch import nn
from transformers import PreTrainedModel

from phaselens.errors import InputError

# Where wrappers keep what they wrap: torch.compile, DataParallel and its kin, peft, value heads of trl.
INSIDE = ("_orig_mod", "module", "base_model", "pretrained_model", "model")


def unwrapped(network: nn.Module) -> nn.Module:
    """The language model that `network` is or wraps: what can be hooked, run and read.

    Raises InputError where none is found inside, where it was compiled in place, or where its weights are not in
    memory.
    """
    found = network
    while not _is_model(found):
        inside = next((found._modules[name] for name in INSIDE if found._modules.get(name) is not None), None)
        if inside is None:
            raise InputError(
                f"a {type(network).__name__} is no language model of transformers and wraps none that is found (looked "
                f"into {', '.join(INSIDE)}). Give the model itself: it has a config and get_input_embeddings()."
            )
        found = inside
    for name, module in found.named_modules():
        if getattr(module, "_compiled_call_impl", None) is not None:
            raise InputError(
                f"{name or type(found).__name__} was compiled in place (.compile()), so what hooks read is not sure. "
                "Give the model as it was before, or torch.compile(model), which keeps it."
            )
    away = sorted(name for name, p in found.named_parameters() if p.is_meta)
    if away:
        raise InputError(
            f"{len(away)} weights are not in memory ({away[0]} ...): accelerate has offloaded them. Load the model "
            "whole, on one device (device_map=None, a smaller dtype, or a machine with more memory)."
        )
    return found


def _is_model(module: nn.Module) -> bool:
    """Whether a module is a language model itself: of the library, or with what is asked of one as its own."""
    own = hasattr(type(module), "get_input_embeddings") or "get_input_embeddings" in vars(module)
    return isinstance(module, PreTrainedModel) or (own and hasattr(module, "config"))
