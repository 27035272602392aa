"""Words of an item with part of speech, number and dependency head: a closed lexicon and rules for exactly our texts.

Tags are those of Universal Dependencies; heads follow its habits: content words are heads, prepositions and auxiliaries
hang on what they introduce, and the complement of a copula is the root. Nothing here is for text of others.
"""

import re
from dataclasses import dataclass

from phaselens.errors import InputError
from phaselens.organisms.world import (
    AGENTS,
    CITIES,
    COLORS,
    DEEDS,
    EITHER,
    FOODS,
    HOMONYMS,
    JOBS,
    MARKS,
    MATTER,
    NAMES,
    NEUTRAL,
    OBJECTS,
    PATIENTS,
    PROCESSES,
    TOOLS,
)
from phaselens.organisms.world_sentences import ACTS, KEYS, MOVES, NOUNS, PLACES, QUALITIES, STATES, THINGS

ROOT = -1

_WORD = re.compile(r"[A-Za-z]+|\d+|==|[^\w\s]")
_PLURALS = frozenset(
    ("beans", "eggs", "nuts", "wings", "stones", "teams", "fingers", "clothes", "pieces")
    + tuple(f"{noun}s" for noun in (*NOUNS, *THINGS))
)
_EFFECTS = [phrase.split()[0] for _, effects in MATTER.values() for pair in effects for phrase in pair]
_NOUNS = """arrow ash board business cheese clock clothes coat color day dog egg eggs elephant end finger fingers flame
    food friend game home house job letter lunch money night picture pieces rain river sea shape ship sound stones
    teams toe top tree water wings winter steel Q A""".split()
_LEXICON: dict[str, str] = {
    **dict.fromkeys(_NOUNS, "NOUN"),
    **dict.fromkeys((*JOBS, *COLORS, *FOODS, *MATTER, *OBJECTS, *HOMONYMS, *AGENTS, *PATIENTS), "NOUN"),
    **dict.fromkeys((*EITHER, *TOOLS, *MARKS, *NOUNS, *THINGS, *PLACES, *KEYS, *_PLURALS), "NOUN"),
    **{material: "NOUN" for materials, _ in MATTER.values() for material in materials},
    **dict.fromkeys((*NAMES, *CITIES), "PROPN"),
    **{adjective: "ADJ" for pair in HOMONYMS.values() for adjective in pair[:2] if adjective != "steel"},
    **dict.fromkeys((*QUALITIES, *STATES, *NEUTRAL), "ADJ"),
    **dict.fromkeys("firm flat heavier heavy lighter longer new shorter".split(), "ADJ"),
    **{form: "VERB" for verb in (*MOVES, *ACTS) for form in verb},
    **dict.fromkeys((*DEEDS, *PROCESSES, *_EFFECTS), "VERB"),
    **dict.fromkeys("asked ate call closed covered eat eats grew had has kept knew knows laid".split(), "VERB"),
    **dict.fromkeys("lifted live lives made meet moved spoke swam used wear wears woke works".split(), "VERB"),
    **dict.fromkeys("is are was were does can".split(), "AUX"),
    **dict.fromkeys("a an the The all All some".split(), "DET"),
    **dict.fromkeys("about as at beside by For from in In inside of on to with after".split(), "ADP"),
    **dict.fromkeys("He It it its One our She They there We What Who".split(), "PRON"),
    **dict.fromkeys("again away back Now Once out Where".split(), "ADV"),
    **dict.fromkeys("and or so".split(), "CCONJ"),
    **dict.fromkeys(("five", "two"), "NUM"),
    "If": "SCONJ",
}
_CODE = {"def": "VERB", "return": "VERB", "print": "VERB", "if": "SCONJ", "for": "ADP", "in": "ADP"}
_POSSESSIVE = ("its", "our")
_PLURAL_FORMS = frozenset(("are", "were", "They", "We", "our", "call", *(verb[0] for verb in (*MOVES, *ACTS))))
_SINGULAR_FORMS = frozenset(
    ("is", "was", "does", "has", "It", "it", "its", "He", "She", "One", "eats", "knows", "lives", "wears", "works")
    + (*(verb[1] for verb in (*MOVES, *ACTS)), *_EFFECTS)
)
_OPENING = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True)
class Word:
    """A word, number or sign of an item, with its place in characters and its labels.

    `head` is the index of its head among the words of the item, `ROOT` (-1) for the root of a sentence; `depth` is the
    number of heads above it (0 for a root); `sentence` counts the sentences of the item from 0. `number` is "singular"
    or "plural" where the form of a noun, pronoun or verb shows it, else "none".
    """

    text: str
    start: int
    end: int
    pos: str
    number: str = "none"
    head: int = ROOT
    depth: int = 0
    sentence: int = 0


