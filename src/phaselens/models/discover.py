"""Find blocks, final norm and head of a network by its structure and by following one short pass through it.

No table of names: the blocks are the ModuleList whose modules are called once each, in order, each reading what the one
before wrote; what stands between the last block and the head is found by following the values.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from phaselens.errors import ModelRefused
from phaselens.models.facts import Facts, cap_candidates, declared_layers, scale_candidates, settle, special_ids
from phaselens.models.forward import arguments, cache_name, run
from phaselens.models.hooks import LAYOUTS, Call, canonical, watch
from phaselens.types import Readout

BATCH, TIME = 2, 7
OVERRIDES = ("blocks", "tail", "head", "scale", "cap", "bias")
FORM = (
    'Help it with overrides, as TOML or a dict: blocks = "path of the ModuleList", tail = ["paths from the last block to '
    'the head, the final norm among them"], head = "path of the unembedding", scale = 1.0, cap = 30.0, bias = "path of a '
    'bias outside the head".'
)


@dataclass(frozen=True)
class Adapter:
    """Where things are in one network: its blocks in order, how its states become logits, and its facts."""

    blocks: tuple[nn.Module, ...]
    block_path: str
    d_model: int
    facts: Facts
    readout: Readout


class Tail:
    """What stands between the last block and the head, as one function from [..., d_model] to [..., d_head]."""

    def __init__(self, steps: tuple[Callable[[Tensor], Tensor], ...], layout: str, streams: int, cast: bool) -> None:
        self.steps, self.layout, self.streams, self.cast = steps, layout, streams, cast

    def __call__(self, hidden: Tensor) -> Tensor:
        """Apply the steps; several streams are put apart first, in the layout that the network uses."""
        if not self.steps:
            return hidden
        if self.cast:
            hidden = hidden.float()
        if self.layout in ("btd", "tbd"):
            for step in self.steps:
                hidden = step(hidden)
            return hidden
        lead = hidden.shape[:-1]
        state = hidden.reshape(1, -1, self.streams, hidden.shape[-1] // self.streams)
        state = state.permute([LAYOUTS[self.layout].index(axis) for axis in range(4)])
        for step in self.steps:
            state = step(state)
        return state.reshape(*lead, state.shape[-1])


def probe_ids(network: nn.Module, rows: int, *, seed: int = 0, batch: int = BATCH, time: int = TIME) -> Tensor:
    """Token ids [batch, time] drawn from `seed` among the first `rows`, special ids left out."""
    special = special_ids(network.config)
    plain = torch.tensor([i for i in range(rows) if i not in special] or list(range(rows)))
    draw = torch.randint(len(plain), (batch, time), generator=torch.Generator().manual_seed(seed))
    return plain[draw].to(next(network.parameters()).device)


def discover(network: nn.Module, *, rows: int, overrides: Mapping[str, Any] | None = None) -> Adapter:
    """Find the adapter of `network`, whose first `rows` vocabulary rows are real tokens.

    Runs two short passes. Raises ModelRefused where blocks, head or the way between them cannot be found.
    """
    overrides = dict(overrides or {})
    unknown = sorted(set(overrides) - set(OVERRIDES))
    if unknown:
        raise ModelRefused(f"overrides {unknown} are unknown; known: {', '.join(OVERRIDES)}. {FORM}")
    notes = settle(network)
    ids = probe_ids(network, rows)
    path, states = find_blocks(network, ids, overrides.get("blocks"))
    blocks = tuple(network.get_submodule(path))
    layout, streams = layout_of(states[-1], path)
    head_path, head = find_head(network, overrides.get("head"))
    outside = {n: m for n, m in network.named_modules() if n and not n.startswith(path + ".")}
    with watch(outside, since=blocks[-1]) as calls:
        own = run(network, ids, mask=torch.ones_like(ids)).logits
    names, steps, factor = follow(network, calls, states[-1], head_path, overrides.get("tail"))
    readout, facts = make_readout(head, steps, layout, streams, rows)
    facts = replace(
        facts,
        family=network.config.model_type,
        tail=names,
        head=head_path,
        notes=notes,
        takes=arguments(network),
        cache=cache_name(network),
    )
    hidden = canonical(states[-1], layout)
    readout, facts = finish(network, readout, facts, hidden, own[..., :rows], factor, overrides)
    return Adapter(blocks, path, hidden.shape[-1], facts, readout)


def find_blocks(network: nn.Module, ids: Tensor, wanted: str | None) -> tuple[str, list[Tensor]]:
    """Path of the block list, and the states at layers 0..L of one pass in the network's own layout."""
    lists = {n: m for n, m in network.named_modules() if isinstance(m, nn.ModuleList) and len(m) and n}
    if wanted is not None:
        if wanted not in lists:
            raise ModelRefused(
                f"overrides say blocks = {wanted!r}, which is no ModuleList here; there are {sorted(lists)}."
            )
        lists = {wanted: lists[wanted]}
    children = {f"{n}.{i}": child for n, m in lists.items() for i, child in enumerate(m)}
    with watch(children) as calls:
        run(network, ids, mask=torch.ones_like(ids))
    good, why = {}, []
    for name, modules in lists.items():
        states, reason = chain_of(name, len(modules), calls)
        if states is None:
            why.append(f"{name} ({len(modules)}): {reason}")
        else:
            good[name] = states
    declared = declared_layers(network.config)
    exact = {n: s for n, s in good.items() if len(s) - 1 == declared} or good
    outer = [n for n in exact if not any(n.startswith(other + ".") for other in exact)]
    if len(outer) == 1:
        return outer[0], exact[outer[0]]
    said = (
        f"{len(outer)} lists of modules could be the blocks: {outer}"
        if outer
        else "no list of modules is a chain of blocks"
    )
    raise ModelRefused(
        f"{network.config.model_type}: {said} (declared layers: {declared}; seen: {'; '.join(why) or 'none'}). {FORM}"
    )


