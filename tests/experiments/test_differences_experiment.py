"""What differs between two models: planted differences come first, none are found where none are, twins explain."""

import math
from dataclasses import replace

import numpy as np
import pytest

from phaselens.experiments import Panel
from phaselens.experiments.differences import analyse_differences
from phaselens.statistics.permutation import sign_flip_max
from phaselens.validity.simulated_panels import infos, model_of

RUNS, STEPS, LAYERS = 16, 12, 8


def study(shift, *, twins=0.0, vocab=(100, 100), seed=0):
    """Two models on eight prompts; the second's turning_angle at the deep half is higher by `shift`."""
    g = np.random.default_rng(seed)
    prompt = g.standard_normal((RUNS // 2, 1, 1))[np.arange(RUNS) % 8]

    def one(info, by):
        angle = prompt + 0.3 * g.standard_normal((RUNS, STEPS, LAYERS))
        angle[:, :, LAYERS // 2 :] += by
        layers = {"turning_angle": angle, "entropy": prompt + 0.3 * g.standard_normal((RUNS, STEPS, LAYERS))}
        return model_of(info, layers, {"entropy": g.standard_normal((RUNS, STEPS)), "top1": g.random((RUNS, STEPS))})

    trained, untrained = infos(2, n_layers=LAYERS)
    trained = [replace(info, vocab_size=v, noise_floor=0.01) for info, v in zip(trained, vocab, strict=True)]
    models = [one(trained[0], 0.0), one(trained[1], shift), one(untrained[0], 0.0), one(untrained[1], twins)]
    return analyse_differences(Panel(tuple(models), seed=1, n_boot=400))


def rows(result, table="differences", **where):
    return [r for r in result.tables[table].to_pylist() if all(r[k] == v for k, v in where.items())]


def test_a_planted_difference_comes_first_at_its_depth_and_nowhere_else():
    result = study(-0.5)
    first = rows(result, rank=1, category="all")[0]
    assert first["observable"] == "turning_angle" and first["depth"] in (0.75, 1.0)
    assert first["difference"] == pytest.approx(0.5, abs=0.1) and first["lo"] > 0 and first["p"] <= 0.01
    assert first["before"] == "no" and first["n_units"] == 8
    (shallow,) = rows(result, observable="turning_angle", depth=0.25, category="all")
    assert shallow["p"] > 0.05
    curve = {r["depth"]: r["value"] for r in rows(result, "differences_curve", observable="turning_angle")}
    assert abs(curve[0.25]) < 0.15 < curve[0.9]
    assert rows(result, rank=1, category="simulated")[0]["difference"] == pytest.approx(first["difference"])


def test_what_the_untrained_twins_have_too_is_said_to_be_there_before_training():
    assert rows(study(0.5, twins=0.5), rank=1, category="all")[0]["before"] == "yes"


def test_vocabularies_of_unlike_size_leave_raw_entropy_out_and_say_so():
    result = study(0.5, vocab=(100, 200))
    assert not rows(result, observable="entropy") and rows(result, observable="turning_angle")
    assert "unlike size" in result.notes[0]
    floor = rows(study(0.5), observable="entropy", place="output", category="all")[0]["noise_floor"]
    assert floor == 0.01 and math.isnan(
        rows(study(0.5), observable="top1", category="all")[0]["noise_floor"] or math.nan
    )


def test_the_largest_of_many_differences_holds_its_level():
    hits = 0
    for i in range(200):
        g = np.random.default_rng([9, i])
        d = g.standard_normal((12, 1)) + g.standard_normal((12, 40))
        hits += np.nanmin(sign_flip_max(d, g, n_flips=199)) <= 0.05
    assert hits <= 19
    d = np.random.default_rng(0).standard_normal((12, 5))
    d[:, 2] += 3
    d[:6, 4] = np.nan
    p = sign_flip_max(d, np.random.default_rng(1))
    assert p.argmin() == 2 and p[2] <= 0.002 and np.isfinite(p).all()
    assert np.isnan(sign_flip_max(np.full((4, 2), np.nan), np.random.default_rng(0))).all()


def test_what_counts_layers_is_compared_between_stacks_of_one_height_alone():
    g = np.random.default_rng(3)
    info = infos(1, n_layers=LAYERS)[0][0]
    layers = {"turning_angle": g.standard_normal((RUNS, STEPS, LAYERS))}

    def compared(heights):
        models = [
            model_of(
                replace(info, name=f"m{k}", n_layers=n),
                layers if n == LAYERS else {"turning_angle": g.standard_normal((RUNS, STEPS, n))},
                {c: g.random((RUNS, STEPS)) for c in ("commit_layer", "commit_depth")},
            )
            for k, n in enumerate(heights)
        ]
        result = analyse_differences(Panel(tuple(models), seed=1, n_boot=100))
        return {r["observable"] for r in rows(result)}, " ".join(result.notes)

    same, unlike = compared((LAYERS, LAYERS)), compared((LAYERS, LAYERS + 2))
    assert {"commit_layer", "commit_depth"} <= same[0] and not same[1]
    assert "commit_layer" not in unlike[0] and "commit_depth" in unlike[0]
    assert "unlike numbers of layers: commit_layer, commit_layer_emitted are not compared" in unlike[1]


def test_curves_are_kept_of_all_that_was_compared_in_a_small_panel():
    result = study(0.5)
    assert {r["observable"] for r in rows(result, "differences_curve")} == {"turning_angle", "entropy"}
