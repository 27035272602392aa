"""The text that each token adds: a tokenizer decodes whole strings, and a character may need several tokens."""

from typing import Any

TAIL = 6
BROKEN = "\ufffd"


class Text:
    """Follows one run; only its last few tokens are decoded anew at every step."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
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
        out = Text(self._tokenizer)
        out._said, out._waiting = list(self._said), list(self._waiting)
        return out

    def _decode(self, ids: list[int]) -> str:
        if not ids:
            return ""
        return self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
