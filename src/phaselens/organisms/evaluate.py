"""What an organism knows, against what is true: loss against the true entropy, facts by exposure, sums, samples."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from phaselens.organisms.corpora import CATEGORIES, CONTEXT, IGNORE, collate, documents, encode, exposures
from phaselens.organisms.world import CLASS_WEIGHTS, RELATIONS, World

TEST_SEED = 12
PROMPTS = {
    "factual": "Notes\n-",
    "arithmetic": "Sums\n-",
    "science": "Laws\n-",
    "story": "Story\nOnce there was",
    "format": "Records\n",
    "ambiguous": "Words\n-",
}


@torch.no_grad()
def token_surprise(model: PreTrainedModel, batch: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """Surprise in nats of every token but the first of each row."""
    device = next(model.parameters()).device
    ids, labels = (x.to(device) for x in collate(batch))
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
    flat = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORE, reduction="none"
    )
    losses = flat.view(len(ids), -1).cpu().double().numpy()
    return [losses[i, : len(row) - 1] for i, row in enumerate(batch)]


def held_out_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, *, n: int = 300, seed: int = TEST_SEED
) -> dict:
    """Loss and true entropy on `n` fresh documents, in nats per token, over all tokens and by category.

    Both are means over the same tokens, of complete pieces (a document beyond the context loses its last ones):
    `true_entropy` is minus the log-probability of the generator's own choices, `excess_nats` the difference, which no
    model can bring below 0 on average. For arithmetic it contains the price of not knowing which pairs are held out,
    about ln(5/4) = .223 nats a sum.
    """
    fresh = documents(world, seed, n)
    coded = sorted((encode(tokenizer, document) + (document,) for document in fresh), key=lambda x: len(x[0]))
    loss, truth, tokens = defaultdict(float), defaultdict(float), defaultdict(int)
    for start in range(0, n, 16):
        part = coded[start : start + 16]
        for (_, owner, document), surprise in zip(
            part, token_surprise(model, [ids[:CONTEXT] for ids, _, _ in part]), strict=True
        ):
            whole = owner[CONTEXT] if len(owner) > CONTEXT else len(document.pieces)
            for piece, value in zip(owner[1:CONTEXT], surprise, strict=True):
                if piece < whole:
                    loss[document.pieces[piece].category] += float(value)
                    tokens[document.pieces[piece].category] += 1
            for piece in document.pieces[:whole]:
                truth[piece.category] -= piece.logp
    names = [*CATEGORIES, "header", "end"]
    by = {
        c: {"loss": loss[c] / tokens[c], "true_entropy": truth[c] / tokens[c],
            "excess_nats": (loss[c] - truth[c]) / tokens[c], "tokens": tokens[c]}
        for c in names if tokens[c]
    }  # fmt: skip
    total = sum(tokens.values())
    mean_loss, mean_truth = sum(loss.values()) / total, sum(truth.values()) / total
    return {
        "loss": mean_loss, "true_entropy": mean_truth, "excess_nats": mean_loss - mean_truth, "tokens": total,
        "documents": n, "by_category": by,
    }  # fmt: skip


@torch.no_grad()
def continue_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[str], *, new_tokens: int,
    temperature: float = 0.0, generator: torch.Generator | None = None, end: bool = True,
) -> list[list[int]]:  # fmt: skip
    """New token ids for each prompt: greedy at temperature 0, else sampled from `generator`; no cache, so any family.

    Prompts of equal length run together. A run stops at the end of text, which is not returned; with `end=False` the
    end of text is suppressed. At most the model's context is used.
    """
    device = next(model.parameters()).device
    coded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    result: list[list[int]] = [[] for _ in prompts]
    for length in sorted({len(ids) for ids in coded}):
        members = [i for i, ids in enumerate(coded) if len(ids) == length]
        ids = torch.tensor([coded[i] for i in members], device=device)
        for _ in range(min(new_tokens, model.config.max_position_embeddings - length)):
            logits = model(input_ids=ids, use_cache=False).logits[:, -1].float()
            logits[:, [tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id]] = -torch.inf
            if not end:
                logits[:, tokenizer.eos_token_id] = -torch.inf
            if temperature > 0:
                chosen = torch.multinomial((logits / temperature).softmax(-1).cpu(), 1, generator=generator).to(device)
            else:
                chosen = logits.argmax(-1, keepdim=True)
            ids = torch.cat([ids, chosen], dim=1)
            if bool((ids[:, length:] == tokenizer.eos_token_id).any(1).all()):
                break
        for i, row in zip(members, ids[:, length:].tolist(), strict=True):
            result[i] = row[: row.index(tokenizer.eos_token_id)] if tokenizer.eos_token_id in row else row
    return result


def _right(model, tokenizer, prompts: Sequence[str], answers: Sequence[str], new_tokens: int) -> list[bool]:
    """Whether the greedy continuation of each prompt starts with its answer and a full stop."""
    texts: list[str] = []
    for start in range(0, len(prompts), 128):
        runs = continue_prompts(model, tokenizer, prompts[start : start + 128], new_tokens=new_tokens)
        texts += [tokenizer.decode(run) for run in runs]
    return [text.strip().startswith(f"{answer}.") for text, answer in zip(texts, answers, strict=True)]


def fact_accuracy(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    world: World,
    texts: Sequence[str],
    *,
    per_class: int = 96,
) -> dict[str, dict]:
    """Share of facts answered rightly (greedy, quiz wording) by frequency class, with their exposures in `texts`.

    Class 0 was never written; the chance there is about 1 in 12, the size of a relation's set of values.
    """
    seen = exposures(world, texts)
    result = {}
    for frequency in range(len(CLASS_WEIGHTS)):
        facts = [fact for fact in world.facts if fact.frequency == frequency][:per_class]
        prompts = [f"Quiz\nQ: {RELATIONS[fact.relation][2].format(e=fact.entity)} A:" for fact in facts]
        right = _right(model, tokenizer, prompts, [fact.value for fact in facts], 6)
        counts = [seen[fact.entity, fact.relation] for fact in facts]
        result[str(frequency)] = {
            "accuracy": float(np.mean(right)), "facts": len(facts), "exposures_mean": float(np.mean(counts)),
            "exposures_min": min(counts), "exposures_max": max(counts),
        }  # fmt: skip
    return result


def sum_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, *, n: int = 200
) -> dict[str, float | int]:
    """Share of sums answered rightly (greedy) among `n` written and `n` held-out pairs."""
    rng = np.random.default_rng([world.seed, 4])
    result: dict[str, float | int] = {"pairs": n}
    for name, pairs in (("seen", list(world.sums)), ("held_out", sorted(world.held_out_sums))):
        chosen = [pairs[i] for i in rng.choice(len(pairs), n, replace=False)]
        prompts = [f"Sums\n- {a} + {b} =" for a, b in chosen]
        result[name] = float(np.mean(_right(model, tokenizer, prompts, [str(a + b) for a, b in chosen], 4)))
    return result


def repeats(ids: Sequence[int], last: int = 64, longest: int = 20) -> bool:
    """Whether the last `last` tokens collapse: a cycle of at most `longest` covers half, or few distinct 3-grams."""
    tail = list(ids[-last:])
    if len(tail) < 8:
        return False
    for period in range(1, longest + 1):
        run = best = 0
        for i in range(period, len(tail)):
            run = run + 1 if tail[i] == tail[i - period] else 0
            best = max(best, run)
        if best and best + period >= max(len(tail) // 2, 2 * period):
            return True
    return len({tuple(tail[i : i + 3]) for i in range(len(tail) - 2)}) < 0.2 * (len(tail) - 2)


def repeat_rate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, each: int = 4) -> dict[str, dict]:
    """Share of runs of 72 tokens (end of text suppressed) that collapse, by decoding mode, and samples of each."""
    prompts, generator = list(PROMPTS.values()), torch.Generator().manual_seed(1)
    result = {}
    for mode, temperature, copies in (("greedy", 0.0, 1), ("T=0.7", 0.7, each), ("T=1", 1.0, each)):
        runs = continue_prompts(
            model, tokenizer, prompts * copies, new_tokens=72, temperature=temperature, generator=generator, end=False
        )
        result[mode] = {
            "repeat_rate": float(np.mean([repeats(run) for run in runs])), "runs": len(runs),
            "samples": [p + tokenizer.decode(run) for p, run in zip(prompts, runs[: len(prompts)], strict=True)],
        }  # fmt: skip
    return result


def evaluate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, texts: Sequence[str]) -> dict:
    """All figures of one organism; `texts` are the documents it was trained on (for the exposures)."""
    return {
        **held_out_loss(model, tokenizer, world),
        "facts": fact_accuracy(model, tokenizer, world, texts),
        "sums": sum_accuracy(model, tokenizer, world),
        "decoding": repeat_rate(model, tokenizer),
    }
