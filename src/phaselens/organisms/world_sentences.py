"""Items: the sentences and lines of the world, each written by a handful of counted choices.

Every choice goes through a `Draw`, which adds up its log-probability. Different choices give different texts (a test
enumerates the item grammars and says so), so minus that sum is the exact surprise of the item under the generator, in
nats, and its mean is the true entropy that no model can beat.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from phaselens.organisms import world as lex
from phaselens.organisms.world import World

NOUNS = ("bear", "bird", "cat", "cow", "dog", "duck", "frog", "goat", "hen", "horse", "lion", "pig")
QUALITIES = ("old", "young", "small", "big", "quiet", "proud")
THINGS = ("apple", "bell", "book", "box", "coat", "drum", "hat", "key", "lamp", "map", "rope", "shoe")
CARRIED = ("bell", "book", "drum", "hat", "key", "lamp", "map", "rope")
PLACES = ("barn", "bridge", "farm", "hill", "lake", "market", "river", "tower")
STATES = ("afraid", "brave", "cold", "glad", "hungry", "lost", "sad", "tired")
# base, third person singular, past
MOVES = (("go", "goes", "went"), ("run", "runs", "ran"), ("walk", "walks", "walked"), ("come", "comes", "came"))
ACTS = (
    ("find", "finds", "found"),
    ("see", "sees", "saw"),
    ("take", "takes", "took"),
    ("like", "likes", "liked"),
    ("hold", "holds", "held"),
    ("want", "wants", "wanted"),
)
TAILS = ("", " again", " at night", " in the rain", " with a friend")
KEYS = ("item", "color", "count", "place")
LETTERS = ("a", "b", "c", "x", "y", "z")
OPERATORS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "mod": "%"}
BRACKETS = (("(", ")"), ("[", "]"), ("{", "}"))
ONE_DIGIT, ATTACHMENT = 0.25, 0.4


T = TypeVar("T")


class Draw:
    """Seeded choices with their log-probability added up in `logp` (nats)."""

    def __init__(self, rng: np.random.Generator):
        self.rng = rng
        self.logp = 0.0

    def index(self, n: int) -> int:
        """One of 0..n-1, uniformly."""
        self.logp -= math.log(n)
        return int(self.rng.integers(n))

    def weighted(self, cumulative: np.ndarray) -> int:
        """An index drawn with the probabilities whose cumulative sums are given (the last is 1)."""
        i = min(int(np.searchsorted(cumulative, self.rng.random(), side="right")), len(cumulative) - 1)
        self.logp += math.log(cumulative[i] - (cumulative[i - 1] if i else 0.0))
        return i

    def chance(self, p: float) -> bool:
        """True with probability `p`, strictly between 0 and 1."""
        hit = bool(self.rng.random() < p)
        self.logp += math.log(p if hit else 1.0 - p)
        return hit

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, uniformly."""
        return options[self.index(len(options))]


class _Path(Draw):
    """A `Draw` that follows a given path of choices and then the first branch, noting the branches left."""

    def __init__(self, path: list[int]):
        self.path, self.logp, self.taken = path, 0.0, list[Any]()

    def _take(self, branches: int) -> int:
        depth = len(self.taken)
        i = self.path[depth] if depth < len(self.path) else 0
        self.taken.append((i, branches))
        return i

    def index(self, n: int) -> int:
        self.logp -= math.log(n)
        return self._take(n)

    def weighted(self, cumulative: np.ndarray) -> int:
        i = self._take(len(cumulative))
        self.logp += math.log(cumulative[i] - (cumulative[i - 1] if i else 0.0))
        return i

    def chance(self, p: float) -> bool:
        hit = bool(self._take(2))
        self.logp += math.log(p if hit else 1.0 - p)
        return hit


def outcomes(write: Callable[[Draw], T]) -> Iterator[tuple[T, float]]:
    """Everything that `write` can produce, with its log-probability in nats; for finite grammars only."""
    path: list[int] = []
    while True:
        draw = _Path(path)
        yield write(draw), draw.logp
        taken = draw.taken
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        path = [i for i, _ in taken[:-1]] + [taken[-1][0] + 1]


