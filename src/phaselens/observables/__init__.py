"""Observables: what is measured on hidden states and on the distributions that the lens reads from them.

`OBSERVABLES` lists all that are measured tile by tile, `DEFAULT` those that are measured unless others are named,
`EXTENDED` the rest. `CLOUD` lists those that need the whole run, `MAPS` those that need the network: they are of its
maps and no columns of a trace.
"""

from collections.abc import Iterable

from phaselens.errors import unknown_name
from phaselens.observables import cloud, depth, distribution, growth, trajectory
from phaselens.observables.lens import LENS_STATISTICS, lens_statistics, statistics_from_logits
from phaselens.observables.spec import Observable, base_inputs, evaluate, observable, quantity, resolve, settings_of

TRAJECTORY = tuple(
    fn.observable
    for fn in (
        trajectory.step_length,
        trajectory.turning_angle,
        trajectory.instability,
        trajectory.frozen,
        trajectory.zero_step,
        trajectory.relative_step,
        trajectory.log_rms,
        trajectory.log_rms_core,
    )
)
DEPTH = tuple(
    fn.observable
    for fn in (depth.depth_step, depth.depth_angle, depth.depth_instability, depth.coherence, depth.state_sync)
)
DISTRIBUTION = tuple(
    fn.observable
    for fn in (
        distribution.entropy,
        distribution.entropy_norm,
        distribution.top1,
        distribution.top2,
        distribution.margin,
        distribution.rivalry,
        distribution.n_above_1pct,
        distribution.dispersion,
        distribution.top10_mass,
        distribution.logit_std,
        distribution.surprisal,
        distribution.rank,
        distribution.kl_to_final,
        distribution.agrees,
        distribution.lens_sync,
        distribution.turbulence,
        distribution.commit_layer,
        distribution.commit_depth,
        distribution.commit_layer_emitted,
        distribution.commitment,
        distribution.branching,
    )
)
EXTENDED = tuple(
    fn.observable
    for fn in (
        distribution.nucleus_mass,
        distribution.nucleus_size,
        distribution.nucleus_entropy,
        trajectory.tortuosity,
    )
)
DEFAULT = TRAJECTORY + DEPTH + DISTRIBUTION
OBSERVABLES = DEFAULT + EXTENDED
CLOUD = tuple(
    fn.observable
    for fn in (
        cloud.effective_rank,
        cloud.participation_ratio,
        cloud.intrinsic_dimension,
        cloud.anisotropy,
        cloud.radius_of_gyration,
        cloud.coe_r,
        cloud.coe_c,
    )
)
MAPS = (growth.depth_exponent.observable, growth.token_exponent.observable)


def by_name(names: Iterable[str]) -> tuple[Observable, ...]:
    """Observables of these names, in this order.

    Raises UnknownNameError, which says the nearest known name.
    """
    known = {one.name: one for one in OBSERVABLES + CLOUD}
    chosen = []
    for name in names:
        if name not in known:
            raise unknown_name("observable", name, known)
        chosen.append(known[name])
    return tuple(chosen)
