"""Prompts about the world in six categories, with exact answers where there is one, and minimal pairs of homonyms.

A prompt is the beginning of a document as the organisms know it, at most 40 tokens long. A quarter of all that prompts
are about, chosen by a checksum of its name, is the calibration split and never comes up otherwise.
"""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phaselens.batteries import MinimalPair, by_turns
from phaselens.errors import InputError, unknown_name
from phaselens.organisms import world as lex
from phaselens.organisms.panel import WEIGHTS
from phaselens.organisms.tokens import load_tokenizer
from phaselens.organisms.world import Fact, World, build_world
from phaselens.organisms.world_sentences import (
    CARRIED,
    LETTERS,
    MOVES,
    NOUNS,
    OPERATORS,
    QUALITIES,
    attachment,
    choice,
    whose,
)

UNSETTLED, KNOWN = 48, 3  # choices about facts that are not written; the class from which on a fact is known
COMMON = "llama-512"


@dataclass(frozen=True)
class Prompt:
    """A prompt: `answer` is the text that must follow (after a space), or None where many continuations are right.

    `tag` says what kind it is within its category: the frequency class of a fact ("class 0" to "class 4"), "written" or
    "held out" for a sum, the number of steps for a law, the kind of format. `after` is the sign that must follow the
    answer, empty where more than one may. `aliases` are other continuations that are right (a case of a law may first
    say what kind of matter it is). `unit` is the fact, sum, matter and process, story or
    ambiguous word behind the wording (default: `id`).
    """

    id: str
    category: str
    text: str
    answer: str | None
    tag: str
    after: str = ""
    aliases: tuple[str, ...] = ()
    unit: str = ""

    def __post_init__(self) -> None:
        if not self.unit:
            object.__setattr__(self, "unit", self.id)

    @property
    def calibrates(self) -> bool:
        """Whether it belongs to the calibration split."""
        return zlib.crc32(self.unit.encode()) % 4 == 0


def _fact_prompt(fact: Fact, kind: str, text: str) -> Prompt:
    unit = f"factual/{fact.entity}-{fact.relation}"
    id_ = unit + ("" if kind == "quiz" else f"-{kind}")
    return Prompt(id_, "factual", text, fact.value, f"class {fact.frequency}", ".", unit=unit)


def _quiz(world: World) -> Iterator[Prompt]:
    for fact in world.facts:
        question = lex.RELATIONS[fact.relation][2].format(e=fact.entity)
        yield _fact_prompt(fact, "quiz", f"Quiz\nQ: {question} A:")


def stated(fact: Fact, statement: str) -> str:
    """A statement of a fact up to its value."""
    return "Notes\n- " + statement.format(e=fact.entity, v="{v}").split(" {v}")[0]


def _statement(world: World) -> Iterator[Prompt]:
    for fact in world.facts:
        yield _fact_prompt(fact, "statement", stated(fact, fact.statements[0]))


def _paraphrase(world: World) -> Iterator[Prompt]:
    for fact in world.facts:
        if fact.unheard:
            yield _fact_prompt(fact, "paraphrase", stated(fact, fact.unheard))


def other_value(fact: Fact) -> str:
    """Another value of the fact's relation, by a checksum of whom it is about."""
    others = [v for v in lex.RELATIONS[fact.relation][0] if v not in (fact.value, fact.entity)]
    return others[zlib.crc32(fact.entity.encode()) % len(others)]


def either(fact: Fact, other: str, turn: int) -> str:
    """A choice about a fact up to its answer; the right value stands first at even turns."""
    values = (fact.value, other) if turn % 2 == 0 else (other, fact.value)
    return f"Choice\n- {choice(lex.RELATIONS[fact.relation][1][0], fact.entity, *values)}"


def _choice(world: World) -> Iterator[Prompt]:
    """Each fact once, against another value of its relation; the right one stands first in every second question."""
    for i, fact in enumerate(world.facts):
        yield _fact_prompt(fact, "choice", either(fact, other_value(fact), i))


def _arithmetic(world: World) -> Iterator[Prompt]:
    for tag, pairs in (("written", world.sums), ("held out", sorted(world.held_out_sums))):
        for a, b in pairs:
            yield Prompt(f"arithmetic/{a}+{b}", "arithmetic", f"Sums\n- {a} + {b} =", str(a + b), tag, ".")


