"""The evidence for G7 (do models agree on how often each state occurs?) and G8 (does full bifurcation pass quickly?).

Both are made again under every pair of thresholds of the sweep, and under a second version of the layer; a claim whose
estimate then falls on the other side is open.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from phaselens.claims import HALF, LEVEL, IntervalEvidence, Outcome, Requirement, above, below
from phaselens.claims.verdict_records import word_of
from phaselens.dynamics.chains import generation_chains, self_transition_excess
from phaselens.dynamics.cycles import word_places
from phaselens.dynamics.state_alphabets import (
    BIFURCATION,
    QUANTILES,
    RIVALRIES,
    Consistency,
    D,
    Marks,
    Tally,
    consistency,
    marks,
    occupancies,
    state_counts,
    tally,
    turbulence_threshold,
)
from phaselens.experiments.base import Panel
from phaselens.experiments.cycles import word_starts
from phaselens.experiments.separations import counts
from phaselens.experiments.state_labels import Labelled, by_prompt, calibration_turbulence
from phaselens.statistics.agreement import kendall_w
from phaselens.statistics.intervals import (
    Interval,
    bootstrap_p,
    expanded_interval,
    percentile_interval,
    undefined_interval,
)

EVENTS = 50
SMALLEST = 0.02
SHUFFLES, SWEEP_SHUFFLES = 1000, 200


@dataclass(frozen=True)
class Swept:
    """One version of a claim's statistic: `against` says that it lies on the other side of its null than the base.

    `value` and `null` in the unit of the statistic, `p` of a permutation (NaN: none), `fewest_events` over the models.
    """

    claim: str
    quantile: float
    rivalry: float
    version: str
    value: float
    null: float
    p: float
    fewest_events: int
    against: bool


def sweep_rows(sweeps: Sequence[Swept]) -> list[dict]:
    """Rows of results/states_sweep.parquet."""
    return [vars(s) for s in sweeps]


def state_evidence(
    panel: Panel, found: Mapping[str, Labelled], lacking: str
) -> tuple[dict[str, IntervalEvidence], list[Swept]]:
    """Evidence for G7 and G8, and every version that was looked at."""
    trained = [found[m.info.name] for m in panel.trained if m.info.name in found]
    twins = [t for m in panel.trained if (t := _twin(panel, m.info.name, found)) is not None]
    versions = _versions(panel, trained)
    g7, first = _g7(panel, trained, twins, versions, lacking)
    g8, second = _g8(panel, trained, versions, lacking)
    return {"G7": g7, "G8": g8}, [*first, *second]


def _twin(panel: Panel, name: str, found: Mapping[str, Labelled]) -> Labelled | None:
    twin = panel.untrained_twin(name)
    return None if twin is None else found.get(twin.info.name)


@dataclass(frozen=True)
class _Version:
    """Both statistics under one pair of thresholds: W with its shuffles; by model the excess of D with its events."""

    quantile: float
    rivalry: float
    w: Consistency
    d: Mapping[str, tuple[float, int]]


def _versions(panel: Panel, trained: Sequence[Labelled]) -> list[_Version]:
    """The statistics of the trained models under every pair of thresholds, one model in memory at a time."""
    if not trained:
        return []
    cuts = turbulence_threshold(calibration_turbulence(panel.trained), quantile=np.array(QUANTILES))
    pairs = list(product(zip(QUANTILES, cuts, strict=True), RIVALRIES))
    tallies: list[list[Tally]] = [[] for _ in pairs]
    excesses: list[dict[str, tuple[float, int]]] = [{} for _ in pairs]
    for one in trained:
        columns, where = one.cells.columns(), one.layer_choice("l*")
        for i, ((_, cut), r) in enumerate(pairs):
            marked = marks(columns, float(cut), rivalry=r)
            tallies[i].append(tally(marked))
            if where is not None:
                inside = np.where(marked.defined, marked.turbulent & marked.rival, -1).astype(np.int8)[:, :, where]
                excesses[i][_name(one)] = _excess(generation_chains(inside))
    w = [
        consistency(t, panel.generator(f"G7 sweep {q} {r}"), n_draws=SWEEP_SHUFFLES)
        for t, ((q, _), r) in zip(tallies, pairs, strict=True)
    ]
    return [_Version(q, r, c, d) for ((q, _), r), c, d in zip(pairs, w, excesses, strict=True)]


def _name(one: Labelled) -> str:
    return one.cells.model.info.name


def _excess(in_d: np.ndarray) -> tuple[float, int]:
    """Self-transition of D less its mean over orders (1), and the cells in D (count); chains as `d_excess`."""
    return float(self_transition_excess(in_d, 1, 2)), int((in_d == 1).sum())


def _fewest(claim_needs: str, n: int, least: int) -> str:
    return "" if n >= least else f"{claim_needs}: {n} of at least {least} models have states"


def _because(missing: str, lacking: str) -> str:
    return f"{missing}; {lacking}" if missing and lacking else missing


# G7


@dataclass(frozen=True, eq=False)
class _Agreement:
    """W of some models, its prompt-bootstrap draws, and what it is with the marks shuffled."""

    w: float
    draws: np.ndarray
    null: np.ndarray
    p: float

    @property
    def point(self) -> float:
        """95 % point of the null."""
        return float(np.quantile(self.null, 0.95)) if np.isfinite(self.null).all() else math.nan

    @property
    def middle(self) -> float:
        """Median of the null."""
        return float(np.median(self.null)) if np.isfinite(self.null).all() else math.nan

    def corrected(self, w: np.ndarray | float) -> np.ndarray:
        """W corrected for chance (1), as kappa is: `(W - W_0) / (1 - W_0)`, W_0 the median of the null.

        Marks alone make W .9 in one panel and .6 in another, so excesses over it are no equal amounts of agreement.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.divide(w - self.middle, 1 - self.middle))


