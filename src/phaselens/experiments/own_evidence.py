"""Evidence for a study's own claims, from the tables that its experiments gave: rows, one value per unit, an interval.

Untrained twins take no part unless the claim speaks of the column `twin`: a trained model and its twin are no two
draws of the same thing.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from phaselens.claims import IntervalEvidence, Outcome, OwnClaim, Region
from phaselens.claims.own_claims import OwnControl
from phaselens.claims.verdict_records import OutcomeWord, word_of
from phaselens.errors import InputError, UnknownNameError, unknown_name
from phaselens.experiments import EXPERIMENTS
from phaselens.statistics.intervals import undefined_interval
from phaselens.statistics.unit_effects import (
    UnitEffect,
    difference_effect,
    mean_effect,
    median_effect,
    rank_correlation_effect,
    unit_means,
    units_to_decide,
)

Tables = Mapping[str, pa.Table]
TWIN, UNTRAINED = "twin", ":untrained"
HALF = 0.5
SHOWN = 4


@dataclass(frozen=True)
class Seen:
    """One effect, the number of rows behind it, and in words what the rows of one unit differ in."""

    effect: UnitEffect
    rows: int
    averaged: str = ""


def own_evidence(own: OwnClaim, tables: Tables, counts: Mapping[str, int]) -> IntervalEvidence:
    """All that decides one own claim; a table or column that is not there is what the study lacks."""
    try:
        seen = _seen(own, tables)
    except InputError as error:
        nothing = undefined_interval("not computed")
        lack = f"{error}"
        return IntervalEvidence(
            float("nan"), nothing, own.supported, own.rejected, counts=dict(counts), n=0, needed=lack, lacking=lack
        )
    effect = seen.effect
    return IntervalEvidence(
        estimate=effect.value,
        interval=effect.interval,
        supported=own.supported,
        rejected=own.rejected,
        counts={**counts, "rows": seen.rows, f"units ({own.unit})": effect.n},
        n=effect.n,
        needed=_needed(own, effect),
        outcomes=tuple(_outcome(own, control, effect, tables) for control in own.controls),
        p=p_of(own, effect),
        null=own.bounds[0] if len(own.bounds) == 1 else own.centre,
        of=seen.averaged,
    )


def p_of(own: OwnClaim, effect: UnitEffect) -> float:
    """The p-value of the rule (probability): twice the one-sided one, so that .05 is where the 95 % interval decides.

    `inside` takes the larger of its two sides (both must hold), `outside` the smaller.
    """
    sides = [effect.tails(bound) for bound in own.bounds]
    if own.comparison == "above":
        one = sides[0][0]
    elif own.comparison == "below":
        one = sides[0][1]
    elif own.comparison == "inside":
        one = max(sides[0][0], sides[1][1])
    else:
        one = min(sides[0][1], sides[1][0])
    return min(1.0, 2 * one) if np.isfinite(one) else float("nan")


def _needed(own: OwnClaim, effect: UnitEffect) -> str:
    """What would settle it, in words."""
    kind = {"model": "models", "prompt_id": "prompts", "family": "families"}[own.unit]
    if effect.interval.reason:
        return f"more {kind}: {effect.interval.reason}"
    count = units_to_decide(effect, own.bounds)
    if count is None:
        return f"no number of {kind} settles it: the estimate lies on the margin"
    return f"about {count} {kind} if estimate and spread hold (here: {effect.n}), or the controls that are undecided"


def _outcome(own: OwnClaim, control: OwnControl, main: UnitEffect, tables: Tables) -> Outcome:
    """What one control did to the effect."""
    changed = own.model_copy(
        update={
            "table": control.table or own.table,
            "value": control.value or own.value,
            "where": {**own.where, **control.where},
        }
    )
    try:
        effect = _seen(changed, tables).effect
    except InputError as error:
        return Outcome(control.name, "missing", str(error))
    interval = effect.interval
    said = f"{effect.value:.3g} [{interval.lo:.3g}, {interval.hi:.3g}], n = {effect.n}"
    if interval.reason:
        return Outcome(control.name, "undecided", f"the interval is undefined: {interval.reason}")
    facts: dict = {"p": p_of(changed, effect), "gap_interval": interval}
    holds, fails = _in(own.supported, effect), _in(own.rejected, effect)
    if control.must == "keep":
        return Outcome(control.name, word_of(holds, fails), said, **facts)
    if holds:
        return Outcome(control.name, "explains it away", f"the effect is there too: {said}", **facts)
    word: OutcomeWord = "survived" if fails or _under_half(own, main, effect) else "undecided"
    return Outcome(control.name, word, said, **facts)


def _in(regions: tuple[Region, ...], effect: UnitEffect) -> bool:
    return any(region.holds(effect.interval) for region in regions)


def _under_half(own: OwnClaim, main: UnitEffect, control: UnitEffect) -> bool:
    """Whether the control surely keeps less than half of the way from the margin to the estimate."""
    bound = min(own.bounds, key=lambda b: abs(main.value - b))
    middle = bound + HALF * (main.value - bound)
    return control.interval.hi < middle if main.value > bound else control.interval.lo > middle


def _seen(own: OwnClaim, tables: Tables) -> Seen:
    """The effect that a claim speaks of. Raises InputError where tables, columns or rows are not there."""
    if own.table not in tables:
        raise unknown_name("table of results", own.table, tables)
    table = tables[own.table]
    columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in _names(own, table)}
    keep = np.ones(table.num_rows, bool)
    for name, wanted in own.where.items():
        keep &= _among(columns[name], wanted)
    if TWIN in columns and TWIN not in own.where and (own.groups is None or own.groups.column != TWIN):
        keep &= ~columns[TWIN].astype(bool)
    if not keep.any():
        raise InputError(f"no row of results/{own.table}.parquet is as the claim wants it ({own.where}).")
    return Seen(_effect(own, columns, keep), int(keep.sum()), _averaged(own, table, columns[own.unit], keep))


@cache
def _known() -> dict[str, dict[str, str | list[str]]]:
    """What every column of `results/` can hold."""
    return {table.name: table.holds for e in EXPERIMENTS for table in e.tables}


def _averaged(own: OwnClaim, table: pa.Table, units: np.ndarray, keep: np.ndarray) -> str:
    """The columns that say what a row is, differ among the rows of one unit, and are not named by the claim, in words.

    A mean over nine lenses of a model is a choice: whoever makes it without saying so reads it in the verdict.
    """
    named = {own.value, own.unit, own.other, *own.where, *([own.groups.column] if own.groups else ())}
    kinds = _known().get(own.table, {})
    out = []
    for name in table.column_names:
        if name in named or name in (TWIN, "run") or kinds.get(name, "number") in ("number", "truth", "said"):
            continue
        values = table.column(name).to_numpy(zero_copy_only=False)[keep].astype(str)
        pairs = np.unique(np.stack([units[keep].astype(str), values]), axis=1)
        most = int(np.unique(pairs[0], return_counts=True)[1].max())
        if most > 1:
            shown = list(dict.fromkeys(values.tolist()))
            more = ", ..." if len(shown) > SHOWN else ""
            out.append(f"{name} (up to {most} a {own.unit}: {', '.join(shown[:SHOWN])}{more})")
    return f"averaged over {'; '.join(out)}" if out else ""


def require_known(own: OwnClaim, models: Collection[str]) -> None:
    """See before any data that the columns and values which a claim names can occur; `models` are the study's.

    Values are checked where they are fixed. Raises InputError, with the nearest name.
    """
    parts = [(own.table, [own.value, *([own.other] if own.other else [])], own.where)]
    parts += [(c.table or own.table, [c.value or own.value], c.where) for c in own.controls]
    if own.groups is not None:
        parts.append((own.table, [], {own.groups.column: (*own.groups.first, *own.groups.second)}))
    for name, numbers, where in parts:
        table = _known().get(name)
        if table is None:  # a table that only some studies have
            continue
        for column in (*numbers, own.unit, *where):
            if column not in table:
                raise unknown_name(f"column of results/{name}.parquet", column, table)
        for column in numbers:
            if table[column] not in ("number", "truth", "place"):
                raise InputError(f"column {column!r} of results/{name}.parquet holds names, not numbers.")
        for column, wanted in where.items():
            kind = [n + end for n in models for end in ("", UNTRAINED)] if column == "model" else table[column]
            for value in wanted if isinstance(wanted, tuple) else (wanted,):
                _require_value(f"{column} of results/{name}.parquet", kind, value)


def _require_value(place: str, kind: str | Collection[str], value: object) -> None:
    """See that a value of a filter can occur in a column of this kind."""
    what = {"truth": "true or false", "number": "numbers", "place": "numbers"}.get(str(kind), "text")
    held = {"true or false": bool, "numbers": int | float, "text": str}[what]
    if not isinstance(value, held) or (what == "numbers" and isinstance(value, bool)):
        raise InputError(f"{place} holds {what}; got {value!r}.")
    if not isinstance(kind, str) and value not in kind:
        raise unknown_name(f"value of {place}:", str(value), kind)


def _names(own: OwnClaim, table: pa.Table) -> list[str]:
    """The columns that a claim reads. Raises UnknownNameError for one that the table does not have."""
    wanted = [own.value, own.unit, *own.where, *([own.other] if own.other else [])]
    wanted += [own.groups.column] if own.groups else []
    for name in wanted:
        if name not in table.column_names:
            raise _unknown_column(name, own.table, table)
    kind = table.schema.field(own.value).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise InputError(f"column {own.value!r} of results/{own.table}.parquet holds {kind}, not numbers.")
    return [*dict.fromkeys(wanted), *([TWIN] if TWIN in table.column_names and TWIN not in wanted else [])]


def _unknown_column(name: str, table_name: str, table: pa.Table) -> UnknownNameError:
    return unknown_name(f"column of results/{table_name}.parquet", name, table.column_names)


def _among(column: np.ndarray, wanted: object) -> np.ndarray:
    """Mask of the rows whose value is (one of) `wanted`."""
    return np.isin(column, np.array(list(wanted) if isinstance(wanted, tuple) else [wanted]))


def _effect(own: OwnClaim, columns: Mapping[str, np.ndarray], keep: np.ndarray) -> UnitEffect:
    values = _scaled(own, np.asarray(columns[own.value], float))
    units = columns[own.unit].astype(str)
    if own.groups is not None and own.groups.column == TWIN:  # so that a model and its untrained twin are a pair
        units = np.array([name.removesuffix(UNTRAINED) for name in units])
    if own.groups is not None:
        return _difference(own, values, units, columns[own.groups.column], keep)
    first, names = unit_means(values[keep], units[keep])
    if own.other is None:
        return median_effect(first) if own.statistic == "median" else mean_effect(first)
    second, others = unit_means(np.asarray(columns[own.other], float)[keep], units[keep])
    _, at, to = np.intersect1d(names, others, return_indices=True)
    return rank_correlation_effect(first[at], second[to])


def _difference(
    own: OwnClaim, values: np.ndarray, units: np.ndarray, column: np.ndarray, keep: np.ndarray
) -> UnitEffect:
    """First less second group: of pairs where the same units are in both groups, else of means.

    Where only some units are in both, the pairs alone count: the others would be compared with themselves.
    """
    masks = [keep & _among(column, wanted) for wanted in (own.groups.first, own.groups.second)]
    (first, one), (second, two) = (unit_means(values[mask], units[mask]) for mask in masks)
    _, at, to = np.intersect1d(one, two, return_indices=True)
    return mean_effect(first[at] - second[to]) if len(at) else difference_effect(first, second)


def _scaled(own: OwnClaim, values: np.ndarray) -> np.ndarray:
    """The values, or their natural logarithms; NaN where not positive."""
    if own.scale == "plain":
        return values
    return np.log(values, out=np.full(len(values), np.nan), where=values > 0)
