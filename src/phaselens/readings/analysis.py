"""Everything that judges a reading: capacity along depth, baselines, selectivity, code length, the control table."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from phaselens.errors import InputError
from phaselens.perturbations import control_labels, permute_labels
from phaselens.probes import HeldOut, Probes, Task, cross_fit, fit_logistic, grouped_folds, make_task
from phaselens.probes.capacity import (
    CapacityCurve,
    capacity,
    capacity_curve,
    macro_auroc,
    majority_share,
    max_over_layers_p,
)
from phaselens.probes.control_table import balanced_accuracy, control_accuracy, control_table
from phaselens.probes.controls import CONTROLS, Control, judged
from phaselens.probes.folds import check_folds
from phaselens.probes.mdl import online_code
from phaselens.probes.subspace import feature_curve, rank_curve
from phaselens.readings.template_transfer import template_transfer
from phaselens.statistics.intervals import Interval, percentile_interval
from phaselens.statistics.resampling import bootstrap_weights

PATH = (1e3, 1e2, 1e1, 1.0)
# One penalty for true and exchanged labels (one chosen with the true ones favours them); hits are counts: loose fits.
TEST_L2, LOOSE, CLOSE = 10.0, 1e-4, 1e-5
RANKS = (1, 2, 4, 8, 16)
REDRAWN = 100
Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How a reading is judged; the defaults are those of the definitions.

    `l2` a path to choose from inside each train fold, or one number; `n_draws` of every control row and control task;
    `n_permutations` of the test of the best layer, 0 for none. `table` and `code` leave out the slow parts;
    `controls` are the rows of the table.
    """

    l2: tuple[float, ...] = PATH
    n_folds: int = 5
    n_draws: int = 20
    n_boot: int = 2000
    n_permutations: int = 200
    table: bool = True
    code: bool = True
    seed: int = 0
    controls: tuple[Control, ...] = CONTROLS


