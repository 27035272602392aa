"""Interventions as units of a study: done once, read back whole, refusals are kept, and identity comes first."""

import dataclasses
import types

import numpy as np
import pytest

from phaselens.errors import InputError, ModelRefused, StudyFileError
from phaselens.interventions.outcome_records import Causal, Control, Counts, Growth, Signature
from phaselens.interventions.record_files import FOLDER, kept, read_acted
from phaselens.studies.declaration import Study
from phaselens.studies.stages import interventions
from phaselens.studies.stages.models_and_prompts import Member

SIGNATURE = Signature(
    "m",
    "f",
    2,
    "mlp_out",
    ("a", "b"),
    (1, 2),
    np.array([0.5, 1.0]),
    (0.1,),
    0.1,
    np.ones((2, 2, 1, 2)),
    np.full((2, 2, 1, 2), np.nan),
    np.zeros((2, 2, 3)),
    np.ones(3),
    np.ones(3),
    np.ones(3),
    np.zeros(3, int),
    0.0,
    {"no massive": np.ones((2, 2, 2, 2))},
    np.ones((2, 2, 2)),
    Counts(3.0, 6.0, 1),
    ("none",),
)
GROWTH = Growth(
    "m",
    "f",
    2,
    ("a", "b"),
    np.ones((2, 3, 2, 4)),
    np.ones((2, 3, 2)),
    np.ones((2, 3, 4)),
    np.full((2, 5), np.nan),
    np.ones(2),
    np.zeros(2),
)
CONTROL = Control(
    "m",
    "f",
    ("q",),
    np.array(["u"]),
    0.0,
    4,
    1.5,
    1.0,
    "steer",
    {"none": np.array([True])},
    {"none": np.ones(1)},
    {"none": np.array([16])},
    {"none": np.array([False])},
    np.ones(1),
    np.ones((2, 1)),
    np.zeros(1),
)
CAUSAL = Causal(
    "m",
    "f",
    (0, 1),
    1,
    np.ones(2),
    np.ones(2),
    {"probe subspace": np.ones((2, 2))},
    {"equal rank": np.full((3, 2, 2), np.nan)},
    np.array(["a", "b"]),
    0.0,
    2,
    np.ones(1),
    {"LEACE": np.ones((2, 1))},
)
MADE = {"perturbation": SIGNATURE, "growth": GROWTH, "causal": CAUSAL, "control": CONTROL}


def same(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, np.ndarray):
        return one.dtype.kind == other.dtype.kind and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    return one == other if not isinstance(one, Counts) else dataclasses.asdict(one) == dataclasses.asdict(other)


def test_every_field_of_every_record_comes_back(tmp_path):
    paths = [tmp_path / f"{kind}.safetensors" for kind in MADE]
    for (kind, record), path in zip(MADE.items(), paths, strict=True):
        assert not kept(path, kind, "m", lambda record=record: record) and kept(path, kind, "m", lambda: 1 / 0)
    (found,) = read_acted(paths).values()
    for kind, record in MADE.items():
        back = getattr(found, kind)
        for field in dataclasses.fields(record):
            assert same(getattr(record, field.name), getattr(back, field.name)), field.name


def test_a_refusal_is_kept_with_its_reason_and_another_file_is_named(tmp_path, monkeypatch):
    def refuse():
        raise InputError("no such site")

    path = tmp_path / "a.safetensors"
    kept(path, "causal", "m", refuse)
    assert read_acted([path])["m"].refused == {"causal": "no such site"}
    monkeypatch.setattr("phaselens.interventions.record_files.FORM", 3)
    with pytest.raises(StudyFileError, match="form 2 of the records, and this version reads form 3"):
        read_acted([path])
    assert not kept(path, "causal", "m", refuse) and kept(path, "causal", "m", refuse)
    path.write_bytes(b"broken")
    with pytest.raises(StudyFileError, match="Delete it"):
        read_acted([path])


@pytest.fixture
def work(tmp_path):
    study = Study(name="s", models=["organism:llama-512"], experiments=["perturbation", "control"])
    battery = types.SimpleNamespace(prompts=(), calibration=())
    return types.SimpleNamespace(
        study=study, folder=tmp_path, battery=battery, shelf={}, units=lambda member: (), mine=lambda items: items
    )


def member(work, **change):
    return Member("m", work.study.models[0], False, None, {"fingerprint": "f", **change})


def test_units_are_made_once_and_those_of_other_settings_go(work, monkeypatch):
    calls, ticks = [], []
    monkeypatch.setattr(interventions, "_record", lambda work, m, kind: calls.append(kind) or MADE[kind])
    for _ in range(2):
        interventions.make_acted(work, member(work), lambda *given: ticks.append(given[2]))
    assert calls == ["perturbation", "control"] and ticks == [False, False, True, True]
    interventions.make_acted(work, member(work, fingerprint="g"), lambda *given: None)
    assert len(calls) == 4 and len(list((work.folder / FOLDER).iterdir())) == 2
    twin = dataclasses.replace(member(work), label="m:untrained", untrained=True)
    interventions.make_acted(work, twin, lambda *given: None)
    assert len(calls) == 4


def test_a_model_whose_nothing_is_something_stops_the_study_before_anything(work, monkeypatch):
    def moves(model, site):
        raise ModelRefused("strength 0 moves its logits")

    monkeypatch.setattr(interventions, "model_of", lambda *given: None)
    monkeypatch.setattr(interventions, "require_neutral", moves)
    with pytest.raises(ModelRefused, match="strength 0"):
        interventions.check_neutral(work, member(work))
    plain = types.SimpleNamespace(**{**vars(work), "study": work.study.changed(experiments=["gd"])})
    interventions.check_neutral(plain, member(work))
