"""Whether a linear readout finds the ideal reader's belief in the states of a model, layer by layer.

Ground truth for the whole probe path: examples, capture, folds, ridge. The process is known, so the belief at every
place is exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tools.held_out_ridge import r_squared, ridge_cross_fit
from tools.processes import Process

from phaselens.errors import InputError
from phaselens.models import Model
from phaselens.probes import grouped_folds
from phaselens.readings.examples import Example, Examples, place
from phaselens.readings.place_states import capture_states
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.resampling import bootstrap_weights

OPENING = 4
PATH = (1e3, 1e2, 1e1, 1.0, 1e-1, 1e-2)


@dataclass(frozen=True, eq=False)
class Prefixes:
    """Distinct beginnings of sequences, and what the ideal reader believes after each.

    `examples` read the last token of each prefix; `beliefs` [example, K]; `next_token` [example, V] (probability);
    `length` int [example]; groups are openings of `OPENING` tokens, so no held-out prefix shares its opening with one
    that was trained on.
    """

    examples: Examples
    beliefs: np.ndarray
    next_token: np.ndarray
    length: np.ndarray


@dataclass(frozen=True, eq=False)
class BeliefReading:
    """How much of the belief's variance is read where (R squared, held out by opening; 1).

    `r2` and `intervals` [layer], `twin` [layer] of the untrained twin; the same for all layers side by side in
    `together`, `together_interval`, `twin_together`. `gain` is the interval of all layers less the last one, `over` of
    the last layer less the twin's. `from_output` is what the exact next-token distribution alone gives, `null` [draw]
    the best layer for beliefs exchanged among prefixes of one length, and `p` the best layer's p-value.
    """

    process: str
    numbers: tuple[int, ...]
    n: int
    r2: np.ndarray
    intervals: tuple[Interval, ...]
    twin: np.ndarray
    together: float
    together_interval: Interval
    twin_together: float
    gain: Interval
    over: Interval
    from_output: float
    null: np.ndarray
    p: float


def prefixes(process: Process, n: int, length: int, generator: np.random.Generator) -> Prefixes:
    """Distinct prefixes of `n` sampled sequences, of `OPENING` tokens to `length`, each in the first that has it.

    Raises InputError for sequences no longer than the opening.
    """
    if length <= OPENING:
        raise InputError(f"sequences longer than their opening of {OPENING} tokens are needed; got {length}.")
    tokens = process.sample(n, length, generator)
    beliefs = process.beliefs(tokens)
    seen: dict[bytes, tuple[int, int]] = {}
    for row, sequence in enumerate(tokens):
        for end in range(OPENING, length + 1):
            seen.setdefault(sequence[:end].tobytes(), (row, end))
    rows, ends = np.array(list(seen.values())).T
    items = tuple(
        Example("", None, " ".join(map(str, tokens[r, :OPENING])), (int(e) - 1, int(e)), token_ids=tuple(tokens[r]))
        for r, e in zip(rows.tolist(), ends.tolist(), strict=True)
    )
    known = beliefs[rows, ends - 1]
    return Prefixes(Examples(process.name, items), known, process.next_token(known), ends)


def read_belief(
    model: Model,
    twin: Model,
    process: Process,
    *,
    n: int = 250,
    n_folds: int = 5,
    n_draws: int = 20,
    n_boot: int = 2000,
    seed: int = 0,
) -> BeliefReading:
    """Read the belief out of every layer of a model of the process, and of an untrained twin, by ridge.

    `n` sequences are sampled, as long as the model's context allows. Raises InputError for a model of other tokens.
    """
    if model.vocab_size != process.n_tokens:
        raise InputError(f"{model.name} has {model.vocab_size} tokens, and {process.name} {process.n_tokens}.")
    generator = np.random.default_rng([seed, 9])
    # A replay needs room for one token more than it reads.
    found = prefixes(process, n, (model.context or 13) - 1, generator)
    folds = grouped_folds(found.examples.groups, n_folds, generator)
    states, other = (_states(one, found) for one in (model, twin))
    names, member = np.unique(found.examples.groups, return_inverse=True)
    weights = bootstrap_weights(len(names), generator, n_boot=n_boot)
    truth = found.beliefs[None]
    exchanged = _exchanged(found, n_draws, generator)
    guesses, null = [], []
    for layer in states:
        guess = ridge_cross_fit(layer, np.concatenate([truth, exchanged]), folds, PATH)
        guesses.append(guess[0])
        null.append(r_squared(guess[1:], exchanged))
    beside = [ridge_cross_fit(np.concatenate(s, axis=1), truth, folds, PATH)[0] for s in (states, other)]
    twins = [ridge_cross_fit(layer, truth, folds, PATH)[0] for layer in other]
    draws = _draws([*guesses, *beside, *twins], found.beliefs, member, weights)
    last, both = len(guesses) - 1, len(guesses)
    r2 = np.array([r_squared(g, found.beliefs) for g in guesses])
    top = np.max(null, axis=0)
    output = ridge_cross_fit(found.next_token, truth, folds, PATH)[0]
    return BeliefReading(
        process.name,
        tuple(range(len(guesses))),
        len(found.beliefs),
        r2,
        tuple(percentile_interval(draws[i], len(names)) for i in range(len(guesses))),
        np.array([r_squared(g, found.beliefs) for g in twins]),
        float(r_squared(beside[0], found.beliefs)),
        percentile_interval(draws[both], len(names)),
        float(r_squared(beside[1], found.beliefs)),
        percentile_interval(draws[both] - draws[last], len(names)),
        percentile_interval(draws[last] - draws[-1], len(names)),
        float(r_squared(output, found.beliefs)),
        top,
        permutation_p(float(r2.max()), top),
    )


def _states(model: Model, found: Prefixes) -> list[np.ndarray]:
    return list(capture_states(model, place(model, found.examples)[1]).layers)


def _exchanged(found: Prefixes, n_draws: int, generator: np.random.Generator) -> np.ndarray:
    """Beliefs dealt out anew among prefixes of one length: [draw, example, K]; what position alone says stays."""
    out = np.repeat(found.beliefs[None], n_draws, axis=0)
    for draw in out:
        for length in np.unique(found.length):
            rows = np.flatnonzero(found.length == length)
            draw[rows] = found.beliefs[generator.permutation(rows)]
    return out


def _draws(guesses: Sequence[np.ndarray], truth: np.ndarray, member: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """R squared under every bootstrap draw of openings: [readout, draw]."""
    total = np.bincount(member, np.square(truth - truth.mean(axis=0)).sum(axis=1))
    left = np.stack([np.bincount(member, np.square(truth - guess).sum(axis=1)) for guess in guesses])
    return 1 - (left @ weights.T) / (weights @ total)
