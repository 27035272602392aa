"""Experiment: do low-entropy states of the output reopen more than chance makes them? COLLAPSE-RIVALRY, and C1."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from phaselens.claims import IntervalEvidence, Requirement, above, below
from phaselens.dynamics.cycles import (
    HORIZON,
    STREAK,
    Cycles,
    ar1_surrogate,
    collapse_threshold,
    cycle_table,
    cycles,
    lag_one,
    matched_correlation,
    rivalry_state,
    word_shuffle,
)
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import percentile_interval, undefined_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.survival import event_rate, event_share, survival

STEPS = ("entropy_norm", "top1", "top2")
SURROGATES = 200
AT_ONCE = 1024  # runs whose surrogates are in memory together
FEWEST_ENTRIES = 50
SLOWER = 0.9
WHICH = ("outside", "all", "inside")
ALL_MODELS = "all trained models"
BANDS = ("AR1", "words")
Figure = Callable[[np.ndarray, np.ndarray, int], np.ndarray | np.float64]  # of reopenings, censorings and a horizon


@dataclass(frozen=True, eq=False)
class Tables:
    """Life tables of one model (or of several added up) for one kind of entries.

    `own` [2, prompt, time] holds reopenings and censorings by prompt, `nulls` by name alike [2, draw, time].
    """

    own: np.ndarray
    nulls: Mapping[str, np.ndarray]

    def __add__(self, other: "Tables") -> "Tables":
        shared = {k: self.nulls[k] + other.nulls[k] for k in self.nulls if k in other.nulls}
        return Tables(self.own + other.own, shared)

    @property
    def entries(self) -> int:
        """Entries into collapse (count)."""
        return int(self.own.sum())

    @property
    def share(self) -> float:
        """Kaplan-Meier share reopened within the horizon (proportion); NaN: nobody was followed that far."""
        return float(self._of(event_share, self.own.sum(axis=1)))

    @property
    def rate(self) -> float:
        """Reopenings per step in collapse, up to the horizon (1 / step); NaN: no step was followed."""
        return float(self._of(event_rate, self.own.sum(axis=1)))

    @staticmethod
    def _of(figure: Figure, table: np.ndarray) -> np.ndarray:
        return np.asarray(figure(table[0], table[1], HORIZON))

    def draws(self, of: Figure, weights: np.ndarray) -> np.ndarray:
        """The share or the rate in each resample of the prompts, [B]."""
        return self._of(of, np.stack([weights @ part for part in self.own]))

    def null(self, of: Figure, name: str) -> np.ndarray:
        """The share or the rate in each draw of a null, [draw]; empty where the null was not made."""
        return self._of(of, self.nulls[name]) if name in self.nulls else np.zeros(0)


@dataclass(frozen=True, eq=False)
class Found:
    """The cycles of one model: whose, what was found, and the tables of each kind of entries ("all", "inside" ...)."""

    model: ModelData
    cycles: Cycles
    tables: Mapping[str, Tables]
    threshold: float
    lag_one: float
    words_known: bool


def word_starts(model: ModelData, n_steps: int) -> np.ndarray | None:
    """Whether a word begins with the token of each step of each run, bool [run, step]; None: not known.

    The first token of a generation begins one.
    """
    if model.word_start_tokens is None or not model.completions:
        return None
    starts = np.fromiter(model.word_start_tokens, np.int64, len(model.word_start_tokens))
    out = np.zeros((len(model.completions), n_steps), bool)
    for row, tokens in zip(out, model.completions, strict=True):
        kept = tokens[:n_steps]
        row[: len(kept)] = np.isin(kept, starts)
    out[:, :1] = True
    return out


def find_cycles(panel: Panel, model: ModelData) -> Found | None:
    """Entries into collapse of the measured runs of a model, and both nulls for a trained one.

    None: the columns were not recorded, or no calibration run says what low is.
    """
    if not set(STEPS) <= set(model.steps):
        return None
    entropy, p1, p2 = (model.per_step(c) for c in STEPS)
    threshold = collapse_threshold(entropy[~model.measured])
    if not math.isfinite(threshold) or not model.measured.any():
        return None
    prompt = panel.unit_index(model)[model.measured]
    starts = word_starts(model, entropy.shape[1])
    starts = None if starts is None else starts[model.measured]
    entropy, p1, p2 = (x[model.measured] for x in (entropy, p1, p2))
    seen = np.isfinite(entropy)
    with np.errstate(invalid="ignore"):
        low = entropy <= threshold
    found = cycles(low, rivalry_state(p1, p2), starts, seen)
    nulls = {} if model.info.twin else _nulls(panel, model, entropy, low, starts)
    n = len(panel.units)
    tables = {}
    for which in WHICH if starts is not None else ("all",):
        own = np.stack(cycle_table(found, prompt, n, which=which))
        drawn = {k: sum((_by_draw(c, which, of) for c, of in v), np.zeros((), int)) for k, v in nulls.items()}
        tables[which] = Tables(own, drawn)
    return Found(model, found, tables, threshold, _mean_lag(entropy, seen), starts is not None)


def _by_draw(found: Cycles, which: str, runs: int) -> np.ndarray:
    """Life tables of surrogates [2, draw, time]; rows of `found` are draws of `runs` runs each."""
    draw = np.repeat(np.arange(SURROGATES), runs)
    return np.stack(cycle_table(found, draw, SURROGATES, which=which))


def _nulls(
    panel: Panel, model: ModelData, entropy: np.ndarray, low: np.ndarray, starts: np.ndarray | None
) -> dict[str, list[tuple[Cycles, int]]]:
    """Cycles of both nulls, for runs of one length at a time: by null a list of (cycles, number of runs)."""
    out: dict[str, list[tuple[Cycles, int]]] = {n: [] for n in BANDS if n == "AR1" or starts is not None}
    lengths = _whole_lengths(entropy)
    for n in np.unique(lengths[lengths >= STREAK]):
        generators = [panel.generator(f"C1 {null} {model.info.name} {n}") for null in ("AR1", "words")]
        runs = np.flatnonzero(lengths == n)
        for some in (runs[i : i + AT_ONCE] for i in range(0, len(runs), AT_ONCE)):
            begun, values, marked = None if starts is None else starts[some, :n], entropy[some, :n], low[some, :n]
            drawn = ar1_surrogate(
                values, _level(values, marked), generators[0], n_draws=SURROGATES, correlation=_correlation(values)
            )
            out["AR1"].append((cycles(drawn, None, begun), len(some)))
            if begun is not None:
                drawn = word_shuffle(marked, begun, generators[1], n_draws=SURROGATES)
                out["words"].append((cycles(drawn, None, begun), len(some)))
    return out


@lru_cache(maxsize=32)
def _matched(n: int) -> tuple[np.ndarray, np.ndarray]:
    """`matched_correlation` on a grid of observed ones: a constant of the length n, so it has its own seed."""
    seen = np.linspace(0.0, 1.0, 501)
    return seen, matched_correlation(seen, n, np.random.default_rng([n, 1]))


def _correlation(values: np.ndarray) -> np.ndarray:
    """The AR(1) correlation that each run's values ask for (1), [run]; NaN: a constant run."""
    seen, matched = _matched(values.shape[1])
    r = lag_one(values)
    return np.where(np.isnan(r), np.nan, np.interp(r, seen, matched))


