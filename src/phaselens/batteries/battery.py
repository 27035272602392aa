"""A prompt, and a set of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from phaselens.batteries.chat import Turns
from phaselens.errors import InputError, PromptError, require_text

Item = TypeVar("Item")

# The categories of the variance design (definitions, section 7).
CATEGORIES = ("factual", "arithmetic", "reasoning", "open", "format", "ambiguous")


@dataclass(frozen=True)
class Prompt:
    """What a model is asked to go on with: text, token ids, or the turns of a conversation (role, text).

    With `messages` the text is the last of them, for readers; the model is given them all by its own chat template.

    `id` names it; `unit` names the fact or item behind the wording (default: `id`), which prompts in other words share,
    and which resampling, splits and counts go by. `answer` is what the first line of the generation is graded against,
    or None; `aliases` are other answers that count as right. `tag` is a kind within the category.
    """

    id: str
    text: str
    category: str = ""
    answer: str | None = None
    token_ids: tuple[int, ...] | None = None
    aliases: tuple[str, ...] = ()
    tag: str = ""
    messages: Turns = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if self.messages and self.token_ids:
            raise PromptError(f"prompt {self.id!r} has messages and token ids; one of them is enough.")
        if self.messages and not self.text:
            object.__setattr__(self, "text", self.messages[-1][1])
        require_text(self.text, f"prompt {self.id!r}")
        if not self.unit:
            object.__setattr__(self, "unit", self.id)
        if not self.text and not self.token_ids:
            raise PromptError(f"prompt {self.id!r} is empty: give it text or token ids.")
        if self.aliases and self.answer is None:
            raise PromptError(f"prompt {self.id!r} has aliases {list(self.aliases)} of an answer that is not given.")

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every answer that counts as right, the usual one first; empty where there is none."""
        return () if self.answer is None else (self.answer, *self.aliases)


@dataclass(frozen=True)
class Battery:
    """A named set of prompts. `calibration` prompts set scales and are never measured.

    `pairs` are the prompts of minimal pairs, called PAIR/ambiguous, PAIR/first and PAIR/second; they stand apart from
    the measured prompts, and a text may be in both.

    Raises:
        InputError: no prompt, an id that occurs twice, or a prompt or unit that is both measured and calibration.

    """

    name: str
    prompts: tuple[Prompt, ...]
    calibration: tuple[Prompt, ...] = ()
    pairs: tuple[Prompt, ...] = ()

    def __post_init__(self) -> None:
        if not self.prompts:
            raise InputError(f"battery {self.name!r} has no prompts.")
        twice = [i for i, n in Counter(p.id for p in self.prompts + self.calibration + self.pairs).items() if n > 1]
        if twice:
            raise InputError(f"battery {self.name!r}: the id {twice[0]!r} occurs more than once; ids name prompts.")
        texts = {(p.text, p.token_ids, p.messages) for p in self.prompts}
        both = [p.id for p in self.calibration if (p.text, p.token_ids, p.messages) in texts]
        if both:
            raise InputError(
                f"battery {self.name!r}: calibration prompt {both[0]!r} is also measured; a prompt is one or the other."
            )
        units = {p.unit for p in self.prompts}
        if shared := [p for p in self.calibration if p.unit in units]:
            raise InputError(
                f"battery {self.name!r}: calibration prompt {shared[0].id!r} asks about {shared[0].unit!r}, which "
                "measured prompts ask about too; put all prompts of a unit on one side."
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that occur, in the order of their first prompt."""
        return tuple(dict.fromkeys(p.category for p in self.prompts))


def by_turns(items: Sequence[Item], key: str) -> list[Item]:
    """The same items (prompts, runs), in rounds of one of each value of the field."""
    seen: Counter[str] = Counter()
    turns = []
    for item in items:
        seen[getattr(item, key)] += 1
        turns.append(seen[getattr(item, key)])
    return [items[i] for i in sorted(range(len(items)), key=turns.__getitem__)]


def take(battery: Battery, per_category: int, calibration: int | None = None) -> Battery:
    """The first `per_category` prompts of every category, and the first `calibration` calibration prompts.

    Raises:
        InputError: a category has fewer prompts than asked for.

    """
    counts = Counter(p.category for p in battery.prompts)
    short = {c: n for c, n in counts.items() if n < per_category}
    if short:
        category, n = next(iter(short.items()))
        raise InputError(
            f"battery {battery.name!r} has {n} prompts of category {category!r}, {per_category} were asked for. "
            "Lower prompts_per_category."
        )
    seen: Counter[str] = Counter()
    kept = []
    for prompt in battery.prompts:
        seen[prompt.category] += 1
        if seen[prompt.category] <= per_category:
            kept.append(prompt)
    return replace(battery, prompts=tuple(kept), calibration=battery.calibration[:calibration])