def _agreement(panel: Panel, models: Sequence[Labelled], label: str) -> _Agreement:
    at = [tally(one.cells.marked(one.threshold)) for one in models]
    shuffled = consistency(at, panel.generator(f"G7 {label}"), n_draws=SHUFFLES)
    per_model = []
    for one in models:
        cells = state_counts(one.states["bifurcation"], len(BIFURCATION))
        per_model.append(occupancies(by_prompt(cells, one.cells.prompt, len(panel.units)), panel.weights))
    return _Agreement(shuffled.w, np.asarray(kendall_w(np.stack(per_model, axis=1))), shuffled.null, shuffled.p)


def _g7(
    panel: Panel, trained: Sequence[Labelled], twins: Sequence[Labelled], versions: Sequence[_Version], lacking: str
) -> tuple[IntervalEvidence, list[Swept]]:
    missing = _because(_fewest("agreement of models", len(trained), 2), lacking)
    if missing:
        return _absent(panel, missing), []
    found = _agreement(panel, trained, "trained")
    side = found.w - found.middle
    sweeps = []
    for v in versions:
        middle = float(np.median(v.w.null))
        against = _against(side, v.w.w - middle)
        sweeps.append(
            Swept("G7", v.quantile, v.rivalry, "all layers", v.w.w, middle, p=v.w.p, fewest_events=0, against=against)
        )
    record = [m for one in trained if (m := _at_record(one)) is not None]
    if len(record) == len(trained):
        w = consistency(record, panel.generator("G7 l*"), n_draws=SHUFFLES)
        middle = float(np.median(w.null))
        sweeps.append(
            Swept("G7", 75.0, 0.5, "l*", w.w, null=middle, p=w.p, fewest_events=0, against=_against(side, w.w - middle))
        )
    n_prompts = len(np.unique(np.concatenate([one.cells.prompt for one in trained])))
    evidence = IntervalEvidence(
        estimate=found.w,
        interval=percentile_interval(found.draws, n_prompts),
        supported=above(found.point),
        rejected=below(found.middle),
        counts=_counted(panel, trained),
        n=len(trained),
        needed="more prompts, or models whose occupancies agree beyond what the thresholds force",
        outcomes=(_absent_before_training(panel, found, twins, len(trained)),),
        requirements=(_no_flip(sweeps),),
        p=found.p,
        null=found.point,
    )
    return evidence, sweeps


def _at_record(one: Labelled) -> Tally | None:
    at = one.layer_choice("l*")
    if at is None:
        return None
    whole = one.cells.marked(one.threshold)
    cut = Marks(*(x[:, :, at] for x in (whole.turbulent, whole.rival, whole.committed, whole.defined)))
    return tally(cut) if cut.defined.any() else None


