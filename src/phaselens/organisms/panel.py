"""The panel: one table of cells, each a family, a vocabulary, a shape and a recipe."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from transformers import (
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
)

from phaselens.errors import unknown_name
from phaselens.organisms.corpora import BOS, CONTEXT, EOS, PAD

WEIGHTS = Path(__file__).parent / "weights"
HEADS = 4


@dataclass(frozen=True)
class Cell:
    """One model of the panel: what it is and how it is trained."""

    name: str
    family: str
    vocabulary: int = 512
    layers: int = 6
    width: int = 128
    inner: int = 256
    seed: int = 1
    steps: int = 4500
    batch: int = 8
    lr: float = 2e-3
    init: float = 0.06
    waves: float = 0.1
    attention: str = "eager"


PANEL = (
    Cell("llama-512", "llama", steps=4500, lr=3e-3, init=0.02),
    Cell("gpt2-512", "gpt2", inner=384, steps=4000),
    Cell("neox-512", "gpt_neox", inner=384),
    Cell("opt-1024", "opt", vocabulary=1024, inner=384, steps=3600),
    Cell("gemma2-1024", "gemma2", vocabulary=1024, init=0.04),
)


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


def config(cell: Cell) -> PreTrainedConfig:
    """The Hugging Face configuration of a cell; no dropout anywhere.

    Gemma-2 has a soft-cap of 10 on attention scores and of 12 on the final logits (the released models have 50 and 30):
    at this scale only caps of that size bend anything. Every second of its layers sees 128 positions back.
    """
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD, "initializer_range": cell.init}
    shape = {
        "vocab_size": cell.vocabulary, "hidden_size": cell.width, "num_hidden_layers": cell.layers,
        "num_attention_heads": HEADS, "max_position_embeddings": CONTEXT, **special,
    }  # fmt: skip
    if cell.family == "llama":
        return LlamaConfig(**shape, intermediate_size=cell.inner, tie_word_embeddings=True)
    if cell.family == "gpt_neox":
        return GPTNeoXConfig(
            **shape,
            intermediate_size=cell.inner,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        )
    if cell.family == "opt":
        return OPTConfig(
            **shape,
            ffn_dim=cell.inner,
            word_embed_proj_dim=cell.width,
            dropout=0.0,
            attention_dropout=0.0,
            layerdrop=0.0,
        )
    if cell.family == "gemma2":
        return Gemma2Config(
            **shape, intermediate_size=cell.inner, num_key_value_heads=HEADS // 2, head_dim=cell.width // HEADS,
            query_pre_attn_scalar=cell.width // HEADS, sliding_window=CONTEXT // 2,
            attn_logit_softcapping=10.0, final_logit_softcapping=12.0,
        )  # fmt: skip
    if cell.family == "gpt2":
        return GPT2Config(
            vocab_size=cell.vocabulary, n_embd=cell.width, n_layer=cell.layers, n_head=HEADS, n_inner=cell.inner,
            n_positions=CONTEXT, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **special,
        )  # fmt: skip
    raise unknown_name("family", cell.family, ["llama", "gpt_neox", "opt", "gemma2", "gpt2"])
