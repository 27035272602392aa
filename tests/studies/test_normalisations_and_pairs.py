"""A study with calibrated normalisations and minimal pairs: columns, apartness, resuming, and every new experiment."""

import json

import numpy as np
import pytest
import torch

import tiny_panel
from phaselens import read_study, run_study
from phaselens.batteries import MinimalPair
from phaselens.errors import StudyFileError
from phaselens.observables.state_normalisation import fit_normalisation
from phaselens.studies import analyse_study
from phaselens.studies.stages import models_and_prompts
from phaselens.studies.stages.fitted_normalisations import largest_share_dropped, packed, unpacked
from phaselens.trace.store import read_table

NEW = ["fingerprints", "topology", "normalisation", "ambiguity", "subpanels"]
W = tiny_panel.WORDS
PAIRS = [MinimalPair(f"n{i}", f"a {W[i]} b", f"a {W[i]} c", f"a {W[i]} d e f", ("g", "h")) for i in range(4)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("study")
    study = tiny_panel.save_study(
        place / "given",
        experiments=["regimes", *NEW],
        normalisations=["raw", "zscore", "clipped_mad"],
        lenses=["final_norm"],
        subpanels=2,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models_and_prompts, "_pairs_of", lambda study: tuple(p for pair in PAIRS for p in pair.prompts()))
        run_study(read_study(study), place / "out")
    return place / "out"


def test_every_claim_is_judged_and_says_what_is_missing(folder):
    claims = {c["id"]: c for c in json.loads((folder / "claims.json").read_text())}
    assert {"F0", "T1", "T2", "N1", "A1", "A2", "A3"} <= claims.keys()
    assert "66 tokens" in claims["N1"]["needed"] and "add 6" in claims["T2"]["needed"]
    assert all(
        claims[c]["verdict"] == "open" and "comparable pairs of 60 units" in claims[c]["needed"] for c in ("A1", "A2")
    )
    for claim in claims.values():
        assert claim["verdict"] in ("open", "rejected", "not applicable") and claim["why"]


def test_pairs_stand_apart_and_those_of_other_length_are_counted(folder):
    rows = read_table(folder / "results" / "ambiguity.parquet").to_pylist()
    assert {r["n_excluded"] for r in rows} == {4}  # `a X d e f` has six tokens more
    assert "twin_cosine" in {r["outcome"] for r in rows}
    runs = read_table(folder / "results" / "regimes_runs.parquet").to_pylist()
    assert {r["prompt_id"] for r in runs} == {f"p{i}" for i in range(4)}
    units = json.loads((folder / "units.json").read_text())
    assert sum(u["paired"] for u in units) == 4 and not any(u["paired"] and u["calibration"] for u in units)


def test_the_grid_has_a_row_for_every_normalisation(folder):
    rows = read_table(folder / "results" / "normalisation.parquet").to_pylist()
    assert {r["method"] for r in rows} == {"unit", "raw", "rms", "zscore", "clipped_mad"}
    known = {r["method"] for r in rows if r["value"] == "ICC" and r["figure"] == "ln mean ct" and not r["reason"]}
    assert known == {"unit", "raw", "zscore", "clipped_mad"}
    assert all("not recorded" in r["reason"] for r in rows if r["method"] == "rms")
    panel = json.loads((folder / "panel.json").read_text())
    assert all(0 <= m["dropped"] <= 1 for m in panel["models"])


def test_analysing_again_gives_the_same_numbers(folder, tmp_path):
    analyse_study(folder, out=tmp_path / "again")
    for name in ("ambiguity", "normalisation", "identification"):
        first, again = (read_table(f / "results" / f"{name}.parquet") for f in (folder, tmp_path / "again"))
        assert repr(first.to_pylist()) == repr(again.to_pylist())


def test_calibrations_come_back_as_they_were(tmp_path):
    states = torch.randn(3, 40, 8, generator=torch.Generator().manual_seed(0))
    states[1, :, 2] = 1.0
    fitted = {m: fit_normalisation(states, m) for m in ("zscore", "clipped_mad")}
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(fitted))
    assert packed(fitted) == packed(dict(reversed(fitted.items())))
    back = unpacked(path, ("raw", "zscore", "clipped_mad"))
    assert back["raw"] is None and largest_share_dropped(back) == 1 / 8
    for method, one in fitted.items():
        np.testing.assert_array_equal(one.scale.numpy(), back[method].scale.numpy())
        assert back[method].method == method
    with pytest.raises(StudyFileError, match="Delete it"):
        unpacked(path, ("rms",))
