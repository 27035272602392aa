"""Labels of every item that the generator writes: words with tag, number and head; truth, difficulty, class and sense.

What an item says is read back from its text, so a false sentence (a wrong value, a wrong sum) is labelled as well as
one that the generator could write.
"""

import re
from dataclasses import dataclass
from itertools import accumulate

from phaselens.errors import InputError, unknown_name
from phaselens.organisms.corpora import FACTS, KINDS, Document
from phaselens.organisms.grammar import ROOT, Word, parse
from phaselens.organisms.world import EITHER, FRAMES, HOMONYMS, MARKS, MATTER, PROCESSES, TOOLS, World
from phaselens.organisms.world_sentences import ACTS, MOVES

# What `difficulty` counts in each kind of document; 0 is easiest, None where nothing has to be worked out.
DIFFICULTY = {
    "Notes": "4 minus the frequency class of the fact",
    "Quiz": "4 minus the frequency class of the fact",
    "Choice": "4 minus the frequency class of the fact",
    "Sums": "1 where the ones carry into the tens",
    "Laws": "most steps asked at once, from what is written to what follows (1 to 3)",
    "Story": "noun between subject and verb: 0 none, 1 of the same number, 2 of the other number",
    "Count": "how many of the five steps carry from the ones",
    "Brackets": "deepest nesting (1 to 3)",
    "Words": "1 where only the second sentence tells the reading",
    "Records": None,
    "Code": None,
}
EITHER_SENSE = "either"


@dataclass(frozen=True)
class LabelledItem:
    """An item with its labels; `words` carry place, tag, number, head and depth.

    `template` names the wording (for splits by template), `truth` is whether a statement about the world is true (None
    where the item states nothing about it), `difficulty` counts what `DIFFICULTY` says, `frequency` is the class of the
    fact (None without one), `sense` the reading of an ambiguous sentence ("either" where the text leaves it open; None
    where there is nothing ambiguous).
    """

    text: str
    kind: str
    category: str
    template: str
    words: tuple[Word, ...]
    truth: bool | None = None
    difficulty: int | None = None
    frequency: int | None = None
    sense: str | None = None


@dataclass(frozen=True)
class _Meaning:
    template: str
    truth: bool | None = None
    difficulty: int | None = None
    frequency: int | None = None
    sense: str | None = None


_SUM = re.compile(r"- (\d+) \+ (\d+) = (\d+)\.")
_LAW = re.compile(r"- If (\w+) is (\w+), it (.+)\.")
_CASE = re.compile(
    r"- The (?P<m>\w+) \w+ is (?P<p>\w+)\. "
    r"(?:It is (?P<kind>\w+), so it (?P<e3>.+) and (?P<r3>.+)|It (?P<e2>[^,]+), so it (?P<r2>.+)"
    r"|It (?P<e1>[^,]+)|In the end it (?P<r4>.+))\."
)
_FRAMES = [re.compile(r"- " + re.escape(f).replace(r"\{a\}", r"(\w+)").replace(r"\{n\}", r"(\w+)")) for f in FRAMES]
_ATTACHMENT = re.compile(r"- The (\w+) \w+ the (\w+) with the (\w+)\.(?: The (\w+) (used|had) it\.)?")
_KIND_OF = {material: kind for kind, (materials, _) in MATTER.items() for material in materials}


def _fact(world: World, text: str, kind: str) -> _Meaning | None:
    for relation, template, pattern in FACTS[kind]:
        if found := pattern.fullmatch(text):
            fact = next(f for f in world.facts if (f.entity, f.relation) == (found["e"], relation))
            return _Meaning(template, found["v"] == fact.value, 4 - fact.frequency, fact.frequency)
    return None


def _sum(text: str) -> _Meaning | None:
    if not (found := _SUM.fullmatch(text)):
        return None
    a, b, result = map(int, found.groups())
    template = "sum/two digits" if max(a, b) > 9 else "sum/one digit"
    return _Meaning(template, a + b == result, int(a % 10 + b % 10 > 9))


def _law(text: str) -> _Meaning | None:
    if found := _LAW.fullmatch(text):
        kind, process, effect = found.groups()
        return _Meaning("law/general", effect == MATTER[kind][1][PROCESSES.index(process)][0], 1)
    if not (found := _CASE.fullmatch(text)):
        return None
    kind = _KIND_OF[found["m"]]
    effect, result = MATTER[kind][1][PROCESSES.index(found["p"])]
    if found["kind"]:
        true = (found["kind"], found["e3"], found["r3"]) == (kind, effect, result)
        return _Meaning("law/written out", true, 1)
    if found["e2"]:
        return _Meaning("law/effect and result", (found["e2"], found["r2"]) == (effect, result), 2)
    if found["e1"]:
        return _Meaning("law/effect", found["e1"] == effect, 2)
    return _Meaning("law/result", found["r4"] == result, 3)


