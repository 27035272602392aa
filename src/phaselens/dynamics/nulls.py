"""What ratio_norm is when nothing is going on: trajectories without a model, at 66 states, each with its generator.

Each function returns states [draw, state, d_model]; `instability_of` gives their instability under the unit
normalisation, by the same formula as the observable (a test holds the two together).
"""

from typing import Any

import numpy as np

from phaselens.errors import InputError

N_STATES = 66  # instability begins with the third state, so these give the window of 64 that runs are read in


def instability_of(states: np.ndarray) -> np.ndarray:
    """Step length times turning angle along states scaled to length one (rad).

    `u = h / max(|h|, 1e-8)`, `v[s] = u[s] - u[s-1]`, `|v[s]| arccos(v[s-1].v[s] / (|v[s-1]| |v[s]|))`; the angle is 0
    where a step is shorter than 1e-6. Shapes: [..., state, d_model] -> [..., state - 2].
    """
    states = np.asarray(states, float)
    unit = states / np.maximum(np.linalg.norm(states, axis=-1, keepdims=True), 1e-8)
    move = np.diff(unit, axis=-2)
    length = np.linalg.norm(move, axis=-1)
    before, after = length[..., :-1], length[..., 1:]
    inner = (move[..., :-1, :] * move[..., 1:, :]).sum(axis=-1)
    moving = (before >= 1e-6) & (after >= 1e-6)
    cosine = np.clip(np.divide(inner, before * after, out=np.ones_like(inner), where=moving), -1, 1)
    return after * np.arccos(cosine)


def random_walk(generator: np.random.Generator, *, n_draws: int = 200, d_model: int = 64) -> np.ndarray:
    """Cumulative sum of standard Gaussian vectors.

    66 states, ratio_norm about 3.1, its maximum among the first six values.
    """
    return np.cumsum(generator.standard_normal((n_draws, N_STATES, d_model)), axis=1)


def sphere_walk(
    generator: np.random.Generator,
    *,
    n_draws: int = 200,
    d_model: int = 64,
    step: float = 0.3,
    n_states: int = N_STATES,
) -> np.ndarray:
    """Walk on the sphere: a tangent Gaussian step of length 0.3, then back to length one.

    Ratio_norm about 1.1 (1.05 to 1.2).
    """
    state = _on_sphere(generator.standard_normal((n_draws, d_model)))
    states = [state]
    for _ in range(n_states - 1):
        noise = generator.standard_normal((n_draws, d_model))
        tangent = _on_sphere(noise - (noise * state).sum(axis=1, keepdims=True) * state)
        state = _on_sphere(state + step * tangent)
        states.append(state)
    return np.stack(states, axis=1)


def independent_states(generator: np.random.Generator, *, n_draws: int = 200, d_model: int = 64) -> np.ndarray:
    """Independent standard Gaussian vectors: no trajectory at all.

    Ratio_norm about 1.06 at d_model = 768, 1.2 at 64.
    """
    return generator.standard_normal((n_draws, N_STATES, d_model))


def partly_frozen(
    generator: np.random.Generator, share: float, *, n_draws: int = 200, d_model: int = 64, n_states: int = N_STATES
) -> np.ndarray:
    """Sphere walk that stands still from some step on, for a share f of the steps; ratio_norm about r0 / (1 - f)."""
    if not 0 <= share < 1:
        raise InputError(f"the share of frozen steps lies in [0, 1); got {share}.")
    states = sphere_walk(generator, n_draws=n_draws, d_model=d_model, n_states=n_states)
    moving = n_states - round(share * (n_states - 2))
    states[:, moving:] = states[:, moving - 1 : moving]
    return states


def outlier_first_state(
    generator: np.random.Generator, *, n_draws: int = 200, d_model: int = 64, **walk: Any
) -> np.ndarray:
    """Sphere walk whose state 1 is an unrelated vector: ratio_norm about 8 (3-12 over steps).

    It must be state 1: the leap into state 0 lies before the first defined value, so an outlier there moves nothing.
    """
    states = sphere_walk(generator, n_draws=n_draws, d_model=d_model, **walk)
    states[:, 1] = _on_sphere(generator.standard_normal((n_draws, d_model)))
    return states


def _on_sphere(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
