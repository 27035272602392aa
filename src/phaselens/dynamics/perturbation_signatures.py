"""Perturbation signatures: what a model does along depth to a small change of its states, and what that is worth.

The unit of resampling is the prompt. A signature is a vector of log gains and log divergences at fixed relative depths
and strengths, so that models of other depth and width can be laid beside each other.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from phaselens.dynamics.stability import spearman
from phaselens.errors import InputError
from phaselens.statistics.intervals import Interval, bootstrap_p, percentile_interval, undefined_interval
from phaselens.statistics.resampling import bootstrap_weights

DEPTHS = (0.0, 0.25, 0.5, 0.75)
CARRIED = (0.9, 1.1)  # equivalence needs a margin said beforehand: a gain within a tenth of 1 is none
DECIDING = 0.1
WORDS = ("absorb", "carry", "amplify", "undetermined")


def deciding(strengths: Iterable[float]) -> float:
    """The strength, of some above 0, at which words are given and other conditions measured: .1, or the nearest (1)."""
    return min(strengths, key=lambda eps: abs(np.log(eps / DECIDING)))


def gain(change_out: np.ndarray, rms_out: float, change_in: np.ndarray, rms_in: float) -> np.ndarray:
    """How much of a relative change of the states of layer l is there at a later layer (1).

    `g = (|dh_out| / RMS_out) / (|dh_in| / RMS_in)`, `|.|` root mean square over dimensions (and whatever was pooled).
    Shapes: two [...]. NaN: no change at the input, or an RMS that is not positive.
    Keeps: the scale of either layer's states. Moves with: strength, where the model is not linear.
    """
    out, into = np.asarray(change_out, float), np.asarray(change_in, float)
    if not (rms_out > 0 and rms_in > 0):
        return np.full(np.broadcast_shapes(out.shape, into.shape), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(into > 0, (out / rms_out) / (into / rms_in), np.nan)


def word(interval: Interval) -> str:
    """Absorb, carry, amplify or undetermined, from the interval of a gain.

    `carry` where all of it lies inside [.9, 1.1], else `absorb` below 1, `amplify` above 1. An interval inside both
    [.9, 1.1] and one side of 1 is carried: a change of less than a tenth is none.
    """
    if interval.reason:
        return "undetermined"
    if CARRIED[0] <= interval.lo and interval.hi <= CARRIED[1]:
        return "carry"
    return "absorb" if interval.hi < 1 else "amplify" if interval.lo > 1 else "undetermined"


@dataclass(frozen=True)
class Share:
    """One number of a signature: geometric mean over prompts (1), its interval, and the word that it gives."""

    value: float
    interval: Interval
    word: str


def geometric(log_values: np.ndarray, weights: np.ndarray) -> list[Share]:
    """Geometric mean over prompts of each column, exp(mean of logs) (unit of the values), with prompt intervals.

    Shapes: log_values [prompt, column], weights int [n_boot, prompt] -> one Share a column. A prompt whose value is
    undefined is left out of its column. NaN: no prompt is left.
    """
    logs = np.asarray(log_values, float)
    seen = np.isfinite(logs)
    filled = np.where(seen, logs, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        drawn = np.exp((weights @ filled) / (weights @ seen))
        value = np.exp(filled.sum(axis=0) / seen.sum(axis=0))
    out = []
    for i in range(logs.shape[1]):
        interval = percentile_interval(drawn[:, i], int(seen[:, i].sum()))
        out.append(Share(float(value[i]), interval, word(interval)))
    return out


def vector(log_values: np.ndarray, depth: np.ndarray, at: tuple[float, ...] = DEPTHS) -> np.ndarray:
    """Values by layer brought to fixed relative depths by straight lines between layers (unit of the values).

    Shapes: log_values [..., layer], depth l/L rising [layer] -> [..., depth]. Depths outside take the nearest layer.
    """
    values, depth = np.asarray(log_values, float), np.asarray(depth, float)
    if values.shape[-1] != len(depth) or (len(depth) > 1 and not (np.diff(depth) > 0).all()):
        raise InputError(f"values by layer need one rising depth each; got {values.shape} and depths {depth.tolist()}.")
    flat = values.reshape(-1, len(depth))
    return np.stack([np.interp(at, depth, row) for row in flat]).reshape(*values.shape[:-1], len(at))


@dataclass(frozen=True, eq=False)
class SplitHalf:
    """Two halves of every model's prompts (and of its draws of noise), and how alike they are.

    `similarity` [model, model]: half A of the row with half B of the column. `reproducibility` is the diagonal with an
    interval each. `separation`: mean of A(i)-B(i) less the mean of A(i)-B(j) over models of other families, with its
    interval over prompts inside halves and the `p` of 0. `distance_*` hold the same under another similarity.
    """

    similarity: np.ndarray
    reproducibility: tuple[tuple[float, Interval], ...]
    separation: float
    interval: Interval
    distance_separation: float
    distance_interval: Interval
    n_pairs: int
    p: float = math.nan


def split_half(
    first: np.ndarray,
    second: np.ndarray,
    families: tuple[str, ...],
    generator: np.random.Generator,
    *,
    n_boot: int = 1000,
) -> SplitHalf:
    """Is a signature more like itself on other prompts and other noise than like that of another family (1)?

    Similarity is Spearman's rank correlation of the vectors of prompt means; the second version is minus the squared
    distance over features (squared ln), whose noise is the same for a model's own half and for another's, so that its
    expectation is 0 where all signatures are one. Prompts are resampled inside each half, the same ones for all models.
    Shapes: first [model, prompt A, feature], second [model, prompt B, feature], all of one half on the same prompts.
    NaN: fewer than two prompts in a half, no two families, or fewer than three features.
    Raises InputError for shapes that do not fit.
    """
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.ndim != 3 or second.ndim != 3 or first.shape[::2] != second.shape[::2] or len(families) != len(first):
        raise InputError(f"two halves [model, prompt, feature] are needed; got {first.shape} and {second.shape}.")
    other = np.array([[a != b for b in families] for a in families])
    defined = np.isfinite(first).all(axis=(0, 1)) & np.isfinite(second).all(axis=(0, 1))
    a, b = first[:, :, defined], second[:, :, defined]
    n_prompts = min(a.shape[1], b.shape[1])
    why = _why_not(other, n_prompts, int(defined.sum()))
    w = [bootstrap_weights(x.shape[1], generator, n_boot=n_boot) / x.shape[1] for x in (a, b)]
    alike = [x[0] for x in _similarities(a.mean(axis=1)[None], b.mean(axis=1)[None])]
    drawn = _similarities(*(np.einsum("mpf,bp->bmf", x, y) for x, y in zip((a, b), w, strict=True)))
    own = tuple(
        (
            float(alike[0][i, i]),
            percentile_interval(drawn[0][:, i, i], n_prompts)
            if n_prompts >= 2
            else undefined_interval(f"fewer than two prompts in a half ({n_prompts})"),
        )
        for i in range(len(a))
    )
    if why:
        none = undefined_interval(why)
        return SplitHalf(alike[0], own, math.nan, none, distance_separation=math.nan, distance_interval=none, n_pairs=0)
    apart = [_above(d, other) for d in drawn]
    ends = [percentile_interval(d, n_prompts) for d in apart]
    values = [float(_above(x[None], other)[0]) for x in alike]
    n, p = int(other.sum()), bootstrap_p(apart[0])
    return SplitHalf(alike[0], own, values[0], ends[0], values[1], ends[1], n_pairs=n, p=p)


def _why_not(other: np.ndarray, n_prompts: int, n_features: int) -> str:
    if n_prompts < 2:
        return f"fewer than two prompts in a half ({n_prompts})"
    if not other.any():
        return "all models are of one family"
    return f"fewer than three defined features ({n_features})" if n_features < 3 else ""


def _similarities(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank correlations and minus squared distances of all models of a with all of b, each [draw, model, model]."""
    ranks = spearman(np.repeat(a, b.shape[1], axis=1), np.tile(b, (1, a.shape[1], 1)))
    distance = (a**2).mean(-1)[:, :, None] + (b**2).mean(-1)[:, None] - 2 * a @ b.swapaxes(1, 2) / a.shape[-1]
    return ranks.reshape(len(a), a.shape[1], b.shape[1]), -distance


def _above(alike: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean of a model with itself less the mean with models of other families, over models that have any: [draw]."""
    rows = [i for i in range(len(other)) if other[i].any()]
    return np.mean([alike[:, i, i] - alike[:, i, other[i]].mean(axis=1) for i in rows], axis=0)
