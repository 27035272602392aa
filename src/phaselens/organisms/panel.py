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

from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MixtralConfig,
    OPTConfig,
    PhiConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from phaselens.errors import unknown_name
from phaselens.organisms.tokens import BOS, CHARACTERS, CONTEXT, EOS, PAD

WEIGHTS = Path(__file__).parent / "weights"
EXPERTS = 4


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


def config(cell: Cell) -> PreTrainedConfig:
    """The Hugging Face configuration of a cell; no dropout anywhere.

    Gemma-2 has a soft-cap of 10 on attention scores and of 12 on the final logits (the released models have 50 and 30):
    at this scale only caps of that size bend anything. Every second of its layers sees 128 positions back. The mixture
    of experts sends each token to 2 of 4 experts.
    """
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    shape = {
        "vocab_size": cell.vocabulary, "hidden_size": cell.width, "num_hidden_layers": cell.layers,
        "num_attention_heads": cell.heads, "max_position_embeddings": cell.context, **special,
    }  # fmt: skip
    gated = {**shape, "intermediate_size": cell.inner, "num_key_value_heads": cell.heads}
    head = cell.width // cell.heads
    tied = True if cell.tied is None else cell.tied
    if cell.family == "llama":
        return LlamaConfig(**gated, tie_word_embeddings=tied)
    if cell.family == "qwen3":
        return Qwen3Config(**gated, head_dim=head, tie_word_embeddings=tied)
    if cell.family == "mixtral":
        return MixtralConfig(
            **gated, num_local_experts=EXPERTS, num_experts_per_tok=2, sliding_window=None, tie_word_embeddings=tied
        )
    if cell.family == "gemma2":
        return Gemma2Config(
            **gated, head_dim=head, query_pre_attn_scalar=head, sliding_window=CONTEXT // 2,
            attn_logit_softcapping=10.0 if cell.capped else None, final_logit_softcapping=12.0 if cell.capped else None,
        )  # fmt: skip
    if cell.family == "phi":
        return PhiConfig(**shape, intermediate_size=cell.inner)
    if cell.family == "gpt_neox":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
        return GPTNeoXConfig(
            **shape, intermediate_size=cell.inner, hidden_dropout=0.0, attention_dropout=0.0, rope_parameters=rope
        )
    if cell.family == "opt":
        return OPTConfig(
            **shape, ffn_dim=cell.inner, word_embed_proj_dim=cell.width, dropout=0.0, attention_dropout=0.0,
            layerdrop=0.0,
        )  # fmt: skip
    if cell.family == "gpt2":
        return GPT2Config(
            vocab_size=cell.vocabulary, n_embd=cell.width, n_layer=cell.layers, n_head=cell.heads, n_inner=cell.inner,
            n_positions=cell.context, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    families = ["llama", "qwen3", "mixtral", "gemma2", "phi", "gpt_neox", "opt", "gpt2"]
    raise unknown_name("family", cell.family, families)
