"""Text and turns of a conversation as token ids: the one place where a tokenizer is asked for them.

Tokens that a tokenizer sets before a text open a sequence; those that it sets behind one never stand inside a sequence,
so they are left out everywhere. Conversations go through the tokenizer's own template.
"""

import datetime
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from phaselens.errors import PromptError, TokenizerError, require_text
from phaselens.models.load import require_tokenizer
from phaselens.models.model import Model

Messages = Sequence[tuple[str, str]]
# Templates that write today's date would give other tokens tomorrow: they are given this one, a common default of them.
TODAY = datetime.datetime(2024, 7, 26)
NOW = re.compile(r"""strftime_now\(\s*(['"])(.*?)\1\s*\)""")
SHOWN = 24
SHOWN_TURN = "what a user says"


@dataclass(frozen=True, eq=False)
class Encoder:
    """Token ids of texts for one tokenizer.

    `opening` are the ids that it sets before every text (often one, or none), `closing` those behind it. `name` is the
    model's, for messages.
    """

    tokenizer: PreTrainedTokenizerBase
    name: str
    opening: tuple[int, ...]
    closing: tuple[int, ...]

    def __call__(self, text: str, first: bool = True) -> list[int]:
        """Token ids of a text; `first`: it begins the sequence, so what opens a sequence stands before it, once.

        Raises PromptError for half a surrogate pair.
        """
        require_text(text, "the text")
        if not first:
            return list(self.tokenizer.encode(text, add_special_tokens=False))
        ids = list(self.tokenizer.encode(text, add_special_tokens=True))
        end = len(ids) - len(self.closing)
        return ids[self._extra(ids) : end if tuple(ids[end:]) == self.closing else None]

    def doubled(self, text: str) -> bool:
        """Whether a text already begins with what opens a sequence, which then is not set before it again."""
        return bool(self._extra(list(self.tokenizer.encode(text, add_special_tokens=True))))

    def _extra(self, ids: list[int]) -> int:
        n = len(self.opening)
        return n if n and tuple(ids[: 2 * n]) == self.opening * 2 else 0

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a text that begins a sequence, and which characters each spells (end exclusive).

        Raises TokenizerError for a tokenizer that does not say where its tokens stand.
        """
        if not getattr(self.tokenizer, "is_fast", False):
            raise TokenizerError(
                f"the tokenizer of {self.name} does not say where its tokens stand in a text, so spans cannot be "
                "found. Give token_ids with spans in tokens, or leave spans out."
            )
        ids = self(text)
        found = self.tokenizer(text, add_special_tokens=True, return_offsets_mapping=True)["offset_mapping"]
        start = len(found) - len(self.closing) - len(ids)
        return ids, [tuple(pair) for pair in found[start : start + len(ids)]]

    def split(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a prompt and of what follows it, which together must spell the text.

        The whole text is encoded at once where the prompt's own tokens begin it (so that a space joins the word after
        it); where a token spans the seam, the two are encoded apart.
        Raises PromptError, showing the seam, where they then do not spell the text.
        """
        return self._split(self(prompt), self(prompt + completion), completion)

    def _split(self, head: list[int], whole: list[int], completion: str) -> tuple[list[int], list[int]]:
        if whole[: len(head)] == head and len(whole) > len(head):
            return head, whole[len(head) :]
        tail = self(completion, False)
        wanted, got = (self.tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in (whole, head + tail))
        if wanted != got:
            same = len(os.path.commonprefix([wanted, got]))
            near = slice(max(0, same - SHOWN), same + SHOWN)
            raise PromptError(
                f"prompt and completion do not join: encoded apart they spell {got[near]!r}, the text is "
                f"{wanted[near]!r}. Move the blank at the end of the prompt to the beginning of the completion, "
                "or give prompt_ids and completion_ids."
            )
        return head, tail

    def chat(self, messages: Messages) -> list[int]:
        """Token ids of a conversation by the tokenizer's own template, up to where the model is to answer.

        Raises TokenizerError without a template, PromptError for turns that it refuses.
        """
        return self(self.rendered(messages), False)

    def split_chat(self, messages: Messages, completion: str) -> tuple[list[int], list[int]]:
        """Token ids of a conversation and of the answer to it; errors are those of `chat` and `split`."""
        text = self.rendered(messages)
        return self._split(self(text, False), self(text + completion, False), completion)

    def rendered(self, messages: Messages, *, answer: bool = True) -> str:
        """The text of a conversation by the template; with `answer` it ends where the model's answer begins."""
        if self.template is None:
            raise TokenizerError(
                f"{self.name} has no chat template, so there is no way that it was taught to read a conversation. "
                "Leave chat (and system, messages) out, or measure a model that was tuned to chat."
            )
        turns = [{"role": role, "content": content} for role, content in messages]
        dated = NOW.sub(lambda m: repr(TODAY.strftime(m[2])), self.template)
        try:
            return self.tokenizer.apply_chat_template(
                turns, chat_template=dated, tokenize=False, add_generation_prompt=answer
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:  # templates refuse in words of their own
            roles = ", ".join(role for role, _ in messages)
            raise PromptError(f"the chat template of {self.name} refuses the turns ({roles}): {error}.") from error

    @property
    def template(self) -> str | None:
        """The template of conversations; None where the tokenizer has none."""
        return template_of(self.tokenizer)

    def bare(self, prompts: Iterable[Sequence[int]]) -> int:
        """How many prompts hold nothing of what the template sets behind a user's turn; 0 without a template."""
        if self.template is None:
            return 0
        behind = self.rendered((("user", SHOWN_TURN),)).partition(SHOWN_TURN)[2].split()
        texts = (self.tokenizer.decode(list(ids)) for ids in prompts)
        return sum(behind[0] not in text for text in texts) if behind else 0

    @property
    def turn_ends(self) -> tuple[int, ...]:
        """The special token that ends the model's turn in its template; empty where it is none."""
        turns = [("user", "a"), ("assistant", "b")]
        try:
            whole, open_ = self.rendered(turns, answer=False), self.rendered(turns[:1])
        except PromptError:
            return ()
        rest = whole.removeprefix(open_ + "b")
        ids = self(rest, False)[:1] if rest != whole else []
        known = {*self.tokenizer.all_special_ids, *self.tokenizer.added_tokens_decoder}
        return tuple(i for i in ids if i in known)


def encoder(model: Model) -> Encoder:
    """What turns text into token ids of this model. Raises TokenizerError where it has no tokenizer."""
    tokenizer = require_tokenizer(model)
    return Encoder(tokenizer, model.name, *_around(tokenizer))


def _around(tokenizer: PreTrainedTokenizerBase) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The ids that a tokenizer sets before and behind a text, seen on one."""
    bare, whole = (list(tokenizer.encode("a", add_special_tokens=added)) for added in (False, True))
    at = next((i for i in range(len(whole) - len(bare) + 1) if whole[i : i + len(bare)] == bare), None)
    if at is None:
        return (), ()
    return tuple(whole[:at]), tuple(whole[at + len(bare) :])


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template of a tokenizer: of several the one called default; None where there is none."""
    template = getattr(tokenizer, "chat_template", None)
    return template.get("default") if isinstance(template, dict) else template


def template_hash(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Sha256 of the chat template, in hex; None where there is none."""
    template = template_of(tokenizer)
    return None if template is None else hashlib.sha256(template.encode()).hexdigest()
