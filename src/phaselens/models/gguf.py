"""GGUF files, as Ollama and LM Studio keep them: converted once to a folder of safetensors, and read from there.

The library's own reader brings quantised weights back to float32 and makes configuration and tokenizer from the file's
metadata. The folder lies in the user's cache under the hash of the file, so that the second load takes what safetensors
take.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from phaselens.errors import InputError, ModelRefused, missing_extra
from phaselens.models.user_cache import home
from phaselens.models.weights import became_of, first_line, quiet

RECORD = "dequantised.json"
MAGIC = b"GGUF"
LIST = "GGUF files of these architectures are read: {}."


def gguf_file(source: str) -> Path | None:
    """The GGUF file that `source` names: itself, or the only one in a folder without config.json; else None.

    Told by its first four bytes, since blobs have no ending. Raises InputError for a folder with several.
    """
    path = Path(source).expanduser()
    if path.is_dir() and not (path / "config.json").is_file():
        found = sorted(path.glob("*.gguf"))
        if len(found) > 1:
            raise InputError(f"{source} holds {len(found)} GGUF files ({found[0].name} ...): name the one to read.")
        path = found[0] if found else path
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return path if file.read(4) == MAGIC else None


def converted(path: Path) -> Path:
    """The folder that the GGUF file `path` was converted to, in the user's cache; converts it where it is not there."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = home() / "gguf" / digest[:32]
    return folder if (folder / RECORD).is_file() else convert(path, folder)


def convert(path: Path, folder: Path) -> Path:
    """Write the model of a GGUF file as a folder of safetensors (float32), with its tokenizer, and return the folder.

    Whole or not at all. Raises MissingExtra without the package `gguf`, ModelRefused for an architecture that the
    library does not read or tensors that do not fit, InputError where the folder is there or cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already: name a folder that is not, or remove it.")
    record = described(path)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
            network, report = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, output_loading_info=True, **_plain()
            )
    except Exception as error:  # the reader fails in its own words, and those of its packages
        raise ModelRefused(f"{path}: {first_line(error)} {LIST.format(', '.join(architectures()))}") from error
    became_of(str(path), network, report)
    network.hf_quantizer = None  # the weights are plain: the library would not save what it calls quantised
    network.config.__dict__.pop("quantization_config", None)
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}")
    try:
        with quiet():
            network.save_pretrained(part)
        tokenizer.save_pretrained(part)
        (part / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(part, folder)
    except OSError as error:
        if not (folder / RECORD).is_file():  # else another process was first, and its folder is the same
            why = f"{folder} cannot be written: {first_line(error)} Give another place (PHASELENS_CACHE)."
            raise InputError(why) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _plain() -> dict[str, object]:
    """The argument by which newer versions of the library are told to unpack all weights; older ones always do."""
    config = getattr(transformers, "GgufConfig", None)
    return {} if config is None else {"quantization_config": config(dequantize=True)}


def described(path: Path) -> dict[str, str]:
    """What a GGUF file says of itself: `file`, `architecture`, `quantisation` (e.g. Q4_K_M)."""
    try:
        from gguf import GGUFReader, LlamaFileType
    except ImportError as error:
        raise missing_extra(f"reading {path.name}", "gguf and accelerate", "gguf") from error
    try:
        reader = GGUFReader(path)
        architecture = reader.fields["general.architecture"].contents()
        kind = reader.fields.get("general.file_type")
        named = None if kind is None else LlamaFileType(kind.contents()).name
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path} cannot be read as GGUF: {first_line(error)} Get the file again.") from error
    common = Counter(tensor.tensor_type.name for tensor in reader.tensors if len(tensor.shape) > 1).most_common(1)
    quantisation = (named or common[0][0]).removeprefix("ALL_").removeprefix("MOSTLY_")
    return {"file": path.name, "architecture": architecture, "quantisation": quantisation}


def architectures() -> list[str]:
    """The GGUF architectures that the installed library reads, by name."""
    from transformers import modeling_gguf_pytorch_utils as older

    known = set(older.GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer", "t5", "umt5"}
    try:
        from transformers.integrations.gguf.gguf_conversion_mapping import GGUF_ARCHS
    except ImportError:
        GGUF_ARCHS = {}
    return sorted(known | set(GGUF_ARCHS))


def origin(folder: Path) -> str | None:
    """What the weights of a converted folder were, e.g. `weights dequantised from Q4_K_M (GGUF)`; None for others."""
    try:
        kind = json.loads((folder / RECORD).read_text(encoding="utf-8"))["quantisation"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return f"weights {'from' if kind in ('F32', 'F16', 'BF16') else 'dequantised from'} {kind} (GGUF)"