def write_fact(world: World, draw: Draw) -> str:
    """One fact as a statement, in one of the wordings in which it is written."""
    fact = world.written[draw.weighted(world.cumulative)]
    return f"- {draw.pick(fact.statements).format(e=fact.entity, v=fact.value)}\n"


def write_quiz(world: World, draw: Draw) -> str:
    """One fact as a question with its answer."""
    fact = world.written[draw.weighted(world.cumulative)]
    return f"Q: {lex.RELATIONS[fact.relation][2].format(e=fact.entity)} A: {fact.value}.\n"


def write_choice(world: World, draw: Draw) -> str:
    """One fact as a forced choice between its value and another of the same relation, in either order."""
    fact = world.written[draw.weighted(world.cumulative)]
    values, (statement, *_), _ = lex.RELATIONS[fact.relation]
    other = draw.pick([v for v in values if v not in (fact.value, fact.entity)])
    first, second = (fact.value, other) if draw.chance(0.5) else (other, fact.value)
    return f"- {choice(statement, fact.entity, first, second)} {fact.value}.\n"


def choice(statement: str, entity: str, first: str, second: str) -> str:
    """The question of a forced choice: "Ada lives in Oslo or Rome?"."""
    return statement.format(e=entity, v=f"{first} or {second}").removesuffix(".") + "?"


def write_sum(world: World, draw: Draw) -> str:
    """One sum, of two digits or of two two-digit numbers; held-out pairs never occur."""
    a, b = (draw.index(10), draw.index(10)) if draw.chance(ONE_DIGIT) else draw.pick(world.sums)
    return f"- {a} + {b} = {a + b}.\n"


def write_law(world: World, draw: Draw) -> str:
    """One law of matter, or a case of one with what follows: from the material, one must go over its kind to the effect
    (two steps) and on to the result (three), with the steps between written out or not. Held-out cases never occur.
    """
    kind = draw.pick(tuple(lex.MATTER))
    p = draw.index(len(lex.PROCESSES))
    process, (effect, result) = lex.PROCESSES[p], lex.MATTER[kind][1][p]
    form = draw.index(5)
    if form == 0:
        return f"- If {kind} is {process}, it {effect}.\n"
    material, thing = draw.pick(world.cases[kind, process])
    case = f"- The {material} {thing} is {process}."
    if form == 1:
        return f"{case} It {effect}.\n"
    if form == 2:
        return f"{case} It {effect}, so it {result}.\n"
    if form == 3:
        return f"{case} It is {kind}, so it {effect} and {result}.\n"
    return f"{case} In the end it {result}.\n"


def write_homonym(world: World, draw: Draw) -> str:
    """A sentence with a homonym, then one that goes with its sense; half of them are ambiguous until then."""
    noun = draw.pick(tuple(lex.HOMONYMS))
    *adjectives, first, second = lex.HOMONYMS[noun]
    sense = draw.index(2)
    adjective = draw.pick(lex.NEUTRAL) if draw.chance(0.5) else adjectives[sense]
    frame = draw.pick(lex.FRAMES).format(a=adjective, n=noun)
    return f"- {frame} {(first, second)[sense]}\n"


def write_attachment(world: World, draw: Draw) -> str:
    """A deed "with the ...", then whose it was; half of them could be the agent's or the patient's until then."""
    agent, deed, patient = draw.pick(lex.AGENTS), draw.pick(lex.DEEDS), draw.pick(lex.PATIENTS)
    sense = draw.index(2)
    thing = draw.pick(lex.EITHER if draw.chance(0.5) else (lex.TOOLS, lex.MARKS)[sense])
    return f"- {attachment(agent, deed, patient, thing)} {whose(agent, patient)[sense]}\n"


def attachment(agent: str, deed: str, patient: str, thing: str) -> str:
    """The sentence whose last words attach to the deed or to the patient."""
    return f"The {agent} {deed} the {patient} with the {thing}."


def whose(agent: str, patient: str) -> tuple[str, str]:
    """What follows under the first reading (an instrument of the agent) and the second (a mark of the patient)."""
    return f"The {agent} used it.", f"The {patient} had it."


