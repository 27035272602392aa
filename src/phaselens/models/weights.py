"""Read a network from a folder or the Hub, and see that every tensor of it came from the file."""

import os
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from phaselens.errors import InputError, ModelRefused, unknown_name
from phaselens.models.facts import Network, declared_layers

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
# Left over by design: masks and angles that older versions stored, and parts of a model that text does not use.
ASIDE = re.compile(
    r"(rotary_emb\.inv_freq|\.attn\.bias|\.attention\.bias|masked_bias|position_ids)$"
    r"|(^|\.)(vision|visual|audio|image|speech|multi_modal|mm|mtp|v_head)[a-z_]*\."
)
LAYER = re.compile(r"\.(\d+)\.")
NAMED = 6


def became_of(source: str, network: Network, report: Mapping[str, Iterable]) -> str:
    """What became of a file's tensors, e.g. `272 of 272 tensors, none missing, none left over`; tied ones count once.

    By the library's load `report`. Raises ModelRefused, naming them, where some are missing, left over or of another
    shape.
    """
    own = dict(network.named_parameters())
    tied = {name for name, _ in network.named_parameters(remove_duplicate=False)} - set(own)
    missing, over = sorted(set(report["missing_keys"]) - tied), sorted(report["unexpected_keys"])
    aside = [name for name in over if ASIDE.search(name)]
    over = [name for name in over if name not in aside]
    other = [f"{n}: {list(a)} in the file, {list(b)} wanted" for n, a, b in sorted(report["mismatched_keys"])]
    faults = [f"{len(missing)} of {len(own)} tensors are missing ({_some(missing)})"] if missing else []
    faults += [f"{len(other)} are of another shape ({_some(other)})"] if other else []
    faults += [f"{len(over)} of the file are left over ({_some(over)})"] if over else []
    if not faults:
        beside = f", {len(aside)} of other parts left aside" if aside else ""
        return f"{len(own)} of {len(own)} tensors, none missing, none left over{beside}"
    declared = declared_layers(network.config)
    layers = sorted({int(n) for name in over or missing for n in LAYER.findall(name)[:1]})
    if declared and layers:
        faults.append(
            f"the file holds {layers[-1] + 1} layers, config.json declares {declared}"
            if over and layers[0] >= declared
            else f"layers concerned: {_some([str(n) for n in layers])} of {declared}"
        )
    raise ModelRefused(
        f"{source}: the weights are not those that config.json describes: {'; '.join(faults)}. Parts without weights "
        "would be random and change at every load. Give the files that were saved with this config.json."
    )


def _some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def device_of(name: str | torch.device) -> torch.device:
    """The device of that name. Raises InputError where it cannot be used here."""
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(name)!r} cannot be used here: {first_line(error)} Try 'cpu'.") from error


def dtype_of(name: str | torch.dtype) -> torch.dtype:
    """The dtype of that name. Raises UnknownNameError for one that no model is measured in."""
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def read_network(source: str, dtype: torch.dtype, trust: bool, revision: str | None) -> tuple[nn.Module, str]:
    """The network of a folder or Hub id and what became of its tensors, in words.

    Raises InputError where nothing readable is there, ModelRefused where the family is unknown or the weights are not
    those that the configuration describes.
    """
    folder = Path(source).is_dir()
    if folder and not (Path(source) / "config.json").is_file():
        raise InputError(f"{source} {_without_config(Path(source))}")
    if not folder and (source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists()):
        raise InputError(
            f"no model at {source!r}: no folder with config.json and *.safetensors, no GGUF file, and no Hub id."
        )
    common: dict = {"trust_remote_code": trust, "revision": revision, "local_files_only": folder or offline()}
    try:
        config = AutoConfig.from_pretrained(source, **common)
    except (ValueError, KeyError) as error:
        known = f"Wanted a family that transformers {transformers.__version__} knows."
        if "trust_remote_code" in str(error):
            known = "If you trust that code: `--trust-remote-code`, or trust_remote_code (Python, and a study's model)."
        raise ModelRefused(f"{source}: {first_line(error)} {known}") from error
    except Exception as error:  # the Hub client raises errors of several libraries
        raise _not_found(source, error) from error
    try:
        with quiet():
            network, report = AutoModelForCausalLM.from_pretrained(
                source,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **common,
            )
    except ValueError as error:
        raise ModelRefused(
            f"{source}: {first_line(error)} {_packed(config) or 'Wanted a causal (decoder-only) language model.'}"
        ) from error
    except Exception as error:
        if folder:
            why = f"{source}: no weights could be read from safetensors ({first_line(error)})"
            raise InputError(f"{why} {_packed(config) or PICKLED}") from error
        raise _not_found(source, error) from error
    return network, became_of(source, network, report)


