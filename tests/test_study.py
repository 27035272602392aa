"""A study: what its declaration refuses, what its folder holds, and that going on equals never having stopped."""

import json
import os
import re
from pathlib import Path

import pytest
import torch

from phaselens.errors import InputError, ModelRefused, OutputError, StudyFileError, UnknownNameError
from phaselens.experiments import EXPERIMENTS
from phaselens.observables.state_normalisation import METHODS
from phaselens.studies import run_study
from phaselens.studies.declaration import Arm, Source, Study, presets, read_study
from phaselens.studies.stages.models_and_prompts import battery_of
from phaselens.trace.seal import json_bytes, read_json
from phaselens.trace.store import read_table
from tiny_panel import save_battery, save_model, save_study


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a study folder but the diary."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "log.jsonl"
    }


def document(folder: Path, name: str):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """The declaration of a study of two tiny models."""
    return save_study(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def done(tiny, tmp_path_factory):
    """That study, carried out; its outcome."""
    return run_study(read_study(tiny), tmp_path_factory.mktemp("done") / "out")


# --- the declaration ---


def test_every_preset_reads_and_its_quick_form_is_smaller():
    assert "organisms" in presets()
    for name in presets():
        study = read_study(name)
        assert study.quickened().hash != study.hash
        assert study.quickened().bootstraps < study.bootstraps


def test_the_full_preset_holds_every_experiment_lens_and_normalisation_and_what_r3_needs():
    study = read_study("organisms-full")
    absent = {e.name for e in EXPERIMENTS} - {"panel", *study.experiments}
    assert not absent, f"add {sorted(absent)} to experiments in presets/organisms-full.toml"
    assert study.distribution_controls and set(study.normalisations) == set(METHODS) - {"unit"}
    three = {arm.temperature for arm in study.arms if arm.samples == 3}
    assert three == {0.1, 0.4, 0.7, 1.0} and study.max_new_tokens >= 194 and study.minimal_pairs >= 60
    assert study.probe_tasks and "organisms-full" in (Path(__file__).parents[1] / "docs" / "study.md").read_text()


@pytest.mark.slow
def test_the_full_preset_runs_in_its_quick_form(tmp_path):
    study = read_study("organisms-full").quickened().changed(arms=[{"temperature": 0.7}], prompts_per_category=1)
    outcome = run_study(study, tmp_path / "out")
    asked = {claim for e in EXPERIMENTS for claim in e.claims}
    assert {row["id"] for row in outcome.claims} == asked and not outcome.failed and not outcome.refused
    made = {p.stem for p in (tmp_path / "out" / "results").glob("*.parquet")}
    assert {t.name for e in EXPERIMENTS for t in e.tables} <= made


def test_the_documented_fields_are_the_fields():
    page = (Path(__file__).parents[1] / "docs" / "study.md").read_text()
    for heading, model in (("Fields", Study), ("Fields of a model", Source), ("Fields of an arm", Arm)):
        section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(model.model_fields)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('batery = "x"', "line 1, unknown field 'batery'. Did you mean 'battery'?"),
        ("seed = -1", "line 1, field 'seed'"),
        ("max_new_tokens = 0", "line 1, field 'max_new_tokens'"),
        ('lenses = ["final_norm", "rau"]', "line 1, field 'lenses': unknown lens 'rau'. Did you mean 'raw'?"),
        ('lenses = ["raw"]', "the first lens must be final_norm"),
        ('observables = ["entropi"]', "unknown observable 'entropi'. Did you mean 'entropy'?"),
        ('experiments = ["gdd"]', "unknown experiment 'gdd'. Did you mean 'gd'?"),
        ('dtype = "float31"', "unknown dtype 'float31'. Did you mean 'float32'?"),
        ("arms = [{temperature = 0.0, samples = 3}]", "samples must be 1"),
        ("arms = [{temprature = 0.5}]", "unknown field 'temprature'. Did you mean 'temperature'?"),
        ("arms = []", "line 1, field 'arms'"),
        ('seed = "x"', "line 1, field 'seed': input should be a valid integer"),
    ],
)
def test_a_wrong_field_is_named_with_line_and_nearest_name(tmp_path, line, says):
    path = tmp_path / "s.toml"
    path.write_text(f'{line}\nname = "s"\nmodels = ["m"]\n')
    with pytest.raises(StudyFileError) as error:
        read_study(path)
    assert says in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "s"\nmodels = [', "is not TOML"),
        ('name = "s"', "field 'models' is missing"),
        ('models = ["m"]', "field 'name' is missing"),
        ('name = "s"\nmodels = ["a", "a"]', "two models are called 'a'"),
        ('name = "s"\n[[models]]\nsource = "a"\ntwin_of = "b"', "unknown model (twin_of of 'a') 'b'"),
    ],
)
def test_an_unreadable_or_incomplete_study_is_said(tmp_path, text, says):
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(StudyFileError) as error:
        read_study(path)
    assert says in str(error.value)


