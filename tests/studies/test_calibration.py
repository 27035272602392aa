"""The matching temperature solves what it should, and says NaN where nothing does."""

import math

import numpy as np
import pytest
import torch

from phaselens.capture import Sampling, generate
from phaselens.errors import StudyFileError
from phaselens.measure.reducer import LensSpec
from phaselens.models import load
from phaselens.studies.declaration import Study
from phaselens.studies.stages.calibration import calibrate, entropy_at_one, grid, matching_temperature
from phaselens.studies.stages.traces import plan_of, temperatures
from tiny_panel import save_model


def two_way(gap: float) -> dict:
    """The curve of a distribution over two tokens whose logits differ by `gap`."""
    p = 1 / (1 + np.exp(gap / grid()))
    entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
    return {"temperatures": grid().tolist(), "entropy": entropy.tolist()}


def test_the_grid_has_one_in_its_middle():
    assert grid()[len(grid()) // 2] == pytest.approx(1.0, abs=1e-12)
    assert (grid()[0], grid()[-1]) == (pytest.approx(0.05), pytest.approx(20.0))


@pytest.mark.parametrize("ratio", [0.2, 0.5, 1.0, 3.0])
def test_a_model_with_logits_scaled_by_k_needs_temperature_k(ratio):
    base, scaled = two_way(2.0), two_way(2.0 * ratio)
    assert matching_temperature(scaled, entropy_at_one(base)) == pytest.approx(ratio, rel=1e-4)


def test_no_temperature_is_nan_not_an_end_of_the_grid():
    assert math.isnan(matching_temperature(two_way(2.0), 1.5))
    assert math.isnan(matching_temperature(two_way(0.001), 0.1))
    assert math.isnan(matching_temperature(two_way(2.0), math.nan))
    assert math.isnan(matching_temperature({"temperatures": [], "entropy": None}, 0.5))


def test_the_target_is_the_median_of_trained_models_only():
    from phaselens.studies.declaration import Source
    from phaselens.studies.stages.models_and_prompts import Member

    curves = {"a": two_way(1.0), "b": two_way(2.0), "c": two_way(3.0), "t": two_way(0.1)}
    members = [Member(name, Source(source=name), name == "t", "a" if name == "t" else None, {}) for name in curves]
    target, heat = temperatures(members, curves)
    assert target == entropy_at_one(curves["b"])
    assert [heat[name] for name in "abc"] == [pytest.approx(x, rel=1e-4) for x in (0.5, 1.0, 1.5)]


def test_the_curve_at_one_is_the_models_own_mean_entropy(tmp_path):
    model = load(save_model(tmp_path / "m"))
    said = generate(model, ["a b c", "d e"], max_new_tokens=5, sampling=Sampling(1.0))
    found = calibrate(model, said)
    entropies = []
    for t in said:
        logits = model.network(torch.tensor([t.fed])).logits[0, t.n_prompt - 1 :].double()
        logp = logits.log_softmax(-1)
        entropies += (-(logp.exp() * logp).sum(-1)).tolist()
    assert entropy_at_one(found) == pytest.approx(np.mean(entropies), rel=1e-5)
    assert found["n_steps"] == 10
    assert found["n_nonfinite"] == 0
    assert 0 <= found["noise_floor"] < 1e-4
    assert np.all(np.diff(found["entropy"]) >= 0)


def test_a_study_of_some_depths_records_the_layers_that_measures_there_read():
    whole = Study(name="s", models=["organism:llama-512"])
    assert plan_of(whole, (LensSpec(),), 18).layers == ()
    some = whole.changed(depths=(0.0, 0.75))
    assert plan_of(some, (LensSpec(),), 18).layers == (0, 1, 12, 13, 14, 15, 18)
    assert plan_of(whole.changed(depths=(1.0,)), (LensSpec(),), 4).layers == (2, 3, 4)
    with pytest.raises(StudyFileError, match="depths"):
        whole.changed(depths=(1.5,))
