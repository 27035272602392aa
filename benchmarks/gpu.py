"""What a graphics processor gives: the same numbers, the lens over its product, live and replay over bare generation.

Needs the package and random weights only, and takes under ten minutes. Run as `python benchmarks/gpu.py [--device cuda]
[--quick]`; prints JSON and exits with 1 where a number of the device differs from the processor's beyond rounding.
With `--device cpu` it tests itself.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

import phaselens
import study
from capture import prompts, ratio
from phaselens.observables import DEFAULT, LENS_STATISTICS, base_inputs
from phaselens.observables.lens import lens_variants
from phaselens.observables.lens_selection import Variant
from phaselens.observables.lens_tiles import rows_at_once
from phaselens.types import Readout

# (vocabulary, width, layers) of the lens part; the last one is that of models of 8 billion parameters.
LENSES = ((49_152, 576, 31), (262_144, 640, 19), (128_256, 4096, 33))
TOLERANCE = 2e-3


def timed(run: Callable[[], Any], device: torch.device) -> float:
    """Seconds of one run, to the end of what it left the device to do."""
    synchronise(device)
    start = time.perf_counter()
    run()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()


def alternate(runs: dict[str, Callable[[], Any]], repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of every run, in turns, after one warm-up of each."""
    for run in runs.values():
        run()
    return {name: [timed(run, device) for _ in range(repetitions)] for name, run in runs.items()}


def measure_lens(device: torch.device, quick: bool) -> dict[str, Any]:
    """One lens over the float32 product of its rows, and the rate of that product."""
    out: dict[str, Any] = {}
    wanted = base_inputs(DEFAULT) & frozenset(LENS_STATISTICS)
    for vocabulary, width, layers in LENSES[: 1 if quick else None]:
        draw = torch.Generator().manual_seed(0)
        steps = max(1, rows_at_once(vocabulary) // layers)
        weight = (0.05 * torch.randn(vocabulary, width, generator=draw)).to(device)
        hidden = torch.randn(steps, layers, width, generator=draw).cumsum(1).to(device)
        readout = Readout(weight, None, lambda h: torch.nn.functional.layer_norm(h, h.shape[-1:]))
        emitted = torch.randint(0, vocabulary, (steps,), generator=draw).to(device)
        states, buffers = readout.norm(hidden).flatten(0, 1), {}
        logits = torch.empty(len(states), vocabulary, device=device)
        runs = {
            "gemm": partial(torch.mm, states, weight.T, out=logits),
            "lens": partial(lens_variants, hidden, readout, (Variant(emitted),), wanted=wanted, buffers=buffers),
        }
        with torch.no_grad():
            times = alternate(runs, 3 if quick else 11, device)
        flop = 2 * len(states) * vocabulary * width
        out[f"lens_over_gemm_{vocabulary}x{width}"] = ratio(times, "lens", "gemm")
        out[f"gemm_tflops_{vocabulary}x{width}"] = flop / statistics.median(times["gemm"]) / 1e12
    return out


def measure_overhead(device: torch.device, quick: bool) -> dict[str, Any]:
    """Replay and live, without and with one lens, over the library's own batched generation."""
    m = phaselens.load(study.network("49k").to(device))
    new, batch = (4, 4) if quick else (64, 32)
    given = prompts(batch, 12, m.vocab_size)
    ids = torch.tensor(given, device=device)
    settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    ours = {"max_new_tokens": new, "sampling": phaselens.GREEDY, "batch_size": batch}

    def replayed(lens: str | None) -> None:
        phaselens.observe(m, phaselens.generate(m, given, **ours), lens=lens)

    runs: dict[str, Callable[[], Any]] = {
        "bare": lambda: m.network.generate(ids, attention_mask=torch.ones_like(ids), **settings),
        "generate": partial(phaselens.generate, m, given, **ours),
        "replay": partial(replayed, None),
        "live": partial(phaselens.live, m, given, lens=None, **ours),
        "replay_lens": partial(replayed, "final_norm"),
        "live_lens": partial(phaselens.live, m, given, lens="final_norm", **ours),
    }
    times = alternate(runs, 1 if quick else 5, device)
    return {f"{name}_over_bare": ratio(times, name, "bare") for name in runs if name != "bare"}


def measure_agreement(device: torch.device, quick: bool) -> dict[str, Any]:
    """Largest difference of a column between the device and the processor, on the same transcripts and weights."""
    here = phaselens.load(study.network("49k"))
    said = phaselens.generate(here, prompts(2, 12, here.vocab_size), max_new_tokens=3, sampling=phaselens.GREEDY)
    one = phaselens.observe(here, said)
    other = phaselens.observe(phaselens.load(study.network("49k").to(device)), said)
    worst: dict[str, float] = {}
    for table in ("steps", "layers"):
        a, b = one.numpy(table), other.numpy(table)
        for name, values in a.items():
            if values.dtype == np.float32 and np.isfinite(values).any():
                size = max(1.0, float(np.nanmax(np.abs(values))))
                worst[name] = max(worst.get(name, 0.0), float(np.nanmax(np.abs(values - b[name]))) / size)
    name = max(worst, key=worst.__getitem__)
    return {"largest_difference": worst[name], "of_column": name, "agrees": worst[name] <= TOLERANCE}


PARTS = {"agreement": measure_agreement, "lens": measure_lens, "overhead": measure_overhead}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, one repetition")
    parser.add_argument("--only", nargs="*", default=(), choices=tuple(PARTS), metavar="PART")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    found = {"device": name, "torch": torch.__version__}
    for part in chosen.only or PARTS:
        found |= PARTS[part](device, chosen.quick)
    print(json.dumps(found, indent=1))
    sys.exit(0 if found.get("agrees", True) else 1)


if __name__ == "__main__":
    main()
