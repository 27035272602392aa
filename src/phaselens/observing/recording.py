"""Observe: the join of capture (states), measure (numbers) and trace (the record)."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from phaselens.bridges import FOREIGN, read_transcripts
from phaselens.capture import Plan, replay
from phaselens.capture import live as watch
from phaselens.capture.intervene import At
from phaselens.capture.progress import Progress, showing
from phaselens.capture.prompts import Given, bare_note
from phaselens.errors import InputError, unknown_name
from phaselens.measure.clouds import Clouds
from phaselens.measure.normalised_geometry import Together, normalised
from phaselens.measure.openings import Openings, with_cosines
from phaselens.measure.reducer import HIDDEN_INPUTS, LENS_INPUTS, Column, LensSpec, Reducer
from phaselens.models import Model, encoder
from phaselens.models.attention_sink import first_masked
from phaselens.models.token_texts import pieces
from phaselens.observables import DEFAULT, LENS_STATISTICS, Observable, base_inputs, by_name
from phaselens.observables.state_normalisation import Calibration
from phaselens.trace import Trace
from phaselens.trace.transcripts import Transcripts, from_pairs
from phaselens.version import __version__

Lens = str | LensSpec
Wanted = str | Observable | Callable
Said = Transcripts | str | Path | Iterable[tuple[Sequence[int], Sequence[int]]]
LENSES = ("final_norm", "raw")


def observe(
    model: Model,
    transcripts: Said,
    *,
    lens: Lens | Sequence[Lens] | None = "final_norm",
    observables: Iterable[Wanted] | None = None,
    layers: Iterable[int] | None = None,
    normalisations: Mapping[str, Calibration | None] | None = None,
    keep_hidden: bool = False,
    chunk: int = 256,
    batch_size: int | None = None,
    interventions: Sequence[At] = (),
    progress: Progress | bool | None = None,
) -> Trace:
    """Measure transcripts at every step and layer in one teacher-forced pass, as a trace.

    `transcripts` are those of `generate`, the path of a JSON Lines file, or pairs (prompt token ids, completion token
    ids) from elsewhere. `lens` is `final_norm`, `raw`, a `LensSpec`, several of these (the first names its columns
    plainly, the others with `__label`), or None: then only what is measured on hidden states is recorded, and the head
    is never read. `observables` are names or records, by default all that the lens allows; `layers` default to all of
    0..L. A lens with `mask_first` replays everything once more and adds its columns per layer. `normalisations`
    names state normalisations with their calibrations (`raw`: None): the geometry along tokens is then also measured on
    states so normalised, in columns with the suffix `__NAME`. Where prompts are those of minimal pairs (ids ending in
    `/ambiguous`, `/first`, `/second`) the runs also have `twin_cosine`.

    Raises InputError for unknown names (with the nearest) or no runs, PromptError for ids outside the vocabulary or
    runs beyond the context, TokenizerError for text without a tokenizer, StudyFileError for an unreadable file.
    """
    said = as_transcripts(model, transcripts)
    plan, reducer = prepare(model, lens, observables, layers, keep_hidden, chunk=chunk, normalisations=normalisations)
    opening = Openings(said, round(0.75 * model.n_layers))
    reducer = Together(reducer.first, (*reducer.others, opening)) if opening else reducer
    hidden: dict[str, np.ndarray] | None = {} if keep_hidden else None
    settings: dict[str, Any] = {"layers": plan.layers, "chunk": chunk, "batch_size": batch_size}
    settings["interventions"] = interventions
    gathered = Gathered()
    with showing(progress, "observe") as told:
        replay(model, said, reducer, **settings, sink=gathered, keep_hidden=hidden, progress=told)
    steps, layer_rows, columns = gathered.table("steps"), gathered.table("layers"), column_info(reducer)
    steps |= texts_of(model, said, steps)
    for one in (lens for lens in plan.lenses if lens.mask_first):
        masked = lens_reducer(model, one, plan, as_observables(observables, with_lens=True))
        again = Gathered()
        with first_masked(model):
            replay(model, said, masked, **settings, sink=again)
        rows, own = again.table("layers"), [info for info in column_info(masked) if info["table"] == "layers"]
        layer_rows |= {f"{info['name']}__{one.label}": rows[info["name"]] for info in own}
        columns += [{**info, "name": f"{info['name']}__{one.label}"} for info in own]
    meta = provenance(model, said, plan, "replay", batch_size, interventions)
    elsewhere = surprisal_given(said, steps)
    if elsewhere is not None:
        steps["surprisal_given"] = elsewhere
        columns.append(GIVEN)
        meta["given"] = _apart(steps)
    trace = Trace.from_rows(steps, layer_rows, said.run_rows(), meta, columns, hidden)
    return with_cosines(trace, opening.cosines()) if opening else trace


GIVEN = {
    "table": "steps",
    "name": "surprisal_given",
    "unit": "nats",
    "kind": "float",
    "bounds": (0.0, math.inf),
    "keeps": (),
    "description": "Surprisal of the token as the tool that generated it gave it.",
    "lens": "",
}
# Half precision and other kernels move a surprisal by a few hundredths of a nat; other weights or prompts by more.
APART = 0.05


def surprisal_given(said: Transcripts, steps: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Surprisal that another tool gave for the token of each row (nats; NaN: none); None where it gave none at all."""
    given = {t.run: t.logprobs for t in said if t.logprobs is not None}
    if not given:
        return None
    found = (given.get(run) for run in steps["run"].tolist())
    values = (None if logs is None else logs[step] for logs, step in zip(found, steps["step"].tolist(), strict=True))
    return np.array([np.nan if v is None else -v for v in values], dtype=np.float32)


