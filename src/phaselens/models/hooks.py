"""The only file that hangs hooks on a network: read residual states, replace them, watch modules.

Layer 0 is the input of the first block, layer l = 1..L the output of block l - 1, always given as [batch, time,
d_model] whatever the layout inside (`facts.layout`). Capture hooks return None. Every hook is removed when its `with`
block ends, after an exception too.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from phaselens.errors import InputError
from phaselens.models.facts import Facts, Network

T = TypeVar("T")


class Tappable(Protocol):
    """What hooks need of a model: its blocks in order, the layout of its residual states, and where states go."""

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """In the order of a pass."""

    @property
    def facts(self) -> Facts:
        """What is peculiar to it."""

    @property
    def device(self) -> torch.device:
        """Where states go."""


LAYOUTS = {"btd": (0, 1, 2), "tbd": (1, 0, 2), "btsd": (0, 1, 2, 3), "sbtd": (1, 2, 0, 3)}


def canonical(state: Tensor, layout: str) -> Tensor:
    """Residual states as [batch, time, d_model]; several streams are laid side by side (d_model = streams x width)."""
    if layout == "btd":
        return state
    state = state.permute(LAYOUTS[layout])
    return state.flatten(2) if state.dim() == 4 else state


def native(state: Tensor, layout: str, like: Tensor) -> Tensor:
    """Turn [batch, time, d_model] back into the network's own layout; `like` is a state in that layout."""
    if layout == "btd":
        return state
    order = LAYOUTS[layout]
    if len(order) == 4:
        state = state.unflatten(2, (like.shape[order[2]], like.shape[3]))
    inverse = sorted(range(len(order)), key=order.__getitem__)
    return state.permute(inverse)


def input_slot(args: tuple, kwargs: Mapping[str, object]) -> int | str | None:
    """Where a block's input stands: an index into `args`, a key of `kwargs`, or None where no float tensor is given."""
    if args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        return 0
    if isinstance(kwargs.get("hidden_states"), Tensor):
        return "hidden_states"
    slots: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
    for key, value in slots:
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() >= 3:
            return key
    return None


def input_state(args: tuple, kwargs: Mapping[str, object]) -> Tensor | None:
    """A block's input state in the network's own layout, or None where none is found."""
    slot = input_slot(args, kwargs)
    state = None if slot is None else (args[slot] if isinstance(slot, int) else kwargs[slot])
    return state if isinstance(state, Tensor) else None


def output_state(output: object) -> Tensor | None:
    """The state in a block's output: the tensor itself, or the first element of a tuple, list or ModelOutput."""
    if isinstance(output, Tensor):
        return output
    if hasattr(output, "to_tuple"):
        output = output.to_tuple()
    if isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        return output[0]
    return None


def with_state(output: object, state: Tensor) -> object:
    """The same block output with its state replaced; the form (tensor, tuple, list, ModelOutput) is kept."""
    if isinstance(output, Tensor):
        return state
    if hasattr(output, "to_tuple"):
        values = dict(cast(Mapping, output))
        values[next(iter(values))] = state
        return type(output)(**values)
    if isinstance(output, list):
        return [state, *output[1:]]
    rest = (state, *cast(tuple, output)[1:])
    return type(output)(*rest) if hasattr(output, "_fields") else rest


def check_layers(layers: Iterable[int] | None, n_layers: int) -> tuple[int, ...]:
    """The layers asked for, in order given; None means all of 0..L. Raises InputError outside 0..L."""
    if layers is None:
        return tuple(range(n_layers + 1))
    layers = tuple(int(layer) for layer in layers)
    wrong = [layer for layer in layers if not 0 <= layer <= n_layers]
    if wrong:
        raise InputError(f"layers {wrong} do not exist: this model has layers 0 (embedding) to {n_layers}.")
    return layers


