"""What is known of the causal families of the library: the committed table, and the proof of one model in words.

`families.json` is made by `tools/families.py` of the source checkout.
"""

import json
from importlib.resources import files
from typing import Any

from phaselens.models.facts import Facts
from phaselens.models.model import Model

TABLE = "families.json"


def check_report(model: Model) -> dict[str, object]:
    """What the proof of a loaded model found, as plain JSON values: provenance, facts in words, and every row."""
    proof = model.proof
    return {
        **model.to_dict(),
        "facts_in_words": facts_in_words(model.facts),
        "passed": None if proof is None else proof.passed,
        "rows": [] if proof is None else proof.to_dict()["rows"],
    }


def facts_in_words(facts: Facts) -> list[str]:
    """What differs from an ordinary model (one state per token, batches padded on the left, decoding with a cache)."""
    words = list(facts.notes)
    if facts.layout == "tbd":
        words.append("states are laid out time first")
    if not facts.tail:
        words.append("no final norm: the head reads the last block's output")
    if facts.in_place:
        words.append("blocks write into their input: captured states are copied")
    if facts.pads_left is False:
        words.append("left padding changes the logits: batch prompts of equal length only")
    if facts.chunks is False:
        words.append("a pass in pieces with the cache is not one pass: replay in one piece")
    if facts.decodes is False:
        words.append("decoding a batch with the cache is not one pass: generate without it")
    if facts.switch is not None:
        words.append(f"beyond {facts.switch:,} positions all factors are others: such a run is replayed in one pass")
    return words


def families_table() -> list[dict[str, Any]]:
    """The committed table: per family outcome, facts, reason, and the transformers version it was made with."""
    table = json.loads(files("phaselens.models").joinpath(TABLE).read_text(encoding="utf-8"))
    return [{**row, "transformers": table["transformers"]} for row in table["families"]]
