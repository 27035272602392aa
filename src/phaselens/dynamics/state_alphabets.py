"""States of a step at a layer: two alphabets, which never share letters.

The bifurcation alphabet asks whether the layers disagree (turbulence T), whether two tokens rival (S) and whether one
has been chosen (C); the grammar explore -> process -> decide is a coarser reading of the same three marks. Names are
those of the published series, the thresholds are arguments.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from phaselens.errors import InputError
from phaselens.statistics.agreement import kendall_w
from phaselens.statistics.permutation import permutation_p

BIFURCATION = tuple(
    "A_HIDDEN_TURBULENCE B_SURFACE_BRANCHING C_COMMITTED_NO_BIFURCATION D_FULL_BIFURCATION_ZONE E_STABLE".split()
)
GRAMMAR = ("explore", "process", "decide")
A, B, C, D, E = range(5)
UNDEFINED = -1
_TO_GRAMMAR = np.array([1, 0, 2, 0, 1, UNDEFINED], dtype=np.int8)  # of A B C D E; the last is index -1
QUANTILES = (60.0, 65.0, 70.0, 75.0, 80.0, 85.0, 90.0)
RIVALRIES = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True, eq=False)
class Marks:
    """Three yes/no marks of each cell, and whether all three are defined; bool arrays of one shape."""

    turbulent: np.ndarray
    rival: np.ndarray
    committed: np.ndarray
    defined: np.ndarray


@dataclass(frozen=True, eq=False)
class Consistency:
    """Kendall's W of the occupancies over models (1), and what W is with the marks shuffled independently."""

    w: float
    p: float
    null: np.ndarray


def turbulence_threshold(calibration: np.ndarray, *, quantile: float | np.ndarray = 75.0) -> np.ndarray:
    """Turbulence above which a cell is turbulent (1): a percentile of the calibration runs, NaN left out.

    Pool the panel's calibration runs for one threshold, or give one model's for the second version. Shapes: any ->
    shape of `quantile`. NaN: no defined value.
    """
    values = np.asarray(calibration, float)
    values = values[np.isfinite(values)]
    return np.quantile(values, np.asarray(quantile) / 100) if len(values) else np.full(np.shape(quantile), np.nan)


def marks(
    columns: Mapping[str, np.ndarray],
    threshold: float,
    *,
    rivalry: float = 0.5,
    fewest_rivals: float = 2,
    lead: float = 0.5,
) -> Marks:
    """Marks of each cell (bool).

    `T = turbulence > threshold`, `S = rivalry >= .5 and n_above_1pct >= 2`, `C = p1 >= .5 and agrees`.
    Columns: `turbulence`, `rivalry`, `n_above_1pct`, `top1`, `agrees`, each [..., step, layer] or whatever shape they
    share. A cell is undefined where one of them (or the threshold) is: turbulence has no value at the last layer, which
    therefore has no state. Raises InputError for a missing column or shapes that differ.
    """
    names = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
    missing = [n for n in names if n not in columns]
    if missing:
        raise InputError(f"states need the columns {', '.join(names)}; missing: {', '.join(missing)}.")
    turbulence, rival, above, p1, agrees = (np.asarray(columns[n]) for n in names)
    if len({x.shape for x in (turbulence, rival, above, p1, agrees)}) > 1:
        raise InputError(f"the columns of a state share one shape; got {[np.shape(columns[n]) for n in names]}.")
    defined = np.logical_and.reduce([np.isfinite(x) for x in (turbulence, rival, above, p1, agrees)])
    defined &= np.isfinite(threshold)
    at, least, rivals, half = (np.float64(x) for x in (threshold, rivalry, fewest_rivals, lead))  # single stays single
    with np.errstate(invalid="ignore"):
        return Marks(
            (turbulence > at) & defined,
            (rival >= least) & (above >= rivals) & defined,
            (p1 >= half) & (agrees > np.float64(0.5)) & defined,
            defined,
        )


