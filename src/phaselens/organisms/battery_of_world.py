"""The battery of the world: graded questions, minimal pairs, forced choices, paraphrases and labelled probe sentences.

The unit of resampling is the fact, sum, matter and process, or ambiguous word asked about, not the wording:
`Prompt.unit` names it.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from phaselens.batteries import ForcedChoice, MinimalPair, by_turns
from phaselens.errors import InputError
from phaselens.organisms.corpora import documents
from phaselens.organisms.item_labels import LabelledItem, label
from phaselens.organisms.questions import (
    PROMPT_CATEGORIES,
    Prompt,
    agreement_pairs,
    either,
    exact_questions,
    minimal_pairs,
    other_value,
    prompts,
    stated,
)
from phaselens.organisms.world import MATTER, OBJECTS, PROCESSES, RELATIONS, Fact, World, build_world

GRADED = ("quiz", "statement", "paraphrase", "choice", "sums", "laws", "formats", "readings")
PER_CATEGORY, QUESTIONS, SUMS = 64, 1200, 150
# how many drawn items of each kind stand among the probe sentences, beside the true and false ones
DRAWN = {"Story": 500, "Words": 300, "Records": 100, "Count": 100, "Brackets": 100, "Code": 100}
DRAW_SEED = 31


def graded(world: World, n: int, rng: np.random.Generator, *, calibration: bool = False) -> list[Prompt]:
    """`n` questions with one right answer, spread evenly over categories and, within each, over tags.

    Categories are factual (four wordings), arithmetic, science, format and ambiguous (sentences with one reading). The
    calibration split is that of `prompts`: a quarter, by a checksum of what is asked about. Small categories give all
    they have. Raises `InputError` where the split has fewer than `n` questions.
    """
    everything = (q for kind in GRADED for q in exact_questions(world, kind))
    split = [q for q in everything if q.calibrates == calibration]
    if not 0 <= n <= len(split):
        raise InputError(f"got n={n} graded questions; wanted 0 to {len(split)}, which is all of the split.")
    shuffled = [split[i] for i in rng.permutation(len(split))]
    return by_turns(by_turns(shuffled, "tag"), "category")[:n]


@dataclass(frozen=True)
class ParaphrasePair:
    """One fact asked in two wordings, both with the same answer.

    `first` is a wording in which the fact is written; in that of `second` it is never written where `unheard` is true.
    For facts of class 0, which are never written, it says what their relation's draw would have left out.
    """

    id: str
    first: Prompt
    second: Prompt
    unheard: bool


def paraphrase_pairs(world: World) -> list[ParaphrasePair]:
    """A pair for each of the 480 facts; two in nine have a second wording that no training text contains."""
    pairs = []
    for fact in world.facts:
        unit, wordings = f"factual/{fact.entity}-{fact.relation}", RELATIONS[fact.relation][1]
        other = fact.statements[1] if fact.held_out is None else wordings[fact.held_out]
        tag = f"class {fact.frequency}"
        first, second = (
            Prompt(f"{unit}-{name}", "factual", stated(fact, wording), fact.value, tag, ".", unit=unit)
            for name, wording in (("statement", fact.statements[0]), ("paraphrase", other))
        )
        pairs.append(ParaphrasePair(unit, first, second, fact.unheard is not None))
    return pairs


def _fact_choices(world: World) -> Iterator[tuple[str, str, str, str, str, str]]:
    seen: Counter[int] = Counter()
    for fact in world.facts:
        id_, text = f"{fact.entity}-{fact.relation}", either(fact, other := other_value(fact), seen[fact.frequency])
        seen[fact.frequency] += 1
        yield id_, text, f"{fact.value}.", f"{other}.", f"class {fact.frequency}", "factual"


def _law_choices(world: World) -> Iterator[tuple[str, str, str, str, str, str]]:
    """Cases of laws against what another process would do to the matter, or this process to other matter."""
    kinds = tuple(MATTER)
    for prompt in exact_questions(world, "laws"):
        at = zlib.crc32(prompt.id.encode())
        for k, kind in enumerate(kinds):
            for p, pair in enumerate(MATTER[kind][1]):
                if prompt.answer in pair:
                    part = pair.index(prompt.answer)
                    same = MATTER[kind][1][(p + 1 + at // 2 % 3) % len(PROCESSES)][part]
                    other = MATTER[kinds[(k + 1 + at // 2 % 3) % len(kinds)]][1][p][part]
                    answers = [f"{answer}{prompt.after}" for answer in (prompt.answer, (same, other)[at % 2])]
                    yield prompt.id, prompt.text, answers[0], answers[1], prompt.tag, "science"


def _false_sum(a: int, b: int, turn: int) -> int:
    """A result that is wrong in the ones or in the tens, as often too high as too low."""
    return a + b + (1, -1, 10, -10)[turn % 4]


def _drawn_sums(world: World, n: int, rng: np.random.Generator) -> Iterator[tuple[str, tuple[int, int]]]:
    for tag, pairs in (("written", world.sums), ("held out", sorted(world.held_out_sums))):
        for i in rng.choice(len(pairs), n, replace=False):
            yield tag, pairs[int(i)]


def forced_choices(world: World, rng: np.random.Generator, *, sums: int = SUMS) -> list[ForcedChoice]:
    """Two alternatives each: 480 facts by class, 400 laws by steps, 144 agreements, and sums, `sums` of either split.

    Alternatives are to be scored as text after a space. The right one stands first in every second choice of a tag;
    for facts so it does in the text of the question too.
    """
    rows = [*_fact_choices(world), *_law_choices(world)]
    for pair in agreement_pairs():
        rows.append((f"agreement/{len(rows)}", pair.text, pair.right, pair.wrong, pair.tag, "story"))
    for i, (tag, (a, b)) in enumerate(_drawn_sums(world, sums, rng)):
        rows.append(
            (f"{a}+{b}", f"Sums\n- {a} + {b} =", f"{a + b}.", f"{_false_sum(a, b, i // 2)}.", tag, "arithmetic")
        )
    seen: Counter[tuple[str, str]] = Counter()
    choices = []
    for id_, text, right, wrong, tag, category in rows:
        name, later = id_ if id_.startswith(category) else f"{category}/{id_}", seen[category, tag] % 2
        both = (wrong, right) if later else (right, wrong)
        choices.append(ForcedChoice(f"{name}-forced", text, both, later, tag, category))
        seen[category, tag] += 1
    return choices


@dataclass(frozen=True)
class ProbeSentence:
    """An item with its labels and the beginning of a document before it.

    `text` is what a model reads; places of `item.words` count from `offset` in it. Split by `unit` (what it is about,
    shared by a true sentence and its false one), by `item.template`, or by the words themselves.
    """

    unit: str
    context: str
    item: LabelledItem

    @property
    def text(self) -> str:
        """The context and the item."""
        return self.context + self.item.text

    @property
    def offset(self) -> int:
        """Where the item starts in `text`, in characters."""
        return len(self.context)


def false_values(world: World, rng: np.random.Generator) -> dict[Fact, str]:
    """A wrong value for each fact, such that each value is wrong as often as it is right in a relation and class.

    So neither the value nor the words around it tell a false sentence from a true one. Facts of a cell where this
    cannot be had (one value in more than half of it) are left out.
    """
    cells: dict[tuple[str, int], list[Fact]] = defaultdict(list)
    for fact in sorted(world.facts, key=lambda f: f.value):
        cells[fact.relation, fact.frequency].append(fact)
    wrong = dict[Any, Any]()
    for facts in cells.values():
        for shift in rng.permutation(np.arange(1, len(facts))):
            values = [facts[(i + int(shift)) % len(facts)].value for i in range(len(facts))]
            if all(v not in (f.value, f.entity) for f, v in zip(facts, values, strict=True)):
                wrong |= dict(zip(facts, values, strict=True))
                break
    return wrong


def _stating(world: World, rng: np.random.Generator, sums: int) -> Iterator[tuple[str, str, str]]:
    """Unit, kind and text of true sentences, each followed by its false one: facts, laws, sums."""
    for fact, wrong in false_values(world, rng).items():
        unit, wordings = f"factual/{fact.entity}-{fact.relation}", RELATIONS[fact.relation][1]
        second = fact.statements[1] if fact.held_out is None else wordings[fact.held_out]
        for wording in (fact.statements[0], second):
            for value in (fact.value, wrong):
                yield unit, "Notes", f"- {wording.format(e=fact.entity, v=value)}"
    for materials, effects in MATTER.values():
        for p, process in enumerate(PROCESSES):
            for material, thing in ((m, t) for m in materials for t in OBJECTS):
                case = f"- The {material} {thing} is {process}."
                for part, words in enumerate(("It", "In the end it")):
                    for q in (p, (p + 1) % len(PROCESSES)):
                        yield f"science/{material}-{thing}-{process}", "Laws", f"{case} {words} {effects[q][part]}."
    for i, (_, (a, b)) in enumerate(_drawn_sums(world, sums, rng)):
        for result in (a + b, _false_sum(a, b, i)):
            yield f"arithmetic/{a}+{b}", "Sums", f"- {a} + {b} = {result}."


def _drawn(world: World) -> Iterator[tuple[str, str, str]]:
    """Kind, context and text of different items from fresh documents, as many of each kind as `DRAWN` says."""
    left, seen = Counter(DRAWN), set()
    for document in documents(world, DRAW_SEED, 2000):
        context = f"{document.kind}\n"
        for piece in document.pieces[1:-1]:
            text = piece.text.strip("\n")
            opens = document.kind == "Story" and not text.startswith(" ")
            before = f"{document.kind}\n" if opens else context
            if left[document.kind] > 0 and before + text not in seen:
                seen.add(before + text)
                left[document.kind] -= 1
                yield document.kind, before, text
            context = before + text if opens else context
        if not +left:
            return


def probe_sentences(world: World, rng: np.random.Generator, *, sums: int = SUMS) -> list[ProbeSentence]:
    """About 4,500 labelled sentences: true and false ones in equal number, and drawn items that state nothing.

    Facts of every class, the unwritten class 0 too, stand in two wordings, each true and false, with each value as
    often false as true; laws have a case's own effect and that of another process; sums are wrong by 1 or 10.
    """
    found = [
        ProbeSentence(unit, f"{kind}\n", label(world, text, kind)) for unit, kind, text in _stating(world, rng, sums)
    ]
    for i, (kind, context, text) in enumerate(_drawn(world)):
        found.append(ProbeSentence(f"drawn/{kind}-{i}", context, label(world, text, kind)))
    return found


@dataclass(frozen=True)
class WorldBattery:
    """All parts of the battery of a world; parts are drawn when first asked for, from their own seeds."""

    world: World
    seed: int = 0

    def _rng(self, part: int) -> np.random.Generator:
        return np.random.default_rng([self.world.seed, 6, self.seed, part])

    @cached_property
    def prompts(self) -> list[Prompt]:
        """64 prompts of each of six categories."""
        drawn = (prompts(category, PER_CATEGORY, self._rng(0), world=self.world) for category in PROMPT_CATEGORIES)
        return [prompt for part in drawn for prompt in part]

    @cached_property
    def questions(self) -> list[Prompt]:
        """1,200 graded questions of the test split."""
        return graded(self.world, QUESTIONS, self._rng(1))

    @cached_property
    def calibration(self) -> list[Prompt]:
        """300 graded questions of the calibration split."""
        return graded(self.world, QUESTIONS // 4, self._rng(2), calibration=True)

    @cached_property
    def pairs(self) -> list[MinimalPair]:
        """288 minimal pairs, of 66 units."""
        return minimal_pairs(self.world)

    @cached_property
    def choices(self) -> list[ForcedChoice]:
        """Forced choices."""
        return forced_choices(self.world, self._rng(3))

    @cached_property
    def paraphrases(self) -> list[ParaphrasePair]:
        """A paraphrase pair for each fact."""
        return paraphrase_pairs(self.world)

    @cached_property
    def probes(self) -> list[ProbeSentence]:
        """Labelled probe sentences."""
        return probe_sentences(self.world, self._rng(4))

    def counts(self) -> dict[str, dict[str, int]]:
        """How many there are of each part, in all and by category (prompts) or by what tells them apart."""
        parts = {
            "prompts": [p.category for p in self.prompts],
            "questions": [p.category for p in self.questions],
            "calibration": [p.category for p in self.calibration],
            "minimal_pairs": [p.kind for p in self.pairs],
            "forced_choice": [c.category for c in self.choices],
            "paraphrases": ["unheard" if p.unheard else "heard" for p in self.paraphrases],
            "probes": [{True: "true", False: "false", None: "neither"}[s.item.truth] for s in self.probes],
        }
        return {name: {"all": len(values), **Counter(values)} for name, values in parts.items()}

    def examples(self) -> dict[str, dict[str, Any]]:
        """One of each part: its text, and what belongs to it."""
        question, anchor = self.questions[0], self.calibration[0]
        pair, forced, fact = self.pairs[0], self.choices[0], self.paraphrases[0]
        probe = self.probes[1]
        return {
            "prompts": {"text": self.prompts[0].text, "answer": self.prompts[0].answer},
            "questions": {"text": question.text, "answer": question.answer, "tag": question.tag},
            "calibration": {"text": anchor.text, "answer": anchor.answer, "tag": anchor.tag},
            "minimal_pairs": {
                "text": pair.ambiguous,
                "first": pair.first,
                "second": pair.second,
                "answers": pair.answers,
            },
            "forced_choice": {"text": forced.text, "alternatives": forced.alternatives, "right": forced.right},
            "paraphrases": {"text": fact.first.text, "second": fact.second.text, "answer": fact.first.answer},
            "probes": {
                "text": probe.text,
                "truth": probe.item.truth,
                "frequency": probe.item.frequency,
                "words": [[w.text, w.pos, w.number, w.head, w.depth] for w in probe.item.words],
            },
        }


def world_battery(seed: int = 0, world: World | None = None) -> WorldBattery:
    """The battery of the world; same seed, same battery."""
    return WorldBattery(world or build_world(), seed)