@dataclass
class Taps:
    """The residual states of the last forward pass, one per layer asked for.

    `states[l]` is [batch, time, d_model] ([batch, 1, d_model] with `last_only`), in the network's dtype and on
    `device` (None: where its block is); a view of the network's own tensor unless cloning was asked for or the network
    writes in place. Each forward pass overwrites the states of the one before; `calls` counts the passes seen. With
    `owner`, passes of other threads are not seen: several may run one network at a time.
    """

    layers: tuple[int, ...]
    layout: str = "btd"
    last_only: bool = False
    clone: bool = False
    states: dict[int, Tensor] = field(default_factory=dict)
    calls: int = 0
    owner: int | None = None
    device: torch.device | None = None
    last: int = field(init=False)

    def __post_init__(self) -> None:
        self.last = max(self.layers, default=0)

    def put(self, layer: int, state: Tensor) -> None:
        """Keep one layer's state; called by the hooks."""
        if self.owner is not None and threading.get_ident() != self.owner:
            return
        if self.layout != "btd":
            state = canonical(state, self.layout)
        if self.last_only and state.shape[1] != 1:
            state = state[:, -1:]
        state = state.clone() if self.clone else state
        self.states[layer] = state if self.device is None else state.to(self.device)
        if layer == self.last:
            self.calls += 1

    def stacked(self) -> Tensor:
        """The layers of the last pass as one tensor [layer, batch, time, d_model], in the order of `layers`."""
        return torch.stack([self.states[layer] for layer in self.layers])


@contextmanager
def _hung() -> Iterator[list[RemovableHandle]]:
    """A list for hooks, all of which are gone when the `with` block ends."""
    handles: list[RemovableHandle] = []
    try:
        yield handles
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def record(
    model: Tappable, layers: Iterable[int] | None = None, *, last_only: bool = False, clone: bool = False
) -> Iterator[Taps]:
    """Read the residual states of `layers` (default: all of 0..L) during every forward pass inside the `with` block.

    `last_only` keeps the last position; `clone` copies (done anyway where the network is known to write in place).
    Raises InputError for a layer that does not exist.
    """
    chosen = check_layers(layers, len(model.blocks))
    taps = Taps(chosen, model.facts.layout, last_only, clone or model.facts.in_place, device=model.device)
    with _hung() as handles:
        for layer in chosen:
            handles.append(_tap(model.blocks, layer, taps))
        yield taps


@dataclass
class Answers:
    """Logits [batch, vocab] of the last position of the last forward pass, a view of the network's own tensor.

    With `owner`, passes of other threads are not seen.
    """

    logits: Tensor | None = None
    owner: int | None = None


@contextmanager
def answers(network: Network) -> Iterator[Answers]:
    """Read the logits of every forward pass of `network` inside the `with` block."""
    seen = Answers()

    def after(module: nn.Module, args: tuple, output: object) -> None:
        if seen.owner is None or threading.get_ident() == seen.owner:
            logits = output.logits if hasattr(output, "logits") else cast(tuple, output)[0]
            seen.logits = logits[:, -1]

    with _hung() as handles:
        handles.append(network.register_forward_hook(after))
        yield seen


def _tap(blocks: Sequence[nn.Module], layer: int, taps: Taps) -> RemovableHandle:
    """Hang one capture hook; it returns None, so that the network's values stay what they are."""
    if layer == 0:

        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            taps.put(0, input_state(args, kwargs))

        return blocks[0].register_forward_pre_hook(before, with_kwargs=True)

    def after(module: nn.Module, args: tuple, output: object) -> None:
        taps.put(layer, output_state(output))

    return blocks[layer - 1].register_forward_hook(after)


