"""Documents of the world, and the two corpora made of them.

A document is a header, which says its kind, and items of that kind until it is long enough; then a real end of text.
Header, items and end are each a `Piece` with its category and the log-probability of the choices behind it, so the
true entropy of any set of complete pieces is minus the sum of `logp`, over whatever number of tokens they have.

Two corpora of equal size are made of such documents: *curated*, the documents as they are, and *web*, which
`tools/organisms/web_corpus.py` roughens. The true entropy is known for the first alone, so all losses are measured on
it.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phaselens.organisms.world import RELATIONS, World
from phaselens.organisms.world_sentences import (
    KEYS,
    Draw,
    choice,
    open_story,
    write_brackets,
    write_choice,
    write_code,
    write_count,
    write_fact,
    write_law,
    write_quiz,
    write_record,
    write_story,
    write_sum,
    write_words,
)

# header -> (share of the documents, category of its items, writer of one item; None where items hang together)
KINDS: dict[str, tuple[float, str, Callable[[World, Draw], str] | None]] = {
    "Notes": (0.06, "factual", write_fact),
    "Quiz": (0.05, "factual", write_quiz),
    "Choice": (0.05, "factual", write_choice),
    "Sums": (0.20, "arithmetic", write_sum),
    "Laws": (0.10, "science", write_law),
    "Story": (0.17, "story", None),
    "Records": (0.05, "format", None),
    "Count": (0.10, "format", write_count),
    "Brackets": (0.06, "format", write_brackets),
    "Code": (0.06, "format", write_code),
    "Words": (0.10, "ambiguous", write_words),
}
CATEGORIES = ("factual", "arithmetic", "science", "story", "format", "ambiguous")
NEW_STORY, STOP = 0.1, 0.3
LEAST, MOST = 130, 150

UNIT = re.compile(r"[A-Za-z]+|\d|[^\w\s]|\n")


def _reader(line: str) -> re.Pattern:
    """A pattern that reads a wording back; {e}, {v} and {o} are the entity, the value and a value beside it."""
    parts = {"{e}": "(?P<e>[A-Z][a-z]+)", "{v}": "(?P<v>[A-Za-z]+)", "{o}": "[A-Za-z]+"}
    return re.compile("".join(parts.get(part, re.escape(part)) for part in re.split(r"(\{[evo]\})", line)))


def _fact_readers() -> dict[str, list[tuple[str, str, re.Pattern]]]:
    """For each kind of document with facts: (relation, template, pattern)."""
    found: dict[str, list[tuple[str, str, re.Pattern]]] = {"Notes": [], "Quiz": [], "Choice": []}
    for relation, (_, statements, question) in RELATIONS.items():
        for i, statement in enumerate(statements):
            found["Notes"].append((relation, f"{relation}/{i}", _reader(f"- {statement}")))
        found["Quiz"].append((relation, f"{relation}/quiz", _reader(f"Q: {question} A: {{v}}.")))
        asked = choice(statements[0], "{e}", "{o}", "{o}")
        found["Choice"].append((relation, f"{relation}/choice", _reader(f"- {asked} {{v}}.")))
    return found


FACTS = _fact_readers()
_KIND_CUMULATIVE = np.cumsum([share for share, _, _ in KINDS.values()])


@dataclass(frozen=True)
class Piece:
    """A header, an item or the end of a document: text, category and log-probability (nats) of its choices."""

    text: str
    category: str
    logp: float


@dataclass(frozen=True)
class Document:
    """A document; the text of its pieces joined is its text, and the last piece (empty text) is the end of text."""

    kind: str
    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        """The whole text, without special tokens."""
        return "".join(piece.text for piece in self.pieces)

    @property
    def logp(self) -> float:
        """Log-probability of the document in nats."""
        return math.fsum(piece.logp for piece in self.pieces)


def _items(world: World, kind: str, draw: Draw) -> Iterator[str]:
    """Items of a document of this kind, without end."""
    _, _, write = KINDS[kind]
    if write is not None:
        while True:
            yield write(world, draw)
    if kind == "Records":
        keys = list(KEYS)
        order = [keys.pop(draw.index(len(keys))) for _ in range(3)]
        while True:
            yield write_record(world, draw, order)
    text, about = open_story(draw)
    while True:
        yield text
        if draw.chance(NEW_STORY):
            text, about = open_story(draw)
            text = "\n" + text
        else:
            text = write_story(draw, about)


def write_document(world: World, rng: np.random.Generator) -> Document:
    """One document: a kind, then items until `LEAST` words and signs; from there it may end, by `MOST` it must."""
    draw = Draw(rng)
    kind = tuple(KINDS)[draw.weighted(_KIND_CUMULATIVE)]
    pieces, units, spent = [Piece(kind + "\n", "header", draw.logp)], 0, draw.logp
    for text in _items(world, kind, draw):
        pieces.append(Piece(text, KINDS[kind][1], draw.logp - spent))
        units, spent = units + len(UNIT.findall(text)), draw.logp
        if units >= MOST or (units >= LEAST and draw.chance(STOP)):
            break
    pieces.append(Piece("", "end", draw.logp - spent))
    return Document(kind, tuple(pieces))


def documents(world: World, seed: int, n: int) -> Iterator[Document]:
    """`n` documents; same world and seed, same documents."""
    rng = np.random.default_rng([world.seed, 2, seed])
    for _ in range(n):
        yield write_document(world, rng)
