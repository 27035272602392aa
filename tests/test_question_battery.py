"""tools/questions.py: sums that add up, units on one side, and the whole battery out of the data sets of others."""

import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from phaselens.batteries import load_battery
from phaselens.studies.declaration import read_study

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("questions", ROOT / "tools" / "questions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_sum_adds_up_and_says_how_many_steps_it_takes(tool):
    rows = tool.sums(np.random.default_rng(0))
    assert Counter(row["tag"] for row in rows) == {"1 step": 72, "2 steps": 72, "3 steps": 72}
    for row in rows:
        said = row["unit"].removeprefix("sum ")
        assert re.fullmatch(r"\d+( [+-] \d+)+", said) and row["answers"] == [str(eval(said))]
        assert len(re.findall(r"[+-]", said)) == int(row["tag"][0])
        numbers = Counter(re.findall(r"\d+", said))
        assert all(Counter(re.findall(r"\d+", row[form])) == numbers for form in ("text", "question"))


def test_a_currency_is_right_by_its_last_word_and_without_its_code(tool):
    assert tool.accepted(["Albanian Lek (ALL)"], "currency") == ["Albanian Lek", "Lek"]
    assert tool.accepted(["Kabul"], "capital") == ["Kabul"]


@pytest.mark.assets
def test_the_battery_has_fifteen_hundred_questions_and_no_unit_on_both_sides(tool, tmp_path):
    rows = tool.battery(ROOT.parent / "shared" / "data")
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    declared = read_study(ROOT / "examples" / "facts.toml")
    found = load_battery(tmp_path / "q.jsonl", columns=declared.columns)
    assert len(found.prompts) >= 1500 and len(found.calibration) >= 200
    assert not {p.unit for p in found.prompts} & {p.unit for p in found.calibration}
    assert all(p.answer and p.answer.lower() not in p.text.lower() for p in found.prompts if p.category == "capital")
    assert [len(p.text) for p in found.prompts] == sorted(len(p.text) for p in found.prompts)
    asked = load_battery(tmp_path / "q.jsonl", columns=read_study(ROOT / "examples" / "facts-chat.toml").columns)
    assert [p.id for p in asked.prompts] == [p.id for p in found.prompts]
    assert tool.battery(ROOT.parent / "shared" / "data") == rows
