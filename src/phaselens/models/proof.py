"""Prove on load that states and logits are read right; a model that fails is refused, never guessed at."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from phaselens.models.compare_tensors import gap, identical
from phaselens.models.discover import probe_ids
from phaselens.models.facts import Proved, declared_window, switch_candidates
from phaselens.models.forward import run
from phaselens.models.hooks import Call, amplify, edit, record, watch
from phaselens.models.model import Model, Proof, Row
from phaselens.models.narrow_head import narrowed, narrowing, narrows

# Of the largest logit: what sums in another order differ by in each precision, and far below what a wrong norm does.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6, torch.float16: 5e-3, torch.bfloat16: 3e-2}
REORDERED = 4  # half precision: sums in another order (cache, padding) differ by more than the readout does
TIME = 8
PADDED = 3
EDITED = 1
DRAWS = 4  # some families overflow on some random tokens
LONG = 64
LOUD = 60.0  # twice the soft cap of Gemma 2 (30), so that a tanh must show


def prove(model: Model, *, seed: int = 0) -> Proof:
    """Check states, lens, hooks, interventions, causality, lengths, padding and cache on a short random input.

    Takes about 17 forward passes over 8 tokens; all but one compute a few hundred columns of the vocabulary where the
    network allows it. Leaves the model as it was. Where a network does not repeat its own logits bit by bit (some
    kernels on accelerators), rows that ask for it ask for the tolerance instead.
    """
    network = model.network
    time = min(TIME, (model.context or TIME) - PADDED)
    tol = TOLERANCE.get(model.dtype, 1e-4)
    tries = (_tried_ids(model, seed + 1 + draw, time) for draw in range(DRAWS))
    finite = next((tried for tried in tries if bool(tried[2].isfinite().all())), None)
    ids, last, whole = finite or _tried_ids(model, seed + 1, time)
    mask = torch.ones_like(ids)
    first = [_finite(whole), _lens(model, last, whole, tol)]
    columns = narrowing(network, model.vocab_size)
    if columns is not None and narrows(network, ids, columns, tol, whole):
        with narrowed(network, columns):
            return _proof(replace(model, readout=model.readout.restrict(columns)), ids, mask, tol, first)
    return _proof(model, ids, mask, tol, first)


def _tried_ids(model: Model, seed: int, time: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids drawn from `seed`, and of a pass over them the states at layer L and the logits."""
    ids = probe_ids(model.network, model.vocab_size, seed=seed, time=time)
    with record(model, (model.n_layers,), clone=True) as taps:
        logits = run(model.network, ids, mask=torch.ones_like(ids)).logits[..., : model.vocab_size].float()
    return ids, taps.states[model.n_layers], logits


def _proof(model: Model, ids: Tensor, mask: Tensor, tol: float, first: list[Row]) -> Proof:
    """Every row but the `first` ones (of a pass over the whole vocabulary), in the order in which they are shown."""
    network = model.network
    plain = run(network, ids, mask=mask).logits
    own = plain[..., : model.vocab_size].float()
    bare = replace(model, facts=replace(model.facts, in_place=False))
    blocks = {str(i): block for i, block in enumerate(model.blocks)}
    with record(bare) as views, record(model, clone=True) as taps, watch(blocks) as calls:
        hooked = run(network, ids, mask=mask).logits
    # Only where hooks seem to change bits is the bare network asked whether it repeats its own.
    repeats = identical(plain, hooked) or identical(plain, run(network, ids, mask=mask).logits)
    noise = 0.0 if repeats else tol
    states = dict(taps.states)
    short = run(network, ids[:, :-PADDED], mask=mask[:, :-PADDED]).logits[..., : model.vocab_size].float()
    again = tol if tol <= 1e-4 else REORDERED * tol
    rows = [
        first[0],
        _chain(model, calls),
        _raw(model, states),
        first[1],
        _alone(model, states[model.n_layers], tol),
        _loud(model, ids, mask, states, own, tol),
        _same("hooks_on", "logits with capture hooks equal those without, bit by bit", plain, hooked, noise),
        _interventions(model, ids, mask, plain, noise),
        _edited_lens(model, ids, mask, tol),
        _row("causal", gap(short, own[:, : short.shape[1]]), again, "later tokens do not change earlier logits"),
    ]
    decodes, chunks, pads_left = _informative(model, ids, own, short, again)
    switch, lengths = _lengths(model, ids, again)
    facts = Proved(
        in_place=any(not identical(views.states[i], states[i]) for i in states),
        decodes=decodes.passed,
        chunks=chunks.passed,
        pads_left=pads_left.passed,
        switch=switch,
    )
    after = run(network, ids, mask=mask).logits
    rows.append(_same("hooks_gone", "logits after all this equal those before, bit by bit", plain, after, noise))
    return Proof((*rows, decodes, chunks, pads_left, *lengths), facts)


