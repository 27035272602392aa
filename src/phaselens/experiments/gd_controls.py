"""Experiment: what could explain the split by GD_ratio: size, soft cap, corpus, QK-norm, sinks, massive dimensions.

Pairs are models of one recipe that differ in one thing alone (`ModelInfo`). G5, G6, G9, G10, and how far every lens is
from the model's own output, layer by layer.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from phaselens.claims import (
    IntervalEvidence,
    Outcome,
    Requirement,
    SplitEvidence,
    above,
    below,
    inside,
    outside,
    survives,
)
from phaselens.claims.verdict_records import word_of
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.gd import CONTROL_VERSIONS, VERSIONS, Version, gd_estimate, version_sums
from phaselens.experiments.result_tables import bounds, filled
from phaselens.experiments.separations import Estimate, counts, evidence, log_estimate, panel_split
from phaselens.statistics.agreement import adjusted_rand
from phaselens.statistics.effects import (
    difference_interval,
    mean_interval,
    p_of_larger_correlation,
    squared_correlation,
    units_for_correlation,
)
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.panel_groups import Split
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit

LENSES = {"final_norm": "", "raw": "__raw", "tuned": "__tuned"}
MATCHED, LEAST_PAIRS, EXPLAINED = 1.3, 2, 0.25
LEAST_SEEDS, LEAST_FAMILIES = 3, 3
MARGIN = math.log(1.25)
HALF = 0.5
DIFFERENCES = ("corpus", "capped", "qk_norm", "training_seed")
BY_NAME = {v.name: v for v in (*VERSIONS, *CONTROL_VERSIONS)}
NEEDED = ("final_norm", "tmatch", "uncapped", "massive", "nofirst")

Logs = Mapping[str, Mapping[str, Estimate]]
Pair = tuple[ModelData, ModelData]


def pairs_by(panel: Panel, fact: str) -> tuple[Pair, ...]:
    """Pairs of trained models of one recipe that differ in `fact` alone, the smaller value of it first.

    Unknown values take no part in what is compared, but must be unknown in both.
    """
    rest = [d for d in DIFFERENCES if d != fact]
    out = []
    for a in panel.trained:
        for b in panel.trained:
            x, y = getattr(a.info, fact), getattr(b.info, fact)
            known = a.info.recipe and x not in (None, "") and y not in (None, "")
            if not known or a.info.recipe != b.info.recipe or not x < y:
                continue
            if all(getattr(a.info, d) == getattr(b.info, d) for d in rest):
                out.append((a, b))
    return tuple(out)


def effect(logs: Mapping[str, Estimate], pair: Pair) -> Estimate:
    """Log GD_ratio of the second less the first model of a pair (ln), with draws; NaN where either is undefined."""
    first, second = (logs[m.info.name] for m in pair)
    return Estimate(second.value - first.value, second.draws - first.draws, first.reason or second.reason)


def _defined(logs: Mapping[str, Estimate], pairs: Sequence[Pair]) -> tuple[list[Pair], np.ndarray, np.ndarray]:
    """The pairs with an effect, the effects [pair], and their draws [B, pair]."""
    found = [(p, effect(logs, p)) for p in pairs]
    found = [(p, e) for p, e in found if math.isfinite(e.value)]
    draws = np.stack([e.draws for _, e in found], axis=1) if found else np.empty((0, 0))
    return [p for p, _ in found], np.array([e.value for _, e in found]), draws


def matched_pairs(panel: Panel, base: Split) -> int:
    """Largest number of disjoint pairs of models in opposite groups with a size ratio of at most 1.3 (count).

    Twins take no part.
    """
    own = {m.info.name: m.info for m in panel.trained if m.info.twin_of is None}
    groups = dict(zip(base.models, base.test.groups, strict=True))
    upper, lower = ([own[n].parameters for n, g in groups.items() if g == side and n in own] for side in (1, 0))
    if not upper or not lower:
        return 0
    ratio = np.abs(np.log(np.array(upper, float)[:, None] / np.array(lower, float)[None]))
    return int((maximum_bipartite_matching(csr_array(ratio <= math.log(MATCHED) + 1e-12), "column") >= 0).sum())


def size_evidence(panel: Panel, base: Split) -> IntervalEvidence:
    """The evidence for G5."""
    values = dict(zip(base.models, base.values, strict=True))
    used = [m for m in panel.trained if m.info.twin_of is None and math.isfinite(values[m.info.name])]
    sizes = np.array([float(m.info.parameters) for m in used])
    r2, interval = squared_correlation(np.log(sizes), np.array([values[m.info.name] for m in used]))
    ratio = sizes.max() / sizes.min() if len(sizes) else 1.0
    n_pairs = matched_pairs(panel, base)
    least = units_for_correlation(EXPLAINED)
    said = f"{n_pairs} disjoint pairs of one size in opposite groups"
    lacking = "" if ratio > MATCHED else "all models are of one size: add models that are larger or smaller"
    return IntervalEvidence(
        estimate=r2,
        interval=interval,
        supported=below(EXPLAINED),
        rejected=above(EXPLAINED),
        counts=counts(panel) | {"matched pairs": n_pairs},
        n=len(used),
        needed=f"{max(least, len(used) + 1)} models that are twins of none (this panel: {len(used)})",
        outcomes=(Outcome("matched pairs", "survived" if n_pairs >= LEAST_PAIRS else "missing", said),),
        requirements=(_split_there(base),),
        p=math.nan if lacking else p_of_larger_correlation(r2, EXPLAINED, len(used)),
        lacking=lacking,
    )


def _split_there(base: Split) -> Requirement:
    return Requirement("S test", bool(base.p <= 0.05), f"there is no established split (p = {base.p:.3g})", "see G1")


def cap_evidence(panel: Panel, logs: Logs) -> IntervalEvidence:
    """The evidence for G6."""
    caps, of_cap, cap_draws = _defined(logs["final_norm"], pairs_by(panel, "capped"))
    _, of_corpus, _ = _defined(logs["final_norm"], pairs_by(panel, "corpus"))
    value, interval, p = difference_interval(np.abs(of_cap), np.abs(of_corpus))
    absent = [w for w, e in (("in their soft cap", of_cap), ("in their corpus", of_corpus)) if not len(e)]
    lacking = f"no two models of the panel differ {' or '.join(absent)} alone: add such pairs" if absent else ""
    need = f"{LEAST_SEEDS} seeds with and without the cap, and {LEAST_PAIRS} pairs of corpora"
    here = f"this panel has {len(of_cap)} and {len(of_corpus)}"
    return IntervalEvidence(
        estimate=value,
        interval=interval,
        supported=above(0.0),
        rejected=below(0.0),
        counts=counts(panel) | {"cap pairs": len(of_cap), "corpus pairs": len(of_corpus)},
        n=len(of_cap),
        needed=f"more than {need} ({here})",
        outcomes=(_without_cap(panel, logs, caps, of_cap, cap_draws),) if caps else (),
        requirements=(Requirement("seeds", len(of_cap) >= LEAST_SEEDS and len(of_corpus) >= LEAST_PAIRS, here, need),),
        p=math.nan if lacking else p,
        null=0.0,
        lacking=lacking,
    )


def _without_cap(panel: Panel, logs: Logs, caps: Sequence[Pair], whole: np.ndarray, draws: np.ndarray) -> Outcome:
    """What is left of the cap's effect when the capped models are read without their cap."""
    mixed = {b.info.name: logs["uncapped"][b.info.name] for _, b in caps}
    mixed |= {a.info.name: logs["final_norm"][a.info.name] for a, _ in caps}
    usable, left, left_draws = _defined(mixed, caps)
    if len(usable) < len(caps):
        return Outcome("read-out removal", "missing", "the study did not record the lens uncapped")
    return _share("read-out removal", left, left_draws, whole, draws, len(panel.units))


