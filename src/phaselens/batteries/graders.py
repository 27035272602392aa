"""How a study decides whether a generation is right: graders as data, or a function of the user's own.

| kind | right where |
|---|---|
| `first line` | the first line that is not blank begins with an accepted answer (`accepted_answers`) |
| `exact` | the whole generation, without blanks around it, is an accepted answer letter by letter |
| `contains` | an accepted answer stands in it as whole words, once both are normalised |
| `last number` | its last number, or the one after `####`, equals that of an accepted answer: 72 is 72.0 |
| `choice` | the letter that it chooses is the accepted one: "B", "(B)", "B. Paris", "the answer is (B)" |
| `regex` | what the last match of `pattern` holds (its group 1, if it has one) is an accepted answer, normalised |
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from phaselens.batteries.accepted_answers import Grade, grade, normalise, open_hyphens
from phaselens.errors import InputError, unknown_name

FUNCTION = "function"
NUMBER = re.compile(r"(?<![\w.,])[-\u2212]?\$?\d+(?:,\d{3})*(?:\.\d+)?")
# A and I are words too: they are letters where no other word follows.
SAID = re.compile(
    r"(?i:answer|choice|option)(?i:\s+is)?\s*:?\s*\**\(?(?:([B-HJ-Z])|([AI])(?! (?!because|since|as\b)[a-z]))\b"
)
LETTER = re.compile(r"^\W*([A-Z])(?=[\s.):,\]*]*$|\s*[.):\]])", re.M)


def last_number(text: str) -> str:
    """The first number after `####`, else the last of the text, without thousands commas; "" where there is none.

    >>> last_number("16 - 3 = 13. #### 1,072"), last_number("The answer is 42."), last_number("none")
    ('1072', '42', '')
    """
    found = NUMBER.findall(text.partition("####")[2])[:1] or NUMBER.findall(text)
    return found[-1].replace(",", "").replace("$", "").replace("\u2212", "-") if found else ""


def chosen_letter(text: str) -> str:
    """The letter that a text chooses: the last it calls its answer, else the one that a line begins with; "": none.

    >>> chosen_letter("B"), chosen_letter("(c"), chosen_letter("So the answer is (D)."), chosen_letter("A cat sat")
    ('B', '', 'D', '')
    """
    found = ["".join(pair) for pair in SAID.findall(text)] or LETTER.findall(text)[:1]
    return found[-1] if found else ""


def _read(text: str, grader: "Grader") -> str:
    """What of a text an extracting grader compares."""
    if grader.kind == "last number":
        return last_number(text)
    if grader.kind == "choice":
        return chosen_letter(text)
    found = [m[1] if m.re.groups else m[0] for m in re.finditer(grader.pattern, text)]
    return (found[-1] or "").strip() if found else ""


def _same_number(read: str, answer: str) -> bool:
    wanted = last_number(answer)
    return bool(read and wanted) and Decimal(read) == Decimal(wanted)


def _same_letter(read: str, answer: str) -> bool:
    wanted = answer.strip()
    return bool(read) and read == (wanted.upper() if len(wanted) == 1 else chosen_letter(wanted))


def _words(text: str) -> str:
    return f" {open_hyphens(normalise(text))} "


def _same_words(read: str, answer: str) -> bool:
    return bool(read) and (read == answer.strip() or normalise(read) == normalise(answer) != "")


COMPARES: Mapping[str, Callable[[str, str], bool]] = {
    "last number": _same_number,
    "choice": _same_letter,
    "regex": _same_words,
    "contains": lambda text, answer: bool(_words(answer).strip()) and _words(answer) in _words(text),
    "exact": lambda text, answer: text.strip() == answer.strip(),
}
EXTRACT = ("last number", "choice", "regex")
KINDS = ("first line", *COMPARES)


@dataclass(frozen=True)
class Grader:
    """One rule: a kind of `KINDS` with the `pattern` of kind `regex`, or a `function(text, answers) -> bool`.

    Raises UnknownNameError for another kind, InputError for a pattern that is none, is missing, or has no use.
    """

    kind: str = "first line"
    pattern: str = ""
    function: Callable[[str, tuple[str, ...]], bool] | None = None

    def __post_init__(self) -> None:
        if self.kind not in (*KINDS, FUNCTION):
            raise unknown_name("grader", self.kind, KINDS)
        if bool(self.pattern) != (self.kind == "regex"):
            raise InputError("a grader has a pattern if, and only if, its kind is regex: regex:PATTERN.")
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InputError(
                f"the pattern {self.pattern!r} of the grader is no regular expression: {error}."
            ) from error

    @classmethod
    def of(cls, given: "str | Grader | Callable | None") -> "Grader":
        """A grader from its name, `regex:PATTERN`, or a function; None: first line."""
        if given is None or isinstance(given, Grader):
            return given or cls()
        if callable(given):
            return cls(FUNCTION, function=given)
        kind, _, pattern = given.partition(":")
        return cls(kind.strip(), pattern)

    @property
    def name(self) -> str:
        """As a study declares it: the kind, `regex:PATTERN`, or `function NAME`."""
        if self.kind == FUNCTION:
            return (
                f"{FUNCTION} {getattr(self.function, '__module__', '')}.{getattr(self.function, '__qualname__', '?')}"
            )
        return f"{self.kind}:{self.pattern}" if self.pattern else self.kind

    def __call__(self, text: str, answers: str | Sequence[str]) -> Grade:
        """Grade a generation against its accepted answers, the usual one first.

        Raises InputError for no or empty answers, a function that is missing, or one that says neither True nor False.
        """
        accepted = (answers,) if isinstance(answers, str) else tuple(answers)
        if self.kind == "first line":
            return grade(text, accepted)
        if not accepted or not all(answer.strip() for answer in accepted):
            raise InputError(f"got the accepted answers {accepted}; wanted at least one, and none of them empty.")
        if self.kind == FUNCTION:
            return Grade(self._own(text, accepted), self.name, None)
        read = _read(text, self) if self.kind in EXTRACT else text
        for i, answer in enumerate(accepted):
            if COMPARES[self.kind](read, answer):
                return Grade(True, f"{self.kind} alias" if i else self.kind, answer, read)
        return Grade(False, "none", None, read)

    def _own(self, text: str, answers: tuple[str, ...]) -> bool:
        said: Any = None if self.function is None else self.function(text, answers)
        if said not in (True, False):
            raise InputError(f"{self.name} gave {said!r:.80}; a grader takes (text, answers) and gives True or False.")
        return bool(said)