def _row(name: str, value: float, tolerance: float, detail: str, needed: bool = True) -> Row:
    return Row(name, value <= tolerance, value, tolerance, detail, needed)


def _same(name: str, detail: str, a: Tensor, b: Tensor, noise: float) -> Row:
    if noise:
        detail += " (within tolerance: the network does not repeat its own logits bit by bit)"
    return _row(name, 0.0 if identical(a, b) else max(gap(a, b), 1e-30), noise, detail)


def _finite(own: Tensor) -> Row:
    return _row("finite", float((~torch.isfinite(own)).float().mean()), 0.5, "share of the logits that is not finite")


def _chain(model: Model, calls: list[Call]) -> Row:
    """Both sides of every joint: the output of block i is the input of block i + 1."""
    order = [call.name for call in calls] == [str(i) for i in range(model.n_layers)]
    gaps = [gap(a.out, b.into) for a, b in zip(calls, calls[1:], strict=False)] if order else [float("inf")]
    return _row(
        "chain", max(gaps, default=0.0), 0.0, f"output of block i is the input of block i+1, at {model.block_path}"
    )


def _raw(model: Model, states: dict[int, Tensor]) -> Row:
    """The state at layer L is what the last block wrote, not yet through the final norm."""
    wanted = (*states[0].shape[:2], model.d_model)
    wrong = sum(tuple(state.shape) != wanted for state in states.values())
    tail = model.facts.tail
    detail = (
        f"states at layers 0..L are {list(wanted)}, and L is before {' > '.join(tail) or 'the head (no final norm)'}"
    )
    if tail:
        with torch.no_grad():
            normed = model.readout.norm(states[model.n_layers])
        same = normed.shape == states[model.n_layers].shape and torch.equal(normed, states[model.n_layers])
        wrong += int(same)
    return _row("raw", float(wrong), 0.0, detail)


def _lens(model: Model, last: Tensor, own: Tensor, tol: float) -> Row:
    """On the whole vocabulary, once: the other rows look at a few hundred of its columns."""
    with torch.no_grad():
        lens = model.readout.logits(last)
    return _row("lens", gap(lens, own), tol, "lens at layer L equals the model's own logits")


def _alone(model: Model, last: Tensor, tol: float) -> Row:
    """The readout is applied as capture does: to states laid flat, in any order, one at a time, never beside others."""
    flat = last.flatten(0, 1)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(3)).to(flat.device)
    with torch.no_grad():
        whole = model.readout.before_head(last).flatten(0, 1)
        ways = [model.readout.before_head(flat), model.readout.before_head(flat[order])[torch.argsort(order)]]
        ways.append(torch.cat([model.readout.before_head(state[None]) for state in flat]))
    detail = "what the head reads of a state does not depend on the states beside it (flat, permuted, one at a time)"
    return _row("alone", max(gap(way, whole) for way in ways), tol, detail)


