"""What observation costs: over bare generation, against the loop a user writes, against peers, and in memory.

Every figure is a ratio of runs that alternate in one process on the same threads; medians over repetitions. Run as
`python benchmarks/capture.py [--quick] [--threads N] [--only NAME ...]`; prints JSON. `run(quick)` is what
`phaselens bench capture` calls.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import phaselens
from peak_memory import high_water_mb
from phaselens.models import Model
from phaselens.observables import DEPTH, TRAJECTORY, evaluate

KEYS = (
    "replay_over_bare",
    "live_over_bare",
    "lens_over_gemm",
    "user_loop_speedup",
    "nnsight_over_ours",
    "memory_4096_over_512",
    "lens_extra_mb",
)
TARGETS = {
    "replay_over_bare": "<= 1.25",
    "live_over_bare": "<= 1.15",
    "lens_over_gemm": "<= 1.5",
    "user_loop_speedup": ">= 6",
    "nnsight_over_ours": "> 1",
    "memory_4096_over_512": "<= 1.10",
    "lens_extra_mb": "<= 600",
}
PEERS = "PHASELENS_PEERS_PYTHON"


def llama(layers: int, width: int, vocabulary: int, kv_heads: int | None = None) -> Model:
    """A random Llama, float32, from a fixed seed."""
    heads = width // 64
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=int(2.6875 * width),
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads or heads,
        max_position_embeddings=8192,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LlamaForCausalLM(config).eval()
    network.generation_config.eos_token_id = None
    return phaselens.load(network)


def prompts(count: int, length: int, vocabulary: int) -> list[list[int]]:
    return np.random.default_rng(0).integers(3, vocabulary, size=(count, length)).tolist()


def alternate(runs: Mapping[str, Callable[[], Any]], repetitions: int, *, warm: bool = True) -> dict[str, list[float]]:
    """Seconds of every run, in turns, after one warm-up of each: by the clock, and as `NAME_cpu` of processor time."""
    for run_once in runs.values() if warm else ():
        run_once()
    times: dict[str, list[float]] = {name + kind: [] for name in runs for kind in ("", "_cpu")}
    for _ in range(repetitions):
        for name, run_once in runs.items():
            clock, cpu = time.perf_counter(), time.process_time()
            run_once()
            times[name].append(time.perf_counter() - clock)
            times[f"{name}_cpu"].append(time.process_time() - cpu)
    return times


def ratio(times: Mapping[str, list[float]], above: str, below: str, kind: str = "") -> float:
    """Median over the repetitions of one time over another."""
    pairs = zip(times[above + kind], times[below + kind], strict=True)
    return statistics.median(a / b for a, b in pairs)


def measure_overhead(quick: bool) -> dict[str, Any]:
    """`generate + observe` and `live` of all observables without lens, over the library's own batched `generate`."""
    batch, new, length = 16, 32 if quick else 128, 4 if quick else 16
    model = llama(16, 512, 32_000)
    given = prompts(batch, length, model.vocab_size)
    ids = torch.tensor(given)
    settings = {"sampling": phaselens.GREEDY, "batch_size": batch}

    def bare(n: int) -> None:
        mask = torch.ones_like(ids)
        model.network.generate(ids, attention_mask=mask, max_new_tokens=n, do_sample=False, pad_token_id=0)

    def generated(n: int) -> Any:
        return phaselens.generate(model, given, max_new_tokens=n, **settings)

    def replayed(n: int) -> None:
        phaselens.observe(model, generated(n), lens=None)

    def lived(n: int) -> None:
        phaselens.live(model, given, lens=None, max_new_tokens=n, **settings)

    def hooked(n: int) -> None:
        plain_hooks(model, lambda: bare(n))

    ways = {"bare": bare, "generate": generated, "replay": replayed, "live": lived, "hooks": hooked}
    for way in ways.values():
        way(2)
    times = alternate({name: partial(way, new) for name, way in ways.items()}, 2 if quick else 5, warm=False)
    return {
        "replay_over_bare": ratio(times, "replay", "bare"),
        "live_over_bare": ratio(times, "live", "bare"),
        "plain_hooks_over_bare": ratio(times, "hooks", "bare"),
        "generate_over_bare": ratio(times, "generate", "bare"),
        "live_over_generate": ratio(times, "live", "generate"),
        "replay_over_bare_cpu": ratio(times, "replay", "bare", "_cpu"),
        "live_over_bare_cpu": ratio(times, "live", "bare", "_cpu"),
        "bare_s": statistics.median(times["bare"]),
        "batch": batch,
        "new_tokens": new,
    }


def plain_hooks(model: Model, generate: Callable[[], None]) -> None:
    """What a user writes with hooks of their own: keep the last state of every block, then the same observables."""
    kept: list[torch.Tensor] = []

    def keep(block: torch.nn.Module, inputs: Any, out: Any) -> None:
        kept.append((out[0] if isinstance(out, tuple) else out)[:, -1])

    handles = [block.register_forward_hook(keep) for block in model.blocks]
    try:
        generate()
    finally:
        for handle in handles:
            handle.remove()
    hidden = torch.stack(kept).unflatten(0, (-1, model.n_layers)).permute(2, 1, 0, 3)
    numbers = torch.arange(1, model.n_layers + 1)
    evaluate((*TRAJECTORY, *DEPTH), {"hidden": hidden, "layers": numbers, "n_blocks": model.n_layers})


