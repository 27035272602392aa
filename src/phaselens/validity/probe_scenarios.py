"""The scenarios of F1 to F4: probes that read something, nothing, or no more than a baseline."""

from collections.abc import Callable
from functools import partial

from phaselens.validity import simulated_readings
from phaselens.validity.scenario import Kind, Scenario, by_experiment

SIZE = f"{simulated_readings.UNITS} groups of {simulated_readings.PER_UNIT} examples"
M6, M8 = f"M = 6, {SIZE}", f"M = 8, {SIZE}"
_F = by_experiment("probes")


def _one(claim: str, name: str, kind: Kind, planted: str, size: str, make: Callable, **more) -> Scenario:
    return Scenario(f"{claim} {name}", kind, (claim,), planted, size, make, _F, **more)


_f1 = partial(simulated_readings.decodable, m=6, high=0.8, least=0.8)
_f2 = partial(simulated_readings.peaks_at, m=4, width=0.25)
_f3 = partial(simulated_readings.dimensions, m=6)
_f4 = partial(simulated_readings.groupings, m=9)

PROBING: tuple[Scenario, ...] = (
    _one("F1", "null", "null", "two of the three functions are read at .8, the third at chance", M6,
         partial(simulated_readings.decodable, m=6, high=0.8, least=0.5)),
    _one("F1", "null, all", "null", "no function is read above chance", M6,
         partial(simulated_readings.decodable, m=6, high=0.5, least=0.5)),
    _one("F1", "effect", "effect", "all three are read at .8, every baseline at .55", M6, _f1, headline=True),
    _one("F1", "embedding", "artefact", "the embedding is read as well as the best layer", M6,
         partial(_f1, first=0.8), control="embedding (l = 0)"),
    _one("F1", "untrained twin", "artefact", "the untrained twin is read as well", M6,
         partial(_f1, twin=0.8), control="untrained twin"),
    _one("F1", "covariates", "artefact", "length and place say as much", M6,
         partial(_f1, covariates=0.8), control="covariates"),
    _one("F1", "control task", "artefact", "random labels of words are learned as well", M6,
         partial(_f1, selectivity=0.0), control="control task"),
    _one("F2", "null", "null", "all models peak half way; grids of 6, 8, 5 and 7 layers", f"M = 4, {SIZE}",
         partial(_f2, peaks=(0.5, 0.5))),
    _one("F2", "null, flat", "null", "every layer is read as well: any may come out best", f"M = 4, {SIZE}",
         partial(simulated_readings.flat, m=4)),
    _one("F2", "effect", "effect", "the two families peak at .2 and .8", f"M = 4, {SIZE}",
         partial(_f2, peaks=(0.2, 0.8)), headline=True),
    _one("F2", "seeds", "artefact", "second seeds peak where the other family does", f"M = 4, {SIZE}",
         partial(simulated_readings.seeds_apart, m=4), control="seed twins"),
    _one("F3", "null", "null", "eight features read as much as the subspace, rotated or not", f".7, {M6}",
         partial(_f3, subspace=0.7, features=0.7, rotated=0.7)),
    _one("F3", "effect", "effect", "features read less than the subspace, and less than after rotations",
         f".8, .7 and .75, {M6}", partial(_f3, subspace=0.8, features=0.7, rotated=0.75), headline=True),
    _one("F3", "dimension count", "artefact", "the subspace reads more, and features as much as rotated ones",
         f".8, .7 and .7, {M6}", partial(_f3, subspace=0.8, features=0.7, rotated=0.7), control="random rotations"),
    _one("F4", "null", "null", "three groups of dynamics, groups of function drawn anew", "M = 9",
         partial(_f4, shared=0.0)),
    _one("F4", "effect", "effect", "the same three groups in dynamics and function", "M = 9",
         partial(_f4, shared=1.0), headline=True),
    _one("F4", "seeds", "artefact", "groups of function drawn anew, and three declared seeds that share both", "M = 9",
         partial(_f4, shared=0.0, seeds=3)),
)  # fmt: skip
