"""Load a decoder-only language model from a folder, the Hub, or memory, and prove that its states are read right."""

import copy
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from phaselens.errors import ModelRefused, StudyFileError, TokenizerError
from phaselens.models.devices import home, onto
from phaselens.models.discover import FORM, discover
from phaselens.models.facts import Network, declared_context
from phaselens.models.gguf import converted, gguf_file, origin
from phaselens.models.model import Model, Proof
from phaselens.models.proof import prove
from phaselens.models.user_cache import proof_of
from phaselens.models.weights import device_of, dtype_of, first_line, offline, read_network, resolved
from phaselens.models.wrappers import unwrapped

VOLATILE = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "_attn_implementation", "architectures")
TOKENIZER_FILES = tuple(
    "tokenizer.json tokenizer_config.json vocab.json vocab.txt tokenizer.model spiece.model".split()
)


def load(
    source: str | Path | nn.Module,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype = "float32",
    tokenizer: PreTrainedTokenizerBase | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    overrides: Path | str | Mapping[str, object] | None = None,
    check: bool = True,
) -> Model:
    """Load a model from a folder, a GGUF file, a Hub id, or a live transformers model, and prove the adapter.

    Weights are read from safetensors and GGUF only and brought to `dtype`; a passed proof is kept in the user's cache
    for the next command (custom code and live models are proved every time). A live model keeps its own dtype and
    device, is put into eval mode, and is not copied. `overrides` (a dict or a TOML file) helps where structure does
    not find the way; its form is in the error that asks for it. Raises InputError where nothing loadable is found,
    ModelRefused where the model is of no causal family, is not what its file says, or fails its proof, TokenizerError
    for a broken tokenizer; a missing one is allowed.
    """
    given = read_overrides(overrides)
    if isinstance(source, nn.Module):
        network: Network = unwrapped(source)
        name = getattr(network.config, "name_or_path", "") or network.config.model_type
        model = _assemble(network.eval(), tokenizer, given, name=name, source="memory", revision=revision)
        return _passed(model, prove(model)) if check else model
    name, folder = placed(str(source))
    device_of(device)  # it is there; as it was named it may be several cards
    kind = dtype_of(dtype)
    network, weights = read_network(folder, kind, trust_remote_code, revision)
    tokenizer = tokenizer if tokenizer is not None else read_tokenizer(folder, trust_remote_code, revision)
    revision = revision if Path(folder).is_dir() else resolved(folder, revision)
    network = onto(network, torch.device(device)).eval()
    model = _assemble(network, tokenizer, given, name=name, source=str(source), revision=revision)
    model = replace(model, weights=weights, origin=origin(Path(folder)))
    if not check:
        return model
    return _passed(model, prove(model) if trust_remote_code else proof_of(model, given))


def placed(source: str) -> tuple[str, str]:
    """Name of a model, and the folder or Hub id to read it from: a GGUF file is read from what it was converted to."""
    file = gguf_file(source)
    if file is not None:
        return file.stem, str(converted(file))
    name = Path(source).resolve().name if Path(source).is_dir() else source
    return Path(source).resolve().parent.name if name == "hf" else name, source


def read_tokenizer(source: str, trust: bool, revision: str | None) -> PreTrainedTokenizerBase | None:
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
            f"the tokenizer in {source} cannot be read: {first_line(error)} Repair its files, or give tokenizer=..."
        ) from error
    return tokenizer if len(tokenizer) > 1 else None