def _without_config(folder: Path) -> str:
    """What a folder without config.json is, as far as its files say."""
    if (folder / "adapter_config.json").is_file():
        return (
            "holds a LoRA adapter, no model: merge it into its base (`merge_and_unload()` of peft), save that with "
            "save_pretrained, and give the merged folder; or give the live merged model in Python."
        )
    return "has no config.json; wanted the folder of a saved transformers model."


PICKLED = (
    "Pickled weights (*.bin, *.pt) can run code and are not read: convert them with save_pretrained of transformers."
)


def _packed(config: PretrainedConfig) -> str:
    """What a quantised folder is, and what to do with it; empty where the configuration names no quantisation."""
    how = getattr(config, "quantization_config", None)
    how = how if isinstance(how, dict) or how is None else how.to_dict()
    if not how:
        return ""
    method = getattr(how.get("quant_method"), "value", how.get("quant_method"))
    return (
        f"Its weights are quantised ({method}), which needs that method's own package and device: load it where they "
        "are and save a plain copy (`model.dequantize().save_pretrained(DIR)`), or give the original model."
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar of the library inside the `with` block."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()


def offline() -> bool:
    """Whether the Hub is out of reach, so that only the local cache is asked; a proxy is trusted to reach it."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return True
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return False
    place = urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    try:
        socket.create_connection((place.hostname, place.port or 443), timeout=3).close()
    except OSError:
        return True
    return False


def _gated(error: BaseException | None) -> bool:
    """Whether an error, or one behind it, says that the model asks for consent on the Hub."""
    while error is not None:
        words = str(error).lower()
        if type(error).__name__ == "GatedRepoError" or "gated repo" in words or "awaiting a review" in words:
            return True
        error = error.__cause__ or error.__context__
    return False


def _not_found(source: str, error: Exception) -> InputError:
    if _gated(error):
        return InputError(
            f"{source} is gated: ask for access on its page (https://huggingface.co/{source}), then log in on this "
            "machine with `hf auth login` (or set HF_TOKEN) and run the same command again."
        )
    return InputError(
        f"no model {source!r}: no folder here, not in the local Hub cache, and the Hub gave: {first_line(error)} "
        f"Check the name; the cache is {cache_folder()}. Without a network, download it elsewhere (`hf download "
        "NAME`) and copy the cache, or give the folder (`--models-from DIR` for a whole study)."
    )


def resolved(name: str, revision: str | None) -> str | None:
    """The commit that a revision of a Hub model stands for in the local cache; as given where the cache has none."""
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, "config.json", revision=revision, cache_dir=cache_folder())
    commit = Path(path).parent.name if isinstance(path, str) else ""
    return commit if re.fullmatch(r"[0-9a-f]{40}", commit) else revision


def cache_folder() -> str:
    """Where the Hub client keeps downloaded models on this machine."""
    from huggingface_hub import constants

    return os.environ.get("HF_HUB_CACHE") or constants.HF_HUB_CACHE


def first_line(error: Exception) -> str:
    """The first line of what an error of another library says, as a sentence."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else line + "."
