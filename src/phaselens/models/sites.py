"""Where inside a block attention and MLP add to the residual stream, found by what they do and not by their names.

A block writes `out = in + a * attn + m * mlp`. The two modules are those whose outputs solve this for one short pass;
of the two, attention is the one that moves at the last position when only the first position of the block's input is
changed, the other one held still.
"""

from dataclasses import dataclass
from itertools import combinations
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from phaselens.errors import InputError, unknown_name
from phaselens.models.discover import probe_ids
from phaselens.models.forward import run
from phaselens.models.hooks import Call, alter, canonical, edit, record, unflattened, watch
from phaselens.models.model import Model

SITES = ("embedding", "resid_post", "attn_out", "mlp_out")
TIME = 7
MOST = 40  # modules of one block that are tried in pairs


@dataclass(frozen=True)
class Sites:
    """The modules behind `attn_out` and `mlp_out` by layer 1..L; a layer that lacks one is not among the keys."""

    attn_out: dict[int, nn.Module]
    mlp_out: dict[int, nn.Module]

    def of(self, site: str) -> dict[int, nn.Module]:
        """The modules of one site by layer."""
        return self.attn_out if site == "attn_out" else self.mlp_out


_FOUND: "WeakKeyDictionary[nn.Module, Sites]" = WeakKeyDictionary()


def site_layers(model: Model, site: str) -> tuple[int, ...]:
    """The layers at which this model has a site; none where its family lacks it.

    `embedding` is layer 0, all others stand at layers 1..L. Raises UnknownNameError for a site of no model.
    """
    if site not in SITES:
        raise unknown_name("site", site, SITES)
    if site == "embedding":
        return (0,)
    if site == "resid_post":
        return tuple(range(1, len(model.blocks) + 1))
    return tuple(sorted(find_sites(model).of(site)))


def check_site(model: Model, site: str, layers: tuple[int, ...] | None) -> tuple[int, ...]:
    """The layers asked for at a site (None: all it has), in rising order.

    Raises InputError where the model lacks the site, or has none at such a layer; the message lists what exists.
    """
    there = site_layers(model, site)
    if not there:
        known = [name for name in SITES if site_layers(model, name)]
        family = getattr(getattr(model, "facts", None), "family", "this model")
        raise InputError(
            f"{family} has no site {site!r}: no module of its blocks adds that to the residual stream. It has "
            f"{', '.join(known)}."
        )
    wrong = [layer for layer in layers or () if layer not in there]
    if wrong:
        span = f"{there[0]}" if len(there) == 1 else f"{there[0]} to {there[-1]}"
        hint = " Layer 0 is the site 'embedding'." if 0 in wrong else ""
        raise InputError(f"site {site!r} does not exist at layers {wrong}: this model has it at {span}.{hint}")
    return there if layers is None else tuple(sorted(set(layers)))


def find_sites(model: Model) -> Sites:
    """The modules that add to the residual stream in every block, found once for each network."""
    network = model.network
    if network not in _FOUND:
        _FOUND[network] = _find(model)
    return _FOUND[network]


def _find(model: Model) -> Sites:
    ids = probe_ids(model.network, model.vocab_size, seed=5, time=TIME)
    names = {f"{i}|{n}": m for i, block in enumerate(model.blocks) for n, m in block.named_modules() if n}
    with watch(names) as calls, record(model, clone=True) as taps:
        run(model.network, ids, mask=torch.ones_like(ids))
    by_block: dict[int, list[Call]] = {}
    for call in calls:
        by_block.setdefault(int(call.name.partition("|")[0]), []).append(call)
    found = Sites({}, {})
    layout = model.facts.layout
    for layer in range(1, len(model.blocks) + 1):
        before, after = taps.states[layer - 1], taps.states[layer]
        written = (after - before.to(after.device)).double()
        parts = _parts(_candidates(by_block.get(layer - 1, []), after, layout), written)
        if parts:
            _place(model, ids, layer, parts, found)
    return found


def _candidates(calls: list[Call], like: Tensor, layout: str) -> list[tuple[str, Tensor]]:
    """Modules called once whose output has the shape of the state; of equal outputs the outermost, then the first."""
    names = [call.name for call in calls]
    order = sorted(range(len(calls)), key=lambda i: (calls[i].name.count("."), i))
    kept: list[tuple[str, Tensor]] = []
    for i in order:
        call = calls[i]
        if call.out is None or names.count(call.name) > 1:
            continue
        out = unflattened(call.out, like) if call.out.dim() == 2 and layout == "btd" else call.out
        out = canonical(out, layout) if out.dim() == len(layout) else out
        if out.shape != like.shape or not bool(torch.isfinite(out).all()):
            continue
        out = out.to(like.device).double()
        if float(out.abs().max()) > 0 and not any(torch.equal(out, other) for _, other in kept):
            kept.append((call.name, out))
    return kept[:MOST]


def _parts(candidates: list[tuple[str, Tensor]], written: Tensor) -> list[str]:
    """The one or two modules whose outputs, with positive factors, sum to what the block writes; [] where none do."""
    size = float(written.square().mean().sqrt())
    for count in (1, 2):
        for chosen in combinations(candidates, count):
            columns = torch.stack([out.flatten() for _, out in chosen], dim=1)
            solved = torch.linalg.lstsq(columns, written.flatten()[:, None]).solution
            left = float((columns @ solved - written.flatten()[:, None]).square().mean().sqrt())
            if left <= 1e-5 * size and bool((solved > 1e-3).all()):
                return [name for name, _ in chosen]
    return []


def _place(model: Model, ids: Tensor, layer: int, parts: list[str], found: Sites) -> None:
    """Say which part mixes positions, by changing the block's input at the first position alone."""
    modules = {name: model.blocks[layer - 1].get_submodule(name.partition("|")[2]) for name in parts}
    clean = _outputs(model, ids, layer, modules, {}, moved=False)
    mixes = {}
    for name in parts:
        held = {other: clean[other] for other in parts if other != name}
        moved = _outputs(model, ids, layer, modules, held, moved=True)[name][:, -1]
        still = clean[name][:, -1]
        mixes[name] = float((moved - still).abs().max()) > 1e-4 * float(still.abs().max().clamp(min=1e-12))
    mixing, plain = [n for n in parts if mixes[n]], [n for n in parts if not mixes[n]]
    if len(mixing) == 1:
        found.attn_out[layer] = modules[mixing[0]]
    if len(plain) == 1:
        found.mlp_out[layer] = modules[plain[0]]


def _outputs(
    model: Model, ids: Tensor, layer: int, modules: dict[str, nn.Module], held: dict[str, Tensor], *, moved: bool
) -> dict[str, Tensor]:
    """What the modules give; some held at given values, the block's input changed at position 0 where `moved`."""
    seen: dict[str, Tensor] = {}

    def change(name: str, out: Tensor) -> Tensor:
        seen[name] = out.clone()
        return held[name].clone() if name in held else out  # some families add to it in place

    def first(state: Tensor) -> Tensor:
        out = state.clone()
        out[:, 0] = state[:, 0].flip(-1) * 1.5
        return out

    inside = dict.fromkeys(modules, model.blocks[layer - 1])
    with edit(model, {layer - 1: first} if moved else {}), alter(model, modules, inside, change):
        run(model.network, ids, mask=torch.ones_like(ids))
    return seen