def _loud(model: Model, ids: Tensor, mask: Tensor, states: dict[int, Tensor], own: Tensor, tol: float) -> Row:
    """The same with the head's product turned up until a soft cap must show, known or not."""
    factor = LOUD / max(float(own.abs().max()), 1e-6)
    with amplify(model.network.get_submodule(model.facts.head), factor):
        logits = run(model.network, ids, mask=mask).logits[..., : model.vocab_size].float()
    bias = model.readout.bias
    if model.facts.outside_bias:
        bias = None if bias is None else bias / factor
    loud = replace(model.readout, weight=model.readout.weight, scale=model.readout.scale * factor, bias=bias)
    with torch.no_grad():
        lens = loud.logits(states[model.n_layers])
    return _row("loud_lens", gap(lens, logits), tol, f"the same with the head turned up to logits of {LOUD:g}")


def _change(model: Model, layer: int, seed: int = 5) -> Callable[[Tensor], Tensor]:
    """Noise of the state's own size, drawn on the CPU."""

    def change(state: Tensor) -> Tensor:
        noise = torch.randn(state.shape, generator=torch.Generator().manual_seed(seed + layer)).to(state)
        return state + noise * state.float().pow(2).mean(-1, keepdim=True).sqrt().clamp(min=1e-3).to(state.dtype)

    return change


def _interventions(model: Model, ids: Tensor, mask: Tensor, plain: Tensor, noise: float) -> Row:
    """An identity edit changes nothing; a change at any layer changes the logits: one row of a batch for each layer."""
    layers = range(model.n_layers + 1)
    with edit(model, dict.fromkeys(layers, lambda state: state)):
        same = run(model.network, ids, mask=mask).logits
    dead = [] if identical(same, plain) or gap(same, plain) <= noise else ["identity"]
    rows = ids[:1, :EDITED].repeat(len(layers), 1)
    unmoved = run(model.network, rows, mask=torch.ones_like(rows)).logits

    def changing(layer: int) -> Callable[[Tensor], Tensor]:
        def change(state: Tensor) -> Tensor:
            state = state.clone()
            state[layer : layer + 1] = _change(model, layer)(state[layer : layer + 1])
            return state

        return change

    with edit(model, {layer: changing(layer) for layer in layers}):
        moved = run(model.network, rows, mask=torch.ones_like(rows)).logits
    for a, b, layer in zip(moved, unmoved, layers, strict=True):
        if identical(a, b) or gap(a, b) <= noise:
            dead.append(str(layer))
    detail = "an edit at every layer changes the logits, the identity does not"
    return _row("interventions", float(len(dead)), 0.0, detail + (f"; wrong: {', '.join(dead)}" if dead else ""))


def _edited_lens(model: Model, ids: Tensor, mask: Tensor, tol: float) -> Row:
    """After an edit half way up, captured states still explain the logits, and the edited layer holds the edit."""
    layer = model.n_layers // 2
    with edit(model, {layer: _change(model, layer)}), record(model, (layer, model.n_layers), clone=True) as taps:
        logits = run(model.network, ids, mask=mask).logits[..., : model.vocab_size]
    with torch.no_grad():
        lens = model.readout.logits(taps.states[model.n_layers])
    return _row(
        "edited_lens", gap(lens, logits.float()), tol, f"lens at L equals the logits after an edit at layer {layer}"
    )


def _lengths(model: Model, ids: Tensor, tol: float) -> tuple[int | None, tuple[Row, ...]]:
    """Whether factors change where a sequence crosses a length that the configuration names, and at which.

    Positions around that length are given to a few tokens; a network whose factors depend on the whole length gives
    the first of them other logits when later ones stand beyond it.
    """
    known = [n for n in switch_candidates(model.network.config) if n < (model.context or n + 1)]
    for length in known:
        positions = torch.arange(ids.shape[1], device=ids.device)[None] + length - ids.shape[1] + PADDED
        short, near = ids[:, :-PADDED], positions[:, :-PADDED]
        takes = "position_ids" in model.facts.takes
        found = float("inf")
        if takes:
            both = [
                run(model.network, given, mask=torch.ones_like(given), positions=at.expand_as(given)).logits
                for given, at in ((ids, positions), (short, near))
            ]
            found = gap(both[0][:, : short.shape[1]], both[1])
        row = _row("lengths", found, tol, f"positions beyond {length} leave earlier logits as they are", needed=False)
        if not row.passed:
            return length, (row,)
    return None, ()


