"""`--plan`: what is counted equals what is done; a model that is not here is planned from its configuration."""

import json

import pytest
import torch
from tests.tiny_panel import save_model
from transformers import LlamaConfig, MixtralConfig

from phaselens.cli import call
from phaselens.errors import InputError
from phaselens.studies.cost_estimate import plan_of, shape_of, short, speed
from phaselens.studies.declaration_parts import Source
from phaselens.studies.default_declaration import plain_study


def test_a_70_b_and_a_mixture_are_planned_from_their_configuration_alone(tmp_path):
    big = LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    )
    big.save_pretrained(tmp_path / "big")
    shape = shape_of(Source(source=str(tmp_path / "big")))
    assert 70.4e9 < shape.parameters == shape.active < 70.8e9 and shape.n_layers == 80
    MixtralConfig(num_hidden_layers=2).save_pretrained(tmp_path / "mixture")
    moe = shape_of(Source(source=str(tmp_path / "mixture")))
    assert moe.active < 0.4 * moe.parameters, "two of eight experts work on a token"
    found = plan_of(plain_study([str(tmp_path / "big")], "x"), rate=1e12)
    model = found["models"][0]
    assert model["weights"]["bfloat16"] == 2 * shape.parameters and model["fits"]["bfloat16"] == ["8 GPUs of 80 GB"]


def test_tokens_are_those_that_are_generated_and_minutes_follow_the_speed(tmp_path):
    place = save_model(tmp_path / "m")
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "a {w}"}}\n' for w in "bcdefghi"))
    study = plain_study([str(place)], "x", prompts=tmp_path / "p.jsonl", samples=3).changed(max_new_tokens=5)
    slow, fast = (plan_of(study, rate=rate) for rate in (1e5, 1e7))
    assert slow["stages"][0]["tokens"] == (6 * 3 + 2) * 5
    assert slow["minutes"] > 3 * fast["minutes"] > 0 and slow["bytes"] == fast["bytes"]
    assert plan_of(study.changed(twins=True), rate=1e7)["bytes"] == 2 * fast["bytes"]
    more = plan_of(study.changed(experiments=("regimes", "causal")), rate=1e7)
    assert "come on top" not in short(fast) and short(more).endswith("; passes of causal come on top")


def test_the_probe_measures_products():
    one = speed(256, 0.1)
    started = torch.ones(64, 256) @ torch.ones(256, 1024)
    assert started.shape == (64, 1024) and 1e8 < one < 1e14


def test_every_command_plans_and_does_nothing(tmp_path, capsys):
    place = str(save_model(tmp_path / "m"))
    (tmp_path / "p.jsonl").write_text("".join(f'{{"prompt": "a {w}"}}\n' for w in "bcde"))
    (tmp_path / "d.jsonl").write_text('{"text": "a b", "label": 1}\n')
    given, out = str(tmp_path / "p.jsonl"), str(tmp_path / "out")
    for command in (
        ["run", "--model", place, "--prompts", given, "--out", out],
        ["observe", place, "--prompts", given, "--out", out],
        ["probe", place, "--data", str(tmp_path / "d.jsonl"), "--out", out],
        ["perturb", place, "--prompts", given, "--n-prompts", "4", "--out", out],
    ):
        assert call([*command, "--plan", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["models"][0]["n_layers"] == 4 and {s["stage"] for s in found["stages"]} == {"generate", "observe"}
        assert call([*command, "--plan"]) == 0 and "plan: " in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    begun = ["run", "--model", place, "--prompts", given, "--out", out, "--begin"]
    for _ in range(2):  # the second time the folder is there
        assert call(begun) == 0
    first, second = [line for line in capsys.readouterr().err.splitlines() if "plan: " in line]
    assert "kept" not in first and second.endswith("(of the whole study: what is there already is kept)")
    with pytest.raises(InputError, match="config.json"):
        shape_of(Source(source=str(tmp_path)))
