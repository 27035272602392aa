"""N1 and the grid: normalisations that tell models apart better, the same, and columns that are not there."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.claims import claims_by_id, judge_all
from phaselens.experiments.normalisation import analyse_normalisation
from phaselens.validity import simulated_normalisation as simulated


def judged(panel):
    result = analyse_normalisation(panel)
    return judge_all(claims_by_id(["N1"]), result.evidence)[0], result


def test_a_better_normalisation_is_supported_and_an_equal_one_rejected():
    found, result = judged(simulated.study_of_methods(np.random.default_rng(0), m=8, spreads=(1.0, 0.3), shared=0.9))
    assert found.verdict == "supported" and found.estimate > 0.2, found.why
    rows = {(r["method"], r["figure"]): r for r in result.tables["normalisation"].to_pylist()}
    good, bad = (rows[m, "ln ratio_norm"] for m in ("clipped_mad", "raw"))
    assert (
        good["estimate"] - bad["estimate"] == pytest.approx(found.estimate)
        and good["lo"] < good["estimate"] < good["hi"]
    )
    assert "not recorded" in rows["rms", "ln ratio_norm"]["reason"] and rows["rms", "ln ratio_norm"]["n_prompts"] == 0
    found, _ = judged(simulated.study_of_methods(np.random.default_rng(0), m=8, spreads=(3.0, 3.0), shared=0.99))
    assert found.verdict == "rejected", found.why


def test_dropped_dimensions_leave_the_claim_open():
    panel = simulated.study_of_methods(np.random.default_rng(0), m=8, spreads=(1.0, 0.3), shared=0.9)
    for dropped, outcome in ((0.2, "undecided"), (float("nan"), "missing")):
        other = tuple(replace(m, info=replace(m.info, dropped=dropped)) for m in panel.models)
        found, _ = judged(replace(panel, models=other))
        assert found.verdict == "open" and found.decided_by == "number of dimensions kept"
        assert found.controls[0]["outcome"] == outcome


def test_what_was_not_recorded_is_named():
    panel = simulated.study_of_methods(np.random.default_rng(0), m=3, spreads=(1.0, 0.3), shared=0.9)
    bare = tuple(replace(m, layers={k: v for k, v in m.layers.items() if "__raw" not in k}) for m in panel.models)
    found, _ = judged(replace(panel, models=bare))
    assert found.verdict == "not applicable" and "normalisations" in found.needed
