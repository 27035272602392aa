"""Geometry under other state normalisations, recorded beside the plain one: same rows, live and replayed alike."""

import numpy as np
import pytest
import torch

import tiny_panel
from phaselens import load
from phaselens.capture import Sampling, generate, replay
from phaselens.errors import InputError, UnknownNameError
from phaselens.measure.normalised_geometry import GEOMETRY, normalised
from phaselens.observables.state_normalisation import fit_normalisation
from phaselens.observables.trajectory import instability
from phaselens.observing.recording import live, observe


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tiny_panel.save_model(tmp_path_factory.mktemp("models") / "tiny"))


def states(model, said):
    kept = {}

    class Nothing:
        def update(self, tile):
            pass

        def rows(self):
            return {}, {}

    replay(model, said, Nothing(), keep_hidden=kept)
    return {int(k[3:]): torch.from_numpy(v).transpose(0, 1) for k, v in kept.items()}  # [layer, step, d]


def test_columns_are_the_geometry_of_normalised_states(model):
    said = generate(model, ["a b c", "d e f g"], max_new_tokens=9, sampling=Sampling(0.7))
    kept = states(model, said)
    fitted = {m: fit_normalisation(torch.cat(list(kept.values()), 1), m) for m in ("rms", "zscore", "clipped_mad")}
    trace = observe(model, said, normalisations={"raw": None, "unit": None, **fitted}, chunk=4)
    rows = trace.numpy("layers")
    for method in ("raw", *fitted):
        assert {f"{name}__{method}" for name in GEOMETRY} <= rows.keys()
    assert "instability__unit" not in rows
    from phaselens.observables import evaluate
    from phaselens.observables.state_normalisation import normalise

    for run, hidden in kept.items():
        for method, calibration in fitted.items():
            want = evaluate(
                [instability.observable], {"hidden": normalise(hidden, calibration)}, {"normalisation": "raw"}
            )
            got = rows[f"instability__{method}"][rows["run"] == run].reshape(hidden.shape[1], -1).T
            np.testing.assert_allclose(got, want["instability"].numpy(), rtol=1e-4, atol=1e-5)
    plain = observe(model, said, chunk=4).numpy("layers")
    np.testing.assert_array_equal(plain["instability"], rows["instability"])


def test_live_and_replay_agree(model):
    kept = states(model, generate(model, ["h i j k"], max_new_tokens=12))
    wanted = {"raw": None, "zscore": fit_normalisation(torch.cat(list(kept.values()), 1), "zscore")}
    said, alive = live(model, ["a b c", "d e f"], max_new_tokens=10, normalisations=wanted)
    again = observe(model, said, normalisations=wanted).numpy("layers")
    for name, values in alive.numpy("layers").items():
        np.testing.assert_allclose(values, again[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_what_is_not_there_is_said():
    with pytest.raises(UnknownNameError, match="zscore"):
        normalised({"zscores": None}, (0, 1), 1)
    with pytest.raises(InputError, match="fit_normalisation"):
        normalised({"rms": None}, (0, 1), 1)
