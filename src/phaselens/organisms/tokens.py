"""Tokens of the organisms: the special ones, the context, and the tokenizer that is stored beside the weights."""

from pathlib import Path

from transformers import PreTrainedTokenizerFast

CONTEXT = 256
SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
PAD, BOS, EOS, UNK = range(4)
CHARACTERS = 100  # of the vocabulary whose tokens are characters: printable ASCII, blank, newline, special ones


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer stored in a model's folder."""
    return PreTrainedTokenizerFast.from_pretrained(str(folder))
