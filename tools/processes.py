"""Hidden Markov processes whose optimal belief state is known exactly: what an ideal reader of a sequence believes.

A process is a stack of matrices, one a token: `transitions[x, i, j] = P(token x, next state j | state i)`. Everything
else follows from it without sampling. Arrays only; the models trained on these processes are in `process_models`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from phaselens.errors import InputError

ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Process:
    """A stationary hidden Markov process over tokens 0..V-1 and states 0..K-1.

    `transitions` float64 [V, K, K] (probability); summed over tokens it is a stochastic matrix. Raises InputError where
    it is not, or where the stationary distribution is not unique.
    """

    name: str
    transitions: np.ndarray

    def __post_init__(self) -> None:
        given = np.asarray(self.transitions)
        if given.ndim != 3 or given.shape[1] != given.shape[2]:
            raise InputError(f"{self.name}: transitions are [token, state, state]; got shape {given.shape}.")
        if (given < 0).any() or np.abs(given.sum(axis=(0, 2)) - 1).max() > ROUNDING:
            raise InputError(f"{self.name}: the transitions out of each state are probabilities that sum to 1.")
        if np.sum(np.abs(np.linalg.eigvals(given.sum(axis=0)) - 1) < ROUNDING) != 1:
            raise InputError(f"{self.name}: the chain of states falls apart, so it has no one stationary distribution.")

    @property
    def n_tokens(self) -> int:
        """Number of tokens V."""
        return self.transitions.shape[0]

    @property
    def n_states(self) -> int:
        """Number of states K."""
        return self.transitions.shape[1]

    @cached_property
    def stationary(self) -> np.ndarray:
        """The distribution over states that a step leaves as it is (probability): [K]."""
        step = self.transitions.sum(axis=0)
        values, vectors = np.linalg.eig(step.T)
        found = np.real(vectors[:, np.abs(values - 1).argmin()])
        return found / found.sum()

    def beliefs(self, tokens: np.ndarray) -> np.ndarray:
        """What is known of the state after each token, from the stationary distribution on (probability).

        `b' = b T_x / |b T_x|_1`. Shapes: tokens int [..., n] -> [..., n, K]. NaN: from a token of probability 0 on.
        Source: Shai et al. 2024, "Transformers represent belief state geometry in their residual stream".
        """
        tokens = self._checked(tokens)
        out = np.empty((*tokens.shape, self.n_states))
        now = np.broadcast_to(self.stationary, (*tokens.shape[:-1], self.n_states))
        for s in range(tokens.shape[-1]):
            moved = np.einsum("...i,...ij->...j", now, self.transitions[tokens[..., s]])
            total = moved.sum(axis=-1, keepdims=True)
            now = np.divide(moved, total, out=np.full(moved.shape, np.nan), where=total > 0)
            out[..., s, :] = now
        return out

    def next_token(self, beliefs: np.ndarray) -> np.ndarray:
        """Exact distribution of the next token under each belief (probability): [..., K] -> [..., V]."""
        return np.asarray(beliefs) @ self.transitions.sum(axis=2).T

    def log_probability(self, tokens: np.ndarray) -> np.ndarray:
        """Log probability of each token given those before it (nats): int [..., n] -> [..., n]."""
        tokens = self._checked(tokens)
        start = np.broadcast_to(self.stationary, (*tokens.shape[:-1], 1, self.n_states))
        before = np.concatenate([start, self.beliefs(tokens)[..., :-1, :]], axis=-2)
        chance = np.take_along_axis(self.next_token(before), tokens[..., None], axis=-1)[..., 0]
        with np.errstate(divide="ignore"):
            return np.log(chance)

    def sample(self, n: int, length: int, generator: np.random.Generator) -> np.ndarray:
        """Sequences from the stationary start (token ids): int64 [n, length]."""
        state = generator.choice(self.n_states, size=n, p=self.stationary)
        out = np.empty((n, length), np.int64)
        flat = np.moveaxis(self.transitions, 0, 1).reshape(self.n_states, -1).cumsum(axis=1)
        for s in range(length):
            # The last bin takes what rounding leaves of a sum of 1.
            drawn = (generator.random((n, 1)) >= flat[state][:, :-1]).sum(axis=1)
            out[:, s], state = drawn // self.n_states, drawn % self.n_states
        return out

    def words(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Every sequence of this length that can occur, int64 [word, length], and its probability [word]."""
        tokens, weight = np.zeros((1, 0), np.int64), self.stationary[None]
        for _ in range(length):
            grown = np.einsum("wi,xij->wxj", weight, self.transitions)
            kept = grown.sum(axis=-1) > 0
            row, token = np.nonzero(kept)
            tokens, weight = np.concatenate([tokens[row], token[:, None]], axis=1), grown[kept]
        return tokens, weight.sum(axis=-1)

    def entropy_bounds(self, length: int) -> tuple[float, float]:
        """What the entropy rate lies between (nats per token), from all words of this length.

        `H(X_n | X_1..X_n-1, S_0) <= h <= H(X_n | X_1..X_n-1)`, both monotone in n. Source: Cover and Thomas 2006,
        section 4.5.
        """
        if length < 1:
            raise InputError(f"words have at least one token; got {length}.")
        starts = np.eye(self.n_states)
        known = [self._from(start, length) - self._from(start, length - 1) for start in starts]
        unknown = self._from(self.stationary, length) - self._from(self.stationary, length - 1)
        return float(self.stationary @ np.array(known)), float(unknown)

    def _from(self, start: np.ndarray, length: int) -> float:
        """Entropy of words of a length from a distribution over states (nats)."""
        weight = start[None]
        for _ in range(length):
            grown = np.einsum("wi,xij->wxj", weight, self.transitions).reshape(-1, self.n_states)
            weight = grown[grown.sum(axis=-1) > 0]
        chance = weight.sum(axis=-1)
        return float(-(chance * np.log(chance)).sum())

    def _checked(self, tokens: np.ndarray) -> np.ndarray:
        tokens = np.asarray(tokens)
        if tokens.size and not (0 <= tokens.min() and tokens.max() < self.n_tokens):
            raise InputError(f"{self.name} has tokens 0 to {self.n_tokens - 1}; got {tokens.min()} to {tokens.max()}.")
        return tokens


