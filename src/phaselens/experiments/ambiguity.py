"""Experiment: what ambiguity does to runs, on minimal pairs observed beside the study's own prompts. A1-A3.

A pair is one ambiguous prompt with both of its disambiguations. The unit is what is ambiguous, such as one homonym: its
pairs are averaged first, since their differences go together (ICC up to .5 over the frames of one noun). A systematic
difference of words alone (the two disambiguations against each other, and untrained twins) stands beside every effect.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from phaselens.claims import FlagEvidence, Outcome
from phaselens.claims.verdict_records import OutcomeWord
from phaselens.dynamics.ambiguity import FEWEST_UNITS, Effect, Flag, comparable_pairs, effects, flag, paired_difference
from phaselens.dynamics.state_alphabets import BIFURCATION, bifurcation_states, marks, turbulence_threshold
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import Interval, percentile_interval, undefined_interval
from phaselens.statistics.multiplicity import partial_conjunction
from phaselens.statistics.resampling import bootstrap_weights, resampled_ratio

READINGS = ("ambiguous", "first", "second")
AT_RECORD = ("turning_angle", "instability")
AT_OUTPUT = ("commit_depth", "entropy_norm")
STATES = ("turbulence", "rivalry", "n_above_1pct", "top1", "agrees")
MATCHED = "commit_depth at equal entropy"
QUESTIONS = (("turning_angle", "AFFECTS", 0), ("instability", "INCREASES", 1), ("commit_depth", "DELAYS", 1))


@dataclass(frozen=True, eq=False)
class Pairs:
    """Runs of the minimal pairs of one model: every outcome [reading, unit], a mean over a unit's comparable pairs.

    Comparable are the `kept` of `n_pairs` pairs whose three prompts have one length to within a token; `comparable`
    marks the units (`ids`) that have one, the others are NaN.
    """

    ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    comparable: np.ndarray
    n_pairs: int
    kept: int

    def differences(self, outcome: str) -> np.ndarray:
        """Ambiguous less the mean of both disambiguations (unit of the outcome), [unit]; NaN where not comparable."""
        return paired_difference(*self.values[outcome])


def pairs_of(model: ModelData, threshold: float) -> Pairs | None:
    """The minimal pairs of one model; None where none was observed. `threshold`: turbulence of the panel's q75."""
    seen = model.pairs
    if seen is None:
        return None
    split = [str(p).rpartition("/") for p in np.asarray(seen.runs["prompt_id"])]
    ids = tuple(sorted({pair for pair, _, _ in split}))
    place = {pair: i for i, pair in enumerate(ids)}
    cell = tuple(np.array([(READINGS.index(r), place[p]) for p, _, r in split]).T)
    shape = (len(READINGS), len(ids))

    def grid(per_run: np.ndarray) -> np.ndarray:
        out = np.full(shape, np.nan)
        out[cell] = per_run
        return out

    lengths = grid(np.asarray(seen.runs["n_prompt"], float))
    whole = np.isfinite(lengths).all(axis=0)
    kept = whole & comparable_pairs(*np.where(whole, lengths, [[0], [9], [9]]))
    about = {p: str(u) if str(u) != "/".join((p, r)) else p for (p, _, r), u in zip(split, seen.units, strict=True)}
    units, unit = np.unique([about[pair] for pair in ids], return_inverse=True)

    def by_unit(per_pair: np.ndarray) -> np.ndarray:
        use = kept & np.isfinite(per_pair).all(axis=0)
        n = np.bincount(unit[use], minlength=len(units))
        sums = np.stack([np.bincount(unit[use], row[use], minlength=len(units)) for row in per_pair])
        return np.divide(sums, n, out=np.full(sums.shape, np.nan), where=n > 0)

    values = {name: by_unit(grid(v)) for name, v in _per_run(seen, threshold).items() if np.isfinite(v).any()}
    some = np.bincount(unit[kept], minlength=len(units)) > 0
    return Pairs(tuple(map(str, units)), values, some, len(ids), int(kept.sum()))


