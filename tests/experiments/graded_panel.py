"""Panels of graded runs with or without a planted link between dynamics and answers."""

import numpy as np

from phaselens.experiments import ModelData, ModelInfo, Panel

LAYERS, RECORDED, STEPS = 4, (3, 4), 72


def graded_model(
    name: str,
    rng: np.random.Generator,
    *,
    prompts: int = 350,
    samples: int = 3,
    calibration: int = 40,
    trap: float = 0.0,
    resolves: float = 0.0,
    unstable: float = 0.0,
    coherent: float = 0.0,
    grammar: float = 0.0,
    hops: float = 0.0,
    regime: float = 0.0,
    loops: float = 0.0,
    closeness: float | None = None,
    right: float = 0.5,
) -> ModelData:
    """One model; every number plants one link, 0 none. `right` is the share of right answers."""
    n_prompts = prompts + calibration
    n = n_prompts * samples
    prompt = np.arange(n) % n_prompts
    wrong = rng.uniform(size=n) > right
    sign = np.where(wrong, 1.0, -1.0)[:, None]
    shape = (n, STEPS)

    def noisy(level: float, spread: float = 0.3) -> np.ndarray:
        return level + spread * (rng.normal(size=shape) + rng.normal(size=(n, 1)))

    levels = 1 + np.arange(n) % 3
    late = np.linspace(1, -1, STEPS)[None]
    lens_noise = np.abs(noisy(0.4, 0.05) + 0.1 * resolves * -sign * late + 0.05 * hops * levels[:, None])
    step_length = np.exp(noisy(0.0) - 0.3 * trap * sign)
    later = rng.integers(0, 2, n)
    ct = np.exp(
        noisy(0.0, 0.2) + 0.3 * unstable * sign + 0.2 * regime * (2 * later - 1)[:, None] * (np.arange(STEPS) < 10)
    )
    spike = np.where((np.arange(STEPS) == 40)[None] & (later == 1)[:, None], 1 + 4 * (regime != 0), 1.0)
    ct = ct * spike
    if closeness is not None:
        ct = np.exp(0.05 * rng.normal(size=shape))
        ct[:, 30] = closeness * ct.mean()
    tokens = rng.integers(0, 500, shape)
    looping = np.zeros(n, bool)
    if loops:
        looping = rng.uniform(size=n) < 0.1
        tokens[looping, 44:] = np.tile([1, 2, 3, 4], 7)
        ct[looping, 24:40] *= np.exp(-loops)
    ct[:, :2] = np.nan
    states = rng.integers(0, 2, shape)
    order = np.arange(STEPS)[None] % 2
    keeps = rng.uniform(size=shape) < np.where(wrong, 0.9 - 0.5 * grammar, 0.9)[:, None]
    states = np.where(keeps, order, states)
    at = {
        "instability": ct,
        "step_length": step_length,
        "turning_angle": noisy(1.0),
        "coherence": noisy(0.0) - 0.4 * coherent * sign,
        "turbulence": lens_noise,
        "rivalry": np.where(states == 1, 0.9, 0.1),
        "n_above_1pct": np.full(shape, 5.0),
        "top1": np.full(shape, 0.4),
        "agrees": np.ones(shape),
    }
    run, step, layer = (x.ravel() for x in np.indices((n, STEPS, len(RECORDED))))
    layers = {"run": run, "step": step, "layer": np.array(RECORDED)[layer]}
    layers |= {k: np.repeat(v[:, :, None], len(RECORDED), 2).ravel() for k, v in at.items()}
    run, step = (x.ravel() for x in np.indices(shape))
    plain = {"entropy": noisy(2.0), "surprisal": noisy(2.0), "entropy_norm": noisy(0.5), "commitment": noisy(0.0)}
    plain["commitment"] = plain["commitment"] + 0.3 * trap * sign
    steps = {"run": run, "step": step} | {k: v.ravel() for k, v in plain.items()}
    ids = np.array([f"{'c' if p >= prompts else 'p'}{p:04d}" for p in prompt])
    runs = {
        "run": np.arange(n),
        "prompt_id": ids,
        "category": np.where(prompt % 2, "science", "factual"),
        "arm": np.full(n, "t0.7"),
        "sample": np.arange(n) // n_prompts,
        "calibration": prompt >= prompts,
        "n_generated": np.full(n, STEPS),
        "n_prompt": rng.integers(5, 20, n),
        "finish": np.full(n, "length"),
        "correct": (~wrong).astype(float),
        "tag": np.array([f"{k} steps" if k > 1 else "1 step" for k in levels]),
    }
    info = ModelInfo(name, "f", LAYERS, 16, 500, 1000)
    return ModelData(info, runs, steps, layers, tuple(tuple(int(t) for t in row) for row in tokens))


def graded_panel(models: int = 1, seed: int = 0, **planted) -> Panel:
    """A panel of such models; `planted` values that are lists go to the models one by one."""
    rng = np.random.default_rng(seed)
    own = [{k: v[i] if isinstance(v, list) else v for k, v in planted.items()} for i in range(models)]
    return Panel(tuple(graded_model(f"m{i}", rng, **one) for i, one in enumerate(own)), n_boot=200)
