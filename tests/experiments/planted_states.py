"""Panels whose states are planted: marks first, then columns that have exactly those marks."""

import numpy as np

from phaselens.dynamics.states import A, B, C, D, E
from phaselens.experiments import ModelData, ModelInfo, Panel

# of A B C D E: turbulent, rival, committed
MARKS = {A: (1, 0, 0), B: (0, 1, 0), C: (0, 0, 1), D: (1, 1, 0), E: (0, 0, 0)}
CALIBRATION = 4


def columns_of(states: np.ndarray, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns [run, step, layer] with these states: turbulence .8-.9 where turbulent, else below .2."""
    turbulent, rival, committed = (np.array([MARKS[s][i] for s in range(5)], bool)[states] for i in range(3))
    u = generator.random((3, *states.shape))
    return {
        "turbulence": np.where(turbulent, 0.8 + 0.1 * u[0], 0.2 * u[0]),
        "rivalry": np.where(rival, 0.8 + 0.2 * u[1], 0.2 * u[1]),
        "n_above_1pct": np.full(states.shape, 5.0),
        "top1": np.where(committed, 0.6 + 0.3 * u[2], 0.1 + 0.3 * u[2]),
        "agrees": np.ones(states.shape),
    }


def steps_of(entropy_norm: np.ndarray, rival: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """Output columns [run, step] with these entropies; two tokens rival where said."""
    rival = np.zeros(entropy_norm.shape, bool) if rival is None else rival
    return {"entropy_norm": entropy_norm, "top1": np.full(rival.shape, 0.4), "top2": np.where(rival, 0.35, 0.05)}


def model(
    name: str,
    layers: dict[str, np.ndarray],
    steps: dict[str, np.ndarray] | None = None,
    *,
    n_prompts: int = 12,
    completions=(),
    word_start_tokens=None,
    calibration: int = CALIBRATION,
    **info,
) -> ModelData:
    """A model from columns of its layers 1..L-1; layer L has no turbulence. The last runs are calibration runs."""
    n_runs, n_steps, inner = next(iter(layers.values())).shape
    last = {k: np.concatenate([v, v[:, :, -1:]], axis=-1) for k, v in layers.items()}
    if "turbulence" in last:
        last["turbulence"][:, :, -1] = np.nan
    run, step, layer = (x.ravel() for x in np.indices((n_runs, n_steps, inner + 1)))
    rows, at = (x.ravel() for x in np.indices((n_runs, n_steps)))
    order = np.arange(n_runs)
    apart = order >= n_runs - calibration
    runs = {
        "run": order,
        "prompt_id": np.array([f"c{i}" if c else f"p{i % n_prompts:02d}" for i, c in zip(order, apart, strict=True)]),
        "category": np.full(n_runs, "x"),
        "arm": np.full(n_runs, "t0.7"),
        "sample": order // n_prompts,
        "calibration": apart,
        "n_generated": np.full(n_runs, n_steps),
        "finish": np.full(n_runs, "length"),
    }
    facts = {"family": "f", "n_layers": inner + 1, "d_model": 8, "vocab_size": 64, "parameters": 10} | info
    return ModelData(
        ModelInfo(name=name, **facts),
        runs,
        {"run": rows, "step": at} | {k: v.ravel() for k, v in (steps or {}).items()},
        {"run": run, "step": step, "layer": layer + 1} | {k: v.ravel() for k, v in last.items()},
        completions,
        None,
        word_start_tokens,
    )


def markov(p: np.ndarray, shape: tuple[int, int], generator: np.random.Generator) -> np.ndarray:
    """Chains [row, step] of a Markov chain with transition matrix p, begun in its stationary law."""
    values, vectors = np.linalg.eig(p.T)
    law = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    edges = np.cumsum(p, axis=1)
    out = np.empty(shape, np.int64)
    out[:, 0] = np.searchsorted(np.cumsum(law / law.sum()), generator.random(shape[0]))
    for t in range(1, shape[1]):
        out[:, t] = (generator.random(shape[0])[:, None] >= edges[out[:, t - 1], :-1]).sum(axis=1)
    return out


def panel(models: list[ModelData], seed: int = 3, n_boot: int = 300) -> Panel:
    return Panel(tuple(models), seed=seed, n_boot=n_boot)