def users_lens(network: Any, hidden: torch.Tensor, final: torch.Tensor, token: int) -> dict[str, float]:
    """What a user writes for one state of one layer."""
    logits = network.lm_head(network.model.norm(hidden))
    log_p = torch.log_softmax(logits, -1)
    p = log_p.exp()
    top = p.topk(10)
    log_final = torch.log_softmax(network.lm_head(network.model.norm(final)), -1) if final is not hidden else log_p
    return {
        "entropy": float(-(p * log_p).sum()),
        "top1": float(top.values[0]),
        "rivalry": float(top.values[1] / top.values[0]),
        "top10_mass": float(top.values.sum()),
        "surprisal": float(-log_p[token]),
        "rank": float((log_p > log_p[token]).sum()),
        "kl_to_final": float((log_final.exp() * (log_final - log_p)).sum()),
    }


def users_loop(model: Model, given: list[list[int]], new: int) -> int:
    """One prompt at a time, hidden states out of `generate`, the lens per layer per step in Python."""
    rows = 0
    network = model.network
    for prompt in given:
        ids = torch.tensor([prompt])
        out = network.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new,
            do_sample=False,
            pad_token_id=0,
            output_hidden_states=True,
            return_dict_in_generate=True,
        )
        with torch.no_grad():
            for step, states in enumerate(out.hidden_states):
                token = int(out.sequences[0, ids.shape[1] + step])
                final = states[-1][0, -1]
                for state in states:
                    users_lens(network, state[0, -1], final, token)
                    rows += 1
    return rows


def measure_user_loop(quick: bool) -> dict[str, Any]:
    """The user's loop over `generate` + `observe` with every observable under the lens."""
    count, new = 32, 8 if quick else 64
    model = llama(4, 256, 8192) if quick else llama(8, 512, 32_000)
    given = prompts(count, 12, model.vocab_size)

    def ours() -> None:
        said = phaselens.generate(model, given, max_new_tokens=new, sampling=phaselens.GREEDY)
        phaselens.observe(model, said, lens="final_norm")

    users_loop(model, given[:1], 2)
    times = alternate({"ours": ours}, 3)
    clock, cpu = time.perf_counter(), time.process_time()
    rows = users_loop(model, given, new)
    took, took_cpu = time.perf_counter() - clock, time.process_time() - cpu
    return {
        "user_loop_speedup": took / statistics.median(times["ours"]),
        "user_loop_speedup_cpu": took_cpu / statistics.median(times["ours_cpu"]),
        "user_loop_s": took,
        "ours_s": statistics.median(times["ours"]),
        "rows": rows,
    }


def peak_mb(new: int) -> float:
    """Peak memory of this process after one run of `new` tokens was observed with every observable, in MB."""
    model = llama(8, 256, 8192, kv_heads=1)
    ids = np.random.default_rng(0).integers(3, model.vocab_size, size=16 + new).tolist()
    phaselens.observe(model, [(ids[:16], ids[16:])], lens="final_norm")
    return high_water_mb()


def measure_memory(quick: bool) -> dict[str, Any]:
    """Peak memory for 4,096 generated tokens over that for 512, each in a process of its own."""
    peaks = {}
    for new in (512, 4096):
        command = [
            sys.executable,
            os.path.abspath(__file__),
            "--peak",
            str(new),
            "--threads",
            str(torch.get_num_threads()),
        ]
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks[new] = json.loads(out.splitlines()[-1])
    return {"memory_4096_over_512": peaks[4096] / peaks[512], "peak_512_mb": peaks[512], "peak_4096_mb": peaks[4096]}


def measure_lens(quick: bool) -> dict[str, Any]:
    """The full lens over the bare matrix product; see benchmarks/lens.py."""
    sys.path.insert(0, str(Path(__file__).parent))
    import lens

    return lens.measure_lens(quick)


def measure_peers(quick: bool) -> dict[str, Any]:
    """nnsight and TransformerLens, where they are installed here or in the Python named by PHASELENS_PEERS_PYTHON."""
    script = Path(__file__).with_name("peers.py")
    command = [os.environ.get(PEERS, sys.executable), str(script), *(["--quick"] if quick else [])]
    command += ["--threads", str(torch.get_num_threads())]
    source = str(Path(phaselens.__file__).parents[1])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": source})
    if done.returncode:
        return {"nnsight_over_ours": None, "peers_note": (done.stderr.strip().splitlines() or ["failed"])[-1]}
    return json.loads(done.stdout.splitlines()[-1])


PARTS = {
    "overhead": measure_overhead,
    "lens": measure_lens,
    "user_loop": measure_user_loop,
    "memory": measure_memory,
    "peers": measure_peers,
}


def run(quick: bool = False, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """All figures: the seven keys first, then what stands behind them, by part."""
    detail = {name: part(quick) for name, part in PARTS.items() if not only or name in only}
    flat = {key: value for part in detail.values() for key, value in part.items()}
    return {
        **{key: flat.get(key) for key in KEYS},
        "targets": TARGETS,
        "detail": detail,
        "quick": quick,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller runs, fewer repetitions")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=(), choices=tuple(PARTS), metavar="PART")
    parser.add_argument("--peak", type=int, metavar="TOKENS", help="print the peak memory of one long run, in MB")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.peak:
        print(json.dumps(round(peak_mb(chosen.peak), 1)))
        return
    print(json.dumps(run(chosen.quick, tuple(chosen.only)), indent=1))


if __name__ == "__main__":
    main()