def _homonym(text: str) -> _Meaning | None:
    for i, frame in enumerate(_FRAMES):
        if found := frame.match(text):
            adjective, noun = found.groups()
            *adjectives, first, second = HOMONYMS[noun]
            rest = text[found.end() :].strip()
            by = (first, second).index(rest) if rest else adjectives.index(adjective) if adjective in adjectives else 2
            sense = EITHER_SENSE if by == 2 else f"{noun}: {adjectives[by]}"
            return _Meaning(f"homonym/{i}", difficulty=int(adjective not in adjectives), sense=sense)
    return None


def _attachment(text: str) -> _Meaning | None:
    if not (found := _ATTACHMENT.fullmatch(text)):
        return None
    *_, thing, _, follows = found.groups()
    by = {"used": "instrument", "had": "mark"}.get(follows)
    sense = by or ("instrument" if thing in TOOLS else "mark" if thing in MARKS else EITHER_SENSE)
    return _Meaning("attachment", difficulty=int(thing in EITHER), sense=sense)


def _story(words: tuple[Word, ...]) -> _Meaning:
    if words[0].text in ("Once", "Now"):
        return _Meaning("story/opening", difficulty=0)
    between = words[2].text == "with"
    subject = "between" if between else "noun" if words[0].text == "The" else "pronoun"
    root = next(word.text for word in words if word.head == ROOT)
    forms = {"move": MOVES, "act": ACTS}
    about = next((name for name, verbs in forms.items() if any(root in verb for verb in verbs)), "state")
    difficulty = (1 if words[1].number == words[4].number else 2) if between else 0
    return _Meaning(f"story/{subject}/{about}", difficulty=difficulty)


def _format(text: str, kind: str) -> _Meaning:
    if kind == "Count":
        terms = [int(term) for term in text.removeprefix("- ").split(", ")]
        step = terms[1] - terms[0]
        return _Meaning(f"count/by {step}", difficulty=sum(term % 10 + step % 10 > 9 for term in terms[:-1]))
    if kind == "Brackets":
        return _Meaning("brackets", difficulty=max(accumulate(-1 if sign in ")]}" else 1 for sign in text[2:].split())))
    if kind == "Records":
        return _Meaning("record/" + ",".join(part.split(":")[0] for part in text.split("; ")))
    return _Meaning("code/" + text.split()[0])


def _meaning(world: World, text: str, kind: str, words: tuple[Word, ...]) -> _Meaning | None:
    if kind in FACTS:
        return _fact(world, text, kind)
    if kind == "Sums":
        return _sum(text)
    if kind == "Laws":
        return _law(text)
    if kind == "Words":
        return _attachment(text) or _homonym(text)
    return _story(words) if kind == "Story" else _format(text, kind)


def label(world: World, text: str, kind: str) -> LabelledItem:
    """Labels of one item of a document of this kind: the text of a `Piece`, or a true or false variant of one.

    Also for an ambiguous sentence without the one that follows it; where its reading is open, "with the ..." goes to
    the deed. Raises `UnknownNameError` for an unknown kind and `InputError` for a text that is no item of the kind.
    """
    if kind not in KINDS:
        raise unknown_name("kind of document", kind, KINDS)
    bare = text.strip()
    if bare == kind:
        return LabelledItem(text, kind, "header", "header", parse(text, "header"))
    reading = _attachment(bare) if kind == "Words" else None
    words = parse(text, kind, mark=reading is not None and reading.sense == "mark")
    try:
        meaning = _meaning(world, bare, kind, words)
    except (KeyError, ValueError, IndexError, StopIteration):
        meaning = None
    if meaning is None:
        raise InputError(f"{bare!r} is no item of {kind}; wanted a text that the generator writes, or a false one.")
    return LabelledItem(text, kind, KINDS[kind][1], words=words, **vars(meaning))


def label_document(world: World, document: Document) -> list[LabelledItem]:
    """Labels of the header and of every item of a document; places count from the start of each piece."""
    return [label(world, piece.text, document.kind) for piece in document.pieces[:-1]]
