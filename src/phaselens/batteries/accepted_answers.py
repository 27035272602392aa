"""Whether a generation gives an accepted answer, and by which rule it was found right.

Only the first line that is not blank counts, and the answer must stand at its beginning: "It is Paris" is not Paris.
`exact` is the rule for the organisms' world; for natural text `normalised` is tried after it. What was accepted by
which rule, and whether by an alias, is part of every grade, so that a report can say so.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from phaselens.errors import InputError

RULES = ("exact", "exact alias", "normalised", "normalised alias", "none")

HYPHENS = "-\u2010\u2011"
APOSTROPHES = "'\u2019"
# Number words: after one of them a further one makes a longer number, and a scale does so after digits too.
SCALES = frozenset("hundred thousand million billion trillion dozen point".split())
NUMBER_WORDS = SCALES | frozenset(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety".split()
)
SIGNS = {"\u2212": "-", "\u2044": "/", "\u2010": "-", "\u2019": "'", "\u2018": "'", "&": " and "}
ABBREVIATION = re.compile(r"\b(?:[^\W\d_]\.){2,}")
THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?!,?\d)")
TRAILING_ZEROS = re.compile(r"(?<![\w.,/:-])(-?\d+)\.(\d*?)0*(?![\w.,/:])(?!-\d)")
# A capital A is an article only where a line begins with it: "vitamin A is" has none.
ARTICLE = re.compile(r"(?<!\S)(?:the|The|THE|an|An|AN|a|(?:(?<!.)A))\s+(?=\S*\w)", re.S)


@dataclass(frozen=True)
class Grade:
    """Whether an answer is right, by which of `RULES`, and which accepted answer it is (None where it is wrong).

    `read` is what was compared, where a grader takes that out of the text.
    """

    right: bool
    rule: str
    answer: str | None
    read: str = ""


def grade(text: str, answers: str | Sequence[str], *, lenient: bool = True) -> Grade:
    """Grade a generation against its accepted answers, of which the first is the usual one and the others aliases.

    Rules are tried in the order of `RULES`; without `lenient` only the exact ones (the organisms' world).

    Raises:
        InputError: no answer, or an empty one: there is nothing to grade against.

    """
    accepted = [answers] if isinstance(answers, str) else list(answers)
    if not accepted or not all(answer.strip() for answer in accepted):
        raise InputError(f"got the accepted answers {accepted}; wanted at least one, and none of them empty.")
    for name, rule in (("exact", exact), ("normalised", normalised))[: 1 + lenient]:
        for i, answer in enumerate(accepted):
            if rule(text, answer):
                return Grade(True, f"{name} alias" if i else name, answer)
    return Grade(False, "none", None)


def settled(text: str, answers: str | Sequence[str], *, lenient: bool = True) -> bool:
    """Whether the grade of a generation is settled: nothing that may still follow changes it.

    So once the line is over, or has left every accepted answer behind, right or wrong. What follows is tried: the rest
    of every answer, and what would join its last word to more.
    """
    if "\n" in text.lstrip():
        return True
    accepted, line = [answers] if isinstance(answers, str) else list(answers), first_line(text)
    begun = [a.strip()[len(line) :] for a in accepted if a.strip().casefold().startswith(line.casefold())]
    tails = ("", "x", "-x", ".5", " thousand", "\n", *begun, *(f" {rest}" for rest in begun))
    return len({grade(text + tail, accepted, lenient=lenient).right for tail in tails}) == 1


def tally(grades: Iterable[Grade]) -> dict[str, int]:
    """How many grades were given by each of `RULES`, also where that is 0."""
    counts = Counter(grade.rule for grade in grades)
    return {rule: counts[rule] for rule in RULES}


def first_line(text: str) -> str:
    """The first line that is not blank, without the blanks around it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def exact(text: str, answer: str) -> bool:
    """Whether the first line starts with the answer, letter by letter, and the answer ends there.

    It ends at the end of the line, at a space, or at punctuation that does not join it to more: "12" is not in "12.5",
    "12,000" or "12 thousand", "can" not in "can't", "twenty" not in "twenty-five" or "twenty five".
    """
    line, answer = first_line(text), answer.strip()
    return bool(answer) and line.startswith(answer) and _ends(answer, line[len(answer) :])


def normalised(text: str, answer: str) -> bool:
    """Whether the first line starts with the answer once both are `normalise`d; the answer ends as in `exact`.

    A hyphen counts as a space within the answer ("New-York"), not at its end ("twenty-five" is not twenty).
    """
    line, wanted = normalise(first_line(text)), open_hyphens(normalise(answer))
    if not wanted or not open_hyphens(line).startswith(wanted):
        return False
    rest = line[len(wanted) :]
    return not rest or (rest[0] == " " and not _goes_on(wanted, rest))


def normalise(text: str) -> str:
    """A text as words with single spaces between: case, punctuation, articles, accents and forms of numbers dropped.

    Follows the usual normalisation of SQuAD (lower case, no punctuation, no articles, single spaces) but for what would
    make different answers equal: points, signs and slashes within numbers stay ("3.14", "-5", "1/2"), and so do
    operators ("a + b", "C++"); a hyphen within a word stays; an article goes only where a word follows ("A" and
    "vitamin A" stay). "1,000" becomes "1000" and "51.0" becomes "51". Accents go from Latin letters only, since in
    other scripts marks are letters.

    Source: Rajpurkar et al. 2016 (SQuAD), evaluation script; the exceptions are ours.
    """
    text = unicodedata.normalize("NFKC", _spelled(text))
    text = "".join(SIGNS.get(c, " " if unicodedata.category(c) == "Sc" else c) for c in text)
    text = ABBREVIATION.sub(lambda m: m[0].replace(".", ""), text)
    text = THOUSANDS.sub(lambda m: m[0].replace(",", ""), text)
    text = TRAILING_ZEROS.sub(lambda m: f"{m[1]}.{m[2]}" if m[2] else m[1], text)
    text = " ".join("".join(_kept(text, i) for i in range(len(text))).split())
    return " ".join(_without_accents(ARTICLE.sub("", text).casefold()).split())


def _ends(answer: str, rest: str) -> bool:
    """Whether the answer ends where `rest` begins."""
    if not rest:
        return True
    mark, after = rest[0], rest[1:2]
    if mark.isspace():
        return not _goes_on(answer, rest)
    if mark == "_" or not unicodedata.category(mark).startswith("P"):
        return False
    if mark in HYPHENS + APOSTROPHES and after.isalnum():
        return False
    return not (answer[-1].isdigit() and after.isdigit())


def _goes_on(answer: str, rest: str) -> bool:
    """Whether a number that ends the answer is only the beginning of a longer one: in words, or with a fraction."""
    last, following = re.findall(r"\w+", answer)[-1:], re.match(r"\s+(\w+)", rest)
    if not last or not following:
        return False
    if last[0].isdigit() and re.match(r"\s+\d+/\d", rest):
        return True
    follower = following[1].casefold()
    return follower in (NUMBER_WORDS if last[0].casefold() in NUMBER_WORDS else SCALES if last[0].isdigit() else ())


def _spelled(text: str) -> str:
    """Raised digits after a digit as powers and fractions apart, before they would run together with what is before."""
    out = ""
    for c in text:
        kind = unicodedata.decomposition(c).split(" ")[0]
        before = out[-1:].isdigit()
        out += ("^" if kind == "<super>" and before else " " if kind == "<fraction>" and before else "") + c
    return out


def _kept(text: str, i: int) -> str:
    """What remains of character `i`: itself, a space for punctuation, nothing for an apostrophe."""
    c, before, after = text[i], text[i - 1 : i], text[i + 1 : i + 2]
    kind = unicodedata.category(c)
    if kind[0] not in "PS" or kind == "Sm" or (before.isdigit() and after.isdigit()):
        return c
    if c == "'":
        return ""
    if c == "-" and (before.isalnum() and after.isalnum() or not before.strip() and after in tuple("0123456789.")):
        return c
    if c == "." and after.isdigit() and (not before.strip() or before == "-"):
        return "0."
    if c in "-*/" and not before.strip() and not after.strip() and before + after:
        return c
    return c if c == "#" and before.isalnum() else " "


def open_hyphens(text: str) -> str:
    """Hyphens between letters as spaces; those within numbers stay."""
    return re.sub(r"(?<=[^\W\d])-(?=\w)|(?<=\w)-(?=[^\W\d])", " ", text)


def _without_accents(text: str) -> str:
    """Latin letters without their combining marks; other scripts as they are."""
    out: list[str] = []
    latin = False
    for c in unicodedata.normalize("NFD", text):
        if not "\u0300" <= c <= "\u036f":
            latin = unicodedata.name(c, "").startswith("LATIN")
        elif latin:
            continue
        out.append(c)
    return unicodedata.normalize("NFC", "".join(out))
