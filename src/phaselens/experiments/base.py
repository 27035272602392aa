"""What an experiment is given (a panel of columns) and what it gives back (tables, documents, evidence).

Experiments read stored columns only: no model, no file, no clock. The study builds the `Panel`, and writes the
`Result`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from phaselens.claims.verdict_records import Evidence
from phaselens.errors import InputError, StateError, unknown_name
from phaselens.experiments.result_tables import Table, declarations, tables_of
from phaselens.interventions.outcome_records import Acted
from phaselens.probes.alignment import PeakProbes
from phaselens.statistics.resampling import bootstrap_weights
from phaselens.statistics.separation import Null, uniform_null

RUN_COLUMNS = ("run", "prompt_id", "category", "arm", "sample", "calibration", "n_generated", "finish")


@dataclass(frozen=True)
class ModelInfo:
    """What a panel says about one model.

    `twin` marks an untrained twin (same configuration, re-initialised) and `twin_of` then names the trained original.
    On a trained model `twin_of` names another trained model of which it is a twin (a second seed of one recipe, a
    distillate): such models are dropped once by the S test. `temperature` is the matching temperature T of the model
    (NaN: not matched), `noise_floor` the largest shift of an output entropy (nats) under another batch composition
    (NaN: not measured), `dropped` the largest share of dimensions, over layers, that the calibrated state normalisation
    clipped_mad leaves out (NaN: not fitted).

    How it was made, as far as it is known: `corpus` ("" unknown), `capped` (logits soft-capped in training), `qk_norm`,
    `training_seed`, and `recipe`, a name for all the rest: two models of one recipe ("" belongs to none) differ in
    nothing but these four. `training_loss` and `other_loss` (nats per token, on fresh text of its own and of another
    corpus), `loss_tokens` and `other_tokens` (tokens that they were measured on) and `training_tokens` (tokens seen)
    are NaN where they are not known.
    """

    name: str
    family: str
    n_layers: int
    d_model: int
    vocab_size: int
    parameters: int
    twin: bool = False
    twin_of: str | None = None
    temperature: float = math.nan
    noise_floor: float = math.nan
    dropped: float = math.nan
    corpus: str = ""
    recipe: str = ""
    capped: bool | None = None
    qk_norm: bool | None = None
    training_seed: int | None = None
    training_loss: float = math.nan
    training_tokens: float = math.nan
    other_loss: float = math.nan
    loss_tokens: float = math.nan
    other_tokens: float = math.nan

    @property
    def named(self) -> dict[str, object]:
        """The columns that name it in a table."""
        return {"model": self.name, "twin": self.twin}


def shape_of(info: ModelInfo) -> str:
    """Recipe, shape and tokenizer of a model, as one name: what checkpoints and seeds of it share."""
    names = "recipe family n_layers d_model parameters vocab_size corpus capped qk_norm"
    return " ".join(str(getattr(info, name)) for name in names.split())


def training_of(info: ModelInfo) -> str:
    """A name that the checkpoints of one training share; the model's own where nothing is known of its training.

    Without a seed, models of one shape that saw different numbers of tokens are taken for checkpoints.
    """
    if info.training_seed is None and not math.isfinite(info.training_tokens):
        return info.name
    return f"{shape_of(info)} {info.training_seed}"


def checkpoints_of(models: "Sequence[ModelInfo]") -> dict[str, str]:
    """Names of trained models that are earlier checkpoints of another one's training, with the name of the last one."""
    last: dict[str, ModelInfo] = {}
    trained = [m for m in models if not m.twin]
    for m in trained:
        seen = last.setdefault(training_of(m), m)
        if m.training_tokens > seen.training_tokens or (seen.training_tokens != seen.training_tokens):
            last[training_of(m)] = m
    return {
        m.name: last[training_of(m)].name for m in trained if m.training_tokens < last[training_of(m)].training_tokens
    }


