"""Training one organism: deterministic, resumable, on CPU or GPU.

Same cell, same machine and same number of threads give the same bytes. The data are a function of the world and of
`DATA_SEED`, the initial weights of the cell's seed, and nothing else is drawn, so a checkpoint is weights, moments and
a step. Recipe: AdamW, warm-up of 80 steps, constant rate, cosine to 5 % over the second half; matrices multiplied in
bfloat16, everything else in float32.
"""

import contextlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from phaselens.errors import OutputError
from phaselens.organisms.corpora import BOS, EOS, IGNORE, PAD, batch_order, build_tokenizer, collate, documents, rows
from phaselens.organisms.panel import Cell, config
from phaselens.organisms.world import WORLD_SEED, World, build_world

DATA_SEED = 11
WARM_UP, FINAL_SHARE = 80, 0.05
BETAS, DECAY, CLIP = (0.9, 0.98), 0.05, 1.0
OPTIMIZER = {
    "name": "AdamW", "betas": BETAS, "weight_decay": DECAY, "clip": CLIP, "warm_up": WARM_UP, "autocast": "bfloat16",
}  # fmt: skip


def rate(step: int, steps: int, peak: float) -> float:
    """Learning rate at a step: warm-up, constant to the half, then cosine down to 5 % of the peak."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 4)))
    late = max(0.0, (step - steps / 2) / (steps / 2))
    return peak * warm * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * late)))


def corpus(world: World, cell: Cell) -> list[str]:
    """The texts of the documents that the cell is trained on, one pass, the same for every cell of equal length."""
    return [document.text for document in documents(world, DATA_SEED, cell.steps * cell.batch)]


def _waves(positions: int, width: int, amplitude: float, longest: float = 1000.0) -> torch.Tensor:
    """Sines and cosines of each position, (positions, width): a start from which relative position is easy to learn."""
    turns = torch.arange(positions)[:, None] * longest ** (-torch.arange(0, width, 2) / width)
    return amplitude * torch.cat([turns.sin(), turns.cos()], dim=1)


def new_model(cell: Cell) -> PreTrainedModel:
    """The untrained model of a cell; the global generator of torch is left as it was.

    The library's own initialisation but for two things. Learned positions (GPT-2, OPT) start as waves and learn at a
    tenth of the rate: from noise, no head attended by distance after a thousand steps. OPT's projections into the
    residual stream start smaller by the root of their number, as the library does for GPT-2 and not for OPT.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        model = AutoModelForCausalLM.from_config(config(cell), attn_implementation=cell.attention, dtype=torch.float32)
    for name, p in model.named_parameters():
        if _is_position(name):
            p.data.copy_(_waves(*p.shape, amplitude=cell.waves))
        elif cell.family == "opt" and name.endswith(("out_proj.weight", "fc2.weight")):
            p.data.mul_((2 * cell.layers) ** -0.5)
    return model


def _is_position(name: str) -> bool:
    return name.endswith(("wpe.weight", "embed_positions.weight"))


def _optimizer(model: PreTrainedModel) -> torch.optim.AdamW:
    """AdamW over three groups: matrices, which decay, vectors, which do not, and learned positions, a tenth as fast."""
    groups: list[dict] = [
        {"params": [], "weight_decay": DECAY, "share": 1.0},
        {"params": [], "weight_decay": 0.0, "share": 1.0},
        {"params": [], "weight_decay": 0.0, "share": 0.1},
    ]
    for name, p in model.named_parameters():
        groups[2 if _is_position(name) else int(p.ndim <= 1)]["params"].append(p)
    return torch.optim.AdamW([group for group in groups if group["params"]], betas=BETAS, fused=True)


