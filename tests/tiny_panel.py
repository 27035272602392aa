"""Tiny models and batteries on disk, for tests that need a whole study in a few seconds."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = (
    "a",
    "b",
    "c",
    "d",
    "e",
    "f",
    "g",
    "h",
    "i",
    "j",
    "k",
    "l",
    "m",
    "n",
    "o",
    "p",
    "q",
    "r",
    "s",
    "t",
    "0",
    "1",
    "2",
)
SENTENCES = [f"{x} {y} {z}" for x, y, z in zip(WORDS, WORDS[3:], WORDS[7:], strict=False)]


def tokenizer(*, words=WORDS, pad: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of single characters and spaces, byte-level."""
    vocabulary = {text: i for i, text in enumerate(["<eos>", "\u0120", *words, *(f"\u0120{w}" for w in words)])}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("\u0120", w) for w in words]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    extra = {"pad_token": "<eos>"} if pad else {}
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", **extra)


def save_model(
    folder: Path,
    family: str = "llama",
    *,
    seed: int = 0,
    with_tokenizer=True,
    context=128,
    words=WORDS,
    layers=4,
    pad=True,
) -> Path:
    """Save a tiny random network of `family` with its tokenizer; return the folder."""
    coder = tokenizer(words=words, pad=pad)
    torch.manual_seed(seed)
    if family == "llama":
        config = LlamaConfig(
            vocab_size=len(coder),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=layers,
            num_attention_heads=2,
            max_position_embeddings=context,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=None,
            initializer_range=0.3,
        )
        network = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=len(coder),
            n_embd=32,
            n_layer=layers,
            n_head=2,
            n_positions=context,
            bos_token_id=0,
            eos_token_id=0,
            initializer_range=0.3,
        )
        network = GPT2LMHeadModel(config)
    network.eval().save_pretrained(folder)
    if with_tokenizer:
        coder.save_pretrained(folder)
    return folder


def save_battery(path: Path, n: int = 4, calibration: int = 2) -> Path:
    """Write a battery of `n` measured prompts in two categories and some for calibration."""
    rows = [
        {"id": f"p{i}", "text": text, "category": "xy"[i % 2], "calibration": i >= n}
        for i, text in enumerate(SENTENCES[: n + calibration])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def save_study(folder: Path, families=("llama", "gpt2"), **fields) -> Path:
    """Write tiny models, a battery and a study.toml of them into `folder`; return the path of the study."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, family in enumerate(families):
        if not (folder / f"{family}{i}").is_dir():
            save_model(folder / f"{family}{i}", family, seed=i)
    save_battery(folder / "battery.jsonl")
    values = {
        "name": "tiny",
        "models": [f"{family}{i}" for i, family in enumerate(families)],
        "battery": "battery.jsonl",
        "max_new_tokens": 8,
        "bootstraps": 100,
    } | fields
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items() if key != "arms"]
    arms = values.get("arms", [{"temperature": 0.7, "samples": 2}, {"temperature": 0.0}])
    for arm in arms:
        lines += ["[[arms]]", *(f"{key} = {value}" for key, value in arm.items())]
    path = folder / "study.toml"
    path.write_text("\n".join(lines) + "\n")
    return path
