"""The Hugging Face configuration of each cell of the panel."""

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
from phaselens.organisms.panel import Cell
from phaselens.organisms.tokens import BOS, CONTEXT, EOS, PAD

EXPERTS = 4


def config(cell: Cell) -> PreTrainedConfig:
    """The Hugging Face configuration of a cell; no dropout anywhere.

    Gemma-2 has a soft-cap of 10 on attention scores and of 12 on the final logits (the released models have 50 and 30):
    at this scale only caps of that size bend anything. Every second of its layers sees 128 positions back. The mixture
    of experts sends each token to 2 of 4 experts.
    """
    special = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": PAD}
    shape = {
        "vocab_size": cell.vocabulary,
        "hidden_size": cell.width,
        "num_hidden_layers": cell.layers,
        "num_attention_heads": cell.heads,
        "max_position_embeddings": cell.context,
        **special,
    }
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
            **gated,
            head_dim=head,
            query_pre_attn_scalar=head,
            sliding_window=CONTEXT // 2,
            attn_logit_softcapping=10.0 if cell.capped else None,
            final_logit_softcapping=12.0 if cell.capped else None,
        )
    if cell.family == "phi":
        return PhiConfig(**shape, intermediate_size=cell.inner)
    if cell.family == "gpt_neox":
        rope = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}
        return GPTNeoXConfig(
            **shape, intermediate_size=cell.inner, hidden_dropout=0.0, attention_dropout=0.0, rope_parameters=rope
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
    if cell.family == "gpt2":
        return GPT2Config(
            vocab_size=cell.vocabulary,
            n_embd=cell.width,
            n_layer=cell.layers,
            n_head=cell.heads,
            n_inner=cell.inner,
            n_positions=cell.context,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            **special,
        )
    families = ["llama", "qwen3", "mixtral", "gemma2", "phi", "gpt_neox", "opt", "gpt2"]
    raise unknown_name("family", cell.family, families)
