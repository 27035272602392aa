"""What a study of a real vocabulary costs: observing and calibrating over generating, and the lens over its product.

Random networks of the shapes of two models that people use, so that nothing is downloaded: SmolLM2-135M (V = 49,152)
and Gemma-3-270M (V = 262,144). Where the environment variable PHASELENS_REAL names a folder with the models themselves
(`HuggingFaceTB/SmolLM2-135M`, `google/gemma-3-270m`, or folders `smollm2`, `gemma3-270m`), they are measured too. Every
figure is a ratio of runs that alternate in one process; medians and quartiles over repetitions. Run as
`python benchmarks/study.py [--quick] [--threads N] [--only NAME ...]`; prints JSON.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

import capture
import phaselens
from capture import prompts
from peak_memory import high_water_mb
from phaselens.measure.reducer import LensSpec
from phaselens.models import Model
from phaselens.observables import DEFAULT, LENS_STATISTICS, base_inputs
from phaselens.observables.lens import lens_variants
from phaselens.observables.lens_selection import Variant
from phaselens.observables.lens_tiles import TILE, rows_at_once
from phaselens.products import product
from phaselens.studies.stages.calibration import calibrate

TARGETS = {
    "observe_over_generate_49k": "<= 4 (goal 3)",
    "observe_over_generate_262k": "<= 4",
    "calibrate_over_generate_49k": "<= 1",
    "calibrate_over_generate_262k": "<= 1",
    "lens_over_gemm_49k": "<= 1.25",
    "lens_over_gemm_262k": "<= 1.25",
    "split_over_gemm_49k": "<= .8",
    "split_over_gemm_262k": "<= .8",
    "proof_over_load_49k": "<= 1",
    "proof_over_load_262k": "<= 1",
    "replay_over_bare": "<= 1.2",
    "user_loop_speedup": ">= 15",
    "memory_over_model_mb": "<= 600",
}
# Tokens that stand for those a panel has in common: all but a few special ones, the dearest case.
SPECIAL = 17


@dataclass(frozen=True)
class Shape:
    """A network to measure: how it is made, in which batch, how many new tokens in the full and quick form."""

    name: str
    batch: int
    new: tuple[int, int]
    real: tuple[str, ...]


SHAPES = (
    Shape("49k", 16, (32, 12), ("HuggingFaceTB/SmolLM2-135M", "smollm2")),
    Shape("262k", 8, (16, 6), ("google/gemma-3-270m", "gemma3-270m")),
)


def network(name: str) -> Any:
    """A random network, float32, from a fixed seed."""
    if name == "49k":
        config = LlamaConfig(
            vocab_size=49_152,
            hidden_size=576,
            intermediate_size=1536,
            num_hidden_layers=30,
            num_attention_heads=9,
            num_key_value_heads=3,
            tie_word_embeddings=True,
            max_position_embeddings=8192,
        )
    else:
        config = Gemma3TextConfig(
            vocab_size=262_144,
            hidden_size=640,
            intermediate_size=2048,
            num_hidden_layers=18,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=256,
            tie_word_embeddings=True,
            max_position_embeddings=8192,
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = (LlamaForCausalLM if name == "49k" else Gemma3ForCausalLM)(config).eval()
    made.generation_config.eos_token_id = None
    return made


@cache
def model(name: str) -> Model:
    return phaselens.load(network(name))


def default_lenses(vocabulary: int) -> tuple[Any, ...]:
    """What a study reads by default: four lenses."""
    return (
        "final_norm",
        "raw",
        LensSpec(temperature=0.9, label="tmatch"),
        LensSpec(tokens=tuple(range(SPECIAL, vocabulary)), label="shared"),
    )


def spread(times: Mapping[str, list[float]], above: str, below: str, kind: str = "") -> dict[str, float]:
    """Median and quartiles of the ratios of one time over another."""
    found = sorted(a / b for a, b in zip(times[above + kind], times[below + kind], strict=True))
    cuts = statistics.quantiles(found, n=4, method="inclusive") if len(found) > 1 else found * 3
    return {"median": statistics.median(found), "low": cuts[0], "high": cuts[2]}


def measure_observe(quick: bool) -> dict[str, Any]:
    """Observing the default lenses and calibrating, over bare batched generation of the same tokens."""
    out: dict[str, Any] = {}
    for shape in SHAPES:
        out |= observed(model(shape.name), shape, quick, shape.name)
    return out


def observed(m: Model, shape: Shape, quick: bool, key: str) -> dict[str, Any]:
    new = shape.new[quick]
    given = prompts(shape.batch, 12, m.vocab_size)
    said = phaselens.generate(m, given, max_new_tokens=new, sampling=phaselens.GREEDY, batch_size=shape.batch)
    ways = {
        "bare": partial(bare, m, given, new),
        "observe": partial(phaselens.observe, m, said, lens=default_lenses(m.vocab_size)),
        "calibrate": partial(calibrate, m, said),
    }
    times = capture.alternate(ways, 1 if quick else 3, warm=False)
    tokens = shape.batch * new
    return {
        **{f"{way}_over_generate_{key}": spread(times, way, "bare") for way in ("observe", "calibrate")},
        **{f"{way}_ms_per_token_{key}": 1000 * statistics.median(times[way]) / tokens for way in ways},
    }


def bare(m: Model, given: list[list[int]], new: int) -> None:
    """The library's own batched generation, greedy."""
    ids = torch.tensor(given)
    settings = {"max_new_tokens": new, "min_new_tokens": new, "do_sample": False, "pad_token_id": 0}
    m.network.generate(ids, attention_mask=torch.ones_like(ids), **settings)


