"""What others call: list the bundled organisms, find one, train one, sample from one."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from phaselens.errors import InputError, unknown_name
from phaselens.organisms.evaluate import MODES, PROMPTS, continue_prompts, evaluate
from phaselens.organisms.panel import DEFAULT, WEIGHTS, Cell, cell_of, cells
from phaselens.organisms.tokens import load_tokenizer
from phaselens.organisms.training import shown, train_cell
from phaselens.organisms.world import build_world


def names(*, checkpoints: bool = False) -> list[str]:
    """Names of the organisms whose weights are in the package, in the order of the panel's table.

    With `checkpoints` also those of the training checkpoints ("llama-512-step450"), each before its model.
    """
    table = [cell.name for cell in cells()]
    found = {folder.name: _step_of(folder.name) for folder in WEIGHTS.iterdir() if _whole(folder)}
    kept = [name for name, (_, step) in found.items() if checkpoints or step is None]
    last = 10**9  # a model stands after its checkpoints
    return sorted(kept, key=lambda name: (table.index(found[name][0]), found[name][1] or last))


def _whole(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file()


def _step_of(name: str) -> tuple[str, int | None]:
    """The cell of a folder's name, and the step where it is a checkpoint."""
    cell, mark, step = name.rpartition("-step")
    return (cell, int(step)) if mark else (name, None)


def twin_of(name: str) -> str | None:
    """The organism of which this one is no independent case: of another seed its first, of a checkpoint its model.

    None: it stands for itself.
    """
    whole, step = _step_of(name)
    if step is not None:
        return whole
    (own,) = cells([name])
    alike = (c.name for c in cells() if replace(own, name=c.name, seed=c.seed, kept=c.kept) == c)
    first = next(alike)
    return None if first == name else first


def default_names() -> list[str]:
    """The sub-panel of the demo: one organism a family, same corpus, vocabulary and width, as far as bundled."""
    bundled = names()
    return [name for name in DEFAULT if name in bundled]


def path(name: str) -> Path:
    """The folder of a bundled organism, for `AutoModelForCausalLM.from_pretrained`.

    Raises `UnknownNameError` where there is none of this name.
    """
    known = names(checkpoints=True)
    if name not in known:
        raise unknown_name("organism", name, known)
    return WEIGHTS / name


def list_models(*, checkpoints: bool = True) -> list[dict]:
    """One record per bundled organism, as measured after its training; see `docs/organisms.md`.

    Losses, entropies and excesses are in nats per token, accuracies and rates are shares. `facts` maps the frequency
    class ("0" to "4") to accuracies and exposures, `excess_nats` has "overall" and one entry per category, `misses`
    says in words which gate of the panel the organism does not pass.
    """
    return [_entry(WEIGHTS / name) for name in names(checkpoints=checkpoints)]


def _entry(folder: Path) -> dict:
    record = json.loads((folder / "training.json").read_text())
    recipe, figures = record["recipe"], record["figures"]
    return {
        "name": folder.name, "family": recipe["family"], "corpus": recipe["corpus"],
        "vocabulary": recipe["vocabulary"], "layers": recipe["layers"], "width": recipe["width"],
        "parameters": record["parameters"], "capped": recipe["capped"], "tied": recipe["tied"],
        "seed": recipe["seed"], "step": record["step"], "checkpoint": _step_of(folder.name)[1] is not None,
        "tokens": record["tokens"], "loss": figures["loss"], "true_entropy": figures["true_entropy"],
        "excess_nats": {"overall": figures["excess_nats"]}
        | {category: row["excess_nats"] for category, row in figures["by_category"].items()},
        "facts": figures["facts"], "sums": figures["sums"],
        "laws": {tag: row["accuracy"] for tag, row in figures["laws"].items()},
        "agreement": {tag: row["accuracy"] for tag, row in figures["agreement"].items()},
        "repeat_rate": {mode: row["repeat_rate"] for mode, row in figures["decoding"].items()},
        "repeat_rate_masked": {mode: row["repeat_rate_masked"] for mode, row in figures["decoding"].items()},
        "reaching_66": {mode: figures["decoding"][mode]["reaching_66"] for mode in MODES},
        "ending": figures["decoding"]["T=1"]["ending"], "misses": figures["misses"], "path": str(folder),
    }  # fmt: skip