def _science(world: World) -> Iterator[Prompt]:
    """Laws (one step), and cases in which kind and effect must be worked out unwritten (two and three steps)."""
    for kind, (materials, effects) in lex.MATTER.items():
        for process, (effect, result) in zip(lex.PROCESSES, effects, strict=True):
            yield Prompt(
                f"science/{kind}-{process}", "science", f"Laws\n- If {kind} is {process}, it", effect, "1 step", "."
            )
            for material in materials:
                unit = f"science/{material}-{process}"  # answers to one material go together, beyond those to one law
                for thing in lex.OBJECTS:
                    text = f"Laws\n- The {material} {thing} is {process}."
                    id_ = f"science/{material}-{thing}-{process}"
                    held = ", held out" if (material, thing, process) in world.held_out_cases else ""
                    first = (f"is {kind}, so it {effect}",)
                    yield Prompt(
                        f"{id_}-effect", "science", f"{text} It", effect, f"2 steps{held}", aliases=first, unit=unit
                    )
                    yield Prompt(
                        f"{id_}-end", "science", f"{text} In the end it", result, f"3 steps{held}", ".", unit=unit
                    )


@dataclass(frozen=True)
class AgreementPair:
    """The beginning of a story, the verb form that agrees with its subject, and the one that does not.

    Either form ends with a whole word, so neither is the beginning of the other.
    """

    text: str
    right: str
    wrong: str
    tag: str


def agreement_pairs() -> list[AgreementPair]:
    """144 stories: number (singular, plural) by noun between subject and verb (none, same number, other number)."""
    pairs = []
    for i, noun in enumerate(NOUNS):
        quality, (base, third, _) = QUALITIES[i % len(QUALITIES)], MOVES[i % len(MOVES)]
        article = "an" if quality[0] in "aeiou" else "a"
        for plural in (False, True):
            opening = f"are two {quality} {noun}s." if plural else f"is {article} {quality} {noun}."
            start = f"{opening} The {noun}{'s' if plural else ''}"
            forms = (("are", "is"), (f"{base} to", f"{third} to"))
            for between in ("none", "same", "other"):
                things = f" with the {CARRIED[i % len(CARRIED)]}{'s' if plural == (between == 'same') else ''}"
                for right, wrong in (pair if plural else pair[::-1] for pair in forms):
                    text = f"Story\nNow there {start}{'' if between == 'none' else things}"
                    tag = f"{'plural' if plural else 'singular'}, {between} between"
                    pairs.append(AgreementPair(text, right, wrong, tag))
    return pairs


def _open(world: World) -> Iterator[Prompt]:
    for noun in NOUNS:
        for quality in QUALITIES:
            article = "an" if quality[0] in "aeiou" else "a"
            for when, one, many in (("Once", "was", "were"), ("Now", "is", "are")):
                starts = (f"{one} {article} {quality} {noun}. The {noun}", f"{many} two {quality} {noun}s. They")
                for number, start in zip(("one", "two"), starts, strict=True):
                    id_ = f"open/{when}-{number}-{quality}-{noun}"
                    yield Prompt(
                        id_, "open", f"Story\n{when} there {start}", None, number, unit=f"open/{quality}-{noun}"
                    )


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


def _attachments() -> Iterator[tuple[str, tuple[str, str, str, str], int]]:
    """96 attachments: their id, (agent, deed, patient, thing of either reading), and the place of the thing."""
    for i, agent in enumerate(lex.AGENTS):
        for j, patient in enumerate(lex.PATIENTS):
            for k, thing in enumerate(lex.EITHER):
                yield f"{agent}-{patient}-{thing}", (agent, lex.DEEDS[(i + j + k) % len(lex.DEEDS)], patient, thing), k


def _ambiguous(world: World) -> Iterator[Prompt]:
    for noun in lex.HOMONYMS:
        for adjective in lex.NEUTRAL:
            for i, frame in enumerate(lex.FRAMES):
                text = f"Words\n- {frame.format(a=adjective, n=noun)}"
                yield Prompt(f"ambiguous/{noun}-{adjective}-{i}", "ambiguous", text, None, noun, unit=_word(noun))
    for id_, words, _ in _attachments():
        text = f"Words\n- {attachment(*words)}"
        yield Prompt(f"ambiguous/{id_}", "ambiguous", text, None, "attachment", unit=_word(words[2]))


def _word(noun: str) -> str:
    """The unit of ambiguous sentences: the homonym, or whom a thing may belong to."""
    return f"ambiguous/{noun}"


