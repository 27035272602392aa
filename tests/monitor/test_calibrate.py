import csv
import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tests.tiny_panel import WORDS, save_model

import phaselens
from phaselens.bridges import read_transcripts
from phaselens.cli import call
from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import InputError, StudyFileError
from phaselens.monitor import Card, Policy, read_card, write_card
from phaselens.report import render
from phaselens.report.markdown import write_markdown
from phaselens.studies import run_study
from phaselens.studies.declaration import Arm, Source, Study, read_study
from phaselens.studies.store.answer_state_files import read_beginnings
from phaselens.trace.seal import read_arrays
from phaselens.trace.store import read_table


def test_a_card_is_what_was_written(tmp_path):
    rates = {"hit_rate": {"value": 0.5, "lo": 0.25, "hi": None}}
    card = Card(
        "m", "f" * 64, Rule(Score("instability", 3), 1.25, False), 0.1, rates, "recent surprisal", True, {"n": 3}
    )
    write_card(card, tmp_path / "card.json")
    again = read_card(tmp_path / "card.json")
    assert again.to_dict() == card.to_dict() and again.rule.score == card.rule.score and not again.rule.above
    text = (tmp_path / "card.json").read_text()
    for broken, says in (
        ("{", "cannot be read"),
        ("[]", "no threshold card"),
        (text.replace('"version": 1', '"version": 9'), "version 9"),
        (text.replace('"rule"', '"ruler"'), "broken"),
    ):
        (tmp_path / "bad.json").write_text(broken)
        with pytest.raises(StudyFileError, match=says):
            read_card(tmp_path / "bad.json")


