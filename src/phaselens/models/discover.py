"""Find blocks, final norm and head of a network by its structure and by following one short pass through it.

No table of names: the blocks are the ModuleList whose modules are called once each, in order, each reading what the one
before wrote; what stands between the last block and the head is found by following the values.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from phaselens.errors import InputError, ModelRefused, unknown_name
from phaselens.models.compare_tensors import gap, identical
from phaselens.models.devices import home
from phaselens.models.facts import (
    MERGES,
    WHY,
    Facts,
    Network,
    Overrides,
    declared_layers,
    settle,
    special_ids,
    text_config,
)
from phaselens.models.forward import arguments, cache_name, run
from phaselens.models.hooks import Call, canonical, watch
from phaselens.models.narrow_head import narrowed, narrowing, narrows
from phaselens.models.unembedding import finish, make_readout
from phaselens.types import Readout

BATCH, TIME = 2, 7
OVERRIDES = tuple(Overrides.__annotations__)
FORM = (
    'Help it with overrides, as TOML or a dict, any of: blocks = "path of the ModuleList", norm = "path of the final '
    'norm" (or tail = ["all paths from the last block to the head"]), head = "path of the unembedding", scale = 1.0, '
    'cap = 30.0, bias = "path of a bias outside the head".'
)


@dataclass(frozen=True)
class Adapter:
    """Where things are in one network: its blocks in order, how its states become logits, and its facts."""

    blocks: tuple[nn.Module, ...]
    block_path: str
    d_model: int
    facts: Facts
    readout: Readout


def probe_ids(network: Network, rows: int, *, seed: int = 0, batch: int = BATCH, time: int = TIME) -> Tensor:
    """Token ids [batch, time] drawn from `seed` among the first `rows`, special ids left out."""
    special = special_ids(network.config)
    plain = torch.tensor([i for i in range(rows) if i not in special] or list(range(rows)))
    draw = torch.Generator().manual_seed(seed)
    return plain[torch.randint(len(plain), (batch, time), generator=draw)].to(home(network))


def discover(network: Network, *, rows: int, overrides: Mapping[str, object] | None = None) -> Adapter:
    """Find the adapter of `network`, whose first `rows` vocabulary rows are real tokens.

    Runs about ten passes over 7 tokens, most with a few hundred columns of the vocabulary. Raises ModelRefused where
    blocks, head or the way between them cannot be found, InputError for overrides of another form or with paths that
    do not exist.
    """
    known = known_overrides(network, overrides or {}, rows)
    columns = None if known.get("bias") or "head" in known else narrowing(network, rows)
    try:
        if columns is not None and narrows(network, probe_ids(network, rows), columns, 1e-3):
            with narrowed(network, columns):
                adapter = _found(network, rows, known)
            if not adapter.facts.outside_bias:
                return adapter
        return _found(network, rows, known)
    except ModelRefused as error:
        why = WHY.get(network.config.model_type)
        raise (ModelRefused(f"{why} ({error})") if why else error) from error.__cause__


def _found(network: Network, rows: int, overrides: Overrides) -> Adapter:
    """The adapter, step by step; a refusal says which step."""
    notes = settle(network)
    ids = probe_ids(network, rows)
    refuse_acausal(network, ids)
    chain = find_blocks(network, ids, overrides.get("blocks"))
    last = chain.states[-1]
    layout, streams = layout_of(last, chain.path)
    head_path, head = find_head(network, overrides.get("head"))
    outside = {n: m for n, m in network.named_modules() if n and not n.startswith(chain.path + ".")}
    with watch(outside, since=chain.blocks[-1]) as calls:
        run(network, ids, mask=torch.ones_like(ids))
    names, steps, factor = follow(network, calls, last, head_path, overrides.get("tail"))
    readout = make_readout(head, steps, layout, streams, rows)
    facts = Facts(
        family=network.config.model_type,
        layout=layout,
        streams=streams,
        tail=names,
        head=head_path,
        notes=(*notes, *chain_notes(network, chain, streams)),
        takes=arguments(network),
        cache=cache_name(network),
    )
    product = next(call.out for call in reversed(calls) if call.name == head_path)[..., :rows]
    readout, facts = finish(network, readout, facts=facts, ids=ids, product=product, factor=factor, overrides=overrides)
    return Adapter(chain.blocks, chain.path, canonical(last, layout).shape[-1], facts, readout)


def known_overrides(network: Network, given: Mapping[str, object], rows: int) -> Overrides:
    """Overrides with every name known and every path there; `norm` becomes a `tail` of one step."""
    for name in given:
        if name not in OVERRIDES:
            raise unknown_name("override", name, OVERRIDES)
    out = cast(Overrides, dict(given))
    if "norm" in out:
        out.setdefault("tail", [out.pop("norm")] if out["norm"] else [])
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    paths = [(p, p in modules) for p in (out.get("blocks"), out.get("head"), *out.get("tail", [])) if p is not None]
    paths += [(out["bias"], out["bias"] in parameters)] if out.get("bias") else []
    for path, there in paths:
        if not isinstance(path, str) or not there:
            raise InputError(f"overrides name {path!r}, which this {network.config.model_type} does not have. {FORM}")
    if out.get("bias") and parameters[out["bias"]].numel() < rows:
        size = parameters[out["bias"]].numel()
        raise InputError(f"overrides say bias = {out['bias']!r}, of {size} values; wanted one per token, {rows}.")
    return out


@dataclass(frozen=True)
class Chain:
    """A list of modules that is a chain of blocks: its path, blocks called in order, states 0..L of a pass."""

    path: str
    blocks: tuple[nn.Module, ...]
    states: tuple[Tensor, ...]


def refuse_acausal(network: Network, ids: Tensor) -> None:
    """Raise ModelRefused where later tokens change earlier logits."""
    short = ids[:, :-2]
    try:
        whole = run(network, ids, mask=torch.ones_like(ids)).logits
        part = run(network, short, mask=torch.ones_like(short)).logits
    except Exception as error:  # a family that needs more than token ids, in whatever words of its own
        said = (str(error).splitlines() or [""])[0]
        kind = f"{network.config.model_type}: a pass over {BATCH} x {TIME} token ids alone fails"
        raise ModelRefused(f"{kind} ({type(error).__name__}: {said}).") from error
    if part.shape[:2] != short.shape or whole.shape[:2] != ids.shape:
        raise ModelRefused(
            f"{network.config.model_type}: {ids.shape[1]} tokens give logits of shape {list(whole.shape)}; wanted one "
            "row of logits per token."
        )
    moved = gap(whole[:, : part.shape[1]], part)
    if moved > (1e-3 if whole.dtype == torch.float32 else 0.2):
        raise ModelRefused(
            f"{network.config.model_type}: later tokens change earlier logits (by {moved:.2g}), so this is no causal "
            "model as configured. Encoder families need is_decoder = true in their configuration."
        )


def find_blocks(network: Network, ids: Tensor, wanted: str | None) -> Chain:
    """The block list of a network. Raises ModelRefused where none, or more than one, is a chain."""
    lists = {n: m for n, m in network.named_modules() if isinstance(m, nn.ModuleList) and len(m) and n}
    if wanted is not None:
        if wanted not in lists:
            raise InputError(f"overrides say blocks = {wanted!r}; the ModuleLists here are {sorted(lists)}.")
        lists = {wanted: lists[wanted]}
    children = {f"{n}.{i}": child for n, m in lists.items() for i, child in enumerate(m)}
    with watch(children) as calls:
        run(network, ids, mask=torch.ones_like(ids))
    good, why = {}, []
    for name, modules in lists.items():
        chain = chain_of(name, modules, calls)
        if isinstance(chain, str):
            why.append(f"{name} ({len(modules)}): {chain}")
        else:
            good[name] = chain
    declared = declared_layers(network.config)
    exact = {n: c for n, c in good.items() if len(lists[n]) == declared} or good
    outer = [n for n in exact if not any(n.startswith(other + ".") for other in exact)]
    if len(outer) == 1:
        return exact[outer[0]]
    said = (
        f"several lists of modules could be the blocks: {outer}" if outer else "no list of modules is a chain of blocks"
    )
    raise ModelRefused(
        f"{network.config.model_type}: {said} (declared layers: {declared}; seen: {'; '.join(why) or 'none'}). {FORM}"
    )


def chain_of(name: str, modules: nn.ModuleList, calls: list[Call]) -> Chain | str:
    """The chain of blocks that a list of modules is, else the reason why it is none."""
    own = [call for call in calls if call.name.rpartition(".")[0] == name]
    order = [int(call.name.rpartition(".")[2]) for call in own]
    if not order:
        return "not called"
    if order != sorted(set(order)) or 2 * len(order) < len(modules):
        return f"called in the order {order[:12]}, not once each"
    if any(call.into is None or call.out is None for call in own):
        return "reads or writes no state"
    for before, after in zip(own, own[1:], strict=False):
        if not identical(before.out, after.into):
            return f"output of {before.name} is not the input of {after.name}"
    if own[0].into.shape != own[-1].out.shape:
        return "the state changes its shape on the way"
    states = (own[0].into, *(call.out for call in own))
    return Chain(name, tuple(modules[i] for i in order), states)


def chain_notes(network: Network, chain: Chain, streams: int) -> tuple[str, ...]:
    """What a reader should know of the blocks: some not called, another count than declared, several streams."""
    listed, declared = len(network.get_submodule(chain.path)), declared_layers(network.config)
    notes: tuple[str, ...] = ()
    if listed != len(chain.blocks):
        notes += (
            f"{listed - len(chain.blocks)} of {listed} blocks are not called for text alone and are not layers here",
        )
    if declared is not None and declared != listed:
        notes += (f"{listed} blocks found where the configuration declares {declared}",)
    width, hidden = chain.states[-1].shape[-1], getattr(text_config(network.config), "hidden_size", None)
    if isinstance(hidden, int) and width > hidden and width % hidden == 0:
        notes += (
            f"a state is {width // hidden} x hidden_size wide: residual streams side by side; the readout merges them",
        )
    if streams > 1:
        notes += (f"{streams} residual streams per token, laid side by side in one state; the readout merges them",)
    return notes


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
    raise ModelRefused(
        f"blocks at {path}: states have shape {shape} for {BATCH} x {TIME} tokens; wanted one position per token, so "
        "that a row of a trace is a token."
    )


def find_head(network: Network, wanted: str | None) -> tuple[str, nn.Module]:
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
    network: Network, calls: list[Call], last: Tensor, head_path: str, wanted: list[str] | None
) -> tuple[tuple[str, ...], tuple[nn.Module, ...], float]:
    """Way from the last block's output to the head's input: module paths, functions, and a constant factor."""
    read = [call.into for call in calls if call.name == head_path and call.into is not None]
    if not read:
        raise ModelRefused(f"{network.config.model_type}: the head {head_path} is not called. {FORM}")
    if wanted is not None:
        return tuple(wanted), tuple(network.get_submodule(name) for name in wanted), 1.0
    ways: list[tuple[tuple[str, ...], tuple[nn.Module, ...], Tensor]] = [((), (), last)]
    if network.config.model_type in MERGES:
        merge = MERGES[network.config.model_type](network)
        with torch.no_grad():
            ways.append((("(merge of streams)",), (merge,), merge(last)))
    seen: set[str] = set()
    for names, steps, value in ways:
        factor = proportional(value, read[-1])
        if factor is not None:
            return names, steps, factor
        for call in calls:
            if call.name in seen or call.name == head_path or call.into is None or not identical(call.into, value):
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
    if identical(value, target):
        return 1.0
    if value.shape != target.shape or not bool(torch.isfinite(value).all() & torch.isfinite(target).all()):
        return None
    x, y = value.double(), target.double()
    factor = float((x * y).sum() / (x * x).sum().clamp(min=1e-30))
    for whole in (round(factor), 1.0 / max(round(1.0 / factor), 1) if factor > 0 else 0.0):
        factor = float(whole) if abs(whole - factor) <= 1e-6 * abs(factor) else factor
    rounding = 1e-5 if value.dtype == torch.float32 else 1e-2
    return factor if float((y - factor * x).abs().max()) <= rounding * float(y.abs().max()) else None
