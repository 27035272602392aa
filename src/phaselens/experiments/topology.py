"""Experiment: what the fingerprints of a panel group by, whether declared families are among it, robust pairs. T1.

Everything is made twice, with all trained models and without those that are twins of another one; the latter decides.
"""

import math
from dataclasses import dataclass

import numpy as np

from phaselens.claims import LEVEL, IntervalEvidence, Outcome, Requirement, above, below
from phaselens.claims.verdict_records import word_of
from phaselens.dynamics.clusters import Topology, distances, flat_map, groupings, leave_one_out, robust_pairs, topology
from phaselens.dynamics.fingerprints import Identification, fingerprints, resampled_fingerprints
from phaselens.experiments.base import Panel, Result, declared
from phaselens.experiments.fingerprints import FINGERPRINTS, Sample, identified, sample_of, without_twins
from phaselens.experiments.result_tables import TABLES, bounds, filled
from phaselens.experiments.separations import counts
from phaselens.statistics.agreement import adjusted_rand, grouping_agreement, mantel
from phaselens.statistics.intervals import Interval, basic_interval, percentile_interval, undefined_interval

SMALLEST = 3
SCALE = 12
MOST_DRAWS = 1000
NULL_DRAWS = 2000
DISSOLVED = 0.5
FEW = 0.25
MANY = 0.5
NULLS = ("principal", "columns")


