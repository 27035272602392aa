"""What is known of how a model was made, for claims about corpus, cap, QK-norm and seed: declared, else on record."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from phaselens.errors import InputError
from phaselens.models import Model
from phaselens.organisms import resolve
from phaselens.studies.declaration import Source
from phaselens.trace.store import digest

QK_NORM = re.compile(r"(^|\.)(q|k|query|key)_?(layer_?)?norm$")
LOSSES = ("training_loss", "training_tokens", "other_loss", "loss_tokens", "other_tokens")
DECLARED = ("corpus", "recipe", "capped", "qk_norm", "training_seed", *LOSSES)
# What two models of one recipe may differ in; the rest of a training record is the recipe.
APART = ("name", "corpus", "capped", "seed", "kept")
# Configurations that differ in their QK-norm alone: the second family is the first one with it.
WITHOUT_QK_NORM = {"qwen3": "llama"}


def has_qk_norm(model: Model) -> bool:
    """Whether the blocks norm queries or keys, told by the names of their modules."""
    return any(QK_NORM.search(name) for block in model.blocks for name, _ in block.named_modules())


def made_of(source: Source, facts: Mapping[str, Any], *, untrained: bool) -> dict[str, Any]:
    """Fields of `ModelInfo` on how the model of `source` was made: corpus, recipe, capped, qk_norm, training_seed,
    and `LOSSES`.

    What the study declares for the model counts; else the `training.json` beside the weights of an organism; "" and
    None where nothing is known. An untrained twin has seen no corpus and has no seed of training.
    """
    found: dict[str, Any] = {"capped": facts["facts"]["cap"] is not None, "qk_norm": facts.get("qk_norm")}
    found |= _on_record(source.source)
    declared = {k: getattr(source, k) for k in DECLARED}
    found |= {k: v for k, v in declared.items() if v is not None}
    if untrained:
        found |= {"corpus": "", "recipe": "", "training_seed": None}
        found |= dict.fromkeys(LOSSES, math.nan)
    return found


def _on_record(source: str) -> dict[str, object]:
    """The same from the training record of an organism; nothing where there is none."""
    try:
        path = Path(resolve(source)) / "training.json"
        record = json.loads(path.read_text(encoding="utf-8"))
        cell = record["recipe"]
        corpus, seed = str(cell["corpus"]), int(cell["seed"])
    except (OSError, InputError, ValueError, KeyError, TypeError):
        return {}
    same = {k: v for k, v in cell.items() if k not in APART} | {"step": record.get("step")}
    same["family"] = WITHOUT_QK_NORM.get(same.get("family", ""), same.get("family"))
    figures = record.get("figures") or {}
    losses = [float(figures.get(key, math.nan)) for key in ("loss", "web_loss")]
    own, other = losses if corpus == "curated" else losses[::-1]
    trained = {"training_loss": own, "other_loss": other, "training_tokens": float(record.get("tokens", math.nan))}
    return {"corpus": corpus, "recipe": f"organism {digest(same)[:12]}", "training_seed": seed, **trained}
