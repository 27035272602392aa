"""The exact distribution of the next token under the generator, at every position of a document.

Each kind of document is a small machine. A state has finitely many texts, each with its probability and the state it
leads to; the texts of a state, encoded, are a tree of tokens whose nodes carry probability mass. What may come next is
read off the tree, and where a text may end and another begin (a story, the end of a document) the trees are mixed.
Texts and probabilities are those of the writers in `items`, enumerated; only brackets, which have no end, are written
down as a grammar, with the open brackets as state.
"""

import math
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from phaselens.organisms.corpora import _UNIT, KINDS, LEAST, MOST, NEW_STORY, STOP
from phaselens.organisms.items import BRACKETS, KEYS, TAILS, open_story, outcomes, story_rest, story_subject, write_record
from phaselens.organisms.tokens import BOS, EOS
from phaselens.organisms.world import World

State = Hashable
Options = list[tuple[str, float, State]]
END = ("end",)


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
                node = self._child(node, token)
                self.mass[node] += probability
            reached = self.leaves.setdefault(node, {})
            reached[state] = reached.get(state, 0.0) + probability

    def _child(self, node: int, token: int) -> int:
        if token not in self.children[node]:
            self.children[node][token] = len(self.children)
            self.children.append({})
            self.mass.append(0.0)
        return self.children[node][token]


@dataclass(frozen=True)
class NextToken:
    """The ids of a document, and at each position what the generator says of the token there, given those before.

    `entropy` is that of its distribution and `logp` the log-probability of the token that stands there, in nats, each
    with one value a token. NaN at position 0 (begin of text is put, not drawn). Where the generator cannot have written
    a token, its `logp` is minus infinity, everything after it is NaN, and `undefined` says so; else `undefined` is "".
    """

    token_ids: np.ndarray
    entropy: np.ndarray
    logp: np.ndarray
    undefined: str = ""


class Generator:
    """The generator of documents as a model of tokens: distributions that a perfect language model would give."""

    def __init__(self, world: World, tokenizer: Tokenizer):
        self.world = world
        self._encode = tokenizer.encode_batch
        self._trees: dict[State, _Tree] = {}

    def distributions(self, ids: list[int]) -> Iterator[dict[int, float]]:
        """For each of the ids (begin of text first), the distribution of the token after it; stops where it has none."""
        belief = {(("header",), 0): 1.0}
        yield self._next(belief)[0]
        for token in ids[1:]:
            chances, after = self._next(belief)
            if token not in chances or token == EOS:
                return
            belief = {place: p / chances[token] for place, p in after[token].items()}
            yield self._next(belief)[0]

    def _next(self, belief: dict[tuple[State, int], float]) -> tuple[dict[int, float], dict]:
        """Distribution of the next token, and for each token the (unnormalised) belief after it."""
        chances: dict[int, float] = {}
        after: dict[int, dict[tuple[State, int], float]] = {}
        todo = list(belief.items())
        while todo:
            (state, node), weight = todo.pop()
            if state == END:
                chances[EOS] = chances.get(EOS, 0.0) + weight
                continue
            tree = self._tree(state)
            share = weight / tree.mass[node]
            for token, child in tree.children[node].items():
                p = share * tree.mass[child]
                chances[token] = chances.get(token, 0.0) + p
                place = after.setdefault(token, {})
                place[state, child] = place.get((state, child), 0.0) + p
            todo += [((following, 0), share * p) for following, p in tree.leaves.get(node, {}).items()]
        return chances, after

    def _tree(self, state: State) -> _Tree:
        if state not in self._trees:
            options = _options(self.world, state)
            encodings = self._encode([text for text, _, _ in options], add_special_tokens=False)
            coded = [(e.ids, p, following) for e, (_, p, following) in zip(encodings, options, strict=True)]
            self._trees[state] = _Tree(coded)
        return self._trees[state]
