"""The claims, one module a kind of rule; nothing here is computed."""

from phaselens.claims.declared import (
    ambiguity,
    correctness,
    distribution,
    interventions,
    observability,
    probes,
    separation,
    states,
    topology,
    training,
    variance,
)
from phaselens.claims.record import Claim

REGISTER: tuple[Claim, ...] = (
    *separation.CLAIMS,
    *distribution.CLAIMS,
    *variance.CLAIMS,
    *states.CLAIMS,
    *topology.CLAIMS,
    *ambiguity.CLAIMS,
    *probes.CLAIMS,
    *training.CLAIMS,
    *correctness.CLAIMS,
    *interventions.CLAIMS,
    *observability.CLAIMS,
)