def test_no_such_study(tmp_path):
    with pytest.raises(UnknownNameError, match="unknown preset 'organism'. Did you mean 'organisms'"):
        read_study("organism")
    with pytest.raises(StudyFileError, match="cannot read the study"):
        read_study(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"\xff")
    with pytest.raises(StudyFileError, match="not UTF-8"):
        read_study(tmp_path / "latin.toml")


def test_the_resolved_study_reads_back_to_the_same_hash(tiny, tmp_path):
    study = read_study(tiny)
    (tmp_path / "again.toml").write_text(study.to_toml())
    assert read_study(tmp_path / "again.toml").hash == study.hash
    assert study.changed(seed=5).hash != study.hash
    assert study.changed(seed=None, device=None) == study


def test_models_are_called_by_their_folder_and_hf_by_the_one_above(tmp_path):
    (tmp_path / "mine" / "hf").mkdir(parents=True)
    sources = ["organism:x", str(tmp_path / "mine"), str(tmp_path / "mine" / "hf"), "org/name"]
    assert [Source(source=s).label for s in sources] == ["x", "mine", "mine", "org/name"]
    assert Source(source="org/name", name="short").label == "short"


def test_the_quick_form_lies_over_the_study(tiny):
    study = read_study(tiny)
    quick = Study.model_validate({**study.model_dump(), "models": ["a"], "quick": {"bootstraps": 123}}).quickened()
    assert (quick.name, quick.bootstraps, quick.max_new_tokens) == ("tiny-quick", 123, study.max_new_tokens)
    with pytest.raises(StudyFileError, match="unknown field 'botstraps'"):
        Study.model_validate({"name": "s", "models": ["a"], "quick": {"botstraps": 1}}).quickened()


def test_a_battery_without_calibration_gives_some_and_none_is_both(tmp_path):
    (tmp_path / "b.jsonl").write_text("".join(f'{{"prompt": "{x}"}}\n' for x in "abcdefgh"))
    battery = battery_of(Study(name="s", models=["m"], battery=str(tmp_path / "b.jsonl")))
    assert [p.text for p in battery.calibration] == ["d", "h"]
    assert not set(battery.prompts) & set(battery.calibration)
    (tmp_path / "one.jsonl").write_text('{"prompt": "a"}')
    with pytest.raises(InputError, match="needs at least two"):
        battery_of(Study(name="s", models=["m"], battery=str(tmp_path / "one.jsonl")))


# --- the folder ---


def test_the_folder_holds_what_it_should(done):
    have = set(files(done.folder))
    results = {"panel", "depth", "regimes_runs", "regimes_models", "regimes_nulls", "gd_models", "gd_depth"}
    want = {f"results/{name}.parquet" for name in results}
    want |= {f"results/{name}.json" for name in ("separation", "temperature", "trajectory", "notes")}
    want |= {"study.toml", "manifest.json", "claims.json", "units.json", "panel.json"}
    assert want <= have
    assert not [name for name in have if ".part" in name or ".lock" in name]
    units = document(done.folder, "units.json")
    assert {unit["transcripts"] for unit in units} <= have
    assert {f"{unit['trace']}.{table}.parquet" for unit in units for table in ("runs", "steps", "layers")} <= have


def test_the_panel_has_every_model_and_its_twin(done):
    assert [row["model"] for row in done.panel] == ["llama0", "llama0:untrained", "gpt21", "gpt21:untrained"]
    assert [row["twin"] for row in done.panel] == [False, True, False, True]
    assert all(row["n_runs"] == 4 * 3 and row["n_prompts"] == 4 for row in done.panel)
    assert all(row["noise_floor"] < 1e-3 for row in done.panel)


def test_claims_are_locked_before_the_data_and_all_judged(done):
    manifest = document(done.folder, "manifest.json")
    claims = document(done.folder, "claims.json")
    assert [c["id"] for c in claims] == manifest["claims"]
    assert {"id", "statement", "verdict", "estimate", "interval", "null", "decided_by", "n", "published"} <= claims[
        0
    ].keys()
    begun = (done.folder / "manifest.json").stat().st_mtime_ns
    assert all(begun < path.stat().st_mtime_ns for path in (done.folder / "transcripts").iterdir())


def test_matched_models_have_the_panels_entropy_on_the_calibration_prompts(done):
    rows = document(done.folder, "results/temperature.json")
    assert all(row["entropy_after"] == pytest.approx(row["target"], abs=6e-4) for row in rows)
    assert any(abs(row["entropy_before"] - row["target"]) > 1e-2 for row in rows)


