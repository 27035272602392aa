"""Chains of states: along depth at a fixed step, or along generation at a fixed layer; the two are never pooled.

A chain is the last axis of an integer array of states 0..k-1, -1 where there is none. Counts are made for all chains
at once; pool them by adding, resample them by weights over prompts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError

AT_ONCE = 8192  # chains whose counts are in memory together


def depth_chains(states: np.ndarray) -> np.ndarray:
    """Chains along depth: [..., step, layer 0..L] -> [..., step, layer 1..L]; the embedding is no block's output."""
    return np.asarray(states)[..., 1:]


def generation_chains(states: np.ndarray) -> np.ndarray:
    """Chains along generation: [..., step, layer] -> [..., layer, step]."""
    return np.swapaxes(np.asarray(states), -1, -2)


def transition_counts(chains: np.ndarray, n_states: int) -> np.ndarray:
    """How often each state is followed by each (counts), int64 [..., k, k]; pairs with an undefined end left out.

    Shapes: chains int [..., n]. Raises InputError for a state that is not below n_states.
    """
    chains = _checked(chains, n_states)
    wide = n_states + 1
    flat = chains.reshape(-1, chains.shape[-1]).astype(np.int64) + 1
    code = flat[:, :-1] * wide + flat[:, 1:] + wide * wide * np.arange(len(flat))[:, None]
    counts = np.bincount(code.ravel(), minlength=len(flat) * wide * wide)
    return counts.reshape(*chains.shape[:-1], wide, wide)[..., 1:, 1:]


def by_run(counted: Callable[[np.ndarray, int], np.ndarray], chains: np.ndarray, n_states: int) -> np.ndarray:
    """`counted(chains, n_states)` summed over the chains of each run, a few runs in memory at a time.

    Shapes: chains int [run, chain, place]; counted gives [run, chain, ...]; returns [run, ...].
    """
    return np.concatenate([counted(some, n_states).sum(axis=1) for some in few_runs(chains)])


