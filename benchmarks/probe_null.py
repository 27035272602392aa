"""How often the test of the best layer passes where there is nothing and where there is something: fits on made states.

A study has the three functional families of one model. Its labels belong to units (word types, facts, templates), and
so does a part of every state, so equal units have like states and like labels though nothing links the two. Prints one
line of JSON: for each family and for the weakest of the three, the share of studies with p <= .05. With --older the
statistic before it was changed (accuracy, l2 = 100) stands beside the present one.
"""

import argparse
import json
import sys
import time

import numpy as np

from phaselens.claims import LEVEL
from phaselens.probes import cross_fit, grouped_folds, make_task
from phaselens.probes.control_table import control_accuracy
from phaselens.readings.analysis import LOOSE, Settings, best_layer, exchanged
from phaselens.statistics.permutation import permutation_p
from phaselens.validity.runner import wilson

# Examples, units, shares of the classes.
FAMILIES = {
    "syntax-like": (80, 40, (0.4, 0.3, 0.2, 0.1)),
    "decision-like": (80, 80, (0.5, 0.5)),
    "stabilisation": (80, 30, (0.75, 0.25)),
}
LAYERS, WIDTH, MODELS, FOLDS = 2, 8, 1, 5


def simulate(family: str, strength: float, generator: np.random.Generator):
    """Units of unequal size, labels by unit, states with a part by unit; layer 1 carries the label by `strength`."""
    n, n_units, shares = FAMILIES[family]
    size = generator.dirichlet(np.ones(n_units) * 2) if n_units < n else np.full(n, 1 / n)
    units = generator.choice(n_units, size=n, p=size) if n_units < n else np.arange(n)
    label_of = generator.choice(len(shares), size=n_units, p=shares)
    label_of[: 3 * len(shares)] = np.tile(np.arange(len(shares)), 3)  # every class in enough units for the folds
    y = label_of[units]
    spread = np.arange(1, WIDTH + 1) ** -0.5
    out = []
    for _ in range(MODELS):
        own = generator.standard_normal((LAYERS, n_units, WIDTH))[:, units]
        means = generator.standard_normal((len(shares), WIDTH))[y] * np.array([0, strength])[:, None, None]
        out.append(((own + generator.standard_normal(own.shape) + means) * spread).astype(np.float32))
    return out, y, units


def older(layers, task, units, permutations, generator) -> tuple[float, np.ndarray]:
    """The statistic before it was changed: accuracy of the best layer at l2 = 100."""
    own = cross_fit(layers, {"": task}, 100.0, tol=LOOSE)[""].accuracy()[:, 0]
    moved = exchanged(task.codes[0], units, generator, permutations)
    return float(own.max()), control_accuracy(layers, task, moved, l2=100.0, tol=LOOSE).max(axis=0)


def study(strength: float, permutations: int, seed: list[int], also_older: bool) -> dict[str, tuple[float, ...]]:
    """p of every family in one study, by the present and, where it is asked for, by the older statistic."""
    out = {}
    for family in FAMILIES:
        generator = np.random.default_rng([*seed, *family.encode()])
        models, y, units = simulate(family, strength, generator)
        folds = grouped_folds(units, FOLDS, generator)
        task = make_task(y, folds)
        settings = Settings(n_folds=FOLDS, n_permutations=permutations)
        same = int(generator.integers(2**32))  # all models of a study exchange the same labels
        now = [best_layer(x, task, units, settings, np.random.default_rng(same)) for x in models]
        was = [older(x, task, units, permutations, np.random.default_rng(same)) for x in models if also_older]
        out[family] = tuple(
            permutation_p(float(np.mean([v for v, _ in pairs])), np.mean([null for _, null in pairs], axis=0))
            for pairs in filter(None, ([(value, null) for value, _, null in now], was))
        )
    return out


def rates(strength: float, studies: int, permutations: int, seed: int, also_older: bool) -> dict[str, object]:
    """Share of studies with p <= .05, with Wilson intervals, by family and for the weakest family."""
    found = []
    for k in range(studies):
        found.append(study(strength, permutations, [seed, round(1000 * strength), k], also_older))
        print(json.dumps([strength, k, found[-1]]), file=sys.stderr, flush=True)
    columns = {family: np.array([f[family] for f in found]) for family in FAMILIES}
    columns["weakest"] = np.max(list(columns.values()), axis=0)
    return {
        name: {
            which: {"share": float(hits.mean()), "interval": [round(x, 4) for x in (said.lo, said.hi)]}
            for which, hits in zip(("capacity, l2 10", "accuracy, l2 100"), (ps <= LEVEL).T, strict=False)
            for said in [wilson(int(hits.sum()), studies)]
        }
        for name, ps in columns.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=100, help="null studies; a quarter as many at each effect")
    parser.add_argument("--permutations", type=int, default=19)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 1.0, 2.0], help="0 is the null")
    parser.add_argument("--older", action="store_true", help="also the statistic before it was changed")
    given = parser.parse_args()
    started, out = time.monotonic(), {}
    for strength in given.strengths:
        n = given.studies if strength == 0 else given.studies // 4
        out[f"strength {strength:g}"] = {
            "studies": n,
            **rates(strength, n, given.permutations, given.seed, given.older),
        }
    print(json.dumps({"rates": out, "seconds": round(time.monotonic() - started, 1), **vars(given)}))


if __name__ == "__main__":
    main()
