"""COLLAPSE-RIVALRY cycles of the output distribution along tokens: how often a collapse of entropy reopens, and when.

Most of it is what any autocorrelated series does: an AR(1) series alone reopens 84-93 % of the time. So the share says
nothing without its surrogates, and those are made here for all draws at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from phaselens.errors import InputError
from phaselens.statistics.survival import life_table

STREAK = 3
HORIZON = 16
WORD_PLACES = 4
LARGEST_CORRELATION = 0.995


@dataclass(frozen=True, eq=False)
class Cycles:
    """Every entry into collapse; all arrays [entry], ordered by row and step.

    `row` is the run (index into the flattened leading dimensions), `step` the third low step, `duration` the steps
    from there to reopening or to the last step at which one could have been seen; `reopened`, `to_rivalry` (False:
    to neutral, or not reopened), `inside_word` (the three low steps lie within one word) are bool.
    """

    row: np.ndarray
    step: np.ndarray
    duration: np.ndarray
    reopened: np.ndarray
    to_rivalry: np.ndarray
    inside_word: np.ndarray

    def counts(self, *, horizon: int = HORIZON) -> dict[str, int]:
        """How many entries, and how they ended within the horizon (counts)."""
        back = self.reopened & (self.duration <= horizon)
        followed = ~back & (self.duration >= horizon)
        return {
            "entries": len(self.row),
            "inside_word": int(self.inside_word.sum()),
            "reopened": int(back.sum()),
            "to_rivalry": int((back & self.to_rivalry).sum()),
            "to_neutral": int((back & ~self.to_rivalry).sum()),
            "permanent": int(followed.sum()),
            "censored": int((~back & ~followed).sum()),
        }


def collapse_threshold(calibration: np.ndarray) -> float:
    """10th percentile of entropy_norm over a model's calibration runs (1). NaN: no defined value."""
    values = np.asarray(calibration, float)
    values = values[np.isfinite(values)]
    return float(np.quantile(values, 0.1)) if len(values) else float("nan")


def rivalry_state(top1: np.ndarray, top2: np.ndarray, *, ratio: float = 0.5, mass: float = 0.3) -> np.ndarray:
    """Whether two tokens rival at the output (bool): `p2/p1 >= 0.5 and p1 + p2 >= 0.3`. False where undefined."""
    p1, p2 = np.asarray(top1, float), np.asarray(top2, float)
    with np.errstate(invalid="ignore"):
        return (p2 >= ratio * p1) & (p1 + p2 >= mass)


def cycles(
    low: np.ndarray,
    rivalry: np.ndarray | None = None,
    word_start: np.ndarray | None = None,
    defined: np.ndarray | None = None,
) -> Cycles:
    """Entries into collapse and their reopening.

    Collapse is entered at the third of three low steps in a row (entropy_norm at or below the threshold), and
    reopened at the first of three steps in a row that are not low; it goes to rivalry if rivalry holds at one of the
    three. Until it is reopened no other entry counts. Duration runs from the entry to the reopening; without one, to
    the last step at which a reopening could have been confirmed (two before the end), so censoring does not depend on
    what comes next. An entry is inside a word if no word starts at its second or third low step.
    Shapes: low, rivalry, defined bool [..., step]; word_start bool, broadcast to it. Undefined steps (after the end)
    are neither low nor high. Keeps: what the values are on either side of the threshold.
    """
    low = np.asarray(low, bool)
    n = low.shape[-1]
    flat = low.reshape(-1, n)
    if n < STREAK:
        return _no_cycles()
    down, up, final = flat, ~flat, np.full(len(flat), n - 1)
    if defined is not None:
        seen = np.broadcast_to(defined, low.shape).reshape(-1, n)
        down, up = down & seen, up & seen
        final = n - 1 - np.argmax(seen[:, ::-1], axis=1)
    # one mark per stretch: where it has lasted three low steps, or where three that are not low begin
    entry, back = np.zeros(flat.shape, bool), np.zeros(flat.shape, bool)
    entry[:, 2:] = down[:, 2:] & down[:, 1:-1] & down[:, :-2]
    entry[:, 3:] &= ~down[:, :-3]
    back[:, :-2] = up[:, 2:] & up[:, 1:-1] & up[:, :-2]
    back[:, 1:] &= ~up[:, :-1]
    place = np.flatnonzero(entry | back)
    row, step = np.divmod(place, n)
    kind = entry.ravel()[place]  # True: collapse holds here; False: it is over here
    fresh = np.r_[True, row[1:] != row[:-1]][: len(row)]
    before = np.r_[False, kind[:-1]][: len(row)]
    starts = np.flatnonzero(kind & (fresh | ~before))
    if not len(starts):
        return _no_cycles()
    # the first mark of the other kind behind an entry in the same row
    over = np.flatnonzero(~kind)
    following = np.searchsorted(over, starts)
    found = following < len(over)
    at = over[np.minimum(following, len(over) - 1)] if len(over) else np.zeros(len(starts), int)
    reopened = found & (row[at] == row[starts])
    last = final[row[starts]]
    duration = np.where(reopened, step[at] - step[starts], np.maximum(last - (STREAK - 1) - step[starts], 0))
    to_rivalry = np.zeros(len(starts), bool)
    if rivalry is not None:
        rival = np.broadcast_to(rivalry, low.shape).reshape(-1, n)
        to_rivalry = reopened & (rival[row[at], step[at][None] + np.arange(3)[:, None] * reopened].any(axis=0))
    inside = np.zeros(len(starts), bool)
    if word_start is not None:
        # per run, not per draw: draws share the text
        words = np.broadcast_to(word_start, low.shape[-np.ndim(word_start) :]).reshape(-1, n)
        of = row[starts] % len(words)
        inside = ~(words[of, step[starts]] | words[of, step[starts] - 1])
    return Cycles(row[starts], step[starts], duration, reopened, to_rivalry, inside)


