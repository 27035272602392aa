"""Observables: what is measured on hidden states and on the distributions that the lens reads from them.

`OBSERVABLES` lists all that are measured tile by tile, `DEFAULT` those that are measured unless others are named,
`EXTENDED` the rest. `CLOUD` lists those that need the whole run, `MAPS` those that need the network: they are of its
maps and no columns of a trace.
"""

from collections.abc import Iterable
from types import ModuleType

from phaselens.errors import unknown_name
from phaselens.observables import cloud, depth, distribution, growth, trajectory
from phaselens.observables.lens import LENS_STATISTICS, lens_statistics, statistics_from_logits
from phaselens.observables.spec import Observable, base_inputs, evaluate, observable, quantity, resolve, settings_of


def _of(module: ModuleType, names: str) -> tuple[Observable, ...]:
    return tuple(getattr(module, name).observable for name in names.split())


TRAJECTORY = _of(
    trajectory, "step_length turning_angle instability frozen zero_step relative_step log_rms log_rms_core"
)
DEPTH = _of(depth, "depth_step depth_angle depth_instability coherence state_sync")
DISTRIBUTION = _of(
    distribution,
    "entropy entropy_norm top1 top2 margin rivalry n_above_1pct dispersion top10_mass logit_std surprisal rank "
    "kl_to_final agrees lens_sync turbulence commit_layer commit_depth commit_layer_emitted commitment branching",
)
EXTENDED = _of(distribution, "nucleus_mass nucleus_size nucleus_entropy") + _of(trajectory, "tortuosity")
DEFAULT = TRAJECTORY + DEPTH + DISTRIBUTION
OBSERVABLES = DEFAULT + EXTENDED
CLOUD = _of(cloud, "effective_rank participation_ratio intrinsic_dimension anisotropy radius_of_gyration coe_r coe_c")
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
