"""Folders of simulated runs, in the form that `observe` and a study leave."""

import json

import numpy as np

from phaselens.trace import Trace
from phaselens.trace.store import write_trace
from phaselens.trace.transcripts import Transcript, Transcripts

EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
UNITS = {"entropy": "nat", "surprisal": "nat", "instability": "rad", "top1": "1"}


def simulated(n_runs, n_steps=8, n_layers=3, *, model="tiny", seed=0, first=0):
    """A trace and its transcripts; entropy of run r at step s is r + s / 100, the rest is drawn."""
    rng = np.random.default_rng(seed)
    run, step = (x.ravel() for x in np.meshgrid(np.arange(n_runs), np.arange(n_steps), indexing="ij"))
    cells = [x.ravel() for x in np.meshgrid(np.arange(n_runs), np.arange(n_steps), np.arange(n_layers), indexing="ij")]
    token = rng.integers(3, 60, len(run))
    steps = {
        "run": run,
        "step": step,
        "position": step + 2,
        "token": token,
        "finite": np.ones(len(run), bool),
        "text": [EVIL if t == 7 else f" w{t}" for t in token],
        "sink": np.zeros(len(run), bool),
        "entropy": run + step / 100,
        "surprisal": rng.exponential(size=len(run)),
    }
    drawn = rng.normal(1.0, 0.1, len(cells[0])) + cells[2]
    layers = {"run": cells[0], "step": cells[1], "layer": cells[2]}
    layers |= {"instability": np.where(cells[1] < 2, np.nan, drawn), "entropy": drawn, "turbulence": drawn / 4}
    layers |= {"rivalry": drawn / 5, "top1": 1 / (1 + drawn), "n_above_1pct": drawn, "agrees": (drawn > 1) + 0.0}
    said = tuple(
        Transcript(
            run=i,
            prompt_ids=(1, 2),
            completion_ids=tuple(token[i * n_steps : (i + 1) * n_steps].tolist()),
            prompt_id=f"{('facts', 'stories')[i % 2]}/{i // 2}",
            category=("facts", "stories")[i % 2],
            sample=0,
            prompt=f"Prompt {first + i}",
            completion=f"needle{first + i} says {EVIL if i == 3 else 'hello'}",
            finish="length",
            arm="t0.7",
            answer="yes" if i % 2 else None,
            correct=(i % 4 == 1) if i % 2 else None,
        )
        for i in range(n_runs)
    )
    columns = [{"name": n, "unit": u, "description": f"{n} for a test"} for n, u in UNITS.items()]
    transcripts = Transcripts(said)
    meta = {"model": {"name": model, "n_layers": n_layers - 1, "fingerprint": "none"}, "calibration": False}
    return Trace.from_rows(steps, layers, transcripts.run_rows(), meta, columns), transcripts


def observed(folder, n_runs, **more):
    """What `observe` leaves: one trace and its transcripts."""
    trace, said = simulated(n_runs, **more)
    folder.mkdir(parents=True, exist_ok=True)
    write_trace(trace, folder, "trace")
    said.write_jsonl(folder / "transcripts.jsonl")
    return folder


def studied(folder, n_units, n_runs, **more):
    """What a study leaves: several units, half of them of another model, the first for calibration."""
    units = []
    for k in range(n_units):
        model = ("tiny", "other")[k % 2]
        trace, said = simulated(n_runs, model=model, seed=k, first=k * n_runs, **more)
        write_trace(trace, folder / "traces", f"u{k:03d}")
        said.write_jsonl(folder / "transcripts" / f"u{k:03d}.jsonl")
        unit = {"model": model, "arm": "t0.7", "calibration": k == 0, "trace": f"traces/u{k:03d}"}
        units.append({**unit, "transcripts": f"transcripts/u{k:03d}.jsonl"})
    (folder / "units.json").write_text(json.dumps(units))
    return folder
