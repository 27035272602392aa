"""Load a decoder-only language model from a folder, the Hub, or memory, and prove that its states are read right."""

import copy
import hashlib
import json
import os
import platform
import re
import socket
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
import transformers
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from phaselens.errors import InputError, ModelRefused, StudyFileError, TokenizerError, unknown_name
from phaselens.models.check import Proof, prove
from phaselens.models.discover import FORM, discover
from phaselens.models.facts import Facts, declared_context
from phaselens.types import Readout

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation", "architectures")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
)


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A language model whose residual states and logits can be read.

    `vocab_size` counts rows that are real tokens; `context` is in tokens, None for no limit; `fingerprint` is the
    sha256 of configuration, weights as loaded, and tokenizer; `block_path` says where the `blocks` stand in
    `network`; `proof` is None when the check was left out.
    """

    network: nn.Module
    tokenizer: Any | None
    name: str
    family: str
    fingerprint: str
    n_layers: int
    d_model: int
    vocab_size: int
    context: int | None
    eos_ids: tuple[int, ...]
    pad_id: int
    blocks: tuple[nn.Module, ...]
    block_path: str
    facts: Facts
    readout: Readout
    proof: Proof | None
    device: torch.device
    dtype: torch.dtype
    source: str
    revision: str | None

    def __repr__(self) -> str:
        kind = str(self.dtype).removeprefix("torch.")
        return (
            f"Model({self.name}: {self.family}, {self.n_layers} layers, width {self.d_model}, "
            f"{self.vocab_size} tokens, {kind} on {self.device}, {'proved' if self.proof else 'not proved'})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Provenance for manifests, as plain JSON values: which weights, revision, dtype, kernel and versions."""
        return {
            "name": self.name,
            "family": self.family,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "revision": self.revision,
            "n_layers": self.n_layers,
            "d_model": self.d_model,
            "vocab_size": self.vocab_size,
            "context": self.context,
            "eos_ids": list(self.eos_ids),
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "tokenizer": None if self.tokenizer is None else type(self.tokenizer).__name__,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "attention": getattr(self.network.config, "_attn_implementation", None),
            "block_path": self.block_path,
            "facts": self.facts.to_dict(),
            "proved": None if self.proof is None else self.proof.passed,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }


def load(
    source: str | Path | nn.Module,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    tokenizer: Any | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    overrides: Path | str | Mapping[str, Any] | None = None,
    check: bool = True,
) -> Model:
    """Load a model from a folder, a Hub id, or a live transformers model, and prove the adapter.

    Weights are read from safetensors only and brought to `dtype`; a live model keeps its own dtype and device, is put
    into eval mode, and is not copied. `overrides` (a dict or a TOML file) helps where structure does not find the
    way; its form is in the error that asks for it. Raises InputError where nothing loadable is found, ModelRefused
    where the model is of no causal family or fails its proof, TokenizerError for a broken tokenizer; a missing one is
    allowed.
    """
    if isinstance(source, nn.Module):
        network, name = source, source.config.name_or_path or source.config.model_type
        origin = "memory"
    else:
        origin = str(source)
        name = Path(origin).resolve().name if Path(origin).is_dir() else origin
        name = Path(origin).resolve().parent.name if name == "hf" else name
        network = _network(origin, _dtype(dtype), trust_remote_code, revision).to(_device(device))
        tokenizer = tokenizer if tokenizer is not None else _tokenizer(origin, trust_remote_code, revision)
        revision = revision if Path(origin).is_dir() else resolved(origin, revision)
    return _assemble(network.eval(), tokenizer, name, origin, revision, read_overrides(overrides), check)


