"""What is on disk is checked: damage and edits are seen when read, made anew by going on, and named."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from phaselens.cli import call
from phaselens.errors import OutputError, StudyFileError
from phaselens.report import render
from phaselens.studies import analyse_study, run_study
from phaselens.studies.declaration import read_study
from phaselens.studies.store.folder import held
from phaselens.studies.store.verify import problems
from phaselens.trace.result_hashes import edited
from phaselens.trace.store import read_table
from tiny_panel import save_study

FIELDS = {"twins": False, "lenses": ["final_norm", "tuned", "nofirst"], "keep_hidden": True}


def files(folder: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {k: v for k, v in found.items() if k != "log.jsonl"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished study with every kind of file: hidden states, a tuned lens, calibrated normalisations."""
    from phaselens.observables.state_normalisation import CALIBRATED

    base = tmp_path_factory.mktemp("whole")
    save_study(base / "in", **{**FIELDS, "normalisations": [CALIBRATED[0]]})
    run_study(read_study(base / "in" / "study.toml"), base / "out")
    return base / "out"


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


def study_of(whole: Path):
    return read_study(whole.parent / "in" / "study.toml")


def flip(path: Path, at: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 4
    path.write_bytes(data)


KINDS = [
    "transcripts/*.jsonl",
    "traces/*.layers.parquet",
    "traces/*.steps.parquet",
    "traces/*.runs.parquet",
    "traces/*.hidden.safetensors",
    "calibration/*.tuned.safetensors",
    "calibration/*.controls.json",
]


@pytest.mark.parametrize("kind", KINDS)
def test_going_on_makes_a_damaged_file_again(folder, whole, kind):
    flip(sorted(folder.glob(kind))[0])
    assert files(folder) != files(whole)
    outcome = run_study(study_of(whole), folder)
    assert not outcome.failed and files(folder) == files(whole)


@pytest.mark.parametrize("kind", ["transcripts/*.jsonl", "traces/*.layers.parquet", "traces/*.runs.parquet"])
def test_analysing_again_stops_and_names_it(folder, whole, kind):
    path = sorted(folder.glob(kind))[0]
    flip(path)
    before = files(folder)
    with pytest.raises(StudyFileError, match=f"{path.name} is not what was written"):
        analyse_study(folder)
    assert files(folder) == before


def test_verify_names_every_kind_of_damage_and_nothing_else(folder, capsys):
    assert call(["verify", str(folder), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["sound"] and said["problems"] == [] and said["files"] > 20
    broken = [sorted(folder.glob(kind))[-1] for kind in [*KINDS, "results/*.parquet", "results/*.json", "claims.json"]]
    for path in [*broken, folder / "manifest.json", folder / "panel.json"]:
        flip(path, 0.7)
    gone = sorted(folder.glob("traces/*.steps.parquet"))[0]
    gone.unlink()
    assert call(["verify", str(folder), "--json"]) == 2
    named = {p["file"] for p in json.loads(capsys.readouterr().out)["problems"]}
    want = {p.relative_to(folder).as_posix() for p in broken if p.name != "sha256.json"} | {
        "manifest.json",
        "panel.json",
    }
    assert want <= named
    shutil.rmtree(folder / "results")
    assert call(["verify", str(folder)]) == 2
    assert call(["verify", str(folder / "none")]) == 2


def test_a_missing_file_of_a_unit_is_named(folder, capsys):
    gone = sorted(folder.glob("traces/*.steps.parquet"))[0]
    gone.unlink()
    assert call(["verify", str(folder)]) == 2
    assert gone.name in capsys.readouterr().out


def test_a_damaged_calibration_is_no_failure_of_its_model(folder, whole):
    for path in folder.glob("calibration/*.json"):
        path.write_text("{")
    outcome = run_study(study_of(whole), folder)
    assert len(outcome.panel) == 2 and not outcome.failed
    assert files(folder) == files(whole)


def test_results_of_more_models_are_not_written_over_unasked(folder, whole, monkeypatch):
    import torch

    from phaselens.studies.stages import traces

    def broken(model, *args, **kwargs):
        raise torch.OutOfMemoryError("out of memory")

    before = files(folder)
    broke = {u["trace"] for u in json.loads((folder / "units.json").read_text()) if u["model"] == "gpt21"}
    for trace in broke:
        (folder / f"{trace}.runs.parquet").unlink()
    monkeypatch.setattr(traces, "observe", broken)
    with pytest.raises(OutputError, match=r"leave out: gpt21 \(gpt21: out of memory\)"):
        run_study(study_of(whole), folder)
    after = files(folder)
    kept = [name for name in before if name.startswith(("results/", "claims", "panel", "units"))]
    assert kept and all(before[name] == after[name] for name in kept)
    assert len(run_study(study_of(whole), folder, fewer=True).panel) == 1


def test_a_manifest_that_cannot_be_read_says_what_works(folder, whole):
    (folder / "manifest.json").write_text("{")
    for again in (lambda: run_study(study_of(whole), folder), lambda: analyse_study(folder)):
        with pytest.raises((OutputError, StudyFileError), match="Put a copy of it back; without one, begin"):
            again()
    (folder / "manifest.json").unlink()
    with pytest.raises(OutputError, match=r"holds data and no manifest.json"):
        run_study(study_of(whole), folder)
    shutil.copy(whole / "manifest.json", folder)
    assert len(run_study(study_of(whole), folder).panel) == 2


def test_an_edited_verdict_is_said_by_the_page_and_on_the_command_line(folder, whole, capsys):
    assert edited(folder) == {}
    rows = json.loads((folder / "claims.json").read_text())
    rows[0]["verdict"] = "supported" if rows[0]["verdict"] != "supported" else "rejected"
    (folder / "claims.json").write_text(json.dumps(rows, indent=2) + "\n")
    assert call(["claims", "show", rows[0]["id"], str(folder)]) == 0
    assert "CHANGED BY HAND: claims.json was edited" in capsys.readouterr().out
    assert "claims.json was edited" in render(folder).read_text()
    assert "was edited" not in render(Path(shutil.copytree(whole, folder.parent / "fresh"))).read_text()


def test_an_edited_registration_is_said(folder, capsys):
    manifest = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(manifest.replace("models", "Models", 1))
    assert "manifest.json" in edited(folder)
    text = (folder / "study.toml").read_text()
    shutil.copy(folder / "manifest.json", folder / "x")
    (folder / "manifest.json").write_text(manifest)
    (folder / "study.toml").write_text(text.replace("seed = 0", "seed = 4"))
    assert "study.toml" in edited(folder)


def test_the_hidden_states_read_back_are_checked(folder):
    from phaselens import read_trace

    unit = sorted(folder.glob("traces/*.runs.parquet"))[0].name.removesuffix(".runs.parquet")
    assert read_trace(folder / "traces", unit, hidden=True).hidden
    flip(folder / "traces" / f"{unit}.hidden.safetensors")
    with pytest.raises(StudyFileError, match="hidden.safetensors is not what was written"):
        read_trace(folder / "traces", unit, hidden=True)


# --- the lock ---


def hold(folder: Path, until: float, found, holds) -> None:
    """Take the lock again and again; count how often another process was inside."""
    inside = folder / "inside"
    while time.monotonic() < until:
        try:
            with held(folder):
                try:
                    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    with found.get_lock():
                        found.value += 1
                else:
                    inside.unlink()
                with holds.get_lock():
                    holds.value += 1
        except OutputError:
            continue


def test_no_two_processes_hold_a_folder(tmp_path):
    context = multiprocessing.get_context("fork")
    found, holds = context.Value("i", 0), context.Value("i", 0)
    until = time.monotonic() + 2
    hands = [context.Process(target=hold, args=(tmp_path, until, found, holds)) for _ in range(4)]
    for hand in hands:
        hand.start()
    for hand in hands:
        hand.join()
    assert holds.value > 100 and found.value == 0
    assert list(tmp_path.iterdir()) == []


def test_a_sound_table_is_read(whole):
    assert problems(whole)[1] == []
    assert read_table(whole / "results" / "panel.parquet").num_rows == 2
