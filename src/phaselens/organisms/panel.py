"""The panel: one table of cells, each a family, a corpus, a vocabulary, a shape and a recipe.

Crossed, not confounded. Against the base cell `llama-512` stand: every other family at the same vocabulary, corpus and
width; the web corpus in four families; another size; untied embeddings; two other vocabularies. Gemma-2 has each of
three seeds with and without its soft-caps, and `qwen3-512` against `llama-512` is a QK-norm pair: but for that norm the
two configurations are one. Two models keep four checkpoints of their training. All weights together stay below 40 MB,
which is why there is no more of each.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from phaselens.errors import unknown_name
from phaselens.organisms.tokens import CHARACTERS, CONTEXT

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


KEPT = (200, 450, 900, 1600)  # with the untrained twin and the model itself, six points of its training
PANEL = (
    Cell("llama-512", "llama", kept=KEPT),
    Cell("gpt2-512", "gpt2", inner=288, kept=KEPT),
    Cell("opt-512", "opt", inner=288, steps=3000),
    Cell("neox-512", "gpt_neox", inner=288),
    Cell("qwen3-512", "qwen3"),
    Cell("gemma2-512", "gemma2"),
    Cell("phi-512", "phi", inner=288),
    Cell("moe-512", "mixtral", inner=96),
    Cell("gemma2-512-uncapped", "gemma2", capped=False),
    Cell("llama-512-web", "llama", corpus="web"),
    Cell("gpt2-512-web", "gpt2", inner=288, corpus="web"),
    Cell("neox-512-web", "gpt_neox", inner=288, corpus="web"),
    Cell("qwen3-512-web", "qwen3", corpus="web"),
    Cell("llama-512-untied", "llama", tied=False),
    Cell("gemma2-512-s2", "gemma2", seed=2),
    Cell("gemma2-512-uncapped-s2", "gemma2", capped=False, seed=2),
    Cell("llama-2048", "llama", vocabulary=2048),
    Cell("gemma2-512-s3", "gemma2", seed=3),
    Cell("gemma2-512-uncapped-s3", "gemma2", capped=False, seed=3),
    Cell("llama-512-large", "llama", layers=8, width=128, inner=256, heads=4),
    Cell("llama-char", "llama", vocabulary=CHARACTERS, context=704),
)
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


def cell_of(recipe: dict) -> Cell:
    """The cell of a recipe as a training record holds it."""
    return Cell(**{**recipe, "kept": tuple(recipe["kept"])})
