"""Every causal family of the installed transformers, tried: which pass the proof, with which facts, which are refused.

`python -m tools.families` prints the table; with `--write` it replaces the committed `families.json`. Tiny random
weights test the plumbing, with norms, biases and multipliers made non-trivial; they say nothing of quality.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tools.tiny import LAYERS, WIDTH, build_tiny, families, network_class

from phaselens.errors import ModelRefused
from phaselens.models import load
from phaselens.models.discover import FORM
from phaselens.models.families import TABLE, facts_in_words

OUTCOMES = ("pass", "pass with fact", "refused", "not built")
PLACE = Path(__file__).resolve().parents[1] / "src" / "phaselens" / "models" / TABLE


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


def main(arguments: list[str] | None = None) -> int:
    """Print the outcome of every family, and with --write replace the committed table."""
    parser = argparse.ArgumentParser(prog="tools.families", description=main.__doc__)
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
        PLACE.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