def _absent_before_training(
    panel: Panel, found: _Agreement, twins: Sequence[Labelled], wanted: int, name: str = "untrained twin"
) -> Outcome:
    """Whether the untrained twins agree beyond their own shuffles half as much as the trained models do, or more."""
    if len(twins) < wanted:
        return Outcome(name, "undecided" if twins else "missing", f"untrained twins of {len(twins)} of {wanted} models")
    before = _agreement(panel, twins, "untrained")
    above_null = found.w - found.middle
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = before.corrected(before.draws) / found.corrected(found.draws)
        kept = float(before.corrected(before.w) / found.corrected(found.w))
    interval = percentile_interval(draws[np.isfinite(draws)], len(panel.units))
    said = f"W = {before.w:.3f} before training, {before.middle:.3f} shuffled (p = {before.p:.3g})"
    facts: dict = {"p": before.p, "gap_kept": kept, "gap_interval": interval}
    if not above_null > 0:
        return Outcome(name, "undecided", f"no agreement beyond the shuffles to explain; {said}", **facts)
    again = percentile_interval(before.draws, len(panel.units))
    if interval.lo > HALF or (before.p <= LEVEL and again.lo > before.point):
        return Outcome(name, "explains it away", f"{said}: it is there before training", **facts)
    return Outcome(name, "survived" if interval.hi < HALF else "undecided", said, **facts)


# G8


def d_excess(
    panel: Panel, chains: np.ndarray, prompt: np.ndarray, place: np.ndarray | None = None
) -> tuple[float, int, np.ndarray]:
    """Self-transition of D less its mean over orders (1), the cells in D (count), and the prompt-bootstrap draws [B].

    Shapes: chains bool-like int8 [run, ..., step], 1 in D, 0 in another state, -1 undefined; prompt int [run]; `place`
    [run, step] of the steps in their words (None: any order counts).
    """
    at = None if place is None else place.reshape(len(place), *(1,) * (chains.ndim - 2), -1)
    value = float(self_transition_excess(chains, 1, 2, place=at))
    return value, int((chains == 1).sum()), self_transition_excess(chains, 1, 2, panel.weights[:, prompt], place=at)


