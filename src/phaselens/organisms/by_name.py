"""One word for a bundled organism wherever a model is named: `organism:NAME`."""

from pathlib import Path
from typing import Any

from torch import nn

from phaselens.models import Model
from phaselens.models import load as load_any
from phaselens.organisms.catalog import path

ORGANISM = "organism:"


def resolve(source: str) -> str:
    """The folder of `organism:NAME`; any other source as it is. Raises UnknownNameError for an organism not bundled."""
    return str(path(source.removeprefix(ORGANISM))) if source.startswith(ORGANISM) else source


def load(source: str | Path | nn.Module, **options: Any) -> Model:
    """Load a model and prove that its states and logits are read right.

    `source`: `organism:NAME` (bundled, no network), a folder, a Hub id, or a live Hugging Face model. Options, and the
    errors they raise, are those of `phaselens.models.load`: device, dtype, tokenizer, revision, overrides,
    trust_remote_code (off), check. Raises ModelRefused where the proof fails.
    """
    return load_any(resolve(source) if isinstance(source, str) else source, **options)
