"""Read what a study folder holds for the report; what is absent or cannot be read becomes a sentence for the page."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import pyarrow
import pyarrow.parquet

from phaselens.errors import StudyFileError
from phaselens.trace.hashes import edited

TABLES = MappingProxyType(
    {
        "panel": "model family twin parameters n_layers d_model vocab_size n_prompts n_runs n_tokens ratio_norm "
        "ratio_norm_lo ratio_norm_hi mean_ct frozen_fraction collapse_share entropy_norm GD_ratio GD_lo GD_hi "
        "noise_floor",
        "regimes_models": "model twin layer_choice ratio_norm lo hi n_prompts n_runs",
        "regimes_runs": "model twin run ratio_norm reason",
        "regimes_nulls": "null model ratio_norm lo hi description",
        "depth": "model twin depth observable value lo hi n_prompts",
        "gd_models": "model twin version lens control G D GD_ratio lo hi n_prompts n_runs",
        "gd_depth": "model twin version depth GD_ratio lo hi",
        "variance_shares": "measure population estimator term share lo hi interval levels df n_models n_categories "
        "n_prompts n_seeds n_runs arm reason",
        "order_ranks": "measure model category rank n_prompts",
        "order_consistency": "measure W ceiling gap lo hi n_models n_prompts",
        "fingerprints": "model twin feature unit value scaled lo hi n_prompts",
        "identification": "panel accuracy chance lo hi p",
        "topology": "panel n_models n_prompts n_features n_draws fragmentation ari ari_lo ari_hi ari_p stress",
        "topology_models": "panel model family consensus_group x y leaf",
        "topology_pairs": "panel first second robust_principal robust_columns",
        "topology_merges": "panel merge left right height support",
        "normalisation": "method figure value estimate lo hi chance n_models n_prompts reason",
        "states": "model twin alphabet threshold layer_choice state value lo hi n_prompts",
        "states_transitions": "model twin alphabet axis layer_choice origin destination count left P lo hi P_order "
        "excess_lo excess_hi n_prompts reason",
        "motifs": "group lens motif own_order length p_holm conserved n_models permutations",
        "motifs_models": "model group lens motif length count share null n_prompts n_chains",
        "ambiguity": "model twin contrast outcome n_units n_pairs n_excluded mean lo hi",
        "correctness": "model twin score kind auroc lo hi gain_lo n_runs n_wrong",
        "probe_capacity": "model task depth capacity lo hi",
        "probe_transfer": "task source target accuracy own",
        "probe_templates": "model task trained_on read_on accuracy",
        "probe_groups": "model dynamic_group functional_group k mantel p_mantel ari p_ari",
        "signatures": "model site condition depth strength gain lo hi kl kl_lo kl_hi",
        "growth_curves": "model along place depth value lo hi",
        "causal": "model depth region arm margin lo hi band_lo band_hi",
        "control": "model arm n triggered in_time right change_right right_lo right_hi change_ct ct_lo ct_hi "
        "extra_tokens",
        "ambiguity_flags": "outcome question flag n_models n_above n_below n_equivalent needed_for_yes "
        "needed_for_partial",
        "gd_pairs": "differs first second version effect lo hi n_prompts",
        "lens_kl": "model twin lens depth kl lo hi n_prompts",
        "subpanels": "claim found full n_supported n_rejected n_open n_not_applicable n_panels size",
        "cycles": "model twin entries_in entries share lo hi n_surrogates n_prompts",
        "cycles_curve": "model twin entries_in step still lo hi AR1 AR1_lo AR1_hi words words_lo words_hi",
        "order_stability": "kind first second spearman lo hi p self_first self_second n_models n_prompts reason",
    }
)
"""Tables of `results/` and the columns without which the report does not draw them."""

RESULTS = MappingProxyType(
    {
        "separation": "the S tests (how far the models fall into two groups)",
        "temperature": "the common temperature and what it did to each model",
        "trajectory": "the picture of one run, layer by step",
        "notes": "the notes of the experiments",
        "grading": "how answers were graded, with examples",
        "references": "the sources that the functions used name",
        "validity": "what the rules said about simulated studies",
    }
)
"""JSON files of `results/` and what each holds."""

WHAT = MappingProxyType(
    {
        "claims.json": "the verdicts",
        "manifest.json": "what was run (models, versions, seeds)",
        "study.toml": "the declaration of the study",
        "results/panel.parquet": "one row of figures per model",
        "results/regimes_models.parquet": "ratio_norm per model with its interval",
        "results/regimes_runs.parquet": "ratio_norm per run",
        "results/regimes_nulls.parquet": "what ratio_norm is where there is nothing to find",
        "results/depth.parquet": "the observables by depth",
        "results/gd_models.parquet": "GD_ratio per model under each version",
        "results/gd_depth.parquet": "GD_ratio by depth",
        "results/variance_shares.parquet": "the shares of variance",
        "results/order_ranks.parquet": "the ranks of the models in every category",
        "results/order_consistency.parquet": "how far categories agree on the order of models",
        "results/order_stability.parquet": "the order of models over temperatures and windows",
        "results/fingerprints.parquet": "the fingerprints of the models",
        "results/identification.parquet": "whether fingerprints come back",
        "results/topology.parquet": "the figures of the groups of models",
        "results/topology_models.parquet": "the groups of models",
        "results/topology_pairs.parquet": "the robust pairs",
        "results/topology_merges.parquet": "the dendrogram",
        "results/normalisation.parquet": "the grid of normalisations",
        "results/states.parquet": "how often each model is in which state",
        "results/states_transitions.parquet": "which state follows which",
        "results/motifs.parquet": "the motifs of the grammar",
        "results/motifs_models.parquet": "how frequent the motifs are",
        "results/ambiguity.parquet": "what ambiguity does",
        "results/ambiguity_flags.parquet": "the flags of ambiguity",
        "results/correctness.parquet": "scores of right and wrong answers",
        "results/probe_capacity.parquet": "what probes read along depth",
        "results/probe_transfer.parquet": "frozen probes on other models",
        "results/probe_templates.parquet": "frozen probes on other templates",
        "results/probe_groups.parquet": "groups of models by function and by dynamics",
        "results/signatures.parquet": "what small changes do at every layer",
        "results/growth_curves.parquet": "growth along depth and along tokens",
        "results/causal.parquet": "what behaviour loses without a subspace",
        "results/control.parquet": "the arms of the control of the dynamics",
        "results/gd_pairs.parquet": "pairs of models that differ in one thing alone",
        "results/lens_kl.parquet": "how far each lens is from the output",
        "results/subpanels.parquet": "the verdicts on smaller panels",
        "results/cycles.parquet": "collapses of entropy and how they ended",
        "results/cycles_curve.parquet": "the curve of reopening",
        **{f"results/{name}.json": what for name, what in RESULTS.items()},
    }
)
NOT_ALWAYS = (
    "fingerprints",
    "identification",
    "topology",
    "topology_models",
    "topology_pairs",
    "topology_merges",
    "normalisation",
    "variance_shares",
    "order_ranks",
    "order_consistency",
    "order_stability",
    "states",
    "states_transitions",
    "motifs",
    "motifs_models",
    "ambiguity",
    "ambiguity_flags",
    "correctness",
    "probe_capacity",
    "probe_transfer",
    "probe_templates",
    "probe_groups",
    "signatures",
    "growth_curves",
    "causal",
    "control",
    "gd_pairs",
    "lens_kl",
    "subpanels",
    "cycles",
    "cycles_curve",
)
OPTIONAL = frozenset(
    {
        "results/notes.json",
        "results/references.json",
        "results/validity.json",
        *(f"results/{name}.parquet" for name in NOT_ALWAYS),
    }
)
"""Files whose absence, or whose lack of rows, means that there was nothing to say."""

Row = Mapping[str, object]


@dataclass(frozen=True)
class Folder:
    """What a study folder holds: parsed files, tables as lists of rows, a sentence per missing file."""

    name: str
    manifest: Mapping[str, object]
    declaration: Mapping[str, object]
    claims: list[dict]
    tables: Mapping[str, list[dict]]
    results: Mapping[str, object]
    missing: Mapping[str, str]

    def rows(self, table: str) -> list[dict]:
        """Give the rows of a table of `results/`, none if it is missing."""
        return self.tables.get(table, [])

    def lack(self, *names: str) -> list[str]:
        """Give the sentences for those of the named files that are missing."""
        return [self.missing[name] for name in names if name in self.missing]


def read_folder(where: Path) -> Folder:
    """Read a study folder.

    Raises StudyFileError if the place is no folder, or holds none of the files that a study writes.
    """
    if not where.is_dir():
        raise StudyFileError(f"{where} is not a folder. Give the folder of a study, as made by `phaselens run --out`.")
    if not any((where / name).exists() for name in WHAT):
        if list(where.glob("*.steps.parquet")):
            raise StudyFileError(
                f"{where} holds the trace of one model, as `phaselens observe` and `measure` write it; a report is "
                f"that of a study: `phaselens run --model MODEL --prompts FILE --out DIR`. The trace is read in Python "
                f"by phaselens.read_trace({str(where)!r})."
            )
        raise StudyFileError(
            f"{where} holds nothing that a study writes (study.toml, manifest.json, claims.json, results/). Give the "
            "folder of a study, as made by `phaselens run --out`."
        )
    missing: dict[str, str] = edited(where)
    manifest = _document(where, "manifest.json", missing, dict)
    return Folder(
        name=where.resolve().name,
        manifest=manifest if manifest is not None else {},
        declaration=_document(where, "study.toml", missing, dict) or {},
        claims=_claims(where, missing, (manifest or {}).get("claims") or ()),
        tables={name: rows for name in TABLES if (rows := _table(where, name, missing)) is not None},
        results={
            name: content
            for name in RESULTS
            if (content := _document(where, f"results/{name}.json", missing, (dict, list))) is not None
        },
        missing=missing,
    )


def _claims(where: Path, missing: dict[str, str], registered: Sequence[str]) -> list[dict]:
    claims = _document(where, "claims.json", missing, list) or []
    whole = [c for c in claims if isinstance(c, dict) and {"id", "verdict"} <= c.keys()]
    if len(whole) < len(claims):
        missing["claims.json"] = f"claims.json holds {len(claims) - len(whole)} rows without id or verdict: not shown."
    elif whole and (gone := gone_from(registered, whole)):
        missing["claims.json"] = gone
    return whole


def gone_from(registered: Sequence[str], rows: Sequence[Mapping[str, object]]) -> str:
    """What to say where claims that a study registered before its data have no verdict; "" where all have one."""
    there = {row["id"] for row in rows}
    gone = [claim for claim in registered if claim not in there]
    return "" if not gone else (
        f"claims.json lacks {', '.join(gone)}, registered before the data: taken out by hand. "
        "`phaselens run --from DIR` judges all of them again."
    )  # fmt: skip


def _document(where: Path, name: str, missing: dict[str, str], kind: type | tuple) -> object | None:
    """Parse a JSON or TOML file of the folder; None, with a sentence in `missing`, if it cannot be used."""
    file = where / name
    if not file.is_file():
        if name not in OPTIONAL:
            missing[name] = f"{name} is not in this folder: {WHAT[name]} cannot be shown."
        return None
    try:
        content = file.read_text(encoding="utf-8")
        parsed = tomllib.loads(content) if name.endswith(".toml") else json.loads(content)
    except ValueError as error:  # both parsers' errors, and bytes that are not UTF-8
        missing[name] = f"{name} cannot be read ({error}): {WHAT[name]} cannot be shown."
        return None
    if not isinstance(parsed, kind):
        missing[name] = f"{name} holds a {type(parsed).__name__}: {WHAT[name]} cannot be shown."
        return None
    return parsed


def _table(where: Path, name: str, missing: dict[str, str]) -> list[dict] | None:
    """Read a table of `results/`; None, with a sentence in `missing`, if it cannot be used."""
    file, title = where / "results" / f"{name}.parquet", f"results/{name}.parquet"
    if not file.is_file():
        if title in OPTIONAL:
            return None
        missing[title] = f"{title} is not in this folder: {WHAT[title]} cannot be shown."
        return None
    try:
        table = pyarrow.parquet.read_table(file)
    except (pyarrow.ArrowInvalid, OSError) as error:
        missing[title] = f"{title} cannot be read ({str(error).splitlines()[0]}): {WHAT[title]} cannot be shown."
        return None
    absent = [column for column in TABLES[name].split() if column not in table.column_names]
    if absent:
        missing[title] = f"{title} lacks {', '.join(absent)}: {WHAT[title]} cannot be shown."
        return None
    if table.num_rows == 0 and title not in OPTIONAL:
        missing[title] = f"{title} has no rows: {WHAT[title]} cannot be shown."
    return table.to_pylist()
