"""F1 to F4 on readings with a planted truth: supported where it is planted, not where it is not."""

import dataclasses

import numpy as np
import pytest

from phaselens.claims import judge
from phaselens.claims.declared.probes import CLAIMS
from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.experiments.base import StoredReading
from phaselens.experiments.probes import PROBES, evidence

CLAIM = {claim.id: claim for claim in CLAIMS}
N, L = 400, 8


def reading(task, function, peak, seed, *, signal=0.35, base=0.5, twin=0.5, spread=0.2):
    draw = np.random.default_rng(seed)

    def hits(chance):
        return (draw.random(N) < chance).astype(float)

    depth = np.arange(L + 1) / L
    curve = base + signal * np.exp(-(((depth - peak) / 0.15) ** 2))
    curve[0] = base
    rows = np.stack([hits(c) for c in curve])
    return StoredReading(
        task, function, depth, rows, draw.integers(2, size=N), np.array([f"u{i // 2}" for i in range(N)]),
        float(rows.mean(1).max()), 0.5 + 0.03 * np.abs(draw.standard_normal(999)).clip(0, 3), np.full(L + 1, 0.1),
        hits(base + signal), rows[0], hits(twin), hits(base),
        hits(base + signal), hits(base + signal - spread), np.stack([hits(base + signal - spread / 4)] * 3),
    )  # fmt: skip


def panel(peaks, **options):
    models = []
    for i, peak in enumerate(peaks):
        info = ModelInfo(f"m{i}", f"family {i // 2}", L, 16, 50, 1000, twin_of=f"m{i - 1}" if i % 2 else None)
        functions = {"pos": "syntax-like", "choice": "decision-like", "same": "stabilisation"}
        readings = {t: reading(t, f, peak, 10 * i + j, **options) for j, (t, f) in enumerate(functions.items())}
        empty = {c: np.array([], int) for c in ("run", "step", "layer")}
        runs = {"run": np.array([0]), "prompt_id": np.array(["p"]), "calibration": np.array([False])}
        runs |= {c: np.array(["x"]) for c in ("category", "arm", "finish")}
        runs |= {c: np.array([1]) for c in ("sample", "n_generated")}
        models.append(ModelData(info, runs, empty, empty, readings=readings))
    return Panel(tuple(models), n_boot=200)


def word(found, name):
    return judge(CLAIM[name], found[name], found[name].p).verdict


@pytest.fixture(scope="module")
def planted():
    return evidence(panel((0.25, 0.25, 0.75, 0.75)))


def test_a_planted_panel_supports_decodability_depth_and_is_fooled_by_nothing(planted):
    assert word(planted, "F1") == "supported"
    assert word(planted, "F2") == "supported"
    assert abs(planted["F2"].estimate) == pytest.approx(0.5, abs=0.13)


def test_more_spread_in_rotations_than_in_the_models_own_basis_is_not_less(planted):
    assert word(planted, "F3") == "supported"  # rotated features do better than the model's own: they are less spread
    flipped = panel((0.5, 0.5, 0.5, 0.5), spread=0.4)
    models = tuple(
        dataclasses.replace(
            m,
            readings={
                t: dataclasses.replace(r, features=r.rotated[0], rotated=np.stack([r.features] * 3))
                for t, r in m.readings.items()
            },
        )
        for m in flipped.models
    )
    assert word(evidence(Panel(models, n_boot=200)), "F3") == "rejected"


def test_without_a_signal_or_with_an_equal_twin_f1_is_not_supported():
    assert word(evidence(panel((0.5,) * 4, signal=0.0)), "F1") == "open"
    found = evidence(panel((0.5,) * 4, twin=0.95))
    assert word(found, "F1") == "rejected"
    assert judge(CLAIM["F1"], found["F1"], found["F1"].p).decided_by == "untrained twin"


def test_equal_peaks_do_not_support_a_difference():
    assert word(evidence(panel((0.5,) * 4)), "F2") == "open"


def test_a_study_without_probes_says_what_to_add():
    bare = panel((0.5,) * 4)
    models = tuple(dataclasses.replace(m, readings={}) for m in bare.models)
    found = PROBES.function(Panel(models, n_boot=200))
    for name in ("F1", "F2", "F3", "F4"):
        assert word(found.evidence, name) == "not applicable"
        assert "probe_tasks" in found.evidence[name].lacking
    assert found.tables["probe_capacity"].num_rows == 0


def test_tables_have_a_row_for_every_layer_and_pair(planted):
    found = PROBES.function(panel((0.25, 0.25, 0.75, 0.75)))
    assert found.tables["probe_capacity"].num_rows == 4 * 3 * (L + 1)
    assert found.tables["probe_pairs"].num_rows == 6
