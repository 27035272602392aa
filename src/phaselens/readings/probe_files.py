"""Frozen probes as files: safetensors with the classes in the metadata."""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from phaselens.errors import StudyFileError
from phaselens.probes import Probes
from phaselens.trace.store import atomic_write, canonical_json

FIELDS = ("weight", "bias", "centre", "scale")


def save_probes(path: str | Path, probes: Probes, **facts: object) -> Path:
    """Write probes (weights, classes, penalties, and `facts`) to a safetensors file, whole or not at all."""
    tensors = {name: getattr(probes, name).contiguous() for name in FIELDS}
    tensors["l2"] = torch.as_tensor(probes.l2)
    about = {"classes": [str(c) for c in probes.classes], **facts}
    return atomic_write(path, save(tensors, metadata={"phaselens": canonical_json(about)}))


def load_probes(path: str | Path) -> Probes:
    """Probes from a file that `save_probes` wrote; classes are texts. Raises StudyFileError for another file."""
    try:
        with safe_open(str(path), "pt") as file:
            classes = json.loads(file.metadata()["phaselens"])["classes"]
            tensors = {name: file.get_tensor(name) for name in (*FIELDS, "l2")}
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StudyFileError(f"{path} cannot be read as probes: {error}.") from error
    fields = {name: tensors[name] for name in FIELDS}
    return Probes(**fields, classes=np.array(classes), l2=tensors["l2"].numpy())
