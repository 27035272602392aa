"""Every causal family of the installed transformers, tried: which pass the proof, with which facts, which are refused.

`python -m phaselens.models.families` prints the table; with `--write` it replaces the committed `families.json`. Tiny
random weights test the plumbing, with norms, biases and multipliers made non-trivial; they say nothing of quality.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.resources import files
from typing import Any

import torch
import transformers

from phaselens.errors import ModelRefused
from phaselens.models.discover import FORM
from phaselens.models.facts import Facts
from phaselens.models.load import Model, load
from phaselens.models.tiny import LAYERS, WIDTH, build_tiny, families, network_class

OUTCOMES = ("pass", "pass with fact", "refused", "not built")
TABLE = "families.json"


def check_report(model: Model) -> dict[str, Any]:
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


def try_family(model_type: str, *, seed: int = 0) -> dict[str, Any]:
    """Build, load and prove one family from `seed`: one row of the table, with outcome, facts in words and reason."""
    row: dict[str, Any] = {"family": model_type, "class": network_class(model_type).__name__}
    empty = {"facts": [], "reason": "", "blocks": "", "layers": 0, "tail": [], "lens_gap": None}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            network = build_tiny(model_type, seed)
        except Exception as error:  # each family fails in its own words
            return {**row, "outcome": "not built", **empty, "reason": f"{type(error).__name__}: {_short(error)}"}
        try:
            model = load(network)
        except ModelRefused as error:
            return {**row, "outcome": "refused", **empty, "reason": _short(error)}
    words = facts_in_words(model.facts)
    gap = max(r.value for r in model.proof.rows if r.name in ("lens", "loud_lens", "edited_lens"))
    return {
        **row,
        "outcome": "pass with fact" if words else "pass",
        "facts": words,
        "reason": "",
        "blocks": model.block_path,
        "layers": model.n_layers,
        "tail": list(model.facts.tail),
        "lens_gap": float(f"{gap:.0e}"),
    }


def _short(error: Exception) -> str:
    """The message in one line, without the form of overrides and without places on this machine."""
    text = " ".join(str(error).replace(FORM, "").split())
    return text if len(text) <= 400 else text[:397] + "..."


def sweep(names: Iterable[str] | None = None, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of the table for `names` (default: every causal family of the installed transformers), one after another."""
    for name in families() if names is None else names:
        yield try_family(name, seed=seed)


def families_table() -> list[dict[str, Any]]:
    """The committed table: per family outcome, facts, reason, and the transformers version it was made with."""
    table = json.loads(files("phaselens.models").joinpath(TABLE).read_text(encoding="utf-8"))
    return [{**row, "transformers": table["transformers"]} for row in table["families"]]


def main(arguments: list[str] | None = None) -> int:
    """Print the outcome of every family, and with --write replace the committed table."""
    parser = argparse.ArgumentParser(prog="phaselens.models.families", description=main.__doc__)
    parser.add_argument("names", nargs="*", help="families to try (default: all)")
    parser.add_argument("--write", action="store_true", help="replace families.json (all families only)")
    given = parser.parse_args(arguments)
    if given.write and given.names:
        parser.error("--write needs all families: give no names")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    rows = []
    for row in sweep(given.names or None):
        rows.append(row)
        print(f"{row['family']:28} {row['outcome']:15} {'; '.join(row['facts']) or row['reason']}", flush=True)
    print(dict(Counter(row["outcome"] for row in rows)))
    if given.write:
        table = {"transformers": transformers.__version__, "layers": LAYERS, "width": WIDTH, "families": rows}
        place = files("phaselens.models").joinpath(TABLE)
        with open(str(place), "w", encoding="utf-8") as out:
            out.write(json.dumps(table, indent=1, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