@contextmanager
def edit(model: Tappable, edits: Mapping[int, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Replace the residual state h of a layer by `edits[layer](h)` during every forward pass inside the `with` block.

    Each function takes and returns [batch, time, d_model] (during cached decoding, `time` is the new positions only).
    Returning h itself leaves the pass bit-identical. Taps opened before or after see the edited state. Raises
    InputError for a layer that does not exist or a returned shape that differs.
    """
    check_layers(edits, len(model.blocks))
    with _hung() as handles:
        for layer, change in edits.items():
            handles.append(_edit(model, layer, change))
        yield


def _edit(model: Tappable, layer: int, change: Callable[[Tensor], Tensor]) -> RemovableHandle:
    """Hang one editing hook, ahead of every capture hook of the same block."""
    layout = model.facts.layout

    def changed(state: Tensor) -> Tensor:
        plain = canonical(state, layout)
        out = _sized(change(plain), plain, f"layer {layer}")
        return state if out is plain else native(out.to(plain.dtype), layout, state)

    if layer == 0:

        def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            slot = input_slot(args, kwargs)
            if isinstance(slot, int):
                return (*args[:slot], changed(args[slot]), *args[slot + 1 :]), kwargs
            return args, {**kwargs, slot: changed(kwargs[slot])}

        return model.blocks[0].register_forward_pre_hook(before, with_kwargs=True, prepend=True)

    def after(module: nn.Module, args: tuple, output: object) -> object:
        return with_state(output, changed(output_state(output)))

    return model.blocks[layer - 1].register_forward_hook(after, prepend=True)


def _sized(out: Tensor, plain: Tensor, what: str) -> Tensor:
    """What an edit returned. Raises InputError where it has not the shape that was given."""
    if out.shape != plain.shape:
        said = f"the edit of {what} returned shape {tuple(out.shape)}"
        raise InputError(f"{said}; wanted {tuple(plain.shape)}, as given.")
    return out


def unflattened(state: Tensor, like: Tensor) -> Tensor:
    """A state [batch x time, d] that a block laid flat for its MLP, as [batch, time, d] of `like`, where it is that."""
    flat = state.dim() == 2 and like.dim() == 3 and state.shape[0] == like.shape[0] * like.shape[1]
    return state.unflatten(0, like.shape[:2]) if flat else state


@contextmanager
def alter(
    model: Tappable,
    modules: Mapping[T, nn.Module],
    inside: Mapping[T, nn.Module],
    change: Callable[[T, Tensor], Tensor],
) -> Iterator[None]:
    """Replace what every one of `modules` gives by `change(name, output)` during every pass inside the `with` block.

    For modules whose output has the shape of a residual state, each inside the block that `inside` names: `change`
    takes and returns [batch, time, d_model]. Returning the output itself leaves the pass bit-identical. Raises
    InputError for another shape.
    """
    layout = model.facts.layout
    given: dict[T, Tensor] = {}

    def hang(name: T, module: nn.Module) -> tuple[RemovableHandle, RemovableHandle]:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            given[name] = input_state(args, kwargs)

        def after(module: nn.Module, args: tuple, output: object) -> object:
            state = output_state(output)
            plain = canonical(unflattened(state, given.pop(name)), layout)
            out = _sized(change(name, plain), plain, str(name))
            if out is plain:
                return None
            back = native(out.to(plain.dtype), layout, state)
            return with_state(output, back if back.shape == state.shape else back.reshape(state.shape))

        first = inside[name].register_forward_pre_hook(before, with_kwargs=True)
        return first, module.register_forward_hook(after, prepend=True)

    with _hung() as handles:
        for name, module in modules.items():
            handles += hang(name, module)
        yield


@contextmanager
def begun_at(
    model: Tappable, layer: int, state: Tensor, forms: Sequence[object], *, until: int | None = None
) -> Iterator[None]:
    """Let every pass inside the `with` block begin at `layer` with `state`: blocks up to it do no work.

    The network's own forward still makes its masks and positions, so this holds for any family whose blocks hand on
    nothing but their state. `state` is [batch, time, d_model], of layer 0 the input of the first block; `forms[i]` is
    an output of block i (tensor, tuple ...), whose form is kept (`forms_of`). The first pass that comes to layer
    `until` ends there, and with it the `with` block; taps opened before have its state. Hooks on skipped blocks run.
    """
    own = [block.__dict__.get("forward") for block in model.blocks[:layer]]
    with suppress(_Ended), edit(model, {} if layer else {0: lambda _: state}), _hung() as handles:
        if until is not None:
            handles.append(model.blocks[until - 1].register_forward_hook(_end))
        try:
            for i, block in enumerate(model.blocks[:layer]):
                block.forward = _hand_on(forms[i], None if i + 1 < layer else state, model.facts.layout)
            yield
        finally:
            for block, forward in zip(model.blocks[:layer], own, strict=True):
                block.__dict__.pop("forward", None)
                if forward is not None:
                    block.forward = forward


class _Ended(Exception):
    """A pass has come to the layer where it ends."""


def _end(module: nn.Module, args: tuple, output: object) -> None:
    raise _Ended


def _hand_on(form: object, state: Tensor | None, layout: str) -> Callable[..., object]:
    """A forward that gives its input (or `state`) in the form of a block's output."""

    def forward(*args: object, **kwargs: object) -> object:
        into = input_state(args, kwargs)
        return with_state(form, into if state is None else native(state.to(into.dtype), layout, into))

    return forward


@contextmanager
def forms_of(blocks: Sequence[nn.Module]) -> Iterator[list[object]]:
    """Collect the output of every block of one pass, for its form: its state is replaced by an empty tensor."""
    forms: list[object] = [None] * len(blocks)

    def after(module: nn.Module, args: tuple, output: object, *, i: int) -> None:
        forms[i] = with_state(output, output_state(output).new_empty(0))

    with _hung() as handles:
        for i, block in enumerate(blocks):
            handles.append(block.register_forward_hook(partial(after, i=i)))
        yield forms


@contextmanager
def reword(network: Network, change: Callable[[dict[str, object]], dict[str, object]]) -> Iterator[None]:
    """Replace the keyword arguments of every forward pass of `network` by `change(arguments)` inside the block."""

    def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return args, change(kwargs)

    with _hung() as handles:
        handles.append(network.register_forward_pre_hook(before, with_kwargs=True))
        yield


@contextmanager
def amplify(module: nn.Module, factor: float) -> Iterator[None]:
    """Multiply what `module` (an unembedding) gives by `factor` inside the `with` block, to see what follows it."""

    def after(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        return output * factor

    with _hung() as handles:
        handles.append(module.register_forward_hook(after))
        yield


@dataclass(frozen=True)
class Call:
    """One call of a watched module: its name, its input and output states (None where there is no float tensor)."""

    name: str
    into: Tensor | None
    out: Tensor | None


@contextmanager
def watch(modules: Mapping[str, nn.Module], *, since: nn.Module | None = None) -> Iterator[list[Call]]:
    """List the calls of `modules` in order of their return, with copies of their first input and output.

    The input is copied before the module runs, so that writing in place does not hide. With `since`, only calls that
    begin after that module has returned are listed. Keeps every state it sees: meant for one short probe at load, not
    for measurement.
    """
    calls: list[Call] = []
    waiting: dict[str, list[Tensor | None]] = {name: [] for name in modules}
    started = [since is None]

    def hang(name: str, module: nn.Module) -> tuple[RemovableHandle, RemovableHandle]:
        def before(module: nn.Module, args: tuple, kwargs: dict) -> None:
            if started[0]:
                state = input_state(args, kwargs)
                waiting[name].append(None if state is None else state.clone())

        def after(module: nn.Module, args: tuple, output: object) -> None:
            if waiting[name]:
                out = output_state(output)
                calls.append(Call(name, waiting[name].pop(), None if out is None else out.clone()))

        return module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)

    def mark(module: nn.Module, args: tuple, output: object) -> None:
        started[0] = True

    with _hung() as handles:
        for name, module in modules.items():
            handles += hang(name, module)
        if since is not None:
            handles.append(since.register_forward_hook(mark))
        yield calls