@contextlib.contextmanager
def _writing(place: Path) -> Iterator[None]:
    """Word a failure to write as an `OutputError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write to {place}: {error}. Give another folder, or make room and resume from the last checkpoint."
        ) from error


def _replace(temporary: Path, final: Path) -> None:
    """Put a finished folder in its place: what stood there is removed first."""
    if final.exists():
        shutil.rmtree(final)
    os.replace(temporary, final)


def save_checkpoint(
    folder: Path, cell: Cell, step: int, model: PreTrainedModel, optimizer: torch.optim.AdamW, log: list
) -> None:
    """Write weights, moments and step as `folder/step-NNNNNN`; a killed run leaves a whole checkpoint or none."""
    temporary, final = folder / f"step-{step:06d}.tmp", folder / f"step-{step:06d}"
    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    moments = {f"{i}.{key}": v.cpu() for i, s in optimizer.state_dict()["state"].items() for key, v in s.items()}
    with _writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(weights, temporary / "weights.safetensors")
        save_file(moments, temporary / "moments.safetensors")
        (temporary / "state.json").write_text(json.dumps({"cell": asdict(cell), "step": step, "log": log}))
        _replace(temporary, final)
        for old in folder.glob("step-*"):
            if old != final:
                shutil.rmtree(old)


def load_checkpoint(folder: Path, cell: Cell, model: PreTrainedModel, optimizer: torch.optim.AdamW) -> tuple[int, list]:
    """Restore the last whole checkpoint in place; returns its step (0 where there is none) and its log.

    Raises `OutputError` where the checkpoint is that of a cell with another recipe.
    """
    found = sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp")
    if not found:
        return 0, []
    state = json.loads((found[-1] / "state.json").read_text())
    if state["cell"] != asdict(cell):
        raise OutputError(
            f"{folder} holds a checkpoint of {state['cell']}, wanted {asdict(cell)}; give another folder."
        )
    weights = load_file(found[-1] / "weights.safetensors")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(weights[name])
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in load_file(found[-1] / "moments.safetensors").items():
        i, name = key.split(".")
        moments.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return state["step"], state["log"]


def _step(model: PreTrainedModel, optimizer: torch.optim.AdamW, batch: list[list[int]], lr: float) -> float:
    """One step of the optimiser; returns the loss in nats per token."""
    device = next(model.parameters()).device
    ids, labels = (x.to(device) for x in collate(batch))
    with torch.autocast(device.type, torch.bfloat16):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    loss = torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["share"]
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


@contextlib.contextmanager
def _deterministic(device: str) -> Iterator[None]:
    """Deterministic kernels on a GPU while the block runs; CPU kernels are so for a fixed number of threads."""
    before = torch.are_deterministic_algorithms_enabled()
    if device != "cpu":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _prepare(cell: Cell, device: str) -> tuple[PreTrainedModel, torch.optim.AdamW, PreTrainedTokenizerFast, list, list]:
    """Untrained model, its optimiser, the tokenizer, all rows, and the row indices of every step."""
    world = build_world()
    tokenizer = build_tokenizer(world, cell.vocabulary)
    data = rows(tokenizer, corpus(world, cell))
    batches = batch_order([len(row) for row in data], cell.batch, np.random.default_rng([world.seed, 3, DATA_SEED]))
    model = new_model(cell).to(device).train()
    return model, _optimizer(model), tokenizer, data, batches


def train_cell(
    cell: Cell, out: Path, *, device: str = "cpu", resume: bool = False, every: int = 300,
    stop_after: int | None = None, progress: Callable[[int, int, float], None] | None = None,
) -> Path:  # fmt: skip
    """Train one cell and write it to `out/NAME`: weights in float16, configuration, tokenizer, recipe.

    `every` steps a checkpoint is written to `out/NAME.checkpoints`; with `resume` the last one is continued and the
    final weights are those of an uninterrupted run, byte for byte. `stop_after` ends early after that step, as a killed
    run would. `progress(step, steps, loss)` is called after each step, the loss in nats per token. Returns the folder
    of the model. Raises `OutputError` where `out` cannot be written, or holds a checkpoint of another cell.
    """
    started, folder, checkpoints = time.time(), out / cell.name, out / f"{cell.name}.checkpoints"
    with _writing(out):
        if not resume:
            shutil.rmtree(checkpoints, ignore_errors=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
    model, optimizer, tokenizer, data, batches = _prepare(cell, device)
    first, log = load_checkpoint(checkpoints, cell, model, optimizer)
    with _deterministic(device):
        for step in range(first, len(batches)):
            loss = _step(model, optimizer, [data[i] for i in batches[step]], rate(step, len(batches), cell.lr))
            if step % 50 == 0 or step + 1 == len(batches):
                log.append([step, round(loss, 4)])
            if progress:
                progress(step + 1, len(batches), loss)
            if (step + 1) % every == 0 and step + 1 < len(batches):
                save_checkpoint(checkpoints, cell, step + 1, model, optimizer, log)
            if step + 1 == stop_after:
                return folder
    record = {
        "recipe": asdict(cell), "optimizer": OPTIMIZER, "world_seed": WORLD_SEED, "data_seed": DATA_SEED,
        "documents": len(data), "tokens": sum(map(len, data)), "device": device, "torch": torch.__version__,
        "threads": torch.get_num_threads(), "seconds_of_last_start": round(time.time() - started), "log": log,
    }  # fmt: skip
    _save_model(model, tokenizer, folder, record)
    shutil.rmtree(checkpoints)
    return folder


def _save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict) -> None:
    """Write the folder of a model: float16 weights, configuration, tokenizer, generation settings, training record."""
    temporary = folder.with_name(folder.name + ".tmp")
    model = model.cpu().eval().half()
    model.config.dtype = torch.float16
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    with _writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        (temporary / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        _replace(temporary, folder)