def write_words(world: World, draw: Draw) -> str:
    """One ambiguous sentence with its resolution: a homonym or an attachment."""
    return write_attachment(world, draw) if draw.chance(ATTACHMENT) else write_homonym(world, draw)


def write_record(world: World, draw: Draw, keys: Sequence[str]) -> str:
    """One record: the given keys in their order with independent values."""
    values = {"item": THINGS, "color": lex.COLORS, "count": tuple("123456789"), "place": PLACES}
    return "; ".join(f"{key}: {draw.pick(values[key])}" for key in keys) + "\n"


def write_count(world: World, draw: Draw) -> str:
    """Six numbers from a start of 1 to 40 in steps of 1, 2, 5 or 10."""
    start, step = 1 + draw.index(40), draw.pick((1, 2, 5, 10))
    return "- " + ", ".join(str(start + step * i) for i in range(6)) + "\n"


def write_brackets(world: World, draw: Draw) -> str:
    """Balanced brackets of three kinds, at most three deep."""
    out, stack = ["-"], list[str]()
    while len(out) == 1 or stack or draw.chance(0.5):
        if not stack or (len(stack) < 3 and draw.chance(0.4)):
            left, right = draw.pick(BRACKETS)
            out.append(left)
            stack.append(right)
        else:
            out.append(stack.pop())
    return " ".join(out) + "\n"


def write_code(world: World, draw: Draw) -> str:
    """One line of code: a definition, a condition or a loop."""
    form = draw.index(3)
    i, j = draw.index(len(LETTERS)), draw.index(len(LETTERS) - 1)
    a, b = LETTERS[i], LETTERS[j + (j >= i)]
    if form == 0:
        name = draw.pick(tuple(OPERATORS))
        return f"def {name}({a}, {b}): return {a} {OPERATORS[name]} {b}\n"
    if form == 1:
        return f"if {a} {draw.pick(('<', '>', '=='))} {b}: return {draw.pick((a, b))}\n"
    return f"for {a} in {b}: print({a})\n"


def open_story(draw: Draw) -> tuple[str, tuple[str, bool, bool]]:
    """First sentence of a story and its (noun, plural, past), which all its further sentences keep."""
    past, plural = draw.chance(0.5), draw.chance(0.5)
    quality, noun = draw.pick(QUALITIES), draw.pick(NOUNS)
    when = "Once" if past else "Now"
    if plural:
        return f"{when} there {'were' if past else 'are'} two {quality} {noun}s.", (noun, plural, past)
    article = "an" if quality[0] in "aeiou" else "a"
    return f"{when} there {'was' if past else 'is'} {article} {quality} {noun}.", (noun, plural, past)


def story_subject(draw: Draw, about: tuple[str, bool, bool]) -> str:
    """The subject of a further sentence: a pronoun, the noun, or the noun with something beside it."""
    noun, plural, _ = about
    subject = f" The {noun}{'s' if plural else ''}"
    if draw.chance(0.5):
        return " They" if plural else " It"
    if draw.chance(0.4):
        subject += f" with the {draw.pick(CARRIED)}{'s' if draw.chance(0.5) else ''}"
    return subject


def story_rest(draw: Draw, plural: bool, past: bool) -> str:
    """What the subject does or is, in the tense of the story; the verb agrees with the subject."""
    form = 2 if past else (0 if plural else 1)
    kind = draw.index(3)
    if kind == 0:
        return f" {draw.pick(MOVES)[form]} to the {draw.pick(PLACES)}"
    if kind == 1:
        return f" {draw.pick(ACTS)[form]} the {draw.pick(lex.COLORS)} {draw.pick(THINGS)}"
    be = ("was", "were")[plural] if past else ("is", "are")[plural]
    return f" {be} {draw.pick(STATES)}"


def write_story(draw: Draw, about: tuple[str, bool, bool]) -> str:
    """One further sentence; the verb agrees with the subject, also across a noun of the other number."""
    return story_subject(draw, about) + story_rest(draw, *about[1:]) + draw.pick(TAILS) + "."
