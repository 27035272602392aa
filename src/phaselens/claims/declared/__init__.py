"""The claims, one module a kind of rule; nothing here is computed."""

from phaselens.claims.declared import separation
from phaselens.claims.record import Claim

REGISTER: tuple[Claim, ...] = (*separation.CLAIMS,)
