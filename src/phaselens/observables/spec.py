"""What an observable declares about itself, and how many of them are evaluated over shared intermediate results.

An observable is a pure function on tensors with leading batch dimensions. Its positional parameters name what it needs:
base inputs (hidden states, lens statistics) or quantities, which are shared intermediate results computed once. Its
keyword-only parameters are settings with defaults (`normalisation`, `curvature`). Names are looked up in the module of
the function that asks, so a name means exactly what it means to a reader of that module; nothing is registered.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import torch
from torch import Tensor

from phaselens.errors import InputError, StateError

AXES = ("step", "layer", "vocabulary")
ROWS = ("layer", "step", "run_layer", "run")
INVARIANCES = tuple(
    "rotation state_scale common_scale translation logit_shift temperature vocabulary_permutation".split()
)


@dataclass(frozen=True, eq=False)
class Observable:
    """One measured number per row of a table, with everything the table needs to say about it.

    `needs` are the positional parameters of `fn`; `axis` is the direction it compares along; `per` says what a row is
    (`layer`: run, step, layer; `step`: run, step; `run_layer`: run, layer; `run`: run); `lookback` is how many earlier
    steps a value depends on (None: the whole run); `bounds` are closed and hold under the default settings; `keeps`
    names the transformations that leave it unchanged, all others of `INVARIANCES` that apply to its inputs move it.
    Values are float tensors; "bool" means 0 or 1, "int" whole numbers, NaN where undefined.
    """

    name: str
    fn: Callable[..., Tensor]
    needs: tuple[str, ...]
    axis: str
    per: str
    lookback: int | None
    unit: str
    bounds: tuple[float, float] | None
    keeps: frozenset[str]
    dtype: str
    summary: str

    def __call__(self, *args: object, **settings: object) -> Tensor:
        """Call the function itself."""
        return self.fn(*args, **settings)


@dataclass(frozen=True, eq=False)
class Quantity:
    """A shared intermediate result: computed once for all observables and quantities that name it."""

    name: str
    fn: Callable[..., object]
    needs: tuple[str, ...]
    lookback: int


def observable(
    *,
    axis: str,
    unit: str,
    per: str = "layer",
    lookback: int | None = 0,
    bounds: tuple[float, float] | None = None,
    keeps: Iterable[str] = (),
    dtype: str = "float",
) -> Callable[[Callable[..., Tensor]], Any]:
    """Attach a frozen `Observable` to a function as `.observable` and return the function; registers nothing.

    Raises InputError for a word that is not in the lists above, or a function without a docstring.
    """
    for word, known in ((axis, AXES), (per, ROWS), (dtype, ("float", "bool", "int"))):
        if word not in known:
            raise InputError(f"got {word!r}, wanted one of {', '.join(known)} in the declaration of an observable.")
    unknown = sorted(set(keeps) - set(INVARIANCES))
    if unknown:
        raise InputError(f"keeps names {unknown}, wanted some of {', '.join(INVARIANCES)}.")

    def attach(fn: Any) -> Any:
        if not fn.__doc__:
            raise InputError(
                f"the observable {fn.__name__} has no docstring; say its unit, formula and what NaN means."
            )
        summary = fn.__doc__.strip().splitlines()[0]
        fn.observable = Observable(
            fn.__name__, fn, _needs(fn), axis, per, lookback, unit, bounds, frozenset(keeps), dtype, summary
        )
        return fn

    return attach


def quantity(*, lookback: int = 0) -> Callable[[Callable[..., object]], Any]:
    """Attach a frozen `Quantity` to a function as `.quantity` and return the function."""

    def attach(fn: Any) -> Any:
        fn.quantity = Quantity(fn.__name__, fn, _needs(fn), lookback)
        return fn

    return attach


def resolve(observables: Iterable[Observable]) -> tuple[Quantity, ...]:
    """Quantities that the observables need, each once, in an order in which they can be computed."""
    return _resolve(tuple(observables))


@cache
def _resolve(observables: tuple[Observable, ...]) -> tuple[Quantity, ...]:
    ordered: dict[str, Quantity] = {}

    def visit(asker: Observable | Quantity, trail: tuple[str, ...]) -> None:
        for name in asker.needs:
            # A wrapper (a shape checker, a timer) has the names of its own module; those of the function decide.
            found = getattr(inspect.unwrap(asker.fn).__globals__.get(name), "quantity", None)
            if found is None:
                continue
            if name in trail:
                raise StateError(f"quantities need each other in a ring: {' -> '.join((*trail, name))}.")
            if ordered.get(name, found) is not found:
                raise StateError(f"two different quantities are called {name!r}; rename one.")
            if name not in ordered:
                visit(found, (*trail, name))
                ordered[name] = found

    for one in observables:
        visit(one, (one.name,))
    return tuple(ordered.values())


def base_inputs(observables: Iterable[Observable]) -> frozenset[str]:
    """Names of the base inputs that the observables need, directly or through quantities."""
    return _base_inputs(tuple(observables))


@cache
def _base_inputs(observables: tuple[Observable, ...]) -> frozenset[str]:
    quantities = _resolve(observables)
    made = {q.name for q in quantities}
    askers: list[Observable | Quantity] = [*observables, *quantities]
    return frozenset(n for asker in askers for n in asker.needs if n not in made)


def settings_of(observables: Iterable[Observable]) -> frozenset[str]:
    """Names of the settings that the observables take, directly or through quantities."""
    return _settings_of(tuple(observables))


@cache
def _settings_of(observables: tuple[Observable, ...]) -> frozenset[str]:
    askers: list[Observable | Quantity] = [*observables, *_resolve(observables)]
    return frozenset(name for asker in askers for name in _settings(asker.fn))


def evaluate(
    observables: Iterable[Observable], inputs: Mapping[str, object], settings: Mapping[str, object] | None = None
) -> dict[str, Tensor]:
    """Values of all observables by name; shared quantities are computed once.

    `inputs` holds the base inputs; `settings` go to every function that has a keyword-only parameter of that name.
    Raises InputError for a base input that is missing or a setting that no function takes.
    """
    observables = tuple(observables)
    quantities = resolve(observables)
    have: dict[str, object] = dict(inputs)
    missing = sorted(base_inputs(observables) - have.keys())
    if missing:
        raise InputError(f"the observables need {missing}, the inputs have {sorted(have)}.")
    settings = settings or {}
    unused = set(settings) - settings_of(observables)
    if unused:
        raise InputError(f"no wanted observable has the setting {sorted(unused)}.")
    with torch.no_grad():
        for one in quantities:
            have[one.name] = _apply(one, have, settings)
        return {one.name: cast(Tensor, _apply(one, have, settings)) for one in observables}


def _apply(asker: Observable | Quantity, have: Mapping[str, object], settings: Mapping[str, object]) -> object:
    chosen = {name: settings[name] for name in _settings(asker.fn) if name in settings}
    return asker.fn(*(have[name] for name in asker.needs), **chosen)


def _needs(fn: Callable[..., object]) -> tuple[str, ...]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(n for n, p in inspect.signature(fn).parameters.items() if p.kind in kinds)


@cache
def _settings(fn: Callable[..., object]) -> tuple[str, ...]:
    kind = inspect.Parameter.KEYWORD_ONLY
    return tuple(n for n, p in inspect.signature(fn).parameters.items() if p.kind is kind)
