"""Analyses made again from a folder alone: the bytes of the run, no model library, nothing new called registered."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phaselens import claims
from phaselens.errors import InputError, OutputError, StudyFileError, UnknownNameError
from phaselens.experiments import DEFAULT
from phaselens.report import render
from phaselens.studies import analyse_study, conclude, reanalyse, run_study
from phaselens.studies.declaration import read_study
from phaselens.studies.panel_columns import Columns
from phaselens.studies.store.panel_record import UnitRecord, read_record, write_record
from phaselens.studies.store.registration import judged, post_hoc, registration
from phaselens.trace.schema import SCHEMA_VERSION
from phaselens.trace.store import read_facts, read_table, table_bytes
from tiny_panel import save_study


def files(folder: Path, only: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Everything in a folder but its diary, or only what begins with one of `only`."""
    found = {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    return {k: v for k, v in found.items() if k != "log.jsonl" and (not only or k.startswith(only))}


def document(folder: Path, name: str):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished study of two tiny models with their twins, and its report."""
    base = tmp_path_factory.mktemp("whole")
    run_study(read_study(save_study(base / "in")), base / "out")
    render(base / "out")
    return base / "out"


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# --- the same bytes ---


def test_an_untouched_study_gives_the_bytes_of_its_run(folder, whole):
    before = files(folder)
    outcome = analyse_study(folder)
    assert files(folder) == before
    assert [row["model"] for row in outcome.panel] == ["llama0", "llama0:untrained", "gpt21", "gpt21:untrained"]
    render(folder)
    assert files(folder) == files(whole)


def test_results_that_were_lost_come_back(folder, whole):
    shutil.rmtree(folder / "results")
    (folder / "claims.json").write_text("spoilt")
    analyse_study(folder)
    assert files(folder) == files(whole)


def test_another_folder_gets_the_same_results_and_the_source_stays(folder, whole, tmp_path):
    outcome = analyse_study(folder, out=tmp_path / "b")
    render(tmp_path / "b")
    assert files(folder) == files(whole)
    assert outcome.folder == tmp_path / "b"
    kept = ("results/", "claims.json")
    assert files(tmp_path / "b", kept) == files(whole, kept)
    assert not {"traces", "transcripts", "calibration"} & {p.name for p in (tmp_path / "b").iterdir()}
    manifest = document(tmp_path / "b", "manifest.json")
    assert manifest["analysis"]["of"] == document(whole, "manifest.json")["study"]["hash"]
    assert not [name for name, data in files(tmp_path / "b").items() if str(tmp_path).encode() in data]
    assert not [name for name, data in files(tmp_path / "b").items() if str(whole.parent).encode() in data]


def test_a_folder_of_earlier_analyses_is_written_again_and_leaves_nothing_old(folder, tmp_path):
    analyse_study(folder, out=tmp_path / "b")
    first = files(tmp_path / "b")
    analyse_study(folder, out=tmp_path / "b", experiments=("gd",))
    assert "results/regimes_models.parquet" not in files(tmp_path / "b")
    rows = {c["id"]: c for c in document(tmp_path / "b", "claims.json")}
    assert rows["R1"]["decided_by"] == "not judged" and rows["R1"]["verdict"] == "open"  # none can be deleted
    analyse_study(folder, out=tmp_path / "b")
    assert files(tmp_path / "b") == first


def test_no_model_library_is_imported(folder):
    code = (
        "import sys; from phaselens.cli import call; code = call(['run', '--from', sys.argv[1], '--json']); "
        "bad = {'torch', 'transformers', 'tokenizers', 'phaselens.models', 'phaselens.capture'} & set(sys.modules); "
        "print(bad, file=sys.stderr); sys.exit(code or bool(bad))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["claims"] == document(folder, "claims.json")


def test_models_may_be_gone(folder, whole):
    moved = whole.parent / "in"
    moved.rename(whole.parent / "gone")
    try:
        analyse_study(folder)
    finally:
        (whole.parent / "gone").rename(moved)
    assert files(folder) == files(whole)


def test_the_record_of_a_folder_reads_back_equal(folder):
    record, before = read_record(folder), files(folder)
    write_record(folder, record)
    assert files(folder) == before
    assert all(isinstance(unit, UnitRecord) for unit in record.units)
    assert record.models[0].digit_tokens
    assert record.models[0].lenses == ("final_norm", "raw", "tmatch", "shared")


def test_a_model_that_failed_is_still_said(tmp_path, monkeypatch):
    import torch

    from phaselens.studies.stages import traces

    real = traces.observe

    def broken(model, *args, **kwargs):
        if model.family == "gpt2":
            raise torch.OutOfMemoryError("out of memory")
        return real(model, *args, **kwargs)

    monkeypatch.setattr(traces, "observe", broken)
    run_study(read_study(save_study(tmp_path / "in", twins=False)), tmp_path / "out")
    before = files(tmp_path / "out")
    outcome = analyse_study(tmp_path / "out")
    assert files(tmp_path / "out") == before
    assert outcome.failed == ({"model": "gpt21", "reason": "out of memory"},)
    assert "gpt21: out of memory" in document(tmp_path / "out", "results/notes.json")


def test_columns_are_read_when_asked_for_and_equal_the_files(folder):
    units = read_record(folder).units_of("llama0")
    files = [folder / f"{unit.trace}.layers.parquet" for unit in units]
    columns = Columns(files, (0, 100, 200, 300)[: len(files)])
    parts = [read_table(file).column("entropy__raw").to_numpy() for file in files]
    np.testing.assert_array_equal(columns["entropy__raw"], np.concatenate(parts))
    assert columns["entropy__raw"] is columns["entropy__raw"]
    assert columns["entropy__raw"].dtype == np.float32
    assert set(np.unique(columns["run"]) // 100) == set(range(len(files)))
    assert list(columns) == read_table(files[0]).column_names
    assert "entropy__rau" not in columns
    with pytest.raises(UnknownNameError, match="entropy__raw"):
        columns["entropy__rau"]
    with pytest.raises(StudyFileError, match="differ in columns"):
        Columns([*files, folder / f"{units[0].trace}.steps.parquet"], (0, 1, 2, 3))


def test_the_benchmark_simulates_the_columns_of_a_real_trace(whole, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import analysis

    unit, made = read_record(whole).units[0], analysis.measured_columns(4)
    for table in ("steps", "layers"):
        names = [f.name for f in read_table(whole / f"{unit.trace}.{table}.parquet").schema]
        assert names[-len(made[table]) :] == [c.name for c in made[table]]


# --- traced, not analysed ---


@pytest.mark.slow
def test_memory_of_analyses_does_not_grow_with_the_runs(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    import analysis
    import scale

    monkeypatch.setattr(scale, "MODELS", 2)
    for name in ("PROMPTS", "CALIBRATION", "ARMS"):
        monkeypatch.setattr(analysis, name, getattr(analysis, name))  # put back afterwards
    arms = analysis.ARMS
    peak = {}
    for times in (1, 4):
        analysis.ARMS = arms
        peak[times] = scale.analysis(times, tmp_path / str(times))["peak_mb"]
    assert peak[4] <= 1.2 * peak[1], peak


def test_a_study_killed_before_its_analysis_can_be_analysed(whole, tmp_path):
    def stop(event):
        if event.kind == "stage" and event.stage == "analyse":
            raise KeyboardInterrupt

    study = read_study(whole.parent / "in" / "study.toml")
    with pytest.raises(KeyboardInterrupt):
        run_study(study, tmp_path / "out", listener=stop)
    assert not (tmp_path / "out" / "claims.json").exists()
    analyse_study(tmp_path / "out")
    render(tmp_path / "out")
    assert files(tmp_path / "out") == files(whole)


def test_missing_units_are_named_with_the_command_that_completes_them(folder):
    units = read_record(folder).units
    (folder / f"{units[1].trace}.steps.parquet").unlink()
    (folder / units[3].transcripts).unlink()
    with pytest.raises(StudyFileError) as error:
        analyse_study(folder)
    said = str(error.value)
    assert f"2 of {len(units)} units are missing: {units[1].name} ({units[1].model}, {units[1].arm})" in said
    assert f"{units[3].name} ({units[3].model}" in said
    assert f"`phaselens run {folder / 'study.toml'} --out {folder}` completes them" in said


def test_a_folder_without_its_record_says_what_completes_it(folder):
    (folder / "panel.json").unlink()
    with pytest.raises(StudyFileError, match=r"no panel.json.*phaselens run .*study.toml --out .*completes it"):
        analyse_study(folder)


def test_a_trace_of_an_earlier_schema_version_is_analysed(folder):
    for unit in read_record(folder).units:
        for path in folder.glob(f"traces/{unit.name}.*.parquet"):
            table = read_table(path)
            table = table.drop_columns([name for name in ("aliases", "tag") if name in table.column_names])
            path.write_bytes(table_bytes(table, {**read_facts(path), "schema_version": 1}))
    assert len(analyse_study(folder).panel) == 4


def test_a_trace_of_another_schema_version_is_refused(folder):
    unit = read_record(folder).units[0]
    path = folder / f"{unit.trace}.layers.parquet"
    path.write_bytes(table_bytes(read_table(path), {**read_facts(path), "schema_version": 0}))
    with pytest.raises(StudyFileError, match=rf"schema version 0, this phaselens analyses 1 to {SCHEMA_VERSION}"):
        analyse_study(folder)


def test_what_is_no_study_is_refused(folder, tmp_path):
    with pytest.raises(StudyFileError, match="is not a folder"):
        analyse_study(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(StudyFileError, match=r"has no manifest.json"):
        analyse_study(tmp_path / "empty")
    analyse_study(folder, out=tmp_path / "b")
    with pytest.raises(StudyFileError, match="holds analyses of the study .* and no traces"):
        analyse_study(tmp_path / "b")
    (folder / "study.toml").write_text((folder / "study.toml").read_text().replace("seed = 0", "seed = 1"))
    with pytest.raises(StudyFileError, match="was changed after the study was begun"):
        analyse_study(folder)


def test_a_folder_with_other_things_is_not_written(folder, whole, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match=r"holds no analyses of this study \(it has thesis.tex\)"):
        analyse_study(folder, out=tmp_path / "b")
    with pytest.raises(OutputError, match="holds no analyses of this study"):
        analyse_study(folder, out=whole)
    assert files(tmp_path / "b") == {"thesis.tex": b"x"}


def test_other_choices_than_declared_need_another_folder(folder):
    before = files(folder)
    with pytest.raises(InputError, match="need another folder, --out DIR"):
        analyse_study(folder, seed=1)
    with pytest.raises(InputError, match="need another folder, --out DIR"):
        analyse_study(folder, experiments=("gd",))
    with pytest.raises(UnknownNameError, match="unknown experiment 'dg'"):
        analyse_study(folder, experiments=("dg",))
    analyse_study(folder, seed=0, experiments=DEFAULT)
    assert files(folder) == before


# --- post hoc ---


def test_nothing_is_post_hoc_in_a_study_as_it_was_registered(whole):
    assert {c["post_hoc"] for c in document(whole, "claims.json")} == {False}
    chosen = claims.claims_by_id(["G1", "G2", "R1"])
    assert post_hoc(chosen, {"registered": registration(chosen)}) == {}


def test_what_came_or_changed_after_the_data_is_post_hoc_with_its_reason():
    r1, g1, g2 = (claims.claims_by_id([i])[0] for i in ("R1", "G1", "G2"))
    manifest = {"registered": registration([r1, g1, g2])}
    reworded = g1.model_copy(update={"supported": "p <= .10"})
    assert post_hoc([r1, reworded, g2], manifest) == {"G1": "changed since it was registered"}
    assert post_hoc([r1, g1, g2, claims.claims_by_id(["G3"])[0]], manifest) == {"G3": "not registered before the data"}
    assert post_hoc([r1, g1], manifest) == {"G1": "judged without G2, registered as one family with it"}
    assert set(post_hoc([r1, g1, g2], manifest, other_draws=True)) == {"R1", "G1", "G2"}
    assert set(post_hoc([r1, g1, g2], {})) == {"R1", "G1", "G2"}


def test_a_changed_claim_is_marked_in_the_ledger_and_on_the_page(folder, whole, monkeypatch):
    real = claims.claims_by_id

    def changed(ids):
        return tuple(c.model_copy(update={"rejected": "never"}) if c.id == "G2" else c for c in real(ids))

    monkeypatch.setattr(conclude, "claims_by_id", changed)
    monkeypatch.setattr(reanalyse, "claims_by_id", changed)
    analyse_study(folder)
    rows = {c["id"]: c for c in document(folder, "claims.json")}
    assert [i for i, row in rows.items() if row["post_hoc"]] == ["G2"]
    assert rows["G2"]["reasons"]["post_hoc"] == "changed since it was registered"
    before = {c["id"]: c for c in document(whole, "claims.json")}
    assert all(rows[i] == before[i] for i in rows if i != "G2")
    page = render(folder).read_text()
    assert "post hoc: changed since it was registered" in page
    assert "post hoc" not in (whole / "report.html").read_text()


def test_another_seed_makes_every_claim_post_hoc(folder, tmp_path):
    analyse_study(folder, out=tmp_path / "b", seed=1)
    rows = document(tmp_path / "b", "claims.json")
    assert {row["reasons"]["post_hoc"] for row in rows} == {"judged with another seed than the study declares"}
    assert document(tmp_path / "b", "manifest.json")["analysis"]["seed"] == 1


def test_a_later_claim_leaves_the_correction_of_the_registered_ones(whole):
    """Two registered claims of one document and a third that came later: Holm over two, over three for the third."""
    from types import SimpleNamespace

    family = [c.model_copy(update={"after": ""}) for c in claims.claims_by_id(["G1", "G2", "G3"])]
    p = {"G1": 0.02, "G2": 0.03, "G3": 0.04}

    def evidence(value):
        numbers = claims.Numbers(np.nan, claims_interval(), np.nan, value, np.nan, 0, {"estimate": "not here"})
        return SimpleNamespace(
            p=value, outcomes=(), counts={}, numbers=lambda: numbers, decide=lambda q: claims.Decision("open", "", "")
        )

    found = {name: evidence(value) for name, value in p.items()}
    rows = {r["id"]: r for r in judged(family, found, {"G3": "late"}, ["G1", "G2"])}
    assert rows["G1"]["p_holm"] == pytest.approx(0.04)
    assert rows["G2"]["p_holm"] == pytest.approx(0.04)
    assert rows["G3"]["p_holm"] == pytest.approx(0.06)
    assert [rows[i]["post_hoc"] for i in p] == [False, False, True]


def claims_interval():
    from phaselens.statistics.intervals import undefined_interval

    return undefined_interval("not computed")
