"""Time and memory of all analyses of a study from its stored traces, at the size of a large panel.

Simulated traces (independent draws, so that nothing is there to find) of 20 trained models x 144 measured runs (36
prompts, three samples and one greedy) and 24 calibration runs x 72 steps x 6 to 12 layers, with every default column
under all four lenses, are written through `phaselens.trace.store` into a temporary folder. Then `analyse_study` reads
them from there and does what `phaselens run --from DIR` does before the page is drawn, in a process of its own that
imports no model library: its wall and CPU time include reading, its peak memory is that of the whole process.
`bootstrap_seconds` is CPU time spent in the prompt bootstrap and its intervals (`phaselens.statistics.resampling` and
`percentile_interval`), measured inside that same run. Run as `python benchmarks/analysis.py [--quick] [--out DIR]`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "2")

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from peak_memory import high_water_mb

STEPS, PROMPTS, CALIBRATION, BOOTSTRAPS, SLICE = 72, 36, 24, 2000, 24
MODELS, QUICK_MODELS = 20, 4
DEPTHS = (6, 8, 10, 12)
ARMS = ((True, "t0.7", 1, CALIBRATION), (False, "t0.7", 3, PROMPTS), (False, "greedy", 1, PROMPTS))
CATEGORIES = ("arithmetic", "factual", "narrative")
VOCABULARY = 512
LENSES = ("raw", "tmatch", "shared")


def measured_columns(n_layers: int) -> dict[str, list]:
    """Every column that a study records by default, per table, as the reducer declares them."""
    import torch

    from phaselens.measure.reducer import LensSpec, Reducer
    from phaselens.observables import DEFAULT
    from phaselens.types import Readout

    readout = Readout(weight=torch.zeros(8, 4), bias=None, norm=lambda h: h, bare=lambda h: h)
    lenses = (LensSpec(), LensSpec("raw", label="raw"), LensSpec(temperature=2.0, label="tmatch"))
    reducer = Reducer(
        DEFAULT, range(n_layers + 1), readout, (*lenses, LensSpec(tokens=(0, 1, 2), label="shared")), n_layers
    )
    return {table: [c for c in reducer.columns if c.table == table] for table in ("steps", "layers")}


def values_of(column, shape: tuple[int, ...], scale: float, draw: np.random.Generator) -> np.ndarray:
    """Independent draws within the bounds of the observable; what looks back is NaN at the first steps."""
    low, high = column.observable.bounds or (0.0, np.inf)
    if column.observable.name == "frozen":
        out = (draw.random(shape, dtype=np.float32) < 0.02).astype(np.float32)
    elif np.isfinite(low) and np.isfinite(high):
        out = low + (high - low) * draw.random(shape, dtype=np.float32) ** np.float32(scale)
    else:
        out = np.float32(scale) * draw.standard_exponential(shape, dtype=np.float32)
    out[:, : column.observable.lookback] = np.nan
    return out.astype(np.float32)


def simulated_trace(prompts: list[str], samples: int, arm: str, n_layers: int, columns: dict, scale: float, draw):
    """One unit of one model, in the schema of a real one."""
    from phaselens.trace import Trace

    n = len(prompts) * samples
    run, step, layer = (x.ravel() for x in np.indices((n, STEPS, n_layers + 1)))
    layers = {"run": run, "step": step, "layer": layer}
    layers |= {c.name: values_of(c, (n, STEPS, n_layers + 1), scale, draw).ravel() for c in columns["layers"]}
    run, step = (x.ravel() for x in np.indices((n, STEPS)))
    tokens = draw.integers(0, VOCABULARY, (n, STEPS))
    steps = {"run": run, "step": step, "position": step + 9, "token": tokens.ravel()}
    steps["finite"] = np.ones(len(run), bool)
    steps |= {c.name: values_of(c, (n, STEPS), scale, draw).ravel() for c in columns["steps"]}
    runs = [
        {
            "run": i,
            "prompt_id": prompts[i // samples],
            "category": CATEGORIES[i // samples % 3],
            "sample": i % samples,
            "seed": i,
            "arm": arm,
            "n_prompt": 10,
            "n_generated": STEPS,
            "finish": "length",
            "answer": None,
            "correct": None,
            "n_nonfinite": 0,
        }
        for i in range(n)
    ]
    return Trace.from_rows(steps, layers, runs, {"simulated": True}), runs, tokens


def write_transcripts(path: Path, runs: list[dict], tokens: np.ndarray) -> None:
    """Transcripts of one unit."""
    from phaselens.trace.transcripts import Transcript, Transcripts

    keys = ("run", "prompt_id", "category", "sample", "seed", "finish", "arm")
    made = [
        Transcript(prompt_ids=(1,) * 10, completion_ids=tuple(row), prompt="p", **{k: r[k] for k in keys})
        for r, row in zip(runs, tokens.tolist(), strict=True)
    ]
    Transcripts(tuple(made)).write_jsonl(path)


def write_study(folder: Path, n_models: int) -> None:
    """A traced study of simulated models: everything that stands in a folder before its analysis."""
    from phaselens.claims import lock
    from phaselens.experiments import ModelInfo, registered_claims
    from phaselens.studies.declaration import Study
    from phaselens.studies.store.folder import pretty_json
    from phaselens.studies.store.panel_record import ModelRecord, Pictured, Record, UnitRecord, write_record
    from phaselens.studies.store.registration import registration
    from phaselens.trace.store import atomic_write, write_trace

    study = Study(name="simulated", models=tuple({"source": f"m{i}"} for i in range(n_models)), bootstraps=BOOTSTRAPS)
    models, units = [], []
    for i in range(n_models):
        n_layers, draw = DEPTHS[i % len(DEPTHS)], np.random.default_rng(i)
        columns, scale = measured_columns(n_layers), float(np.exp(0.3 * draw.standard_normal()))
        info = ModelInfo(f"m{i}", f"family{i % 5}", n_layers, 768, 50257, 10**8, temperature=1.5, noise_floor=1e-5)
        models.append(ModelRecord(info, 0.4, ("final_norm", *LENSES), frozenset(range(10))))
        for calibration, arm, samples, n in ARMS:
            ids = [f"{'c' if calibration else 'p'}{k}" for k in range(n)]
            for start in range(0, n, SLICE):
                part = ids[start : start + SLICE]
                name = f"m{i}-{'c' if calibration else 'p'}-{arm}-{start}"
                trace, runs, tokens = simulated_trace(part, samples, arm, n_layers, columns, scale, draw)
                write_trace(trace, folder / "traces", name)
                write_transcripts(folder / "transcripts" / f"{name}.jsonl", runs, tokens)
                files = {"transcripts": f"transcripts/{name}.jsonl", "trace": f"traces/{name}"}
                units.append(UnitRecord(f"m{i}", arm, calibration, tuple(part), samples, **files))
    first = next(u for u in units if not u.calibration)
    shown = Pictured("m0", first.transcripts, first.trace, 0, ("x",) * STEPS)
    write_record(folder, Record(tuple(models), tuple(units), 0.4, (), shown))
    claims = registered_claims(study.experiments)
    manifest = {
        "name": study.name,
        "study": {"hash": study.hash},
        "claims_lock": lock(claims),
        "claims": [c.id for c in claims],
        "registered": registration(claims),
        "models": [],
        "refused": [],
    }
    atomic_write(folder / "manifest.json", pretty_json(manifest))
    atomic_write(folder / "study.toml", study.to_toml())


class Clock:
    """CPU time inside some functions, however they call each other, and where it went."""

    def __init__(self) -> None:
        self.depth, self.seconds, self.calls = 0, 0.0, 0

    def around(self, function):
        """The function, timed."""

        def timed(*args, **kwargs):
            self.depth += 1
            started = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.calls += 1
                if not self.depth:
                    self.seconds += time.process_time() - started

        return timed


def time_bootstrap() -> Clock:
    """Put a clock around every function of the prompt bootstrap, wherever it was imported to."""
    from phaselens.statistics import intervals, resampling

    wanted = {f for f in vars(resampling).values() if getattr(f, "__module__", "") == resampling.__name__}
    wanted |= {intervals.percentile_interval}
    clock = Clock()
    timed = {f: clock.around(f) for f in wanted if callable(f) and not getattr(f, "__name__", "_").startswith("_")}
    for name, module in list(sys.modules.items()):
        if name.startswith("phaselens"):
            for attribute, value in list(vars(module).items()):
                if callable(value) and getattr(value, "__hash__", None) and value in timed:
                    setattr(module, attribute, timed[value])
    return clock


def measure(folder: Path) -> dict:
    """Analyse the folder in this process; times, memory, and that no model library was there."""
    from phaselens.studies import analyse_study

    clock = time_bootstrap()
    wall, cpu = time.perf_counter(), time.process_time()
    outcome = analyse_study(folder)
    found = {
        "seconds": time.perf_counter() - wall,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mb": high_water_mb(),
        "bootstrap_seconds": clock.seconds,
        "bootstrap_calls": clock.calls,
        "claims": len(outcome.claims),
        "model_libraries": sorted({"torch", "transformers"} & set(sys.modules)),
    }
    return {k: round(v, 3) if isinstance(v, float) else v for k, v in found.items()}


def main() -> None:
    """Write the study, analyse it in a fresh process, and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MODELS} models, and far fewer seconds")
    parser.add_argument("--out", type=Path, help="keep the simulated study in this folder")
    parser.add_argument("--measure", type=Path, help="only analyse the study in this folder")
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    n = QUICK_MODELS if given.quick else MODELS
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary) / "study"
        started = time.perf_counter()
        os.fsync = lambda handle: None  # what is simulated may be lost
        write_study(folder, n)
        written = time.perf_counter() - started
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / (1 << 20)
        command = [sys.executable, str(Path(__file__).resolve()), "--measure", str(folder)]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    columns = {table: len(names) for table, names in measured_columns(DEPTHS[0]).items()}
    sizes = {"models": n, "runs": 4 * PROMPTS, "steps": STEPS, "layers": list(DEPTHS), "columns": columns}
    found |= {
        "sizes": sizes,
        "traces": "written and read back",
        "traces_mb": round(size),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
    }
    print(json.dumps({**found, "writing_seconds": round(written, 1), "quick": given.quick}, indent=2))


if __name__ == "__main__":
    main()