def read_overrides(overrides: Path | str | Mapping[str, object] | None) -> dict[str, object]:
    """Overrides as a dict, from a dict, a TOML file, or None. Raises StudyFileError for an unreadable file."""
    if overrides is None or isinstance(overrides, Mapping):
        return dict(overrides or {})
    try:
        return tomllib.loads(Path(overrides).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StudyFileError(f"overrides {overrides} cannot be read as TOML: {error}. {FORM}") from error


def real_rows(network: Network, tokenizer: PreTrainedTokenizerBase | None) -> int:
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
    network: Network,
    tokenizer: PreTrainedTokenizerBase | None,
    overrides: Mapping[str, object],
    *,
    name: str,
    source: str,
    revision: str | None,
) -> Model:
    rows = real_rows(network, tokenizer)
    refuse_nonfinite(network, rows)
    adapter = discover(network, rows=rows, overrides=overrides)
    eos = _eos(network, tokenizer)
    return Model(
        network=network,
        tokenizer=tokenizer,
        name=name,
        source=source,
        revision=revision or getattr(network.config, "_commit_hash", None),
        family=network.config.model_type,
        fingerprint=fingerprint(network, tokenizer),
        n_layers=len(adapter.blocks),
        vocab_size=rows,
        context=declared_context(network.config),
        eos_ids=eos,
        pad_id=_pad(network, tokenizer, eos, rows),
        proof=None,
        device=home(network),
        dtype=next(network.parameters()).dtype,
        **vars(adapter),
    )


def refuse_nonfinite(network: Network, rows: int) -> None:
    """Raise ModelRefused where one of the first `rows` rows of the embedding or the head is not finite."""
    tables = {"embedding": network.get_input_embeddings(), "head": network.get_output_embeddings()}
    for what, table in tables.items():
        weight = getattr(table, "weight", None)
        if weight is None or weight.dim() != 2 or bool(torch.stack(weight[:rows].aminmax()).isfinite().all()):
            continue
        bad = (~weight[:rows].isfinite().all(-1)).nonzero().flatten().tolist()
        raise ModelRefused(
            f"{len(bad)} of {rows} rows of the {what} are not finite (tokens {', '.join(map(str, bad[:6]))}"
            f"{' ...' if len(bad) > 6 else ''}): a run with such a token has no numbers. The file is damaged, or its "
            "values do not fit the dtype: try dtype='float32', or get the file again."
        )


def _passed(model: Model, proof: Proof) -> Model:
    """The model with its proof. Raises ModelRefused, with what failed, where it did not pass."""
    if not proof.passed:
        lost = model.dtype == torch.float16 and any(row.name == "finite" and not row.passed for row in proof.rows)
        hint = "Its states overflow float16: say dtype='bfloat16' or 'float32'." if lost else FORM
        raise ModelRefused(f"{model.name} ({model.family}): {proof.reason} {hint}")
    return replace(model, proof=proof, facts=replace(model.facts, **proof.facts))


def _eos(network: Network, tokenizer: PreTrainedTokenizerBase | None) -> tuple[int, ...]:
    """All ids that end a text: of the generation settings, the configuration, and the tokenizer."""
    found: list[int | None] = []
    for holder in (getattr(network, "generation_config", None), network.config.get_text_config(), tokenizer):
        value = getattr(holder, "eos_token_id", None)
        found += value if isinstance(value, (list, tuple)) else [value]
    return tuple(dict.fromkeys(int(v) for v in found if v is not None and v >= 0))


def _pad(network: Network, tokenizer: PreTrainedTokenizerBase | None, eos: tuple[int, ...], rows: int) -> int:
    """An id to fill batches with; it is masked, so where no padding id exists the end of text or 0 does."""
    wanted = (getattr(tokenizer, "pad_token_id", None), getattr(network.config, "pad_token_id", None), *eos, 0)
    return next(int(i) for i in wanted if isinstance(i, int) and 0 <= i < max(rows, 1))


def require_tokenizer(model: Model) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Raises TokenizerError where it has none."""
    if model.tokenizer is None:
        raise TokenizerError(
            f"{model.name} has no tokenizer, so text cannot be turned into tokens. Give token ids, or load it with "
            "tokenizer=... (a transformers tokenizer of the same vocabulary)."
        )
    return model.tokenizer


def fingerprint(network: Network, tokenizer: PreTrainedTokenizerBase | None = None) -> str:
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


def _lasting(value: object) -> object:
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
    split = hasattr(model.network, "hf_device_map")
    network = onto(network.to(model.dtype), torch.device(model.device.type) if split else model.device).eval()
    name, source = f"{model.name}:untrained", f"{model.source}:untrained-{seed}"
    twin = _assemble(network, model.tokenizer, {}, name=name, source=source, revision=model.revision)
    return _passed(twin, prove(twin))