def chain_of(name: str, length: int, calls: list[Call]) -> tuple[list[Tensor] | None, str]:
    """States 0..length of a list of modules if it is a chain of blocks, else None and the reason."""
    own = [call for call in calls if call.name.rpartition(".")[0] == name]
    order = [int(call.name.rpartition(".")[2]) for call in own]
    if order != list(range(length)):
        return None, "not called" if not order else f"called in the order {order[:12]}, not once each"
    if any(call.into is None or call.out is None for call in own):
        return None, "reads or writes no state"
    for before, after in zip(own, own[1:], strict=False):
        if before.out.shape != after.into.shape or not torch.equal(before.out, after.into):
            return None, f"output of {before.name} is not the input of {after.name}"
    if own[0].into.shape != own[-1].out.shape:
        return None, "the state changes its shape on the way"
    return [own[0].into, *(call.out for call in own)], ""


def layout_of(state: Tensor, path: str) -> tuple[str, int]:
    """Layout of a state of the probe, and its number of residual streams."""
    shape = tuple(state.shape)
    if len(shape) == 3 and shape[:2] == (BATCH, TIME):
        return "btd", 1
    if len(shape) == 3 and shape[:2] == (TIME, BATCH):
        return "tbd", 1
    if len(shape) == 4 and shape[:2] == (BATCH, TIME):
        return "btsd", shape[2]
    if len(shape) == 4 and shape[1:3] == (BATCH, TIME):
        return "sbtd", shape[0]
    raise ModelRefused(f"blocks at {path}: a state of shape {shape} for {BATCH} x {TIME} tokens has no known layout.")


def find_head(network: nn.Module, wanted: str | None) -> tuple[str, nn.Module]:
    """Path and module of the unembedding."""
    if wanted is not None:
        return wanted, network.get_submodule(wanted)
    try:
        head = network.get_output_embeddings()
    except (AttributeError, NotImplementedError):
        head = None
    weight = getattr(head, "weight", None)
    if weight is None or weight.dim() != 2:
        what = "none" if head is None else type(head).__name__
        raise ModelRefused(
            f"{network.config.model_type}: no single output embedding (the library gives {what}), so states do not "
            f"become logits in one step. {FORM}"
        )
    return next(name for name, module in network.named_modules() if module is head), head


def without_head(module: nn.Module, inner: str) -> nn.Module:
    """A shallow copy of `module` (weights shared) in which the submodule at path `inner` passes its input on."""
    out = copy.copy(module)
    out._modules = dict(module._modules)
    first, _, rest = inner.partition(".")
    out._modules[first] = without_head(module._modules[first], rest) if rest else nn.Identity()
    return out


def follow(
    network: nn.Module, calls: list[Call], last: Tensor, head_path: str, wanted: list[str] | None
) -> tuple[tuple[str, ...], tuple[Callable, ...], float]:
    """Way from the last block's output to the head's input: module paths, functions, and a constant factor."""
    read = [call.into for call in calls if call.name == head_path and call.into is not None]
    if not read:
        raise ModelRefused(f"{network.config.model_type}: the head {head_path} is not called. {FORM}")
    if wanted is not None:
        return tuple(wanted), tuple(network.get_submodule(name) for name in wanted), 1.0
    ways: list[tuple[tuple[str, ...], tuple[Callable, ...], Tensor]] = [((), (), last)]
    seen: set[str] = set()
    for names, steps, value in ways:
        factor = proportional(value, read[-1])
        if factor is not None:
            return names, steps, factor
        for call in calls:
            if call.name in seen or call.into is None or call.into.shape != value.shape:
                continue
            if not torch.equal(call.into, value) or call.name == head_path:
                continue
            seen.add(call.name)
            module = network.get_submodule(call.name)
            if head_path.startswith(call.name + "."):
                module = without_head(module, head_path[len(call.name) + 1 :])
                with torch.no_grad():
                    ways.append(((*names, call.name), (*steps, module), module(value)))
            elif call.out is not None:
                ways.append(((*names, call.name), (*steps, module), call.out))
    tried = ", ".join(sorted({call.name for call in calls})[:12])
    raise ModelRefused(
        f"{network.config.model_type}: no way found from the last block's output to the head's input; modules called "
        f"between: {tried}. {FORM}"
    )