def _tags(words: list[str]) -> list[str]:
    """Tag of each word; what the lexicon cannot decide is decided by the neighbours."""
    tags = []
    for i, word in enumerate(words):
        before, after = words[i - 1] if i else "", words[i + 1] if i + 1 < len(words) else ""
        if word in _LEXICON:
            tag = _LEXICON[word]
        else:
            tag = "NUM" if word.isdigit() else ("X" if word.isalpha() else "PUNCT")
        if word in COLORS and (before in ("is", "turns") or _LEXICON.get(after) == "NOUN"):
            tag = "ADJ"
        elif tag == "AUX" and before == "there":
            tag = "VERB"
        elif word == "What" and _LEXICON.get(after) == "NOUN":
            tag = "DET"
        tags.append(tag)
    return tags


def _number(word: str, tag: str, words: list[str]) -> str:
    """Grammatical number that the form shows; infinitives, participles and past forms show none."""
    if tag in ("NOUN", "PROPN"):
        return "plural" if word in _PLURALS else "singular"
    if tag not in ("VERB", "AUX", "PRON") or (tag == "VERB" and {"does", "can"} & set(words)):
        return "none"
    return "plural" if word in _PLURAL_FORMS else "singular" if word in _SINGULAR_FORMS else "none"


def _chunks(words: list[str], tags: list[str], span: range) -> dict[int, int]:
    """Start of each noun phrase of the span, by the index of its head."""
    found, start, head = {}, None, None
    for i in (*span, span.stop):
        tag = tags[i] if i in span else "END"
        part = tag in ("DET", "ADJ", "NUM", "NOUN", "PROPN") or (i in span and words[i] in _POSSESSIVE)
        opens = tag in ("DET", "PROPN") or (head is not None and tags[head] == "PROPN")
        if head is not None and (opens or not part):
            found[head], start, head = start, None, None
        if not part or tag == "DET":
            start = None
        if part and start is None:
            start = i
        if tag in ("NOUN", "PROPN"):
            head = i
        elif tag == "PRON" and not part:
            found[i] = i
    return found


def _clause_root(words: list[str], tags: list[str], span: range, chunks: dict[int, int]) -> int:
    """The verb of the clause, or the complement of its copula, or what stands alone."""
    for i in span:
        if tags[i] == "VERB":
            return i
    copula = next((i for i in span if tags[i] == "AUX"), None)
    if copula is None:
        return next(i for i in span if i in chunks or tags[i] == "ADJ")
    if copula == span.start + 1 and words[span.start] in ("What", "Who"):
        return span.start
    return next(i for i in span if i > copula and (i in chunks or (tags[i] == "ADJ" and i + 1 not in chunks)))


def _attach_clause(words: list[str], tags: list[str], span: range, heads: dict[int, int], mark: bool) -> int:
    """Fill in the heads of one clause but its root, which is returned. With `mark`, "with" goes to the object."""
    chunks = _chunks(words, tags, span)
    root = _clause_root(words, tags, span, chunks)
    inside = {i: head for head, start in chunks.items() for i in range(start, head)}
    last = None
    for i in span:
        if i in chunks:
            before = words[chunks[i] - 1] if chunks[i] > span.start else ""
            if _LEXICON.get(before) == "ADP" or before == "or":
                heads[chunks[i] - 1] = i
            near = before in ("of", "or") or (before == "with" and last is not None and (i < root or mark))
            heads[i] = last if near and last is not None else root
            last = i
        elif i in inside:
            heads[i] = inside[i]
        elif tags[i] == "DET" and last is not None:
            heads[i] = last
        elif i not in heads:
            heads[i] = root
    heads.pop(root, None)
    return root


def _attach_sentence(words: list[str], tags: list[str], span: range, heads: dict[int, int], mark: bool) -> None:
    """Heads of one sentence: its clauses, split at commas and at "and" before a verb, and how they hang together."""
    cuts = [i for i in span if words[i] == "," or (words[i] == "and" and tags[i + 1] == "VERB")]
    starts = [span.start, *(i + 1 for i in cuts)]
    clauses = [range(a, b) for a, b in zip(starts, [*cuts, span.stop - 1], strict=True)]
    roots = [_attach_clause(words, tags, clause, heads, mark) for clause in clauses]
    condition = words[span.start] == "If"
    for cut, left, right in zip(cuts, roots, roots[1:], strict=False):
        heads[cut] = left if condition else right
        heads[left if condition else right] = right if condition else left
    root = roots[1] if condition else roots[0]
    heads[root], heads[span.stop - 1] = ROOT, root


