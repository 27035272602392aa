"""F1 to F4 on readings with a planted truth: supported where it is planted, not where it is not."""

import dataclasses

import numpy as np
import pytest

from phaselens.claims import judge
from phaselens.claims.declared import declared
from phaselens.experiments import ModelData, ModelInfo, Panel
from phaselens.experiments.base import StoredReading
from phaselens.experiments.probe_transfer import between_models
from phaselens.experiments.probes import PROBES, evidence
from phaselens.probes.alignment import PeakProbes

CLAIM = {claim.id: claim for claim in declared("probes")}
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
        task,
        function,
        depth,
        rows,
        draw.integers(2, size=N),
        np.array([f"u{i // 2}" for i in range(N)]),
        float(rows.mean(1).max()),
        0.5 + 0.03 * np.abs(draw.standard_normal(999)).clip(0, 3),
        np.full(L + 1, 0.1),
        hits(base + signal),
        rows[0],
        hits(twin),
        hits(base),
        hits(base + signal),
        hits(base + signal - spread),
        np.stack([hits(base + signal - spread / 4)] * 3),
    )


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


# --- frozen probes elsewhere ---


def with_peaks(models, turned=True, n=120, d=6, keys=None):
    """Every model holds the same two classes in a basis of its own; `turned` False: states without the label."""
    draw = np.random.default_rng(3)
    y = np.arange(n) % 2
    shared = draw.standard_normal((n, d)) + 3.0 * (y[:, None] - 0.5) * (np.arange(d) == 0)
    out = []
    for i, m in enumerate(models):
        turn = np.linalg.qr(draw.standard_normal((d, d)))[0]
        states = (shared if turned or i == 0 else draw.standard_normal((n, d))) @ turn + 5 * i
        folds = np.arange(n) // 2 % 4
        peak = PeakProbes(
            states, folds, np.tile(turn[0] * 2, (4, 1, 1)), np.zeros((4, 1)), np.full((4, d), 5.0 * i), np.ones(4)
        )
        r = dataclasses.replace(
            m.readings["pos"],
            codes=y,
            peak=peak,
            keys=tuple(keys[i] if keys else map(str, range(n))),
            templates=("is", "was"),
            template_accuracy=np.array([[0.9, 0.6], [0.7, 0.8]]),
            template_majority=np.array([0.5, 0.6]),
        )
        out.append(dataclasses.replace(m, readings={"pos": r}))
    return out


def test_frozen_probes_move_to_a_model_that_holds_the_same_in_another_basis_and_to_no_other():
    models = with_peaks(panel((0.5, 0.5, 0.5)).models)
    rows = between_models(models, np.random.default_rng(0))
    assert len(rows) == 6 and all(r["n"] == 120 for r in rows)
    for r in rows:
        assert r["accuracy"] == pytest.approx(r["own"], abs=0.03) and r["own"] > 0.85
        assert r["shuffled"] < 0.75
    other = between_models(with_peaks(panel((0.5, 0.5)).models, turned=False), np.random.default_rng(0))
    assert all(r["accuracy"] < 0.7 for r in other)


def test_pairs_are_the_examples_that_both_models_were_asked():
    mixed = np.random.default_rng(5).permutation(120)
    keys = [[str(i) for i in range(120)], [str(i) for i in mixed], [f"x{i}" for i in range(120)]]
    models = with_peaks(panel((0.5, 0.5, 0.5)).models, keys=keys)
    rows = {(r["source"], r["target"]): r for r in between_models(models, np.random.default_rng(0))}
    assert rows["m0", "m1"]["n"] == 120 and rows["m0", "m1"]["accuracy"] < 0.75  # other examples under the same names
    assert rows["m0", "m2"]["n"] == 0 and "share no examples" in rows["m0", "m2"]["reason"]
    assert np.isnan(rows["m0", "m2"]["accuracy"])
    few = with_peaks(panel((0.5, 0.5)).models, n=8, d=7)
    assert all("cannot align" in r["reason"] for r in between_models(few, np.random.default_rng(0)))


def test_transfer_and_groupings_have_their_tables():
    found = PROBES.function(Panel(tuple(with_peaks(panel((0.25, 0.75)).models, n=N)), n_boot=200))
    assert found.tables["probe_transfer"].num_rows == 2
    rows = found.tables["probe_templates"].to_pylist()
    assert len(rows) == 2 * 4
    assert [r["accuracy"] for r in rows if r["trained_on"] == "is" and r["read_on"] == "was"] == [0.6, 0.6]
    assert [r["majority"] for r in rows if r["read_on"] == "was"] == [0.6] * 4
    assert found.tables["probe_groups"].num_rows == 0  # two models are too few for groups
