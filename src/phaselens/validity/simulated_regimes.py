"""Simulated studies of ratio_norm, for R1: panels without regimes, with two, and with what only looks like two.

Nulls and effects are planted in the models' medians of log ratio_norm exactly; artefacts in simulated states, whose
instability is computed as that of real ones.
"""

import numpy as np

from phaselens.dynamics import nulls, regimes
from phaselens.experiments import ModelData, Panel
from phaselens.validity.simulated_panels import (
    PROMPTS,
    RUNS,
    infos,
    model_of,
    more_groups,
    one_peak,
    study_of,
    two_groups,
    upper_group,
)

N_STATES = 72
CENTRE = 0.8
UNIT = 0.1
PROMPT_SD = 0.1
RUN_SD = 0.03
FROZEN_STEP = 1e-3
WIDTH = 16


def peaked(log_ratio: np.ndarray, generator: np.random.Generator, *, n_states: int = N_STATES) -> np.ndarray:
    """Instability whose ratio_norm is exactly `exp(log_ratio)`: even noise with one peak inside every window (rad).

    With S the sum of the other 63 values the peak is `r S / (64 - r)`, so max / mean = r. [...] -> [..., state],
    the first two NaN. Needs 1.2 < r < 64, else the noise tops the peak.
    """
    ct = 0.9 + 0.2 * generator.random((*log_ratio.shape, n_states))
    ct[..., :2] = np.nan
    at = generator.integers(12, 52, size=log_ratio.shape)[..., None]
    np.put_along_axis(ct, at, 0.0, axis=-1)
    others = ct[..., 2 : 2 + regimes.WINDOW].sum(axis=-1)
    ratio = np.exp(log_ratio)
    np.put_along_axis(ct, at, (ratio * others / (regimes.WINDOW - ratio))[..., None], axis=-1)
    return ct