def cycle_table(
    found: Cycles, group: np.ndarray, n_groups: int, *, horizon: int = HORIZON, which: str = "all"
) -> tuple[np.ndarray, np.ndarray]:
    """Reopenings and censorings of each group at each duration 0..horizon (counts), two [n_groups, horizon + 1].

    `group` int [row] says to which prompt (model, draw) a row belongs; `which` is "all", "inside" (entries within one
    word) or "outside". Feed it to `statistics.survival`: reopened share at 16 = `event_share(..., 16)`.
    """
    if which not in ("all", "inside", "outside"):
        raise InputError(f"which entries: 'all', 'inside' or 'outside'; got {which!r}.")
    keep = np.ones(len(found.row), bool) if which == "all" else found.inside_word == (which == "inside")
    of = np.asarray(group)[found.row[keep]]
    return life_table(found.duration[keep], found.reopened[keep], last=horizon, group=of, n_groups=n_groups)


def lag_one(values: np.ndarray) -> np.ndarray:
    """Lag-1 autocorrelation of the normal scores of each row (1), [..., n] -> [...], as it comes out of the data.

    Scores `Phi^-1((rank - 1/2) / n)`, then `sum x_t x_{t+1} / sum x_t^2`. In short series it lies below that of the
    process (by about (1 + 3 phi) / n, more near 1). NaN: n < 5 or a constant row.
    """
    values = np.asarray(values, float)
    n = values.shape[-1]
    if n < 5:
        return np.full(values.shape[:-1], np.nan)
    # ranks are halves, so the scores of all rows come from one table
    table = stats.norm.ppf((np.arange(2 * n + 1) / 2 - 0.5).clip(0.25, n - 0.25) / n)
    scores = table[np.rint(2 * stats.rankdata(values, axis=-1)).astype(int)]
    scores = scores - scores.mean(axis=-1, keepdims=True)
    square = (scores**2).sum(axis=-1)
    product = (scores[..., 1:] * scores[..., :-1]).sum(axis=-1)
    return np.divide(product, square, out=np.full(square.shape, np.nan), where=square > 1e-12)


def matched_correlation(r: np.ndarray, n: int, generator: np.random.Generator, *, n_draws: int = 400) -> np.ndarray:
    """The correlation an AR(1) process must have for its `lag_one` over n steps to be r on average (1), shape of r.

    Read from a curve simulated at 48 correlations; cut to 0..LARGEST_CORRELATION (a run that alternates has no
    use for a null of lasting collapses). Without it surrogates of a lag-1 correlation of .95 reopen too often, since
    `lag_one` sees .84 of it in 72 steps. NaN stays NaN.
    """
    grid = 1 - np.geomspace(1, 1 - LARGEST_CORRELATION, 48)
    z = _ar1(np.repeat(grid, n_draws).astype(np.float32), n, 1, generator)[0]
    mean = np.maximum.accumulate(lag_one(z).reshape(len(grid), n_draws).mean(axis=1))
    return np.where(np.isnan(r), np.nan, np.interp(r, mean, grid))


