"""Experiment: do the states know more of what comes than the output says? O1 (loss) and O2 (entropy and curvature).

O1 reads stored scores of held-out documents (`documents` of a study); O2 the columns of any study.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, above, below
from phaselens.claims.verdict_records import OutcomeWord, word_of
from phaselens.experiments.base import ModelData, Panel, Result, StoredScores, declared
from phaselens.experiments.result_tables import bounds, filled
from phaselens.experiments.separations import counts
from phaselens.statistics.intervals import Interval, bootstrap_p, expanded_interval, undefined_interval
from phaselens.statistics.partial import clustered_correlation, rank_residuals
from phaselens.statistics.resampling import bootstrap_weights

GIVEN = (("nothing", 0), ("confidence", 2), ("confidence and entropy", 3), ("confidence, entropy, rank, margin", 5))
SMALLEST, FEWEST, MIDDLE = 0.05, 200, (1 / 3, 2 / 3)
# Raw, given confidence, and entropy: T. Carmichael 2026, arXiv 2604.24801, by the model's name.
PUBLISHED: Mapping[str, str] = {
    "gpt2": ".514 / .288 / .211",
    "pythia-70m": ".340 / .301 / .228",
    "pythia-160m": ".549 / .382 / .255",
    "pythia-410m": ".175 / .105 / .035",
    "qwen2.5-0.5b": ".534 / .215 / .019",
    "qwen2.5-0.5b-instruct": ".614 / .312 / .091",
    "gemma-3-1b": ".465 / .216 / .081",
}


@dataclass(frozen=True, eq=False)
class Found:
    """One partial correlation of a model with its draws [B], the same of its untrained twin, and of shuffled losses."""

    model: str
    given: str
    value: float
    draws: np.ndarray
    twin: tuple[float, np.ndarray] | None
    shuffled: np.ndarray
    n: int
    n_units: int


def of_scores(name: str, stored: StoredScores, seed: int, n_boot: int) -> list[Found]:
    """Partial rank correlation of score and loss given less and more of what the output says; documents resampled."""
    _, place = np.unique(stored.document, return_inverse=True)
    units = int(place.max()) + 1
    weights = bootstrap_weights(units, np.random.default_rng([seed, 23]), n_boot=n_boot).astype(float)
    every = np.stack([stored.loss, stored.score, stored.untrained, *stored.shuffled])
    out = []
    for given, k in GIVEN:
        left = rank_residuals(every, stored.covariates[:, :k])
        own, twin, *null = (clustered_correlation(left[0], x, place, weights) for x in left[1:])
        out.append(Found(name, given, *own, twin, np.array([v for v, _ in null]), len(place), units))
    return out


def of_curvature(panel: Panel, model: ModelData) -> tuple[float, np.ndarray, int] | None:
    """Rank correlation of turning_angle at the middle layers with the output's entropy, and its draws.

    Within runs and beyond the token read (its own mean is taken out, where it was read twice) and the step.
    None: not recorded, or too few steps.
    """
    middle = [i for i, n in enumerate(model.recorded_layers) if MIDDLE[0] <= n / model.info.n_layers <= MIDDLE[1]]
    if "turning_angle" not in model.layers or "entropy" not in model.steps or not middle or not model.completions:
        return None
    index, entropy = panel.unit_index(model), model.per_step("entropy")
    angle = model.per_layer("turning_angle")[:, :, middle].mean(axis=2)
    shape = (min(entropy.shape[1], angle.shape[1]),)
    token = np.full((len(entropy), *shape), -1)
    for row, emitted in zip(token, model.completions, strict=True):
        row[1 : 1 + len(emitted)] = emitted[: shape[0] - 1]  # the state of a step has read the token before it
    step = np.broadcast_to(np.arange(shape[0]), token.shape)
    entropy, angle = entropy[:, : shape[0]], angle[:, : shape[0]]
    use = np.isfinite(entropy) & np.isfinite(angle) & (token >= 0) & (index >= 0)[:, None]
    run = np.broadcast_to(np.arange(len(token))[:, None], token.shape)[use]
    if use.sum() < FEWEST:
        return None
    pair = np.stack([entropy[use], angle[use]])
    left = rank_residuals(pair, step[use][:, None], groups=token[use])
    left = rank_residuals(left, step[use][:, None], groups=run)
    value, draws = clustered_correlation(left[0], left[1], index[run], panel.weights.astype(float))
    return value, draws, int(use.sum())


def _mean(found: Sequence[tuple[float, np.ndarray]]) -> tuple[float, np.ndarray]:
    return float(np.mean([v for v, _ in found])), np.mean([d for _, d in found], axis=0)


def _each(intervals: Sequence[tuple[str, Interval]]) -> Outcome:
    against = [name for name, i in intervals if i.hi < SMALLEST]
    word: OutcomeWord = "undecided" if against else "survived"
    return Outcome(
        "each model", word, f"{', '.join(against)} below {SMALLEST}" if against else "none says the opposite"
    )


def _beyond(own: tuple[float, np.ndarray], twins: Sequence[tuple[float, np.ndarray] | None], n: int) -> Outcome:
    """Whether it is more than untrained twins have: states carry the token that was read whatever was learned."""
    known = [t for t in twins if t is not None]
    if len(known) < len(twins):
        return Outcome("untrained twin", "missing", f"untrained twins of {len(known)} of {len(twins)} models")
    value, draws = _mean(known)
    gap = expanded_interval(own[1] - draws, n)
    word = word_of(gap.lo > 0, gap.hi < SMALLEST)
    said = f"{value:.3g} before training; the rest is {own[0] - value:.3g} [{gap.lo:.3g}, {gap.hi:.3g}]"
    return Outcome("untrained twin", word, said, gap_interval=gap)


def o1(panel: Panel, found: Mapping[str, list[Found]]) -> IntervalEvidence:
    """Evidence for O1, from the strictest of the partial correlations of every model that has scores."""
    last = [rows[-1] for rows in found.values()]
    common: dict = {
        "supported": above(0.0),
        "rejected": below(SMALLEST),
        "n": min((f.n_units for f in last), default=0),
    }
    needed = "more documents, or more tokens of them"
    if not last:
        why = 'no scores of documents: say documents = "FILE.txt" in the study'
        return IntervalEvidence(
            math.nan, undefined_interval(why), counts=counts(panel), needed=needed, lacking=why, **common
        )
    whole = _mean([(f.value, f.draws) for f in last])
    n = common["n"]
    shuffled = max(float(np.quantile(f.shuffled, 0.975)) for f in last)
    beaten = all(f.value > f.shuffled.max() for f in last)
    outcomes = (
        Outcome(
            "shuffled loss", "survived" if beaten else "undecided", f"probes of shuffled losses give {shuffled:.3g}"
        ),
        _beyond(whole, [f.twin for f in last], n),
        _each([(f.model, expanded_interval(f.draws, f.n_units)) for f in last]),
    )
    return IntervalEvidence(
        whole[0],
        expanded_interval(whole[1], n),
        outcomes=outcomes,
        p=bootstrap_p(whole[1], n_units=n),
        null=0.0,
        counts=counts(panel) | {"models with scores": len(last), "tokens": sum(f.n for f in last)},
        needed=needed,
        of="given confidence, entropy, rank and margin",
        **common,
    )


def o2(panel: Panel, found: Mapping[str, tuple[float, np.ndarray, int]]) -> IntervalEvidence:
    """Evidence for O2, the mean over trained models."""
    names = [m.info.name for m in panel.trained if m.info.name in found]
    units = len(panel.units)
    common: dict = {"supported": above(0.0), "rejected": below(SMALLEST), "n": units, "counts": counts(panel)}
    needed = "more prompts, or longer runs"
    if not names:
        why = f"no model has turning_angle at middle layers and entropy over {FEWEST} steps"
        return IntervalEvidence(math.nan, undefined_interval(why), needed=needed, lacking=why, **common)
    own = _mean([found[n][:2] for n in names])
    twins = [panel.untrained_twin(n) for n in names]
    outcomes = (
        _beyond(own, [None if t is None or t.info.name not in found else found[t.info.name][:2] for t in twins], units),
        _each([(n, expanded_interval(found[n][1], units)) for n in names]),
    )
    return IntervalEvidence(
        own[0],
        expanded_interval(own[1], units),
        outcomes=outcomes,
        p=bootstrap_p(own[1], n_units=units),
        null=0.0,
        needed=needed,
        of="turning_angle at l/L in 1/3 to 2/3",
        **common,
    )


def _found(panel: Panel) -> tuple[dict[str, list[Found]], dict[str, tuple[float, np.ndarray, int]]]:
    scores = {
        m.info.name: of_scores(m.info.name, m.scores, panel.seed, panel.n_boot)
        for m in panel.trained
        if m.scores is not None
    }
    curved = {m.info.name: one for m in panel.models if (one := of_curvature(panel, m)) is not None}
    return scores, curved


def observability_evidence(panel: Panel) -> dict:
    """The evidence for O1 and O2 without the tables."""
    scores, curved = _found(panel)
    return {"O1": o1(panel, scores), "O2": o2(panel, curved)}


def analyse_observability(panel: Panel) -> Result:
    """Tables observability and observability_curve; evidence for O1 and O2."""
    scores, curved = _found(panel)
    rows, curve = [], []
    for model in panel.trained:
        name = model.info.name
        for f in scores.get(name, ()):
            one, twin = expanded_interval(f.draws, f.n_units), expanded_interval(f.twin[1], f.n_units)
            rows.append(
                {"model": name, "claim": "O1", "given": f.given, "estimate": f.value, **bounds(one)}
                | {"untrained": f.twin[0], **bounds(twin, "untrained"), "n": f.n, "n_units": f.n_units}
                | {"shuffled": float(np.quantile(f.shuffled, 0.975))}
                | {"depth": float(np.mean(model.scores.layer)) / model.info.n_layers}
                | {"published": PUBLISHED.get(name.lower().rpartition("/")[2], "")}
            )
        if name in scores:
            pairs = zip(model.scores.depth, model.scores.curve, strict=True)
            curve += [{"model": name, "depth": float(d), "value": float(v)} for d, v in pairs]
        if name in curved:
            value, draws, n = curved[name]
            one, untrained = expanded_interval(draws, len(panel.units)), panel.untrained_twin(name)
            before = curved.get(untrained.info.name) if untrained is not None else None
            around = expanded_interval(before[1], len(panel.units)) if before else undefined_interval("no twin")
            rows.append(
                {"model": name, "claim": "O2", "given": "token, step and run", "estimate": value, **bounds(one)}
                | {"untrained": before[0] if before else math.nan, **bounds(around, "untrained"), "n": n}
                | {"shuffled": math.nan, "n_units": len(panel.units), "depth": 0.5}
                | {"published": "about .15 (arXiv 2604.23985)"}
            )
    return Result(
        filled(observability=rows, observability_curve=curve),
        evidence={"O1": o1(panel, scores), "O2": o2(panel, curved)},
    )


OBSERVABILITY = declared("observability", analyse_observability, observability_evidence)
