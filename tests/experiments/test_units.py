"""Prompts that ask about one thing are one unit in every resampling, weight and count."""

from dataclasses import replace

import numpy as np
import pytest

from phaselens.batteries import Battery, Prompt, load_battery
from phaselens.bridges import read_transcripts
from phaselens.errors import InputError
from phaselens.experiments.ambiguity import pairs_of
from phaselens.experiments.separations import counts
from phaselens.validity import simulated_ambiguity
from phaselens.validity.simulated_answers import linked


def test_wordings_of_one_thing_move_together():
    panel = linked(np.random.default_rng(0), prompts=40)
    of = {p: f"about {i // 4}" for i, p in enumerate(panel.prompts)} | {
        str(p): str(p) for p in panel.models[0].runs["prompt_id"] if str(p)[0] == "c"
    }
    models = tuple(
        replace(m, runs={**m.runs, "unit": np.array([of[str(p)] for p in m.runs["prompt_id"]])}) for m in panel.models
    )
    grouped = replace(panel, models=models)
    assert len(grouped.units) == -(-len(panel.prompts) // 4) and grouped.weights.shape[1] == len(grouped.units)
    assert counts(grouped)["units"] == len(grouped.units) < counts(grouped)["prompts"] == len(panel.prompts)
    index = grouped.unit_index(models[0])
    for prompt, unit in zip(models[0].runs["prompt_id"], index, strict=True):
        assert unit == -1 if str(prompt)[0] == "c" else grouped.units[unit] == of[str(prompt)]


def test_pairs_of_one_homonym_are_one_unit():
    panel = simulated_ambiguity.study_with(
        np.random.default_rng(0), m=1, effects={"turning_angle": 0.7, "commit_depth": 0.7}
    )
    model = panel.models[0]
    ids = [str(p).rpartition("/")[0] for p in model.pairs.runs["prompt_id"]]
    unit = np.array([f"noun {int(i[1:]) // 4}" for i in ids])
    grouped = replace(model, pairs=replace(model.pairs, runs={**model.pairs.runs, "unit": unit}))
    alone, together = pairs_of(model, float("nan")), pairs_of(grouped, float("nan"))
    assert len(together.ids) == len(alone.ids) // 4 and together.n_pairs == alone.n_pairs == together.kept
    d = dict(zip(alone.ids, alone.differences("commit_depth"), strict=True))
    mean = np.mean([d[f"q{i}"] for i in range(8, 12)])
    at = together.ids.index("noun 2")
    assert together.differences("commit_depth")[at] == pytest.approx(mean)


def test_a_unit_is_measured_or_sets_scales(tmp_path):
    first, second = Prompt("a", "One", unit="x"), Prompt("b", "Two", unit="x")
    assert Prompt("c", "Three").unit == "c"
    with pytest.raises(InputError, match="'b' asks about 'x'"):
        Battery("mine", (first,), (second,))
    path = tmp_path / "mine.csv"
    path.write_text("id,text,fact\n1,A,x\n2,B,x\n3,C,y\n", encoding="utf-8")
    found = load_battery(path, columns={"id": "id", "text": "text", "unit": "fact"})
    assert [p.unit for p in found.prompts] == ["x", "x", "y"]
    said = tmp_path / "said.jsonl"
    said.write_text('{"prompt_ids": [1], "completion_ids": [2], "unit": "x"}\n', encoding="utf-8")
    assert read_transcripts(said).run_rows()[0]["unit"] == "x"
