"""Tiny random networks of many families, with norms and scales that are not all one."""

import torch
import transformers as tf

V, D, L, H = 97, 32, 3, 4
SMALL_VOCABULARY = V


def _config(family: str):
    small = {"vocab_size": V, "hidden_size": D, "num_hidden_layers": L, "num_attention_heads": H}
    rope = {**small, "intermediate_size": 64, "max_position_embeddings": 256}
    return {
        "gpt2": lambda: tf.GPT2Config(vocab_size=V, n_embd=D, n_layer=L, n_head=H, n_positions=256),
        "opt": lambda: tf.OPTConfig(**small, ffn_dim=64, max_position_embeddings=256, word_embed_proj_dim=D),
        "gpt_neox": lambda: tf.GPTNeoXConfig(**rope),
        "llama": lambda: tf.LlamaConfig(**rope, num_key_value_heads=2),
        "gemma2": lambda: tf.Gemma2Config(**rope, num_key_value_heads=2, head_dim=8, sliding_window=8),
        "bloom": lambda: tf.BloomConfig(vocab_size=V, hidden_size=D, n_layer=L, n_head=H),
        "mpt": lambda: tf.MptConfig(vocab_size=V, d_model=D, n_layers=L, n_heads=H, max_seq_len=256),
        "falcon": lambda: tf.FalconConfig(**small, alibi=True, max_position_embeddings=256),
        "qwen3": lambda: tf.Qwen3Config(**rope, num_key_value_heads=2, head_dim=8),
        "mixtral": lambda: tf.MixtralConfig(**rope, num_key_value_heads=2, num_local_experts=4),
        "mamba": lambda: tf.MambaConfig(vocab_size=V, hidden_size=D, num_hidden_layers=L, state_size=4),
        "rwkv": lambda: tf.RwkvConfig(vocab_size=V, hidden_size=D, num_hidden_layers=L, attention_hidden_size=D),
    }[family]()


FAMILIES = ("gpt2", "opt", "gpt_neox", "llama", "gemma2", "bloom", "mpt", "falcon", "qwen3", "mixtral", "mamba", "rwkv")


def network(family: str, seed: int = 0, **change):
    """A random network whose one-dimensional weights (norms, biases) are spread about their start."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = _config(family)
        for name, value in change.items():
            setattr(config, name, value)
        net = tf.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for p in net.parameters():
                if p.dim() == 1 and family not in ("mamba", "rwkv"):
                    p.add_(0.2 * torch.randn_like(p))
                elif p.dim() == 2:
                    p.mul_(1.0 if family in ("mamba", "rwkv") else 4.0)
    return net
