"""The example that makes a cloze battery out of stories of one's own."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from phaselens.batteries import load_battery

SCRIPT = Path(__file__).parents[2] / "examples" / "cloze_battery.py"
STORY = (
    "Once there was a fox who had a kite. The fox took the kite to the hill. The wind was strong and the day was long. "
    "The fox held on to the string as the wind pulled and pulled at it. At last the kite flew high over the hill, and "
    "the fox laughed. Then the fox rolled the string up again and carried the kite home."
)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("cloze_battery", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check(example, row):
    """The answer is a content word that the prompt has said at least twice, and follows it after a space."""
    assert not row["text"].endswith(" ") and row["text"].count(row["answer"]) >= example.SAID_BEFORE
    assert row["answer"].lower() not in example.PLAIN and len(row["text"]) < example.LONGEST


def test_the_word_was_said_before_and_the_story_goes_on_with_it(example):
    for seed in range(20):
        prompt, answer = example.cloze(STORY, np.random.default_rng(seed))
        assert answer in ("fox", "kite") and STORY.startswith(f"{prompt} {answer}")
        check(example, {"text": prompt, "answer": answer})
    assert example.cloze("A short text.", np.random.default_rng(0)) is None


def test_one_question_a_text_and_the_same_again_from_the_same_seed(example):
    made = example.battery([STORY, STORY.replace("fox", "cat"), "Too short.", STORY])
    assert sorted(row["id"] for row in made) == ["story-0000", "story-0001"]
    assert made == example.battery([STORY, STORY.replace("fox", "cat"), "Too short.", STORY])


def test_a_folder_of_texts_becomes_a_battery_of_a_study(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02d}.txt").write_text(f"Day {i}. " + STORY)
    out = tmp_path / "cloze.jsonl"
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path), str(out), "10"], check=True, capture_output=True)
    battery = load_battery(out)
    assert len(battery.prompts) + len(battery.calibration) == 10
    assert all(p.category == "cloze" and p.answer for p in battery.prompts)


@pytest.mark.assets
def test_on_the_stories_of_the_shared_folder(shared, example):
    texts = json.loads((shared / "data" / "tinystories-sample" / "tinystories_1000.json").read_text())
    made = example.battery(texts)
    assert len(made) > 900 and len({row["id"] for row in made}) == len(made)
    for row in made:
        check(example, row)
    names = np.mean([row["tag"] == "name" for row in made])
    assert 0.2 < names < 0.5
    assert 0.1 < np.mean([row["calibration"] for row in made]) < 0.2
