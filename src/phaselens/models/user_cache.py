"""What phaselens keeps for a user between commands: converted files and passed proofs. All of it can be removed."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
import transformers

from phaselens.models.model import Model, Proof, Row
from phaselens.models.proof import prove


def home() -> Path:
    """Where it is kept: PHASELENS_CACHE, else `phaselens` in XDG_CACHE_HOME or ~/.cache."""
    named = os.environ.get("PHASELENS_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "phaselens"


@cache
def _code() -> str:
    """Hash of the code that proves and of the libraries that run a network."""
    digest = hashlib.sha256(f"{torch.__version__} {transformers.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def proof_of(model: Model, overrides: Mapping[str, object]) -> Proof:
    """The proof of a model that was read from files: the passed one that is kept, else a new one, kept where it passes.

    It is kept by fingerprint, adapter, dtype, device, kernel of attention, and the versions of code and libraries. A
    live network is never asked here: its fingerprint says nothing of its code.
    """
    adapter = replace(model.facts, takes=frozenset()).to_dict()
    named = [
        model.fingerprint,
        adapter,
        model.block_path,
        model.vocab_size,
        str(model.dtype),
        model.device.type,
        getattr(model.network.config, "_attn_implementation", None),
        overrides,
        _code(),
    ]
    key = hashlib.sha256(json.dumps(named, sort_keys=True, default=str).encode()).hexdigest()
    place = home() / "proofs" / f"{key[:40]}.json"
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return Proof(tuple(Row(**row) for row in found["rows"]), found["facts"])
    except (OSError, ValueError, KeyError, TypeError):  # not there, or damaged: then it is made
        proof = prove(model)
    if proof.passed:
        part = place.with_name(f"{place.name}.{uuid.uuid4().hex[:12]}.tmp")
        with suppress(OSError):  # a place that cannot be written keeps nothing; the next command proves again
            place.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(proof.to_dict()), encoding="utf-8")
            os.replace(part, place)
    return proof


def forget_proofs() -> None:
    """Remove every proof that is kept, so that each model is proved again when it is next loaded."""
    shutil.rmtree(home() / "proofs", ignore_errors=True)