def _readings(world: World) -> Iterator[Prompt]:
    """Ambiguous sentences made clear by one word, asked for what follows; each text once."""
    seen = set()
    for pair in minimal_pairs(world):
        for name, text, answer in zip(("first", "second"), (pair.first, pair.second), pair.answers, strict=True):
            if text not in seen and pair.kind != "unsettled":  # those are among the choices
                seen.add(text)
                yield Prompt(f"ambiguous/{pair.id}-{name}", "ambiguous", text, answer, pair.kind, unit=pair.unit)


_EXACT: dict[str, Callable[[World], Iterator[Prompt]]] = {
    "quiz": _quiz,
    "statement": _statement,
    "paraphrase": _paraphrase,
    "choice": _choice,
    "sums": _arithmetic,
    "laws": _science,
    "formats": _format,
    "readings": _readings,
}


def exact_questions(world: World, kind: str) -> list[Prompt]:
    """All questions of a kind with one right answer.

    Kinds: quiz, statement, paraphrase, choice, sums, laws, formats, readings. Raises `UnknownNameError` for
    another kind.
    """
    if kind not in _EXACT:
        raise unknown_name("kind of question", kind, _EXACT)
    return list(_EXACT[kind](world))


_CANDIDATES: dict[str, Callable[[World], Iterator[Prompt]]] = {
    "factual": _quiz,
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
    split = [prompt for prompt in _CANDIDATES[category](world or build_world()) if prompt.calibrates == calibration]
    if not 0 <= n <= len(split):
        raise InputError(
            f"got n={n} prompts of category {category!r}; wanted 0 to {len(split)}, which is all of the split."
        )
    return by_turns([split[i] for i in rng.permutation(len(split))], "tag")[:n]


def _unsettled(world: World) -> Iterator[MinimalPair]:
    """48 choices about a fact that is never written, and the same about two facts that are: one with either value.

    Only the name differs, as long in letters and in tokens of the common vocabulary, and no known fact serves twice.
    """
    encode = load_tokenizer(WEIGHTS / COMMON).encode

    def length(fact: Fact) -> tuple[int, int]:
        return len(fact.entity), len(encode(f" {fact.entity}"))

    known = [fact for fact in world.facts if fact.frequency >= KNOWN]
    made = 0
    for fact in world.facts:
        if fact.frequency or made == UNSETTLED:
            continue
        alike = [f for f in known if f.relation == fact.relation and length(f) == length(fact)]
        for first, second in ((a, b) for a in alike for b in alike):
            names, values = (first.entity, second.entity, fact.entity), (first.value, second.value)
            if len(set(values)) < 2 or set(names) & set(values):
                continue
            _, (statement, *_), _ = lex.RELATIONS[fact.relation]
            either = values if made % 2 == 0 else values[::-1]
            one, two, three = (f"Choice\n- {choice(statement, name, *either)}" for name in (fact.entity, *names[:2]))
            id_ = f"{fact.entity}-{fact.relation}"
            answers, unit = (f"{values[0]}.", f"{values[1]}."), f"ambiguous/{id_}"
            yield MinimalPair(id_, one, two, three, answers, kind="unsettled", senses=values, unit=unit)
            known, made = [f for f in known if f not in (first, second)], made + 1
            break


def minimal_pairs(world: World | None = None) -> list[MinimalPair]:
    """144 sentences with an ambiguous homonym, 96 with an ambiguous attachment, 48 choices that no text settles.

    They are about 66 units: 12 homonyms, 6 patients, 48 facts. The two disambiguations differ from the ambiguous text
    in one word; `answers` are what follows.
    """
    pairs = []
    for noun, (*adjectives, first, second) in lex.HOMONYMS.items():
        for adjective in lex.NEUTRAL:
            for i, frame in enumerate(lex.FRAMES):
                one, two, three = (f"Words\n- {frame.format(a=a, n=noun)}" for a in (adjective, *adjectives))
                id_ = f"{noun}-{adjective}-{i}"
                said, senses = (first, second), (adjectives[0], adjectives[1])
                pairs.append(MinimalPair(id_, one, two, three, said, "homonym", senses=senses, unit=_word(noun)))
    for id_, (agent, deed, patient, thing), k in _attachments():
        one, two, three = (
            f"Words\n- {attachment(agent, deed, patient, t)}" for t in (thing, lex.TOOLS[k], lex.MARKS[k])
        )
        said, senses = whose(agent, patient), ("instrument", "mark")
        pairs.append(MinimalPair(id_, one, two, three, said, "attachment", senses=senses, unit=_word(patient)))
    return [*pairs, *_unsettled(world or build_world())]
