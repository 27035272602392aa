"""Experiment: how often models are in which state, and how states follow each other. Tables, and G7 and G8."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from phaselens.dynamics.chains import by_run, depth_chains, dwell_times, expected_counts, few_runs, transition_counts
from phaselens.dynamics.state_alphabets import occupancies, state_counts
from phaselens.experiments.base import Panel, Result, declared
from phaselens.experiments.result_tables import bounds, filled
from phaselens.experiments.state_claims import state_evidence, sweep_rows
from phaselens.experiments.state_labels import (
    ALPHABETS,
    COLUMNS,
    Labelled,
    by_prompt,
    label_panel,
    labelled,
    own_threshold,
)
from phaselens.statistics.intervals import percentile_interval
from phaselens.statistics.resampling import resampled_ratio

CHOICES = ("l*", "all")
PUBLISHED = {
    "gpt2": {"E": 0.35, "A": 0.22, "C": 0.24, "D": 0.034},
    "opt125m": {"E": 0.51, "A": 0.24, "C": 0.18, "D": 0.0},
}


@dataclass(frozen=True, eq=False)
class Axis:
    """Chains of one kind: along depth, or along generation at l* or at every layer; the two are never pooled."""

    name: str
    choice: str

    def chains(self, found: Labelled, alphabet: str) -> np.ndarray | None:
        """Chains [run, chain, place] of a model; None where the layer was not recorded."""
        if self.name == "generation":
            return found.generation(alphabet, self.choice)
        # layers 1..L only, so the embedding's place in front of them is empty
        states = found.states[alphabet]
        return depth_chains(np.concatenate([np.full((*states.shape[:2], 1), -1, states.dtype), states], axis=-1))


AXES = (Axis("generation", "l*"), Axis("generation", "all"), Axis("depth", "all"))


def occupancy_rows(panel: Panel, found: Labelled, threshold: str) -> list[dict]:
    """Share of each state of both alphabets at l* and over all layers 1..L, with prompt-bootstrap intervals."""
    rows = []
    for alphabet, names in ALPHABETS.items():
        for choice in CHOICES:
            where = found.layer_choice(choice)
            cells = np.zeros((len(panel.units), len(names)))
            if where is not None:
                per_run = state_counts(found.states[alphabet][:, :, where], len(names))
                cells = by_prompt(per_run, found.cells.prompt, len(panel.units))
            value, draws = occupancies(cells), occupancies(cells, panel.weights)
            seen = cells.sum(axis=1) > 0
            for i, name in enumerate(names):
                interval = percentile_interval(draws[:, i], int(seen.sum()))
                n_runs = int(np.isin(found.cells.prompt, np.flatnonzero(seen)).sum())
                rows.append(
                    _whose(found, alphabet)
                    | {"threshold": threshold, "layer_choice": choice, "state": name, **_published(alphabet, name)}
                    | {"value": value[i], **bounds(interval), "n_cells": int(cells.sum()), "n_runs": n_runs}
                    | {"n_prompts": int(seen.sum())}
                    | {"reason": interval.reason if seen.any() else _nowhere(found, choice)}
                )
    return rows


def _whose(found: Labelled, alphabet: str, axis: Axis | None = None) -> dict:
    where = {} if axis is None else {"axis": axis.name, "layer_choice": axis.choice}
    return {**found.cells.model.info.named, "alphabet": alphabet, **where}


def _published(alphabet: str, name: str) -> dict:
    known = alphabet == "bifurcation"
    return {f"published_{m}": of.get(name[0], np.nan) if known else np.nan for m, of in PUBLISHED.items()}


def _nowhere(found: Labelled, choice: str) -> str:
    model = found.cells.model
    if choice == "l*" and model.layer_of_record == model.info.n_layers:
        return "l* is the last layer, where turbulence is undefined"
    return f"no defined cell at {choice}"


def transition_rows(panel: Panel, found: Labelled, alphabet: str, axis: Axis) -> list[dict]:
    """One row per pair of states: how often the second follows the first, and how often in random order.

    `count` transitions out of the `left` that begin in the first state; `P` is their ratio.
    `P_order` is the exact mean over all orders within a chain, `excess = P - P_order`; both from sums over chains.
    """
    names, n = ALPHABETS[alphabet], len(panel.units)
    k = len(names)
    chains = axis.chains(found, alphabet)
    seen = expected = np.zeros((n, k, k))
    if chains is not None:
        seen, expected = (
            by_prompt(by_run(counted, chains, k), found.cells.prompt, n)
            for counted in (transition_counts, expected_counts)
        )
    pair, row = np.moveaxis(seen, 0, -1), np.moveaxis(seen.sum(axis=2), 0, -1)
    pair_order, row_order = np.moveaxis(expected, 0, -1), np.moveaxis(expected.sum(axis=2), 0, -1)
    whole = np.ones((1, n))
    p, order = (
        resampled_ratio(a, np.broadcast_to(b[:, None], a.shape), whole)[0]
        for a, b in ((pair, row), (pair_order, row_order))
    )
    draws = resampled_ratio(pair, np.broadcast_to(row[:, None], pair.shape), panel.weights)
    excess = draws - resampled_ratio(pair_order, np.broadcast_to(row_order[:, None], pair.shape), panel.weights)
    rows = []
    for i, j in np.ndindex(k, k):
        prompts = int((row[i] > 0).sum())
        around, beyond = (percentile_interval(d[:, i, j], prompts) for d in (draws, excess))
        rows.append(
            _whose(found, alphabet, axis)
            | {"origin": names[i], "destination": names[j], "count": int(pair[i, j].sum()), "left": int(row[i].sum())}
            | {"P": p[i, j], **bounds(around), "P_order": order[i, j], "n_prompts": prompts}
            | {"excess": p[i, j] - order[i, j], **bounds(beyond, "excess")}
            | {"reason": "" if not around.reason else "never left" if not row[i].sum() else around.reason}
        )
    return rows


def dwell_rows(found: Labelled, alphabet: str, axis: Axis) -> list[dict]:
    """Mean length of the whole visits to each state (places of the chain), and how many were cut by an end."""
    names = ALPHABETS[alphabet]
    chains = axis.chains(found, alphabet)
    if chains is None:
        return []
    parts = (dwell_times(some, len(names)) for some in few_runs(chains))
    sums = [(d.counts.sum(axis=(0, 1)), d.cut.sum(axis=(0, 1))) for d in parts]
    counts, cut = (sum(of) for of in zip(*sums, strict=True))
    visits = counts.sum(axis=-1)
    length = (counts * np.arange(counts.shape[-1])).sum(axis=-1)
    return [
        _whose(found, alphabet, axis)
        | {"state": name, "mean_length": length[i] / visits[i] if visits[i] else np.nan}
        | {"visits": int(visits[i]), "cut": int(cut[i]), "reason": "" if visits[i] else "no whole visit"}
        for i, name in enumerate(names)
    ]


def _notes(panel: Panel, found: Mapping[str, Labelled]) -> tuple[str, ...]:
    absent = [m.info.name for m in panel.models if m.info.name not in found]
    return (f"no states for {', '.join(absent)}: {lacking_states(panel)}",) if absent else ()


def lacking_states(panel: Panel) -> str:
    """Why models of the panel have no states, in words."""
    if not any((~m.measured).any() for m in panel.trained):
        return "no calibration runs, whose turbulence sets the threshold"
    return f"states need {', '.join(COLUMNS)} at a layer between 1 and L - 1"


def states_evidence(panel: Panel) -> dict:
    """The evidence for G7 and G8 as `analyse_states` gives it, without its tables."""
    return state_evidence(panel, label_panel(panel), lacking_states(panel))[0]


def analyse_states(panel: Panel) -> Result:
    """Tables states, states_transitions, states_dwell, states_sweep; evidence for G7 and G8."""
    found = label_panel(panel)
    own = (labelled(one.cells, own_threshold(one.cells.model)) for one in found.values())
    occupancy = [row for one in found.values() for row in occupancy_rows(panel, one, "panel")]
    occupancy += [row for one in own for row in occupancy_rows(panel, one, "model")]
    each = [(one, alphabet, axis) for one in found.values() for alphabet, axis in product(ALPHABETS, AXES)]
    evidence, sweeps = state_evidence(panel, found, lacking_states(panel))
    return Result(
        filled(
            states=occupancy,
            states_transitions=[row for one, names, axis in each for row in transition_rows(panel, one, names, axis)],
            states_dwell=[row for one, names, axis in each for row in dwell_rows(one, names, axis)],
            states_sweep=sweep_rows(sweeps),
        ),
        evidence=evidence,
        notes=_notes(panel, found),
    )


STATES = declared("states", analyse_states, states_evidence, layers=COLUMNS)
