"""The controls of a probe: a perturbation, and what it must do to a refit and to a frozen probe, as data.

The runner (`phaselens.probes.control_table`) takes the perturbations; each result is held against its expectation.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from phaselens import perturbations

DOSES = (0.25, 0.5, 1.0, 2.0, 4.0)
Kind = Literal["sanity", "destroys", "dose", "moments"]
Must = Literal["equal", "chance", "chance in the mean", "below the bound", "fall", "be kept", ""]
# How far a balanced accuracy may be off; draws that a mean at chance needs.
SLACK, NEAR, MANY = 0.02, 0.1, 100


@dataclass(frozen=True)
class Control:
    """One row of the control table.

    `on` says what is changed; `refit` and `frozen` are the expectations in words ("-": not run), `must` the same for
    both as `judged` holds them against the result ("": neither is judged). `kind`: a sanity row
    follows from algebra and is evidence of nothing but a working program; `destroys` takes the signal away; a `dose`
    falls with its size; `moments` says how much of the signal is two moments per class. `by_class`: the perturbation
    reads the labels, so it is drawn anew for each task. One on labels takes (codes, kinds, generator, n_draws=...).
    """

    name: str
    perturb: Callable
    on: Literal["hidden", "labels"]
    refit: str
    frozen: str
    kind: Kind
    must: tuple[Must, Must] = ("", "")
    by_class: bool = False


_ROTATED: tuple[Must, Must] = ("equal", "chance in the mean")
_FALLS: tuple[Must, Must] = ("fall", "fall")
_CHANCE: tuple[Must, Must] = ("chance", "chance")
_KEPT: tuple[Must, Must] = ("be kept", "be kept")
_FROZEN_ROTATED = "chance on average over >= 100 draws; single draws .37-.73 of balanced accuracy"

CONTROLS: tuple[Control, ...] = (
    Control("identity", perturbations.identity, "hidden", "equal", "equal", kind="sanity", must=("equal", "equal")),
    Control("rotation", perturbations.rotate, "hidden", "equal exactly (algebra)", _FROZEN_ROTATED, "sanity", _ROTATED),
    Control(
        "feature permutation, fixed",
        perturb=perturbations.permute_features,
        on="hidden",
        refit="equal exactly (it is a rotation)",
        frozen=_FROZEN_ROTATED,
        kind="sanity",
        must=_ROTATED,
    ),
    Control(
        "feature permutation, per example",
        perturb=perturbations.permute_features_per_example,
        on="hidden",
        refit="<= a probe on the sorted features + .05",
        frozen="<= a probe on the sorted features + .05",
        kind="destroys",
        must=("below the bound", "below the bound"),
    ),
    *(
        Control(f"noise {k:g} x {what}", make(k), "hidden", "falls with k", "falls with k", "dose", must=_FALLS)
        for what, make in (("RMS", perturbations.noise), ("feature SD", perturbations.noise_per_feature))
        for k in DOSES
    ),
    Control("Gaussian, pooled", perturbations.gaussian_pooled, "hidden", "chance", "chance", "sanity", must=_CHANCE),
    Control(
        "Gaussian, by class", perturbations.gaussian_by_class, "hidden", "kept", "kept", "moments", _KEPT, by_class=True
    ),
    Control("labels permuted", perturbations.permute_labels, "labels", "chance", "-", "destroys"),
    Control("control task", perturbations.control_labels, "labels", "selectivity", "-", "destroys"),
)


def judged(rows: Sequence[dict[str, Any]], controls: Sequence[Control] = CONTROLS) -> list[dict[str, Any]]:
    """The rows of a control table with `refit_holds` and `frozen_holds`: "yes", "no", or "" where it is not judged.

    A row has balanced accuracies (1): `refit` and `frozen` with the range over draws (`_lo`, `_hi`), `unchanged`,
    `chance`, `bound`; and `n_draws`. "equal" to .02; "chance" where its range holds chance or the mean is within .1 of
    it ("in the mean": within .02, from 100 draws on); "fall": at most .02 above the smaller dose before, and the
    unchanged states; "be kept": more than half of what is above chance.
    """
    known = {c.name: c for c in controls}
    last: dict[tuple[str, str], float] = {}
    out = []
    for row in rows:
        made = dict(row)
        for which, must in zip(("refit", "frozen"), known[row["control"]].must, strict=True):
            series = (which, row["control"].partition(" x ")[2])
            made[f"{which}_holds"] = _holds(must, row, which, last.get(series, row["unchanged"]))
            last[series] = row[which]
        out.append(made)
    return out


def _holds(must: Must, row: dict[str, Any], which: str, before: float) -> str:
    value, chance = row[which], row["chance"]
    if not must or not math.isfinite(value) or (must == "chance in the mean" and row["n_draws"] < MANY):
        return ""
    met = {
        "equal": abs(value - row["unchanged"]) <= SLACK,
        "chance": row[f"{which}_lo"] <= chance <= row[f"{which}_hi"] or abs(value - chance) <= NEAR,
        "chance in the mean": abs(value - chance) <= SLACK,
        "below the bound": value <= row["bound"],
        "fall": value <= before + SLACK,
        "be kept": value - chance > (row["unchanged"] - chance) / 2,
    }[must]
    return "yes" if met else "no"