def test_calibration_prompts_are_in_no_measured_table(done):
    study = document(done.folder, "manifest.json")["study"]
    seen = set(read_table(done.folder / "results" / "regimes_runs.parquet").column("prompt_id").to_pylist())
    assert seen == {p["id"] for p in study["prompts"]}
    assert not seen & set(study["calibration"])


@pytest.mark.parametrize("workers", [1, 2])
def test_no_file_but_the_diary_tells_the_time_or_how_many_worked(done, tiny, workers):
    """Another folder, another moment, another number of processes: the same bytes."""
    again = done.folder.parent / f"again{workers}"
    run_study(read_study(tiny), again, workers=workers)
    assert files(again) == files(done.folder)


def test_events_of_two_workers_count_to_the_end(tiny, tmp_path):
    seen = []
    run_study(read_study(tiny), tmp_path / "out", listener=seen.append, workers=2)
    for stage in ("generate", "calibrate", "observe"):
        units = [e for e in seen if e.kind == "unit" and e.stage == stage]
        assert [e.done for e in units] == list(range(1, units[0].total + 1))
        assert {e.text for e in units} == {"llama0", "llama0:untrained", "gpt21", "gpt21:untrained"}
        parts = [e.text.split() for e in seen if e.kind == "part" and e.stage == stage]
        last = {name: (done, total) for name, done, _, total, _ in parts}
        assert len(last) == 4 and all(done == total for done, total in last.values())


def test_workers_beside_another_device_are_refused(tiny, tmp_path):
    with pytest.raises(InputError, match="several workers share a CPU, not device 'cuda'"):
        run_study(read_study(tiny).changed(device="cuda"), tmp_path / "out", workers=2)
    assert not (tmp_path / "out").exists()


def test_two_workers_that_were_stopped_leave_whole_units(done, tiny, tmp_path):
    def stop(event):
        if event.stage == "observe" and event.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(tiny), tmp_path / "out", listener=stop, workers=2)
    run_study(read_study(tiny), tmp_path / "out", workers=2)
    assert files(tmp_path / "out") == files(done.folder)


def test_a_finished_study_is_not_done_again(done, tiny):
    before = {
        p: p.stat().st_mtime_ns
        for sub in ("traces", "transcripts", "calibration")
        for p in (done.folder / sub).iterdir()
    }
    skipped = []
    run_study(
        read_study(tiny),
        done.folder,
        listener=lambda e: skipped.append(e.skipped) if e.kind == "unit" and e.stage != "load" else None,
    )
    assert all(skipped)
    assert before == {p: p.stat().st_mtime_ns for p in before}


@pytest.mark.parametrize("moment", [6, *(pytest.param(m, marks=pytest.mark.slow) for m in (1, 11, 14, 20))])
def test_an_interrupted_study_goes_on_to_the_same_bytes(done, tiny, tmp_path, moment):
    seen = []

    def stop(event):
        seen.append(event)
        if sum(e.kind == "unit" for e in seen) == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(tiny), tmp_path / "out", listener=stop)
    left = files(tmp_path / "out")
    assert not [name for name in left if ".part" in name]
    run_study(read_study(tiny), tmp_path / "out")
    assert files(tmp_path / "out") == files(done.folder)
    assert all(files(done.folder)[name] == data for name, data in left.items())


# --- bad input ---


def test_a_folder_of_another_study_is_refused_with_what_differs(done, tiny):
    with pytest.raises(OutputError, match="belongs to another study, 'tiny': it differs in bootstraps, seed"):
        run_study(read_study(tiny).changed(seed=1, bootstraps=101), done.folder)


