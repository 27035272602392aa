"""What is asked besides plain prompts: questions in two wordings, minimal pairs, forced choices, labelled texts."""

from dataclasses import dataclass

from phaselens.batteries.battery import Prompt
from phaselens.errors import InputError, PromptError, unknown_name

FORMS = ("completion", "question")


@dataclass(frozen=True)
class Question:
    """One fact asked in two wordings, with every answer that counts as right (the first is the usual one).

    `completion` stops right before the answer; `question` is the bare question. `id` is the unit of resampling: two
    prompts of one question are not independent.

    Raises:
        PromptError: an empty wording, or no answer.

    """

    id: str
    completion: str
    question: str
    answers: tuple[str, ...]
    tag: str = ""

    def __post_init__(self) -> None:
        if not self.completion.strip() or not self.question.strip():
            raise PromptError(f"question {self.id!r} needs both wordings, 'completion' and 'question'.")
        _filled(f"question {self.id!r}", "answers", self.answers, at_least=1)

    def prompt(self, form: str = "completion") -> Prompt:
        """The prompt in one of the wordings `FORMS`; the question is put as `Q: ...` and `A:` on the next line.

        Raises UnknownNameError for another form.
        """
        if form not in FORMS:
            raise unknown_name("form", form, FORMS)
        text = self.completion if form == "completion" else f"Q: {self.question}\nA:"
        first, *others = self.answers
        return Prompt(f"{self.id}/{form}", text, "factual", first, aliases=tuple(others), tag=self.tag, unit=self.id)


@dataclass(frozen=True)
class MinimalPair:
    """An ambiguous text and two that keep one of its senses each, all of about one length.

    `answers` are texts that may follow under the first and under the second sense; after `ambiguous` either may.
    `senses` are words for the two senses, `kind` is the kind of ambiguity. `unit` names
    what is ambiguous (default: `id`): pairs that share it, as those of one homonym, are resampled together.

    Raises:
        PromptError: an empty text, or two that are equal.

    """

    id: str
    ambiguous: str
    first: str
    second: str
    answers: tuple[str, str]
    kind: str = ""
    senses: tuple[str, str] = ("", "")
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            object.__setattr__(self, "unit", self.id)
        texts = (self.ambiguous, self.first, self.second)
        _filled(f"minimal pair {self.id!r}", "texts", texts, at_least=3)
        if len(self.answers) != 2 or len(self.senses) != 2:
            raise PromptError(f"minimal pair {self.id!r} needs two answers and two senses, one for each reading.")

    def prompts(self) -> tuple[Prompt, Prompt, Prompt]:
        """The three texts as prompts; their ids end in `/ambiguous`, `/first` and `/second`."""
        return tuple(  # type: ignore[return-value]
            Prompt(f"{self.id}/{n}", getattr(self, n), "ambiguous", tag=self.kind, unit=self.unit) for n in _READINGS
        )


_READINGS = ("ambiguous", "first", "second")


@dataclass(frozen=True)
class ForcedChoice:
    """A text and the alternatives that may follow it, of which the one at index `right` is right.

    An alternative follows after a space. The text is empty where whole sentences are compared. `category` is what is
    asked about, `tag` a kind within it.

    Raises:
        PromptError: fewer than two alternatives, an empty or repeated one, or `right` is not the index of one.

    """

    id: str
    text: str
    alternatives: tuple[str, ...]
    right: int
    tag: str = ""
    category: str = ""

    def __post_init__(self) -> None:
        _filled(f"forced choice {self.id!r}", "alternatives", self.alternatives, at_least=2)
        if not 0 <= self.right < len(self.alternatives):
            raise PromptError(
                f"forced choice {self.id!r}: right={self.right} is not the index (from 0) of one of the "
                f"{len(self.alternatives)} alternatives."
            )

    @property
    def answer(self) -> str:
        """The right alternative."""
        return self.alternatives[self.right]


@dataclass(frozen=True)
class Labelled:
    """Texts with a label each, and the group that stays together in splits and draws.

    Labels are words, or numbers where they were read as such. `dropped` rows had no label and were left out.

    Raises:
        InputError: no text, or columns of different length.

    """

    texts: tuple[str, ...]
    labels: tuple[str, ...] | tuple[float, ...]
    groups: tuple[str, ...]
    dropped: int = 0

    def __post_init__(self) -> None:
        sizes = (len(self.texts), len(self.labels), len(self.groups))
        if not self.texts or len(set(sizes)) > 1:
            raise InputError(f"got {sizes[0]} texts, {sizes[1]} labels and {sizes[2]} groups; wanted as many of each.")

    def __len__(self) -> int:
        return len(self.texts)


def _filled(what: str, field: str, values: tuple[str, ...], *, at_least: int) -> None:
    """Refuse too few, empty or repeated values."""
    if len(values) < at_least or any(not isinstance(v, str) or not v.strip() for v in values):
        raise PromptError(f"{what}: got {field} {list(values)}, wanted at least {at_least}, none of them empty.")
    if len(set(values)) < len(values):
        raise PromptError(f"{what}: {field} {list(values)} are not all different.")