def _at_equal_place(
    panel: Panel, usable: Sequence[tuple[Labelled, np.ndarray]], estimate: float, draws: np.ndarray
) -> Outcome:
    """Whether D is left sooner than chance leaves it also where states change only with those at one place in a word.

    Where D stands at the starts of words alone, words of two tokens make it transient whatever the model does.
    """
    places = [_places(one, chains.shape[-1]) for one, chains in usable]
    if any(place is None for place in places):
        return Outcome("word place", "missing", "which tokens begin a word is not known")
    pairs = zip(usable, places, strict=True)
    found = [d_excess(panel, _in_d(c), one.cells.prompt, place) for (one, c), place in pairs]
    value, own = float(np.mean([v for v, _, _ in found])), np.mean([d for _, _, d in found], axis=0)
    n = min(len(np.unique(one.cells.prompt)) for one, _ in usable)
    interval = expanded_interval(own, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio, kept = own / draws, float(np.divide(value, estimate))
    left = expanded_interval(ratio[np.isfinite(ratio)], n)
    said = f"at equal place in the word the excess is {value:.3f} [{interval.lo:.3f}, {interval.hi:.3f}]"
    gone = left.hi < HALF and not interval.hi < 0
    word = word_of(interval.hi < 0, gone)
    return Outcome("word place", word, said, gap_kept=kept, gap_interval=left)


def _places(one: Labelled, n_steps: int) -> np.ndarray | None:
    """Place of every step of the measured runs in its word, [run, step]; None: not known."""
    starts = word_starts(one.cells.model, n_steps)
    return None if starts is None else word_places(starts[one.cells.model.measured])


def _in_d(states: np.ndarray) -> np.ndarray:
    return np.where(states < 0, -1, states == D).astype(np.int8)


def _g8(
    panel: Panel, trained: Sequence[Labelled], versions: Sequence[_Version], lacking: str
) -> tuple[IntervalEvidence, list[Swept]]:
    chains = [one.generation("bifurcation", "l*") for one in trained]
    usable = [(one, c) for one, c in zip(trained, chains, strict=True) if c is not None and (c >= 0).any()]
    missing = _because(_fewest("transitions at l* = round(.75 L)", len(usable), 1), lacking)
    if missing:
        return _absent(panel, missing), []
    found = [d_excess(panel, _in_d(c), one.cells.prompt) for one, c in usable]
    estimate = float(np.mean([value for value, _, _ in found]))
    draws = np.mean([d for _, _, d in found], axis=0)
    events = [n for _, n, _ in found]
    prompts = [len(np.unique(one.cells.prompt[(c >= 0).any(axis=(1, 2))])) for one, c in usable]
    own = [expanded_interval(d, n) for (_, _, d), n in zip(found, prompts, strict=True)]
    sweeps = _g8_sweeps([one for one, _ in usable], versions, estimate)
    interval = expanded_interval(draws, min(prompts))
    counted = _counted(panel, [one for one, _ in usable]) | {
        "D events": sum(events),
        "models below 0": sum(i.hi < 0 for i in own),
        "models above 0": sum(i.lo > 0 for i in own),
    }
    evidence = IntervalEvidence(
        estimate=estimate,
        interval=interval,
        supported=below(0.0),
        rejected=above(SMALLEST),
        counts=counted,
        n=len(usable),
        needed="more prompts or runs, so that the interval of the excess leaves 0",
        outcomes=(_at_equal_place(panel, usable, estimate, draws),),
        requirements=(_enough(events, [_name(one) for one, _ in usable]), _one_voice(interval, own), _no_flip(sweeps)),
        p=bootstrap_p(draws, n_units=min(prompts)),
        null=0.0,
    )
    return evidence, sweeps


def _g8_sweeps(usable: Sequence[Labelled], versions: Sequence[_Version], estimate: float) -> list[Swept]:
    """The mean excess under every pair of thresholds at l*, and over all layers; below 50 events nothing is said."""
    at_record = [(v.quantile, v.rivalry, "l*", [v.d[_name(one)] for one in usable]) for v in versions]
    every = [_excess(_in_d(chains)) for one in usable if (chains := one.generation("bifurcation", "all")) is not None]
    out = []
    for q, r, version, found in (*at_record, (75.0, 0.5, "all layers", every)):
        value, events = float(np.mean([x for x, _ in found])), min(n for _, n in found)
        against = events >= EVENTS and _against(estimate, value)
        out.append(Swept("G8", q, r, version, value=value, null=0.0, p=math.nan, fewest_events=events, against=against))
    return out


def _enough(events: Sequence[int], names: Sequence[str]) -> Requirement:
    few = [f"{name} {n}" for name, n in zip(names, events, strict=True) if n < EVENTS]
    why = f"fewer than {EVENTS} cells in D at l*: {', '.join(few)}" if few else ""
    return Requirement("D events", not few, why, f"{EVENTS} cells in D in every model: more runs, or longer ones")


def _one_voice(interval: Interval, own: Sequence[Interval]) -> Requirement:
    """No model's own interval lies on the other side of 0 than the mean over models."""
    against = sum((interval.hi < 0 < i.lo) or (i.hi < 0 < interval.lo) for i in own)
    why = f"{against} of {len(own)} models have an interval on the other side of 0" if against else ""
    return Requirement("every model", not against, why, "a statement on those models apart from the others")


# both


def _against(base: float, other: float) -> bool:
    """Whether an estimate lies strictly on the other side of its null than the base."""
    return bool(base * other < 0)


def _no_flip(sweeps: Sequence[Swept]) -> Requirement:
    flipped = [s for s in sweeps if s.against]
    where = ", ".join(f"q{s.quantile:g} / {s.rivalry:g} ({s.version})" for s in flipped[:3])
    why = f"{len(flipped)} of {len(sweeps)} versions fall on the other side of the null: {where}" if flipped else ""
    return Requirement("threshold sweep", not flipped, why, "thresholds fixed for a reason that is not this claim")


def _counted(panel: Panel, models: Sequence[Labelled]) -> dict[str, int]:
    return counts(panel) | {"models with states": len(models)}


def _absent(panel: Panel, why: str) -> IntervalEvidence:
    return IntervalEvidence(math.nan, undefined_interval(why), (), (), counts(panel), n=0, needed=why, lacking=why)
