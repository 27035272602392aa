import itertools
import json

import numpy as np
import pytest
import torch
from tests.tiny_panel import WORDS, save_model

import phaselens
from phaselens.cli import call
from phaselens.dynamics.alarms import Rule, Score
from phaselens.errors import InputError, StudyFileError
from phaselens.monitor import Card, Policy, read_card, write_card
from phaselens.studies import run_study
from phaselens.studies.declaration import Arm, Source, Study
from phaselens.studies.store.beginnings import read_beginnings
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
        name="labelled", models=[Source(source=str(place))], battery=str(folder / "battery.jsonl"), twins=False,
        max_new_tokens=16, arms=[Arm(temperature=1.0, samples=6)], experiments=["correctness"], bootstraps=100,
        lenses=["final_norm"],
    )  # fmt: skip
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
