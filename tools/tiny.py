"""Tiny random networks of every causal family that the installed transformers knows.

A configuration is shrunk by rules on the names of its numbers, nested text configurations too; `FIXES` holds what the
rules cannot know.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import CONFIG_MAPPING, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from phaselens.models.facts import Network

LAYERS, WIDTH, HEADS, HEAD, VOCAB, CONTEXT = 4, 64, 4, 16, 96, 64

RULES: tuple[tuple[str, int], ...] = (
    (r"^(decoder_)?vocab_size$|^vocab_size_per_layer_input$|^unpadded_vocab_size$", VOCAB),
    (r"^(num_hidden_layers|n_layers?|num_layers|(num_)?(de|en)coder_layers|depth|num_blocks)$", LAYERS),
    (
        r"^(hidden_size|n_embd|d_model|word_embed_proj_dim|embedding_size|hidden_size_global|attention_hidden_size)$",
        WIDTH,
    ),
    (r"^(swa_)?(num_key_value_heads|num_kv_heads)$|^kv_n_heads$", 2),
    (r"attention_heads$|^n_heads?$|^num_heads$|^n_head$", HEADS),
    (r"^(swa_|linear_|global_)?head_dim$|^d_kv$|^dim_head$|^kv_channels$|^attention_head_dim$|^d_head$", HEAD),
    (r"^(qk_nope_head_dim|qk_rope_head_dim|rotary_dim)$", HEAD // 2),
    (r"^(qk_head_dim|v_head_dim|index_head_dim|linear_(key|value)_head_dim)$", HEAD),
    (r"^linear_num_(key|value)_heads$|^linear_num_heads$|^index_n_heads$", HEADS),
    (r"lora_rank$|^laurel_rank$|^hc_lowrank$|^gated_norm_rank$|^time_step_rank$|^mamba_dt_rank$", 8),
    (r"(intermediate|ffn|ff)_(size|dim|hidden_size)|^ffn_dim$|^dff$|^dim_ff$|^d_ff$|^intermediate_size_mlp$", 96),
    (r"^(num_experts|n_routed_experts|num_local_experts|moe_num_experts|zero_expert_num)$", 4),
    (r"^(num_experts_per_tok|num_experts_per_token|moe_topk|moe_top_k|moe_k)$", 2),
    (r"^(n_shared_experts|num_shared_experts|moe_num_shared_experts)$", 1),
    (r"^(n_group|topk_group|num_expert_group|o_groups)$", 1),
    (
        r"^(max_position_embeddings|n_positions|n_ctx|max_seq_len|model_max_length|max_(source|target)_positions)$",
        CONTEXT,
    ),
    (r"^original_max_position_embeddings$", CONTEXT),
    (r"^(mamba_)?d_state$|^(ssm_)?state_size$", 8),
    (r"^hidden_size_per_layer_input$|^ple_embed_dim$", 16),
    (r"^index_topk$", 32),
    (r"^first_k_dense_replace$|^num_dense_layers$", 1),
    (r"^(sliding_window|sliding_window_size|window_size|attention_chunk_size)$", 32),
    (r"^type_vocab_size$", 2),
    (r"^(mamba_)?chunk_size$", 8),
    (r"^(num_nextn_predict_layers|mtp_num_layers)$", 0),
)

FLOATS: tuple[tuple[str, float], ...] = (
    (r"^logits_scaling$", 3.0),
    (r"^final_logit_softcapping$", 30.0),
    (r"^(embedding|residual|lm_head)_multiplier$", 0.7),
)
FILLED = ("head_dim", "num_key_value_heads", "n_group", "topk_group", "num_experts_per_tok", "n_routed_experts")
FILLED += ("n_shared_experts", "final_logit_softcapping")

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": 32,
    "indexer_compress_ratio": 2,
    "ngram_vocab_size_base": 101,
    "split_ngram_parts": 1,
    "heads_per_ngram": 2,
    "ple_embed_dim": 16,
    "ple_layer_ids": [1],
    "eos_token_id": 2,
}
ZAMBA = {
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    "attention_hidden_size": 2 * WIDTH,
    "attention_head_dim": 2 * HEAD,
    "num_key_value_heads": HEADS,
    "mamba_dt_rank": None,
}

FIXES: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1, 3]},
    "cohere_compass_text": {"rope_parameters": {kind: ROPE for kind in ("full_attention", "sliding_attention")}},
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "dots3_note": {
        "vision_config": {"adapter_in_dim": WIDTH, "adapter_out_dim": WIDTH},
        "audio_config": {"adapter_input_size": WIDTH, "adapter_out_dim": WIDTH},
    },
    "gemma3n_text": {"num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0}},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1},
    "qwen4_exp_text": QWEN4,
    "qwen4_exp": {"text_config": QWEN4},
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": [8, 8],
        "axial_pos_embds_dim": [32, 32],
        "attn_layers": ["local", "lsh", "local", "lsh"],
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": ZAMBA,
    "zamba2": {**ZAMBA, "n_mamba_heads": 8},
    "zaya": {"num_experts_per_tok": 1},
}

ENCODER_LIKE = {"is_decoder": True, "add_cross_attention": False, "is_encoder_decoder": False}


def kinds_covered(values: list[Any], count: int) -> list[Any]:
    """At most `count` entries of a per-layer list, one of each kind first, in the list's own order."""
    first = [values.index(v) for i, v in enumerate(values) if values.index(v) == i]
    chosen = (first + [i for i in range(len(values)) if i not in first])[:count]
    return [values[i] for i in sorted(chosen)]