def run_ratios(medians: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Log ratio_norm of each run (1): the model's median, an effect of the prompt that all models share, and noise.

    Shapes: [model] -> [model, run].
    """
    prompt = PROMPT_SD * generator.standard_normal(PROMPTS)
    noise = RUN_SD * generator.standard_normal((len(medians), RUNS))
    return medians[:, None] + prompt[np.arange(RUNS) % PROMPTS] + noise


def study_with(
    trained: np.ndarray,
    untrained: np.ndarray,
    generator: np.random.Generator,
    *,
    frozen: np.ndarray | None = None,
    lengths: np.ndarray | None = None,
    twin_of: dict[int, int] | None = None,
) -> Panel:
    """A study from instability [model, run, step] of M trained models and of their untrained twins.

    `frozen` [model, run, step] of the trained ones (default: none is), `lengths` [model, run] their generated tokens.
    """
    first, second = infos(len(trained), n_layers=1, twin_of=twin_of, apart=True)

    def one(info, ct: np.ndarray, still: np.ndarray | None, n: np.ndarray | None) -> ModelData:
        still = np.zeros(ct.shape) if still is None else still
        return model_of(info, {"instability": ct[:, :, None], "frozen": still[:, :, None]}, lengths=n)

    models = [
        one(info, ct, None if frozen is None else frozen[i], None if lengths is None else lengths[i])
        for i, (info, ct) in enumerate(zip(first, trained, strict=True))
    ]
    models += [one(info, ct, None, None) for info, ct in zip(second, untrained, strict=True)]
    return study_of(models, generator)


def even_twins(m: int, generator: np.random.Generator) -> np.ndarray:
    """Instability of M untrained twins that hardly differ, [model, run, state] (rad)."""
    return peaked(run_ratios(CENTRE + 0.02 * generator.standard_normal(m), generator), generator)


def _of_medians(values: np.ndarray, generator: np.random.Generator, twin_of: dict[int, int] | None = None) -> Panel:
    trained = peaked(run_ratios(CENTRE + UNIT * values, generator), generator)
    return study_with(trained, even_twins(len(values), generator), generator, twin_of=twin_of)


def without_regimes(generator: np.random.Generator, *, shape: str, m: int) -> Panel:
    """M models whose medians have one peak."""
    return _of_medians(one_peak(shape, m, generator), generator)


def with_regimes(generator: np.random.Generator, *, gap: float, m: int, k: int = 2) -> Panel:
    """M models whose medians lie in k groups, neighbours `gap` within-group SDs apart."""
    values = two_groups(gap, m, generator) if k == 2 else more_groups(gap, m, k, generator)
    return _of_medians(values, generator)


def of_architecture(generator: np.random.Generator, *, gap: float, m: int) -> Panel:
    """M models in two groups that their untrained twins form as well: architecture, nothing learned."""
    values = two_groups(gap, m, generator)
    same = values + 0.1 * generator.standard_normal(m)
    trained, untrained = (peaked(run_ratios(CENTRE + UNIT * v, generator), generator) for v in (values, same))
    return study_with(trained, untrained, generator)


def of_seeds(generator: np.random.Generator, *, recipes: int, seeds: int) -> Panel:
    """One peak over recipes, the first of which was trained `seeds` more times: a clump of declared twins."""
    values = one_peak("normal", recipes, generator)
    values = np.append(values, values[0] + 0.1 * generator.standard_normal(seeds))
    return _of_medians(values, generator, twin_of={recipes + i: 0 for i in range(seeds)})


def _walks(m: int, generator: np.random.Generator) -> np.ndarray:
    """Instability of M models that walk on the sphere, [model, run, state], the first two NaN (rad)."""
    states = nulls.sphere_walk(generator, n_draws=m * RUNS, d_model=WIDTH, n_states=N_STATES)
    return instability(states).reshape(m, RUNS, N_STATES)


def instability(states: np.ndarray) -> np.ndarray:
    """Instability along states [run, state, d], as [run, state] with the first two NaN (rad)."""
    ct = nulls.instability_of(states)
    return np.concatenate([np.full((*ct.shape[:-1], 2), np.nan), ct], axis=-1)


def standing(states: np.ndarray) -> np.ndarray:
    """Whether the step into each state is shorter than 1e-3, float [run, state]; NaN at the first state."""
    unit = states / np.linalg.norm(states, axis=-1, keepdims=True)
    still = np.linalg.norm(np.diff(unit, axis=-2), axis=-1) < FROZEN_STEP
    return np.concatenate([np.full((*still.shape[:-1], 1), np.nan), still], axis=-1)


def outlier_states(generator: np.random.Generator, *, m: int) -> Panel:
    """Walks on the sphere; in the upper group the first generated state is an unrelated vector."""
    ct = _walks(m, generator)
    for i in np.flatnonzero(upper_group(m)):
        step = 0.3 * np.exp(0.05 * generator.standard_normal())
        states = nulls.outlier_first_state(generator, n_draws=RUNS, d_model=WIDTH, step=step, n_states=N_STATES)
        ct[i] = instability(states)
    return study_with(ct, _walks(m, generator), generator)


def frozen_tails(generator: np.random.Generator, *, m: int) -> Panel:
    """Walks on the sphere; the upper group stands still for the last 40 % of its steps or so."""
    ct, still = _walks(m, generator), np.zeros((m, RUNS, N_STATES))
    for i in np.flatnonzero(upper_group(m)):
        share = 0.4 + 0.02 * generator.standard_normal()
        states = nulls.partly_frozen(generator, share, n_draws=RUNS, d_model=WIDTH, n_states=N_STATES)
        ct[i], still[i] = instability(states), standing(states)
    return study_with(ct, _walks(m, generator), generator, frozen=still)


def unequal_lengths(generator: np.random.Generator, *, m: int, n_steps: int = 202, short: int = 10) -> Panel:
    """Heavy-tailed instability, the same in all models; the lower group ends most of its runs after 10 tokens.

    Over all values of a run the maximum, and with it max / mean, grows with their number.
    """
    lengths = np.full((m, RUNS), n_steps)
    lengths[~upper_group(m), : RUNS * 3 // 4] = short
    ct = generator.lognormal(sigma=0.7, size=(m, RUNS, n_steps))
    ct[..., :2] = np.nan
    ct[np.arange(n_steps) >= lengths[..., None]] = np.nan
    return study_with(ct, _walks(m, generator), generator, lengths=lengths)
