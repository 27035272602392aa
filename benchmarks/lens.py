"""Cost of the full lens over the bare matrix product, and the extra memory it takes.

Both read the same rows on the same threads in the same run: all distribution observables at every layer against
`states @ unembedding.T` in float32, block by block into one buffer. Run as `python benchmarks/lens.py [--quick]`.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

import torch

from phaselens.observables import DISTRIBUTION, LENS_STATISTICS, OBSERVABLES, base_inputs, lens_statistics
from phaselens.types import Readout

VOCABULARY, WIDTH, LAYERS = 50_257, 768, 13


def problem(steps: int, vocabulary: int = VOCABULARY, width: int = WIDTH, layers: int = LAYERS):
    """Hidden states that drift along depth, and a readout whose output has an entropy of a few nats."""
    draw = torch.Generator().manual_seed(0)
    weight = torch.randn(vocabulary, width, generator=draw) * 0.12
    gain = torch.linspace(0.3, 1.0, layers)[:, None]
    moves = torch.randn(steps, layers, width, generator=draw)
    hidden = moves.cumsum(1) * gain
    readout = Readout(weight, None, lambda h: torch.nn.functional.layer_norm(h, h.shape[-1:]))
    return hidden, readout, torch.randint(0, vocabulary, (steps,), generator=draw)


def wanted(observables) -> frozenset[str]:
    return base_inputs(observables) & frozenset(LENS_STATISTICS)


def bare(states: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """The matrix product alone, into a buffer that is reused."""
    for start in range(0, len(states), len(out)):
        part = states[start : start + len(out)]
        torch.mm(part, weight.T, out=out[: len(part)])


def plain(logits: torch.Tensor) -> None:
    """What a user would write for three of the observables; for comparison."""
    log_p = torch.log_softmax(logits, -1)
    -(log_p.exp() * log_p).sum(-1)
    log_p.topk(10)


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def measure_ratio(steps: int, repetitions: int, *, others: bool) -> dict:
    """Median over alternating repetitions of lens time over product time; `others`: extended and plain lens too."""
    hidden, readout, emitted = problem(steps)
    states = readout.norm(hidden).flatten(0, 1)
    out = torch.empty(min(len(states), 468), VOCABULARY)
    need, extended = wanted(DISTRIBUTION), wanted(OBSERVABLES)
    # Working memory is kept from call to call, as the reducer does; the product also has its buffer.
    buffers: dict[str, torch.Tensor] = {}
    runs = {
        "gemm": lambda: bare(states, readout.weight, out),
        "lens": lambda: lens_statistics(hidden, readout, emitted, wanted=need, buffers=buffers),
    }
    if others:
        runs["extended"] = lambda: lens_statistics(hidden, readout, emitted, wanted=extended, buffers=buffers)
        runs["plain"] = lambda: [plain(part @ readout.weight.T) for part in states.split(len(out))]
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repetitions):
        for name, run in runs.items():
            times[name].append(timed(run))
    found = {
        f"{name}_over_gemm": statistics.median(t / g for t, g in zip(times[name], times["gemm"], strict=True))
        for name in runs
        if name != "gemm"
    }
    return found | {
        "lens_over_gemm_best": min(times["lens"]) / min(times["gemm"]),
        "gemm_ms_per_row": 1e3 * statistics.median(times["gemm"]) / len(states),
        "rows": len(states),
        "threads": torch.get_num_threads(),
    }


def memory_mb(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (peak since the last reset) of this process."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def extra_memory(steps: int) -> float:
    """Growth of the process's peak memory over the model and its states while the lens runs, in MB."""
    hidden, readout, emitted = problem(steps)
    # One product of a few rows first, so that the library's own workspace is not counted.
    readout.weight[:64] @ hidden[0].T
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = memory_mb("VmRSS")
    lens_statistics(hidden, readout, emitted, wanted=wanted(OBSERVABLES))
    return memory_mb("VmHWM") - before


def measure_lens(quick: bool) -> dict:
    """`lens_over_gemm` (median ratio) and `lens_extra_mb`, with what stands behind them."""
    steps = 36 if quick else 144
    found = measure_ratio(steps, 3 if quick else 9, others=not quick)
    # Peak memory is a number of the whole process, so it needs a process of its own.
    command = [sys.executable, os.path.abspath(__file__), "--memory", str(steps)]
    found["lens_extra_mb"] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and repetitions")
    parser.add_argument(
        "--memory", type=int, metavar="STEPS", help="print the extra peak memory of so many steps in MB"
    )
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.memory:
        print(json.dumps(round(extra_memory(chosen.memory), 1)))
        return
    print(json.dumps(measure_lens(chosen.quick), indent=1))


if __name__ == "__main__":
    main()