def mess3(x: float = 0.05, a: float = 0.85) -> Process:
    """Three states that stay with `1 - 2x` and move to each other with `x`, told by their token with `a`.

    A token says the state that is entered: `T_k[i, j] = e_kj m_ij` with `e_kk = a`, `(1 - a) / 2` else. The next-token
    distribution is an invertible linear map of the belief, so a model that predicts well has to keep the belief.
    Source: Marzen and Crutchfield 2017.
    """
    move = np.full((3, 3), x) + (1 - 3 * x) * np.eye(3)
    tell = np.full((3, 3), (1 - a) / 2) + (a - (1 - a) / 2) * np.eye(3)
    return Process("mess3", tell[:, None, :] * move[None])


def rrxor() -> Process:
    """Two random bits, then their exclusive or, for ever, read from an unknown place on: five states.

    State 0 begins, 1 and 2 hold the first bit, 3 and 4 the exclusive or to come (0 or 1). Beliefs of one next-token
    distribution differ, so the last layer of a model need not keep them apart.
    Source: Crutchfield et al. 2016; Shai et al. 2024.
    """
    moves = np.zeros((2, 5, 5))
    for bit in (0, 1):
        moves[bit, 0, 1 + bit] = 0.5
        for first in (0, 1):
            moves[bit, 1 + first, 3 + (first ^ bit)] = 0.5
        moves[bit, 3 + bit, 0] = 1.0
    return Process("rrxor", moves)


PROCESSES = {"mess3": mess3, "rrxor": rrxor}