@dataclass(frozen=True, eq=False)
class StoredReading:
    """What probes read for one task in one model (`phaselens.readings`), as stored.

    `depth` l / L [layer]; `hits` [layer, example] held-out (1, 0; NaN without label), `codes` int [example] (-1: no
    label), `units` what is resampled [example]; `best` capacity at the best layer and `null` the same under exchanged
    labels [permutation]; `selectivity` [layer]. Hits [example] of the best layer, chosen on the other half of the
    units, and of the baselines (None: not run): `best_hits`, `first_hits` (l = 0), `twin_hits`, `covariate_hits`; at
    the peak layer `subspace`, `features` [example] and `rotated` [rotation, example].
    `peak` holds the states and frozen probes of the peak layer and `keys` the names of the examples, which pair models
    (None: labels are the model's own, so they are not of the same question). `templates` are the names of
    `template_accuracy` [trained on, read on] and of `template_majority` (1; empty: none).
    """

    task: str
    function: str
    depth: np.ndarray
    hits: np.ndarray
    codes: np.ndarray
    units: np.ndarray
    best: float
    null: np.ndarray
    selectivity: np.ndarray
    best_hits: np.ndarray
    first_hits: np.ndarray
    twin_hits: np.ndarray | None = None
    covariate_hits: np.ndarray | None = None
    subspace: np.ndarray | None = None
    features: np.ndarray | None = None
    rotated: np.ndarray | None = None
    peak: PeakProbes | None = None
    keys: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()
    template_accuracy: np.ndarray | None = None
    template_majority: np.ndarray | None = None

    @property
    def curve_of(self) -> np.ndarray:
        """Held-out accuracy by layer (1): [layer]."""
        return np.nanmean(self.hits, axis=1)


@dataclass(frozen=True, eq=False)
class StoredScores:
    """What `readings.loss_probes` made of one model, as stored; arrays as it documents them."""

    loss: np.ndarray
    score: np.ndarray
    untrained: np.ndarray
    shuffled: np.ndarray
    covariates: np.ndarray
    document: np.ndarray
    layer: np.ndarray
    depth: np.ndarray
    curve: np.ndarray


