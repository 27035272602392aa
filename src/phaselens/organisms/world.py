"""The world the organisms live in: people with facts, sums, laws of matter, homonyms; built from one seed.

The world holds what is *true* and how often it is written; `phaselens.organisms.world_sentences` writes about it and
`phaselens.organisms.corpora` binds that into documents. Everything here is ours: no outside text is used.

Facts carry a frequency class. Class 0 is never written, so an answer to it is a hallucination by construction; classes
1 to 4 are written with weights 1 : 4 : 16 : 64. The number of exposures a training run really saw is counted from its
rows (`exposures` in `tools/organisms/evaluate.py`), never assumed. A third of the facts are never written in one of the
three wordings of their relation, which other facts keep in use: asked in it, they are paraphrases that no training text
contains.
"""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

WORLD_SEED = 20
CLASS_WEIGHTS = (0, 1, 4, 16, 64)

WORDINGS = 3


def _frozen(value: Any) -> Any:
    """Lists as tuples, to any depth."""
    if isinstance(value, dict):
        return {key: _frozen(part) for key, part in value.items()}
    return tuple(map(_frozen, value)) if isinstance(value, list) else value


WORDS = _frozen(tomllib.loads((files("phaselens.organisms") / "words.toml").read_text(encoding="utf-8")))
NAMES = tuple(WORDS["names"].split())
FRIENDS = NAMES[3::8][:12]
CITIES, JOBS, COLORS, FOODS, OBJECTS = (WORDS[k] for k in ("cities", "jobs", "colors", "foods", "objects"))
# relation -> (values, statements, question)
RELATIONS = {name: ({**WORDS, "friends": FRIENDS}[of], *said) for name, (of, *said) in WORDS["relations"].items()}
# kind of matter -> materials, and what each process does and brings about
PROCESSES, MATTER = WORDS["processes"], WORDS["matter"]
# homonym -> (adjective of sense A, adjective of sense B, what follows under A, what follows under B)
HOMONYMS, NEUTRAL, FRAMES = WORDS["homonyms"], WORDS["neutral"], WORDS["frames"]
AGENTS, DEEDS, PATIENTS = WORDS["agents"], WORDS["deeds"], WORDS["patients"]
EITHER, TOOLS, MARKS = WORDS["either"], WORDS["tools"], WORDS["marks"]


@dataclass(frozen=True)
class Fact:
    """One fact: `value` is what `relation` of `entity` truly is; `frequency` is its class, 0 (never written) to 4.

    `held_out` is the statement wording in which this fact is never written, None where it is written in all of them.
    """

    entity: str
    relation: str
    value: str
    frequency: int
    held_out: int | None = None

    @property
    def unheard(self) -> str | None:
        """The statement wording of which no text has a word about this fact; None where there is none.

        A held-out first wording is not such a one: it opens the fact's forced choices.
        """
        return RELATIONS[self.relation][1][self.held_out] if self.held_out else None

    @property
    def statements(self) -> tuple[str, ...]:
        """The statement wordings in which this fact is written."""
        return tuple(s for i, s in enumerate(RELATIONS[self.relation][1]) if i != self.held_out)


@dataclass(frozen=True)
class World:
    """What is true: facts with the probability of each to be written, sums, and cases of laws, written or held out.

    `cases` maps (kind of matter, process) to the (material, object) pairs whose case is written.
    """

    seed: int
    facts: tuple[Fact, ...]
    written: tuple[Fact, ...]
    cumulative: np.ndarray
    sums: tuple[tuple[int, int], ...]
    held_out_sums: frozenset[tuple[int, int]]
    cases: dict[tuple[str, str], tuple[tuple[str, str], ...]]
    held_out_cases: frozenset[tuple[str, str, str]]


def _facts(rng: np.random.Generator) -> tuple[Fact, ...]:
    """480 facts, 96 in each class; within each class a third lack one wording."""
    pairs = [(entity, relation) for relation in RELATIONS for entity in NAMES]
    classes = rng.permutation(np.arange(len(pairs)) % len(CLASS_WEIGHTS))
    seen = dict.fromkeys(range(len(CLASS_WEIGHTS)), 0)
    facts = []
    for (entity, relation), frequency in zip(pairs, classes, strict=True):
        values = [v for v in RELATIONS[relation][0] if v != entity]
        value = values[int(rng.integers(len(values)))]
        turn = seen[int(frequency)]
        seen[int(frequency)] += 1
        held_out = turn // 3 % WORDINGS if turn % 3 == 0 else None
        facts.append(Fact(entity, relation, value, int(frequency), held_out))
    return tuple(facts)


def _share_held_out(everything: list, one_in: int, rng: np.random.Generator) -> frozenset:
    order = rng.permutation(len(everything))
    return frozenset(everything[i] for i in order[: len(everything) // one_in])


def build_world(seed: int = WORLD_SEED) -> World:
    """Draw the world of this seed; same seed, same world.

    480 facts, 96 in each of five frequency classes, 160 of them with a wording held out; 3,240 sums of two two-digit
    numbers with a two-digit result, a fifth held out; 192 cases of laws (material, object, process), an eighth of them
    held out.
    """
    rng = np.random.default_rng([seed, 1])
    facts = _facts(rng)
    written = tuple(fact for fact in facts if fact.frequency)
    weights = np.array([CLASS_WEIGHTS[fact.frequency] for fact in written], dtype=np.float64)
    sums = [(a, b) for a in range(10, 90) for b in range(10, 100 - a)]
    held_out_sums = _share_held_out(sums, 5, rng)
    cases = [(m, t, p) for materials, _ in MATTER.values() for m in materials for t in OBJECTS for p in PROCESSES]
    held_out_cases = _share_held_out(cases, 8, rng)
    return World(
        seed=seed,
        facts=facts,
        written=written,
        cumulative=np.cumsum(weights / weights.sum()),
        sums=tuple(pair for pair in sums if pair not in held_out_sums),
        held_out_sums=held_out_sums,
        cases={
            (kind, p): tuple((m, t) for m in materials for t in OBJECTS if (m, t, p) not in held_out_cases)
            for kind, (materials, _) in MATTER.items()
            for p in PROCESSES
        },
        held_out_cases=held_out_cases,
    )