def _level(values: np.ndarray, low: np.ndarray) -> np.ndarray:
    """The largest low value of each run, which splits its values as the threshold does, [run]."""
    return np.where(low.any(axis=1), np.where(low, values, -np.inf).max(axis=1), -np.inf)


def _whole_lengths(entropy: np.ndarray) -> np.ndarray:
    """Steps of each run before the first undefined one (counts), int [run]."""
    gap = ~np.isfinite(entropy)
    return np.where(gap.any(axis=1), gap.argmax(axis=1), entropy.shape[1])


def _mean_lag(entropy: np.ndarray, seen: np.ndarray) -> float:
    whole = entropy[seen.all(axis=1)]
    r = lag_one(whole) if len(whole) and whole.shape[1] else np.zeros(0)
    r = r[np.isfinite(r)]
    return float(r.mean()) if len(r) else math.nan


def _band(values: np.ndarray) -> tuple[float, float, float]:
    """Median, 2.5 % and 97.5 % point of the draws of a null; NaN where it was not made or is not defined."""
    values = values[np.isfinite(values)]
    if len(values) < SURROGATES / 2:
        return math.nan, math.nan, math.nan
    lo, middle, hi = np.quantile(values, [0.025, 0.5, 0.975])
    return float(middle), float(lo), float(hi)


