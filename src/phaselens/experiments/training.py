"""Experiment: what goes with the regime: training loss, family, size, tokens seen? Evidence for R4, R6 and R7.

How a model was trained is on record for organisms and declared for others (`training_loss`, `training_tokens`,
`other_loss` of a model in a study). What is not known leaves a claim not applicable, and says what to declare.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from phaselens.claims import IntervalEvidence, Outcome, PermutationEvidence, Requirement, above, below
from phaselens.claims.verdict_records import word_of
from phaselens.experiments.base import ModelInfo, Panel, Result, declared, shape_of, training_of
from phaselens.experiments.regimes import model_median, run_figures
from phaselens.experiments.result_tables import filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.clustered import correlation_gap, pooled_correlation, share_given
from phaselens.statistics.effects import units_for_correlation
from phaselens.statistics.intervals import Interval, bootstrap_p, percentile_interval, undefined_interval
from phaselens.statistics.permutation import permutation_p

ENOUGH_MODELS, FAMILIES, EACH, STEPS = 20, 3, 3, 3
EQUAL_TOKENS = 1.1
BOUND = 0.25


@dataclass(frozen=True)
class Trained:
    """One trained model: its training (a name that its checkpoints share) and log ratio_norm."""

    info: ModelInfo
    training: str
    ratio: float
    reason: str = ""

    @property
    def defined(self) -> bool:
        """Whether it has a ratio_norm."""
        return math.isfinite(self.ratio)


def trained_models(panel: Panel) -> tuple[Trained, ...]:
    """Every trained model with its log ratio_norm (NaN: no run has one)."""
    out = []
    for m in panel.trained:
        found = model_median(panel, m, run_figures(m, m.layer_of_record).ratio)
        value = math.log(found.value) if found.value > 0 else math.nan
        out.append(Trained(m.info, training_of(m.info), value, found.reason))
    return tuple(out)


def _r4(panel: Panel, models: tuple[Trained, ...]) -> IntervalEvidence:
    known = [
        m for m in models if m.defined and math.isfinite(m.info.training_loss) and math.isfinite(m.info.other_loss)
    ]
    common: dict = {"supported": above(0.0), "rejected": below(0.0), "counts": counts(panel), "n": len(known)}
    trainings = len({m.training for m in known})
    if lacking := _not_known(known, trainings):
        nothing = undefined_interval("not computed")
        return IntervalEvidence(math.nan, nothing, needed=lacking, lacking=lacking, **common)
    y = np.array([m.ratio for m in known])
    loss, other = (np.array([getattr(m.info, f) for m in known]) for f in ("training_loss", "other_loss"))
    size, cluster = np.log([m.info.parameters for m in known]), np.array([m.training for m in known])
    value, draws = correlation_gap(y, loss, other, cluster, panel.generator("R4"), n_boot=panel.n_boot)
    generator = panel.generator("R4 size")
    apart, apart_draws = correlation_gap(y, loss, other, cluster, generator, covariate=size, n_boot=panel.n_boot)
    return IntervalEvidence(
        value,
        percentile_interval(draws, trainings),
        needed=f"{ENOUGH_MODELS} models or more, checkpoints of several trainings (here {len(known)} of {trainings})",
        outcomes=(_kept("size", apart, percentile_interval(apart_draws, trainings)),),
        requirements=(
            Requirement(
                "number of models",
                len(known) >= ENOUGH_MODELS,
                f"{len(known)} models, open below {ENOUGH_MODELS}",
                f"{ENOUGH_MODELS} models (here {len(known)})",
            ),
            _measured_alike(known),
        ),
        p=bootstrap_p(draws),
        null=0.0,
        **common,
    )


def _not_known(known: Sequence[Trained], trainings: int) -> str:
    """What the panel lacks for R4 ("": nothing): losses, seeds that tell checkpoints from trainings, or trainings."""
    if len(known) < 4:
        return (
            f"training loss and the loss on another corpus are known for {len(known)} models with a ratio_norm: "
            "declare training_loss and other_loss (nats per token) of the models"
        )
    shapes = Counter(shape_of(m.info) for m in known if m.info.training_seed is None)
    if alike := sum(n for n in shapes.values() if n > 1):
        return (
            f"{alike} models of equal recipe, shape and tokenizer have no training_seed: they may be checkpoints of "
            "one training; declare training_seed of each"
        )
    return "" if trainings >= 2 else f"all {len(known)} models are checkpoints of one training: add another training"


def _measured_alike(known: Sequence[Trained]) -> Requirement:
    """Both losses on as many tokens: the noisier one goes less with anything, whatever it measures."""
    tokens = np.array([(m.info.loss_tokens, m.info.other_tokens) for m in known])
    met = bool(np.isfinite(tokens).all() and tokens.max() <= EQUAL_TOKENS * tokens.min())
    why = "the losses were not measured on equal numbers of tokens, or the numbers are not known"
    return Requirement(
        "equal evaluation tokens", met, why, "loss_tokens and other_tokens of every model, equal to 10 %"
    )


def _kept(name: str, value: float, interval: Interval) -> Outcome:
    """Whether an effect above 0 is still there with something taken out."""
    said = f"with it taken out {value:.3g} [{interval.lo:.3g}, {interval.hi:.3g}]"
    if interval.reason:
        return Outcome(name, "undecided", interval.reason)
    word = word_of(interval.lo > 0, interval.hi < 0)
    return Outcome(name, word, said, gap_interval=interval)


def last_checkpoints(models: tuple[Trained, ...]) -> tuple[Trained, ...]:
    """One model a training: the one that saw the most tokens (unknown: the first)."""
    best: dict[str, Trained] = {}
    for m in models:
        seen = best.get(m.training)
        if seen is None or m.info.training_tokens > seen.info.training_tokens:
            best[m.training] = m
    return tuple(best.values())


def of_recipes(models: Sequence[Trained]) -> tuple[Trained, ...]:
    """One model a recipe and corpus, with the mean of log ratio_norm: its seeds are no families of their own."""
    together: dict[str, list[Trained]] = {}
    for m in models:
        named = m.info.recipe and f"{m.info.recipe} {m.info.corpus} {m.info.capped} {m.info.qk_norm}"
        together.setdefault(named or m.info.name, []).append(m)
    return tuple(replace(own[0], ratio=float(np.mean([m.ratio for m in own]))) for own in together.values())


def crossed(models: Sequence[Trained]) -> list[Trained]:
    """Models of a known corpus and tokenizer that another family shares: where the two can be told from the family.

    Then only families with enough models among them.
    """
    families: dict[tuple[str, int], set[str]] = {}
    for m in models:
        families.setdefault((m.info.corpus, m.info.vocab_size), set()).add(m.info.family)
    apart = [m for m in models if m.info.corpus and len(families[m.info.corpus, m.info.vocab_size]) > 1]
    many = {family for family, n in Counter(m.info.family for m in apart).items() if n >= EACH}
    return [m for m in apart if m.info.family in many]


def _r6(panel: Panel, models: tuple[Trained, ...]) -> PermutationEvidence:
    last = of_recipes([m for m in last_checkpoints(models) if m.defined])
    used = crossed(last)
    n_families = len({m.info.family for m in used})
    unknown = sum(not m.info.corpus for m in last)
    needed = (
        f"{FAMILIES} families with {EACH} models each (here {n_families}), of which another family shares corpus and "
        f"tokenizer, sizes crossed with families; the corpus of {unknown} models is not known (declare corpus)"
    )
    if n_families < FAMILIES:
        return PermutationEvidence(
            math.nan, math.nan, math.nan, counts(panel), len(used), needed, lacking=f"it needs {needed}"
        )
    y, family = np.array([m.ratio for m in used]), np.array([m.info.family for m in used])
    stratum = np.array([f"{m.info.corpus} {m.info.vocab_size}" for m in used])
    found = share_given(y, family, np.log([m.info.parameters for m in used]), stratum, panel.generator("R6"))
    return PermutationEvidence(
        estimate=found.share,
        null=float(np.nanquantile(found.null, 0.95)),
        p_with_twins=permutation_p(found.share, found.null),
        counts=counts(panel),
        n=len(used),
        needed=f"{units_for_correlation(BOUND)} models of different sizes bound R^2 below {BOUND} where it is 0",
        outcomes=(_size(found.covariate, found.interval),),
    )


def _size(r2: float, interval: Interval) -> Outcome:
    """What size does to a claim on families."""
    if interval.reason:
        return Outcome("size", "undecided", f"R^2 of log parameters is undefined: {interval.reason}")
    said = f"semi-partial R^2 of log parameters {r2:.2f} [{interval.lo:.2f}, {interval.hi:.2f}]"
    word = word_of(interval.hi < BOUND, interval.lo > BOUND)
    return Outcome("size", word, said, gap_interval=interval)


def _r7(panel: Panel, models: tuple[Trained, ...]) -> IntervalEvidence:
    by_training: dict[str, list[Trained]] = {}
    for m in models:
        if m.defined and m.info.training_tokens > 0:
            by_training.setdefault(m.training, []).append(m)
    steps = Counter(t for own in by_training.values() for t in {m.info.training_tokens for m in own})
    matched = {t for t, n in steps.items() if n >= FAMILIES}
    used = [m for own in by_training.values() for m in _matched(own, matched)]
    units = len({m.training for m in used})
    common: dict = {"supported": below(BOUND), "rejected": above(BOUND), "counts": counts(panel), "n": units}
    needed = f"{FAMILIES} trainings or more with {STEPS} checkpoints at the same numbers of tokens (here {units})"
    if units < FAMILIES:
        nothing = undefined_interval("not computed")
        return IntervalEvidence(math.nan, nothing, needed=needed, lacking=f"it needs {needed}", **common)
    x, y = np.log([m.info.training_tokens for m in used]), np.array([m.ratio for m in used])
    z, interval, tails = pooled_correlation(x, y, np.array([m.training for m in used]), math.atanh(math.sqrt(BOUND)))
    return IntervalEvidence(
        math.tanh(z) ** 2, _squared(interval), needed=needed, p=float(min(1.0, 2 * max(tails))), null=BOUND, **common
    )


def _matched(own: list[Trained], matched: set[float]) -> list[Trained]:
    """The checkpoints of one training at matched numbers of tokens; none where they are fewer than three or alike."""
    own = [m for m in own if m.info.training_tokens in matched]
    varied = (
        len(own) >= STEPS and np.ptp([m.info.training_tokens for m in own]) > 0 and np.ptp([m.ratio for m in own]) > 0
    )
    return own if varied else []


def _squared(interval: Interval) -> Interval:
    """An interval of z as one of R^2; it begins at 0 where that of z holds 0."""
    if interval.reason:
        return interval
    lo, hi = sorted(math.tanh(v) ** 2 for v in (interval.lo, interval.hi))
    return Interval(0.0 if interval.lo < 0 < interval.hi else lo, hi, interval.level)


def training_evidence(panel: Panel) -> dict:
    """The evidence for R4, R6 and R7 without the table."""
    return evidence_of(panel, trained_models(panel))


def evidence_of(panel: Panel, models: tuple[Trained, ...]) -> dict:
    """The evidence for R4, R6 and R7 from log ratio_norm of the models."""
    return {"R4": _r4(panel, models), "R6": _r6(panel, models), "R7": _r7(panel, models)}


def analyse_training(panel: Panel) -> Result:
    """Table training; evidence for R4, R6 and R7."""
    rows = [
        {"model": m.info.name, **picked(m.info, "family parameters training_loss other_loss training_tokens")}
        | {**picked(m, "training reason"), "ratio_norm": math.exp(m.ratio) if m.defined else math.nan}
        for m in trained_models(panel)
    ]
    return Result(filled(training=rows), evidence=training_evidence(panel))


TRAINED = declared("training", analyse_training, training_evidence)