def few_runs(chains: np.ndarray) -> Iterator[np.ndarray]:
    """Parts of chains [run, chain, place] of as many runs as have `AT_ONCE` chains, so that counts stay small."""
    size = max(1, AT_ONCE // max(chains.shape[1], 1))
    yield from (chains[i : i + size] for i in range(0, max(len(chains), 1), size))


def transition_matrix(counts: np.ndarray) -> np.ndarray:
    """`P_ij = n_ij / sum_j n_ij` (probability), [..., k, k]. NaN: rows of a state that is never left."""
    counts = np.asarray(counts, float)
    row = counts.sum(axis=-1, keepdims=True)
    return np.divide(counts, row, out=np.full(counts.shape, np.nan), where=row > 0)


def expected_counts(chains: np.ndarray, n_states: int, place: np.ndarray | None = None) -> np.ndarray:
    """Mean of `transition_counts` over all orders of the defined states of each chain (counts), float64 [..., k, k].

    `E n_ij = a n_i (n_j - [i = j]) / (m (m-1))` for m defined states, n_i of them in state i, and a neighbouring
    pairs of defined places: the exact value that 1,000 permutations estimate. 0 where m < 2.
    With `place` (int, broadcast to chains) states change places only with those at the same one (the place in a word,
    say): pairs of unlike places p, q then give `a_pq n_pi n_qj / (m_p m_q)`, and the sum is over all pairs of places.
    """
    chains = _checked(chains, n_states)
    if place is not None:
        place = np.broadcast_to(place, chains.shape)
        kinds, none = np.unique(place), np.zeros((*chains.shape[:-1], n_states, n_states))
        return sum((_expected(chains, n_states, place, p, q) for p in kinds for q in kinds), none)
    return _expected(chains, n_states, np.zeros(chains.shape, np.int8), 0, 0)


def _expected(chains: np.ndarray, n_states: int, place: np.ndarray, p: int, q: int) -> np.ndarray:
    """The part of `expected_counts` in neighbours of which the first is at place p and the second at q."""
    at = [(chains >= 0) & (place == here) for here in (p, q)]
    pairs = (at[0][..., :-1] & at[1][..., 1:]).sum(axis=-1)[..., None, None]
    of = np.arange(n_states)
    n, then = (((chains[..., None] == of) & seen[..., None]).sum(axis=-2).astype(float) for seen in at)
    m, others = (seen.sum(axis=-1)[..., None, None].astype(float) for seen in at)
    product = n[..., :, None] * then[..., None, :] - (p == q) * n[..., None] * np.eye(n_states)
    ways = m * (others - (p == q))
    return np.divide(pairs * product, ways, out=np.zeros(product.shape), where=ways > 0)


def self_transition_excess(
    chains: np.ndarray, state: int, n_states: int, weights: np.ndarray | None = None, *, place: np.ndarray | None = None
) -> np.ndarray:
    """Self-transition of a state minus its mean over orders (difference of probabilities), [...].

    `sum n_ii / sum n_i. - sum E n_ii / sum E n_i.`, sums over chains (of a unit, weighted in a resample). Below 0: the
    state is left sooner than chance leaves it (transient); above 0: it lasts.
    Shapes: chains [unit, ..., n] (all chains of a unit count together) -> scalar, or [n_boot] with weights
    [n_boot, unit]; `place` as in `expected_counts`. NaN: the state is never left. Keeps: how often each state occurs
    in a chain.
    """
    chains = _checked(chains, n_states)
    w = np.ones((1, len(chains))) if weights is None else np.asarray(weights, float)
    sums = []
    for counts in (transition_counts(chains, n_states), expected_counts(chains, n_states, place)):
        per_unit = counts.reshape(len(chains), -1, n_states, n_states).sum(axis=1)[:, state]
        own, all_ = w @ per_unit[:, state], w @ per_unit.sum(axis=-1)
        sums.append(np.divide(own, all_, out=np.full(len(w), np.nan), where=all_ > 0))
    excess = sums[0] - sums[1]
    return excess if weights is not None else excess[0]


@dataclass(frozen=True, eq=False)
class Dwell:
    """How long states last: `counts` int64 [..., k, n+1] of whole visits by length (steps).

    `cut` [..., k] counts the visits that begin or end with the chain, whose length is not known.
    """

    counts: np.ndarray
    cut: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean length of the whole visits (steps), [..., k]; NaN: none. Long visits are cut more often than short."""
        visits = self.counts.sum(axis=-1)
        total = (self.counts * np.arange(self.counts.shape[-1])).sum(axis=-1)
        return np.divide(total, visits, out=np.full(visits.shape, np.nan), where=visits > 0)


def dwell_times(chains: np.ndarray, n_states: int) -> Dwell:
    """Lengths of the visits to each state (steps), chains [..., n]; an undefined place ends a visit and cuts it."""
    chains = _checked(chains, n_states)
    n = chains.shape[-1]
    flat = chains.reshape(-1, n)
    ends = np.full((len(flat), 1), -2)
    edged = np.concatenate([ends, flat, ends], axis=1)
    row, at = np.nonzero((edged[:, 1:] != edged[:, :-1])[:, :-1])  # at: first place of a visit
    state = flat[row, at]
    last_of_row = np.r_[row[1:] != row[:-1], True]
    stop = np.asarray(np.where(last_of_row, n, np.r_[at[1:], n]))
    cut = (edged[row, at] < 0) | (edged[row, stop + 1] < 0)
    keep = state >= 0
    code = (row * n_states + state) * (n + 1) + (stop - at)
    whole = np.bincount(code[keep & ~cut], minlength=len(flat) * n_states * (n + 1))
    cuts = np.bincount((row * n_states + state)[keep & cut], minlength=len(flat) * n_states)
    shape = (*chains.shape[:-1], n_states)
    return Dwell(whole.reshape(*shape, n + 1), cuts.reshape(shape))


def collapse_runs(chains: np.ndarray) -> np.ndarray:
    """Each chain with repeats of a state written once, packed to the left, -1 behind: [..., n] -> int8 [..., n].

    Undefined places are dropped only at the ends; one inside stays as a single -1, so no motif reaches over it.
    """
    chains = np.asarray(chains)
    n = chains.shape[-1]
    flat = chains.reshape(-1, n)
    first = np.ones(flat.shape, bool)
    first[:, 1:] = flat[:, 1:] != flat[:, :-1]
    started = np.maximum.accumulate(flat >= 0, axis=1)
    keep = first & started
    place = np.cumsum(keep, axis=1) - 1
    out = np.full(flat.shape, -1, np.int8)
    row, at = np.nonzero(keep)
    out[row, place[row, at]] = flat[row, at]
    return out.reshape(chains.shape)


def motif_counts(chains: np.ndarray, n_states: int, length: int) -> np.ndarray:
    """How often each word of `length` states occurs in the run-length-collapsed chain (counts), int64 [..., k^length].

    The word s1 s2 .. has index `s1 k^(length-1) + s2 k^(length-2) + ..`; words with equal neighbours never occur.
    """
    collapsed = collapse_runs(_checked(chains, n_states))
    n = collapsed.shape[-1] - length + 1
    flat = collapsed.reshape(-1, collapsed.shape[-1]).astype(np.int64)
    words = n_states**length
    if n < 1:
        return np.zeros((*collapsed.shape[:-1], words), np.int64)
    code, whole = np.zeros((len(flat), n), np.int64), np.ones((len(flat), n), bool)
    for i in range(length):
        part = flat[:, i : i + n]
        code, whole = code * n_states + np.maximum(part, 0), whole & (part >= 0)
    code += words * np.arange(len(flat))[:, None]
    return np.bincount(code[whole], minlength=len(flat) * words).reshape(*collapsed.shape[:-1], words)


def first_order_surrogate(
    chains: np.ndarray, n_states: int, generator: np.random.Generator, *, n_draws: int = 200
) -> np.ndarray:
    """Chains with the same first state, length and pooled transitions, and no longer memory: int8 [n_draws, ..., n].

    The null for motifs of length 3: run it on run-length-collapsed chains, so that each keeps its number of visits.
    A state that is never left in the data goes anywhere with equal probability. An undefined place stays undefined,
    and the chain begins anew behind it with the state that stood there.
    """
    chains = _checked(chains, n_states)
    flat = chains.reshape(-1, chains.shape[-1])
    p = np.nan_to_num(transition_matrix(transition_counts(flat, n_states).sum(axis=0)), nan=1 / n_states)
    edges = np.cumsum(p, axis=1)
    edges[:, -1] = 1.0
    out = np.full((n_draws, *flat.shape), -1, np.int8)
    for at in range(flat.shape[1]):
        fresh = flat[:, at - 1] < 0 if at else np.ones(len(flat), bool)
        for draw in out:  # one at a time, so that only states are as many as the draws
            u = generator.random(len(flat))
            before = np.maximum(draw[:, at - 1], 0) if at else np.zeros(len(flat), int)
            drawn = (u[:, None] >= edges[before]).sum(axis=-1)
            draw[:, at] = np.where(flat[:, at] < 0, -1, np.where(fresh, flat[:, at], drawn))
    return out.reshape(n_draws, *chains.shape)


def _checked(chains: np.ndarray, n_states: int) -> np.ndarray:
    chains = np.asarray(chains)
    if chains.ndim < 1 or not np.issubdtype(chains.dtype, np.integer):
        raise InputError(f"chains are integer arrays [..., n], -1 where undefined; got {chains.dtype} {chains.shape}.")
    if n_states < 2 or (chains.size and not -1 <= chains.min() <= chains.max() < n_states):
        raise InputError(f"states lie in -1..{n_states - 1}; got {chains.min()}..{chains.max()}.")
    return chains
