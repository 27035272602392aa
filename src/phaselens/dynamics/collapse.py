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
SHORTEST = 10
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


def cycle_length(tokens: np.ndarray, *, longest_period: int = LONGEST_PERIOD) -> tuple[np.ndarray, np.ndarray]:
    """Longest stretch of each row that repeats with one period of at most 20 (tokens), and that period (tokens).

    A stretch with period p satisfies `t[i] = t[i-p]` from its p-th token on and counts if it holds two whole cycles.
    Shapes: tokens int [..., n] -> two int [...]. Both are 0 where there is none; of equal stretches the smallest
    period.
    """
    t = np.asarray(tokens)
    n = t.shape[-1]
    longest, period_of = np.zeros(t.shape[:-1], int), np.zeros(t.shape[:-1], int)
    for period in range(1, min(longest_period, n // 2) + 1):
        at = np.arange(n - period)
        apart = t[..., period:] != t[..., :-period]
        last_apart = np.maximum.accumulate(np.where(apart, at, -1), axis=-1)
        matches = (at - last_apart).max(axis=-1)
        better = (matches >= period) & (matches + period > longest)
        longest, period_of = np.where(better, matches + period, longest), np.where(better, period, period_of)
    return longest, period_of


def distinct_trigrams(tokens: Sequence[int]) -> float:
    """Distinct 3-grams over all 3-grams (proportion); NaN for fewer than three tokens."""
    if len(tokens) < 3:
        return float("nan")
    grams = list(zip(tokens, tokens[1:], tokens[2:], strict=False))
    return len(set(grams)) / len(grams)


def collapses(completions: Sequence[Sequence[int]], ended: Sequence[bool]) -> tuple[Collapse, ...]:
    """Whether each completion collapsed, and the first cause that applies.

    End of text within 5 tokens (`ended` says that a run ended by itself); or a cycle of period <= 20 that covers at
    least half of the last 64 tokens; or a share of distinct 3-grams below 0.2 there. A completion of 10 to 63 tokens
    is its own window; a shorter one that did not end by itself is too short to show either.
    Moves with: the tokenizer (periods are counted in tokens).
    """
    windows = [tuple(tokens[-LAST:]) for tokens in completions]
    covered = np.zeros(len(windows), int)
    for length in {len(w) for w in windows if len(w) >= SHORTEST}:
        rows = [i for i, w in enumerate(windows) if len(w) == length]
        covered[rows] = cycle_length(np.array([windows[i] for i in rows]))[0]
    return tuple(
        _collapse(tokens, window, bool(end), int(cover))
        for tokens, window, end, cover in zip(completions, windows, ended, covered, strict=True)
    )


def _collapse(tokens: Sequence[int], window: tuple[int, ...], ended: bool, covered: int) -> Collapse:
    if ended and len(tokens) <= EARLY_END:
        return Collapse(True, "end of text")
    if len(window) < SHORTEST:
        return Collapse(False)
    if covered >= CYCLE_SHARE * len(window):
        return Collapse(True, "cycle")
    return Collapse(True, "repetition") if distinct_trigrams(window) < FEWEST_NEW else Collapse(False)


def frozen_early(frozen: np.ndarray) -> np.ndarray:
    """Whether the first frozen step lies in the first quarter of the run (bool [run]); with collapse it is immediate.

    Shapes: frozen [run, step] (0, 1, or NaN where undefined). False where no step is frozen.
    """
    frozen = np.asarray(frozen, float)
    still = frozen > 0.5
    length = np.isfinite(frozen).sum(axis=1) + 1  # step 0 has no step length
    first = still.argmax(axis=1) if frozen.shape[1] else np.zeros(len(frozen), int)
    return still.any(axis=1) & (first < length / 4)
