"""Questions that the organisms' world answers: labels of words and sentences, and what the model itself will do.

No label comes from a lens: those that need the model take its output (what it chooses, whether it is right, whether its
next token survives a paraphrase).
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from phaselens.batteries import grade
from phaselens.capture import Sampling, generate
from phaselens.errors import InputError, unknown_name
from phaselens.models import Model, encoder, require_tokenizer, run
from phaselens.organisms import ForcedChoice, ProbeSentence, WorldBattery, world_battery
from phaselens.readings.examples import Example, Examples, place
from phaselens.readings.place_states import capture_states

SIGNS = ("PUNCT", "SYM")
ANSWER_TOKENS = 16
AT_ONCE = 64


@dataclass(frozen=True)
class ReadingTask:
    """One question: the functional family it stands for, what is asked, and who gives the labels.

    `labels_of` is "world" (the generator knows) or "model" (its own output). `build(model, battery, generator)` gives
    the examples.
    """

    name: str
    function: str
    summary: str
    labels_of: str
    build: Callable[[Model, WorldBattery, np.random.Generator], Examples]


def _words(label: Callable[[Any], str | None]) -> Callable[..., Examples]:
    """Words of the probe sentences with this label; the rare classes are drawn first where a unit has several."""

    def build(model: Model, battery: WorldBattery, generator: np.random.Generator) -> Examples:
        items = []
        for s in battery.probes:
            for w in s.item.words:
                said = None if w.pos in SIGNS else label(w)
                if said is not None:
                    place = (s.offset + w.start, s.offset + w.end)
                    items.append(Example(s.text, said, s.unit, place, w.text.lower()))
        return _even(Examples("", tuple(items)), generator)

    return build


def _even(examples: Examples, generator: np.random.Generator) -> Examples:
    """One word per unit; a class keeps at most twice as many as the mean class has."""
    counts = Counter(item.label for item in examples.items)
    rank = np.array([counts[item.label] for item in examples.items]) * generator.random(len(examples))
    found: dict[str, int] = {}
    for i in np.argsort(rank, kind="stable"):
        found.setdefault(examples.items[int(i)].group, int(i))
    rows = generator.permutation(np.array(sorted(found.values())))
    labels = np.array([examples.items[int(i)].label for i in rows])
    most = 2 * len(rows) // len(np.unique(labels))
    kept = np.concatenate([rows[labels == name][:most] for name in np.unique(labels)])
    return examples.keep(np.sort(kept))


def _sentences(label: Callable[[ProbeSentence], str | None]) -> Callable[..., Examples]:
    """Probe sentences read at their last token, in groups of what they are about; types are their templates."""

    def build(model: Model, battery: WorldBattery, generator: np.random.Generator) -> Examples:
        items = [(s, label(s)) for s in battery.probes]
        return Examples(
            "", tuple(Example(s.text, said, s.unit, kind=s.item.template) for s, said in items if said is not None)
        )

    return build


def _chosen(model: Model, choices: list[ForcedChoice]) -> np.ndarray:
    """Which alternative the model finds likelier (sum of its log-probabilities after the text): int [choice]."""
    encode = encoder(model)
    rows, starts = [], []
    for choice in choices:
        for alternative in choice.alternatives:
            ids, head = encode(f"{choice.text} {alternative}"), len(encode(choice.text))
            rows.append(ids)
            starts.append(head)
    score = np.empty(len(rows))
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at : at + AT_ONCE]
        block = torch.zeros(len(part), max(map(len, part)), dtype=torch.long)
        for i, row in enumerate(part):
            block[i, : len(row)] = torch.as_tensor(row)
        lengths = torch.as_tensor([len(row) for row in part])
        mask = (torch.arange(block.shape[1]) < lengths[:, None]).long()
        logits = run(model.network, block.to(model.device), mask=mask.to(model.device)).logits.float()
        chance = torch.log_softmax(logits[:, :-1], -1).gather(-1, block[:, 1:, None].to(model.device))[..., 0].cpu()
        place = torch.arange(1, block.shape[1])
        counted = (place >= torch.as_tensor(starts[at : at + AT_ONCE])[:, None]) & (place < lengths[:, None])
        score[at : at + AT_ONCE] = (chance * counted).sum(-1).numpy()
    ends = np.cumsum([len(choice.alternatives) for choice in choices])
    return np.array([int(part.argmax()) for part in np.split(score, ends[:-1])])


def _choices(right: bool) -> Callable[..., Examples]:
    """Whether the alternative that the text names first is chosen (or right); facts only, whose text names both."""

    def build(model: Model, battery: WorldBattery, generator: np.random.Generator) -> Examples:
        choices = [c for c in battery.choices if c.category == "factual"]
        picked = [c.right for c in choices] if right else _chosen(model, choices).tolist()
        words = ("first", "second")
        return Examples(
            "",
            tuple(
                Example(c.text, words[int(i)], c.id, kind=c.answer if right else c.alternatives[int(i)])
                for c, i in zip(choices, picked, strict=True)
            ),
        )

    return build


def _stabilised(model: Model, battery: WorldBattery, generator: np.random.Generator) -> Examples:
    """Whether the model's next token stays the same when the fact is asked in other words."""
    pairs = battery.paraphrases
    tops = []
    for texts in ([p.first.text for p in pairs], [p.second.text for p in pairs]):
        _, places = place(model, Examples("", tuple(Example(text, None, "") for text in texts)))
        tops.append(capture_states(model, places, layers=(model.n_layers,)).argmax)
    same = tops[0] == tops[1]
    relation = [p.id.rsplit("-", 1)[-1] for p in pairs]
    return Examples(
        "",
        tuple(
            Example(p.first.text, "same" if s else "other", p.id, kind=kind)
            for p, s, kind in zip(pairs, same, relation, strict=True)
        ),
    )