def _apart(steps: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """How far the surprisal that was given lies from ours: the median over tokens (nats), and what it says."""
    if "surprisal" not in steps:
        return {}
    shift = np.abs(steps["surprisal_given"] - steps["surprisal"])
    known = shift[~np.isnan(shift)]
    if not len(known):
        return {}
    median = float(np.median(known))
    note = (
        f"the log-probabilities of the file lie {median:.3g} nats from this model's (median of {len(known):,} tokens): "
        "beyond what precision moves, so other weights, another template or another text before it made them."
    )
    return {"tokens": len(known), "median": median, "notes": [note] if median > APART else []}


def live(
    model: Model,
    prompts: Sequence[Given],
    *,
    lens: Lens | Sequence[Lens] | None = "final_norm",
    observables: Iterable[Wanted] | None = None,
    layers: Iterable[int] | None = None,
    normalisations: Mapping[str, Calibration | None] | None = None,
    progress: Progress | bool | None = None,
    **settings: Any,
) -> tuple[Transcripts, Trace]:
    """Generate and measure at the same time; returns what was said and its trace.

    `settings` are those of `generate` (`max_new_tokens`, `sampling`, `samples`, `seed`, `batch_size`, `chat`, `system`,
    `interventions`, `on_step`), the others those of `observe`. `on_step(step, rows)` sees `rows["steps"]` and
    `rows["layers"]` (columns of NumPy arrays) after every step of a batch, and may return run numbers to stop, or True
    to stop all. The numbers are those of `observe`, within float rounding.

    Raises as `generate` and `observe` do.
    """
    plan, reducer = prepare(model, lens, observables, layers, keep_hidden=False, chunk=1, normalisations=normalisations)
    gathered = Gathered()
    with showing(progress, "live") as told:
        said = watch(model, prompts, reducer, layers=plan.layers, sink=gathered, progress=told, **settings)
    steps, rows = gathered.table("steps"), gathered.table("layers")
    steps |= texts_of(model, said, steps)
    meta = provenance(model, said, plan, "live", settings.get("batch_size"), settings.get("interventions", ()))
    return said, Trace.from_rows(steps, rows, said.run_rows(), meta, column_info(reducer))


def texts_of(model: Model, said: Transcripts, steps: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The column `text` of the table `steps`: what each token adds; none where there is no tokenizer."""
    if model.tokenizer is None:
        return {}
    by_run = dict(zip([t.run for t in said], pieces(model.tokenizer, [t.completion_ids for t in said]), strict=True))
    return {"text": [by_run[run][s] for run, s in zip(steps["run"].tolist(), steps["step"].tolist(), strict=True)]}


def noise_floor(
    model: Model, transcripts: Said, *, batch_sizes: tuple[int, int] = (1, 8), **settings: Any
) -> dict[str, float]:
    """Largest shift of every column when the same transcripts are observed with another batch composition.

    In the unit of each column, over all its rows; keys are `table.column`. It is the size below which a difference
    between two recordings means nothing. A value that is defined in one recording only counts as infinite. NaN for a
    column that is defined nowhere. `settings` go to `observe`. Raises as `observe` does.
    """
    said = as_transcripts(model, transcripts)
    first, second = (observe(model, said, batch_size=size, **settings) for size in batch_sizes)
    floor = {}
    for name in ("steps", "layers"):
        one, other = first.numpy(name), second.numpy(name)
        for column in first.table(name).column_names:
            if one[column].dtype == np.float32:
                floor[f"{name}.{column}"] = _largest_shift(one[column], other[column])
    return floor


def _largest_shift(one: np.ndarray, other: np.ndarray) -> float:
    known = ~np.isnan(one)
    if not np.array_equal(known, ~np.isnan(other)):
        return float("inf")
    if not known.any():
        return float("nan")
    a, b = one[known].astype(np.float64), other[known].astype(np.float64)
    return float(np.where(a == b, 0.0, np.abs(a - b)).max())


def as_transcripts(model: Model, given: Said, scorer: str | None = None) -> Transcripts:
    """Transcripts from a record, a file, or pairs of token ids; text is encoded by the model's tokenizer."""
    if isinstance(given, Transcripts):
        return given
    if isinstance(given, (str, Path)):
        text = None if model.tokenizer is None else encoder(model)
        said = read_transcripts(given, text, scorer=scorer)
        bare = text.bare(t.prompt_ids for t in said) if text and FOREIGN in said.sampling else 0
        if not bare:
            return said
        note = bare_note(model, bare, len(said), "transcripts with messages are put by the template")
        return replace(said, sampling={**said.sampling, "notes": [*said.sampling.get("notes", ()), note]})
    return from_pairs(given)


def prepare(
    model: Model,
    lens: Lens | Sequence[Lens] | None,
    observables: Iterable[Wanted] | None,
    layers: Iterable[int] | None,
    keep_hidden: bool,
    chunk: int,
    normalisations: Mapping[str, Calibration | None] | None = None,
) -> tuple[Plan, Together]:
    """The plan and a reducer for it. Raises InputError for names or layers that do not exist."""
    lenses = as_lenses(lens)
    chosen = as_observables(observables, with_lens=bool(lenses))
    recorded = tuple(range(model.n_layers + 1)) if layers is None else tuple(sorted(set(layers)))
    own = tuple(lens for lens in lenses if not lens.mask_first)
    if lenses and not own:
        raise InputError("a lens with mask_first stands beside another one, never alone: name final_norm first.")
    tilewise = tuple(one for one in chosen if one.lookback is not None)
    reducer = Reducer(tilewise, recorded, model.readout if own else None, own, model.n_layers, output=bool(own))
    plan = Plan(recorded, lenses, tuple(one.name for one in chosen), keep_hidden, chunk)
    beside = normalised(normalisations or {}, recorded, model.n_layers)
    whole = tuple(one for one in chosen if one.lookback is None)
    return plan, Together(reducer, (*beside, *((Clouds(whole, recorded, model.n_layers),) if whole else ())))


def lens_reducer(model: Model, lens: LensSpec, plan: Plan, chosen: Iterable[Observable]) -> Reducer:
    """A reducer of one lens alone: what of the `chosen` is measured on distributions, at the layers of the plan."""
    read = tuple(one for one in chosen if reads_lens(one))
    return Reducer(read, plan.layers, model.readout, (replace(lens, label=""),), model.n_layers, output=False)


def as_lenses(lens: Lens | Sequence[Lens] | None) -> tuple[LensSpec, ...]:
    """Lens records from names or records; a name after the first becomes its own label.

    Raises UnknownNameError for a name that is no lens.
    """
    given = () if lens is None else (lens,) if isinstance(lens, (str, LensSpec)) else tuple(lens)
    out = []
    for place, one in enumerate(given):
        if isinstance(one, str):
            if one not in LENSES:
                raise unknown_name("lens", one, LENSES)
            one = LensSpec(kind=one, label=one if place else "")
        elif place and not one.label:
            one = replace(one, label=one.kind)
        out.append(one)
    return tuple(out)


def as_observables(given: Iterable[Wanted] | None, *, with_lens: bool) -> tuple[Observable, ...]:
    """Observable records from names, records or decorated functions, each once; by default all measured on tiles.

    Raises UnknownNameError with the nearest name, InputError for one that needs a lens where none was asked for.
    """
    if given is None:
        return tuple(one for one in DEFAULT if with_lens or not reads_lens(one))
    if isinstance(given, str):
        given = [given]
    chosen = tuple(dict.fromkeys(by_name([one])[0] if isinstance(one, str) else _declared(one) for one in given))
    if not chosen:
        raise InputError("observables is empty; name at least one, or leave it out for all.")
    needing = [one.name for one in chosen if reads_lens(one)]
    if needing and not with_lens:
        raise InputError(f"{needing[0]} is measured on a lens and lens=None was given; use lens='final_norm'.")
    return chosen


def _declared(one: Observable | Callable) -> Observable:
    """The record of an observable, from the record or from the decorated function itself."""
    found = getattr(one, "observable", one)
    if not isinstance(found, Observable):
        name = getattr(one, "__name__", repr(one)[:80])
        raise InputError(
            f"{name} is no observable: decorate it with @phaselens.observables.observable(axis=..., unit=...), or give "
            "the name of a known one."
        )
    unknown = sorted(base_inputs((found,)) - HIDDEN_INPUTS - LENS_INPUTS) if found.lookback is not None else []
    if unknown:
        raise InputError(
            f"the observable {found.name} asks for {', '.join(unknown)}, which nothing gives. Its parameters name "
            f"hidden, layers, n_blocks, lens statistics ({', '.join(LENS_STATISTICS)}), or quantities that its module "
            "imports."
        )
    return found


def reads_lens(one: Observable) -> bool:
    """Whether an observable is measured on the distribution that a lens gives."""
    return bool(base_inputs((one,)) & frozenset(LENS_STATISTICS))


def provenance(
    model: Model, said: Transcripts, plan: Plan, how: str, batch_size: int | None, interventions: Sequence[At] = ()
) -> dict[str, Any]:
    """What a trace was made from, as plain JSON values; interventions are named where there were any."""
    changed = {"interventions": [str(one) for one in interventions]} if interventions else {}
    return {
        "phaselens": __version__,
        "model": model.to_dict(),
        "sampling": dict(said.sampling),
        "transcripts_model": said.model,
        "plan": plan.canonical(),
        "capture": {"how": how, "chunk": plan.chunk, "batch_size": batch_size, **changed},
    }


class Gathered:
    """Collects the rows that a reducer hands out, and joins them into a trace at the end."""

    def __init__(self) -> None:
        self.parts: dict[str, list[dict[str, np.ndarray]]] = {"steps": [], "layers": []}

    def __call__(self, steps: dict[str, np.ndarray], layers: dict[str, np.ndarray]) -> None:
        """Take finished rows of both tables; measures are kept as float32."""
        for name, rows in (("steps", steps), ("layers", layers)):
            self.parts[name].append(rows)

    def table(self, name: str) -> dict[str, np.ndarray]:
        """All rows of one table, sorted by run, step and layer."""
        parts = self.parts.pop(name)
        rows = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
        keys = [rows[key] for key in ("layer", "step", "run") if key in rows]
        order = np.lexsort(keys)
        if np.array_equal(order, np.arange(len(order))):
            return rows
        return {column: rows.pop(column)[order] for column in list(rows)}


class HasColumns(Protocol):
    """Whatever measures columns and says which."""

    @property
    def columns(self) -> tuple[Column, ...]:
        """Its columns."""


def column_info(reducer: HasColumns) -> list[dict[str, Any]]:
    """Unit, bounds and definition of every measured column, for the metadata of the tables."""
    return [
        {
            "table": column.table,
            "name": column.name,
            "unit": column.observable.unit,
            "kind": column.observable.dtype,
            "bounds": column.observable.bounds,
            "keeps": column.observable.keeps,
            "description": column.observable.summary,
            "lens": "" if column.lens is None else lens_text(column.lens),
        }
        for column in reducer.columns
    ]


def lens_text(lens: LensSpec) -> str:
    """A lens in words, e.g. `final_norm`, `final_norm, T = 1.5`, `raw, 300 tokens`."""
    parts = [lens.kind]
    if lens.temperatures is not None:
        parts.append("a temperature for each layer")
    if lens.cap is not None:
        parts.append("no soft cap" if np.isinf(lens.cap) else f"soft cap {lens.cap:g}")
    parts += ["massive dimensions masked"] if lens.mask_massive else []
    parts += ["attention to position 0 masked"] if lens.mask_first else []
    if lens.temperature != 1.0:
        parts.append(f"T = {lens.temperature:g}")
    if lens.tokens is not None:
        parts.append(f"{len(lens.tokens)} tokens")
    return ", ".join(parts)
