"""Tokenizers of eleven kinds, trained in a moment on a few lines, and the text that they were trained on."""

import functools

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

LINES = (
    "Once upon a time, there was a little girl named Lily.",
    "She lived in a big house, and she had a red ball; it was 12 years old!",
    "The cat sat on the mat.\nParis is the capital of France.",
    "  Two blanks, a\ttab, caf\u00e9 and \u4f60\u597d\u4e16\u754c\u3002",
)
SPECIAL = ["<unk>", "<s>", "</s>"]


def finished(tokenizer, before="", after=""):
    """The library's tokenizer, with tokens set before and behind every text."""
    if before or after:
        ends = [(t, tokenizer.token_to_id(t)) for t in (before, after) if t]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{before} $A {after}".strip(), special_tokens=ends
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def byte_bpe(before="", after=""):
    """GPT-2's kind."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        LINES * 4, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet)
    )
    return finished(made, before, after)


def sentencepiece(prefix):
    """SentencePiece BPE with bytes for what is unknown: Llama 2's kind (a space before a text) and Gemma's (none)."""
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    steps = [normalizers.Prepend("\u2581")] if prefix else []
    made.normalizer = normalizers.Sequence([*steps, normalizers.Replace(" ", "\u2581")])
    strip = [decoders.Strip(" ", 1, 0)] if prefix else []
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    words = [word for line in LINES[:3] * 4 for word in line.split()]
    marked = words if prefix else ["\u2581" + word for word in words]
    made.train_from_iterator(marked, trainers.BpeTrainer(vocab_size=560, special_tokens=[*SPECIAL, *bytes_]))
    return finished(made, "<s>")


def wordpiece():
    """BERT's kind: small letters, a token at both ends, no blanks of its own."""
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer, made.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    made.train_from_iterator(LINES * 4, trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL))
    return finished(made, "<s>", "</s>")


def unigram():
    """T5's kind: a space before a text, a token behind it."""
    made = Tokenizer(models.Unigram())
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    made.train_from_iterator(
        LINES * 4, trainers.UnigramTrainer(vocab_size=150, special_tokens=SPECIAL, unk_token="<unk>")
    )
    return finished(made, "", "</s>")


def characters():
    """One token a character."""
    known = sorted({c for line in LINES for c in line} | set("abcdefghijklmnopqrstuvwxyz"))
    made = Tokenizer(models.BPE({c: i for i, c in enumerate([*SPECIAL, *known])}, [], unk_token="<unk>"))
    made.add_special_tokens(SPECIAL)
    made.decoder = decoders.Fuse()
    return finished(made, "<s>")


KINDS = {
    "byte BPE": byte_bpe,
    "byte BPE, BOS": functools.partial(byte_bpe, "<s>"),
    "byte BPE, EOS": functools.partial(byte_bpe, "", "</s>"),
    "byte BPE, both": functools.partial(byte_bpe, "<s>", "</s>"),
    "SentencePiece, space before": functools.partial(sentencepiece, True),
    "SentencePiece": functools.partial(sentencepiece, False),
    "WordPiece": wordpiece,
    "Unigram": unigram,
    "bytes, slow": ByT5Tokenizer,
    "characters": characters,
}


@functools.cache
def kind(name):
    """The tokenizer of a kind, made once."""
    return KINDS[name]()
