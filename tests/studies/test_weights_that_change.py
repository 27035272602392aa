"""A model that is loaded again within a study is the one that it was, or the study stops."""

import pytest
from tests.tiny_panel import save_model, save_study

from phaselens.errors import OutputError
from phaselens.studies import run_study, worker
from phaselens.studies.declaration import read_study
from phaselens.studies.stages import models_and_prompts


def test_weights_that_change_while_a_study_runs_stop_it(tmp_path, monkeypatch):
    study = read_study(save_study(tmp_path / "in", families=("llama", "llama"))).changed(twins=False)
    monkeypatch.setattr(models_and_prompts, "KEPT_BYTES", 0)  # as for models too large to stay in memory between stages
    make = worker.make_calibration

    def changed(*given):
        save_model(tmp_path / "in" / "llama0", seed=5)
        return make(*given)

    monkeypatch.setattr(worker, "make_calibration", changed)
    with pytest.raises(OutputError, match=r"llama0: its weights changed while the study ran \(fingerprint"):
        run_study(study, tmp_path / "out")
    assert not list((tmp_path / "out" / "traces").glob("*.parquet")), "nothing is measured after it"
