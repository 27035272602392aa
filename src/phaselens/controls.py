"""The controls of a probe: a perturbation, and what it must do to a refit and to a frozen probe, as data.

The runner (`phaselens.probes.table`) takes the perturbations; results and expectations are printed side by side.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from phaselens import perturbations

DOSES = (0.25, 0.5, 1.0, 2.0, 4.0)
Kind = Literal["sanity", "destroys", "dose", "moments"]


@dataclass(frozen=True)
class Control:
    """One row of the control table.

    `on` says what is changed; `refit` and `frozen` are the expectations in words ("-": not run). `kind`: a sanity row
    follows from algebra and is evidence of nothing but a working program; `destroys` takes the signal away; a `dose`
    falls with its size; `moments` says how much of the signal is two moments per class.
    """

    name: str
    perturb: Callable
    on: Literal["hidden", "labels"]
    refit: str
    frozen: str
    kind: Kind


_FROZEN_ROTATED = "chance on average over >= 100 draws; single draws .37-.73 of balanced accuracy"

CONTROLS: tuple[Control, ...] = (
    Control("identity", perturbations.identity, "hidden", "equal", "equal", "sanity"),
    Control("rotation", perturbations.rotate, "hidden", "equal exactly (algebra)", _FROZEN_ROTATED, "sanity"),
    Control(
        "feature permutation, fixed",
        perturbations.permute_features,
        "hidden",
        "equal exactly (it is a rotation)",
        _FROZEN_ROTATED,
        "sanity",
    ),
    Control(
        "feature permutation, per example",
        perturbations.permute_features_per_example,
        "hidden",
        "<= a probe on the sorted features + .05",
        "<= a probe on the sorted features + .05",
        "destroys",
    ),
    *(
        Control(f"noise {k:g} x RMS", perturbations.noise(k), "hidden", "falls with k", "falls with k", "dose")
        for k in DOSES
    ),
    *(
        Control(
            f"noise {k:g} x feature SD",
            perturbations.noise_per_feature(k),
            "hidden",
            "falls with k",
            "falls with k",
            "dose",
        )
        for k in DOSES
    ),
    Control("Gaussian, pooled", perturbations.gaussian_pooled, "hidden", "chance", "chance", "sanity"),
    Control("Gaussian, by class", perturbations.gaussian_by_class, "hidden", "kept", "kept", "moments"),
    Control("labels permuted", perturbations.permute_labels, "labels", "chance", "-", "destroys"),
    Control("control task", perturbations.control_labels, "labels", "selectivity", "-", "destroys"),
)
