"""What others call: list the bundled organisms, find one, sample from one."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from phaselens.errors import unknown_name
from phaselens.organisms.panel import DEFAULT, WEIGHTS, cells
from phaselens.organisms.tokens import load_tokenizer

PROMPTS = {
    "factual": "Notes\n-",
    "arithmetic": "Sums\n-",
    "science": "Laws\n-",
    "story": "Story\nOnce there was",
    "format": "Records\n",
    "ambiguous": "Words\n-",
}
MODES = {"greedy": 0.0, "T=0.7": 0.7, "T=1": 1.0}


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
        "name": folder.name,
        "family": recipe["family"],
        "corpus": recipe["corpus"],
        "vocabulary": recipe["vocabulary"],
        "layers": recipe["layers"],
        "width": recipe["width"],
        "parameters": record["parameters"],
        "capped": recipe["capped"],
        "tied": recipe["tied"],
        "seed": recipe["seed"],
        "step": record["step"],
        "checkpoint": _step_of(folder.name)[1] is not None,
        "tokens": record["tokens"],
        "loss": figures["loss"],
        "true_entropy": figures["true_entropy"],
        "excess_nats": {"overall": figures["excess_nats"]}
        | {category: row["excess_nats"] for category, row in figures["by_category"].items()},
        "facts": figures["facts"],
        "sums": figures["sums"],
        "laws": {tag: row["accuracy"] for tag, row in figures["laws"].items()},
        "agreement": {tag: row["accuracy"] for tag, row in figures["agreement"].items()},
        "repeat_rate": {mode: row["repeat_rate"] for mode, row in figures["decoding"].items()},
        "repeat_rate_masked": {mode: row["repeat_rate_masked"] for mode, row in figures["decoding"].items()},
        "reaching_66": {mode: figures["decoding"][mode]["reaching_66"] for mode in MODES},
        "ending": figures["decoding"]["T=1"]["ending"],
        "misses": figures["misses"],
        "path": str(folder),
    }


def load_model(folder: Path, device: str) -> PreTrainedModel:
    """The model in a folder, computing in float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    return model.to(device).eval()


@torch.no_grad()
def continue_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    new_tokens: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    end: bool = True,
) -> list[list[int]]:
    """New token ids for each prompt: greedy at temperature 0, else sampled from `generator`.

    Prompts of equal length run together. A run stops at the end of text, which is not returned; with `end=False` the
    end of text is suppressed. At most the model's context is used.
    """
    device = next(model.parameters()).device
    coded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    never = [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id]
    never += [] if end else [tokenizer.eos_token_id]
    result: list[list[int]] = [[] for _ in prompts]
    for length in sorted({len(ids) for ids in coded}):
        members = [i for i, ids in enumerate(coded) if len(ids) == length]
        new, cache, made = torch.tensor([coded[i] for i in members], device=device), None, []
        for _ in range(min(new_tokens, model.config.max_position_embeddings - length)):
            output = model(input_ids=new, past_key_values=cache, use_cache=True)
            logits, cache = output.logits[:, -1].float(), output.past_key_values
            logits[:, never] = -torch.inf
            if temperature > 0:
                new = torch.multinomial((logits / temperature).softmax(-1).cpu(), 1, generator=generator).to(device)
            else:
                new = logits.argmax(-1, keepdim=True)
            made.append(new)
            if bool((torch.cat(made, dim=1) == tokenizer.eos_token_id).any(1).all()):
                break
        for i, row in zip(members, torch.cat(made, dim=1).tolist(), strict=True):
            result[i] = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
    return result


def samples(
    name: str,
    *,
    prompts: Sequence[str] | None = None,
    new_tokens: int = 72,
    temperature: float = 0.7,
    seed: int = 0,
    device: str = "cpu",
) -> list[dict[str, str]]:
    """Continue the prompts (one per category where none is given) with a bundled organism; end of text ends a run.

    Returns a list of {prompt, continuation}; temperature 0 is greedy. Raises `UnknownNameError`.
    """
    folder = path(name)
    model, tokenizer = load_model(folder, device), load_tokenizer(folder)
    wanted = list(prompts) if prompts is not None else list(PROMPTS.values())
    generator = torch.Generator().manual_seed(seed)
    runs = continue_prompts(
        model, tokenizer, wanted, new_tokens=new_tokens, temperature=temperature, generator=generator
    )
    return [{"prompt": p, "continuation": tokenizer.decode(run)} for p, run in zip(wanted, runs, strict=True)]