def _share(
    name: str, left: np.ndarray, left_draws: np.ndarray, whole: np.ndarray, draws: np.ndarray, n_prompts: int
) -> Outcome:
    """Whether at least half of a mean effect is left: survived (lower bound), explained away (upper bound) or open."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kept = float(left.mean() / whole.mean())
        interval = percentile_interval(left_draws.mean(axis=1) / draws.mean(axis=1), n_prompts)
    why = f"{kept:.2f} [{interval.lo:.2f}, {interval.hi:.2f}] of the effect is left"
    word = word_of(interval.lo > HALF, interval.hi < HALF)
    return Outcome(name, word, why, gap_kept=kept, gap_interval=interval)


def corpus_evidence(panel: Panel, logs: Logs) -> IntervalEvidence:
    """The evidence for G9."""
    whole = _most_crossed(pairs_by(panel, "corpus"))
    pairs, values, draws = _defined(logs["final_norm"], whole)
    by_family, family_draws = _family_means(pairs, values, draws)
    value, interval, p = mean_interval(by_family)
    need = f"{LEAST_FAMILIES} families trained on both of two corpora"
    corpora = f"{pairs[0][0].info.corpus} to {pairs[0][1].info.corpus}" if pairs else ""
    lacking = "" if pairs else "no two models of the panel differ in their corpus alone: add such pairs"
    outcome = _at_common_temperature(panel, logs, pairs, by_family, family_draws) if pairs else None
    return IntervalEvidence(
        estimate=value,
        interval=interval,
        supported=outside(0.0),
        rejected=inside(MARGIN),
        counts=counts(panel) | {"families": len(by_family), "corpus pairs": len(pairs)},
        n=len(by_family),
        needed=f"more than {need} (this panel: {len(by_family)}, {corpora})",
        outcomes=() if outcome is None else (outcome,),
        requirements=(Requirement("families", len(by_family) >= LEAST_FAMILIES, f"{len(by_family)} families", need),),
        p=math.nan if lacking else p,
        null=0.0,
        lacking=lacking,
    )


def _most_crossed(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of those two corpora that most families have."""
    by_corpora: dict[tuple[str, str], list[Pair]] = {}
    for a, b in pairs:
        by_corpora.setdefault((a.info.corpus, b.info.corpus), []).append((a, b))
    ranked = sorted(by_corpora.items(), key=lambda item: (-len({a.info.family for a, _ in item[1]}), item[0]))
    return ranked[0][1] if ranked else []


