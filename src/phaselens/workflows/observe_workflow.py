"""Observe one model into a folder: transcripts, trace, and nothing done twice."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from phaselens.batteries import Battery, load_battery
from phaselens.capture import Sampling, generate
from phaselens.capture.prompts import as_chat
from phaselens.engines.events import Event, Listener
from phaselens.errors import InputError, OutputError, StudyFileError
from phaselens.observing.recording import as_lenses, as_observables, as_transcripts
from phaselens.observing.recording import observe as record
from phaselens.studies.store.folder import held
from phaselens.trace.store import digest, is_valid, read_facts, read_table, sweep, trace_paths, write_trace
from phaselens.trace.transcripts import Transcripts, read_jsonl
from phaselens.version import versions
from phaselens.view.run_table import Runs
from phaselens.view.stored_traces import shelf

if TYPE_CHECKING:
    from phaselens.models import Model

Watching = Callable[[], AbstractContextManager[Listener]]
UNIT = "trace"
SUMMARY = ("category", "runs", "tokens", "right", "collapsed", "entropy nats", "surprisal nats", "instability rad")
NEXT = """  phaselens view {out}            walk through these runs in the browser
  phaselens.read_trace("{out}", "trace")   in Python; or any reader of Parquet
  phaselens run STUDY.toml --out DIR    models side by side, with intervals, controls and claims"""


@dataclass(frozen=True)
class Request:
    """What `phaselens observe` was asked for."""

    prompts: Path | None
    transcripts: Path | None
    scorer: str | None
    lens: tuple[str, ...]
    observables: tuple[str, ...] | None
    max_new_tokens: int
    samples: int
    temperature: float
    suppress_eos: bool | None
    chat: bool
    system: str | None
    keep_hidden: bool
    batch_size: int | None
    seed: int

    def check(self) -> None:
        """See that names and files are right before a model is loaded; raises InputError."""
        if (self.prompts is None) == (self.transcripts is None):
            raise InputError(
                "give one of --prompts FILE.jsonl (to generate) and --transcripts FILE.jsonl (to observe only)."
            )
        as_chat(self.chat, self.system)
        if self.chat and self.transcripts is not None:
            raise InputError("--chat is how prompts are put; transcripts say it themselves, as messages.")
        as_observables(self.observables, with_lens=bool(as_lenses(self.lens)))
        if self.prompts is not None:
            load_battery(self.prompts, separator="")
        elif not self.transcripts.exists() and not str(self.transcripts).startswith("hf:/"):
            raise StudyFileError(f"no such file: {self.transcripts}.")


def observe_into(model: "Model", request: Request, out: Path, watching: Watching) -> dict[str, Any]:
    """Write transcripts.jsonl and the tables of the trace into `out`; what is there and valid is not done again.

    `watching()` gives who hears of the progress. Raises OutputError where the folder holds the trace of something else.
    """
    started = time.monotonic()
    depends = {k: v for k, v in asdict(request).items() if k not in ("prompts", "transcripts")}
    given = request.prompts or request.transcripts
    said = load_battery(given, separator="") if request.prompts else as_transcripts(model, given, request.scorer)
    prompts = [asdict(p) for p in said.prompts] if isinstance(said, Battery) else list(said.lines())
    key = digest({"model": model.fingerprint, "prompts": prompts, "request": depends, "versions": versions()})
    with held(out):
        _check_owner(out, key)
        sweep(out)
        skipped = is_valid(out, UNIT, key)
        if not skipped:
            with watching() as listener:
                _record(model, request, said, out, key, listener)
    paths = trace_paths(out, UNIT)
    notes = list(read_jsonl(out / "transcripts.jsonl").sampling.get("notes", ()))
    notes += read_facts(paths["runs"])["meta"].get("given", {}).get("notes", [])
    nonfinite = sum(read_table(paths["runs"], ["n_nonfinite"]).column(0).to_pylist())
    return {
        "out": str(out),
        "model": model.name,
        "files": [str(out / "transcripts.jsonl"), *(str(p) for p in paths.values())],
        "runs": read_table(paths["runs"], ["run"]).num_rows,
        "steps": read_table(paths["steps"], ["run"]).num_rows,
        "rows": read_table(paths["layers"], ["run"]).num_rows,
        "nonfinite_steps": nonfinite,
        "notes": notes,
        "skipped": skipped,
        "seconds": round(time.monotonic() - started, 3),
    }


def summarised(out: Path) -> list[tuple[object, ...]]:
    """One row per category and one for all: the columns `SUMMARY`, a dash where nothing is defined."""
    runs = Runs(shelf([out]))
    names = ("n_generated", "correct", "collapsed", "entropy", "surprisal", "layers.instability")
    known = {"entropy", "surprisal"} & runs.described["steps"].keys() | {"n_generated", "correct", "collapsed"}
    known |= {"layers.instability"} if "instability" in runs.described["layers"] else set()
    columns = {n: np.array([np.nan if v is None else v for v in runs.column(n)], float) for n in names if n in known}
    labels = runs.texts("category")
    groups = [(str(name), labels == name) for name in np.unique(labels)]
    if len(groups) > 1:
        groups.append(("all", np.ones(len(runs), bool)))

    def mean(name: str, of: np.ndarray) -> float | None:
        held = columns[name][of] if name in columns else np.array([])
        held = held[np.isfinite(held)]
        return float(held.mean()) if len(held) else None

    return [(name, int(of.sum()), *(mean(n, of) for n in names)) for name, of in groups]


def _check_owner(out: Path, key: str) -> None:
    """Refuse a folder that holds the trace of another model, other prompts or other settings."""
    path = trace_paths(out, UNIT)["runs"]
    if path.is_file() and read_facts(path).get("key") != key:
        raise OutputError(
            f"{out} holds a trace of another model, other prompts or other settings. Choose another --out."
        )


def _record(
    model: "Model", request: Request, said: Battery | Transcripts, out: Path, key: str, listener: Listener
) -> None:
    """Generate where needed, observe, and write."""
    if isinstance(said, Battery):
        n = len(said.prompts + said.calibration)
        said = generate(
            model,
            said.prompts + said.calibration,
            max_new_tokens=request.max_new_tokens,
            sampling=Sampling(request.temperature, suppress_eos=request.suppress_eos),
            samples=request.samples,
            seed=request.seed,
            batch_size=request.batch_size,
            chat=request.chat,
            system=request.system,
            progress=_progress(listener, "generate", n * request.samples * request.max_new_tokens),
        )
    said.write_jsonl(out / "transcripts.jsonl")
    trace = record(
        model,
        said,
        lens=request.lens,
        observables=request.observables,
        keep_hidden=request.keep_hidden,
        progress=_progress(listener, "observe", sum(t.n_generated for t in said)),
    )
    write_trace(trace, out, UNIT, key)


def _progress(listener: Listener, stage: str, total: int) -> Callable[[int, int], None]:
    """Counts of tokens as events of one stage."""
    seen: list[tuple[int, float]] = [(0, time.monotonic())]
    listener(Event("stage", stage, "tokens", 0, total))

    def progress(done: int, total: int) -> None:
        before, then = seen[-1]
        seen.append((done, time.monotonic()))
        listener(Event("unit", stage, "tokens", done, total=total, tokens=done - before, seconds=seen[-1][1] - then))

    return progress
