"""Experiment: does GD_ratio split the panel, and does the split survive temperature, vocabulary and lens? G1-G4."""

from dataclasses import dataclass, replace

import numpy as np

from phaselens.claims import Outcome, absent_in_twins, survives
from phaselens.dynamics import gd
from phaselens.experiments.base import ModelData, Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled, picked
from phaselens.experiments.separations import Estimate, evidence, log_estimate, of_twins, panel_split, separation_row
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.panel_groups import Split
from phaselens.statistics.resampling import resampled_ratio, sums_by_unit


@dataclass(frozen=True)
class Version:
    """One way to take GD_ratio: which operator, from which columns, as control for what.

    `suffix` is that of the lens; `where` is "layers" (1..L), "last" (layer L alone) or "output" (the steps table).
    `plain_without_cap`: for a model that has no soft cap the plain columns are this version.
    """

    name: str
    operator: gd.Operator
    lens: str
    control: str
    suffix: str = ""
    where: str = "layers"
    plain_without_cap: bool = False


VERSIONS = (
    Version("final_norm", gd.PLAIN, "final_norm", "none"),
    Version("raw", gd.PLAIN, "raw", "lens", "__raw"),
    Version("output", gd.PLAIN, "output", "lens", where="output"),
    Version("tmatch", gd.PLAIN, "final_norm", "common temperature", "__tmatch"),
    Version("shared", gd.PLAIN, "final_norm", "shared tokens", "__shared"),
    Version("nucleus", gd.NUCLEUS, "final_norm", "nucleus"),
    Version("topk10", gd.TOP10, "final_norm", "top ten tokens"),
    Version("mass", gd.MASS, "final_norm", "second operator"),
    Version("output_tmatch", gd.PLAIN, "output", "common temperature", "__tmatch", "last"),
)
# Analysed where a study has their lens.
CONTROL_VERSIONS = (
    Version("tuned", gd.PLAIN, "tuned", "lens", "__tuned"),
    Version("tmatch_layers", gd.PLAIN, "final_norm", "common temperature at every layer", "__tmatch_layers"),
    Version("uncapped", gd.PLAIN, "final_norm", "soft cap taken away", "__uncapped", plain_without_cap=True),
    Version("cap_half", gd.PLAIN, "final_norm", "soft cap of .5 x the median top logit", "__cap_half"),
    Version("cap_one", gd.PLAIN, "final_norm", "soft cap of 1 x the median top logit", "__cap_one"),
    Version("cap_two", gd.PLAIN, "final_norm", "soft cap of 2 x the median top logit", "__cap_two"),
    Version("massive", gd.PLAIN, "final_norm", "massive dimensions masked", "__massive"),
    Version("nofirst", gd.PLAIN, "final_norm", "attention to position 0 masked", "__nofirst"),
)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums of G and D per prompt and the cells behind them, [layer, prompt] (one "layer" at the output).

    Runs that count.
    """

    g: np.ndarray
    d: np.ndarray
    cells: np.ndarray
    runs: np.ndarray
    layers: tuple[int, ...]

    @property
    def n_prompts(self) -> int:
        """Prompts with at least one cell where G and D are defined (count)."""
        return int((self.cells.sum(axis=0) > 0).sum())


def version_sums(panel: Panel, model: ModelData, version: Version) -> Sums | None:
    """Sums of G and D by prompt over steps and measured runs, layers 1..L apart.

    None where the columns were not recorded.
    """
    table = model.steps if version.where == "output" else model.layers
    if version.plain_without_cap and model.info.capped is False:
        version = replace(version, suffix="")
    if not {c + version.suffix for c in version.operator.needs} <= set(table):
        return None
    if version.where != "output":
        first = 1 if version.where == "layers" else model.info.n_layers
        keep = [i for i, layer in enumerate(model.recorded_layers) if layer >= first]
        layers = tuple(model.recorded_layers[i] for i in keep)
        columns = {c: model.per_layer(c + version.suffix)[:, :, keep] for c in version.operator.needs}
    else:
        layers = (model.info.n_layers,)
        columns = {c: model.per_step(c + version.suffix)[:, :, None] for c in version.operator.needs}
    g, d = gd.jointly_defined(version.operator.g(columns), version.operator.d(columns))
    index = panel.unit_index(model)
    sum_g, cells = sums_by_unit(g, index, len(panel.units))
    sum_d, _ = sums_by_unit(d, index, len(panel.units))
    return Sums(sum_g, sum_d, cells, np.isfinite(g).any(axis=(1, 2)) & (index >= 0), layers)


def gd_estimate(panel: Panel, sums: Sums | None) -> Estimate:
    """GD_ratio, mean G over mean D, with its prompt-bootstrap draws (1).

    NaN, with a reason: not recorded, nothing defined.
    """
    nothing = np.full(panel.n_boot, np.nan)
    if sums is None:
        return Estimate(float("nan"), nothing, "not recorded")
    g, d = sums.g.sum(axis=0), sums.d.sum(axis=0)
    if not d.sum() > 0:
        why = "D is 0 everywhere" if sums.cells.sum() else "no cell where G and D are defined"
        return Estimate(float("nan"), nothing, why)
    return Estimate(float(g.sum() / d.sum()), resampled_ratio(g, d, panel.weights))


def _model_row(panel: Panel, model: ModelData, version: Version, sums: Sums | None, estimate: Estimate) -> dict:
    prompts = 0 if sums is None else sums.n_prompts
    interval = percentile_interval(estimate.draws, prompts)
    cells = 0.0 if sums is None else float(sums.cells.sum())
    return (
        model.info.named
        | {"version": version.name, "GD_ratio": estimate.value, **picked(version, "lens control"), **bounds(interval)}
        | {"n_prompts": prompts, "n_runs": 0 if sums is None else int(sums.runs.sum())}
        | {"G": sums.g.sum() / cells if cells else np.nan, "D": sums.d.sum() / cells if cells else np.nan}
        | {"reason": estimate.reason or interval.reason}
    )


def _depth_rows(panel: Panel, model: ModelData, version: Version, sums: Sums) -> list[dict]:
    draws = resampled_ratio(sums.g, sums.d, panel.weights)
    rows = []
    for i, layer in enumerate(sums.layers):
        interval = percentile_interval(draws[:, i], int((sums.cells[i] > 0).sum()))
        total = float(sums.d[i].sum())
        ratio = sums.g[i].sum() / total if total > 0 else np.nan
        where = {"version": version.name, "layer": layer, "depth": layer / model.info.n_layers}
        rows.append(model.info.named | where | {"GD_ratio": ratio, **bounds(interval)})
    return rows


def _nucleus(base: Split, recorded: Split) -> Outcome:
    """The nucleus version, or its bound where the nucleus was not recorded."""
    if any(np.isfinite(recorded.values)):
        return survives("nucleus", base, recorded)
    within = survives("nucleus", base, base)
    why = (
        f"not recorded, but p1/nucleus mass lies within 1 % of p1, so it is bounded by the plain version: {within.why}"
    )
    return replace(within, why=why)


def _weakest(splits: list[Split]) -> Split:
    """Of several versions the one that says least: the largest p among those that are defined, else the first."""
    defined = [s for s in splits if not np.isnan(s.p)]
    return max(defined, key=lambda s: s.p) if defined else splits[0]


def _evidence(panel: Panel, splits: dict[str, Split], twins: Split) -> dict:
    base = splits["final_norm"]
    none = (
        ""
        if np.isfinite(base.values).any()
        else "GD_ratio is defined for no model: record top1 and rivalry at layers 1..L"
    )
    lacking = {"G2": none or _absent(splits["tmatch"], "logits at a common temperature"), "G3": none, "G4": none}
    tuned = (
        survives("tuned lens", base, splits["tuned"])
        if np.isfinite(splits["tuned"].values).any()
        else Outcome("tuned lens", "missing", "no tuned lens in this study")
    )
    outcomes = {
        "G2": (survives("common temperature", base, splits["tmatch"]),),
        "G3": (
            _nucleus(base, splits["nucleus"]),
            survives("top ten tokens", base, splits["topk10"]),
            survives("shared tokens", base, splits["shared"]),
        ),
        "G4": (
            survives("raw lens", base, splits["raw"]),
            survives("final-norm lens", base, base),
            survives("output only", base, splits["output"]),
            tuned,
        ),
    }
    tested = {
        "G2": [splits["tmatch"]],
        "G3": [splits[v] for v in ("nucleus", "topk10", "shared")],
        "G4": [splits[v] for v in ("raw", "final_norm", "output", "tuned")],
    }
    found = {"G1": evidence(panel, base, (absent_in_twins("untrained twin", base, twins),), lacking=none)}
    for claim in ("G2", "G3", "G4"):
        found[claim] = evidence(panel, _weakest(tested[claim]), outcomes[claim], base=base, lacking=lacking[claim])
    return found


def _absent(tested: Split, what: str) -> str:
    return "" if np.isfinite(tested.values).any() else f"the study did not record {what}: add that lens"


DECIDING = ("final_norm", "tmatch", "nucleus", "topk10", "shared", "raw", "output", "tuned")
CLAIMS_OF = {
    "final_norm": ("G1", "G4"),
    "tmatch": ("G2",),
    "nucleus": ("G3",),
    "topk10": ("G3",),
    "shared": ("G3",),
    "raw": ("G4",),
    "output": ("G4",),
    "mass": ("G1",),
    "output_tmatch": ("G2",),
    "tuned": ("G4",),
    "tmatch_layers": ("G2",),
    "massive": ("G10",),
    "nofirst": ("G10",),
}


def gd_evidence(panel: Panel) -> dict:
    """The evidence for G1, G2, G3, G4 as `analyse_gd` gives it, without its tables."""

    def estimates(version: Version, models: tuple[ModelData, ...]) -> dict[str, Estimate]:
        return {m.info.name: log_estimate(gd_estimate(panel, version_sums(panel, m, version))) for m in models}

    judged = [v for v in (*VERSIONS, *CONTROL_VERSIONS) if v.name in DECIDING]
    splits = {v.name: panel_split(panel, "G", v.name, estimates(v, panel.trained)) for v in judged}
    twins = panel_split(panel, "G", "untrained twin", of_twins(panel, estimates(VERSIONS[0], panel.models)))
    return _evidence(panel, splits, twins)


def _recorded(panel: Panel, version: Version) -> bool:
    return any(c + version.suffix in m.layers for m in panel.models for c in version.operator.needs)


def analyse_gd(panel: Panel) -> Result:
    """Tables gd_models and gd_depth; rows of separation; evidence for G1, G2, G3, G4."""
    models, depth = [], []
    versions = (*VERSIONS, *(v for v in CONTROL_VERSIONS if _recorded(panel, v)))
    estimates: dict[str, dict[str, Estimate]] = {v.name: {} for v in (*versions, *CONTROL_VERSIONS[:1])}
    for version in versions:
        for model in panel.models:
            sums = version_sums(panel, model, version)
            estimate = gd_estimate(panel, sums)
            estimates[version.name][model.info.name] = log_estimate(estimate)
            models.append(_model_row(panel, model, version, sums, estimate))
            if sums is not None and version.where == "layers":
                depth += _depth_rows(panel, model, version, sums)
    splits = {name: panel_split(panel, "G", name, found) for name, found in estimates.items()}
    twins = panel_split(panel, "G", "untrained twin", of_twins(panel, estimates["final_norm"]))
    known = {v.name for v in versions}
    rows = [separation_row(claim, splits[v]) for v, claims in CLAIMS_OF.items() if v in known for claim in claims]
    rows.append(separation_row("G1", twins))
    absent = [v.name for v in VERSIONS if not np.isfinite(splits[v.name].values).any()]
    notes = (f"GD versions without data in this study: {', '.join(absent)}",) if absent else ()
    return Result(
        filled(gd_models=models, gd_depth=depth),
        documents={"separation": sorted(rows, key=lambda r: r["claim"])},
        evidence=_evidence(panel, splits, twins),
        notes=notes,
    )


GD = declared("gd", analyse_gd, gd_evidence)
