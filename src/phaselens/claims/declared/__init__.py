"""The claims, as data: one TOML file a kind of rule, in the order of the ledger; nothing here is computed."""

import tomllib
from importlib import resources

from phaselens.claims.records import Claim

KINDS = (
    "separation",
    "distribution",
    "variance",
    "states",
    "topology",
    "ambiguity",
    "probes",
    "training",
    "correctness",
    "interventions",
    "observability",
)


def declared(kind: str) -> tuple[Claim, ...]:
    """The claims of one file, as they stand there."""
    text = resources.files(__package__).joinpath(f"{kind}.toml").read_text(encoding="utf-8")
    return tuple(Claim.model_validate(row) for row in tomllib.loads(text)["claims"])


REGISTER: tuple[Claim, ...] = tuple(claim for kind in KINDS for claim in declared(kind))
