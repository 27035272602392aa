"""The world the organisms live in: people with facts, sums, laws of matter, homonyms; built from one seed.

The world holds what is *true* and how often it is written; `phaselens.organisms.items` writes sentences about it and
`phaselens.organisms.corpora` binds them into documents. Everything here is ours: no outside text is used.

Facts carry a frequency class. Class 0 is never written, so an answer to it is a hallucination by construction; classes
1 to 4 are written with weights 1 : 4 : 16 : 64. The number of exposures a training run really saw is counted from its
rows (`corpora.exposures`), never assumed.
"""

import math
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
    "city": (CITIES, ("{e} lives in {v}.", "The home of {e} is {v}."), "Where does {e} live?"),
    "job": (JOBS, ("{e} works as a {v}.", "The job of {e} is {v}."), "What is the job of {e}?"),
    "color": (COLORS, ("{e} wears {v}.", "The color of {e} is {v}."), "What color does {e} wear?"),
    "food": (FOODS, ("{e} eats {v}.", "The food of {e} is {v}."), "What does {e} eat?"),
    "friend": (FRIENDS, ("{e} knows {v}.", "The friend of {e} is {v}."), "Who is the friend of {e}?"),
}

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


@dataclass(frozen=True)
class Fact:
    """One fact: `value` is what `relation` of `entity` truly is; `frequency` is its class, 0 (never written) to 4."""

    entity: str
    relation: str
    value: str
    frequency: int


@dataclass(frozen=True)
class World:
    """What is true: facts, the probability with which each is written, and the sums that are written or held out."""

    seed: int
    facts: tuple[Fact, ...]
    written: tuple[Fact, ...]
    cumulative: np.ndarray
    sums: tuple[tuple[int, int], ...]
    held_out_sums: frozenset[tuple[int, int]]

    def fact_log_probability(self, index: int) -> float:
        """Log-probability (nats) that the fact `written[index]` is the next one to be written."""
        below = self.cumulative[index - 1] if index else 0.0
        return math.log(self.cumulative[index] - below)


def build_world(seed: int = WORLD_SEED) -> World:
    """Draw the world of this seed: 480 facts, 96 in each of five frequency classes, and 3,240 sums, 648 held out.

    Same seed, same world. A sum is a pair of two-digit numbers with a two-digit result.
    """
    rng = np.random.default_rng([seed, 1])
    pairs = [(entity, relation) for relation in RELATIONS for entity in NAMES]
    classes = rng.permutation(np.arange(len(pairs)) % len(CLASS_WEIGHTS))
    facts = []
    for (entity, relation), frequency in zip(pairs, classes, strict=True):
        values = [v for v in RELATIONS[relation][0] if v != entity]
        facts.append(Fact(entity, relation, values[int(rng.integers(len(values)))], int(frequency)))
    written = tuple(fact for fact in facts if fact.frequency)
    weights = np.array([CLASS_WEIGHTS[fact.frequency] for fact in written], dtype=np.float64)
    sums = [(a, b) for a in range(10, 90) for b in range(10, 100 - a)]
    order = rng.permutation(len(sums))
    held_out = frozenset(sums[i] for i in order[: len(sums) // 5])
    cumulative = np.cumsum(weights / weights.sum())
    kept = tuple(pair for pair in sums if pair not in held_out)
    return World(seed, tuple(facts), written, cumulative, kept, held_out)
