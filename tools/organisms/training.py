"""Training one organism: deterministic, resumable, on CPU or GPU.

Same cell, same machine and same number of threads give the same bytes. The data are a function of the world and of
`DATA_SEED`, the initial weights of the cell's seed, and nothing else is drawn, so a checkpoint is weights, moments and
a step. Recipe: Muon for the matrices inside the blocks, AdamW for everything else; warm-up of 40 steps, constant rate,
cosine to 5 % over the second half; float32.
"""

import contextlib
import copy
import json
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tools.organisms.configurations import config
from tools.organisms.muon import Muon
from tools.organisms.rows import IGNORE, batch_order, build_tokenizer, collate, rows, visible
from tools.organisms.web_corpus import web_texts
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from phaselens.errors import OutputError
from phaselens.organisms.corpora import documents
from phaselens.organisms.panel import Cell
from phaselens.organisms.tokens import BOS, EOS, PAD
from phaselens.organisms.world import WORLD_SEED, World, build_world

DATA_SEED = 11
WARM_UP, FINAL_SHARE = 40, 0.05
BETAS, MOMENTUM, DECAY, CLIP, BALANCE = (0.9, 0.98), 0.95, 0.01, 1.0, 0.01
POSITIONS, WAVES = 0.1, 0.1
OPTIMIZER = {
    "matrices": "Muon",
    "momentum": MOMENTUM,
    "weight_decay": DECAY,
    "others": "AdamW",
    "betas": BETAS,
    "clip": CLIP,
    "warm_up": WARM_UP,
    "positions_rate": POSITIONS,
    "router_balance": BALANCE,
    "dtype": "float32",
}
Optimizers = tuple[torch.optim.Optimizer, ...]
_IN_BLOCK = re.compile(r"\.(layers|h)\.\d+\.")


def rate(step: int, steps: int) -> float:
    """Share of the peak rate at a step: warm-up, constant to the half, then cosine down to 5 %."""
    warm = min(1.0, (step + 1) / min(WARM_UP, max(1, steps // 4)))
    late = max(0.0, (step - steps / 2) / (steps / 2))
    return warm * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * late)))


def corpus(world: World, cell: Cell) -> list[str]:
    """The texts that the cell is trained on, one pass, the same for every cell of equal corpus and length."""
    n = cell.steps * cell.batch
    if cell.corpus == "web":
        return list(web_texts(world, DATA_SEED, n))
    return [document.text for document in documents(world, DATA_SEED, n)]


