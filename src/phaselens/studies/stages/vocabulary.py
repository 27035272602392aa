"""What the tokens of a vocabulary are as bytes, so that vocabularies can be compared."""

import re
from collections.abc import Mapping, Sequence
from functools import cache

from transformers import PreTrainedTokenizerBase

METASPACE = "\u2581"
# How a character of Chinese or Japanese begins in UTF-8, their punctuation and full-width forms too; a lead byte alone
# says it, so a token that holds only a part of the character counts where it holds the first.
CJK = re.compile(rb"\xe2[\xba-\xbf]|[\xe3-\xe9]|\xef[\xa4-\xab\xb8\xb9\xbc-\xbf]|\xf0[\xa0-\xaf]")
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")


@cache
def _byte_of_char() -> dict[str, int]:
    """Character -> byte in byte-level vocabularies: printable bytes stand for themselves, others from U+0100 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("\u00a1"), ord("\u00ac") + 1), *range(ord("\u00ae"), 256)]
    others = [b for b in range(256) if b not in set(plain)]
    return {chr(b): b for b in plain} | {chr(256 + i): b for i, b in enumerate(others)}


def _is_byte_level(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the vocabulary writes bytes as characters (GPT-2's way)."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    parts = [getattr(backend, name, None) for name in ("decoder", "pre_tokenizer")]
    return any("ByteLevel" in str(part) for part in parts) or hasattr(tokenizer, "byte_decoder")


def token_bytes(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[int, bytes]:
    """Token id -> the bytes it stands for, for ids below `size`; special and added control tokens are left out.

    Byte-level vocabularies are decoded character by character; in the others U+2581 is a space and `<0x0A>` a byte. In
    WordPiece, which marks what goes on instead of what begins, the others begin with the space that they stand for.
    """
    onward = getattr(
        getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "continuing_subword_prefix", ""
    )
    level, chars = _is_byte_level(tokenizer), _byte_of_char()
    special = set(getattr(tokenizer, "all_special_ids", ()))
    out = {}
    for text, index in tokenizer.get_vocab().items():
        if index >= size or index in special:
            continue
        if level and all(c in chars for c in text):
            out[index] = bytes(chars[c] for c in text)
        elif not level and (one := BYTE_TOKEN.match(text)):
            out[index] = bytes([int(one.group(1), 16)])
        elif not level and onward:
            out[index] = (text.removeprefix(onward) if text.startswith(onward) else f" {text}").encode()
        else:
            out[index] = (text if level else text.replace(METASPACE, " ")).encode()
    return out


def digit_tokens(vocabulary: Mapping[int, bytes]) -> frozenset[int]:
    """Ids of the tokens whose text contains an ASCII digit."""
    return frozenset(index for index, text in vocabulary.items() if re.search(rb"[0-9]", text))


def word_start_tokens(vocabulary: Mapping[int, bytes]) -> frozenset[int] | None:
    """Ids of the tokens with which a word begins: their text begins with white space or holds a line break.

    Chinese and Japanese set no spaces: each of their characters, and of their punctuation, begins one. None: no token
    begins so, as where the *end* of a word is marked (`</w>`), and then nothing is known of beginnings.
    What follows a line break in the next token begins a word too, which a token's own text cannot say; the first token
    of a generation is a start whatever it is, and whoever reads the ids says so.
    """
    begun = {index for index, text in vocabulary.items() if text[:1].isspace() or CJK.match(text)}
    known = any(not vocabulary[index].startswith((b"\n", b"\r")) for index in begun)
    return frozenset(begun | {index for index, text in vocabulary.items() if b"\n" in text}) if known else None


def shared_tokens(vocabularies: Mapping[str, Mapping[int, bytes]]) -> dict[str, tuple[int, ...]]:
    """Per model the ids of the tokens that every vocabulary has, matched by bytes, in one common order.

    Where two ids of one vocabulary stand for the same bytes the lower one counts.
    """
    by_text: dict[str, dict[bytes, int]] = {}
    for name, vocabulary in vocabularies.items():
        first: dict[bytes, int] = {}
        for index in sorted(vocabulary):
            first.setdefault(vocabulary[index], index)
        by_text[name] = first
    common: Sequence[bytes] = sorted(set.intersection(*(set(v) for v in by_text.values()))) if by_text else []
    return {name: tuple(first[text] for text in common) for name, first in by_text.items()}