def ar1_surrogate(
    values: np.ndarray,
    threshold: float | np.ndarray,
    generator: np.random.Generator,
    *,
    n_draws: int = 200,
    correlation: np.ndarray | None = None,
) -> np.ndarray:
    """Where each run would be low if only its values and its lag-1 correlation counted: bool [n_draws, run, n].

    A stationary Gaussian AR(1) series whose `lag_one` is on average that of the run, mapped by ranks onto the run's
    own values (Gaussian copula): as many low steps as the run has, in other places. Only ranks matter, so the value at
    the boundary is found by sorting and nothing is mapped (a tie in single precision, 1 run in 10,000, adds a step).
    Shapes: values [run, n] without NaN (cut runs to one length); threshold a number or [run]; correlation [run] of the
    processes, where it is known already (None: `matched_correlation` of the values). A run whose correlation is
    undefined (constant) gets none.
    """
    values = np.asarray(values, float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(f"values must be [run, step] without NaN; got shape {values.shape}.")
    runs, n = values.shape
    matched = matched_correlation(lag_one(values), n, generator) if correlation is None else correlation
    phi = np.nan_to_num(matched).astype(np.float32)
    z = _ar1(phi, n, n_draws, generator)
    n_low = (values <= np.broadcast_to(threshold, (runs,))[:, None]).sum(axis=1)
    at, some = np.maximum(n_low - 1, 0)[:, None], (n_low > 0)[:, None]
    return np.stack([(x <= np.take_along_axis(np.sort(x, axis=-1), at, axis=-1)) & some for x in z])


def word_places(word_start: np.ndarray) -> np.ndarray:
    """Place of each step in its word, int [run, step]: 0 at its start, then 1, 2, and 3 for all others.

    Steps before the first start have 3 too. Shapes: word_start bool [run, step].
    """
    at = np.arange(word_start.shape[1])
    begun = np.maximum.accumulate(np.where(word_start, at, -WORD_PLACES), axis=1)
    return np.minimum(at - begun, WORD_PLACES - 1)


def word_shuffle(
    low: np.ndarray, word_start: np.ndarray, generator: np.random.Generator, *, n_draws: int = 200
) -> np.ndarray:
    """Low steps of each run shuffled among steps at the same place in their word: bool [n_draws, run, n].

    Inside a word little is left to choose, so entropy is low there whatever the model does. Places as `word_places`.
    Shapes: low, word_start bool [run, n].
    """
    low, start = np.asarray(low, bool), np.asarray(word_start, bool)
    if low.shape != start.shape or low.ndim != 2:
        raise InputError(f"low and word_start must both be [run, step]; got {low.shape} and {start.shape}.")
    place = word_places(start)
    # sorted words: place in the high bits, chance below, the mark itself in the lowest
    key = generator.integers(0, 2**28, size=(n_draws, *low.shape), dtype=np.uint32) << np.uint32(1)
    key |= (place.astype(np.uint32) << np.uint32(29)) | low
    key.sort(axis=-1)
    slot = np.argsort(np.argsort(place, axis=1, kind="stable"), axis=1)
    return np.take_along_axis((key & np.uint32(1)).astype(bool), np.broadcast_to(slot, key.shape), axis=-1)


def _ar1(phi: np.ndarray, n: int, n_draws: int, generator: np.random.Generator) -> np.ndarray:
    """Stationary standard Gaussian AR(1) series, float32 [n_draws, len(phi), n]."""
    z, scale = np.empty((n_draws, len(phi), n), np.float32), np.sqrt(1 - phi**2)
    for t in range(n):
        drawn = generator.standard_normal((n_draws, len(phi)), dtype=np.float32)
        z[..., t] = drawn if t == 0 else drawn * scale + phi * z[..., t - 1]
    return z


def _no_cycles() -> Cycles:
    none, no = np.zeros(0, np.int64), np.zeros(0, bool)
    return Cycles(none, none, none, no, no, no)
