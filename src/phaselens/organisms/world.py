"""The world the organisms live in: people with facts, sums, laws of matter, homonyms; built from one seed.

The world holds what is *true* and how often it is written; `phaselens.organisms.items` writes sentences about it and
`phaselens.organisms.corpora` binds them into documents. Everything here is ours: no outside text is used.

Facts carry a frequency class. Class 0 is never written, so an answer to it is a hallucination by construction; classes
1 to 4 are written with weights 1 : 4 : 16 : 64. The number of exposures a training run really saw is counted from its
rows (`corpora.exposures`), never assumed. A third of the facts are never written in one of the three wordings of their
relation, which other facts keep in use: asked in it, they are paraphrases that no training text contains.
"""

from dataclasses import dataclass

import numpy as np

WORLD_SEED = 20
CLASS_WEIGHTS = (0, 1, 4, 16, 64)

NAMES = tuple(
    """Ada Abel Ava Ben Bela Boris Cara Cleo Cyrus Dan Dora Doris Ed Ella Emil Eva Finn Flora Fred Gia Gina Greta
    Hal Hana Hugo Ida Igor Ina Iris Ivan Jack Jan Jana Jim Joel June Kai Kara Karl Kim Kurt Lara Lea Leo Lily Lola
    Luka Mara Mark Max Mia Mila Mona Nadia Ned Nick Nina Noah Nora Olga Omar Oscar Otto Pam Paul Petra Pia Quinn Rafa
    Ralph Rita Rob Rosa Ruth Sam Sara Seth Sofia Stan Suki Tara Ted Theo Tina Tom Uma Una Vera Vic Vito Walt Wanda
    Xena Yara Yuri Zoe""".split()
)
CITIES = ("Bern", "Cairo", "Delhi", "Hanoi", "Lima", "London", "Milan", "Osaka", "Oslo", "Paris", "Quito", "Rome")
JOBS = (
    "baker", "doctor", "driver", "farmer", "judge", "miner", "nurse", "pilot", "poet", "sailor", "tailor", "teacher",
)  # fmt: skip
COLORS = ("black", "blue", "brown", "gold", "green", "grey", "orange", "pink", "purple", "red", "white", "yellow")
FOODS = ("beans", "bread", "cake", "cheese", "corn", "eggs", "fish", "nuts", "pasta", "rice", "salad", "soup")
FRIENDS = NAMES[3::8][:12]

# relation -> (values, statements, question); every wording ends with the value
RELATIONS = {
    "city": (
        CITIES, ("{e} lives in {v}.", "The home of {e} is {v}.", "One can meet {e} in {v}."), "Where does {e} live?",
    ),
    "job": (
        JOBS, ("{e} works as a {v}.", "The job of {e} is {v}.", "We call {e} the {v}."), "What is the job of {e}?",
    ),
    "color": (
        COLORS, ("{e} wears {v}.", "The color of {e} is {v}.", "The coat of {e} is {v}."), "What color does {e} wear?",
    ),
    "food": (
        FOODS, ("{e} eats {v}.", "The food of {e} is {v}.", "For lunch {e} has {v}."), "What does {e} eat?",
    ),
    "friend": (
        FRIENDS, ("{e} knows {v}.", "The friend of {e} is {v}.", "All day {e} is with {v}."),
        "Who is the friend of {e}?",
    ),
}  # fmt: skip
WORDINGS = 3

# laws of matter: kind of matter -> how one says it, materials, and what each process does and brings about
PROCESSES = ("heated", "cooled", "dropped", "soaked")
MATTER = {
    "metal": (
        ("iron", "copper"),
        (("expands", "gets longer"), ("shrinks", "gets shorter"), ("rings", "makes a sound"), ("rusts", "turns red")),
    ),
    "clay": (
        ("brick", "china"),
        (
            ("cracks", "lets water out"),
            ("stiffens", "keeps its shape"),
            ("breaks", "lies in pieces"),
            ("shines", "looks new"),
        ),
    ),
    "fat": (
        ("wax", "butter"),
        (("melts", "flows away"), ("hardens", "feels firm"), ("bends", "looks flat"), ("floats", "stays on top")),
    ),
    "fiber": (
        ("wood", "cotton"),
        (("burns", "turns to ash"), ("dries", "gets lighter"), ("bounces", "comes back"), ("swells", "gets heavier")),
    ),
}
OBJECTS = ("rod", "ring", "cup", "plate", "ball", "spoon")

# homonym -> (adjective of sense A, adjective of sense B, what follows under A, what follows under B)
HOMONYMS = {
    "bat": ("furry", "wooden", "It had wings.", "It was used in a game."),
    "bank": ("muddy", "rich", "It was beside a river.", "It kept our money."),
    "seal": ("hungry", "waxen", "It swam to the ship.", "It closed a letter."),
    "crane": ("feathered", "steel", "It laid an egg.", "It lifted heavy stones."),
    "mouse": ("living", "plastic", "It ate some cheese.", "It moved the arrow."),
    "ring": ("golden", "loud", "It was on a finger.", "It woke the house."),
    "bark": ("rough", "angry", "It covered a tree.", "It came from a dog."),
    "spring": ("sunny", "coiled", "It came after winter.", "It was inside a clock."),
    "match": ("burning", "final", "It made a flame.", "It had two teams."),
    "palm": ("leafy", "sweaty", "It grew by the sea.", "It had five fingers."),
    "nail": ("painted", "rusty", "It was on a toe.", "It was in a board."),
    "trunk": ("curly", "locked", "It was on an elephant.", "It held our clothes."),
}
NEUTRAL = ("same", "other", "famous")
FRAMES = (
    "The {a} {n} was in the picture.", "She spoke about the {a} {n}.",
    "We all knew the {a} {n}.", "He asked about the {a} {n}.",
)  # fmt: skip

# "The boy hit the dog with the stick.": the boy used it, or the dog had it. Tools and marks leave one reading.
AGENTS = ("boy", "girl", "man", "woman")
DEEDS = ("hit", "pushed", "stopped", "touched")
PATIENTS = ("cat", "dog", "goat", "horse", "lion", "pig")
EITHER = ("stick", "flag", "net", "chain")
TOOLS = ("hammer", "brush", "spade", "lens")
MARKS = ("tail", "collar", "scar", "beard")


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
        seed=seed, facts=facts, written=written, cumulative=np.cumsum(weights / weights.sum()),
        sums=tuple(pair for pair in sums if pair not in held_out_sums), held_out_sums=held_out_sums,
        cases={
            (kind, p): tuple((m, t) for m in materials for t in OBJECTS if (m, t, p) not in held_out_cases)
            for kind, (materials, _) in MATTER.items() for p in PROCESSES
        },
        held_out_cases=held_out_cases,
    )  # fmt: skip
