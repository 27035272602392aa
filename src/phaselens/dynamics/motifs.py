"""Conserved motifs: words of states that are more frequent than chance in every model, on 20,000 permutations.

The chains of a prompt move together: one order of places per prompt, or one exchange of prompts per place. Tokens of
one text are no independent witnesses, so permuting every chain by itself would find everything significant.

Counting is done for 64 chains at a time: for each place and state one bit per chain says whether the chain is in that
state there. A word a b c ends at a place where the chain is in c and its last two visits were a, b.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np

from phaselens.dynamics.chains import collapse_runs, first_order_surrogate, motif_counts
from phaselens.errors import InputError, unknown_name

NULLS = ("order", "exchange")


@dataclass(frozen=True, eq=False)
class Sequential:
    """For each motif under one null: `p`, the largest over the models in which it was tested (NaN: in none), [motif].

    `by_model` [model, motif] holds the p-value of each model (NaN: not tested there any more), `counts` alike how often
    the motif occurs, `draws` the permutations spent on it.
    """

    motifs: tuple[tuple[int, ...], ...]
    p: np.ndarray
    by_model: np.ndarray
    counts: np.ndarray
    draws: np.ndarray


def motifs(n_states: int) -> tuple[tuple[int, ...], ...]:
    """All bigrams and trigrams without equal neighbours, as tuples of states."""
    words = [w for length in (2, 3) for w in product(range(n_states), repeat=length)]
    return tuple(w for w in words if all(a != b for a, b in zip(w, w[1:], strict=False)))


def pack(chains: np.ndarray, n_states: int) -> np.ndarray:
    """Which chains are in which state, one bit per chain: uint64 [state, prompt, place, word].

    Shapes: chains int [prompt, chain, place]; undefined places have no bit.
    """
    chains = np.asarray(chains)
    if chains.ndim != 3 or not np.issubdtype(chains.dtype, np.integer):
        raise InputError(f"chains must be integer [prompt, chain, place]; got {chains.dtype} {chains.shape}.")
    bits = (chains[..., None] == np.arange(n_states)).transpose(3, 0, 2, 1)
    padded = np.zeros((*bits.shape[:-1], -(-bits.shape[-1] // 64) * 64), bool)
    padded[..., : bits.shape[-1]] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)


def packed_motif_counts(columns: Sequence[np.ndarray], n_states: int) -> np.ndarray:
    """How often each of `motifs` occurs in run-length-collapsed chains (counts), summed over prompts: [draw, motif].

    Shapes: one array per place, in order, uint64 [state, draw, prompt, word]. A place where a chain is undefined ends
    its word. Equal to `chains.motif_counts` where undefined places are not inside a chain; such a gap parts words.
    """
    words = {w: i for i, w in enumerate(motifs(n_states))}
    states = range(n_states)
    n_draws = columns[0].shape[1]
    # bits are added up in place and summed once; a place adds at most 64, so the short type holds 1,000 places
    kind = np.uint16 if len(columns) < 1000 else np.uint32
    ones = {w: np.zeros(columns[0].shape[1:], kind) for w in words}
    # two[a, b]: the chain is in b and was in a on its visit before
    two: dict[tuple[int, int], np.ndarray] = {}
    for now, then in pairwise(columns):
        after: dict[tuple[int, int], np.ndarray] = {}
        for a, b in product(states, states):
            if a == b:
                continue
            step = now[a] & then[b]
            ones[a, b] += np.bitwise_count(step)
            after[a, b] = step | (two[a, b] & then[b]) if two else step
            for c in states:
                if two and c != b:
                    ones[a, b, c] += np.bitwise_count(two[a, b] & then[c])
        two = after
    return np.stack([x.reshape(n_draws, -1).sum(axis=1, dtype=np.int64) for x in ones.values()], axis=1)


def motif_null(
    chains: np.ndarray,
    n_states: int,
    generator: np.random.Generator,
    *,
    null: str,
    n_permutations: int = 20_000,
    several: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Counts of each motif (counts): as observed [motif], and under permutation [n_permutations, motif].

    "order": the places of each prompt in a random order, the same for all its chains. "exchange": at each place the
    prompts are permuted, so a chain is put together from different prompts at equal depth: every place keeps which
    states occur there, and only what links the places is lost. Places at which no chain is defined are left out.
    Shapes: chains int [prompt, chain, place]; `several` draws at a time (0: as fits the cache).
    """
    if null not in NULLS:
        raise unknown_name("null of motifs", null, NULLS)
    chains = np.asarray(chains)
    bits = pack(chains, n_states)[:, :, (chains >= 0).any(axis=(0, 1))]
    _, n_prompts, n_places, n_words = bits.shape
    observed = packed_motif_counts([bits[:, None, :, t] for t in range(n_places)], n_states)[0]
    flat = bits.reshape(n_states, n_prompts * n_places, n_words)
    several = several or max(1, 20_000 // max(n_prompts * n_words, 1))
    out = []
    for start in range(0, n_permutations, several):
        n = min(several, n_permutations - start)
        if null == "order":
            place = generator.random((n, n_prompts, n_places)).argsort(axis=-1)
            prompt = np.arange(n_prompts)[:, None]
        else:
            place = np.arange(n_places)
            prompt = generator.random((n, n_places, n_prompts)).argsort(axis=-1).swapaxes(1, 2)
        source = prompt * n_places + place
        out.append(packed_motif_counts([flat.take(source[:, :, t], axis=1) for t in range(n_places)], n_states))
    return observed, np.concatenate(out)


def sequential_motifs(
    models: Sequence[np.ndarray],
    n_states: int,
    generator: np.random.Generator,
    *,
    null: str,
    words: np.ndarray | None = None,
    n_permutations: int = 20_000,
    exceedances: int = 20,
    level: float = 0.05,
    batch: int = 500,
) -> Sequential:
    """Which motifs are more frequent than under the null in every model: p = max over models, without Holm.

    The statistic is the motif's share of all words of its length. Plain counts would compare how often states change:
    a chain that stays long in each state has few words, and fewer of any motif than the same states in random order.
    The largest p over models tests "in at least one model there is nothing" (intersection-union), so no correction
    over models is due. A motif that cannot occur has p 1.
    A motif's draws end when its share was reached `exceedances` times, and then p = exceedances / draws; at
    n_permutations draws p = (1 + reached) / (1 + draws). Both are valid p-values whatever was stopped. A motif whose p
    in one model is above `level` is not tested in the models after it, so its p, the largest so far, is at least that.
    Shapes: one chains int [prompt, chain, place] per model (numbers of places and chains may differ); words bool
    [motif], those to test (None: all). Raises InputError without models. Source: Besag and Clifford 1991.
    """
    if not models:
        raise InputError("conserved motifs need at least one model.")
    count = len(motifs(n_states))
    alive = np.ones(count, bool) if words is None else np.array(words, bool)
    by_model, draws = np.full((len(models), count), np.nan), np.zeros((len(models), count), np.int64)
    counts = np.zeros((len(models), count), np.int64)
    for i, chains in enumerate(models):
        reached = np.zeros((0, count), np.int64)
        open_ = alive.copy()
        while open_.any() and len(reached) < n_permutations:
            n = min(batch, n_permutations - len(reached))
            counts[i], drawn = motif_null(chains, n_states, generator, null=null, n_permutations=n)
            hit = _reached(counts[i], drawn, n_states).cumsum(axis=0)
            reached = np.concatenate([reached, hit + (reached[-1] if len(reached) else 0)])
            open_ &= reached[-1] < exceedances
        if not len(reached):
            counts[i], _ = motif_null(chains, n_states, generator, null=null, n_permutations=1)
            continue
        stopped = reached[-1] >= exceedances
        at = np.where(stopped, (reached < exceedances).sum(axis=0) + 1, len(reached))
        p = np.where(stopped, exceedances / at, (1 + reached[-1]) / (1 + at))
        by_model[i, alive], draws[i, alive] = p[alive], at[alive]
        alive &= p <= level
    tested = np.isfinite(by_model).any(axis=0)
    p = np.where(tested, np.where(np.isfinite(by_model), by_model, 0.0).max(axis=0), np.nan)
    return Sequential(motifs(n_states), p, by_model, counts, draws)


def first_order_shares(
    chains: np.ndarray, n_states: int, generator: np.random.Generator, *, n_draws: int = 20
) -> np.ndarray:
    """Mean share of each motif (1) under chains with the same transitions and no longer memory, [motif].

    A word of three that is as frequent here as in the data is explained by its pairs; bigrams keep their shares by
    construction and have NaN, as has everything where no chain holds three states. A share is over words of the same
    length. Shapes: chains int [prompt, chain, place]. Source: docs/definitions, section 5.
    """
    collapsed = collapse_runs(np.asarray(chains)).reshape(-1, np.asarray(chains).shape[-1])
    drawn = first_order_surrogate(collapsed, n_states, generator, n_draws=n_draws)
    long = drawn.shape[-1] > 2
    counts = sum(motif_counts(d, n_states, 3).sum(axis=0) for d in drawn) if long else np.zeros(n_states**3)
    words = motifs(n_states)
    at = [int(np.ravel_multi_index(w, (n_states,) * 3)) if len(w) == 3 else -1 for w in words]
    total = counts.sum()
    return np.array([counts[i] / total if i >= 0 and total > 0 else np.nan for i in at])


def _reached(observed: np.ndarray, null: np.ndarray, n_states: int) -> np.ndarray:
    """Where the share under the null is at least the observed one, bool [draw, motif]."""
    both = np.concatenate([observed[None], null]).astype(float)
    two = n_states * (n_states - 1)
    share = np.zeros(both.shape)
    for words in (slice(None, two), slice(two, None)):
        total = both[:, words].sum(axis=1, keepdims=True)
        share[:, words] = np.divide(both[:, words], total, out=np.zeros(both[:, words].shape), where=total > 0)
    # equal shares of other totals differ in the last bit
    return share[1:] >= share[0] - 1e-12