def _prose(words: list[str], mark: bool) -> tuple[list[str], dict[int, int], list[range]]:
    """Tags, heads and sentences of running text, bullets and the labels of a quiz included."""
    tags, heads, sentences, start = _tags(words), dict[int, int](), list[range](), 0
    for i, word in enumerate(words):
        if word in (".", "?"):
            sentences.append(range(start, i + 1))
            start = i + 1
    for whole in sentences:
        label = 1 if words[whole.start] == "-" else 2 if words[whole.start + 1] == ":" else 0
        _attach_sentence(words, tags, range(whole.start + label, whole.stop), heads, mark)
        root = next(i for i in whole if heads.get(i) == ROOT)
        heads |= {whole.start: root, whole.start + 1: whole.start} if label == 2 else {}
        heads |= {whole.start: root} if label == 1 else {}
    return tags, heads, sentences


def _sum(words: list[str]) -> dict[int, int]:
    """- a + b = c . : what is said of the equality, as of a verb."""
    return {0: 4, 1: 4, 2: 3, 3: 1, 4: ROOT, 5: 4, 6: 4}


def _count(words: list[str]) -> dict[int, int]:
    """- a , b , c : the first number, and the others joined to it."""
    return {0: 1, 1: ROOT} | {i: 1 if i % 2 else i + 1 for i in range(2, len(words))}


def _brackets(words: list[str]) -> dict[int, int]:
    """The bullet is the root, an opening bracket hangs on the one around it, a closing one on its partner."""
    heads, stack = {0: ROOT}, [0]
    for i, sign in enumerate(words[1:], start=1):
        if sign in _OPENING:
            heads[i] = stack.pop()
        else:
            heads[i] = stack[-1]
            stack.append(i)
    return heads


def _record(words: list[str]) -> dict[int, int]:
    """A row key : value ; key : value ; ...: values and colons hang on their keys, keys on the first key."""
    heads = {i: (i - 1, i - 2, i + 1, 0)[(i - 1) % 4] for i in range(1, len(words))}
    return heads | {0: ROOT}


def _code(words: list[str]) -> dict[int, int]:
    """A line of code read as a sentence: "return" under its "def" or over its condition, loops under what they do."""
    if words[0] == "def":  # def f ( a , b ) : return a + b
        return dict(enumerate((ROOT, 0, 1, 1, 5, 3, 1, 0, 0, 8, 11, 9)))
    if words[0] == "if":  # if a < b : return a
        return dict(enumerate((2, 2, 5, 2, 2, ROOT, 5)))
    return dict(enumerate((1, 5, 3, 5, 5, ROOT, 5, 5, 5)))  # for a in b : print ( a )


_FORMS = {"Sums": _sum, "Count": _count, "Brackets": _brackets, "Records": _record, "Code": _code}


def _tag_form(kind: str, word: str) -> str:
    """Tag of a word of a format; the names in code are names."""
    if kind == "Code":
        return _CODE.get(word, "PROPN" if word.isalpha() else "PUNCT" if word in "():," else "SYM")
    if kind == "Sums" and word in "+=":
        return "SYM"
    return _tags([word])[0]


def _depth(heads: list[int], i: int) -> int:
    depth = 0
    while heads[i] != ROOT:
        i, depth = heads[i], depth + 1
    return depth


def parse(text: str, kind: str, *, mark: bool = False) -> tuple[Word, ...]:
    """The words of one item of this kind of document, labelled.

    With `mark`, "with the ..." behind an object belongs to the object; else to the deed. Raises `InputError` where the
    text has a word that no item has, or is no item of this kind.
    """
    places = [match.span() for match in _WORD.finditer(text)]
    words = [text[start:end] for start, end in places]
    try:
        if kind == "header":
            tags, by, sentences = ["NOUN"], {0: ROOT}, [range(1)]
        elif kind in _FORMS:
            tags, by = [_tag_form(kind, word) for word in words], _FORMS[kind](words)
            sentences = [range(len(words))]
        else:
            tags, by, sentences = _prose(words, mark)
        heads = [by[i] for i in range(len(words))]
        owner = {i: s for s, span in enumerate(sentences) for i in span}
        labels = [(heads[i], _depth(heads, i), owner[i]) for i in range(len(words))]
    except (KeyError, IndexError, StopIteration) as error:
        raise InputError(f"{text!r} is no item of {kind}; wanted a text that the generator writes.") from error
    if not words or "X" in tags:
        raise InputError(f"{text!r} has a word that no item of {kind} has; wanted a text that the generator writes.")
    numbers = ["none" if kind == "Code" else _number(*pair, words) for pair in zip(words, tags, strict=True)]
    return tuple(
        Word(word, *place, tag, number, *rest)
        for word, place, tag, number, rest in zip(words, places, tags, numbers, labels, strict=True)
    )