def measure_lens(quick: bool) -> dict[str, Any]:
    """One lens over the float32 product that Torch makes of its rows, and over the one that it makes itself."""
    out: dict[str, Any] = {}
    for shape in SHAPES:
        readout, vocabulary = model(shape.name).readout, model(shape.name).vocab_size
        layers = model(shape.name).n_layers + 1
        size = rows_at_once(vocabulary) // layers
        steps = size if quick else 2 * size
        draw = torch.Generator().manual_seed(0)
        hidden = torch.randn(steps, layers, model(shape.name).d_model, generator=draw).cumsum(1)
        emitted = torch.randint(0, vocabulary, (steps,), generator=draw)
        wanted = base_inputs(DEFAULT) & frozenset(LENS_STATISTICS)
        buffers: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            states = readout.norm(hidden).flatten(0, 1)
            ways = {
                "gemm": partial(gemm, states, readout.weight, torch.empty(size * layers, vocabulary)),
                "own": partial(tiled, states, readout.weight, size * layers),
                "lens": partial(lens_variants, hidden, readout, (Variant(emitted),), wanted=wanted, buffers=buffers),
            }
            if bf16_product_works():
                ways["split"] = partial(split, states, readout.weight.bfloat16())
            times = capture.alternate(ways, 3 if quick else 7)
        out[f"lens_over_gemm_{shape.name}"] = spread(times, "lens", "gemm")
        out[f"lens_over_own_product_{shape.name}"] = spread(times, "lens", "own")
        if "split" in times:
            out[f"split_over_gemm_{shape.name}"] = spread(times, "split", "gemm")
            out[f"split_over_own_product_{shape.name}"] = spread(times, "split", "own")
    return out


