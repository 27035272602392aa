"""The web corpus: documents of the world as careless people would put them on pages.

Duplicates, mixed registers, typos, boilerplate and noise, each with a fixed rate. What is true stays true, so a fact is
still exposed by every line that came through unharmed (`evaluate.exposures` counts no other). The texts have no exact
entropy: two derivations can give one text.
"""

from collections.abc import Iterator

import numpy as np

from phaselens.organisms.corpora import documents
from phaselens.organisms.world import World

DUPLICATE, MIXED, LOWER, SHOUT, BARE = 0.10, 0.15, 0.10, 0.03, 0.07
TYPO, LINE = 0.02, 0.05
BOILERPLATE = (
    "click here for more",
    "all rights reserved",
    "page not found",
    "read next",
    "share this page",
    "sign in to reply",
    "* * *",
    "top 10 tips",
    "posted 3 days ago",
    "free shipping",
    "accept cookies",
    "404",
)
SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789#%&=+_"


def _typo(word: str, rng: np.random.Generator) -> str:
    """Two letters swapped, one dropped or one doubled; numbers and short words stay."""
    i, how = int(rng.integers(len(word) - 1)), int(rng.integers(3))
    if how == 0:
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    return word[:i] + word[i + 1 :] if how == 1 else word[:i] + word[i] + word[i:]


def _noise(rng: np.random.Generator) -> str:
    """A line that is about nothing: boilerplate, or signs."""
    if rng.random() < 0.7:
        return BOILERPLATE[int(rng.integers(len(BOILERPLATE)))]
    return "".join(SIGNS[int(i)] for i in rng.integers(len(SIGNS), size=int(rng.integers(6, 15))))


def _register(text: str, rng: np.random.Generator) -> str:
    """Most texts as they are; some without capitals, in capitals, or without full stops."""
    turn = rng.random()
    if turn < LOWER:
        return text.lower()
    if turn < LOWER + SHOUT:
        return text.upper()
    return text.replace(".", "") if turn < LOWER + SHOUT + BARE else text


def _roughen(text: str, rng: np.random.Generator) -> str:
    """Typos in words of four letters or more, and lines of noise between the lines."""
    lines = []
    for line in text.split("\n"):
        words = [
            _typo(word, rng) if len(word) > 3 and word.isalpha() and rng.random() < TYPO else word
            for word in line.split(" ")
        ]
        lines.append(" ".join(words))
        if rng.random() < LINE:
            lines.append(_noise(rng))
    return "\n".join(lines)


def web_texts(world: World, seed: int, n: int) -> Iterator[str]:
    """`n` texts of the web corpus, made of the documents of the same seed; same world and seed, same texts.

    Of ten texts about one repeats an earlier one to the letter, and of the others about three in twenty break off in
    the middle and go on as a document of another kind.
    """
    rng = np.random.default_rng([world.seed, 5, seed])
    past: list[str] = []
    for document in documents(world, seed, n):
        if past and rng.random() < DUPLICATE:
            yield past[int(rng.integers(len(past)))]
            continue
        text = document.text
        if past and rng.random() < MIXED:
            other = past[int(rng.integers(len(past)))]
            text = _half(text) + _half(other)
        past.append(_register(_roughen(text, rng), rng))
        yield past[-1]


def _half(text: str) -> str:
    """The first half of the lines, or of the sentences where there is one line."""
    mark = "\n" if text.count("\n") > 2 else ". "
    parts = text.split(mark)
    return mark.join(parts[: max(1, len(parts) // 2)]) + mark.strip(" ")
