"""The text that each token adds: a tokenizer decodes whole strings, and a character may need several tokens."""

from collections.abc import Iterable, Sequence

from transformers import PreTrainedTokenizerBase

TAIL = 6
BROKEN = "\ufffd"


class Text:
    """Follows one run; only its last few tokens are decoded anew at every step. `special`: these show as well."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, special: bool = False) -> None:
        self._tokenizer, self._special = tokenizer, special
        self._said: list[int] = []
        self._waiting: list[int] = []

    def push(self, token: int) -> str:
        """What this token adds: "" while a character is incomplete, then the whole of it."""
        self._waiting.append(token)
        before = self._decode(self._said)
        after = self._decode(self._said + self._waiting)
        if after.endswith(BROKEN) and len(self._waiting) < TAIL:
            return ""
        self._said = (self._said + self._waiting)[-TAIL:]
        self._waiting = []
        return after[len(before) :]

    def copy(self) -> "Text":
        """The same text so far, to be gone on with on its own."""
        out = Text(self._tokenizer, self._special)
        out._said, out._waiting = list(self._said), list(self._waiting)
        return out

    def _decode(self, ids: list[int]) -> str:
        if not ids:
            return ""
        return self._tokenizer.decode(ids, skip_special_tokens=not self._special, clean_up_tokenization_spaces=False)


def pieces(tokenizer: PreTrainedTokenizerBase, runs: Iterable[Sequence[int]]) -> list[list[str]]:
    """What each token of each run adds to its text, special tokens too; joined they are the text.

    A character of several tokens stands whole at the last of them. A token after the same one reads the same, so that
    pairs are decoded once; only where a character is broken is a run followed token by token.
    """
    pairs: dict[tuple[int, ...], str] = {}

    def decode(*ids: int) -> str:
        if ids not in pairs:
            pairs[ids] = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return pairs[ids]

    def one(ids: Sequence[int]) -> list[str]:
        ids = [int(i) for i in ids]
        found = [decode(i) for i in ids[:1]]
        found += [decode(a, b).removeprefix(decode(a)) for a, b in zip(ids, ids[1:], strict=False)]
        if not any(BROKEN in piece for piece in found):
            return found
        text = Text(tokenizer, special=True)
        return [text.push(i) for i in ids]

    return [one(ids) for ids in runs]