@dataclass(frozen=True, eq=False)
class Families:
    """How far groups by fingerprint are the declared families of some models (1, probabilities).

    `ari` with its interval and p at as many groups as there are families, `best` the same of the consensus groups,
    `r` the correlation of distance with being of different families. NaN, with a reason in the interval, where there
    are not two families one of which has two models.
    """

    n: int
    ari: float
    interval: Interval
    p: float
    best: tuple[float, float]
    r: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Grouped:
    """Everything about one set of models. `robust` and `critical` are by null."""

    label: str
    sample: Sample
    found: Topology
    vectors: np.ndarray
    robust: dict[str, np.ndarray]
    critical: dict[str, float]
    families: Families

    def share(self, null: str) -> float:
        """Share of models that are in a robust pair by one null (proportion)."""
        return float(self.robust[null].any(axis=1).mean())

    def pairs(self, null: str) -> int:
        """Robust pairs by one null (count)."""
        return int(self.robust[null].sum() // 2)


def grouped(panel: Panel, sample: Sample, label: str) -> Grouped | None:
    """Cluster the models of a sample; None for fewer than three, or nothing to compare."""
    if sample.reason or len(sample.models) < SMALLEST:
        return None
    vectors = fingerprints(sample.values).vectors
    draws = resampled_fingerprints(sample.values, sample.weights[:MOST_DRAWS])
    draws = draws[np.isfinite(draws).all(axis=(1, 2))]
    generator = panel.generator(f"topology {label}")
    n_null = min(NULL_DRAWS, panel.n_boot)
    found = topology(vectors, draws, generator, n_prompts=sample.n_prompts, null="principal", n_null=n_null)
    every = groupings(distances(draws))
    columns, _, critical = robust_pairs(vectors, every, generator, null="columns", n_null=n_null)
    return Grouped(
        label,
        sample=sample,
        found=found,
        vectors=vectors,
        robust={"principal": found.robust, "columns": columns},
        critical={"principal": found.critical, "columns": critical},
        families=_families(panel, label, sample, vectors, found, every),
    )


def _families(
    panel: Panel, label: str, sample: Sample, vectors: np.ndarray, found: Topology, every: np.ndarray
) -> Families:
    names, family = np.unique([m.info.family for m in sample.models], return_inverse=True)
    k, m = len(names), len(sample.models)
    if k < 2 or k == m:
        why = "all models are of one family" if k < 2 else "no family has two models"
        nan = (math.nan, math.nan)
        return Families(k, math.nan, undefined_interval(why), math.nan, nan, nan)
    generator = panel.generator(f"families {label}")
    cut = groupings(distances(vectors))[k - 1]
    n = min(NULL_DRAWS, panel.n_boot)
    ari, p = grouping_agreement(cut, family, generator, n_permutations=n)
    draws = np.array([adjusted_rand(one, family) for one in every[:, k - 1]])
    apart = (family[:, None] != family).astype(float)
    return Families(
        k,
        ari,
        wider(percentile_interval(draws, sample.n_prompts), basic_interval(draws, ari, sample.n_prompts)),
        p,
        grouping_agreement(found.consensus_groups, family, generator, n_permutations=n),
        mantel(found.distance, apart, generator),
    )


def wider(one: Interval, other: Interval) -> Interval:
    """The lower of the lower and the upper of the upper bounds, at most 1.

    Resampling shakes a grouping, so resampled agreement lies below the estimate; neither interval alone says how far.
    """
    if one.reason or other.reason:
        return one if one.reason else other
    return Interval(min(one.lo, other.lo), min(1.0, max(one.hi, other.hi)), one.level)


def _outcomes(of: Grouped, own: Identification | None) -> tuple[Outcome, ...]:
    r, p = of.families.r
    families = Outcome(
        "families permuted",
        "survived" if p > LEVEL else "undecided",
        f"distance and being of different families: r = {r:.2f}, p = {p:.3g}",
        p,
    )
    strict, lenient = of.share("principal"), of.share("columns")
    word = word_of(max(strict, lenient) <= FEW, strict > MANY)
    said = f"share of models in robust pairs: {strict:.2f} by principal axes ({of.pairs('principal')} pairs)"
    few = Outcome("few robust pairs", word, f"{said}, {lenient:.2f} by columns ({of.pairs('columns')} pairs)")
    if own is None:
        return families, few, Outcome("reproducible fingerprints", "undecided", "no identification could be made")
    told = f"split-half identification {own.accuracy:.2f}, p = {own.p:.3g}"
    return (
        families,
        few,
        Outcome("reproducible fingerprints", "survived" if own.p <= LEVEL else "undecided", told, own.p),
    )


def _lacking(sample: Sample, of: Grouped | None) -> str:
    """What the panel lacks for T1 to be about anything."""
    if of is None:
        return sample.reason or f"{len(sample.models)} models that are twins of none: three are the least to cluster"
    families = of.families.interval.reason if math.isnan(of.families.ari) else ""
    return f"{families}: add models, so that two families have two each" if families else ""


def _evidence(panel: Panel, sample: Sample, of: Grouped | None) -> dict:
    """Evidence for T1 from the models without twins."""
    lacking = _lacking(sample, of)
    m = len(sample.models)
    if of is None or lacking:
        interval, estimate = undefined_interval(lacking or "no groups"), math.nan
        outcomes: tuple[Outcome, ...] = ()
    else:
        interval, estimate = of.families.interval, of.families.ari
        outcomes = _outcomes(of, identified(panel, sample, "topology"))
    enough = Requirement(
        "panel scale",
        m >= SCALE,
        f"{m} models that are twins of none",
        f"{SCALE} models that are twins of none (this panel: {m})",
    )
    found = IntervalEvidence(
        estimate=estimate,
        interval=interval,
        supported=below(DISSOLVED),
        rejected=above(DISSOLVED),
        counts=counts(panel)
        | {"models without twins": m, "features": len(sample.features)}
        | ({} if of is None else {f"robust pairs ({null})": of.pairs(null) for null in NULLS}),
        n=m,
        needed="more models of each family, or more prompts",
        outcomes=outcomes,
        requirements=(enough,),
        null=0.0,
        lacking=lacking,
        reasons={"p": "the permutation p speaks against this claim: it stands with the control 'families permuted'"},
    )
    return {"T1": found}


def _group_rows(panel: Panel, of: Grouped) -> tuple[list[dict], float]:
    """One row a model, and the stress of the map."""
    found = of.found
    places, stress = flat_map(found.distance)
    m = len(of.sample.models)
    left = leave_one_out(of.vectors, panel.generator(f"leave one out {of.label}")) if m < SCALE else [math.nan] * m
    names = [model.info.name for model in of.sample.models]
    leaves = leaf_order(found.tree)
    rows = [
        {"panel": of.label, "model": name, "family": of.sample.models[i].info.family}
        | {"group": found.groups[i], "consensus_group": found.consensus_groups[i], "leaf": leaves.index(i)}
        | {"x": places[i, 0], "y": places[i, 1], "left_out_ari": left[i]}
        | {"partner": ", ".join(names[j] for j in np.flatnonzero(of.robust["principal"][i]))}
        for i, name in enumerate(names)
    ]
    return rows, stress


def leaf_order(tree: np.ndarray) -> list[int]:
    """Models from one end of the dendrogram to the other: the left branch of every merge first."""
    held = [[i] for i in range(len(tree) + 1)]
    for a, b in tree[:, :2].astype(int):
        held.append(held[a] + held[b])
    return held[-1]


def _pair_rows(of: Grouped) -> list[dict]:
    models, found = of.sample.models, of.found
    return [
        {"panel": of.label, "first": models[i].info.name, "second": models[j].info.name}
        | {"same_family": models[i].info.family == models[j].info.family, "distance": found.distance[i, j]}
        | {"together": found.consensus[i, j], "together_fine": found.fine[i, j]}
        | {f"robust_{null}": of.robust[null][i, j] for null in NULLS}
        for i in range(len(models))
        for j in range(i + 1, len(models))
    ]


def _merge_rows(of: Grouped) -> list[dict]:
    """The dendrogram: merge k joins `left` and `right`, leaves 0..M-1 as in the groups table, merges M + k."""
    return [
        {"panel": of.label, "merge": k, "left": int(a), "right": int(b), "height": height}
        | {"n_models": int(size), "support": of.found.support[k]}
        for k, (a, b, height, size) in enumerate(of.found.tree)
    ]


def _figures(label: str, sample: Sample, of: Grouped | None, stress: float) -> dict:
    row: dict[str, object] = {f.name: 0 if f.kind == "int" else math.nan for f in TABLES["topology"].fields}
    row |= {"panel": label, "n_models": len(sample.models), "n_prompts": sample.n_prompts}
    row |= {"n_features": len(sample.features), "reason": sample.reason or "fewer than three models"}
    if of is None:
        return row
    width, families = of.found.silhouette, of.families
    groups, consensus = (len(np.unique(g)) for g in (of.found.groups, of.found.consensus_groups))
    return (
        row
        | {"n_draws": min(MOST_DRAWS, len(sample.weights)), "n_groups": groups, "n_consensus_groups": consensus}
        | {"silhouette": float(width.max()) if len(width) and np.isfinite(width).any() else math.nan}
        | {"fragmentation": of.found.fragmentation, "n_families": families.n, "stress": stress}
        | {"ari": families.ari, **bounds(families.interval, "ari"), "ari_p": families.p}
        | dict(zip(("ari_best", "ari_best_p", "mantel_r", "mantel_p"), (*families.best, *families.r), strict=True))
        | {f"pairs_{null}": of.pairs(null) for null in NULLS}
        | {f"critical_{null}": of.critical[null] for null in NULLS}
        | {"share_robust": of.share("principal"), "reason": families.interval.reason}
    )


def topology_evidence(panel: Panel) -> dict:
    """The evidence for T1 as `analyse_topology` gives it, without its tables."""
    fewer = without_twins(sample_of(panel))
    return _evidence(panel, fewer, grouped(panel, fewer, "twins removed"))


def analyse_topology(panel: Panel) -> Result:
    """Tables topology, topology_models, topology_pairs, topology_merges; evidence for T1."""
    whole = sample_of(panel)
    fewer = without_twins(whole)
    figures, models, pairs, merges = (list[dict]() for _ in range(4))
    decides = None
    for label, sample in (("all trained", whole), ("twins removed", fewer)):
        of, stress = grouped(panel, sample, label), math.nan
        if of is not None:
            rows, stress = _group_rows(panel, of)
            models, pairs, merges = models + rows, pairs + _pair_rows(of), merges + _merge_rows(of)
        figures.append(_figures(label, sample, of, stress))
        decides = of
    return Result(
        filled(topology=figures, topology_models=models, topology_pairs=pairs, topology_merges=merges),
        evidence=_evidence(panel, fewer, decides),
        notes=_notes(fewer, decides),
    )


def _notes(sample: Sample, of: Grouped | None) -> tuple[str, ...]:
    if of is None:
        return (f"topology: {_lacking(sample, of)}",)
    by = {null: of.pairs(null) for null in NULLS}
    if by["columns"] == by["principal"]:
        return ()
    return (
        f"robust pairs: {by['principal']} by principal axes, {by['columns']} by columns; the former null overlooks "
        "pairs, the latter makes some out of what features have in common",
    )


TOPOLOGY = declared(
    "topology", analyse_topology, topology_evidence, layers=FINGERPRINTS.needs_layers, steps=FINGERPRINTS.needs_steps
)