def _informative(model: Model, ids: Tensor, own: Tensor, short: Tensor, tol: float) -> tuple[Row, Row, Row]:
    """Cache and padding: a failure changes how the model is run, not whether. A short sliding window is passed over.

    Pieces of several tokens and single ones are tried in one go, and apart where that fails.
    """
    window = declared_window(model.network.config)
    if window is not None and TIME < window + PADDED < min(LONG, model.context or LONG):
        ids = probe_ids(model.network, model.vocab_size, seed=3, time=window + PADDED)
        own, short = (
            run(model.network, given, mask=torch.ones_like(given)).logits[..., : model.vocab_size].float()
            for given in (ids, ids[:, :-PADDED])
        )
    half, rest = ids.shape[1] // 2, ids.shape[1] - ids.shape[1] // 2
    singly, pieces = "one token at a time with the cache equals one pass", "a pass in pieces equals one pass"
    decoding = _tried("decoding", singly, tol, _pieces_gap, model, ids, own, [half, rest - 2, 1, 1])
    cached = replace(decoding, name="cached", detail=pieces)
    if not decoding.passed or rest < 4:
        decoding = _tried("decoding", singly, tol, _pieces_gap, model, ids, own, [half + rest - 3, 1, 1, 1])
        cached = _tried("cached", pieces, tol, _pieces_gap, model, ids, own, [half, rest - 1, 1])
    detail = "left-padded logits equal unpadded ones" + (", decoding with the cache too" if decoding.passed else "")
    padding = _tried("left_padding", detail, tol, _padded_gap, model, ids, own, short[1:], decoding.passed)
    return decoding, cached, padding


def _tried(name: str, detail: str, tol: float, measure: Callable[..., float], *given: object) -> Row:
    try:
        found = measure(*given)
    except Exception as error:  # a family that cannot run this way at all, in whatever words of its own
        said = (str(error).splitlines() or [""])[0][:120]
        found, detail = float("inf"), f"{detail}: {type(error).__name__}: {said}"
    return _row(name, found, tol, detail, needed=False)


def _padded_gap(model: Model, ids: Tensor, own: Tensor, alone: Tensor, cached: bool) -> float:
    """Row 0 whole, row 1 without its last tokens and padded on the left; against each alone."""
    short = ids[1:, :-PADDED]
    padded = torch.cat([ids[:1], torch.cat([torch.full_like(ids[1:, :PADDED], model.pad_id), short], dim=1)])
    mask = torch.ones_like(ids)
    mask[1, :PADDED] = 0
    if cached:
        first = run(model.network, padded[:, :-1], mask=mask[:, :-1], use_cache=True)
        second = run(model.network, padded[:, -1:], mask=mask, cache=first.cache, use_cache=True)
        both = torch.cat([first.logits, second.logits], dim=1)
    else:
        both = run(model.network, padded, mask=mask).logits
    both = both[..., : model.vocab_size]
    return max(gap(both[:1], own[:1]), gap(both[1:, PADDED:], alone))


def _pieces_gap(model: Model, ids: Tensor, own: Tensor, sizes: list[int]) -> float:
    if model.facts.cache is None:
        raise ValueError("no cache")
    cache, start, parts = None, 0, []
    for size in sizes:
        mask = torch.ones_like(ids[:, : start + size])
        piece = ids[:, start : start + size]
        done = run(model.network, piece, mask=mask, cache=cache, use_cache=True)
        if done.cache is None:
            raise ValueError("no cache came back")
        cache, start = done.cache, start + size
        parts.append(done.logits)
    return gap(torch.cat(parts, dim=1)[..., : model.vocab_size], own)
