"""The exact distribution of the next token under the generator, at every position of a document.

Each kind of document is a small machine. A state has finitely many texts, each with its probability and the state it
leads to; the texts of a state, encoded, are a tree of tokens whose nodes carry probability mass. What may come next is
read off the tree, and where a text may end and another begin (a story, the end of a document) the trees are mixed.
Texts and probabilities are those of the writers in `items`, enumerated; only brackets, which have no end, are written
down as a grammar, with the open brackets as state.

Tokens of a text do not depend on what stands before it: texts begin and end where the tokenizer splits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from phaselens.organisms.corpora import KINDS, LEAST, MOST, NEW_STORY, STOP, UNIT
from phaselens.organisms.tokens import BOS, EOS
from phaselens.organisms.world import World, build_world
from phaselens.organisms.world_sentences import (
    BRACKETS,
    KEYS,
    TAILS,
    Draw,
    open_story,
    outcomes,
    story_rest,
    story_subject,
    write_record,
)

# (name of the state, what it depends on); DONE is the end of an item, before the state in its second part
State = tuple[str, Any]
Options = list[tuple[str, float, State]]
Place = tuple[State, int]
DONE, END, SAME = "done", ("end of text", None), "the same"


class _Tree:
    """The encoded texts of a state: per node its children by token, its mass, and the states reached there."""

    def __init__(self, coded: list[tuple[list[int], float, State]]):
        self.children: list[dict[int, int]] = [{}]
        self.mass: list[float] = [0.0]
        self.leaves: dict[int, dict[State, float]] = {}
        for ids, probability, state in coded:
            node = 0
            self.mass[0] += probability
            for token in ids:
                child = self.children[node].get(token)
                if child is None:
                    child = self.children[node][token] = len(self.children)
                    self.children.append({})
                    self.mass.append(0.0)
                node = child
                self.mass[node] += probability
            reached = self.leaves.setdefault(node, {})
            reached[state] = reached.get(state, 0.0) + probability


def _enumerate(write: Callable[[Draw], Any]) -> Iterator[tuple[Any, float]]:
    for text, logp in outcomes(write):
        yield text, math.exp(logp)


def _record_options(world: World, order: tuple[str, ...], at: int) -> Options:
    """One cell of a record: of the key at this place, or of any key left where the order is not set yet."""
    keys = order[at : at + 1] or tuple(key for key in KEYS if key not in order)
    options = []
    for key in keys:
        known = order if at < len(order) else (*order, key)
        state = (DONE, ("record", (known, 0))) if at == 2 else ("record", (known, at + 1))
        for cell, p in _enumerate(lambda draw, key=key: write_record(world, draw, [key])):  # type: ignore[misc]
            text = ("; " if at else "") + (cell if at == 2 else cell.removesuffix("\n"))
            options.append((text, p / len(keys), state))
    return options


def _story_options(name: str, about: Any) -> Options:
    """Sentences of a story in three parts; `SAME` stands for what the story is about, which the parts share."""
    if name == "opening":
        return [(text, p, (DONE, ("story", about))) for (text, about), p in _enumerate(open_story)]
    if name == "story":
        subjects = _enumerate(lambda draw: story_subject(draw, about))
        anew = [("\n" + text, NEW_STORY * p, state) for text, p, state in _story_options("opening", None)]
        return anew + [(text, (1 - NEW_STORY) * p, ("rest", SAME)) for text, p in subjects]
    if name == "rest":
        return [(text, p, ("tail", SAME)) for text, p in _enumerate(lambda draw: story_rest(draw, *about))]
    return [(f"{tail}.", 1 / len(TAILS), (DONE, ("story", SAME))) for tail in TAILS]


def _bracket_options(stack: str) -> Options:
    """Brackets with those in `stack` open, by their closing signs; see `items.write_brackets`."""
    opened = [(f" {left}", 1 / len(BRACKETS), ("brackets", stack + right)) for left, right in BRACKETS]
    if not stack:
        return [("\n", 0.5, (DONE, ("item", "Brackets")))] + [(text, 0.5 * p, state) for text, p, state in opened]
    share = 0.4 if len(stack) < 3 else 0.0
    closed = (f" {stack[-1]}", 1 - share, ("brackets", stack[:-1]))
    return [closed] + [(text, share * p, state) for text, p, state in opened if share]


def _options(world: World, state: State) -> Options:
    """Every text of a state with its probability and the state after it."""
    name, about = state
    if name == "header":
        starts = {"Story": ("opening", None), "Records": ("record", ((), 0))}
        return [(f"{kind}\n", row[0], starts.get(kind, ("item", kind))) for kind, row in KINDS.items()]
    if name == "record":
        return _record_options(world, *about)
    if name == "brackets":
        return _bracket_options(about)
    if state == ("item", "Brackets"):
        return [(f"- {left}", 1 / len(BRACKETS), ("brackets", right)) for left, right in BRACKETS]
    if name == "item":
        writer = KINDS[about][2]
        return [(text, p, (DONE, state)) for text, p in _enumerate(lambda draw: writer(world, draw))]
    return _story_options(name, about)


@dataclass(frozen=True)
class NextToken:
    """The ids of a document, and at each position what the generator says of the token there, given those before.

    `entropy` is that of its distribution and `logp` the log-probability of the token that stands there, in nats, with
    one value a token. NaN at position 0 (begin of text is put, not drawn). Where the generator cannot have written a
    token, its `logp` is minus infinity, everything after it is NaN, and `undefined` says so; else `undefined` is "".
    """

    token_ids: np.ndarray
    entropy: np.ndarray
    logp: np.ndarray
    undefined: str = ""


class Generator:
    """The generator of documents as a model of tokens: what a perfect language model of this world would say."""

    def __init__(self, world: World, tokenizer: Tokenizer):
        self.world = world
        self.tokenizer = tokenizer
        self._trees: dict[State, _Tree] = {}
        self._known: dict[tuple[Place, float], tuple[dict[int, float], float]] = {}

    def distributions(self, text: str) -> Iterator[dict[int, float]]:
        """The distribution {token: probability} after begin of text and after every token of the text.

        Stops early where the generator cannot have written the text.
        """
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        stops = self._stops(text, [end for _, end in encoding.offsets])
        belief: dict[Place, float] = {(("header", None), 0): 1.0}
        for token, stop in zip([*encoding.ids, None], stops, strict=True):
            chances, _ = self._chances(belief, stop)
            yield chances
            if token is None or token not in chances:
                return
            belief = self._after(belief, stop, token, chances[token])

    def next_token(self, text: str, *, end: bool = True) -> NextToken:
        """Entropy and log-probability at every position of a document, with its end of text unless `end` is false."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        ids = [BOS, *encoding.ids] + [EOS] * end
        stops = self._stops(text, [at for _, at in encoding.offsets])
        entropy, logp = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        belief: dict[Place, float] = {(("header", None), 0): 1.0}
        for i, (token, stop) in enumerate(zip(ids[1:], stops, strict=False), start=1):
            chances, entropy[i] = self._chances(belief, stop)
            if token not in chances:
                logp[i] = -np.inf
                piece = "end of text" if token == EOS else repr(self.tokenizer.decode([token]))
                reason = f"the generator never writes {piece} at position {i}; nothing is defined after it"
                return NextToken(np.array(ids), entropy, logp, reason)
            logp[i] = math.log(chances[token])
            if token != EOS:
                belief = self._after(belief, stop, token, chances[token])
        return NextToken(np.array(ids), entropy, logp)

    def _stops(self, text: str, ends: Sequence[int]) -> list[float]:
        """Probability that the document ends before each token and after the last, should an item have ended there."""
        header = text.find("\n") + 1
        signs = [m.end() for m in UNIT.finditer(text, header)]
        units = np.searchsorted(signs, [0, *ends], side="right")
        return [1.0 if n >= MOST else STOP if n >= LEAST else 0.0 for n in units]

    def _chances(self, belief: dict[Place, float], stop: float) -> tuple[dict[int, float], float]:
        """Distribution of the next token and its entropy."""
        place = next(iter(belief)) if len(belief) == 1 else None
        if place and (place, stop) in self._known:
            return self._known[place, stop]
        chances: dict[int, float] = {}
        for (state, node), weight in self._open(belief, stop):
            if state == END:
                chances[EOS] = chances.get(EOS, 0.0) + weight
                continue
            tree = self._tree(state)
            for token, child in tree.children[node].items():
                chances[token] = chances.get(token, 0.0) + weight * tree.mass[child] / tree.mass[node]
        p = np.array([value for value in chances.values() if value > 0])
        result = chances, max(0.0, float(-(p * np.log(p)).sum()))
        if place:
            self._known[place, stop] = result
        return result

    def _open(self, belief: dict[Place, float], stop: float) -> Iterator[tuple[Place, float]]:
        """The places from which the next token starts: texts that may have ended lead on to the states after them.

        The weight of a place is the probability to be there and to go on within its tree.
        """
        todo = list(belief.items())
        while todo:
            (state, node), weight = todo.pop()
            tree = self._tree(state)
            if tree.children[node]:
                yield (state, node), weight
            for (name, about), p in tree.leaves.get(node, {}).items():
                share = weight * p / tree.mass[node]
                about = _filled(about, state)
                if name != DONE:
                    todo.append((((name, about), 0), share))
                    continue
                if stop > 0:
                    yield (END, 0), share * stop
                if stop < 1:
                    todo.append(((about, 0), share * (1 - stop)))

    def _after(self, belief: dict[Place, float], stop: float, token: int, chance: float) -> dict[Place, float]:
        """The belief after a token of this probability."""
        after: dict[Place, float] = {}
        for (state, node), weight in self._open(belief, stop):
            if state != END and (child := self._tree(state).children[node].get(token)):
                tree = self._tree(state)
                p = weight * tree.mass[child] / tree.mass[node] / chance
                after[state, child] = after.get((state, child), 0.0) + p
        return after

    def _tree(self, state: State) -> _Tree:
        name, about = state
        state = (name, about[1:] if name == "rest" else None if name == "tail" else about)
        if state not in self._trees:
            options = _options(self.world, state)
            encodings = self.tokenizer.encode_batch([text for text, _, _ in options], add_special_tokens=False)
            coded = [(e.ids, p, following) for e, (_, p, following) in zip(encodings, options, strict=True)]
            self._trees[state] = _Tree(coded)
        return self._trees[state]


def _filled(about: Any, state: State) -> Any:
    """What a state depends on, with `SAME` replaced by what the state before it did."""
    return state[1] if about == SAME else (about[0], state[1]) if about == ("story", SAME) else about


@lru_cache(maxsize=8)
def _generator(seed: int, tokenizer: str) -> Generator:
    return Generator(build_world(seed), Tokenizer.from_str(tokenizer))


def generator(world: World, tokenizer: PreTrainedTokenizerFast) -> Generator:
    """The generator of this world as a model of this tokenizer's tokens; kept for the next call."""
    return _generator(world.seed, tokenizer.backend_tokenizer.to_str())


def next_token(world: World, tokenizer: PreTrainedTokenizerFast, text: str, *, end: bool = True) -> NextToken:
    """What the generator says of every token of a document (or, with `end=False`, of its beginning), in nats.

    A beginning must end where a token of the whole document does.
    """
    return generator(world, tokenizer).next_token(text, end=end)
