"""Simulated entropies of the output, for C1: series that reopen exactly as a surrogate does, more often, and less."""

import numpy as np

from phaselens.experiments import Panel
from phaselens.validity.simulated_panels import infos, model_of, study_of

STEPS = 72
RUNS = 40
SET_APART = 10
ALL_RUNS = RUNS + SET_APART
MODELS = 6
STARTS = frozenset(range(50))  # of 100 tokens
CENTRE, SD = 0.4, 0.1


def study_with(entropies: list[np.ndarray], starts: list[np.ndarray], generator: np.random.Generator) -> Panel:
    """A study from entropy_norm [run, step] of M models, and where their words begin, bool [run, step]."""
    trained, _ = infos(len(entropies), n_layers=1)
    models = []
    for info, entropy, start in zip(trained, entropies, starts, strict=True):
        tokens = generator.integers(0, 50, start.shape) + np.where(start, 0, 50)
        steps = {"entropy_norm": entropy, "top1": np.full(entropy.shape, 0.4), "top2": np.full(entropy.shape, 0.3)}
        layers = {"top1": steps["top1"][:, :, None]}
        models.append(
            model_of(
                info,
                layers,
                steps,
                calibration=SET_APART,
                completions=tuple(map(tuple, tokens.tolist())),
                word_start_tokens=STARTS,
            )
        )
    return study_of(models, generator)


def words(generator: np.random.Generator, share: float = 0.6) -> np.ndarray:
    """Where words begin, independent of everything, bool [run, step]."""
    return generator.random((ALL_RUNS, STEPS)) < share


def ar1(phi: float, generator: np.random.Generator) -> np.ndarray:
    """Stationary Gaussian AR(1) series with SD 1, [run, step]."""
    z = generator.standard_normal((ALL_RUNS, STEPS))
    for t in range(1, STEPS):
        z[:, t] = phi * z[:, t - 1] + np.sqrt(1 - phi**2) * z[:, t]
    return z


def of_surrogates(generator: np.random.Generator, *, phi: float, run_sd: float = 1.0, m: int = MODELS) -> Panel:
    """M models whose entropy is a skewed map of AR(1) series with a level of its own in every run.

    Each run is exactly what its surrogate assumes, so collapses reopen at the surrogate's rate.
    """

    def one() -> np.ndarray:
        level = run_sd * generator.standard_normal((ALL_RUNS, 1))
        return CENTRE * np.exp(0.4 * (ar1(phi, generator) + level))

    return study_with([one() for _ in range(m)], [words(generator) for _ in range(m)], generator)


def of_words(generator: np.random.Generator, *, m: int = MODELS) -> Panel:
    """M models whose entropy depends on the place in the word and on nothing else: low behind its start."""
    starts = [words(generator, 0.3) for _ in range(m)]
    series = [CENTRE + SD * (generator.standard_normal(s.shape) + 1.5 * s) for s in starts]
    return study_with(series, starts, generator)


def of_waves(generator: np.random.Generator, *, low: int, high: int, m: int = MODELS, share: float = 0.2) -> Panel:
    """M models a share of whose runs swing: `low` steps down, `high` steps up, and down again, to the end.

    A series that remembers one step, or none, and is low as often, would at times not come up for more than 16 steps.
    """
    period = low + high

    def one() -> np.ndarray:
        swings = np.zeros(ALL_RUNS, bool)
        swings[generator.permutation(RUNS)[: round(RUNS * share)]] = True
        swings[RUNS : RUNS + round(SET_APART * share)] = True
        at = (np.arange(STEPS) + generator.integers(0, period, (ALL_RUNS, 1))) % period
        down = np.minimum(at + 1, low - at)  # deepest in the middle
        wave = np.where(at < low, -4 - 0.3 * down, 0.0) + 0.1 * generator.standard_normal(at.shape)
        return CENTRE + SD * np.where(swings[:, None], wave, 2 + 0.5 * ar1(0.5, generator))

    return study_with([one() for _ in range(m)], [words(generator) for _ in range(m)], generator)


def of_loops(generator: np.random.Generator, *, m: int = MODELS) -> Panel:
    """M models a third of whose runs fall into a loop and stay there: entropy low to the end."""
    series = []
    for _ in range(m):
        z = ar1(0.5, generator)
        begins = generator.integers(10, 50, ALL_RUNS)
        loops = generator.random(ALL_RUNS) < 1 / 3
        late = (np.arange(STEPS) >= begins[:, None]) & loops[:, None]
        series.append(CENTRE + SD * np.where(late, -3 + 0.2 * z, z))
    return study_with(series, [words(generator) for _ in range(m)], generator)