def _per_run(seen: ModelData, threshold: float) -> dict[str, np.ndarray]:
    """Outcomes of every run (unit of each), [run]; NaN where not recorded."""
    layer, n = seen.layer_of_record, len(np.asarray(seen.runs["run"]))
    nothing = np.full(n, np.nan)
    out = {}
    for name in AT_RECORD:
        cells = seen.at_layer(name, layer)
        out[name] = nothing if cells is None else _mean(cells)
    for name in AT_OUTPUT:
        out[name] = _mean(seen.per_step(name)) if name in seen.steps else nothing
    if "twin_cosine" in seen.runs:
        out["twin_cosine"] = np.asarray(seen.runs["twin_cosine"], float)
    if set(STATES) <= set(seen.layers) and math.isfinite(threshold):
        states = bifurcation_states(marks({c: seen.per_layer(c)[:, :, :] for c in STATES}, threshold))
        total = (states >= 0).sum(axis=(1, 2))
        for k, name in enumerate(BIFURCATION):
            with np.errstate(invalid="ignore", divide="ignore"):
                out[f"share {name[0]}"] = np.where(total > 0, (states == k).sum(axis=(1, 2)) / total, np.nan)
    return out


def _mean(cells: np.ndarray) -> np.ndarray:
    seen = np.isfinite(cells)
    with np.errstate(invalid="ignore"):
        return np.where(seen, cells, 0.0).sum(axis=1) / seen.sum(axis=1)


def turbulent_above(panel: Panel) -> float:
    """Turbulence above which a cell is turbulent (1): q75 of the calibration runs of the trained models, pooled."""
    known = [m.per_layer("turbulence")[~m.measured].ravel() for m in panel.trained if "turbulence" in m.layers]
    return float(turbulence_threshold(np.concatenate(known))) if known else math.nan


def model_effects(panel: Panel, model: ModelData, pairs: Pairs) -> dict[str, tuple[Effect, ...]]:
    """Effects on one model by contrast: ambiguity, and the two disambiguations against each other."""
    generator = panel.generator(f"ambiguity {model.info.name}")
    found = {}
    for contrast in ("ambiguity", "words"):
        both = {}
        for name, (ambiguous, first, second) in pairs.values.items():
            one, other = (ambiguous, (first + second) / 2) if contrast == "ambiguity" else (first, second)
            both[name] = one, other
        found[contrast] = effects(both, generator, n_boot=panel.n_boot) if both else ()
    if {"commit_depth", "entropy_norm"} <= pairs.values.keys():
        matched = at_equal(
            pairs.differences("commit_depth"), pairs.differences("entropy_norm"), generator, panel.n_boot
        )
        found["ambiguity, entropy matched"] = (matched,)
    return found


def at_equal(
    difference: np.ndarray, covariate: np.ndarray, generator: np.random.Generator, n_boot: int = 2000
) -> Effect:
    """The effect at a covariate difference of 0 (unit of `difference`): intercept of a line over pairs.

    Least squares of the paired differences on those of the covariate, refitted in each resample of pairs; the TOST and
    Wilcoxon are on the differences with the fitted slope taken out. Shapes: [pair] each; NaN pairs are left out.
    """
    seen = np.isfinite(difference) & np.isfinite(covariate)
    d, e = difference[seen], covariate[seen]
    n = len(d)
    spread = ((e - e.mean()) ** 2).sum() if n else 0.0
    slope = ((e - e.mean()) * (d - d.mean())).sum() / spread if spread > 0 else 0.0
    (base,) = effects({MATCHED: (d - slope * e, np.zeros(n))}, generator, n_boot=2)
    w = bootstrap_weights(n, generator, n_boot=n_boot)
    one, of_e, of_d, ee, de = (w @ x for x in (np.ones(n), e, d, e * e, d * e))
    bottom = one * ee - of_e**2
    with np.errstate(divide="ignore", invalid="ignore"):
        line = (of_d * ee - of_e * de) / bottom
        draws = np.where(bottom > 1e-12 * one * np.maximum(ee, 1e-300), line, of_d / one)
    return replace(base, interval=percentile_interval(draws, n))


def _row(model: ModelData, contrast: str, pairs: Pairs, e: Effect) -> dict:
    return (
        {**model.info.named, "contrast": contrast, "n_pairs": pairs.kept, "n_excluded": pairs.n_pairs - pairs.kept}
        | {**bounds(e.interval), "reason": e.interval.reason}
        | picked(e, "outcome n_units mean standardised cliffs_delta wilcoxon_p holm_p equivalence_p sign")
    )


