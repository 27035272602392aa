"""Runs of unlike length: what they are too short for, and the same panel with all runs of an arm at one length.

In conversations a run ends with its turn. A mean over a whole run then depends on how long it is, so whatever rests on
such means is also judged at equal lengths: each run cut to the length that three quarters of every model's runs reach.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from phaselens.dynamics.regimes import WINDOW
from phaselens.experiments.base import ModelData, Panel

FEWEST = 8  # tokens: below, a mean of instability is one of fewer than six values
QUARTER = 0.25
AT_EQUAL_LENGTHS = "at equal lengths"
# What needs how many tokens.
NEEDS = ((3, "instability"), (FEWEST, "equal lengths"), (34, "a profile over quarters"), (WINDOW + 2, "ratio_norm"))
Limits = Mapping[str, int]


class _Rows(Mapping[str, np.ndarray]):
    """Some rows of a table of columns, each read when it is asked for."""

    def __init__(self, columns: Mapping[str, np.ndarray], keep: np.ndarray) -> None:
        self._columns, self._keep = columns, keep

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._columns[name])[self._keep]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


@dataclass(frozen=True)
class Stricter:
    """A panel that a verdict must hold in too (None: there is none): where that is, over what, what would settle it."""

    panel: Panel | None
    where: str
    words: str
    needed: str


def _lengths(model: ModelData) -> np.ndarray:
    return np.asarray(model.runs["n_generated"], int)


def limits_of(models: tuple[ModelData, ...]) -> dict[str, int]:
    """The common length of each sampling arm (tokens): reached by three quarters of the measured runs of every model.

    Empty where the runs of every arm have one length.
    """
    reached: dict[str, int] = {}
    unlike = False
    for arm in sorted({str(a) for m in models for a in np.asarray(m.runs["arm"])[m.measured]}):
        of = [_lengths(m)[m.measured & (np.asarray(m.runs["arm"]) == arm)] for m in models]
        of = [lengths for lengths in of if len(lengths)]
        reached[arm] = min(int(np.quantile(lengths, QUARTER, method="lower")) for lengths in of)
        unlike |= len(np.unique(np.concatenate(of))) > 1
    return reached if unlike else {}


def cut(model: ModelData, limit: np.ndarray) -> ModelData:
    """The model's runs cut to a length each (tokens, int [run]); shorter ones, and those of length 0, are left out."""
    run, lengths = np.asarray(model.runs["run"]), _lengths(model)
    long = (limit > 0) & (lengths >= limit)

    def rows(table: Mapping[str, np.ndarray]) -> _Rows:
        place = np.searchsorted(run, np.asarray(table["run"]))
        return _Rows(table, long[place] & (np.asarray(table["step"]) < limit[place]))

    runs = {name: np.asarray(column)[long] for name, column in model.runs.items()}
    ended = np.where((lengths > limit)[long], "length", runs["finish"])
    runs |= {"n_generated": limit[long], "finish": ended}
    said = (
        tuple(c[:n] for c, n, k in zip(model.completions, limit, long, strict=True) if k) if model.completions else ()
    )
    return replace(model, runs=runs, steps=rows(model.steps), layers=rows(model.layers), completions=said)


def _to_arms(model: ModelData, limits: Limits) -> ModelData:
    """The model's runs cut to the length of their arm; those of other arms are left out."""
    return cut(model, np.array([limits.get(str(arm), 0) for arm in np.asarray(model.runs["arm"])], int))


def answers_that_ended(panel: Panel) -> Stricter | None:
    """The panel without runs that the limit of tokens cut off; None where in no model some were and some were not.

    An answer that was cut off is wrong for that, mostly: what goes with long sentences then goes with errors.
    """

    def ended(m: ModelData) -> np.ndarray:
        return np.asarray(m.runs["finish"]) != "length"

    mixed = {m.info.name for m in panel.models if 0 < int(ended(m)[m.measured].sum()) < int(m.measured.sum())}
    if not mixed:
        return None
    kept = (cut(m, np.where(ended(m), _lengths(m), 0)) if m.info.name in mixed else m for m in panel.models)
    off = sum(int((~ended(m))[m.measured].sum()) for m in panel.models)
    words = f"{off} of {sum(int(m.measured.sum()) for m in panel.models)} were cut off by the limit of tokens"
    needed = "a limit that lets answers end by themselves: a larger max_new_tokens"
    return Stricter(replace(panel, models=tuple(kept)), "among answers that ended", words, needed)


def equal_lengths(panel: Panel) -> Stricter | None:
    """The panel at equal lengths; None where the runs of every arm have one length anyway."""
    limits = limits_of(panel.models)
    paired = limits_of(tuple(m.pairs for m in panel.models if m.pairs is not None))
    if not limits and not paired:
        return None
    models = tuple(_to_arms(m, limits) if limits else m for m in panel.models)
    models = tuple(replace(m, pairs=_to_arms(m.pairs, paired)) if paired and m.pairs else m for m in models)
    n_runs, kept = (sum(int(m.measured.sum()) for m in of) for of in (panel.models, models))
    enough = min((*limits.values(), *paired.values())) >= FEWEST
    tokens = ", ".join(f"{n}" for n in sorted({*paired.values(), *limits.values()}))
    words = f"the first {tokens} tokens of each run; {n_runs - kept} of {n_runs} runs are shorter"
    needed = "runs of one length: suppress_eos = true, or prompts with longer answers"
    return Stricter(replace(panel, models=models) if enough else None, AT_EQUAL_LENGTHS, words, needed)


def length_notes(panel: Panel, equal: Stricter | None) -> tuple[str, ...]:
    """How long the runs are, and for what how many are too short; nothing where they have one length."""
    if equal is None:
        return ()
    lengths = np.concatenate([_lengths(m)[m.measured] for m in panel.models])
    short = [f"{int((lengths < n).sum())} for {what} ({n} tokens)" for n, what in NEEDS if (lengths < n).any()]
    said = f"runs of unlike length: {lengths.min()} to {lengths.max()} tokens, median {np.median(lengths):g}"
    said += f"; too short of {len(lengths)} runs: {', '.join(short)}" if short else ""
    return (said,) if equal.panel else (said, f"equal lengths are not possible: no {FEWEST} tokens that most reach")
