"""Simulated studies of states, for G7, G8 and A4: the states are planted, and columns made that have exactly them.

Two blocks of layers 1..3 have states and the last layer has none, as in a trace; four runs of each model calibrate.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from phaselens.dynamics.state_alphabets import A, B, C, D, E
from phaselens.experiments import Panel
from phaselens.validity.simulated_panels import RUNS, infos, model_of, study_of

STEPS = 48
INNER = 3
SET_APART = 4
ALL_RUNS = RUNS + SET_APART
MODELS = 6
LAW = np.array([0.08, 0.2, 0.3, 0.1, 0.32])  # of A B C D E: fewer turbulent cells than the 25 % of the threshold

# of each state: turbulent, rival, committed
MARKS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 0, 0]], bool)


def mark_columns(
    turbulent: np.ndarray, rival: np.ndarray, committed: np.ndarray, generator: np.random.Generator
) -> dict[str, np.ndarray]:
    """Columns [run, step, layer 1..L] with these marks [run, step, inner layer].

    The last layer repeats the one before it, without turbulence. Turbulence is 0 where it is not marked, so as long as
    fewer cells are marked than the threshold leaves above it the marks are these; else a random part of them is.
    """
    u = generator.random((3, *turbulent.shape))
    columns = {
        "turbulence": np.where(turbulent, 0.8 + 0.1 * u[0], 0.0),
        "rivalry": np.where(rival, 0.8 + 0.2 * u[1], 0.2 * u[1]),
        "n_above_1pct": np.full(turbulent.shape, 5.0),
        "top1": np.where(committed, 0.6 + 0.3 * u[2], 0.1 + 0.3 * u[2]),
        "agrees": np.ones(turbulent.shape),
    }
    columns = {k: np.concatenate([v, v[:, :, -1:]], axis=-1) for k, v in columns.items()}
    columns["turbulence"][:, :, -1] = np.nan
    return columns


def state_columns(states: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns [run, step, layer 1..L] that have these states of the bifurcation alphabet [run, step, inner layer]."""
    one, two, three = (MARKS[states, i] for i in range(3))
    return mark_columns(one, two, three, generator)


