"""What behaviour loses when a subspace of the states is taken out, layer by layer, against random subspaces.

Every subspace is fitted on one half of the units and taken out on the other, so that no item is judged by directions
that were fitted to it.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from phaselens.capture.replay import advance
from phaselens.errors import InputError
from phaselens.interventions.outcome_records import Causal
from phaselens.interventions.signature import clean_run, forward, identity_gap, ids_of
from phaselens.models import Model, encoder, record
from phaselens.models.hooks import begun_at, forms_of
from phaselens.organisms.questions import agreement_pairs
from phaselens.probes.crossfit import make_task
from phaselens.probes.erasure import (
    Eraser,
    fit_leace,
    project_out,
    random_subspace,
    random_subspace_of_variance,
    removed_variance,
)
from phaselens.probes.subspace import reduced_hits, supervised_basis
from phaselens.trace.transcripts import Transcripts

ARMS = ("probe subspace", "LEACE", "mean", "patch")
RANDOM = ("equal rank", "equal variance")
ROWS, CELLS = 256, 1 << 26  # of one pass: items times changes, and numbers in its logits


@dataclass(frozen=True, eq=False)
class Items:
    """Questions with two answers, each one token that follows the text.

    `ids` [item, time], padded on the right, whose last token is at `last`; `right` and `wrong` token ids [item];
    `labels` what the probe reads [item]; `partner` the item that a patch is taken from (-1: none); `units` [item].
    """

    ids: np.ndarray
    last: np.ndarray
    right: np.ndarray
    wrong: np.ndarray
    labels: np.ndarray
    partner: np.ndarray
    units: np.ndarray


def two_choices(model: Model, rows: Sequence[tuple[str, str, str, str, str, str]]) -> Items:
    """Items from texts: (text, right word, wrong word, label, unit, key); a partner has the same key, another label.

    Words follow after a space; what both answers begin with is put into the text. Raises TokenizerError without a
    tokenizer, InputError where no answers are left or labels are one.
    """
    encode, made = encoder(model), []
    for text, right, wrong, label, unit, key in rows:
        head, a, b = encode(text), encode(f"{text} {right}"), encode(f"{text} {wrong}")
        same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
        if same is not None and same >= len(head) - 1:
            made.append((a[:same], a[same], b[same], label, unit, key))
    if len({row[3] for row in made}) < 2:
        raise InputError(f"{len(made)} of {len(rows)} items have answers that differ in one token; labels must differ.")
    last = np.array([len(row[0]) - 1 for row in made])
    ids = np.full((len(made), int(last.max()) + 1), model.pad_id)
    for i, row in enumerate(made):
        ids[i, : last[i] + 1] = row[0]
    partner = [
        next((j for j, other in enumerate(made) if other[5] == row[5] and other[3] != row[3]), -1) for row in made
    ]
    columns = [np.array([row[k] for row in made]) for k in (1, 2, 3, 4)]
    return Items(ids, last, columns[0], columns[1], labels=columns[2], partner=np.array(partner), units=columns[3])


def world_items(model: Model) -> Items:
    """The organisms' agreement stories: is or are after a noun, in the plural or not, with other things between or not.

    The label is the number of the subject, the partner the same story in the other number, the unit the noun.
    """
    rows = []
    for i, p in enumerate(agreement_pairs()):
        number, between = p.tag.split(", ")
        if p.right in ("are", "is") and between != "same between":
            rows.append((p.text, p.right, p.wrong, number, str(i // 12), f"{i // 12}-{between}"))
    return two_choices(model, rows)


def causal_effects(
    model: Model,
    items: Items,
    *,
    layers: Sequence[int] = (),
    rank: int = 2,
    n_random: int = 40,
    seed: int = 0,
    elsewhere: Transcripts | None = None,
    progress: Callable[[int, int], None] = lambda i, n: None,
) -> Causal:
    """Take the label's subspace out at the last token of every item, at each layer by itself, and see the margin.

    Arms: the rank-k subspace of partial least squares, LEACE, the mean state in place, and the state of the partner in
    place; against `n_random` random subspaces of the same rank, and of the same rank and removed variance. Raises
    ModelRefused where strength 0 is not an exact nothing, InputError for layers that do not exist or one unit.
    """
    chosen = tuple(layers) or tuple(range(model.n_layers + 1))
    wrong = [layer for layer in chosen if not 0 <= layer <= model.n_layers]
    if wrong or len(np.unique(items.units)) < 4:
        raise InputError(
            f"layers {wrong} do not exist: {model.name} has 0 to {model.n_layers}." if wrong else "wanted four units."
        )
    run = _Runner(model, items)
    states, codes = run.states(), np.unique(items.labels, return_inverse=True)[1]
    names, member = np.unique(items.units, return_inverse=True)
    half = (np.random.default_rng([seed, 41]).permutation(len(names)) % 2)[member]
    task = make_task(items.labels, half)
    made = _unchanged(model, items, run.margin(model.n_layers, states[-1][None])[0], chosen, rank, n_random)
    other = None if elsewhere is None else _Elsewhere(model, elsewhere, made, chosen)
    majority = np.bincount(codes).max() / len(codes)
    for i, layer in enumerate(chosen):
        x = states[layer]
        hits = reduced_hits(x, task, lambda f, c: supervised_basis(f, c, rank), 1.0)
        made.capacity[i] = (np.nanmean(hits) - majority) / (1 - majority)
        draw = torch.Generator().manual_seed(seed * 7919 + layer)
        erasers = [_erasers(x[half != h], codes[half != h], rank, n_random, draw) for h in (0, 1)]
        changes = _changes(x, erasers, half, items.partner)
        for name, values in zip(changes, run.margin(layer, torch.stack([*changes.values()])), strict=True):
            made.margin[name][i] = np.where((items.partner < 0) & (name == "patch"), np.nan, values)
        for kind in RANDOM:
            pairs = list(zip(*(e[kind] for e in erasers), strict=True))
            there = [k for k, pair in enumerate(pairs) if None not in pair]
            if there:
                puts = torch.stack([_halved(x, pairs[k], half) for k in there])
                made.random[kind][there, i] = run.margin(layer, puts)
        if other is not None:
            other.add(i, layer, erasers[0])
        progress(i + 1, len(chosen))
    return made


def _unchanged(
    model: Model, items: Items, plain: np.ndarray, layers: tuple[int, ...], rank: int, n_random: int
) -> Causal:
    """The record before anything is changed: margins of every arm are NaN."""
    return Causal(
        model.name,
        model.family,
        layers=layers,
        n_layers=model.n_layers,
        plain=plain,
        capacity=np.zeros(len(layers)),
        margin={name: np.full((len(layers), len(plain)), np.nan) for name in ARMS},
        random={name: np.full((n_random, len(layers), len(plain)), np.nan) for name in RANDOM},
        units=items.units,
        identity=identity_gap(model),
        rank=rank,
    )


def _erasers(x: Tensor, codes: np.ndarray, rank: int, n_random: int, draw: torch.Generator) -> dict:
    """Everything that is fitted on one half: erasers by arm, random ones as lists (None: there is none)."""
    basis = supervised_basis(x, codes, rank)
    own = project_out(basis.T, x.mean(dim=0))
    variance = removed_variance(own, x)
    return {
        "probe subspace": own,
        "LEACE": fit_leace(x, codes),
        "mean": x.mean(dim=0),
        "equal rank": [random_subspace(x.mean(dim=0), own.rank, draw) for _ in range(n_random)],
        "equal variance": [_of_variance(x, own.rank, variance, draw) for _ in range(n_random)],
    }


def _of_variance(x: Tensor, rank: int, variance: float, draw: torch.Generator) -> Eraser | None:
    try:
        return random_subspace_of_variance(x, rank, variance, draw)
    except InputError:
        return None


def _halved(x: Tensor, pair: Sequence[Eraser], half: np.ndarray) -> Tensor:
    """States of every item through the eraser that was fitted on the other half: [item, d]."""
    first, second = (eraser(x) for eraser in pair)
    return torch.where(torch.as_tensor(half == 0)[:, None], first, second)


def _changes(x: Tensor, erasers: Sequence[dict], half: np.ndarray, partner: np.ndarray) -> dict[str, Tensor]:
    """The states that every arm puts in place: [item, d]."""
    means = torch.stack([e["mean"] for e in erasers])
    return {
        "probe subspace": _halved(x, [e["probe subspace"] for e in erasers], half),
        "LEACE": _halved(x, [e["LEACE"] for e in erasers], half),
        "mean": means[torch.as_tensor(half)],
        "patch": x[torch.as_tensor(np.maximum(partner, 0))],
    }


@dataclass(frozen=True, eq=False)
class _Alike:
    """Items of one length: rows, ids [item, time] behind `behind` tokens in the cache, states by layer, block forms."""

    rows: np.ndarray
    ids: Tensor
    behind: int
    states: dict[int, Tensor]
    forms: list
    cache: Any


class _Runner:
    """Passes over the last token of all items, behind kept keys and values, begun at the layer that is changed.

    Where no cache of keys and values was proved the whole text is run.
    """

    def __init__(self, model: Model, items: Items) -> None:
        self.model, self.items = model, items
        self.alike = [self._of_length(int(last)) for last in np.unique(items.last)]

    def _of_length(self, last: int) -> _Alike:
        model, rows = self.model, np.flatnonzero(self.items.last == last)
        ids = torch.as_tensor(self.items.ids[rows, : last + 1], device=model.device)
        behind = last if model.facts.cache == "past_key_values" and model.facts.chunks else 0
        with torch.no_grad(), record(model, clone=True) as taps, forms_of(model.blocks) as forms:
            cache = advance(model, ids[:, :behind], 0, None, keep_cache=True) if behind else None
            forward(model, ids, 1)  # the taps hold the last pass
        states = {layer: state[:, behind:].clone() for layer, state in taps.states.items()}
        return _Alike(rows, ids[:, behind:], behind, states, forms, cache)

    def states(self) -> list[Tensor]:
        """The states of the last token by layer, each float32 [item, d]."""
        made = [torch.empty(len(self.items.last), self.model.d_model) for _ in range(self.model.n_layers + 1)]
        for one in self.alike:
            for layer, state in one.states.items():
                made[layer][one.rows] = state[:, -1].float().cpu()
        return made

    def margin(self, layer: int, put: Tensor) -> np.ndarray:
        """Margins [change, item] with the states `put` [change, item, d] in place of the last token's at one layer."""
        out = np.empty(put.shape[:2])
        for one in self.alike:
            most = max(1, min(ROWS, CELLS // self.model.vocab_size) // len(one.rows))
            for start in range(0, len(put), most):
                some = put[start : start + most, one.rows]
                out[start : start + most, one.rows] = self._margin(one, layer, some.to(self.model.device))
        return out

    def _margin(self, one: _Alike, layer: int, put: Tensor) -> np.ndarray:
        k, cache = len(put), deepcopy(one.cache)
        if cache is not None:
            cache.batch_repeat_interleave(k)
        state = one.states[layer].repeat_interleave(k, dim=0)
        state[:, -1] = put.transpose(0, 1).flatten(0, 1).to(state)
        with torch.no_grad(), begun_at(self.model, layer, state, one.forms):
            ids = one.ids.repeat_interleave(k, dim=0)
            logits = forward(self.model, ids, 1, behind=one.behind, cache=cache)[:, 0].unflatten(0, (-1, k))
        rows = torch.arange(len(one.rows))
        right, wrong = (torch.as_tensor(ids[one.rows]) for ids in (self.items.right, self.items.wrong))
        return (logits[rows, :, right].float() - logits[rows, :, wrong].float()).T.cpu().double().numpy()


class _Elsewhere:
    """Surprisal of other text when the same subspaces are out at every generated step."""

    def __init__(self, model: Model, said: Transcripts, made: Causal, layers: Sequence[int]) -> None:
        self.model, self.made, self.runs = model, made, [(t, clean_run(model, t)) for t in said]
        made.elsewhere_plain = self._surprisal(model.n_layers, [lambda states: states])[0]
        names = ("probe subspace", "LEACE", *RANDOM)
        made.elsewhere |= {name: np.full((len(layers), len(said)), np.nan) for name in names}

    def add(self, i: int, layer: int, erasers: dict) -> None:
        """All arms at one layer, with the first random subspace of each kind."""
        some = {name: erasers[name][0] if name in RANDOM else erasers[name] for name in self.made.elsewhere}
        there = {name: eraser for name, eraser in some.items() if eraser is not None}
        for name, values in zip(there, self._surprisal(layer, [*there.values()]), strict=True):
            self.made.elsewhere[name][i] = values

    def _surprisal(self, layer: int, changes: Sequence[Callable[[Tensor], Tensor]]) -> np.ndarray:
        """Mean surprisal [change, run], all changes of a run in one pass begun at the layer."""
        out = np.empty((len(changes), len(self.runs)))
        for i, (t, clean) in enumerate(self.runs):
            state = clean.states[layer].repeat(len(changes), 1, 1)
            for row, change in zip(state, changes, strict=True):
                row[t.n_prompt - 1 :] = change(row[t.n_prompt - 1 :].cpu()).to(row)
            ids = ids_of(self.model, t).expand(len(state), -1)
            with torch.no_grad(), begun_at(self.model, layer, state, clean.forms):
                logs = forward(self.model, ids, t.n_generated).float().log_softmax(dim=-1)
            out[:, i] = -logs[:, torch.arange(t.n_generated), torch.tensor(t.completion_ids)].mean(dim=1).cpu().numpy()
        return out
