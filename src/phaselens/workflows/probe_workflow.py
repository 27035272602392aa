"""Probe one model into a folder: examples, states, readings, frozen probes, a report; nothing done twice."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phaselens.errors import InputError, StudyFileError
from phaselens.experiments.result_tables import arrow_table, json_value
from phaselens.models import Model, untrained_twin
from phaselens.readings import Columns, Examples, Reading, Settings, analyse, capture_states, examples_of, read_examples
from phaselens.readings.analysis import check_labels
from phaselens.readings.examples import Places, place, thinned
from phaselens.readings.probe_files import save_probes
from phaselens.readings.world_tasks import TASKS, task_named
from phaselens.report.probe_page import write_page
from phaselens.studies.store.folder import held, own, pretty_json
from phaselens.trace.store import atomic_write, digest, sweep, write_table
from phaselens.version import versions

if TYPE_CHECKING:
    from phaselens.readings.place_states import States

TWIN_SEED = 7
OWNER = "probe.json"
WORD_TASKS = frozenset({"pos", "depth", "number"})
LAYERS = (
    "task:str layer:int depth:float capacity:float lo:float hi:float accuracy:float balanced:float auroc:float "
    "selectivity:float compression:float twin:float covariates:float region:bool"
)
CONTROLS = (
    "task:str layer:int control:str kind:str unchanged:float refit:float refit_lo:float refit_hi:float "
    "refit_expected:str frozen:float frozen_lo:float frozen_hi:float frozen_expected:str accuracy:float "
    "refit_holds:str frozen_holds:str "
    "capacity:float bound:float chance:float n_draws:int"
)


@dataclass(frozen=True)
class Request:
    """What `phaselens probe` was asked for."""

    data: Path | None
    tasks: tuple[str, ...] = ()
    columns: Columns = Columns()
    pool: str = "mean"
    layers: tuple[int, ...] = ()
    l2: tuple[float, ...] = (1000.0, 100.0, 10.0, 1.0)
    folds: int = 5
    draws: int = 20
    permutations: int = 200
    most: int = 1000
    seed: int = 0
    bins: int | None = None

    def settings(self) -> Settings:
        """The same as settings of the analysis."""
        return Settings(self.l2, self.folds, self.draws, n_permutations=self.permutations, seed=self.seed)

    def check(self, model: str) -> None:
        """See that what can be known without a model is right; raises InputError."""
        if self.data is not None and not self.data.is_file():
            raise StudyFileError(f"no such file: {self.data}.")
        for name in self.tasks if self.data is None else ():
            task_named(name)
        if self.data is None and not model.startswith("organism:"):
            names = ", ".join(task.name for task in TASKS)
            raise InputError(
                f"give --data FILE; tasks by name ({names}) are about the organisms' world and need organism:NAME."
            )
        if self.folds < 2 or self.draws < 1 or self.permutations < 0 or not all(x > 0 for x in self.l2):
            raise InputError("wanted: at least 2 folds, 1 draw, 0 permutations, and l2 above 0.")


def probe(model: Model, data: str | Path | None = None, *, out: str | Path, **asked: Any) -> dict[str, Any]:
    """What `phaselens probe` does, in one call: probes on every layer, baselines, controls, written into `out`.

    `data` is the file of labelled texts (None: `tasks` of the organisms' world). `asked` are columns of it (`text`,
    `label`, `group`, `kind`, `span`, `fold`) and fields of `Request`: `tasks`, `pool`, `layers`, `l2`, `folds`,
    `draws`, `permutations`, `most`, `seed`, `bins`. Returns what `--json` prints; errors are those of the command.
    """
    columns = {f.name: asked.pop(f.name) for f in fields(Columns) if f.name in asked}
    request = Request(None if data is None else Path(data), columns=Columns(**columns), **asked)
    request.check("organism:" if "organisms" in model.source else model.name)
    return probe_into(model, request, Path(out), lambda text: None)


def probe_into(model: Model, request: Request, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Write results, probes and report of every task into `out`; a task that is there and valid is not done again.

    Raises OutputError where the folder belongs to another model, other data or other settings.
    """
    started, twin = time.monotonic(), None
    given = "" if request.data is None else digest(request.data.read_bytes().hex())
    asked = json_value({k: str(v) if isinstance(v, Path) else v for k, v in asdict(request).items() if k != "tasks"})
    key = digest({"model": model.fingerprint, "data": given, "request": asked, "versions": versions()})
    names = request.tasks or ((request.data.stem,) if request.data else tuple(t.name for t in TASKS))
    with held(out):
        mine = {"model": model.name, "key": key, "request": asked}
        own(out, OWNER, mine, "probes of another model, other data or other settings")
        sweep(out)
        documents, skipped = [], 0
        for name in names:
            path = out / "results" / f"{name}.json"
            found = _valid(path, key)
            if found is None:
                twin = twin or untrained_twin(model, request.seed + TWIN_SEED)
                say(f"{name}: examples")
                found = _one(model, twin, name, request, out, key, say=_prefixed(say, name))
            else:
                skipped += 1
            documents.append(found)
        page = write_page(out, model.name, documents)
    return {
        "out": str(out),
        "model": model.name,
        "report": str(page),
        "tasks": documents,
        "skipped": skipped,
        "seconds": round(time.monotonic() - started, 3),
    }