def _device(name: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {str(name)!r} cannot be used here: {_first_line(error)} Try 'cpu'.") from error


def _dtype(name: str | torch.dtype) -> torch.dtype:
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown_name("dtype", name, DTYPES)
    return DTYPES[name]


def _network(source: str, dtype: torch.dtype, trust: bool, revision: str | None) -> nn.Module:
    """The network of a folder or Hub id, with the library's many ways of failing worded once each."""
    folder = Path(source).is_dir()
    if folder and not (Path(source) / "config.json").is_file():
        raise InputError(f"{source} has no config.json; wanted the folder of a saved transformers model.")
    if not folder and (source.startswith((".", "/", "~")) or source.count("/") > 1 or Path(source).exists()):
        raise InputError(
            f"no model folder at {source!r}. Give a folder with config.json and *.safetensors, or a Hub id."
        )
    common = {"trust_remote_code": trust, "revision": revision, "local_files_only": folder or offline()}
    try:
        config = AutoConfig.from_pretrained(source, **common)
    except (ValueError, KeyError) as error:
        known = f"Wanted a family that transformers {transformers.__version__} knows."
        raise ModelRefused(f"{source}: {_first_line(error)} {known}") from error
    except Exception as error:  # the Hub client raises errors of several libraries
        raise _not_found(source, error) from error
    try:
        with quiet():
            return AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=dtype, use_safetensors=True, **common
            )
    except ValueError as error:
        raise ModelRefused(f"{source}: {_first_line(error)} Wanted a causal (decoder-only) language model.") from error
    except Exception as error:
        if folder:
            raise InputError(
                f"{source}: no weights could be read from safetensors ({_first_line(error)}) Pickled weights (*.bin, "
                "*.pt) can run code and are not read: convert them with save_pretrained of transformers."
            ) from error
        raise _not_found(source, error) from error


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
        f"no model {source!r}: no folder here, not in the local Hub cache, and the Hub gave: {_first_line(error)} "
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


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line if line.endswith(".") else line + "."


def _tokenizer(source: str, trust: bool, revision: str | None) -> Any | None:
    """The tokenizer beside the weights; None where there is none."""
    path = Path(source)
    if path.is_dir() and not any((path / name).is_file() for name in TOKENIZER_FILES):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=trust, revision=revision, local_files_only=path.is_dir() or offline()
        )
    except Exception as error:
        if not path.is_dir():
            return None
        raise TokenizerError(
            f"the tokenizer in {source} cannot be read: {_first_line(error)} Repair its files, or give tokenizer=..."
        ) from error
    return tokenizer if len(tokenizer) > 1 else None