def shrink(config: PretrainedConfig, lists: bool) -> dict[str, Any]:
    """Arguments that make a tiny configuration of the same class; per-layer lists are cut if `lists`, else left out."""
    small: dict[str, Any] = {}
    values = {k: v for k, v in vars(config).items() if not k.startswith("_")}
    layers = next((values[n] for n in ("num_hidden_layers", "n_layer", "n_layers", "num_layers") if n in values), None)
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if isinstance(value, PretrainedConfig):
            small[name] = shrink(value, lists)
        elif whole and name.endswith(("token_id", "token_index")):
            small[name] = value if value < VOCAB else VOCAB - 1 - len(small) % 8
        elif whole or (value is None and name in FILLED):
            _set(small, name, RULES)
        if isinstance(value, float) or (value is None and name in FILLED):
            _set(small, name, FLOATS)
        elif isinstance(value, list) and layers and len(value) == layers and lists:
            small[name] = kinds_covered(value, LAYERS)
        elif name in ENCODER_LIKE:
            small[name] = ENCODER_LIKE[name]
    if "qk_rope_head_dim" in small:
        small["head_dim"] = small["qk_rope_head_dim"]
        small["num_key_value_heads"] = HEADS
    return small


def _set(small: dict[str, Any], name: str, rules: tuple[tuple[str, Any], ...]) -> None:
    rule = next((value for pattern, value in rules if re.search(pattern, name)), None)
    if rule is not None:
        small[name] = rule


def merged(base: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `extra` laid over it, nested; a value of None takes the name out."""
    out = dict(base)
    for name, value in extra.items():
        if value is None:
            out.pop(name, None)
        elif isinstance(value, Mapping) and isinstance(out.get(name), dict):
            out[name] = merged(out[name], value)
        else:
            out[name] = value
    return out


def tiny_config(model_type: str, *, lists: bool = True) -> PretrainedConfig:
    """A tiny configuration of one family."""
    kind = CONFIG_MAPPING[model_type]
    return kind(**merged(shrink(kind(), lists), FIXES.get(model_type, {})))


def network_class(model_type: str) -> type[nn.Module]:
    """The library's causal language model of one family."""
    kind = MODEL_FOR_CAUSAL_LM_MAPPING[CONFIG_MAPPING[model_type]]
    return kind[0] if isinstance(kind, tuple) else kind


def own_config(kind: type[nn.Module], config: PretrainedConfig) -> PretrainedConfig:
    """The part of a composite configuration that the network class takes."""
    wanted = kind.config_class
    parts = [config, *(v for v in vars(config).values() if isinstance(v, PretrainedConfig))]
    return next((part for part in parts if wanted is not None and isinstance(part, wanted)), config)


def build_tiny(model_type: str, seed: int) -> nn.Module:
    """A tiny random network of one family, in eval mode, float32, its norms made non-trivial.

    The library draws weights from the global generator, which is set here inside a fork and restored. Raises whatever
    the family raises where no tiny configuration builds.
    """
    kind, error = network_class(model_type), None
    for lists in (True, False):
        try:
            config = own_config(kind, tiny_config(model_type, lists=lists))
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                network = kind(config)
            randomise(network, seed)
            return network.eval()
        except Exception as failed:  # each family fails in its own words; the first is told
            error = error or failed
    raise error


def families() -> tuple[str, ...]:
    """The model types that the installed transformers counts as causal language models."""
    return tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def randomise(network: Network, seed: int) -> None:
    """Give every one-dimensional parameter (norm gains, biases) a random part, so that nothing passes by being 0 or 1.

    Two-dimensional weights with no spread at all (zero-initialised projections) get some too.
    """
    draw = torch.Generator().manual_seed(seed + 77)
    with torch.no_grad():
        for _, parameter in sorted(network.named_parameters()):
            if not parameter.is_floating_point():
                continue
            noise = torch.randn(parameter.shape, generator=draw).to(parameter)
            if parameter.dim() <= 1:
                parameter.add_(0.2 * noise)
            elif float(parameter.std()) == 0.0:
                parameter.add_(0.05 * noise)