def _one_sided(found: Sequence[Effect], sign: int) -> np.ndarray:
    """P of each model against no difference or one in the other direction; 1 where too few pairs count."""
    half = [e.wilcoxon_p / 2 if e.mean * sign > 0 else 1 - e.wilcoxon_p / 2 for e in found]
    return np.array(
        [p if e.n_units >= FEWEST_UNITS and math.isfinite(p) else 1.0 for p, e in zip(half, found, strict=True)]
    )


def _p(found: Sequence[Effect], of: Flag, sign: int, *, equivalent: bool = False) -> float:
    """P that fewer than ceil(6 M / 7) models show it (probability): partial conjunction; NaN without models."""
    if not found:
        return math.nan
    if equivalent:
        p = [e.equivalence_p if e.n_units >= FEWEST_UNITS and math.isfinite(e.equivalence_p) else 1.0 for e in found]
        return partial_conjunction(np.array(p), of.needed_for_yes)
    sides = (1, -1) if sign == 0 else (sign,)
    return min(1.0, len(sides) * min(partial_conjunction(_one_sided(found, s), of.needed_for_yes) for s in sides))


def _median_effect(panel: Panel, pairs: Sequence[Pairs], outcome: str) -> tuple[float, Interval]:
    """Median over models of mean / SD of the paired differences (1), with its interval over pairs."""
    ids = sorted({i for p in pairs for i in p.ids})
    d = np.full((len(pairs), len(ids)), np.nan)
    for row, p in zip(d, pairs, strict=True):
        row[np.searchsorted(ids, p.ids)] = p.differences(outcome)
    seen = np.isfinite(d)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, d, 0.0).sum(axis=1) / seen.sum(axis=1)
        spread = np.sqrt(np.where(seen, (d - mean[:, None]) ** 2, 0.0).sum(axis=1) / (seen.sum(axis=1) - 1))
        usable = np.isfinite(mean) & (spread > 0)
        if not usable.any():
            return math.nan, undefined_interval("no model has two comparable pairs that differ")
        weights = bootstrap_weights(len(ids), panel.generator(f"median {outcome}"), n_boot=panel.n_boot)
        draws = resampled_ratio(np.where(seen, d, 0.0)[usable], seen[usable].astype(float), weights) / spread[usable]
    return float(np.median((mean / spread)[usable])), percentile_interval(np.median(draws, axis=1), len(ids))


def _length_match(pairs: Sequence[Pairs]) -> Outcome:
    kept, units = ([f(p) for p in pairs] for f in (lambda p: p.kept, lambda p: int(p.comparable.sum())))
    whole = max(p.n_pairs for p in pairs)
    why = (
        f"{min(kept)} to {max(kept)} of {whole} pairs, of {min(units)} to {max(units)} units, have one length to "
        "within a token; the others take no part"
    )
    return Outcome("length match", "survived" if min(units) >= FEWEST_UNITS else "undecided", why)


def _entropy_match(found: Mapping[str, Mapping[str, tuple[Effect, ...]]]) -> Outcome:
    matched = [one["ambiguity, entropy matched"][0] for one in found.values() if "ambiguity, entropy matched" in one]
    if len(matched) < len(found):
        return Outcome("entropy match", "missing", "output entropy or commit_depth was not recorded for every model")
    of = flag(matched, sign=1)
    words: dict[str, OutcomeWord] = {"YES": "survived", "NO": "explains it away"}
    word = words.get(of.flag, "undecided")
    return Outcome("entropy match", word, f"at equal entropy: {_said(of)}")


def _said(of: Flag) -> str:
    return (
        f"{of.flag}: above 0 in {of.n_above}, below in {of.n_below}, equivalent in {of.n_equivalent} of {of.n_models} "
        f"models ({of.needed_for_yes} needed)"
    )


