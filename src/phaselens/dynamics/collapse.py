"""Collapse by behaviour: what the text does, not what the states do.

A run has collapsed if it ends within five tokens, or falls into a cycle, or hardly says anything new. Numbered lists
hide loops, so each test is also made with digits masked; both answers are kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LAST = 64
LONGEST_PERIOD = 20
CYCLE_SHARE = 0.5
FEWEST_NEW = 0.2
EARLY_END = 5
MASK = -1


@dataclass(frozen=True)
class Collapse:
    """What one run did: `collapsed` and why ("end of text", "cycle", "repetition", or "" where it did not)."""

    collapsed: bool
    cause: str = ""


def mask_digits(tokens: Sequence[int], digit_tokens: frozenset[int]) -> tuple[int, ...]:
    """Replace each unbroken stretch of tokens with digits by one mask (ids).

    One mask per stretch, so that "9." and "10." become the same though the second has more tokens.
    """
    out: list[int] = []
    for token in tokens:
        if token not in digit_tokens:
            out.append(int(token))
        elif not out or out[-1] != MASK:
            out.append(MASK)
    return tuple(out)


def cycle_length(tokens: Sequence[int], *, longest_period: int = LONGEST_PERIOD) -> tuple[int, int]:
    """Longest stretch of the tokens that repeats with one period of at most 20 (tokens), and that period.

    A stretch with period p satisfies `t[i] = t[i-p]` from its p-th token on and counts if it holds two whole cycles.
    Returns (0, 0) where there is none; of equal stretches the smallest period is named.
    """
    t = np.asarray(tokens)
    best = (0, 0)
    for period in range(1, min(longest_period, len(t) // 2) + 1):
        edges = np.flatnonzero(np.concatenate(([True], t[period:] != t[:-period], [True])))
        matches = int((np.diff(edges) - 1).max())
        if matches >= period and matches + period > best[0]:
            best = (matches + period, period)
    return best


def distinct_trigrams(tokens: Sequence[int]) -> float:
    """Distinct 3-grams over all 3-grams (proportion); NaN for fewer than three tokens."""
    if len(tokens) < 3:
        return float("nan")
    grams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(grams)) / len(grams)


def collapse(tokens: Sequence[int], *, ended: bool = False) -> Collapse:
    """Whether a completion collapsed, and the first cause that applies.

    End of text within 5 tokens (`ended` says that the run ended by itself); or a cycle of period <= 20 that covers at
    least half of the last 64 tokens; or a share of distinct 3-grams below 0.2 there. A completion shorter than 64
    tokens is its own window. Moves with: the tokenizer (periods are counted in tokens).
    """
    if ended and len(tokens) <= EARLY_END:
        return Collapse(True, "end of text")
    last = tuple(tokens[-LAST:])
    if len(last) and cycle_length(last)[0] >= CYCLE_SHARE * len(last) and len(last) >= 2 * EARLY_END:
        return Collapse(True, "cycle")
    if distinct_trigrams(last) < FEWEST_NEW:
        return Collapse(True, "repetition")
    return Collapse(False)


def immediate(collapsed: np.ndarray, frozen: np.ndarray) -> np.ndarray:
    """Collapse whose first frozen step lies in the first quarter of the run (bool [run]).

    Shapes: collapsed bool [run], frozen [run, step] (0, 1 or NaN).
    """
    still = np.asarray(frozen, float) > 0.5
    length = np.isfinite(np.asarray(frozen, float)).sum(axis=1) + 1  # step 0 has no step length
    first = np.where(still.any(axis=1), still.argmax(axis=1), np.iinfo(int).max)
    return np.asarray(collapsed, bool) & (first < length / 4)
