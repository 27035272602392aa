"""The scenarios: what is planted, for which claims, and what the rule must say. One record each, in `declared/*.toml`.

A record names what draws a study (`draws`: module `simulated_*` and function) and its arguments (`with`; `without`: of
the same study without the artefact). Its study is judged as one of the experiment after which the file is named, unless
the record names another; `judged` are the claims that are judged together, where those are not all of the experiment's.
"""

import tomllib
from collections.abc import Sequence
from functools import partial
from importlib import import_module, resources
from typing import Any

from phaselens.errors import unknown_name
from phaselens.validity import simulated_interventions
from phaselens.validity.scenario import Scenario, by_experiment

MODULES = (
    "ambiguity answers cycles distribution fingerprints gd interventions normalisation observability order readings "
    "regimes states training variance"
).split()
# What draws a study, by the name that records give it: module (without "simulated_") and function.
DRAWING = {f"{m}.{k}": v for m in MODULES for k, v in vars(import_module(f"{__package__}.simulated_{m}")).items()}
# In the order of the document.
FILES = (
    "regimes gd gd_controls variance order conditions states motifs cycles fingerprints topology normalisation "
    "ambiguity probes training perturbation causal control correctness observability"
).split()


def declared(file: str) -> tuple[Scenario, ...]:
    """The scenarios of one file. Raises UnknownNameError for a study that no module draws."""
    text = resources.files(__package__).joinpath("declared", f"{file}.toml").read_text(encoding="utf-8")
    shared = tomllib.loads(text)
    rows = shared.pop("scenario")
    return tuple(_scenario(**{"experiment": file, **shared, **row}) for row in rows)


def _scenario(
    draws: str,
    experiment: str,
    claims: Sequence[str],
    shown: Sequence[str] = (),
    judged: Sequence[str] = (),
    **row: Any,
) -> Scenario:
    if draws not in DRAWING:
        raise unknown_name("function that draws a study", draws, DRAWING)
    make, given, bare = DRAWING[draws], row.pop("with", {}), row.pop("without", None)
    return Scenario(
        claims=tuple(claims),
        shown=tuple(shown),
        make=partial(make, **given),
        without=None if bare is None else partial(make, **bare),
        judge=simulated_interventions.JUDGES.get(experiment) or by_experiment(experiment, tuple(judged)),
        **row,
    )


SCENARIOS: tuple[Scenario, ...] = tuple(scenario for file in FILES for scenario in declared(file))