def read_overrides(overrides: Path | str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides as a dict, from a dict, a TOML file, or None. Raises StudyFileError for an unreadable file."""
    if overrides is None or isinstance(overrides, Mapping):
        return dict(overrides or {})
    try:
        return tomllib.loads(Path(overrides).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyFileError(f"overrides {overrides} cannot be read as TOML: {error}. {FORM}") from error


def real_rows(network: nn.Module, tokenizer: Any | None) -> int:
    """How many rows of the vocabulary are real tokens: all declared ones, or those that the tokenizer knows.

    Raises TokenizerError for a tokenizer of many more tokens than the network has rows, ModelRefused where no
    vocabulary is declared at all.
    """
    declared = getattr(network.config.get_text_config(), "vocab_size", None)
    tables = (network.get_input_embeddings(), network.get_output_embeddings())
    shapes = [table.weight.shape[0] for table in tables if getattr(table, "weight", None) is not None]
    sizes = [size for size in (declared, *shapes) if isinstance(size, int) and size > 0]
    if not sizes:
        raise ModelRefused(
            f"{network.config.model_type}: no vocabulary size and no embedding of tokens to read it from."
        )
    rows = min(sizes)
    if tokenizer is None:
        return rows
    known = max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1)
    if known > 1.02 * rows + 16:
        raise TokenizerError(
            f"the tokenizer has {known} tokens where the model has {rows} rows: it is another model's. Give the one "
            "the model was trained with, or none."
        )
    return min(rows, known)


def _assemble(
    network: nn.Module,
    tokenizer: Any | None,
    name: str,
    source: str,
    revision: str | None,
    overrides: Mapping[str, Any],
    check: bool,
) -> Model:
    rows = real_rows(network, tokenizer)
    adapter = discover(network, rows=rows, overrides=overrides)
    eos = _eos(network, tokenizer)
    parameter = next(network.parameters())
    model = Model(
        network=network,
        tokenizer=tokenizer,
        name=name,
        family=network.config.model_type,
        fingerprint=fingerprint(network, tokenizer),
        n_layers=len(adapter.blocks),
        d_model=adapter.d_model,
        vocab_size=rows,
        context=declared_context(network.config),
        eos_ids=eos,
        pad_id=_pad(network, tokenizer, eos, rows),
        blocks=adapter.blocks,
        block_path=adapter.block_path,
        facts=adapter.facts,
        readout=adapter.readout,
        proof=None,
        device=parameter.device,
        dtype=parameter.dtype,
        source=source,
        revision=revision or getattr(network.config, "_commit_hash", None),
    )
    return _proved(model) if check else model


def _proved(model: Model) -> Model:
    proof = prove(model)
    if not proof.passed:
        raise ModelRefused(f"{model.name} ({model.family}): {proof.reason} {FORM}")
    return replace(model, proof=proof, facts=replace(model.facts, **proof.facts))


def _eos(network: nn.Module, tokenizer: Any | None) -> tuple[int, ...]:
    """All ids that end a text: of the generation settings, the configuration, and the tokenizer."""
    found: list[int] = []
    for holder in (getattr(network, "generation_config", None), network.config.get_text_config(), tokenizer):
        value = getattr(holder, "eos_token_id", None)
        found += value if isinstance(value, (list, tuple)) else [value]
    return tuple(dict.fromkeys(int(v) for v in found if v is not None and v >= 0))


def _pad(network: nn.Module, tokenizer: Any | None, eos: tuple[int, ...], rows: int) -> int:
    """An id to fill batches with; it is masked, so where no padding id exists the end of text or 0 does."""
    wanted = (getattr(tokenizer, "pad_token_id", None), getattr(network.config, "pad_token_id", None), *eos, 0)
    return next(int(i) for i in wanted if isinstance(i, int) and 0 <= i < max(rows, 1))


def require_tokenizer(model: Model) -> Any:
    """The model's tokenizer. Raises TokenizerError where it has none."""
    if model.tokenizer is None:
        raise TokenizerError(
            f"{model.name} has no tokenizer, so text cannot be turned into tokens. Give token ids, or load it with "
            "tokenizer=... (a transformers tokenizer of the same vocabulary)."
        )
    return model.tokenizer


def fingerprint(network: nn.Module, tokenizer: Any | None = None) -> str:
    """Hex sha256 over configuration, weights (as loaded, by sorted name) and tokenizer vocabulary.

    The same on every machine for the same weights in the same dtype; reads every weight once.
    """
    digest = hashlib.sha256()
    digest.update(json.dumps(_lasting(network.config.to_dict()), sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    if tokenizer is not None:
        digest.update(json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True).encode())
    return digest.hexdigest()


def _lasting(value: Any) -> Any:
    """Configuration values without those that say where and how the model was loaded."""
    if isinstance(value, dict):
        return {str(k): _lasting(v) for k, v in value.items() if k not in VOLATILE}
    return [_lasting(v) for v in value] if isinstance(value, (list, tuple)) else value


def untrained_twin(model: Model, seed: int) -> Model:
    """A model of the same configuration and tokenizer with weights drawn anew from `seed`; its own proof included.

    The library draws weights from the global generator, which is set here inside a fork and restored.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = type(model.network)(copy.deepcopy(model.network.config))
    network.generation_config = copy.deepcopy(getattr(model.network, "generation_config", None))
    network = network.to(device=model.device, dtype=model.dtype).eval()
    name = f"{model.name}:untrained"
    return _assemble(network, model.tokenizer, name, f"{model.source}:untrained-{seed}", model.revision, {}, True)