def proportional(value: Tensor, target: Tensor) -> float | None:
    """The constant c with target = c * value within rounding, or None."""
    if value.shape != target.shape:
        return None
    if torch.equal(value, target):
        return 1.0
    x, y = value.double(), target.double()
    factor = float((x * y).sum() / (x * x).sum().clamp(min=1e-30))
    rounding = 1e-5 if value.dtype == torch.float32 else 1e-2
    return factor if float((y - factor * x).abs().max()) <= rounding * float(y.abs().max()) else None


def make_readout(
    head: nn.Module, steps: tuple[Callable, ...], layout: str, streams: int, rows: int
) -> tuple[Readout, Facts]:
    """Readout without scale and cap, and the facts of its layout."""
    half = head.weight.dtype != torch.float32
    if half:
        steps = tuple(copy.deepcopy(step).float() for step in steps)
    bias = getattr(head, "bias", None)
    weight = head.weight.detach()[:rows]
    bias = None if bias is None else bias.detach()[:rows]
    reshaping = tuple(step for step in steps if getattr(step, "weight", None) is not None and step.weight.dim() == 2)
    bare = Tail(reshaping, layout, streams, half) if reshaping and streams == 1 else None
    readout = Readout(weight=weight, bias=bias, norm=Tail(steps, layout, streams, half), bare=bare)
    return readout, Facts(family="", layout=layout, streams=streams)


def finish(
    network: nn.Module,
    readout: Readout,
    facts: Facts,
    hidden: Tensor,
    own: Tensor,
    factor: float,
    overrides: Mapping[str, Any],
) -> tuple[Readout, Facts]:
    """Add scale, cap and outside bias: from overrides, else from the configuration or measured on one pass."""
    if "bias" in overrides:
        outside = network.get_parameter(overrides["bias"]) if overrides["bias"] else None
        readout = replace(readout, bias=None if outside is None else outside.detach().flatten()[: own.shape[-1]])
        facts = replace(facts, outside_bias=overrides["bias"] or None)
    if "scale" in overrides or "cap" in overrides:
        cap = overrides.get("cap")
        scale, cap = float(overrides.get("scale", 1.0)), None if cap is None else float(cap)
        return replace(readout, scale=scale, cap=cap), replace(facts, scale=scale, cap=cap)
    if readout.bias is not None and factor != 1.0:
        readout = replace(readout, bias=readout.bias / factor)
    with torch.no_grad():
        plain = readout.logits(hidden).double()
    scale, cap, notes = scale_and_cap(network.config, plain, own.double(), factor)
    return replace(readout, scale=scale, cap=cap), replace(facts, scale=scale, cap=cap, notes=(*facts.notes, *notes))


def scale_and_cap(
    config: Any, plain: Tensor, own: Tensor, factor: float
) -> tuple[float, float | None, tuple[str, ...]]:
    """Scale and cap with own = cap(scale * plain); the proof decides later whether they hold."""
    best, answer = float("inf"), (factor, None, ())
    for name, cap in {"": None, **cap_candidates(config)}.items():
        target = own
        if cap is not None:
            inside = own.abs().amax() < cap
            if not inside:
                continue
            target = cap * torch.atanh(own / cap)
        scale = float((plain * target).sum() / (plain * plain).sum().clamp(min=1e-30))
        scale, where = nearest(scale, {"1": 1.0, "on the way to the head": factor, **scale_candidates(config)})
        guess = scale * plain if cap is None else cap * torch.tanh(scale * plain / cap)
        error = float((guess - own).abs().max())
        if error < best * 0.5:
            notes = () if cap is None else (f"logits soft-capped at {cap:g} ({name})",)
            notes += () if scale == 1.0 else (f"logits multiplied by {scale:g} ({where})",)
            best, answer = error, (scale, cap, notes)
    return answer


def nearest(scale: float, known: Mapping[str, float]) -> tuple[float, str]:
    """The named number within 1e-4 of a measured scale, else the measured one."""
    name, value = min(known.items(), key=lambda item: abs(item[1] - scale))
    return (value, name) if abs(value - scale) <= 1e-4 * abs(scale) else (scale, "measured on one pass")