def bifurcation_states(of: Marks) -> np.ndarray:
    """State of each cell, int8 index into `BIFURCATION`, -1 where a mark is undefined.

    D if T and S; B if S; A if T; C if C; else E. Shapes: as the marks.
    """
    out = np.full(of.defined.shape, E, dtype=np.int8)
    for where, state in ((of.committed, C), (of.turbulent, A), (of.rival, B), (of.rival & of.turbulent, D)):
        out[where] = state
    out[~of.defined] = UNDEFINED
    return out


def grammar_states(states: np.ndarray) -> np.ndarray:
    """Later grammar of each cell, int8 index into `GRAMMAR`: explore B D, process A E, decide C; -1 stays."""
    return _TO_GRAMMAR[np.asarray(states)]


def state_counts(states: np.ndarray, n_states: int) -> np.ndarray:
    """How often each state occurs in each row (counts), undefined cells left out: [row, ...] -> [row, n_states]."""
    states = np.asarray(states)
    flat = states.reshape(len(states), -1)
    return np.stack([(flat == state).sum(axis=1) for state in range(n_states)], axis=1)


def occupancies(counts: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Share of each state among the defined cells (proportion).

    `sum_u w_u n_us / sum_u w_u n_u`. Shapes: counts [..., unit, state], weights [n_boot, unit] of a prompt bootstrap
    -> [..., state], or [n_boot, ..., state]; without weights each unit counts once. NaN: no defined cell.
    """
    counts = np.asarray(counts, float)
    total = counts.sum(axis=-2) if weights is None else np.einsum("bu,...us->b...s", np.asarray(weights, float), counts)
    whole = total.sum(axis=-1, keepdims=True)
    return np.divide(total, whole, out=np.full(total.shape, np.nan), where=whole > 0)


@dataclass(frozen=True, eq=False)
class Tally:
    """What consistency asks of one model: its defined cells, those with each mark, and those in each state (counts)."""

    defined: int
    turbulent: int
    rival: int
    committed: int
    states: np.ndarray


def tally(of: Marks) -> Tally:
    """Count the cells of one model, whose marks need not be kept then."""
    cells, turbulent, rival, committed = (int(x.sum()) for x in (of.defined, of.turbulent, of.rival, of.committed))
    return Tally(cells, turbulent, rival, committed, state_counts(bifurcation_states(of)[None], len(BIFURCATION))[0])


def shuffled_counts(of: Tally, generator: np.random.Generator, *, n_draws: int = 1000) -> np.ndarray:
    """State counts of one model with its three marks shuffled independently over its cells: int64 [n_draws, 5].

    Only the overlaps matter, and they are hypergeometric: `|T and S|` of the n defined cells, then how many of C fall
    on the cells with neither. The same law as shuffling the cells, without shuffling them.
    """
    n, t, s, c = of.defined, of.turbulent, of.rival, of.committed
    both = generator.hypergeometric(s, n - s, t, size=n_draws) if t else np.zeros(n_draws, np.int64)
    neither = n - t - s + both
    decided = np.zeros(n_draws, np.int64)
    some = neither > 0
    decided[some] = generator.hypergeometric(c, n - c, neither[some]) if n else 0
    return np.stack([t - both, s - both, decided, both, neither - decided], axis=1)


def consistency(models: list[Tally], generator: np.random.Generator, *, n_draws: int = 1000) -> Consistency:
    """Do models agree on how often each state occurs, beyond what the thresholds force (1)?

    Kendall's W of the five occupancies with models as judges, against W when T, S and C are shuffled independently
    within every model: the priority of the rules alone makes occupancies alike. NaN: fewer than two models.
    """
    w = kendall_w(occupancies(np.stack([m.states for m in models])[:, None]))
    drawn = np.stack([shuffled_counts(m, generator, n_draws=n_draws) for m in models], axis=1)
    null = np.asarray(kendall_w(occupancies(drawn[:, :, None])))
    return Consistency(float(w), permutation_p(float(w), null), null)
