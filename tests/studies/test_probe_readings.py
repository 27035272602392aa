"""Readings as units of a study: done once, read back whole, and a refusal is no crash."""

import dataclasses

import numpy as np
import pytest

from phaselens.errors import InputError, StudyFileError
from phaselens.studies.declaration import Study
from phaselens.studies.stages import probe_readings
from phaselens.studies.stages.models_and_prompts import Member
from phaselens.studies.stages.traces import Work
from phaselens.studies.store import reading_files

ARRAYS = {
    "depth": np.linspace(0, 1, 3),
    "hits": np.ones((3, 4)),
    "codes": np.array([0, 1, 0, 1]),
    "null": np.full(19, 0.5),
    "selectivity": np.zeros(3),
    "best_hits": np.ones(4),
    "first_hits": np.zeros(4),
}
PEAK = {
    "states": np.ones((4, 5), np.float16),
    "folds": np.array([0, 0, 1, 1]),
    "weight": np.ones((2, 1, 5)),
    "bias": np.zeros((2, 1)),
    "centre": np.zeros((2, 5)),
    "scale": np.ones(2),
}


@pytest.fixture
def study():
    return Study(name="s", models=["organism:llama-512"], probe_tasks=["pos"], probe_permutations=19)


@pytest.fixture
def member(study):
    return Member("m", study.models[0], False, None, {"fingerprint": "f"})


def test_a_reading_is_made_once_and_comes_back_equal(study, member, tmp_path, monkeypatch):
    facts = {"task": "pos", "function": "syntax-like", "best": 0.75, "units": ["a", "a", "b", "b"]}
    facts |= {"keys": ["1", "2", "3", "4"], "templates": ["is", "was"]}
    given = ARRAYS | {f"peak.{name}": value for name, value in PEAK.items()} | {"template_accuracy": np.ones((2, 2))}
    calls, ticks = [], []
    monkeypatch.setattr(probe_readings, "model_of", lambda *given: None)
    monkeypatch.setattr(probe_readings, "untrained_twin", lambda *given: None)
    monkeypatch.setattr(probe_readings, "stored_reading", lambda *a, **k: calls.append(1) or (given, facts))
    for _ in range(2):
        probe_readings.make_readings(Work(study, tmp_path, None, {}), member, lambda *given: ticks.append(given[2]))
    twin = dataclasses.replace(member, label="m:untrained", untrained=True)
    probe_readings.make_readings(Work(study, tmp_path, None, {}), twin, lambda *given: None)
    assert len(calls) == 1 and ticks == [False, True]
    found = reading_files.read_readings(tmp_path)
    assert list(found) == ["m"] and found["m"]["pos"].best == 0.75 and found["m"]["pos"].twin_hits is None
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(getattr(found["m"]["pos"], name), value)
    assert found["m"]["pos"].units.tolist() == facts["units"]
    for name, value in PEAK.items():
        np.testing.assert_array_equal(getattr(found["m"]["pos"].peak, name), value)
    assert found["m"]["pos"].keys == ("1", "2", "3", "4") and found["m"]["pos"].templates == ("is", "was")


def test_a_task_that_cannot_be_asked_is_left_out(study, member, tmp_path, monkeypatch):
    def refuse(*given, **more):
        raise InputError("one class")

    monkeypatch.setattr(probe_readings, "model_of", lambda *given: None)
    monkeypatch.setattr(probe_readings, "untrained_twin", lambda *given: None)
    monkeypatch.setattr(probe_readings, "stored_reading", refuse)
    probe_readings.make_readings(Work(study, tmp_path, None, {}), member, lambda *given: None)
    assert reading_files.read_readings(tmp_path) == {}
    next((tmp_path / "readings").iterdir()).write_bytes(b"broken")
    with pytest.raises(StudyFileError, match="Delete it"):
        reading_files.read_readings(tmp_path)


def test_an_unknown_task_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="Did you mean 'truth'"):
        Study(name="s", models=["organism:llama-512"], probe_tasks=["truht"])
