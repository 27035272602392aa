"""What the monitor costs over bare generation at batch 1, without lens and with it at four layers, and in memory.

Ratios of runs that alternate in one process on the same threads; medians over repetitions, also of processor time
(`_cpu`), for a clock that others disturb. Run as `python benchmarks/monitor.py [--quick] [--threads N]`; prints JSON.
`phaselens bench monitor` calls it.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import phaselens
from phaselens.monitor import Monitor
from phaselens.products import product as head_product

sys.path.insert(0, str(Path(__file__).parent))
from capture import alternate, llama, prompts, ratio  # noqa: E402
from peak_memory import high_water_mb  # noqa: E402

KEYS = ("monitor_over_bare", "lens4_over_bare", "memory_2000_over_200", "live_minus_offline_max")
TARGETS = {
    "monitor_over_bare": "<= 1.10",
    "lens4_over_bare": "<= 1.25",
    "memory_2000_over_200": "about that of bare generation (bare_memory_2000_over_200)",
    "live_minus_offline_max": "<= 1e-3",
}


def measure_overhead(quick: bool) -> dict[str, Any]:
    """A monitor that hands out every step, without lens and with it at four layers, over the library's generate.

    `product4_over_bare` is the floor of the lens: bare generation with the bare product of four more rows a step.
    """
    new = 16 if quick else 64
    model = llama(16, 512, 32_000)
    ids = torch.tensor(prompts(1, 16, model.vocab_size))
    how = dict(attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=0)

    def bare() -> None:
        model.network.generate(ids, **how)

    def watched(**settings: Any) -> None:
        with Monitor(model, on_step=lambda step: None, **settings):
            model.network.generate(ids, **how)

    def product() -> None:
        """The least that a lens at four layers can cost: the head's product with four more rows at every step."""
        states, weight = torch.randn(4, 512), model.readout.weight

        def more(ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            head_product(states, weight)
            return torch.zeros(len(ids), dtype=torch.bool)

        model.network.generate(ids, **how, stopping_criteria=[more])

    ways = {"bare": bare, "monitor": watched, "lens4": partial(watched, lens_layers=4), "product4": product}
    repetitions = 3 if quick else 7
    times = alternate(ways, repetitions)
    found: dict[str, Any] = {}
    for name in ("monitor", "lens4", "product4"):
        found |= {f"{name}_over_bare{kind}": ratio(times, name, "bare", kind) for kind in ("", "_cpu")}
        found[f"{name}_over_bare_quartiles"] = quartiles(times, name, "bare")
    found |= {"bare_ms_per_token": 1e3 * float(np.median(times["bare"])) / new, "new_tokens": new}
    return found | {"repetitions": repetitions}


def quartiles(times: Mapping[str, list[float]], above: str, below: str) -> list[float]:
    """Lower and upper quartile over the repetitions of one time over another."""
    return np.quantile(np.divide(times[above], times[below]), (0.25, 0.75)).round(3).tolist()


def measure_agreement(quick: bool) -> dict[str, float]:
    """Largest difference of any column between monitor and observe, in its unit (relative above 1)."""
    model = llama(4, 256, 8192)
    ids = torch.tensor(prompts(2, 12, model.vocab_size))
    with Monitor(model, lens_layers=range(5), record=True) as m:
        model.network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=16 if quick else 64,
            do_sample=False,
            pad_token_id=0,
        )
    said, live = m.trace()
    offline = phaselens.observe(model, said)
    worst = 0.0
    for table in ("steps", "layers"):
        one, other = live.numpy(table), offline.numpy(table)
        for name in one.keys() & other.keys():
            if one[name].dtype == np.float32:
                gap = np.abs(one[name] - other[name]) / np.maximum(1, np.abs(other[name]))
                worst = max(worst, float(np.nanmax(gap, initial=0)))
                if not np.array_equal(np.isnan(one[name]), np.isnan(other[name])):
                    worst = float("inf")
    return {"live_minus_offline_max": worst}


def peak_mb(new: int, watch: bool) -> float:
    """Peak memory of this process after one generation of `new` tokens, with or without a monitor, in MB."""
    model = llama(8, 256, 8192, kv_heads=1)
    ids = torch.tensor(prompts(1, 16, model.vocab_size))
    how = dict(attention_mask=torch.ones_like(ids), max_new_tokens=new, do_sample=False, pad_token_id=0)
    if watch:
        with Monitor(model, lens_layers=4, on_step=lambda step: None):
            model.network.generate(ids, **how)
    else:
        model.network.generate(ids, **how)
    return high_water_mb()


def measure_memory(quick: bool) -> dict[str, float]:
    """Peak memory over 2,000 tokens over that over 200 (quick: 500 over 50), each in a process of its own."""
    long, short = (500, 50) if quick else (2000, 200)
    peaks = {}
    for way in ("watch", "bare"):
        for new in (long, short):
            command = [sys.executable, os.path.abspath(__file__), "--peak", str(new), "--way", way]
            command += ["--threads", str(torch.get_num_threads())]
            out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            peaks[way, new] = json.loads(out.splitlines()[-1])
    return {
        "memory_2000_over_200": peaks["watch", long] / peaks["watch", short],
        "bare_memory_2000_over_200": peaks["bare", long] / peaks["bare", short],
        "monitor_extra_mb_long": peaks["watch", long] - peaks["bare", long],
        "monitor_extra_mb_short": peaks["watch", short] - peaks["bare", short],
    }


def run(quick: bool = False) -> dict[str, Any]:
    """The four keys first, then what stands behind them."""
    flat = measure_overhead(quick) | measure_agreement(quick) | measure_memory(quick)
    rest = {k: v for k, v in flat.items() if k not in KEYS}
    return {
        **{key: flat[key] for key in KEYS},
        "targets": TARGETS,
        **rest,
        "quick": quick,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller runs, fewer repetitions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", type=int, metavar="TOKENS", help="print the peak memory of one long run, in MB")
    parser.add_argument("--way", choices=("watch", "bare"), default="watch")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak:
        print(json.dumps(round(peak_mb(chosen.peak, chosen.way == "watch"), 1)))
        return
    print(json.dumps(run(chosen.quick), indent=1))


if __name__ == "__main__":
    main()
