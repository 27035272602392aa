"""Cost of the probe table against a loop over scikit-learn's LogisticRegression, in CPU time of one run.

13 layers x 6 tasks x 10 control rows x 5 folds at d = 768, 4,000 examples: the same objective, the same tolerance (the
largest entry of the gradient of the mean loss), one thread each. scikit-learn fits a stated part, spread over tasks,
controls and layers, and is scaled by task; those fits are also compared. CPU time, not wall time, so that other work on
the machine moves the ratio less. Run as `python benchmarks/probes.py [--quick]`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import time

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from phaselens import perturbations
from phaselens.probes.crossfit import fit_layer, held_out, make_task
from phaselens.probes.design import make_design
from phaselens.probes.folds import grouped_folds

LAYERS, WIDTH, EXAMPLES, FOLDS = 13, 768, 4_000, 5
CLASSES = (2, 2, 2, 2, 3, 6)
CONTROLS = {
    "identity": perturbations.identity,
    "rotation": perturbations.rotate,
    "feature permutation, fixed": perturbations.permute_features,
    "feature permutation, per example": perturbations.permute_features_per_example,
    "noise 0.25 x RMS": perturbations.noise(0.25),
    "noise 1 x RMS": perturbations.noise(1.0),
    "noise 4 x RMS": perturbations.noise(4.0),
    "Gaussian, pooled": perturbations.gaussian_pooled,
    "Gaussian, by class": perturbations.gaussian_by_class,
    "labels permuted": perturbations.permute_examples,
}


def labels_and_states(layers: int):
    """Six tasks whose latent scores lie in features of middling variance, and a maker of the states of one layer.

    Variance falls as 1/rank in a basis that turns with the layer, two features are massive (a constant of 30 RMS), and
    the signal grows towards two thirds of depth.
    """
    draw = np.random.default_rng(0)
    latent = draw.standard_normal((EXAMPLES, len(CLASSES), 6))
    codes = [(2.5 * latent[:, t, :k] + draw.gumbel(size=(EXAMPLES, k))).argmax(1) for t, k in enumerate(CLASSES)]

    def states(layer: int) -> torch.Tensor:
        own = np.random.default_rng(1000 + layer)
        spread = np.arange(1, WIDTH + 1) ** -0.5
        base = own.standard_normal((EXAMPLES, WIDTH))
        strength = 0.3 + np.exp(-(((layer / (layers - 1) - 0.67) / 0.3) ** 2))
        where = 10 + own.choice(150, size=36, replace=False)
        base[:, where] += strength * latent.reshape(EXAMPLES, -1)
        turn = np.linalg.qr(own.standard_normal((WIDTH, WIDTH)))[0]
        out = (base * spread) @ turn.T
        out[:, [5, 100]] += 30 * np.sqrt(np.mean(spread**2)) * (1 + 0.05 * own.standard_normal((EXAMPLES, 2)))
        return torch.from_numpy(out).float()

    return codes, states


def peer(features: np.ndarray, task, l2: float, tol: float, fit, solver: str):
    """CPU seconds of scikit-learn on one fold, and how far its coefficients and held-out predictions are from ours."""
    train = task.folds != 0
    centre = features[train].mean(0)
    scale = np.sqrt(np.square(features[train] - centre).mean())
    ready = (features - centre) / scale
    model = LogisticRegression(C=1 / l2, tol=tol, max_iter=20_000, solver=solver)
    start = time.process_time()
    model.fit(ready[train], task.codes[0][train])
    spent = time.process_time() - start
    theirs = model.predict(ready[~train])
    scores = fit.scores[:, torch.as_tensor(~train)]
    ours = (scores[0] > 0).long() if len(scores) == 1 else scores.argmax(0)
    difference = float(np.abs(model.coef_ - fit.weight.numpy()).max())
    return spent, difference, float((theirs == ours.numpy()).mean())


def memory_mb() -> float:
    """Peak memory of this process in MB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def bare_products(row_steps: float) -> float:
    """CPU seconds of the two matrix products that so many steps of one coefficient row need, and nothing else."""
    rows, weight = torch.randn(EXAMPLES, WIDTH + 1), torch.randn(65, WIDTH + 1)
    (weight @ rows.T) @ rows
    start = time.process_time()
    for _ in range(5):
        (weight @ rows.T) @ rows
    return (time.process_time() - start) / 5 / 65 * row_steps


def measure_probes(l2: float, tol: float, layers: int, peers: int) -> dict:
    """The ratio, the largest difference and the peak memory, with what stands behind them."""
    codes, states = labels_and_states(LAYERS)
    folds = grouped_folds(np.arange(EXAMPLES) // 4, FOLDS)
    tasks = {str(t): make_task(y, folds) for t, y in enumerate(codes)}
    chosen = np.random.default_rng(1)
    plan = {(int(chosen.integers(layers)), name, t) for t in tasks for name in chosen.choice(list(CONTROLS), peers)}
    ours, spent, differences, agreements, floor_steps = 0.0, {t: [] for t in tasks}, [], [], 0.0
    for layer in range(layers):
        hidden = states(layer)
        for name, perturb in CONTROLS.items():
            batches = (
                [{t: task} for t, task in tasks.items()] if perturb is perturbations.gaussian_by_class else [tasks]
            )
            for batch in batches:
                first = next(iter(batch.values()))
                draw = torch.Generator().manual_seed(layer)
                moved = perturb(hidden, draw, labels=torch.as_tensor(first.codes[0]), blocks=torch.as_tensor(folds))
                start = time.process_time()
                found = fit_layer(make_design(moved), batch, l2, tol=tol)
                for t, fits in found.items():
                    held_out(batch[t], fits)
                ours += time.process_time() - start
                floor_steps += sum(fit.steps * len(fit.weight) for fits in found.values() for fit in fits)
                for t in batch:
                    if (layer, name, t) in plan:
                        one = peer(moved.double().numpy(), batch[t], l2, tol, found[t][0], "lbfgs")
                        spent[t].append(one[0])
                        differences.append(one[1])
                        agreements.append(one[2])
    fits = layers * len(CONTROLS) * FOLDS
    theirs = sum(fits * float(np.mean(times)) for times in spent.values())
    bare = bare_products(floor_steps)
    return {
        "speedup_over_sklearn": theirs / ours,
        "max_coef_difference": max(differences),
        "prediction_agreement": min(agreements),
        "peak_mb": memory_mb(),
        "fits": fits * len(tasks),
        "fits_by_sklearn": len(differences),
        "cpu_s": ours,
        "cpu_s_sklearn_scaled": theirs,
        "cpu_s_per_fit_sklearn": {
            f"{k} classes ({t})": float(np.mean(spent[t])) for k, t in zip(CLASSES, spent, strict=True)
        },
        "over_bare_products": ours / bare,
        "steps_per_row": floor_steps / (fits * sum(1 if k == 2 else k for k in CLASSES)),
        "mean_prediction_agreement": float(np.mean(agreements)),
        "l2": l2,
        "tol": tol,
        "layers": layers,
        "threads": torch.get_num_threads(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one layer of the thirteen, fewer fits by scikit-learn")
    parser.add_argument("--l2", type=float, default=10.0)
    parser.add_argument("--tol", type=float, default=1e-6)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    layers, peers = (1, 1) if chosen.quick else (LAYERS, 4)
    print(json.dumps(measure_probes(chosen.l2, chosen.tol, layers, peers), indent=1))


if __name__ == "__main__":
    main()
