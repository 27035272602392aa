"""Experiment: do differences between models depend on category, normalisation, layer band or load? S4 and S8."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.stats import rankdata

from phaselens.claims import IntervalEvidence, Outcome, PermutationEvidence, Requirement, above
from phaselens.dynamics.profile import ValueCalibration, clipped_values, fit_values
from phaselens.dynamics.regimes import ratio_norm, run_mean
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.claim_versions import Version, decided, units_needed
from phaselens.experiments.crossed_design import BY_MEASURE, MEAN_CT, MEASURES, Cells, cells
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import counts
from phaselens.statistics.interactions import family_by_load, interaction_on_ranks
from phaselens.statistics.intervals import undefined_interval
from phaselens.statistics.permutation import permutation_p
from phaselens.statistics.variance import mean_squares
from phaselens.statistics.variance_bootstrap import share_interval

CLAIMS = ("S4", "S8")
BANDS = (0.25, 0.5, 0.75, 1.0)
PERMUTATIONS = 999
STEPS = re.compile(r"^(\d+) steps?\b")
RANKS = "squared ranks"
STATE_NORMALISATIONS = ("raw", "rms", "zscore", "clipped_mad")


@dataclass(frozen=True, eq=False)
class Factor:
    """Model x factor for one measure: its component with interval and p-value, and what it stands on."""

    name: str
    version: Version
    measure: str
    levels: tuple[str, ...]
    unit: str
    n_models: int = 0
    n_prompts: int = 0
    n_runs: int = 0


def permutations_of(panel: Panel) -> int:
    """How often labels are moved (count): 999 times, fewer where a panel asks for fewer resamples."""
    return min(PERMUTATIONS, panel.n_boot - 1)


def _absent(name: str, measure: str, why: str, levels: Sequence[str] = ()) -> Factor:
    said = Version(f"{name}, {measure}", math.nan, undefined_interval(why))
    return Factor(name, said, measure, tuple(levels), "")


def by_category(panel: Panel, measure: str) -> Factor:
    """Model x category on ranks: the interaction's share for these levels (1), for prompts are nested in categories.

    p: categories of prompts shuffled, each prompt with all its models, against the ratio of the interaction's mean
    square to that of model x prompt.
    """
    of = cells(panel, BY_MEASURE[measure])
    y = of.balanced
    if y is None or min(y.shape[:2]) < 2:
        return _absent("category", measure, "no two models and categories with two complete prompts", of.categories)
    ranks = rankdata(y).reshape(y.shape)
    label = f"interaction category {measure}"
    found = share_interval(ranks, {"model:category": 1.0}, panel.generator(label), n_boot=panel.n_boot)
    p = _category_shuffle(ranks, panel.generator(f"{label} shuffle"), permutations_of(panel))
    version = Version(f"category, {measure}", found.value, found.interval, p)
    return Factor("category", version, measure, of.categories, "share", y.shape[0], n_prompts=y.shape[2], n_runs=y.size)


def _category_shuffle(ranks: np.ndarray, generator: np.random.Generator, n_permutations: int) -> float:
    """p-value of model x category when prompts move between categories (1); ranks [M, C, P, R]."""
    m, c, p, r = ranks.shape
    flat = ranks.reshape(m, c * p, r)
    order = generator.permuted(np.tile(np.arange(c * p), (n_permutations, 1)), axis=1)
    every = np.stack([mean_squares(x) for x in (ranks, *(flat[:, o].reshape(m, c, p, r) for o in order))])
    noise = every[:, 4] if r > 1 else every[:, 5]
    ratio = np.divide(every[:, 2], noise, out=np.full(len(every), np.nan), where=noise > 0)
    return permutation_p(float(ratio[0]), ratio[1:])


def _by_level(panel: Panel, name: str, measure: str, levels: Sequence[str], per_level: Sequence) -> Factor:
    """Model x factor for a factor under which every prompt is measured; `per_level` gives values per run."""
    parts = [cells(panel, per_run) for per_run in per_level]
    if len(parts) < 2:
        return _absent(name, measure, f"{len(parts)} levels are recorded, two are needed", levels)
    if len({(p.models, p.prompts) for p in parts}) > 1 or not parts[0].y.size:
        return _absent(name, measure, "models or prompts without a value under some level", levels)
    y = np.stack([p.y for p in parts], axis=1).reshape(len(parts[0].models), len(parts), -1, parts[0].y.shape[3])
    whole = np.isfinite(y).all(axis=(0, 1, 3))
    y = y[:, :, whole].mean(axis=3)
    if min(y.shape) < 2:
        return _absent(name, measure, f"needs two models, levels and complete prompts; got {y.shape}", levels)
    label = f"interaction {name} {measure}"
    found = interaction_on_ranks(y, panel.generator(label), n_boot=panel.n_boot, n_permutations=permutations_of(panel))
    version = Version(f"{name}, {measure}", found.value, found.interval, found.p)
    counted = {"n_models": y.shape[0], "n_prompts": y.shape[2], "n_runs": int(parts[0].n_runs)}
    return Factor(name, version, measure, tuple(levels), RANKS, **counted)


def by_band(panel: Panel, measure: str) -> Factor:
    """Model x layer band on ranks (squared ranks): l/L = .25, .5, .75, 1, each at the nearest layer >= 1."""

    def at(band: float):
        return lambda m: BY_MEASURE[measure](m, max(1, round(band * m.info.n_layers)))

    shallow = [m.info.name for m in panel.trained if m.info.n_layers < len(BANDS)]
    if shallow:
        return _absent(
            "layer band", measure, f"fewer than four layers: {', '.join(shallow)}", [f"{b:g}" for b in BANDS]
        )
    return _by_level(panel, "layer band", measure, [f"l/L = {b:g}" for b in BANDS], [at(b) for b in BANDS])


def by_normalisation(panel: Panel, measure: str) -> Factor:
    """Model x normalisation on ranks (squared ranks): unit states, and every other that all models have.

    Of states: the columns `instability__METHOD` that are recorded. Of values: ct clipped by the calibration runs' MAD.
    """
    scales: dict[str, ValueCalibration] = {}
    states = [n for n in STATE_NORMALISATIONS if all(f"instability__{n}" in m.layers for m in panel.trained)]
    for m in panel.trained:
        ct = m.at_layer("instability", m.layer_of_record)
        scales[m.info.name] = fit_values(np.empty(0) if ct is None else ct[~m.measured].ravel())

    def of(column: str, m: ModelData, *, clip: bool = False) -> np.ndarray:
        ct = m.at_layer(column, m.layer_of_record)
        if ct is None:
            return np.full(len(np.asarray(m.runs["run"])), np.nan)
        ct = clipped_values(ct, scales[m.info.name]) if clip else ct
        values = run_mean(ct) if measure == MEAN_CT else ratio_norm(ct).value
        return np.log(values, out=np.full(len(values), np.nan), where=values > 0)

    levels, per_level = ["unit"], [partial(of, "instability")]
    levels += states
    per_level += [partial(of, f"instability__{name}") for name in states]
    if all(np.isfinite(one.scale) for one in scales.values()):
        levels.append("values clipped_mad")
        per_level.append(partial(of, "instability", clip=True))
    elif not states:
        why = "no calibration runs to clip values by, and no other normalisation of states is recorded"
        return _absent("normalisation", measure, why, levels)
    return _by_level(panel, "normalisation", measure, levels, per_level)


def factors(panel: Panel) -> list[Factor]:
    """Every factor by every measure."""
    return [make(panel, m) for make in (by_category, by_normalisation, by_band) for m in MEASURES]


def _s4(panel: Panel, found: Sequence[Factor]) -> IntervalEvidence:
    """The evidence of S4."""
    versions = [f.version for f in found]
    models = min(f.n_models for f in found)
    trained = len(panel.trained)
    missing = [f for f in found if f.version.interval.reason]
    prompts = min((f.n_prompts for f in found if not f.version.interval.reason), default=0)
    wanted = [n for f in found if (n := units_needed(f.version, 0.0, max(f.n_prompts, 2))) is not None]
    said = "; ".join(dict.fromkeys(f"{f.name}: {f.version.interval.reason}" for f in missing))
    return decided(
        versions,
        above(0.0),
        (),
        counts=counts(panel) | {"factors": len({f.name for f in found})},
        n=models or trained,
        needed=f"about {max(wanted)} prompts if these components hold (this study: {prompts})" if wanted else said,
        null=0.0,
        lacking="two trained models are needed" if trained < 2 else said if len(missing) == len(found) else "",
        requirements=(Requirement("every factor", not missing, said, said),),
    )


@dataclass(frozen=True, eq=False)
class Load:
    """ln mean ct by load, as `Cells` whose categories are the levels of load, and what load is."""

    what: str
    cells: Cells

    def table(self, models: np.ndarray) -> np.ndarray:
        """Seed means of some of the models (ln rad), [M, load, prompt]; NaN where a level has fewer prompts."""
        y = self.cells.y[models]
        seen = np.isfinite(y)
        count = seen.sum(axis=3)
        return np.divide(np.where(seen, y, 0).sum(axis=3), count, out=np.full(count.shape, np.nan), where=count > 0)


def load(panel: Panel) -> Load:
    """Steps of derivation where the prompts' tags say "1 step", "2 steps" and so on, else the category.

    Tags are read from a column `tag` of the runs, where a trace carries it; prompts without steps take no part then.
    """
    steps = _steps(panel)
    if steps is not None:
        return Load("steps of derivation", steps)
    return Load("category", cells(panel, BY_MEASURE[MEAN_CT]))


def _steps(panel: Panel) -> Cells | None:
    if not panel.trained or not all("tag" in m.runs for m in panel.trained):
        return None
    runs = {}
    for m in panel.trained:
        found = [STEPS.match(str(tag)) for tag in m.runs["tag"]]
        runs[m.info.name] = np.array([f.group(1) if f else "" for f in found])
    levels = sorted({s for own in runs.values() for s in own if s}, key=int)
    if len(levels) < 2:
        return None
    whole = cells(panel, BY_MEASURE[MEAN_CT], labels=runs)
    # Steps that only prompts of other arms have are none of this design.
    levels = [level for level in levels if level in whole.categories]
    if len(levels) < 2:
        return None
    order = [whole.categories.index(level) for level in levels]
    prompts = tuple(whole.prompts[i] for i in order)
    return Cells(whole.y[:, order], whole.arm, whole.models, tuple(levels), prompts, whole.absent)


@dataclass(frozen=True, eq=False)
class FamilyLoad:
    """Family x load over some of the models: pseudo-F, p-value, the 95 % point of its null, and who took part."""

    version: str
    f: float
    p: float
    null: float
    n_models: int
    n_families: int
    reason: str


def by_family(panel: Panel, of: Load, version: str, models: Sequence[str]) -> FamilyLoad:
    """Family x load over the named models that have a value at every level."""
    info = {m.info.name: m.info for m in panel.trained}
    keep = np.array([i for i, name in enumerate(of.cells.models) if name in models], int)
    y = of.table(keep)
    whole = np.isfinite(y).any(axis=2).all(axis=1) if y.size else np.zeros(len(keep), bool)
    keep, y = keep[whole], y[whole]
    family = np.array([info[of.cells.models[i]].family for i in keep])
    names, size = np.unique(family, return_counts=True)
    why = ""
    if len(of.cells.categories) < 2:
        why = f"{len(of.cells.categories)} levels of load, two are needed"
    elif (size >= 2).sum() < 2:
        why = f"{(size >= 2).sum()} families with two models or more ({len(names)} families), two are needed"
    if why:
        return FamilyLoad(version, math.nan, math.nan, math.nan, n_models=len(keep), n_families=len(names), reason=why)
    shared = np.isfinite(y).all(axis=0)  # a prompt without a value in one model would tilt its mean
    y = np.where(shared, y, np.nan)[:, shared.any(axis=1)]
    if y.shape[1] < 2:
        why = "fewer than two levels have a prompt with a value in every model"
        return FamilyLoad(version, math.nan, math.nan, math.nan, n_models=len(keep), n_families=len(names), reason=why)
    f, p, null = family_by_load(y, family, panel.generator(f"family by load {version}"))
    return FamilyLoad(version, f, p, float(np.quantile(null, 0.95)), len(keep), n_families=len(names), reason="")


def _s8(panel: Panel, of: Load, every: FamilyLoad, without: FamilyLoad) -> PermutationEvidence:
    """The evidence of S8."""
    twins = any(m.info.twin_of is not None for m in panel.trained)
    least = "two families with two models each that are twins of none"
    outcome = Outcome("seed twins", "survived", "no model is declared a twin of another")
    if twins:
        kept = not math.isnan(without.p)
        said = without.reason or f"twins dropped: F = {without.f:.3g}, p = {without.p:.3g}, M = {without.n_models}"
        outcome = Outcome("seed twins", "survived" if kept and without.p <= 0.05 else "undecided", said, p=without.p)
    return PermutationEvidence(
        estimate=every.f,
        null=every.null,
        p_with_twins=every.p,
        p_without_twins=without.p if twins else math.nan,
        twins=twins,
        counts=counts(panel) | {"families": every.n_families, "levels of load": len(of.cells.categories)},
        n=every.n_models,
        needed=f"more models per family (this panel: {every.n_models} models in {every.n_families} families); {least}",
        outcomes=(outcome,),
        requirements=(
            Requirement("twins dropped", not twins or not without.reason, f"without twins: {without.reason}", least),
        ),
        lacking=f"{every.reason}: add models until there are {least}" if every.reason else "",
        reasons={} if twins else {"p_without_twins": "no model is declared a twin of another"},
        of=f"load = {of.what}: F",
    )


def _family_loads(panel: Panel, of: Load) -> tuple[FamilyLoad, FamilyLoad]:
    names = [m.info.name for m in panel.trained]
    own = [m.info.name for m in panel.trained if m.info.twin_of is None]
    return by_family(panel, of, "all", names), by_family(panel, of, "twins dropped", own)


def conditions_evidence(panel: Panel, claims: Sequence[str] = CLAIMS) -> dict:
    """The evidence for S4 and S8, or one of them, as `analyse_conditions` gives it, without its tables."""
    of = load(panel)
    make = {"S4": lambda: _s4(panel, factors(panel)), "S8": lambda: _s8(panel, of, *_family_loads(panel, of))}
    return {claim: make[claim]() for claim in claims}


def _interaction_row(one: Factor) -> dict:
    v = one.version
    return (
        {"factor": one.name, "levels": ", ".join(one.levels), "value": v.estimate, **bounds(v.interval), "p": v.p}
        | picked(one, "measure unit n_models n_prompts n_runs")
        | {"n_levels": len(one.levels), "reason": v.interval.reason}
    )


def _load_rows(panel: Panel, of: Load) -> list[dict]:
    info = {m.info.name: m.info for m in panel.trained}
    y = of.table(np.arange(len(of.cells.models)))
    rows = []
    for i, model in enumerate(of.cells.models):
        for j, level in enumerate(of.cells.categories):
            seen = np.isfinite(y[i, j])
            rows.append(
                {
                    "model": model,
                    "family": info[model].family,
                    "twin_of": info[model].twin_of or "",
                    "load": level,
                    "mean": y[i, j][seen].mean() if seen.any() else math.nan,
                    "n_prompts": int(seen.sum()),
                    "n_runs": int(np.isfinite(of.cells.y[i, j]).sum()),
                }
            )
    return rows


def analyse_conditions(panel: Panel) -> Result:
    """Tables interactions, load_models and load_families; evidence for S4 and S8."""
    found, of = factors(panel), load(panel)
    both = _family_loads(panel, of)
    families = [
        picked(one, "version null p n_models n_families reason")
        | {"measure": MEAN_CT, "load": of.what, "F": one.f, "levels": ", ".join(of.cells.categories)}
        for one in both
    ]
    return Result(
        filled(
            interactions=[_interaction_row(f) for f in found], load_models=_load_rows(panel, of), load_families=families
        ),
        evidence={"S4": _s4(panel, found), "S8": _s8(panel, of, *both)},
        notes=("load is the prompt's category: no runs carry tags that say steps of derivation",)
        if of.what == "category"
        else (),
    )


CONDITIONS = declared("conditions", analyse_conditions, conditions_evidence, parted=True)
