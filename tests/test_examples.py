"""The examples run as they stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.capture.zoo import network
from tests.models.test_token_ids import CHATML
from tests.studies.test_chat_study import save_model

import phaselens
from phaselens.dynamics.alarms import Rule, Score
from phaselens.monitor import Card, write_card

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    network("llama").save_pretrained(folder)
    (folder / "said.jsonl").write_text('{"prompt_ids": [5, 6], "completion_ids": [7, 8, 9]}\n')
    return folder


def test_the_notebook_runs():
    """Its code cells in order, on the bundled model that it names."""
    cells = json.loads((EXAMPLES / "tutorial.ipynb").read_text())["cells"]
    code = "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "layer 6: turns by" in done.stdout


ON_A_MODEL = sorted(
    p.name for p in EXAMPLES.glob("*.py") if p.name not in ("cloze_battery.py", "answer_with_a_card.py")
)


@pytest.mark.parametrize("script", ON_A_MODEL)
def test_example(saved, script):
    arguments = [str(saved), str(saved / "said.jsonl")] if script.startswith("foreign") else [str(saved)]
    done = subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4


@pytest.mark.parametrize(("threshold", "says"), [(-1.0, "doubtful"), (1e9, "no alarm")])
def test_answers_are_marked_where_the_card_alarms_and_nowhere_else(tmp_path, threshold, says):
    folder = save_model(tmp_path / "chatty", CHATML)
    rule = Rule(Score("entropy", None, "value"), threshold, after=2)
    model = phaselens.load(folder)
    write_card(Card(model.name, model.fingerprint, rule, 0.1, {}, "mean entropy", False), tmp_path / "card.json")
    command = [
        sys.executable,
        str(EXAMPLES / "answer_with_a_card.py"),
        str(folder),
        str(tmp_path / "card.json"),
        "Who?",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, answer = done.stdout.splitlines()
    assert first == "alarms: value entropy; no better than mean entropy"
    assert answer.startswith(f"{says} | Who? | ") and ("step 2: " in answer) == (says == "doubtful")
