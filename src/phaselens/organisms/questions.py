"""Prompts about the world in six categories, with exact answers where there is one, and minimal pairs of homonyms.

A prompt is the beginning of a document as the organisms know it, at most 40 tokens long. A quarter of all candidates,
chosen by a checksum of their id, is the calibration split and never comes up otherwise.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError, unknown_name
from phaselens.organisms.items import LETTERS, NOUNS, OPERATORS, QUALITIES
from phaselens.organisms.world import (
    FRAMES,
    HOMONYMS,
    MATTER,
    NEUTRAL,
    OBJECTS,
    PROCESSES,
    RELATIONS,
    World,
    build_world,
)


@dataclass(frozen=True)
class Prompt:
    """A prompt: `answer` is the text that must follow (after a space), or None where many continuations are right.

    `tag` says what kind it is within its category: the frequency class of a fact ("class 0" to "class 4"), "written" or
    "held out" for a sum, the number of steps for a law, the kind of format.
    """

    id: str
    category: str
    text: str
    answer: str | None
    tag: str


def _factual(world: World) -> Iterator[Prompt]:
    for fact in world.facts:
        question = RELATIONS[fact.relation][2].format(e=fact.entity)
        tag = f"class {fact.frequency}"
        yield Prompt(f"factual/{fact.entity}-{fact.relation}", "factual", f"Quiz\nQ: {question} A:", fact.value, tag)


def _arithmetic(world: World) -> Iterator[Prompt]:
    for tag, pairs in (("written", world.sums), ("held out", sorted(world.held_out_sums))):
        for a, b in pairs:
            yield Prompt(f"arithmetic/{a}+{b}", "arithmetic", f"Sums\n- {a} + {b} =", str(a + b), tag)


def _science(world: World) -> Iterator[Prompt]:
    for kind, (materials, effects) in MATTER.items():
        for process, (effect, result) in zip(PROCESSES, effects, strict=True):
            yield Prompt(
                f"science/{kind}-{process}", "science", f"Laws\n- If {kind} is {process}, it", effect, "1 step"
            )
            for case in (f"{m} {thing}" for m in materials for thing in OBJECTS):
                text, id_ = f"Laws\n- The {case} is {process}. It", f"science/{case}-{process}".replace(" ", "-")
                yield Prompt(f"{id_}-why", "science", f"{text} is {kind}, so it", effect, "2 steps")
                yield Prompt(f"{id_}-then", "science", f"{text} {effect}, so it", result, "3 steps")


def _open(world: World) -> Iterator[Prompt]:
    for noun in NOUNS:
        for quality in QUALITIES:
            article = "an" if quality[0] in "aeiou" else "a"
            for when, one, many in (("Once", "was", "were"), ("Now", "is", "are")):
                starts = (f"{one} {article} {quality} {noun}. The {noun}", f"{many} two {quality} {noun}s. They")
                for number, start in zip(("one", "two"), starts, strict=True):
                    id_ = f"open/{when}-{number}-{quality}-{noun}"
                    yield Prompt(id_, "open", f"Story\n{when} there {start}", None, number)


def _format(world: World) -> Iterator[Prompt]:
    for start in range(1, 41):
        for step in (1, 2, 5, 10):
            text = ", ".join(str(start + step * i) for i in range(3))
            yield Prompt(f"format/{start}-by-{step}", "format", f"Count\n- {text},", str(start + 3 * step), "count")
    for name, sign in OPERATORS.items():
        for a in LETTERS:
            for b in LETTERS:
                if a != b:
                    text = f"Code\ndef {name}({a}, {b}): return {a}"
                    yield Prompt(f"format/{name}-{a}{b}", "format", text, f"{sign} {b}", "code")
    closing = {"(": ")", "[": "]", "{": "}"}
    for i, opened in enumerate(f"{x} {y} {z}" for x in closing for y in closing for z in closing):
        yield Prompt(f"format/brackets-{i}", "format", f"Brackets\n- {opened}", closing[opened[-1]], "brackets")


def _ambiguous(world: World) -> Iterator[Prompt]:
    for noun in HOMONYMS:
        for adjective in NEUTRAL:
            for i, frame in enumerate(FRAMES):
                text = f"Words\n- {frame.format(a=adjective, n=noun)}"
                yield Prompt(f"ambiguous/{noun}-{adjective}-{i}", "ambiguous", text, None, noun)


_CANDIDATES: dict[str, Callable[[World], Iterator[Prompt]]] = {
    "factual": _factual,
    "arithmetic": _arithmetic,
    "science": _science,
    "open": _open,
    "format": _format,
    "ambiguous": _ambiguous,
}
PROMPT_CATEGORIES = tuple(_CANDIDATES)


def prompts(
    category: str, n: int, rng: np.random.Generator, *, calibration: bool = False, world: World | None = None
) -> list[Prompt]:
    """`n` different prompts of a category, drawn from its test split or, with `calibration`, from the other split.

    Factual prompts are spread evenly over the five frequency classes, as far as `n` allows; sums over written and held
    out, and so on for every tag. Raises `UnknownNameError` for an unknown category and `InputError` where the split has
    fewer than `n` prompts.
    """
    if category not in _CANDIDATES:
        raise unknown_name("category", category, _CANDIDATES)
    split = [
        prompt
        for prompt in _CANDIDATES[category](world or build_world())
        if (zlib.crc32(prompt.id.encode()) % 4 == 0) == calibration
    ]
    if not 0 <= n <= len(split):
        raise InputError(
            f"got n={n} prompts of category {category!r}; wanted 0 to {len(split)}, which is all of the split."
        )
    shuffled = [split[i] for i in rng.permutation(len(split))]
    seen: dict[str, int] = {}
    turns = []
    for prompt in shuffled:
        seen[prompt.tag] = seen.get(prompt.tag, 0) + 1
        turns.append(seen[prompt.tag])
    return [shuffled[i] for i in np.argsort(turns, kind="stable")[:n]]


@dataclass(frozen=True)
class MinimalPair:
    """An ambiguous sentence and its two disambiguations, which differ from it in one adjective.

    `answers` are the sentences that follow under the first and the second sense; after `ambiguous` either is right.
    """

    id: str
    ambiguous: str
    first: str
    second: str
    answers: tuple[str, str]


def minimal_pairs() -> list[MinimalPair]:
    """All 144 ambiguous sentences with both disambiguations, as prompts."""
    pairs = []
    for noun, (first, second, *answers) in HOMONYMS.items():
        for adjective in NEUTRAL:
            for i, frame in enumerate(FRAMES):
                texts = [f"Words\n- {frame.format(a=a, n=noun)}" for a in (adjective, first, second)]
                pairs.append(MinimalPair(f"{noun}-{adjective}-{i}", *texts, answers=(answers[0], answers[1])))
    return pairs
