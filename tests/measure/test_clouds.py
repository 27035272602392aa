"""Clouds recorded window by window: the values of the whole run at once, live and replayed alike, memory constant."""

import numpy as np
import pytest
import torch

import tiny_panel
from phaselens import load
from phaselens.capture import Sampling, generate, replay
from phaselens.measure.clouds import Clouds
from phaselens.observables import CLOUD, evaluate
from phaselens.observables.cloud import windows
from phaselens.observing.recording import live, observe
from phaselens.trace.tile import Tile

NAMES = [one.name for one in CLOUD]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tiny_panel.save_model(tmp_path_factory.mktemp("models") / "tiny", context=160))


class Nothing:
    def update(self, tile):
        pass

    def rows(self):
        return {}, {}


def test_values_are_those_of_the_windows_and_of_the_whole_run(model):
    said = generate(model, ["a b c", "d e f g"], max_new_tokens=130, sampling=Sampling(1.0))
    trace = observe(model, said, observables=["instability", *NAMES], chunk=50)
    kept = {}
    replay(model, said, Nothing(), keep_hidden=kept)
    layers, steps = trace.numpy("layers"), trace.numpy("steps")
    for name, states in kept.items():
        run = int(name[3:])
        hidden = torch.from_numpy(states).transpose(0, 1)  # [layer, step, d]
        n_layers, n = hidden.shape[:2]
        mine = layers["run"] == run
        per_layer = [one for one in CLOUD if one.per == "run_layer"]
        want = evaluate(per_layer, {"hidden": windows(hidden).movedim(1, 0)})  # [window, layer]
        for one in per_layer:
            got = layers[one.name][mine].reshape(n, n_layers)
            assert np.isnan(np.delete(got, [63, 127], axis=0)).all()
            np.testing.assert_allclose(got[[63, 127]], want[one.name].numpy(), rtol=1e-3, err_msg=one.name)
        chain = [one for one in CLOUD if one.per == "run"]
        inputs = {"hidden": hidden, "layers": torch.arange(n_layers), "n_blocks": n_layers - 1}
        for one_name, value in evaluate(chain, inputs).items():
            assert steps[one_name][steps["run"] == run][-1] == pytest.approx(float(value), rel=1e-3)


def test_live_and_replay_agree(model):
    said, alive = live(model, ["a b c", "d e"], max_new_tokens=70, observables=["instability", *NAMES])
    again = observe(model, said, observables=["instability", *NAMES])
    for table in ("steps", "layers"):
        rows = again.numpy(table)
        for name, values in alive.numpy(table).items():
            if values.dtype == object:
                assert values.tolist() == rows[name].tolist()
                continue
            np.testing.assert_allclose(values, rows[name], rtol=5e-3, atol=1e-4, err_msg=name)


def test_no_more_than_a_window_is_kept_of_a_run_and_nothing_of_the_batch_before():
    clouds = Clouds(CLOUD, (0, 1, 2), 2)
    g = torch.Generator().manual_seed(0)
    for run in (0, 1):
        for start in range(0, 640, 32):
            at = torch.arange(start, start + 32)[None]
            hidden = torch.randn(1, 3, 32, 8, generator=g)
            clouds.update(
                Tile(torch.tensor([run]), at, at, at, torch.ones_like(at, dtype=torch.bool), (0, 1, 2), hidden)
            )
            clouds.drain()
            assert list(clouds._runs) == [run] and clouds._runs[run].window.shape[1] < 64