@dataclass(frozen=True, eq=False)
class Reading:
    """What one question gives at every layer of one model.

    `curve` capacity on folds that keep groups and word types apart; `auroc`, `compression`, `selectivity` (NaN: no
    types) [layer]; `twin` and `covariates` the same curve from the untrained twin and from covariates; `over` the rise
    of the best layer over each baseline, `best_hits` [example] stand behind it; `best` capacity at one fixed penalty,
    its `p` against exchanged labels and their `null`; `controls`, `ranks` and `transfer` (between
    templates; empty where there are none or too many) are of the peak layer; `codes` [example]
    and `hits` [layer, example] are what they stand on; `probes` are fitted on all labelled examples. `notes` say what
    was left out.
    """

    name: str
    classes: np.ndarray
    codes: np.ndarray
    folds: np.ndarray
    units: np.ndarray
    hits: np.ndarray
    curve: CapacityCurve
    accuracy: np.ndarray
    balanced: np.ndarray
    auroc: np.ndarray
    selectivity: np.ndarray
    compression: np.ndarray
    twin: CapacityCurve | None
    covariates: CapacityCurve | None
    over: dict[str, Interval]
    p: float
    null: np.ndarray
    l2: float
    controls: list[dict[str, Any]]
    ranks: dict[str, list[float]]
    best: float
    best_hits: dict[str, np.ndarray]
    probes: Probes
    numbers: tuple[int, ...]
    transfer: dict[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def majority(self) -> float:
        """Share of the most frequent class (1)."""
        return majority_share(self.codes)

    @property
    def peak(self) -> int:
        """Index of the layer of largest capacity."""
        return int(np.argmax(self.curve.capacity))


def prepare(labels: np.ndarray, units: np.ndarray, n_folds: int) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Class numbers (-1: no label) and classes; classes that stand in fewer units than folds lose their labels.

    Raises InputError where fewer than two classes remain.
    """
    notes, kept = [], np.array([label is not None for label in labels])
    for name in np.unique([str(label) for label in labels[kept]]):
        members = np.array([label == name for label in labels])
        n = len(np.unique(units[members]))
        if n < n_folds:
            notes.append(f"class {str(name)!r} stands in {n} groups, fewer than {n_folds} folds: left out")
            kept &= ~members
    classes = np.unique([str(label) for label in labels[kept]])
    if len(classes) < 2:
        said = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"a probe needs two classes; the labels hold {len(classes)}: {classes.tolist()}{said}.")
    codes = np.full(len(labels), -1)
    codes[kept] = np.searchsorted(classes, [str(label) for label in labels[kept]])
    return codes, classes, tuple(notes)


def check_labels(
    labels: np.ndarray,
    groups: np.ndarray,
    kinds: np.ndarray | None,
    folds: np.ndarray | None,
    settings: Settings,
    disjoint: bool,
) -> None:
    """Refuse what `analyse` would refuse for its labels, groups and folds, before any state is captured.

    Raises InputError for one class, fewer groups than folds, own folds that cut a group.
    """
    units = groups if kinds is None or not disjoint else kinds
    prepare(labels, units, settings.n_folds if folds is None else 2)
    if folds is not None:
        check_folds(folds, groups, len(labels))


def exchanged(
    codes: np.ndarray, units: np.ndarray, generator: np.random.Generator, n: int, folds: np.ndarray | None = None
) -> np.ndarray:
    """Labels under the null, int [n, example]: whole units take each other's labels where most units have one label.

    Units that mostly hold several labels (a true and a false wording of one fact) keep their composition, and labels
    move inside them. Where a unit takes the labels of another of another size, they are drawn from it. With `folds`, a
    draw that leaves a train split with one class is drawn again, at most 100 times: the true labels are no such draw.
    """
    known = np.flatnonzero(codes >= 0)
    names, member = np.unique(units[known], return_inverse=True)
    parts = [codes[known[member == g]] for g in range(len(names))]
    several = [part for part in parts if len(part) > 1]
    mixed = sum(len(np.unique(part)) > 1 for part in several)
    if several and mixed > len(parts) / 2:
        return np.stack([permute_labels(codes, generator, groups=units) for _ in range(n)])
    out = np.repeat(codes[None], n, axis=0)
    for row in out:
        for _ in range(REDRAWN):
            donors = generator.permutation(len(names))
            for g, donor in enumerate(donors):
                mine = known[member == g]
                given = parts[donor]
                same = len(given) == len(mine)
                row[mine] = generator.permutation(given) if same else generator.choice(given, len(mine))
            if folds is None or _fits(row, known, folds):
                break
    return out


def _fits(row: np.ndarray, known: np.ndarray, folds: np.ndarray) -> bool:
    """Whether every train split holds two classes."""
    return all(len(np.unique(row[known[folds[known] != fold]])) > 1 for fold in np.unique(folds))


def analyse(
    name: str,
    layers: Sequence[np.ndarray],
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    kinds: np.ndarray | None = None,
    folds: np.ndarray | None = None,
    twin: Sequence[np.ndarray] | None = None,
    covariates: Sequence[np.ndarray] = (),
    numbers: tuple[int, ...] = (),
    settings: Settings = Settings(),  # noqa: B008  frozen
    say: Say = lambda text: None,
    disjoint: bool = True,
) -> Reading:
    """Judge what can be read of `labels` from the states of every layer.

    Capacity stands on folds that keep `kinds` (word types) whole where they are given and `disjoint` holds, else
    groups; where kinds are given each group should have one example (`thinned`), so that both are kept apart.
    Selectivity stands on folds by group, whose kinds are shared. `folds` are the user's own instead.
    Shapes: layers (layer, example, d), labels object [example] (None: no label), groups, kinds, folds [example].
    Raises InputError for one class, fewer groups than folds, own folds that cut a group, NaN features.
    """
    generator = np.random.default_rng([settings.seed, 5])
    units = groups if kinds is None or not disjoint else kinds
    codes, classes, notes = prepare(labels, units, settings.n_folds if folds is None else 2)
    if folds is None:
        folds = grouped_folds(units, settings.n_folds, generator)
        shared = grouped_folds(groups, settings.n_folds, generator)
    else:
        check_folds(folds, groups, len(codes))
        shared = folds
    task = _task(codes, classes, folds)
    weights = bootstrap_weights(len(np.unique(units)), generator, n_boot=settings.n_boot)

    def curve_of(some: Sequence[np.ndarray]) -> tuple[HeldOut, CapacityCurve]:
        found = cross_fit(some, {name: task}, _path(settings, task))[name]
        return found, capacity_curve(found.hits()[:, 0], codes, units, weights=weights)

    say("capacity")
    found, curve = curve_of(layers)
    l2 = float(np.exp(np.median(np.log(found.probes.l2))))
    peak = int(np.argmax(curve.capacity))
    say("baselines")
    twin_found = None if twin is None else curve_of(twin)
    other_found = curve_of(covariates) if len(covariates) else None
    baselines = {"untrained twin": twin_found, "covariates": other_found}
    say("selectivity")
    chosen, chosen_notes = _selectivity(
        layers, codes, classes, kinds, shared=shared, l2=l2, settings=settings, generator=generator
    )
    say("permutations")
    best, p, null = best_layer(layers, task, units, settings, generator)
    say("code")
    nats = online_code(layers, codes, units, generator) if settings.code else None
    compression = np.full(len(layers), np.nan) if nats is None else nats.compression
    say("controls")
    hits = found.hits()[:, 0]
    controls = _controls(layers[peak], task, units, kinds, l2, settings, generator=generator) if settings.table else []
    over, best_hits = _over(hits, codes, units, weights, {k: v[0] for k, v in baselines.items() if v is not None})
    known = codes >= 0
    return Reading(
        name,
        classes,
        codes,
        folds,
        units,
        hits=hits,
        curve=curve,
        accuracy=found.accuracy()[:, 0],
        balanced=np.array(
            [balanced_accuracy(row[known], codes[known], len(classes)) for row in found.predictions()[:, 0]]
        ),
        auroc=np.asarray(macro_auroc(found.scores[:, 0].numpy(), codes)),
        selectivity=chosen,
        compression=compression,
        twin=None if twin_found is None else twin_found[1],
        covariates=None if other_found is None else other_found[1],
        over=over,
        p=p,
        null=null,
        l2=l2,
        controls=controls,
        ranks=_ranks(layers[peak], task, l2),
        best=best,
        best_hits=best_hits,
        probes=fit_logistic(layers, np.where(known, classes[codes].astype(object), None), None, l2),
        numbers=numbers or tuple(range(len(layers))),
        transfer=template_transfer(layers[peak], labels, codes, kinds, shared, l2),
        notes=(*notes, *chosen_notes),
    )


def _task(codes: np.ndarray, classes: np.ndarray, folds: np.ndarray) -> Task:
    made = make_task(codes, folds)
    return Task(made.codes, classes, made.folds)


def _path(settings: Settings, task: Task) -> tuple[float, ...]:
    """The penalties to choose from; with two folds there is no inner split, and the middle one is taken."""
    return settings.l2 if task.n_folds > 2 else settings.l2[len(settings.l2) // 2 : len(settings.l2) // 2 + 1]


def _selectivity(
    layers: Sequence[np.ndarray],
    codes: np.ndarray,
    classes: np.ndarray,
    kinds: np.ndarray | None,
    shared: np.ndarray,
    l2: float,
    settings: Settings,
    generator: np.random.Generator,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Accuracy on folds that share kinds less that on control tasks, both at one l2: [layer], and why it is NaN."""
    nothing = np.full(len(layers), np.nan)
    if kinds is None:
        return nothing, ("selectivity: no word types or templates were given, so no control task can be drawn",)
    if len(np.unique(kinds)) < 2:
        return nothing, ("selectivity: every example has the same word type or template",)
    task = _task(codes, classes, shared)
    own = cross_fit(layers, {"": task}, l2, tol=LOOSE)[""].accuracy()[:, 0]
    draws = control_labels(codes, kinds, generator, n_draws=settings.n_draws)
    try:
        return own - control_accuracy(layers, task, draws, l2=l2, tol=LOOSE).mean(axis=1), ()
    except InputError as error:
        return nothing, (f"selectivity: a control task could not be fitted ({error})",)


def best_layer(
    layers: Sequence[np.ndarray], task: Task, units: np.ndarray, settings: Settings, generator: np.random.Generator
) -> tuple[float, float, np.ndarray]:
    """Capacity of the best layer (1), its p, and the null maxima; one fixed l2 on both sides, none chosen with labels.

    Shapes: layers (layer, example, d), units [example] (what exchanges labels). NaN without permutations.
    """
    if settings.n_permutations < 1:
        return float("nan"), float("nan"), np.empty(0)
    own = cross_fit(layers, {"": task}, TEST_L2, tol=LOOSE)[""].accuracy()[:, 0]
    moved = exchanged(task.codes[0], units, generator, settings.n_permutations, task.folds)
    drawn = control_accuracy(layers, task, moved, l2=TEST_L2, tol=LOOSE)
    # Exchanging labels between groups of unequal size moves the majority share, so capacities are compared.
    null = np.stack([capacity(column, row) for column, row in zip(drawn.T, moved, strict=True)], axis=1)
    own = capacity(own, task.codes[0])
    p, top = max_over_layers_p(own, null)
    return float(own.max()), p, top


def _over(
    hits: np.ndarray, codes: np.ndarray, units: np.ndarray, weights: np.ndarray, baselines: dict[str, HeldOut]
) -> tuple[dict[str, Interval], dict[str, np.ndarray]]:
    """Capacity at the best layer less that of each baseline at its own, and the hits behind them [example].

    Best layers are chosen on one half of the units and read on the other, and the other way round, so that the choice
    among several layers gains nothing. The baseline l = 0 has one layer.
    """
    names, member = np.unique(units, return_inverse=True)  # halves by a checksum, whatever the order of examples
    half = np.argsort(np.argsort([zlib.crc32(str(n).encode()) for n in names], kind="stable")) % 2
    mine = _at_best(hits, half[member])
    others = {"embedding (l = 0)": hits[0]}
    others |= {name: _at_best(found.hits()[:, 0], half[member]) for name, found in baselines.items()}
    scale, known = 1 - majority_share(codes), codes >= 0
    total = weights @ np.bincount(member[known], minlength=len(names)).astype(float)
    out = {}
    for name, base in others.items():
        gain = weights @ np.bincount(member[known], (mine - base)[known], minlength=len(names))
        draws = np.where(total > 0, gain / np.where(total > 0, total, 1), np.nan) / scale
        out[name] = percentile_interval(draws, len(names))
    return out, {"own": mine, **others}


def _at_best(hits: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Hits at the layer that is best on the other half of the units: [example]."""
    out = np.empty(hits.shape[1])
    for side in (0, 1):
        out[half == side] = hits[int(np.nanmean(hits[:, half != side], axis=1).argmax()), half == side]
    return out


def _controls(
    layer: np.ndarray,
    task: Task,
    units: np.ndarray,
    kinds: np.ndarray | None,
    l2: float,
    settings: Settings,
    generator: np.random.Generator,
) -> list[dict[str, object]]:
    """The control table of one layer as rows: balanced accuracy refit and frozen, mean and range over draws."""
    one = np.asarray(layer)[None]
    base = cross_fit(one, {"t": task}, l2, tol=CLOSE)
    on_states = {c.name: c.perturb for c in settings.controls if c.on == "hidden"}
    got = control_table(
        one,
        base,
        on_states,
        generator,
        l2=l2,
        n_draws=settings.n_draws,
        tol=CLOSE,
        needs_labels=frozenset(c.name for c in settings.controls if c.by_class),
    )
    codes = task.codes[0]
    known = codes >= 0
    own = balanced_accuracy(base["t"].predictions()[0, 0][known], codes[known], len(task.classes))
    rows = []
    for control in settings.controls:
        if control.on == "hidden":
            found = got[control.name, "t"]
            rows.append(_row(control, found.refit_balanced[0], found.frozen_balanced[0], found.refit[0], own, task))
            continue
        if control.name == "labels permuted":
            draws = exchanged(codes, units, generator, settings.n_draws, task.folds)
        elif kinds is not None and len(np.unique(kinds)) > 1:
            draws = control.perturb(codes, kinds, generator, n_draws=settings.n_draws)
        else:
            continue
        try:
            accuracy = control_accuracy(one, task, draws, l2=l2, tol=CLOSE)[0]
        except InputError:  # few and unequal types can leave a train split with one class
            accuracy = np.full(1, np.nan)
        nothing = np.full(len(accuracy), np.nan)
        rows.append(_row(control, nothing, nothing, accuracy, own, task))
    sorted_features = np.sort(np.asarray(layer), axis=1)[None]
    bound = cross_fit(sorted_features, {"t": task}, l2)["t"]
    share = balanced_accuracy(bound.predictions()[0, 0][known], codes[known], len(task.classes))
    bounded = {c.name for c in settings.controls if "below the bound" in c.must}
    for row in rows:
        row["bound"] = share + 0.05 if row["control"] in bounded else float("nan")
    return judged(rows, settings.controls)


def _row(
    control: Any, refit: np.ndarray, frozen: np.ndarray, accuracy: np.ndarray, own: float, task: Task
) -> dict[str, object]:
    row: dict[str, Any] = {"control": control.name, "kind": control.kind, "unchanged": own}
    for which, values, expected in (("refit", refit, control.refit), ("frozen", frozen, control.frozen)):
        ends: dict[str, Callable[[np.ndarray], Any]] = {"": np.mean, "_lo": np.min, "_hi": np.max}
        row |= {f"{which}{end}": float(of(values)) for end, of in ends.items()} | {f"{which}_expected": expected}
    row |= {"accuracy": float(np.mean(accuracy)), "capacity": float(capacity(np.mean(accuracy), task.codes[0]))}
    return row | {"chance": 1 / len(task.classes), "n_draws": len(refit)}


def _ranks(layer: np.ndarray, task: Task, l2: float) -> dict[str, list[float]]:
    """Held-out accuracy of the retained subspace and of the best single features by how many are kept (1)."""
    some = tuple(k for k in RANKS if k <= layer.shape[1])
    features = torch.as_tensor(np.asarray(layer))
    try:
        hits = [np.nanmean(curve(features, task, some, l2=l2), axis=1) for curve in (rank_curve, feature_curve)]
    except InputError:  # one token everywhere: at l = 0 its embedding is constant
        hits = [np.full(len(some), np.nan)] * 2
    return {"k": list(some), "subspace": hits[0].tolist(), "features": hits[1].tolist()}