def _load(folder: Path, device: str) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.to(device).eval()


def measure(folder: Path, *, device: str = "cpu") -> dict:
    """Measure a trained organism and write the figures into its `training.json`; returns them.

    The weights measured are those on disk: float16, computed with in float32.
    """
    file = folder / "training.json"
    record = json.loads(file.read_text())
    cell, world, started = cell_of(record["recipe"]), build_world(record["world_seed"]), time.time()
    model, tokenizer = _load(folder, device), load_tokenizer(folder)
    figures = evaluate(model, tokenizer, world, shown(world, cell, tokenizer, record["step"]))
    record |= {"parameters": sum(p.numel() for p in model.parameters()), "figures": figures}
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(record, indent=1) + "\n")
    temporary.replace(file)
    return figures | {"seconds": time.time() - started}


def _finished(folder: Path, cell: Cell) -> bool:
    """Whether the folder holds this very cell, trained to its end."""
    file = folder / "training.json"
    return file.is_file() and cell_of(json.loads(file.read_text())["recipe"]) == cell


def train(
    names: Sequence[str] = (), *, out: Path, device: str = "cpu", seed: int | None = None, steps: int | None = None,
    resume: bool = False, progress: Callable[[str, int, int, float], None] | None = None,
) -> list[Path]:  # fmt: skip
    """Train the named organisms (all where none is named), one after the other, measure them, and return their folders,
    those of the checkpoints they keep among them.

    `seed` (of the initial weights; the data stay the same) and `steps` replace those of the table. With `resume`,
    finished organisms are kept and the last checkpoint of an unfinished one is continued.
    `progress(name, step, steps, loss)` is called after each step. Raises `UnknownNameError` for a name that is not in
    the table, `InputError` for steps below 1, `OutputError` where `out` cannot be written.
    """
    if steps is not None and steps < 1:
        raise InputError(f"got steps={steps}; wanted at least 1.")
    changes = {key: value for key, value in (("seed", seed), ("steps", steps)) if value is not None}
    if steps is not None:
        changes["kept"] = ()  # the table's steps are shares of its own length
    folders = []
    for cell in (Cell(**{**vars(cell), **changes}) for cell in cells(names)):
        folder = Path(out) / cell.name
        if not (resume and _finished(folder, cell)):
            told = (lambda *state, name=cell.name: progress(name, *state)) if progress else None
            folder = train_cell(cell, Path(out), device=device, resume=resume, progress=told)
        kept = [folder.with_name(f"{cell.name}-step{step}") for step in cell.kept]
        for made in (*kept, folder):
            if "figures" not in json.loads((made / "training.json").read_text()):
                measure(made, device=device)
        folders += [*kept, folder]
    return folders


def samples(
    name: str, *, prompts: Sequence[str] | None = None, new_tokens: int = 72, temperature: float = 0.7, seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, str]]:  # fmt: skip
    """Continue the prompts (one per category where none is given) with a bundled organism; end of text ends a run.

    Returns a list of {prompt, continuation}; temperature 0 is greedy. Raises `UnknownNameError`.
    """
    folder = path(name)
    model, tokenizer = _load(folder, device), load_tokenizer(folder)
    wanted = list(prompts) if prompts is not None else list(PROMPTS.values())
    generator = torch.Generator().manual_seed(seed)
    runs = continue_prompts(
        model, tokenizer, wanted, new_tokens=new_tokens, temperature=temperature, generator=generator
    )
    return [{"prompt": p, "continuation": tokenizer.decode(run)} for p, run in zip(wanted, runs, strict=True)]
