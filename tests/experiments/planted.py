"""Panels of columns with planted effects.

Real distributions over a small vocabulary, cut to the columns a trace holds.
"""

import numpy as np

from phaselens.experiments import ModelData, ModelInfo, Panel


def distribution_columns(logits: np.ndarray) -> dict[str, np.ndarray]:
    """The distribution observables of logits [..., V], by the formulas of the definitions."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    p = np.exp(logits)
    p /= p.sum(axis=-1, keepdims=True)
    top = -np.sort(-p, axis=-1)[..., :10]
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(axis=-1)
    return {
        "top1": top[..., 0],
        "rivalry": top[..., 1] / top[..., 0],
        "top10_mass": top.sum(axis=-1),
        "entropy_norm": entropy / np.log(p.shape[-1]),
        "dispersion": np.log1p((p > 0.01).sum(axis=-1)) / np.log(100),
    }


def matched_temperature(logits: np.ndarray, target: float) -> float:
    """Bisection on ln T so that the mean entropy_norm is `target`."""
    low, high = np.log(0.01), np.log(100)
    for _ in range(40):
        middle = (low + high) / 2
        mean = distribution_columns(logits / np.exp(middle))["entropy_norm"].mean()
        low, high = (middle, high) if mean < target else (low, middle)
    return float(np.exp((low + high) / 2))


def model(
    name: str,
    logits: np.ndarray,
    generator: np.random.Generator,
    *,
    target: float = 0.5,
    n_prompts: int = 8,
    ct: np.ndarray | None = None,
    calibration: int = 0,
    **info,
) -> ModelData:
    """One model from logits [run, step, layer 1..L, V].

    Runs take the prompts in turn, the last ones are calibration.
    """
    n_runs, n_steps, n_layers, vocabulary = logits.shape
    output = logits[:, :, -1:, :]
    temperature = matched_temperature(output, target)
    columns = distribution_columns(logits)
    for label, other in {
        "raw": logits * 0.8,
        "tmatch": logits / temperature,
        "shared": logits[..., : vocabulary * 3 // 4],
    }.items():
        columns |= {f"{k}__{label}": v for k, v in distribution_columns(other).items()}
    if ct is None:
        ct = np.abs(1 + 0.2 * generator.standard_normal((n_runs, n_steps, n_layers)))
        ct[:, :2] = np.nan
    columns |= {"instability": ct, "frozen": np.where(np.isnan(ct), np.nan, (ct < 1e-3).astype(float))}
    run, step, layer = (x.ravel() for x in np.indices((n_runs, n_steps, n_layers)))
    layers = {"run": run, "step": step, "layer": layer + 1} | {k: v.ravel() for k, v in columns.items()}
    run, step = (x.ravel() for x in np.indices((n_runs, n_steps)))
    steps = {"run": run, "step": step} | {
        k: v[:, :, -1].ravel() for k, v in columns.items() if k not in ("instability", "frozen") and "__" not in k
    }
    runs = {
        "run": np.arange(n_runs),
        "prompt_id": np.array([f"p{i % n_prompts}" for i in range(n_runs)]),
        "category": np.array(["arithmetic" if i % 2 else "factual" for i in range(n_runs)]),
        "arm": np.array(["t0.7"] * n_runs),
        "sample": np.arange(n_runs) // n_prompts,
        "calibration": np.arange(n_runs) >= n_runs - calibration,
        "n_generated": np.full(n_runs, n_steps),
        "finish": np.array(["length"] * n_runs),
    }
    facts = {"family": "f", "n_layers": n_layers, "d_model": 16, "vocab_size": vocabulary, "parameters": 1000} | info
    completions = tuple(tuple(int(t) for t in generator.integers(0, vocabulary, n_steps)) for _ in range(n_runs))
    return ModelData(ModelInfo(name=name, **facts), runs, steps, layers, completions, frozenset({1, 2, 3}))


def logits(
    generator: np.random.Generator,
    *,
    scale: float = 1.0,
    lead: float = 0.0,
    spread: float = 0.05,
    shape: tuple[int, int, int, int] = (8, 10, 2, 40),
) -> np.ndarray:
    """Gaussian logits times a model's own scale; `lead` lifts the first token above the others before scaling."""
    base = generator.standard_normal(shape)
    lift = lead + spread * generator.standard_normal(shape[:1])[:, None, None]
    first = np.take_along_axis(base, base.argmax(axis=-1)[..., None], axis=-1)
    raised = np.where(base == first, base + lift[..., None], base)
    return raised * scale


def panel(models: list[ModelData], seed: int = 3, n_boot: int = 400) -> Panel:
    return Panel(tuple(models), seed=seed, n_boot=n_boot)