def test_calibrate_without_a_study_or_rate_says_so(tmp_path, capsys):
    assert call(["calibrate", str(tmp_path)]) == 2
    assert call(["calibrate", str(tmp_path), "--rate", "2"]) == 2
    assert "--rate 2" in capsys.readouterr().err


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A study of one tiny model whose right answer is what it would say greedily, so that samples are right or not."""
    folder = tmp_path_factory.mktemp("labelled")
    place = save_model(folder / "llama0", "llama")
    model = phaselens.load(place)
    rows = []
    for i, (first, second) in enumerate(itertools.islice(itertools.permutations(WORDS[:20], 2), 0, 240, 8)):
        ids = model.tokenizer(f"{first} {second}", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            likely = model.network(ids).logits[0, -1].argsort(descending=True)
        answer = next(t for i in likely.tolist() if (t := model.tokenizer.decode([i]).strip()).isalnum())
        rows.append({"id": f"p{i:02d}", "text": f"{first} {second}", "category": "x", "answer": answer})
    for row in rows[24:]:
        row["calibration"] = True
    (folder / "battery.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    study = Study(
        name="labelled",
        models=[Source(source=str(place))],
        battery=str(folder / "battery.jsonl"),
        twins=False,
        max_new_tokens=16,
        arms=[Arm(temperature=1.0, samples=6)],
        experiments=["correctness"],
        bootstraps=100,
        lenses=["final_norm"],
    )
    run_study(study, folder / "out")
    return folder, model


def test_calibrate_learns_a_card_that_a_monitor_of_that_model_takes(labelled, capsys):
    folder, model = labelled
    assert call(["calibrate", str(folder / "out"), "--rate", "0.2", "--json", "--out", str(folder / "card.json")]) == 0
    said, card = json.loads(capsys.readouterr().out), read_card(folder / "card.json")
    assert card.fingerprint == model.fingerprint and said["fingerprint"] == model.fingerprint
    assert card.made_of["prompts"] == 24 and card.made_of["learned_from_runs"] == card.made_of["tested_on_runs"] == 72
    assert set(card.rates) >= {"false_alarm_rate", "hit_rate", "baseline_hit_rate", "gain"}
    assert all(0 <= card.rates[k]["value"] <= 1 for k in ("false_alarm_rate", "hit_rate", "baseline_hit_rate"))
    assert card.beats_baseline == (card.rates["gain"]["lo"] > 0)
    with phaselens.Monitor(model, Policy("stop", card=card)) as m:
        model.network.generate(**model.tokenizer("a b", return_tensors="pt"), max_new_tokens=12)
    assert card.rule.score.name in m.last[0].scores
    other = phaselens.load(save_model(folder / "other", "llama", seed=5))
    with pytest.raises(InputError, match="Thresholds do not carry over"):
        phaselens.Monitor(other, Policy("stop", card=card))


def test_the_probe_of_the_first_states_stands_among_the_baselines(labelled):
    folder, _ = labelled
    rows = read_table(folder / "out" / "results" / "correctness.parquet").to_pylist()
    probe = next(r for r in rows if r["score"] == "linear probe")
    assert probe["kind"] == "baseline" and probe["n_runs"] == 144 and 0 <= probe["auroc"] <= 1
    assert all(r["prr_lo"] <= r["prr_hi"] for r in rows if np.isfinite(r["prr_lo"]))
    states = [read_arrays(path)[0]["states"] for path in sorted((folder / "out" / "answers").iterdir())]
    assert {s.shape[1] for s in states} == {32} and sum(len(s) for s in states) == 150
    broken = next((folder / "out" / "answers").iterdir())
    with pytest.raises(StudyFileError, match="run the command again"):
        read_beginnings(folder / "out", [broken.stem], [1])


def test_the_runs_of_a_study_are_graded_and_the_report_says_how(labelled):
    folder, _ = labelled
    out = folder / "out"
    runs = [r for path in sorted((out / "traces").glob("*.runs.parquet")) for r in read_table(path).to_pylist()]
    assert {r["correct"] for r in runs} == {True, False}
    found = json.loads((out / "results" / "grading.json").read_text())
    (row,) = found["counts"]
    assert found["grader"] == "first line" and row["right"] + row["wrong"] == 144 and not row["not_graded"]
    assert [one["outcome"] for one in found["examples"]] == ["right", "right", "wrong", "wrong"]
    page = render(out).read_text()
    assert "How answers were graded" in page and "By the rule \u201cfirst line\u201d" in page
    assert "How answers were graded" in write_markdown(out)[0].read_text()


def test_labels_of_the_user_come_before_the_grades(labelled, tmp_path, capsys):
    out = labelled[0] / "out"
    assert call(["calibrate", str(out), "--to-grade", str(tmp_path / "runs.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines(keepends=True)))
    assert len(rows) == 144 and {r["right"] for r in rows} == {"yes", "no"} and not (out / "card-llama0.json").exists()
    swapped = [{"run": int(r["run"]), "right": r["right"] == "no"} for r in rows]
    (tmp_path / "l.jsonl").write_text("".join(json.dumps(r) + "\n" for r in swapped))
    pq.write_table(pa.Table.from_pylist(swapped), tmp_path / "l.parquet")
    capsys.readouterr()
    found = []
    for file in (None, "runs.csv", "l.jsonl", "l.parquet"):
        labels = [] if file is None else ["--labels", str(tmp_path / file)]
        assert call(["calibrate", str(out), "--json", "--rate", "0.2", "--out", str(tmp_path / "c.json"), *labels]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[0] == found[1] and found[2] == found[3] and found[2]["rates"] != found[0]["rates"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("run,right\n9999,yes\n", "'9999' is none of"),
        ("run,right\n30,perhaps\n", "wanted yes or no"),
        ("number,right\n1,yes\n", "wanted run or prompt_id"),
        ("prompt_id,right\np00,yes\n", "add|ask more questions"),
    ],
)
def test_labels_that_cannot_be_used(labelled, tmp_path, capsys, text, says):
    (tmp_path / "l.csv").write_text(text)
    assert call(["calibrate", str(labelled[0] / "out"), "--labels", str(tmp_path / "l.csv")]) == 2
    assert re.search(says, capsys.readouterr().err)


def always(text, answers):
    return bool(answers)


def test_a_function_grades_a_study_and_is_asked_for_when_it_goes_on(labelled, tmp_path):
    folder, _ = labelled
    study = Study(
        name="own",
        models=[Source(source=str(folder / "llama0"))],
        battery=str(folder / "battery.jsonl"),
        twins=False,
        max_new_tokens=8,
        arms=[Arm(temperature=0.0)],
        experiments=["regimes"],
        bootstraps=100,
        lenses=["final_norm"],
    )
    run_study(study, tmp_path / "out", grader=always)
    found = json.loads((tmp_path / "out" / "results" / "grading.json").read_text())
    assert found["grader"].endswith("test_calibrate.always") and found["counts"][0]["right"] == 24
    with pytest.raises(InputError, match="give it to run_study"):
        run_study(read_study(tmp_path / "out" / "study.toml"), tmp_path / "out")


def test_a_file_may_say_which_transcripts_are_right(tmp_path):
    rows = [{"prompt_ids": [5], "completion_ids": [6], "correct": c} for c in (True, 0, None)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert [t.correct for t in read_transcripts(tmp_path / "t.jsonl")] == [True, False, None]
    (tmp_path / "t.jsonl").write_text(json.dumps({**rows[0], "correct": "maybe"}))
    with pytest.raises(StudyFileError, match="line 1: 'correct' is 'maybe'"):
        read_transcripts(tmp_path / "t.jsonl")


def test_run_with_a_model_and_no_file_leaves_its_declaration(labelled, tmp_path, capsys):
    folder, _ = labelled
    asked = ["run", "--model", str(folder / "llama0"), "--prompts", str(folder / "battery.jsonl"), "--samples", "1"]
    assert call([*asked, "--grader", "contains", "--out", str(tmp_path / "own"), "--json"]) == 0
    declared = read_study(tmp_path / "own" / "study.toml")
    assert declared.grader == "contains" and "correctness" in declared.experiments and declared.name == "own"
    assert (tmp_path / "own" / "report.html").is_file()
    for wrong, says in (
        (["run", "--prompts", "x", "--out", "y"], "--prompts goes with --model"),
        (["run", "organisms", "--model", "x", "--out", "y"], "give one"),
        (["run", "--model", "x"], "--out DIR"),
        (["run", "--model", "organism:llama-512", "--grader", "contain", "--out", "y"], "Did you mean 'contains'"),
    ):
        capsys.readouterr()
        assert call(wrong) == 2 and says in capsys.readouterr().err
