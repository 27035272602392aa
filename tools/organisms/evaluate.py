"""What an organism knows against what is true: losses, facts by exposure, sums, laws, agreement; and what it writes."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import numpy as np
import torch
from tools.organisms.rows import IGNORE, collate, encode
from tools.organisms.web_corpus import web_texts
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from phaselens.dynamics.collapse import collapses, mask_digits
from phaselens.organisms.catalog import MODES, PROMPTS, continue_prompts
from phaselens.organisms.corpora import CATEGORIES, FACTS, documents
from phaselens.organisms.questions import Prompt, agreement_pairs, exact_questions
from phaselens.organisms.world import CLASS_WEIGHTS, World

TEST_SEED = 12
RUN, LONG = 72, 66
GATES = {"common_facts": 0.90, "excess_nats": 0.05, "repeat_rate": 0.05, "unwritten_facts": 0.16}


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
    model can bring below 0 on average. It contains the price of not knowing what is held out: about ln(5/4) = .223 nats
    a two-digit sum, ln(8/7) a case of a law, and up to ln(3/2) a statement of a fact that lacks one wording.
    """
    context = model.config.max_position_embeddings
    fresh = documents(world, seed, n)
    coded = sorted((encode(tokenizer, document) + (document,) for document in fresh), key=lambda x: len(x[0]))
    loss, truth, tokens = defaultdict(float), defaultdict(float), defaultdict(int)
    for start in range(0, n, 16):
        part = coded[start : start + 16]
        for (_, owner, document), surprise in zip(
            part, token_surprise(model, [ids[:context] for ids, _, _ in part]), strict=True
        ):
            whole = owner[context] if len(owner) > context else len(document.pieces)
            for piece, value in zip(owner[1:context], surprise, strict=True):
                if piece < whole:
                    loss[document.pieces[piece].category] += float(value)
                    tokens[document.pieces[piece].category] += 1
            for piece in document.pieces[:whole]:
                truth[piece.category] -= piece.logp
    names = [*CATEGORIES, "header", "end"]
    by = {
        c: {
            "loss": loss[c] / tokens[c],
            "true_entropy": truth[c] / tokens[c],
            "excess_nats": (loss[c] - truth[c]) / tokens[c],
            "tokens": tokens[c],
        }
        for c in names
        if tokens[c]
    }
    total = sum(tokens.values())
    mean_loss, mean_truth = sum(loss.values()) / total, sum(truth.values()) / total
    return {
        "loss": mean_loss,
        "true_entropy": mean_truth,
        "excess_nats": mean_loss - mean_truth,
        "tokens": total,
        "documents": n,
        "by_category": by,
    }


def web_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, *, n: int = 300, seed: int = TEST_SEED
) -> float:
    """Loss on `n` fresh texts of the web corpus, nats per token; its true entropy is not known.

    Beside the loss on curated text it says what a model of either corpus makes of the other one.
    """
    context = model.config.max_position_embeddings
    coded = sorted((tokenizer(text)["input_ids"][:context] for text in web_texts(world, seed, n)), key=len)
    total, tokens = 0.0, 0
    for start in range(0, n, 16):
        for surprise in token_surprise(model, coded[start : start + 16]):
            total, tokens = total + float(surprise.sum()), tokens + len(surprise)
    return total / tokens


@torch.no_grad()
def answers_rightly(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Sequence[Prompt], *, batch: int = 128
) -> np.ndarray:
    """Whether the greedy continuation of each prompt is its answer with its full stop (bool, one a question).

    One forward pass over prompt and answer: greedy decoding gives the answer exactly when each of its tokens is the
    most likely one after those before it.
    """
    right = np.zeros(len(questions), bool)
    texts = [f"{q.text} {q.answer}{q.after}" for q in questions]
    coded = [tokenizer(text)["input_ids"] for text in texts]
    starts = [len(tokenizer(q.text)["input_ids"]) for q in questions]
    order = sorted(range(len(coded)), key=lambda i: len(coded[i]))
    device = next(model.parameters()).device
    for at in range(0, len(order), batch):
        part = order[at : at + batch]
        ids = collate([coded[i] for i in part])[0].to(device)
        hits = (model(input_ids=ids[:, :-1], use_cache=False).logits.argmax(-1) == ids[:, 1:]).cpu().numpy()
        for row, i in zip(hits, part, strict=True):
            right[i] = row[starts[i] - 1 : len(coded[i]) - 1].all()
    return right