def _evidence(
    panel: Panel, pairs: Mapping[str, Pairs], found: Mapping[str, Mapping[str, tuple[Effect, ...]]]
) -> dict[str, FlagEvidence]:
    """Evidence for A1, A2, A3 from the trained models that have pairs."""
    out = {}
    for claim, (outcome, question, sign) in zip(("A1", "A2", "A3"), QUESTIONS, strict=True):
        own = {name: e for name, one in found.items() for e in one["ambiguity"] if e.outcome == outcome}
        lacking = _lacking(pairs, own, outcome)
        of = flag(tuple(own.values()), sign=sign)
        if lacking:
            nothing = undefined_interval(lacking)
            out[claim] = FlagEvidence(
                "", "", "", "", math.nan, interval=nothing, counts=counts(panel), n=0, needed=lacking, lacking=lacking
            )
            continue
        chosen = [pairs[name] for name in own]
        estimate, interval = _median_effect(panel, chosen, outcome)
        outcomes = (_length_match(chosen), *((_entropy_match(found),) if claim == "A3" else ()))
        yes, no = ("NO", "YES") if claim == "A2" else ("YES", "NO")
        out[claim] = FlagEvidence(
            flag=of.flag,
            supported=yes,
            rejected=no,
            said=f"{question} {_said(of)}; {estimate:.2f} SD, median over models",
            estimate=estimate,
            interval=interval,
            counts=counts(panel)
            | {
                "pairs": max(p.n_pairs for p in chosen),
                "units of pairs": max(len(p.ids) for p in chosen),
                "models with pairs": len(own),
            },
            n=len(own),
            needed=_needed(chosen),
            outcomes=outcomes,
            p=_p(tuple(own.values()), of, sign, equivalent=claim == "A2"),
        )
    return out


def _lacking(pairs: Mapping[str, Pairs], own: Mapping[str, Effect], outcome: str) -> str:
    if not pairs:
        return f"no minimal pairs were observed: set minimal_pairs = {FEWEST_UNITS} in the study"
    return "" if own else f"{outcome} was not recorded on the minimal pairs"


def _needed(pairs: Sequence[Pairs]) -> str:
    fewest = min(int(p.comparable.sum()) for p in pairs)
    more = f"comparable pairs of {FEWEST_UNITS} units per model (fewest here: {fewest})"
    return more if fewest < FEWEST_UNITS else "more minimal pairs, or more models"


def _analysed(panel: Panel, models: Sequence[ModelData]) -> tuple[dict[str, Pairs], dict]:
    threshold = turbulent_above(panel)
    known = {m.info.name: (m, p) for m in models if (p := pairs_of(m, threshold)) is not None and p.ids}
    return {n: p for n, (_, p) in known.items()}, {n: model_effects(panel, m, p) for n, (m, p) in known.items()}


def ambiguity_evidence(panel: Panel) -> dict:
    """The evidence for A1, A2, A3 as `analyse_ambiguity` gives it, without its tables."""
    return _evidence(panel, *_analysed(panel, panel.trained))


def analyse_ambiguity(panel: Panel) -> Result:
    """Tables ambiguity and ambiguity_flags; evidence for A1, A2, A3."""
    pairs, found = _analysed(panel, panel.models)
    info = {m.info.name: m for m in panel.models}
    rows = [
        _row(info[name], contrast, pairs[name], e)
        for name, one in found.items()
        for contrast, several in one.items()
        for e in several
    ]
    trained = {m.info.name for m in panel.trained}
    pairs = {n: p for n, p in pairs.items() if n in trained}
    found = {n: f for n, f in found.items() if n in trained}
    flags = []
    for outcome, question, sign in QUESTIONS:
        of = flag([e for one in found.values() for e in one["ambiguity"] if e.outcome == outcome], sign=sign)
        flags.append({"outcome": outcome, "question": question, **{k: getattr(of, k) for k in FLAG_FIELDS}})
    return Result(filled(ambiguity=rows, ambiguity_flags=flags), evidence=_evidence(panel, pairs, found))


FLAG_FIELDS = ("flag", "n_models", "n_above", "n_below", "n_equivalent", "needed_for_yes", "needed_for_partial")

AMBIGUITY = declared("ambiguity", analyse_ambiguity, ambiguity_evidence, layers=(*AT_RECORD, *STATES), steps=AT_OUTPUT)