def markov(p: np.ndarray, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Markov chains, int [row, step], begun in the stationary law; p [state, state], or [row, state, state]."""
    p = np.broadcast_to(p, (shape[0], *np.shape(p)[-2:]))
    start = np.linalg.matrix_power(p, 256)[:, 0]
    edges, row = np.cumsum(p, axis=-1)[..., :-1], np.arange(shape[0])
    out = np.empty(shape, np.int64)
    out[:, 0] = (generator.random(shape[0])[:, None] >= np.cumsum(start, axis=-1)[:, :-1]).sum(axis=-1)
    for t in range(1, shape[1]):
        out[:, t] = (generator.random(shape[0])[:, None] >= edges[row, out[:, t - 1]]).sum(axis=-1)
    return out


def study_with(
    trained: Sequence[Mapping[str, np.ndarray]],
    untrained: Sequence[Mapping[str, np.ndarray]],
    generator: np.random.Generator,
    starts: Sequence[np.ndarray] = (),
) -> Panel:
    """A study from the columns of M trained models and of their untrained twins.

    `starts` say where the words of the trained ones begin, bool [run, step]; else two steps of three do, at random.
    """
    first, second = infos(len(trained), n_layers=INNER + 1)
    models = []
    for i, (columns, info) in enumerate(zip([*trained, *untrained], [*first, *second], strict=True)):
        begins = starts[i] if i < len(starts) else generator.random((ALL_RUNS, STEPS)) < 2 / 3
        tokens = tuple(map(tuple, np.where(begins, 1, 0).tolist()))  # token 1 begins a word, token 0 does not
        models.append(
            model_of(info, columns, calibration=SET_APART, completions=tokens, word_start_tokens=frozenset((1,)))
        )
    return study_of(models, generator)


# G7


def _rates(generator: np.random.Generator, m: int) -> np.ndarray:
    """Shares of turbulent, rival and committed cells of M models (1), [M, 3]."""
    return generator.uniform([0.15, 0.1, 0.15], [0.4, 0.45, 0.55], size=(m, 3))


def _independent(rates: np.ndarray, generator: np.random.Generator, prompt_sd: float) -> dict[str, np.ndarray]:
    """Marks that do not depend on one another; how often each occurs varies between prompts."""
    shape = (ALL_RUNS, STEPS, INNER)
    logit = np.log(rates / (1 - rates)) + prompt_sd * generator.standard_normal((ALL_RUNS, 3))
    share = 1 / (1 + np.exp(-logit))
    one, two, three = (generator.random(shape) < share[:, i, None, None] for i in range(3))
    return mark_columns(one, two, three, generator)


def without_taxonomy(generator: np.random.Generator, *, m: int = MODELS, alike: bool, prompt_sd: float = 0.5) -> Panel:
    """M models whose marks are independent; `alike`: they occur equally often in all models, else in each as it may."""
    rates = _rates(generator, m)
    rates = np.broadcast_to(rates[:1], rates.shape) if alike else rates
    trained = [_independent(r, generator, prompt_sd) for r in rates]
    untrained = [_independent(r, generator, prompt_sd) for r in _rates(generator, m)]
    return study_with(trained, untrained, generator)


def with_taxonomy(generator: np.random.Generator, *, m: int = MODELS, before: float = 0.0, noise: float = 0.3) -> Panel:
    """M models in which the states always rank E, B, A, C, D, however often their marks occur.

    So they do in a share `before` of the untrained twins' cells, whose other cells have independent marks.

    Gaps of the log shares vary, and the order stays. Cells that are turbulent or rival are committed as often as they
    may, which the states do not show and shuffled marks do: there C ranks anywhere.
    """
    order = np.array([E, B, A, C, D])

    def one(share_so: float) -> dict[str, np.ndarray]:
        gaps = 0.3 + noise * generator.exponential(size=5)
        share = np.empty(5)
        share[order] = np.exp(-np.cumsum(gaps))
        states = generator.choice(5, p=share / share.sum(), size=(ALL_RUNS, STEPS, INNER))
        hidden = generator.random(states.shape) < generator.uniform(0, 1)
        committed = (states == C) | (hidden & np.isin(states, (A, B, D)))
        so = generator.random(states.shape) < share_so
        free = generator.random((3, *states.shape)) < _rates(generator, 1)[0][:, None, None, None]
        marks = (MARKS[states, 0], MARKS[states, 1], committed)
        one, two, three = (np.where(so, *both) for both in zip(marks, free, strict=True))
        return mark_columns(one, two, three, generator)

    trained = [one(1.0) for _ in range(m)]
    untrained = [one(before) if before else _independent(r, generator, 0.5) for r in _rates(generator, m)]
    return study_with(trained, untrained, generator)


# G8


def _with_stay(stay: float, law: np.ndarray) -> np.ndarray:
    """Transitions that forget everything but D: it stays with probability `stay`, the rest is drawn from the law."""
    p = np.tile(law, (5, 1))
    others = np.where(np.arange(5) == D, 0.0, law)
    p[D] = (1 - stay) * others / others.sum()
    p[D, D] = stay
    return p


def with_stay(
    generator: np.random.Generator, *, stay: float | None = None, m: int = MODELS, prompt_sd: float = 0.0
) -> Panel:
    """M models in which D is followed by D with probability `stay` (None: as often as any state is followed by D).

    The share of D varies between runs by `prompt_sd` on the log scale, which alone makes D follow D more often when
    runs are pooled.
    """

    def one() -> dict[str, np.ndarray]:
        laws = np.tile(LAW, (ALL_RUNS, 1))
        laws[:, D] *= np.exp(prompt_sd * generator.standard_normal(ALL_RUNS))
        laws /= laws.sum(axis=1, keepdims=True)
        p = np.stack([_with_stay(law[D] if stay is None else stay, law) for law in laws])
        chains = markov(np.repeat(p, INNER, axis=0), (ALL_RUNS * INNER, STEPS), generator)
        return state_columns(chains.reshape(ALL_RUNS, INNER, STEPS).swapaxes(1, 2), generator)

    return study_with([one() for _ in range(m)], [one() for _ in range(m)], generator)


def at_word_starts(generator: np.random.Generator, *, m: int = MODELS) -> Panel:
    """M models whose D stands at word starts alone, at a quarter of them, whatever stood before."""
    others = np.where(np.arange(5) == D, 0.0, LAW) / (1 - LAW[D])

    def one() -> tuple[dict[str, np.ndarray], np.ndarray]:
        lengths = generator.choice([1, 2, 3], p=[0.2, 0.5, 0.3], size=(ALL_RUNS, STEPS))
        starts = np.zeros((ALL_RUNS, STEPS + 3 * STEPS), bool)
        np.put_along_axis(starts, np.cumsum(lengths, axis=1) - lengths, True, axis=1)
        starts = starts[:, :STEPS]
        there = starts[..., None] & (generator.random((ALL_RUNS, STEPS, INNER)) < 0.25)
        plain = generator.choice(5, p=others, size=there.shape)
        return state_columns(np.where(there, D, plain), generator), starts

    made = [one() for _ in range(m)]
    untrained = [one()[0] for _ in range(m)]
    return study_with([c for c, _ in made], untrained, generator, starts=[s for _, s in made])


# A4


def _grammar_columns(states: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns whose grammar is 0 explore, 1 process, 2 decide: B and D, A and E, C at even chances."""
    other = generator.random(states.shape) < 0.4
    letters = np.where(states == 0, np.where(other, D, B), np.where(states == 1, np.where(other, A, E), C))
    return state_columns(letters, generator)


def _independent_layers(generator: np.random.Generator, by_layer: np.ndarray) -> np.ndarray:
    """States drawn layer by layer from [layer, 3], nothing linking the layers."""
    u = generator.random((ALL_RUNS, STEPS, INNER, 1))
    return (u >= np.cumsum(by_layer, axis=1)[:, :2]).sum(axis=-1)


EVEN = np.full((INNER, 3), 1 / 3)


def with_grammar(
    generator: np.random.Generator,
    *,
    linked: float,
    by_layer: ArrayLike = EVEN,
    before: bool = False,
    tuned: bool = True,
    m: int = 4,
) -> Panel:
    """M models in a share `linked` of whose cells explore, process and decide follow one another along depth.

    The other cells are drawn layer by layer from `by_layer`; `before`: the untrained twins do the same, else nothing
    links their layers; `tuned`: the same is seen under a tuned lens.
    """

    def one(share: float) -> dict[str, np.ndarray]:
        states = _independent_layers(generator, np.asarray(by_layer))
        in_order = generator.random((ALL_RUNS, STEPS, 1)) < share
        columns = _grammar_columns(np.where(in_order, np.arange(3), states), generator)
        return columns | ({f"{k}__tuned": v for k, v in columns.items()} if tuned else {})

    return study_with([one(linked) for _ in range(m)], [one(linked if before else 0.0) for _ in range(m)], generator)