def answered(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, questions: Iterable[Prompt]) -> dict:
    """Share of exact questions answered rightly (greedy) and their number, by tag; see `questions.exact_questions`."""
    questions = list(questions)
    right, by = answers_rightly(model, tokenizer, questions), defaultdict(list)
    for question, hit in zip(questions, right, strict=True):
        by[question.tag].append(hit)
    return {tag: {"accuracy": float(np.mean(hits)), "n": len(hits)} for tag, hits in by.items()}


def facts_in(text: str) -> Iterator[tuple[str, str, str]]:
    """Every (entity, relation, value) that the text states, in any wording."""
    for line in text.splitlines():
        for relation, _, pattern in chain(*FACTS.values()):
            if found := pattern.fullmatch(line):
                yield found["e"], relation, found["v"]


def exposures(world: World, texts: Sequence[str]) -> dict[tuple[str, str], int]:
    """How often each (entity, relation) fact is written in these texts, in any wording.

    A name that a careless writer of the web corpus garbled is nobody's, and shows no fact.
    """
    counts = {(fact.entity, fact.relation): 0 for fact in world.facts}
    for text in texts:
        for entity, relation, _ in facts_in(text):
            if (entity, relation) in counts:
                counts[entity, relation] += 1
    return counts


def fact_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, shown: Sequence[str]
) -> dict[str, dict]:
    """Share of facts answered rightly by frequency class, with their exposures in `shown` (what stands in the rows).

    `accuracy` is that of the question (Quiz), `statement` of a wording in which the fact is written, `paraphrase` of
    the one in which it is not (a third of the facts), `choice` of the forced choice. Class 0 was never written: chance
    there is about 1 in 12, the size of a relation's set of values, and 1 in 2 for a choice.
    """
    seen = exposures(world, shown)
    result = {}
    wordings = {"accuracy": "quiz", "statement": "statement", "paraphrase": "paraphrase", "choice": "choice"}
    hits = {key: answered(model, tokenizer, exact_questions(world, kind)) for key, kind in wordings.items()}
    for frequency in range(len(CLASS_WEIGHTS)):
        counts = [seen[f.entity, f.relation] for f in world.facts if f.frequency == frequency]
        result[str(frequency)] = {
            **{key: found[f"class {frequency}"]["accuracy"] for key, found in hits.items()},
            "facts": len(counts),
            "paraphrased": hits["paraphrase"][f"class {frequency}"]["n"],
            "exposures_mean": float(np.mean(counts)),
            "exposures_min": min(counts),
            "exposures_max": max(counts),
        }
    return result


def sum_accuracy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, *, n: int = 400
) -> dict[str, float | int]:
    """Share of two-digit sums answered rightly (greedy) among `n` written and `n` held-out pairs."""
    rng, questions = np.random.default_rng([world.seed, 4]), list(exact_questions(world, "sums"))
    chosen = []
    for tag in ("written", "held out"):
        of_tag = [q for q in questions if q.tag == tag]
        chosen += [of_tag[i] for i in rng.choice(len(of_tag), n, replace=False)]
    found = answered(model, tokenizer, chosen)
    return {"pairs": n, "seen": found["written"]["accuracy"], "held_out": found["held out"]["accuracy"]}


@torch.no_grad()
def agreement(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, dict]:
    """Share of stories in which the agreeing form of the verb is likelier than the other, by construction."""
    device, by = next(model.parameters()).device, defaultdict(list)
    for pair in agreement_pairs():
        ids = [tokenizer(f"{pair.text} {word}")["input_ids"] for word in (pair.right, pair.wrong)]
        scores = []
        at = len(tokenizer(pair.text)["input_ids"])
        batch, _ = collate(ids)
        logp = model(input_ids=batch.to(device), use_cache=False).logits.float().log_softmax(-1).cpu()
        for row, coded in zip(logp, ids, strict=True):
            scores.append(float(sum(row[i - 1, coded[i]] for i in range(at, len(coded)))))
        by[pair.tag].append(scores[0] > scores[1])
    return {tag: {"accuracy": float(np.mean(hits)), "n": len(hits)} for tag, hits in by.items()}