def _prefixed(say: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda text: say(f"{name}: {text}")


def _valid(path: Path, key: str) -> dict[str, object] | None:
    """The document of a task if it is on disk and of this key; it is written last, so the others are there too."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if found.get("key") == key else None


def _examples(model: Model, name: str, request: Request) -> Examples:
    if request.data is None:
        return examples_of(task_named(name), model, seed=request.seed, most=request.most)
    found = read_examples(request.data, request.columns, bins=request.bins)
    return Examples(name, found.items, found.flags)


def _one(
    model: Model, twin: Model, name: str, request: Request, out: Path, key: str, say: Callable[[str], None]
) -> dict[str, object]:
    """Capture and judge one task, and write its files."""
    given = _examples(model, name, request)
    examples, _ = place(model, given)
    n_given, kinds = len(given), examples.kinds
    disjoint = kinds is not None and (name in WORD_TASKS or request.data is not None) and examples.folds is None
    if disjoint:
        examples = thinned(examples, np.random.default_rng([request.seed, 3]), most=request.most)
    check_labels(examples.labels, examples.groups, examples.kinds, examples.folds, request.settings(), disjoint)
    examples, places = place(model, examples)
    folder = Path(tempfile.mkdtemp(prefix=".states-", dir=out))
    try:
        states, other = (
            _states(one, places, request, folder / part, say) for one, part in ((model, "own"), (twin, "twin"))
        )
        reading = analyse(
            name,
            states.layers,
            examples.labels,
            examples.groups,
            kinds=examples.kinds,
            folds=examples.folds,
            twin=other.layers,
            covariates=[states.covariates(i) for i in range(len(states.layers))],
            numbers=states.numbers,
            settings=request.settings(),
            say=say,
            disjoint=disjoint,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _write(out, key, model, name, given, examples=examples, n_given=n_given, reading=reading, request=request)


def _states(model: Model, places: Places, request: Request, folder: Path, say: Callable[[str], None]) -> "States":
    say(f"states of {model.name}")
    return capture_states(model, places, pool=request.pool, layers=request.layers, folder=folder)


def _write(
    out: Path,
    key: str,
    model: Model,
    name: str,
    given: Examples,
    examples: Examples,
    n_given: int,
    reading: Reading,
    request: Request,
) -> dict[str, object]:
    results = out / "results"
    layer_rows, control_rows = rows_of_layers(reading, model.n_layers), rows_of_controls(reading)
    write_table(results / f"{name}.layers.parquet", arrow_table(LAYERS, layer_rows))
    write_table(results / f"{name}.controls.parquet", arrow_table(CONTROLS, control_rows))
    facts: dict = {"model": model.name, "fingerprint": model.fingerprint, "task": name, "layers": list(reading.numbers)}
    save_probes(out / "probes" / f"{name}.safetensors", reading.probes, **facts)
    document = {
        "key": key,
        **summary_of(reading, model.n_layers),
        "n_given": n_given,
        "n_examples": len(examples),
        "n_flagged": len(examples.flags),
        "flags": [asdict(flag) for flag in examples.flags[:20]],
        "pool": request.pool,
        "labels_of": task_named(name).labels_of if request.data is None else "file",
        "layers": layer_rows,
        "controls": control_rows,
    }
    plain = json_value(document)
    atomic_write(results / f"{name}.json", pretty_json(plain))
    return plain


def rows_of_layers(reading: Reading, n_layers: int) -> list[dict[str, object]]:
    """One row per layer: what is read there, and by the baselines."""
    curve, twin, other = reading.curve, reading.twin, reading.covariates
    return [
        {
            "task": reading.name,
            "layer": number,
            "depth": number / n_layers,
            "capacity": curve.capacity[i],
            "lo": curve.intervals[i].lo,
            "hi": curve.intervals[i].hi,
            **{k: getattr(reading, k)[i] for k in ("accuracy", "balanced", "auroc", "selectivity", "compression")},
            "twin": twin.capacity[i] if twin else float("nan"),
            "covariates": other.capacity[i] if other else float("nan"),
            "region": bool(curve.region[i]),
        }
        for i, number in enumerate(reading.numbers)
    ]


def rows_of_controls(reading: Reading) -> list[dict[str, object]]:
    """The control table of the peak layer."""
    layer = reading.numbers[reading.peak]
    return [{"task": reading.name, "layer": layer, **row} for row in reading.controls]


def summary_of(reading: Reading, n_layers: int) -> dict[str, object]:
    """The figures of one task that are not by layer."""
    lo, hi = reading.curve.peak_interval.lo, reading.curve.peak_interval.hi
    last = max(len(reading.numbers) - 1, 1)
    return {
        "task": reading.name,
        "classes": [str(c) for c in reading.classes],
        "majority": reading.majority,
        "n_labelled": int((reading.codes >= 0).sum()),
        "n_groups": len(np.unique(reading.units[reading.codes >= 0])),
        "peak_layer": reading.numbers[reading.peak],
        "peak_depth": reading.numbers[reading.peak] / n_layers,
        "peak_lo": reading.numbers[round(lo * last)] / n_layers if np.isfinite(lo) else None,
        "peak_hi": reading.numbers[round(hi * last)] / n_layers if np.isfinite(hi) else None,
        "peak_capacity": float(np.max(reading.curve.capacity)),
        "p": reading.p,
        "l2": reading.l2,
        "over": {k: {"lo": v.lo, "hi": v.hi, "reason": v.reason} for k, v in reading.over.items()},
        "ranks": reading.ranks,
        "transfer": reading.transfer,
        "notes": list(reading.notes),
    }