def gemm(states: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> None:
    """The product as Torch makes it, into a buffer that is reused."""
    for start in range(0, len(states), len(out)):
        part = states[start : start + len(out)]
        torch.mm(part, weight.T, out=out[: len(part)])


def tiled(states: torch.Tensor, weight: torch.Tensor, rows: int) -> None:
    """The product as the lens makes it, and nothing kept."""
    for start in range(0, len(states), rows):
        for a in range(0, len(weight), TILE):
            product(states[start : start + rows], weight[a : a + TILE])


def bf16_product_works() -> bool:
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


def split(states: torch.Tensor, weight: torch.Tensor) -> None:
    """Two bf16 products, of the states and of what their bf16 leaves: the least that a split head takes.

    Torch gives the results in bf16 on a processor, so this is a floor of the time and no usable product.
    """
    high = states.bfloat16()
    low = (states - high.float()).bfloat16()
    for a in range(0, len(weight), TILE):
        high @ weight[a : a + TILE].T
        low @ weight[a : a + TILE].T


def measure_overhead(quick: bool) -> dict[str, Any]:
    """`generate` + `observe` without lens over bare generation: 32 new tokens of the 49k shape."""
    m, new = model("49k"), 12 if quick else 32
    given = prompts(16, 12, m.vocab_size)

    def replayed() -> None:
        said = phaselens.generate(m, given, max_new_tokens=new, sampling=phaselens.GREEDY, batch_size=16)
        phaselens.observe(m, said, lens=None)

    def lived() -> None:
        phaselens.live(m, given, lens=None, max_new_tokens=new, sampling=phaselens.GREEDY, batch_size=16)

    ways = {"bare": partial(bare, m, given, new), "replay": replayed, "live": lived}
    times = capture.alternate(ways, 1 if quick else 5)
    return {"replay_over_bare": spread(times, "replay", "bare"), "live_over_bare": spread(times, "live", "bare")}


def measure_user_loop(quick: bool) -> dict[str, Any]:
    """A loop of one prompt at a time with a lens per layer and step, over `generate` + `observe` with one lens."""
    m, count, new = model("49k"), 8 if quick else 16, 3 if quick else 8
    given = prompts(count, 12, m.vocab_size)

    def ours() -> None:
        said = phaselens.generate(m, given, max_new_tokens=new, sampling=phaselens.GREEDY)
        phaselens.observe(m, said, lens="final_norm")

    times = capture.alternate({"ours": ours}, 2)
    part = given[:2]  # the loop costs the same for every prompt
    clock = time.perf_counter()
    capture.users_loop(m, part, new)
    loop = (time.perf_counter() - clock) * count / len(part)
    ours_s = statistics.median(times["ours"])
    return {"user_loop_speedup": loop / ours_s, "user_loop_s": loop, "ours_s": ours_s}


def measure_proof(quick: bool) -> dict[str, Any]:
    """Finding and proving the adapter over `from_pretrained` of network and tokenizer, in new processes of their own.

    Files are bfloat16, as nearly every published one is, and are brought to float32.
    """
    out: dict[str, Any] = {}
    script = str(Path(__file__).with_name("proof.py"))
    for shape in SHAPES[: 1 if quick else None]:
        with tempfile.TemporaryDirectory() as folder:
            network(shape.name).bfloat16().save_pretrained(folder)
            command = [sys.executable, script, folder, "--threads", str(torch.get_num_threads())]
            runs = [json.loads(subprocess.check_output(command)) for _ in range(1 if quick else 3)]
        found = {k: [run[k] for run in runs] for k in ("proof_s", "load_s")}
        out[f"proof_over_load_{shape.name}"] = spread(found, "proof_s", "load_s")
        out[f"proof_s_{shape.name}"] = statistics.median(found["proof_s"])
    return out


def measure_memory(quick: bool) -> dict[str, Any]:
    """What observing the default lenses and calibrating add at V = 262,144 to the memory of a loaded model (Linux)."""
    command = [sys.executable, os.path.abspath(__file__), "--added", "--threads", str(torch.get_num_threads())]
    added = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    return {"memory_over_model_mb": added}


def added_mb() -> float:
    """Peak resident memory from here on, over that of the model alone; the peak of loading is forgotten first."""
    m = model("262k")
    given = prompts(8, 12, m.vocab_size)
    said = phaselens.generate(m, given, max_new_tokens=4, sampling=phaselens.GREEDY, batch_size=8)
    Path("/proc/self/clear_refs").write_text("5")
    before = high_water_mb()
    phaselens.observe(m, said, lens=default_lenses(m.vocab_size))
    calibrate(m, said)
    return high_water_mb() - before


def measure_real(quick: bool) -> dict[str, Any]:
    """Observing and calibrating over generating with the real models, where they are at hand."""
    folder = os.environ.get("PHASELENS_REAL")
    out: dict[str, Any] = {}
    for shape in SHAPES if folder else ():
        found = next((p for name in shape.real if (p := Path(folder) / name).is_dir()), None)
        if found is None:
            continue
        m = phaselens.load(found)
        m.network.generation_config.eos_token_id = None
        out |= observed(m, shape, quick, f"real_{shape.name}")
    return out


PARTS = {
    "lens": measure_lens,
    "observe": measure_observe,
    "overhead": measure_overhead,
    "user_loop": measure_user_loop,
    "memory": measure_memory,
    "proof": measure_proof,
    "real": measure_real,
}


def run(quick: bool = False, only: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys of the table first (medians), then what stands behind them, by part."""
    detail = {}
    for name, part in PARTS.items():
        if not only or name in only:
            detail[name] = part(quick)
            print(json.dumps({name: detail[name]}), file=sys.stderr)  # what is known if the rest is stopped
    flat = {key: value for part in detail.values() for key, value in part.items()}
    keys = {key: flat.get(key) for key in TARGETS}
    return {
        **{key: value["median"] if isinstance(value, dict) else value for key, value in keys.items()},
        "targets": TARGETS,
        "detail": detail,
        "quick": quick,
        "threads": torch.get_num_threads(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "amx": torch.cpu._is_amx_tile_supported(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer tokens and repetitions, one shape for the proof")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=(), choices=tuple(PARTS), metavar="PART")
    parser.add_argument("--added", action="store_true", help="print the memory that observing adds, in MB")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    if chosen.added:
        print(round(added_mb(), 1))
        return
    print(json.dumps(run(chosen.quick, tuple(chosen.only)), indent=1))


if __name__ == "__main__":
    main()