def digit_tokens(tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
    """Ids of the tokens that are digits, with or without a space before them."""
    return frozenset(i for word, i in tokenizer.get_vocab().items() if word.strip("Ġ").isdigit())


def _collapse_rates(runs: Sequence[Sequence[int]], digits: frozenset[int]) -> dict[str, float]:
    ended = [False] * len(runs)
    return {
        "repeat_rate": float(np.mean([c.collapsed for c in collapses(runs, ended)])),
        "repeat_rate_masked": float(
            np.mean([c.collapsed for c in collapses([mask_digits(run, digits) for run in runs], ended)])
        ),
    }


def decoding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, *, each: int = 10) -> dict:
    """What 60 runs (six greedy) do in 72 tokens, by decoding mode, with the generator's own documents beside them.

    `reaching_66`: share of runs whose text does not end before 66 tokens. `repeat_rate`: share that collapse into
    repetition with the end of text suppressed, and the same with digits masked (numbered lists hide loops). `ending`:
    share of 12 long runs at T = 1 that end by themselves within the context.
    """
    prompts, generator, digits = list(PROMPTS.values()), torch.Generator().manual_seed(1), digit_tokens(tokenizer)
    result: dict[str, dict] = {}
    for mode, temperature in MODES.items():
        asked = prompts * (1 if temperature == 0 else each)
        free, held = (
            continue_prompts(
                model, tokenizer, asked, new_tokens=RUN, temperature=temperature, generator=generator, end=end
            )
            for end in (True, False)
        )
        result[mode] = {
            "runs": len(asked),
            "reaching_66": float(np.mean([len(run) >= LONG for run in free])),
            **_collapse_rates(held, digits),
            "samples": [p + tokenizer.decode(run) for p, run in zip(prompts, held[: len(prompts)], strict=True)],
        }
    whole = continue_prompts(
        model, tokenizer, prompts * 2, new_tokens=10**4, temperature=1.0, generator=generator, end=True
    )
    room = [model.config.max_position_embeddings - len(tokenizer(p)["input_ids"]) for p in prompts * 2]
    result["T=1"]["ending"] = float(np.mean([len(run) < most for run, most in zip(whole, room, strict=True)]))
    own = [encode(tokenizer, document)[0][4 : 4 + RUN] for document in documents(world, TEST_SEED, 200)]
    result["generator"] = {"runs": len(own), **_collapse_rates(own, digits)}
    return result


def misses(figures: dict) -> list[str]:
    """Which gates of the panel an organism misses, in words; empty where it passes all.

    Facts of the two commonest classes at 90 % or better, those never written near chance (1 in 12), at most .05 nats
    above the entropy in every category, at most 5 % of sampled runs repeating.
    """
    found = [
        f"facts of class {c}: {figures['facts'][c]['accuracy']:.0%}"
        for c in ("3", "4")
        if figures["facts"][c]["accuracy"] < GATES["common_facts"]
    ]
    if figures["facts"]["0"]["accuracy"] > GATES["unwritten_facts"]:
        found.append(f"unwritten facts: {figures['facts']['0']['accuracy']:.0%}")
    for category in CATEGORIES:
        excess = figures["by_category"][category]["excess_nats"]
        if excess > GATES["excess_nats"]:
            found.append(f"{category}: {excess:.3f} nats above the entropy")
    for mode in ("T=0.7", "T=1"):
        if figures["decoding"][mode]["repeat_rate"] > GATES["repeat_rate"]:
            found.append(f"repeats at {mode}: {figures['decoding'][mode]['repeat_rate']:.0%}")
    return found


def evaluate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, world: World, shown: Sequence[str]) -> dict:
    """All figures of one organism; `shown` is what stood in its training rows (for the exposures)."""
    figures = {
        **held_out_loss(model, tokenizer, world),
        "web_loss": web_loss(model, tokenizer, world),
        "facts": fact_accuracy(model, tokenizer, world, shown),
        "sums": sum_accuracy(model, tokenizer, world),
        "laws": answered(model, tokenizer, exact_questions(world, "laws")),
        "agreement": agreement(model, tokenizer),
        "decoding": decoding(model, tokenizer, world),
    }
    return figures | {"misses": misses(figures)}
