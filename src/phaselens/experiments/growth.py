"""Experiment: growth of infinitesimal changes along depth and along tokens, with what the residual stream itself does.

Reads stored records only (`phaselens perturb --growth` and studies that name this experiment make them). No claim
stands on it: an exponent over as few blocks as a small network has is a description, not a limit.
"""

from collections.abc import Callable, Sequence

import numpy as np

from phaselens.experiments.base import Panel, Result, declared, of_interventions
from phaselens.experiments.pooled import Asked, pooled
from phaselens.experiments.result_tables import filled
from phaselens.interventions.outcome_records import Growth

BLOCK, TOKEN = "nats per block", "nats per token"
ALONG_DEPTH, ALONG_TOKENS, EXCESS = "exponent along depth", "exponent along tokens", "along depth less the stream"


def figures(stored: Growth) -> list[tuple[str, str, np.ndarray]]:
    """What, unit and value [prompt] of every figure of a model; along depth the mean over the steps of a prompt."""
    depth, stream = stored.depth.mean(axis=1), stored.stream.mean(axis=(1, 2))
    names = [ALONG_DEPTH, *(f"{ALONG_DEPTH}, direction {i}" for i in range(2, depth.shape[1] + 1))]
    return [
        *((name, BLOCK, values) for name, values in zip(names, depth.T, strict=True)),
        ("growth of the stream", BLOCK, stream),
        (EXCESS, BLOCK, depth[:, 0] - stream),
        (ALONG_TOKENS, TOKEN, stored.tokens),
        ("gap to finite differences", "share", stored.gap),
    ]


def curves(stored: Growth) -> list[tuple[str, int, float, np.ndarray]]:
    """Along what, place, share of the way (1) and value [prompt] (ln) of the curves of a model.

    Along depth: growth of the first direction up to a layer, less that of the stream. Along tokens: growth at layer L
    so many steps behind the change.
    """
    way = (stored.by_block[..., 0] - stored.stream).mean(axis=1).cumsum(axis=-1)
    way = np.concatenate([np.zeros((len(way), 1)), way], axis=1)
    last = max(stored.by_step.shape[1] - 1, 1)
    out = [("depth", i, i / stored.n_layers, way[:, i]) for i in range(stored.n_layers + 1)]
    return out + [("tokens", s, s / last, stored.by_step[:, s]) for s in range(stored.by_step.shape[1])]


def analysed(stored: Sequence[Growth], seed: int, n_boot: int = 1000) -> Result:
    """The tables of growth, from stored records: means over prompts, intervals over prompts."""
    rows, drawn = [], []
    for s in stored:
        who = {"model": s.model, "family": s.family}
        mean = _mean_of(s, seed, n_boot)
        for what, unit, values in figures(s):
            value, lo, hi, n = mean(values)
            rows.append({**who, "what": what, "unit": unit, "value": value, "lo": lo, "hi": hi, "n_prompts": n})
        for along, place, share, values in curves(s):
            value, lo, hi, _ = mean(values)
            drawn.append({**who, "along": along, "place": place, "depth": share, "value": value, "lo": lo, "hi": hi})
    return Result(filled(growth=rows, growth_curves=drawn))


def _mean_of(s: Growth, seed: int, n_boot: int) -> Callable[[np.ndarray], tuple[float, float, float, int]]:
    units = np.array(s.prompts)

    def mean(values: np.ndarray) -> tuple[float, float, float, int]:
        found = pooled([Asked(s.model, values, units)], seed, n_boot=n_boot).whole
        return found.value, found.interval.lo, found.interval.hi, found.n

    return mean


def _analyse(panel: Panel) -> Result:
    return of_interventions(panel, "growth", analysed, panel.n_boot)


GROWTH = declared("growth", _analyse)