def _family_means(pairs: Sequence[Pair], values: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean effect of each family [family], and its draws [B, family]."""
    families = [a.info.family for a, _ in pairs]
    rows = [np.array([f == one for f in families]) for one in dict.fromkeys(families)]
    if not rows:
        return np.empty(0), np.empty((0, 0))
    return np.array([values[r].mean() for r in rows]), np.stack([draws[:, r].mean(axis=1) for r in rows], axis=1)


def _at_common_temperature(
    panel: Panel, logs: Logs, pairs: Sequence[Pair], whole: np.ndarray, draws: np.ndarray
) -> Outcome:
    """Whether the corpus effect is there at a common temperature."""
    usable, values, own_draws = _defined(logs["tmatch"], pairs)
    if len(usable) < len(pairs):
        return Outcome("temperature-matched", "missing", f"defined for {len(usable)} of {len(pairs)} pairs")
    left, left_draws = _family_means(usable, values, own_draws)
    shared = _share("temperature-matched", left, left_draws, whole, draws, len(panel.units))
    mean, interval, p = mean_interval(left)
    same = (interval.lo > 0) == (whole.mean() > 0) and (interval.lo > 0 or interval.hi < 0)
    word = word_of(same, shared.outcome == "explains it away")
    why = f"effect {mean:.3g} [{interval.lo:.3g}, {interval.hi:.3g}] there; {shared.why}"
    return Outcome("temperature-matched", word, why, p=p, gap_kept=shared.gap_kept, gap_interval=shared.gap_interval)


def sink_evidence(panel: Panel, base: Split, splits: Mapping[str, Split], logs: Logs) -> SplitEvidence:
    """The evidence for G10."""
    tested = [s for s in splits.values() if not math.isnan(s.p)]
    outcomes = (
        survives("sinks", base, splits["nofirst"]),
        survives("massive dimensions", base, splits["massive"]),
        _qk_norm(panel, base, logs),
    )
    weakest = max(tested, key=lambda s: s.p) if tested else base
    none = "" if np.isfinite(base.values).any() else "GD_ratio is defined for no model: record top1 and rivalry"
    return evidence(panel, weakest, outcomes, base=base, lacking=none)


def _qk_norm(panel: Panel, base: Split, logs: Logs) -> Outcome:
    """How much of the gap QK-norm alone makes, over the pairs that differ in it alone."""
    name = "QK-norm pair"
    pairs, values, draws = _defined(logs["final_norm"], pairs_by(panel, "qk_norm"))
    if not pairs:
        return Outcome(name, "missing", "no two models of the panel differ in their QK-norm alone")
    groups = np.asarray(base.test.groups)
    if not base.p <= 0.05:
        return Outcome(name, "undecided", "no established split to test")
    gap = base.values[groups == 1].mean() - base.values[groups == 0].mean()
    gap_draws = base.draws[:, groups == 1].mean(axis=1) - base.draws[:, groups == 0].mean(axis=1)
    share = float(values.mean() / gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        interval = percentile_interval(np.abs(draws.mean(axis=1) / gap_draws), len(panel.units))
    why = f"QK-norm moves a model by {abs(share):.2f} [{interval.lo:.2f}, {interval.hi:.2f}] of the gap"
    facts: dict = {"gap_kept": 1 - abs(share), "gap_interval": _flipped(interval)}
    if interval.hi < HALF:
        return Outcome(name, "survived", why, **facts)
    normed = {m.info.name: m.info.qk_norm for m in panel.trained}
    known = np.array(
        [n in normed and normed[n] is not None and g >= 0 for n, g in zip(base.models, groups, strict=True)]
    )
    own = np.array([int(bool(normed.get(n))) for n in base.models])
    alike = known.sum() >= 4 and adjusted_rand(groups[known], own[known]) == 1.0
    return Outcome(name, "explains it away" if interval.lo > HALF and alike else "undecided", why, **facts)


def _flipped(share: Interval) -> Interval:
    return share if share.reason else Interval(1 - share.hi, 1 - share.lo, share.level)


def _estimates(panel: Panel, version: Version) -> dict[str, Estimate]:
    return {m.info.name: log_estimate(gd_estimate(panel, version_sums(panel, m, version))) for m in panel.trained}


def control_evidence(panel: Panel) -> dict:
    """The evidence for G5, G6, G9, G10, without tables."""
    return _judged(panel, {name: _estimates(panel, BY_NAME[name]) for name in NEEDED})


def _judged(panel: Panel, logs: Logs) -> dict:
    splits = {name: panel_split(panel, "G", name, logs[name]) for name in ("final_norm", "massive", "nofirst")}
    base = splits.pop("final_norm")
    return {
        "G5": size_evidence(panel, base),
        "G6": cap_evidence(panel, logs),
        "G9": corpus_evidence(panel, logs),
        "G10": sink_evidence(panel, base, splits, logs),
    }


def _pair_rows(panel: Panel, logs: Logs) -> list[dict]:
    rows = []
    for fact in DIFFERENCES:
        for pair in pairs_by(panel, fact):
            for version, of_version in logs.items():
                found = effect(of_version, pair)
                interval = percentile_interval(found.draws, len(panel.units))
                names = {"differs": fact, "first": pair[0].info.name, "second": pair[1].info.name}
                rows.append(
                    names
                    | {"family": pair[1].info.family, "version": version, "effect": found.value, **bounds(interval)}
                    | {"n_prompts": len(panel.units), "reason": found.reason or interval.reason}
                )
    return rows


def _kl_rows(panel: Panel, model: ModelData) -> list[dict]:
    """Mean KL from the final distribution by layer and lens over steps and measured runs (nats), with intervals."""
    rows = []
    index = panel.unit_index(model)
    for lens, suffix in LENSES.items():
        if f"kl_to_final{suffix}" not in model.layers:
            continue
        sums, cells = sums_by_unit(model.per_layer(f"kl_to_final{suffix}"), index, len(panel.units))
        draws = resampled_ratio(sums, cells, panel.weights)
        for i, layer in enumerate(model.recorded_layers):
            prompts, total = int((cells[i] > 0).sum()), cells[i].sum()
            interval = percentile_interval(draws[:, i], prompts)
            mean = sums[i].sum() / total if total else math.nan
            where = {"lens": lens, "layer": layer, "depth": layer / model.info.n_layers}
            rows.append(model.info.named | where | {"kl": mean, **bounds(interval), "n_prompts": prompts})
    return rows


def analyse_gd_controls(panel: Panel) -> Result:
    """Tables gd_pairs and lens_kl; evidence for G5, G6, G9, G10."""
    logs = {name: _estimates(panel, BY_NAME[name]) for name in NEEDED}
    return Result(
        filled(gd_pairs=_pair_rows(panel, logs), lens_kl=[row for m in panel.models for row in _kl_rows(panel, m)]),
        evidence=_judged(panel, logs),
    )


GD_CONTROLS = declared("gd_controls", analyse_gd_controls, control_evidence)