@dataclass(frozen=True)
class ModelData:
    """The stored columns of one model, all its units together.

    `runs` has one entry per run and the columns `RUN_COLUMNS` (`run` int, unique within the model across units,
    ascending; `prompt_id`, `unit` (may be missing), `category`, `arm`, `finish` str; `sample`, `n_generated` int;
    `calibration` bool), and where they are known `prompt` and `answered` (the text asked, and the first line that
    followed), `correct`, `answer_state` and more. `steps` is sorted by (run, step), `layers` by (run, step, layer);
    both carry those keys as int columns and one float column per observable (under a further lens with suffix "__" +
    label). `completions[i]` holds the generated token ids of `runs` row i, and `digit_tokens` the ids of the tokens
    whose text contains a digit (None: not known, nothing can be masked), `word_start_tokens` those with which a word
    begins (None: not known).
    `pairs` holds the runs of the study's minimal pairs, apart from all others and in the same form; their prompts are
    called PAIR/ambiguous, PAIR/first and PAIR/second (None: none were observed). `readings` are those of probes, by
    task; `scores` those of the next token's loss; `acted` is what came of changing the running model.
    """

    info: ModelInfo
    runs: Mapping[str, np.ndarray]
    steps: Mapping[str, np.ndarray]
    layers: Mapping[str, np.ndarray]
    completions: tuple[Sequence[int], ...] = ()
    digit_tokens: frozenset[int] | None = None
    word_start_tokens: frozenset[int] | None = None
    pairs: "ModelData | None" = None
    readings: Mapping[str, StoredReading] = field(default_factory=dict)
    scores: StoredScores | None = None
    acted: Acted = Acted()

    def __post_init__(self) -> None:
        missing = [c for c in RUN_COLUMNS if c not in self.runs]
        if missing:
            raise StateError(f"model {self.info.name!r}: the runs table lacks {missing}; it needs {list(RUN_COLUMNS)}.")
        run = np.asarray(self.runs["run"])
        if len(run) > 1 and not (np.diff(run) > 0).all():
            raise StateError(f"model {self.info.name!r}: run ids must be unique and ascending over all its units.")
        if self.completions and len(self.completions) != len(run):
            raise StateError(
                f"model {self.info.name!r}: {len(self.completions)} completions for {len(run)} runs; give one per run."
            )

    @cached_property
    def recorded_layers(self) -> tuple[int, ...]:
        """Layers that have rows, ascending."""
        return tuple(int(x) for x in np.unique(np.asarray(self.layers["layer"])))

    @cached_property
    def _step_cells(self) -> tuple[np.ndarray, int]:
        """Where each row of `steps` stands in [run x step], and how many steps there are."""
        return self._cells(self.steps, slice(None))

    @cached_property
    def _layer_cells(self) -> tuple[np.ndarray, int]:
        """The same of `layers`: one number for all layers of a step, so that what is kept is small beside a column.

        Where a step lacks a layer of others it is one for each row, in [run x step x layer].
        """
        layer, layers = np.asarray(self.layers["layer"]), np.array(self.recorded_layers)
        if len(layers) and not len(layer) % len(layers) and (layer.reshape(-1, len(layers)) == layers).all():
            return self._cells(self.layers, slice(None, None, len(layers)))
        at, n = self._cells(self.layers, slice(None))
        return at.astype(np.int64) * len(layers) + np.searchsorted(layers, layer), n

    def _cells(self, table: Mapping[str, np.ndarray], rows: slice) -> tuple[np.ndarray, int]:
        known = np.asarray(self.runs["run"])
        run, step = np.asarray(table["run"])[rows], np.asarray(table["step"])[rows]
        row = np.clip(np.searchsorted(known, run), 0, max(len(known) - 1, 0))
        if len(run) and (not len(known) or (known[row] != run).any()):
            raise StateError(f"model {self.info.name!r}: a row of the trace belongs to no run of the runs table.")
        n = int(step.max()) + 1 if len(step) else 0
        return (row * n + step).astype(np.int32 if len(known) * n < 2**31 else np.int64), n

    def _filled(
        self, cells: tuple[np.ndarray, int], values: np.ndarray, *layers: int, kind: npt.DTypeLike = float
    ) -> np.ndarray:
        """Values of all rows as [run, step, ...] of one kind, NaN where there is no row."""
        at, n = cells
        out = np.full((len(np.asarray(self.runs["run"])), n, *layers), np.nan, kind)
        if len(at):
            out.reshape(-1, len(values) // len(at))[at] = values.reshape(len(at), -1)
        return out

    def per_step(self, column: str) -> np.ndarray:
        """One output-level column as float64 [run, step], NaN where there is no row."""
        return self._filled(self._step_cells, self._column(self.steps, column))

    def per_layer(self, column: str, *, stored: bool = False) -> np.ndarray:
        """One layer-level column as float64 [run, step, recorded layer], NaN where there is no row.

        `stored`: float32 where it is stored so, which is enough to compare with a number of double precision.
        """
        values = self._column(self.layers, column)
        kind = np.result_type(values, np.float32) if stored else float
        return self._filled(self._layer_cells, values, len(self.recorded_layers), kind=kind)

    def _column(self, table: Mapping[str, np.ndarray], column: str) -> np.ndarray:
        if column not in table:
            raise unknown_name(f"column of {self.info.name}", column, table)
        return np.asarray(table[column])

    def at_layer(self, column: str, layer: int) -> np.ndarray | None:
        """One layer-level column at one layer, float64 [run, step]; None where it was not recorded."""
        if layer not in self.recorded_layers or column not in self.layers:
            return None
        at, n = self.recorded_layers.index(layer), len(self.recorded_layers)
        values = self._column(self.layers, column)
        if len(values) < n * len(self._layer_cells[0]):
            return self.per_layer(column)[:, :, at]
        return self._filled(self._layer_cells, values[at::n])

    @cached_property
    def measured(self) -> np.ndarray:
        """Mask over runs: those that are measured, that is, not calibration runs; bool [run]."""
        return ~np.asarray(self.runs["calibration"], dtype=bool)

    @property
    def units(self) -> np.ndarray:
        """What each run's prompt is about, str [run]: its `unit`, its id in a trace of before there were units."""
        return np.asarray(self.runs["unit" if "unit" in self.runs else "prompt_id"]).astype(str)

    @property
    def layer_of_record(self) -> int:
        """`l* = round(.75 L)`, halves to the even number as Python rounds (L = 6 gives 4)."""
        return round(0.75 * self.info.n_layers)


@dataclass(frozen=True)
class Panel:
    """The models of one study with their columns; the only thing an experiment sees.

    Earlier checkpoints of one training are marked as twins of its last one, so that nothing counts them as models of
    their own. `seed` is the study's seed: every draw of an experiment comes from `generator(label)`. `null` draws the
    S values of panels without groups; simulated studies share one that keeps its draws. `subpanels` is how many small
    panels the experiment of that name draws.
    """

    models: tuple[ModelData, ...]
    seed: int = 0
    n_boot: int = 2000
    null: Null = uniform_null
    subpanels: int = 20

    def __post_init__(self) -> None:
        names = [m.info.name for m in self.models]
        if len(set(names)) != len(names):
            raise InputError(f"model names of a panel must differ; got {names}. Rename one.")
        for m in self.models:
            if m.info.twin_of is not None and m.info.twin_of not in names:
                raise unknown_name(f"model of the panel (twin_of of {m.info.name!r})", m.info.twin_of, names)
        earlier = checkpoints_of([m.info for m in self.models])
        marked = (
            replace(m, info=replace(m.info, twin_of=earlier[m.info.name]))
            if m.info.twin_of is None and m.info.name in earlier
            else m
            for m in self.models
        )
        object.__setattr__(self, "models", tuple(marked))

    @property
    def trained(self) -> tuple[ModelData, ...]:
        """Models that are not untrained twins, in panel order."""
        return tuple(m for m in self.models if not m.info.twin)

    def untrained_twin(self, name: str) -> ModelData | None:
        """The untrained twin of the trained model `name`, or None."""
        return next((m for m in self.models if m.info.twin and m.info.twin_of == name), None)

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """Ids of all measured prompts of the panel, sorted; several may be wordings of one unit."""
        return tuple(sorted({str(p) for m in self.models for p in np.asarray(m.runs["prompt_id"])[m.measured]}))

    @cached_property
    def units(self) -> tuple[str, ...]:
        """The units of resampling, sorted: what the measured prompts of the panel are about."""
        return tuple(sorted({str(u) for m in self.models for u in m.units[m.measured]}))

    @cached_property
    def weights(self) -> np.ndarray:
        """The bootstrap of the panel, int [B, unit]: one set of draws for all models and all tables."""
        return bootstrap_weights(len(self.units), self.generator("prompt bootstrap"), n_boot=self.n_boot)

    def unit_index(self, model: ModelData) -> np.ndarray:
        """Which unit of `units` each run of `model` belongs to, int [run]; -1 for calibration runs."""
        where = {u: i for i, u in enumerate(self.units)}
        return np.array([where[u] if m else -1 for u, m in zip(model.units, model.measured, strict=True)], dtype=int)

    def generator(self, label: str) -> np.random.Generator:
        """A generator for one purpose: the same (seed, label) gives the same draws, whatever else ran before."""
        return np.random.default_rng([self.seed & 0xFFFFFFFF, *label.encode()])


@dataclass(frozen=True)
class Result:
    """What one experiment found: Arrow tables, JSON documents (lists of rows), and evidence for the ledger.

    `tables[name]` goes to results/NAME.parquet, `documents[name]` to results/NAME.json, `evidence[claim id]` to the
    judge.
    """

    tables: Mapping[str, pa.Table]
    documents: Mapping[str, list] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Experiment:
    """What is needed of the traces, which claims it informs, and the function that analyses a panel.

    `evidence` gives of `function(panel)` the evidence alone, for whoever judges thousands of simulated panels (None:
    there is no shorter way); `parted`: that of some of the claims, `evidence(panel, claims)`, at less cost.
    `whole_runs` are those of its claims that rest on means over whole runs: where runs are of unlike length they are
    judged at equal lengths too (`equal_lengths`).
    """

    name: str
    needs_layers: tuple[str, ...]
    needs_steps: tuple[str, ...]
    claims: tuple[str, ...]
    tables: tuple[Table, ...]
    function: Callable[[Panel], Result]
    summary: str
    evidence: Callable[..., Mapping[str, Evidence]] | None = None
    parted: bool = False
    whole_runs: tuple[str, ...] = ()

    def evidence_of(self, panel: Panel, claims: Sequence[str] = ()) -> Mapping[str, Evidence]:
        """The evidence for its claims by the shortest way, or for some of them where they can be had apart."""
        if self.evidence is None:
            return self.function(panel).evidence
        return self.evidence(panel, claims) if claims and self.parted else self.evidence(panel)


def of_interventions(panel: Panel, kind: str, analysed: Callable[..., Result], *given: object) -> Result:
    """What `analysed` makes of the stored records of one kind of intervention, with why some models have none."""
    acted = {m.info.name: m.acted for m in panel.trained}
    stored = [own for a in acted.values() if (own := getattr(a, kind)) is not None]
    notes = tuple(f"{kind}: {name}: {a.refused[kind]}" for name, a in acted.items() if kind in a.refused)
    return replace(analysed(stored, panel.seed, *given), notes=notes)


def declared(
    name: str,
    function: Callable[[Panel], Result],
    evidence: Callable[..., Mapping[str, Evidence]] | None = None,
    *,
    layers: Sequence[str] | None = None,
    steps: Sequence[str] | None = None,
    parted: bool = False,
) -> Experiment:
    """The experiment of this name in `declared.toml`; `layers` and `steps` where its module knows what it needs."""
    record = declarations()[name]
    return Experiment(
        name,
        needs_layers=tuple(record.get("layers", ()) if layers is None else layers),
        needs_steps=tuple(record.get("steps", ()) if steps is None else steps),
        claims=tuple(record.get("claims", ())),
        tables=tables_of(name),
        function=function,
        summary=record["summary"],
        evidence=evidence,
        parted=parted,
        whole_runs=tuple(record.get("whole_runs", ())),
    )