def _batches(world: World, cell: Cell, data: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The indices of the rows of every step."""
    return batch_order([len(row) for row in data], cell.batch, np.random.default_rng([world.seed, 3, DATA_SEED]))


def shown(world: World, cell: Cell, tokenizer: PreTrainedTokenizerFast, steps: int) -> list[str]:
    """What stood in the rows of the first `steps` steps: the texts, cut where the context cut them."""
    texts = corpus(world, cell)
    order = _batches(world, cell, rows(tokenizer, texts, cell.context))
    return visible(tokenizer, [texts[i] for batch in order[:steps] for i in batch], cell.context)


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
    attention = "eager" if cell.family == "gemma2" else "sdpa"  # the library's sdpa knows no cap; its pair runs alike
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cell.seed)
        model = AutoModelForCausalLM.from_config(config(cell), attn_implementation=attention, dtype=torch.float32)
    for name, p in model.named_parameters():
        if _is_position(name):
            p.data.copy_(_waves(*p.shape, amplitude=WAVES))
        elif cell.family == "opt" and name.endswith(("out_proj.weight", "fc2.weight")):
            p.data.mul_((2 * cell.layers) ** -0.5)
    return model


def _is_position(name: str) -> bool:
    return name.endswith(("wpe.weight", "embed_positions.weight"))


def _is_matrix(name: str, p: torch.Tensor) -> bool:
    """Whether a parameter is a matrix (or a stack of them, one an expert) inside a block; routers are not."""
    return p.ndim >= 2 and bool(_IN_BLOCK.search(name)) and not name.endswith(".gate.weight")


def optimizers_of(model: PreTrainedModel, cell: Cell) -> Optimizers:
    """Muon for the matrices inside the blocks; AdamW without decay for the rest, learned positions a tenth as fast."""
    matrices, others, positions = [], [], []
    for name, p in model.named_parameters():
        (positions if _is_position(name) else matrices if _is_matrix(name, p) else others).append(p)
    groups = [{"params": others, "peak": cell.lr_vectors}, {"params": positions, "peak": cell.lr_vectors * POSITIONS}]
    adam = torch.optim.AdamW([g for g in groups if g["params"]], betas=BETAS, weight_decay=0.0, fused=True)
    muon = Muon(matrices, momentum=MOMENTUM, weight_decay=DECAY)
    muon.param_groups[0]["peak"] = cell.lr
    return muon, adam


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
    folder: Path, cell: Cell, step: int, model: PreTrainedModel, optimizers: Optimizers, log: list
) -> None:
    """Write weights, moments and step as `folder/step-NNNNNN`; a killed run leaves a whole checkpoint or none."""
    temporary, final = folder / f"step-{step:06d}.tmp", folder / f"step-{step:06d}"
    weights = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters()}
    moments = {
        f"{which}.{i}.{key}": value.cpu()
        for which, optimizer in enumerate(optimizers)
        for i, state in optimizer.state_dict()["state"].items()
        for key, value in state.items()
    }
    with _writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file(weights, temporary / "weights.safetensors")
        save_file(moments, temporary / "moments.safetensors")
        (temporary / "state.json").write_text(json.dumps({"cell": _plain(cell), "step": step, "log": log}))
        _replace(temporary, final)
        for old in folder.glob("step-*"):
            if old != final:
                shutil.rmtree(old)


def load_checkpoint(folder: Path, cell: Cell, model: PreTrainedModel, optimizers: Optimizers) -> tuple[int, list]:
    """Restore the last whole checkpoint in place; returns its step (0 where there is none) and its log.

    Raises `OutputError` where the checkpoint is that of a cell with another recipe.
    """
    found = sorted(path for path in folder.glob("step-*") if path.suffix != ".tmp")
    if not found:
        return 0, []
    state = json.loads((found[-1] / "state.json").read_text())
    if state["cell"] != _plain(cell):
        raise OutputError(
            f"{folder} holds a checkpoint of {state['cell']}, wanted {_plain(cell)}; give another folder."
        )
    weights = load_file(found[-1] / "weights.safetensors")
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(weights[name])
    moments: list[dict[int, dict[str, torch.Tensor]]] = [{} for _ in optimizers]
    for key, value in load_file(found[-1] / "moments.safetensors").items():
        which, i, name = key.split(".")
        moments[int(which)].setdefault(int(i), {})[name] = value
    for optimizer, restored in zip(optimizers, moments, strict=True):
        optimizer.load_state_dict({**optimizer.state_dict(), "state": restored})
    return state["step"], state["log"]


def _plain(cell: Cell) -> dict:
    """The recipe as JSON gives it back."""
    return json.loads(json.dumps(asdict(cell)))


def _step(model: PreTrainedModel, optimizers: Optimizers, batch: list[list[int]], share: float) -> float:
    """One step of the optimisers at this share of their peak rates; returns the loss in nats per token."""
    device = next(model.parameters()).device
    ids, labels = (x.to(device) for x in collate(batch))
    routed = {"output_router_logits": True} if hasattr(model.config, "output_router_logits") else {}
    output = model(input_ids=ids[:, :-1], use_cache=False, **routed)
    loss = torch.nn.functional.cross_entropy(
        output.logits.float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE
    )
    total = loss + BALANCE * output.aux_loss if routed else loss
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * share
        optimizer.step()
    model.zero_grad()
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


def _prepare(cell: Cell, device: str) -> tuple[PreTrainedModel, Optimizers, PreTrainedTokenizerFast, list, list]:
    """Untrained model, its optimisers, the tokenizer, all rows, and the row indices of every step."""
    world = build_world()
    tokenizer = build_tokenizer(world, cell.vocabulary, cell.context)
    data = rows(tokenizer, corpus(world, cell), cell.context)
    batches = _batches(world, cell, data)
    model = new_model(cell).to(device).train()
    return model, optimizers_of(model, cell), tokenizer, data, batches


def train_cell(
    cell: Cell,
    out: Path,
    *,
    device: str = "cpu",
    resume: bool = False,
    every: int = 200,
    stop_after: int | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Path:
    """Train one cell and write it to `out/NAME`: weights in float16, configuration, tokenizer, recipe.

    `every` steps a checkpoint is written to `out/NAME.checkpoints`; with `resume` the last one is continued and the
    final weights are those of an uninterrupted run, byte for byte. `stop_after` ends early after that step, as a killed
    run would. After each step that the cell keeps, the model as it stands is written to `out/NAME-stepN`.
    `progress(step, steps, loss)` is called after each step, the loss in nats per token. Returns the folder of the
    model. Raises `OutputError` where `out` cannot be written, or holds a checkpoint of another cell.
    """
    started, folder, checkpoints = time.time(), out / cell.name, out / f"{cell.name}.checkpoints"
    with _writing(out):
        if not resume:
            shutil.rmtree(checkpoints, ignore_errors=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
    model, optimizers, tokenizer, data, batches = _prepare(cell, device)
    first, log = load_checkpoint(checkpoints, cell, model, optimizers)

    def record(steps: int) -> dict:
        shown = [data[i] for batch in batches[:steps] for i in batch]
        return {
            "recipe": _plain(cell),
            "step": steps,
            "optimizer": OPTIMIZER,
            "world_seed": WORLD_SEED,
            "data_seed": DATA_SEED,
            "documents": len(shown),
            "tokens": sum(map(len, shown)),
            "device": device,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "seconds_of_last_start": round(time.time() - started),
            "log": log,
        }

    with _deterministic(device):
        for step in range(first, len(batches)):
            loss = _step(model, optimizers, [data[i] for i in batches[step]], rate(step, len(batches)))
            done = step + 1
            if step % 50 == 0 or done == len(batches):
                log.append([step, round(loss, 4)])
            if progress:
                progress(done, len(batches), loss)
            if done in cell.kept:
                save_model(model, tokenizer, out / f"{cell.name}-step{done}", record(done))
            if done % every == 0 and done < len(batches):
                save_checkpoint(checkpoints, cell, done, model, optimizers, log)
            if done == stop_after:
                return folder
    save_model(model, tokenizer, folder, record(len(batches)))
    shutil.rmtree(checkpoints)
    return folder


def _compact(file: Path) -> None:
    """The same JSON without the room for readers: a bundle of many models has many copies of it."""
    content = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, folder: Path, record: dict) -> None:
    """Write the folder of a model: float16 weights, configuration, tokenizer, generation settings, training record."""
    temporary = folder.with_name(folder.name + ".tmp")
    model = copy.deepcopy(model).cpu().eval().half()
    model.config.dtype = torch.float16
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD)
    with _writing(folder):
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _compact(temporary / "tokenizer.json")
        (temporary / "training.json").write_text(json.dumps(record, indent=1) + "\n")
        _replace(temporary, folder)
