"""The panel: one table of cells, each a family, a corpus, a vocabulary, a shape and a recipe.

Crossed, not confounded. Against the base cell `llama-512` stand: every other family at the same vocabulary, corpus and
width; the web corpus in four families; another size; untied embeddings; two other vocabularies. Gemma-2 has each of
three seeds with and without its soft-caps, and `qwen3-512` against `llama-512` is a QK-norm pair: but for that norm the
two configurations are one. Two models keep four checkpoints of their training. All weights together stay below 40 MB,
which is why there is no more of each.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phaselens.errors import unknown_name
from phaselens.organisms.tokens import CONTEXT

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class Cell:
    """One model of the panel: what it is and how it is trained.

    `capped` (Gemma-2) and `tied` (embedding and unembedding; None: as the family has it) are switches of the panel's
    pairs; `kept` names the steps whose weights are kept as checkpoints.
    """

    name: str
    family: str
    vocabulary: int = 512
    corpus: str = "curated"
    layers: int = 6
    width: int = 96
    inner: int = 192
    heads: int = 3
    context: int = CONTEXT
    capped: bool = True
    tied: bool | None = None
    seed: int = 1
    steps: int = 2500
    batch: int = 8
    lr: float = 0.015
    lr_vectors: float = 3e-3
    kept: tuple[int, ...] = ()


def cell_of(recipe: dict) -> Cell:
    """The cell of a recipe, as the table and a training record hold it."""
    return Cell(**{**recipe, "kept": tuple(recipe.get("kept", ()))})


TABLE = tomllib.loads((Path(__file__).parent / "panel.toml").read_text(encoding="utf-8"))
PANEL = tuple(cell_of({"name": name, **own}) for name, own in TABLE.items())
DEFAULT = tuple(cell.name for cell in PANEL[:8])


def cells(names: Iterable[str] = ()) -> tuple[Cell, ...]:
    """The cells of these names, in the order of the table; all of them where no name is given.

    Raises `UnknownNameError` for a name that is not in the table.
    """
    known = {cell.name: cell for cell in PANEL}
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise unknown_name("organism", name, known)
    return tuple(cell for cell in PANEL if not wanted or cell.name in wanted)
