"""Tiny models trained on processes whose optimal belief is known: bundled weights, and how they were made."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tools.organisms.muon import Muon
from tools.organisms.training import rate
from tools.processes import PROCESSES, Process
from transformers import GPT2Config, GPT2LMHeadModel

from phaselens.errors import unknown_name
from phaselens.models import Model, load, run

PROCESS_WEIGHTS = Path(__file__).parent / "process_weights"
MEASURED = 4000


@dataclass(frozen=True)
class Recipe:
    """What a process model is and how it is trained: GPT-2, learned positions, fresh sequences every step."""

    process: str
    layers: int
    width: int
    steps: int
    heads: int = 4
    context: int = 12
    batch: int = 128
    lr: float = 0.02
    lr_vectors: float = 3e-3
    seed: int = 1


RECIPES = {"mess3": Recipe("mess3", 3, 32, 800), "rrxor": Recipe("rrxor", 4, 48, 1500)}


def process_of(name: str) -> Process:
    """The process of this name. Raises UnknownNameError."""
    if name not in PROCESSES:
        raise unknown_name("process", name, PROCESSES)
    return PROCESSES[name]()


def process_model(name: str, *, device: str = "cpu") -> Model:
    """The bundled model of a process, through the same loading and proof as every other. Raises UnknownNameError."""
    process_of(name)
    return load(PROCESS_WEIGHTS / name, device=device)


def new_process_model(recipe: Recipe) -> GPT2LMHeadModel:
    """The untrained network of a recipe; the global generator of torch is left as it was."""
    config = GPT2Config(
        vocab_size=process_of(recipe.process).n_tokens,
        n_positions=recipe.context,
        n_embd=recipe.width,
        n_layer=recipe.layers,
        n_head=recipe.heads,
        n_inner=2 * recipe.width,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return GPT2LMHeadModel(config)


def train_process_model(
    recipe: Recipe, out: Path, *, progress: Callable[[int, float], None] = lambda step, loss: None
) -> dict:
    """Train one recipe, write `out/PROCESS` (float16 weights, configuration, record) and return the record.

    Muon for the matrices inside the blocks, AdamW for the rest; `progress(step, loss)` in nats per token. The excess
    of the record is that of the weights as written.
    """
    process = process_of(recipe.process)
    network = new_process_model(recipe).train()
    matrices = [p for name, p in network.named_parameters() if p.ndim == 2 and ".h." in name]
    inside = {id(p) for p in matrices}
    others = [p for p in network.parameters() if id(p) not in inside]
    optimizers = (Muon(matrices, lr=recipe.lr), torch.optim.AdamW(others, lr=recipe.lr_vectors, weight_decay=0.0))
    peaks = [group["lr"] for o in optimizers for group in o.param_groups]
    generator = np.random.default_rng([recipe.seed, 1])
    for step in range(recipe.steps):
        ids = torch.as_tensor(process.sample(recipe.batch, recipe.context, generator))
        logits = network(input_ids=ids).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate(step, recipe.steps)
            optimizer.step()
        network.zero_grad()
        progress(step, float(loss.detach()))
    return _write(network.eval(), recipe, out / recipe.process)


def _write(network: GPT2LMHeadModel, recipe: Recipe, folder: Path) -> dict:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: p.detach().half().contiguous() for name, p in network.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    network.config.architectures = ["GPT2LMHeadModel"]
    (folder / "config.json").write_text(network.config.to_json_string())
    record = {"recipe": asdict(recipe), "parameters": sum(p.numel() for p in network.parameters())}
    model = load(folder)
    record |= excess(model, process_of(recipe.process))
    (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")
    return record


def excess(model: Model, process: Process, *, seed: int = 7) -> dict[str, object]:
    """How far the model is from the ideal reader (nats per token, all positions but the first) on new sequences.

    `excess_nats` is the mean divergence of the model's next-token distribution from the exact one, over all positions
    and by position.
    """
    tokens = process.sample(MEASURED, int(model.context or 12), np.random.default_rng(seed))
    exact = process.next_token(process.beliefs(tokens))[:, :-1]
    with torch.no_grad():
        logits = run(model.network, torch.as_tensor(tokens, device=model.device)).logits.float()
    said = torch.log_softmax(logits, dim=-1).double().cpu().numpy()[:, :-1]
    apart = np.where(exact > 0, exact * (np.log(np.where(exact > 0, exact, 1)) - said), 0).sum(axis=-1)
    return {
        "entropy_nats": float(-process.log_probability(tokens)[:, 1:].mean()),
        "excess_nats": float(apart.mean()),
        "excess_by_position": [float(f"{x:.3g}") for x in apart.mean(axis=0)],
    }