def _banded(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in BANDS:
        middle, lo, hi = _band(values.get(name, np.zeros(0)))
        out |= {name: middle, f"{name}_lo": lo, f"{name}_hi": hi}
    return out


def _entered(found: Cycles, which: str) -> Cycles:
    keep = np.ones(len(found.row), bool) if which == "all" else found.inside_word == (which == "inside")
    return Cycles(*(getattr(found, k)[keep] for k in vars(found)))


def _row(panel: Panel, one: Found, which: str) -> dict:
    table = one.tables[which]
    prompts = _prompts(one.tables["all"])
    counted = _entered(one.cycles, which).counts()
    counted.pop("inside_word")
    return (
        {**one.model.info.named, "entries_in": which, **counted, **_shares(panel, table, prompts)}
        | {"n_surrogates": SURROGATES if table.nulls else 0, "n_runs": int(one.model.measured.sum())}
        | picked(one, "threshold lag_one")
    )


def _shares(panel: Panel, table: Tables, prompts: int) -> dict[str, object]:
    """Columns on the share reopened, beside its nulls, and on the rate of reopening."""
    share = percentile_interval(table.draws(event_share, panel.weights), prompts)
    rate = percentile_interval(table.draws(event_rate, panel.weights), _prompts(table))
    return (
        {
            "share": table.share,
            **bounds(share),
            **_banded({name: table.null(event_share, name) for name in table.nulls}),
        }
        | {"n_prompts": prompts, "reason": share.reason if table.entries else "no entry into collapse"}
        | {"rate": table.rate, **bounds(rate, "rate")}
        | {f"rate_{name}": _band(table.null(event_rate, name))[0] for name in BANDS}
    )


def _prompts(table: Tables) -> int:
    """Prompts with an entry (count)."""
    return int((table.own.sum(axis=(0, 2)) > 0).sum())


def pooled(found: Sequence[Found], which: str) -> Tables | None:
    """The tables of all trained models added up; None where one of them does not have that kind."""
    tables = [one.tables.get(which) for one in found if not one.model.info.twin]
    known = [t for t in tables if t is not None]
    if not known or len(known) < len(tables):
        return None
    total = known[0]
    for table in known[1:]:
        total = total + table
    return total


def _pooled_row(panel: Panel, found: Sequence[Found], which: str, table: Tables) -> dict:
    own = [row for one in found if not one.model.info.twin for row in [_row(panel, one, which)]]
    added = ("entries", "reopened", "to_rivalry", "to_neutral", "permanent", "censored", "n_runs")
    return (
        own[0]
        | {"model": ALL_MODELS, **{k: sum(row[k] for row in own) for k in added}}
        | {"threshold": math.nan, "lag_one": float(np.mean([row["lag_one"] for row in own]))}
        | _shares(panel, table, _prompts(table))
    )


def _curve_rows(panel: Panel, name: str, twin: bool, which: str, table: Tables) -> list[dict]:
    """The Kaplan-Meier curve (share not yet reopened) with its interval and the bands of both nulls, per step."""
    curve = survival(*table.own.sum(axis=1))
    draws = survival(*(np.tensordot(panel.weights, part, 1) for part in table.own))
    nulls = {k: survival(*v) for k, v in table.nulls.items()}
    rows = []
    for t in range(HORIZON + 1):
        interval = percentile_interval(draws[:, t], _prompts(table))
        found = {"still": curve[t], **bounds(interval), **_banded({k: v[:, t] for k, v in nulls.items()})}
        rows.append({"model": name, "twin": twin, "entries_in": which, "step": t, **found})
    return rows


def _evidence(panel: Panel, found: Sequence[Found]) -> IntervalEvidence:
    trained = [one for one in found if not one.model.info.twin]
    if not trained:
        why = (
            "no trained model has entropy_norm, top1 and top2 at the output, and calibration runs that say what is low"
        )
        return IntervalEvidence(math.nan, undefined_interval(why), (), (), counts(panel), n=0, needed=why, lacking=why)
    known = all(one.words_known for one in trained)
    which = "outside" if known else "all"
    table = pooled(found, which)
    assert table is not None  # every model has "all", and "outside" where its words are known
    rates = {name: table.null(event_rate, name) for name in table.nulls}
    bands = [_band(values) for values in rates.values()]
    middle, top = [b[0] for b in bands], [b[2] for b in bands]
    interval = percentile_interval(table.draws(event_rate, panel.weights), _prompts(table))
    p = max(permutation_p(table.rate, values) for values in rates.values())
    below_both = interval.hi < SLOWER * min(middle)
    inside = sum(int(one.cycles.inside_word.sum()) for one in trained)
    return IntervalEvidence(
        estimate=table.rate,
        interval=interval,
        supported=above(max(middle)),
        rejected=below(SLOWER * min(middle)),
        counts=counts(panel)
        | {"models with cycles": len(trained), "entries": table.entries, "inside one word": inside}
        | {"surrogates": SURROGATES},
        n=table.entries,
        needed="more runs, or longer ones: more entries into collapse",
        requirements=(_known(known), _entered_enough(table.entries), _beyond(table.rate, top, below_both)),
        p=p,
        null=max(top),
        of="reopenings per step",
    )


def _known(known: bool) -> Requirement:
    why = "" if known else "which tokens begin a word is not known, so entries inside a word cannot be counted apart"
    return Requirement("word starts", known, why, "a tokenizer whose tokens can be read as bytes")


def _entered_enough(entries: int) -> Requirement:
    enough = entries >= FEWEST_ENTRIES
    why = "" if enough else f"{entries} entries into collapse that are not inside one word"
    return Requirement("entries", enough, why, f"at least {FEWEST_ENTRIES} entries: more runs, or longer ones")


def _beyond(rate: float, top: Sequence[float], below_both: bool) -> Requirement:
    """The estimate lies above the 97.5 % point of both nulls; of no matter where the interval rejects."""
    met = below_both or all(rate > point for point in top)
    why = "" if met else f"the 97.5 % points of the nulls are {', '.join(f'{point:.3f}' for point in top)}"
    return Requirement("nulls", met, why, "more runs, or longer ones: the bands of the nulls narrow with the entries")


def _found(panel: Panel) -> list[Found]:
    return [one for model in panel.models if (one := find_cycles(panel, model)) is not None]


def cycles_evidence(panel: Panel) -> dict:
    """The evidence for C1 as `analyse_cycles` gives it, without its tables."""
    return {"C1": _evidence(panel, _found(panel))}


def analyse_cycles(panel: Panel) -> Result:
    """Tables cycles, cycles_curve; evidence for C1."""
    found = _found(panel)
    rows = [_row(panel, one, which) for one in found for which in one.tables]
    curves = [
        row
        for one in found
        for which, table in one.tables.items()
        for row in _curve_rows(panel, one.model.info.name, one.model.info.twin, which, table)
    ]
    for which in WHICH:
        table = pooled(found, which)
        if table is not None:
            rows.append(_pooled_row(panel, found, which, table))
            curves += _curve_rows(panel, ALL_MODELS, False, which, table)
    absent = [m.info.name for m in panel.models if m.info.name not in {one.model.info.name for one in found}]
    said = f"no cycles for {', '.join(absent)}: {', '.join(STEPS)} and calibration runs are needed" if absent else ""
    return Result(
        filled(cycles=rows, cycles_curve=curves),
        evidence={"C1": _evidence(panel, found)},
        notes=(said,) if said else (),
    )


CYCLE = declared("cycles", analyse_cycles, cycles_evidence, steps=STEPS)