def test_a_folder_with_other_things_is_refused(tiny, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(OutputError, match=r"not empty and holds no study \(it has thesis.tex\)"):
        run_study(read_study(tiny), tmp_path)
    assert files(tmp_path) == {"thesis.tex": b"x"}


def test_a_place_that_cannot_be_written_is_refused(tiny, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot make the folder"):
        run_study(read_study(tiny), tmp_path / "file" / "out")


def test_a_folder_in_use_is_refused(tiny, tmp_path):
    caught = []

    def second(event):
        if not caught:
            with pytest.raises(OutputError, match=f"another process .pid {os.getpid()} on .* is working in") as error:
                run_study(read_study(tiny), tmp_path / "out")
            caught.append(error)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(tiny), tmp_path / "out", listener=second)
    assert caught


def test_the_lock_of_a_dead_process_is_taken_over(tiny, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text("999999\n")
    with pytest.raises(KeyboardInterrupt):
        run_study(read_study(tiny), tmp_path / "out", listener=interrupt)
    assert not (tmp_path / "out" / ".lock").exists()


def interrupt(event):
    raise KeyboardInterrupt


def test_changed_claims_need_a_new_folder(done, tiny, tmp_path):
    manifest = read_json(done.folder / "manifest.json") | {"claims_lock": "0" * 64}
    (tmp_path / "study.toml").write_text(read_study(tiny).to_toml())
    (tmp_path / "manifest.json").write_bytes(json_bytes(manifest))
    with pytest.raises(OutputError, match="begun under other claims"):
        run_study(read_study(tiny), tmp_path)


def test_a_refused_model_is_reported_and_the_others_go_on(tmp_path):
    study = save_study(tmp_path / "in", families=("llama",))
    save_model(tmp_path / "in" / "short", context=8)
    save_model(tmp_path / "in" / "mute", with_tokenizer=False)
    changed = read_study(study).changed(
        models=[str(tmp_path / "in" / name) for name in ("llama0", "short", "mute", "absent")], twins=False
    )
    outcome = run_study(changed, tmp_path / "out")
    assert [row["model"] for row in outcome.panel] == ["llama0"]
    reasons = {r["model"]: r["reason"] for r in outcome.refused}
    assert "context of short is 8" in reasons["short"]
    assert "has no tokenizer" in reasons["mute"]
    assert any("no model at" in reason for reason in reasons.values())
    assert document(tmp_path / "out", "manifest.json")["refused"] == list(outcome.refused)


def test_a_study_without_any_usable_model_says_every_reason(tmp_path):
    study = save_study(tmp_path / "in", families=("llama",))
    save_model(tmp_path / "in" / "short", context=8)
    with pytest.raises(ModelRefused, match="no model of the study can take part. short: .*context of short is 8"):
        run_study(read_study(study).changed(models=[str(tmp_path / "in" / "short")]), tmp_path / "out")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_one_model_leaves_the_others(tmp_path, monkeypatch, workers):
    import phaselens.studies.stages.traces as traces

    study = read_study(save_study(tmp_path / "in"))
    real = traces.observe

    def broken(model, *args, **kwargs):
        if model.family == "gpt2":
            raise torch.OutOfMemoryError("out of memory")
        return real(model, *args, **kwargs)

    monkeypatch.setattr(traces, "observe", broken)
    outcome = run_study(study, tmp_path / "out", workers=workers)
    assert [row["model"] for row in outcome.panel] == ["llama0", "llama0:untrained"]
    assert [f["model"] for f in outcome.failed] == ["gpt21", "gpt21:untrained"]
    assert "gpt21: out of memory" in outcome.notes
    monkeypatch.undo()
    assert len(run_study(study, tmp_path / "out").panel) == 4


def test_a_model_whose_logits_overflow_is_left_out_with_the_reason(tmp_path):
    """Weights so large that float32 overflows: no token can be chosen, and the others go on."""
    from transformers import AutoModelForCausalLM

    study = save_study(tmp_path / "in", families=("llama", "gpt2"))
    network = AutoModelForCausalLM.from_pretrained(tmp_path / "in" / "gpt21")
    with torch.no_grad():
        network.transformer.wte.weight[5] = 3e38
    network.save_pretrained(tmp_path / "in" / "gpt21")
    outcome = run_study(read_study(study).changed(twins=False), tmp_path / "out")
    (failed,) = outcome.failed
    assert failed["model"] == "gpt21" and "NaN or infinity" in str(failed)
    assert outcome.panel and "gpt21" not in {row["model"] for row in outcome.panel}


def test_a_full_disk_in_mid_run_loses_nothing(done, tiny, tmp_path, monkeypatch):
    import errno

    real, calls = os.fsync, []

    def fills_up(handle):
        calls.append(handle)
        if len(calls) == 40:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", fills_up)
    with pytest.raises(OutputError, match="No space left on device.*kept.*resumes"):
        run_study(read_study(tiny), tmp_path / "out")
    monkeypatch.undo()
    left = files(tmp_path / "out")
    assert len(left) > 5
    assert all(files(done.folder)[name] == data for name, data in left.items())
    run_study(read_study(tiny), tmp_path / "out")
    assert files(tmp_path / "out") == files(done.folder)


def test_prompts_without_categories_and_csv_work(tmp_path):
    study = save_study(tmp_path / "in", families=("llama",))
    (tmp_path / "in" / "b.csv").write_text("prompt\n" + "".join(f"{x} {x}\n" for x in "abcdef"))
    outcome = run_study(
        read_study(study).changed(battery=str(tmp_path / "in" / "b.csv"), twins=False), tmp_path / "out"
    )
    assert outcome.panel[0]["n_prompts"] == 5
    assert save_battery(tmp_path / "x.jsonl").is_file()
