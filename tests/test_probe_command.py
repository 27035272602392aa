"""`phaselens probe`: files of a whole run, resuming, and one clear line with exit code 2 for every bad input."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from phaselens.cli import call
from phaselens.readings import load_probes
from tiny_panel import save_model

FEW = ("--folds", "3", "--draws", "2", "--permutations", "9", "--l2", "10")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_model(tmp_path_factory.mktemp("model") / "tiny", layers=2)


def data(path, n=60, **more):
    draw = np.random.default_rng(0)
    lines = []
    for i in range(n):
        text = " ".join(draw.choice(list("abcdefgh"), size=5))
        row = {"text": text, "label": "vowel" if text[-1] in "ae" else "other", "prompt": f"p{i // 2}"}
        lines.append(json.dumps(row | {k: v(i, text) for k, v in more.items()}) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture
def cli(capsys):
    def run(*arguments):
        capsys.readouterr()
        code = call([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run


def test_a_run_writes_results_probes_and_report_and_is_not_done_twice(cli, model, tmp_path):
    file = data(tmp_path / "vowels.jsonl", s=lambda i, t: len(t) - 1, e=lambda i, t: len(t), kind=lambda i, t: t[-1])
    out = tmp_path / "out"
    ask = ("probe", model, "--data", file, "--out", out, "--group", "prompt", "--span", "s:e", *FEW, "--json")
    code, said, err = cli(*ask)
    assert code == 0, err
    found = json.loads(said)
    (task,) = found["tasks"]
    assert task["task"] == "vowels" and task["n_labelled"] == 60 and task["n_flagged"] == 0
    assert task["layers"][0]["capacity"] > 0.9  # the last token says it all, and l = 0 is its embedding
    table = pq.read_table(out / "results" / "vowels.layers.parquet")
    assert table.column("layer").to_pylist() == [0, 1, 2]
    probes = load_probes(out / "probes" / "vowels.safetensors")
    assert probes.weight.shape == (3, 1, 32) and probes.classes.tolist() == ["other", "vowel"]
    page = (out / "report.md").read_text()
    assert "is algebra" in page and "| rotation | sanity |" in page
    assert not list(out.glob(".states-*"))
    before = (out / "results" / "vowels.json").read_bytes()
    code, said, _ = cli(*ask)
    assert code == 0 and json.loads(said)["skipped"] == 1
    assert (out / "results" / "vowels.json").read_bytes() == before
    code, _, err = cli(*ask, "--seed", "1")
    assert code == 2 and "Choose another --out" in err


@pytest.mark.parametrize(
    ("more", "options", "says"),
    [
        ({"label": lambda i, t: "one"}, (), "two classes"),
        ({}, ("--folds", "40", "--group", "prompt"), "fewer than 40 folds"),
        ({"f": lambda i, t: str(i % 3)}, ("--group", "prompt", "--fold", "f"), "in both splits"),
        ({"s": lambda i, t: 0, "e": lambda i, t: 99}, ("--span", "s:e"), "does not lie in a text"),
        ({"label": lambda i, t: ["x"] * 9}, (), "more labels (9) than words"),
        ({}, ("--group", "promt"), "Did you mean 'prompt'"),
        ({}, ("--span", "s"), "START:END"),
        ({}, ("--pool", "max"), "way of pooling"),
        ({}, ("--l2", "a,b"), "numbers separated by commas"),
    ],
)
def test_bad_input_is_one_line_and_code_two(cli, model, tmp_path, more, options, says):
    file = data(tmp_path / "d.jsonl", **more)
    code, said, err = cli("probe", model, "--data", file, "--out", tmp_path / "out", *FEW, *options)
    assert code == 2 and said == ""
    assert says in err.splitlines()[-1] and "Traceback" not in err


def test_tasks_of_the_world_need_an_organism(cli, model, tmp_path):
    code, _, err = cli("probe", model, "--out", tmp_path / "out")
    assert code == 2 and "organism:NAME" in err
    code, _, err = cli("probe", "organism:llama-512", "--task", "truht", "--out", tmp_path / "out")
    assert code == 2 and "Did you mean 'truth'" in err


def test_a_run_that_failed_before_its_first_result_owns_nothing(cli, model, tmp_path):
    out, few = tmp_path / "out", data(tmp_path / "few.jsonl", n=2)
    assert cli("probe", model, "--data", few, "--out", out, *FEW)[0] == 2
    code, _, err = cli("probe", model, "--data", data(tmp_path / "vowels.jsonl"), "--out", out, *FEW)
    assert code == 0, err