def _correct(model: Model, battery: WorldBattery, generator: np.random.Generator) -> Examples:
    """Whether the greedy answer to a question will be right."""
    questions = battery.questions
    greedy = generate(model, [q.text for q in questions], max_new_tokens=ANSWER_TOKENS, sampling=Sampling(0.0))
    decode = require_tokenizer(model).decode
    items = []
    for q, made in zip(questions, greedy, strict=True):
        answers = tuple(a for a in (q.answer, *q.aliases) if a)
        right = grade(decode(list(made.completion_ids)), answers, lenient=False).right
        items.append(Example(q.text, "right" if right else "wrong", q.unit, kind=f"{q.category}/{q.tag}"))
    return Examples("", tuple(items))


def _truth(s: ProbeSentence) -> str | None:
    return None if s.item.truth is None else str(s.item.truth).lower()


def _frequency(s: ProbeSentence) -> str | None:
    return None if s.item.frequency is None else f"class {s.item.frequency}"


TASKS: tuple[ReadingTask, ...] = (
    ReadingTask("pos", "syntax-like", "part of speech of a word", "world", _words(lambda w: w.pos)),
    ReadingTask(
        "depth", "syntax-like", "heads above a word (3: three or more)", "world", _words(lambda w: str(min(w.depth, 3)))
    ),
    ReadingTask(
        "number",
        "syntax-like",
        "singular or plural",
        "world",
        _words(lambda w: None if w.number == "none" else w.number),
    ),
    ReadingTask(
        "choice-chosen", "decision-like", "which of two alternatives the model will choose", "model", _choices(False)
    ),
    ReadingTask("choice-correct", "decision-like", "which of two alternatives is right", "world", _choices(True)),
    ReadingTask("stabilisation", "stabilisation", "whether the next token survives a paraphrase", "model", _stabilised),
    ReadingTask("truth", "further", "whether a statement about the world is true", "world", _sentences(_truth)),
    ReadingTask("correctness", "further", "whether the answer will be right", "model", _correct),
    ReadingTask(
        "frequency", "further", "how often the fact is written in the training text", "world", _sentences(_frequency)
    ),
)


def task_named(name: str) -> ReadingTask:
    """The task of this name. Raises UnknownNameError."""
    known = {task.name: task for task in TASKS}
    if name not in known:
        raise unknown_name("task", name, known)
    return known[name]


def examples_of(
    task: ReadingTask, model: Model, *, seed: int = 0, most: int = 2000, battery: WorldBattery | None = None
) -> Examples:
    """The examples of a task for a model of the world, at most `most` of them, groups kept whole.

    Raises InputError where the model's own answers leave one class only.
    """
    generator = np.random.default_rng([seed, *task.name.encode()])
    found = replace(task.build(model, battery or world_battery(), generator), name=task.name)
    if len({item.label for item in found.items}) < 2:
        only = found.items[0].label
        raise InputError(f"{task.name}: every label is {only!r} for {model.name}; there is nothing to tell apart.")
    if len(found) <= most:
        return found
    names, member = np.unique(found.groups, return_inverse=True)
    order = generator.permutation(len(names))
    kept = order[np.cumsum(np.bincount(member)[order]) <= most]
    return found.keep(np.flatnonzero(np.isin(member, kept)))
