"""The claims, as data: one TOML file a kind of rule, in the order of the ledger; nothing here is computed."""

import tomllib
from importlib import resources

from phaselens.claims.verdict_records import Claim

KINDS = tuple(
    "separation distribution variance states topology ambiguity probes training correctness interventions "
    "observability".split()
)


def _read(kind: str) -> dict:
    return tomllib.loads(resources.files(__package__).joinpath(f"{kind}.toml").read_text(encoding="utf-8"))


def declared(kind: str) -> tuple[Claim, ...]:
    """The claims of one file, as they stand there."""
    return tuple(Claim.model_validate(row) for row in _read(kind)["claims"])


REGISTER: tuple[Claim, ...] = tuple(claim for kind in KINDS for claim in declared(kind))
# What each rule finds in simulated studies, in words; no part of a lock, since it is measured again.
POWER: dict[str, str] = _read("power")
