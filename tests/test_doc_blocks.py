"""Every code block of README and docs does what the page says: Python runs, TOML is read, commands are carried out.

What a block needs and does not make itself (a model of the reader's, their files) is laid out below, small. Commands
that take more than a moment are `slow`.
"""

import json
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.numpy import save_file
from tests.tiny_panel import save_model

import phaselens
from phaselens.cli import call
from phaselens.experiments.result_tables import Table
from phaselens.models.discover import OVERRIDES
from phaselens.studies.declaration import _parse

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.S | re.M)
SHELL = ("", "sh", "console", "bash")
# Commands that train, simulate, serve or measure speed: their options are checked, and they are run elsewhere.
ELSEWHERE = ("bench", "view", "work", "pull", "organisms train", "watch", "claims import")
LONG = ("validate", "run", "probe", "perturb", "claims", "report", "calibrate")


def blocks():
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for n, (_, kind, text) in enumerate(BLOCK.findall(page.read_text())):
            yield f"{page.relative_to(ROOT)} {n}", kind, textwrap.dedent(text)


def of(*kinds):
    return [pytest.param(text, id=name) for name, kind, text in blocks() if kind in kinds and "--8<--" not in text]


def commands(*kinds):
    for name, kind, text in blocks():
        if kind not in kinds:
            continue
        for i, line in enumerate(text.replace("\\\n", " ").splitlines()):
            for part in line.split("&&"):
                if part.strip().startswith("phaselens "):
                    yield f"{name} line {i}", shlex.split(part, comments=True)[1:]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with what a reader of the pages has: a model, prompts, transcripts, states, batteries, cards."""
    folder = tmp_path_factory.mktemp("reader")
    model = phaselens.load(save_model(folder / "MODEL"))
    model.tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    write = {
        "my-prompts.jsonl": [{"prompt": "a b c"}, {"prompt": "d e"}],
        "said.jsonl": [{"prompt": "a b", "completion": "c d e"}],
        "samples.jsonl": [{"prompt": "a b", "completion": " c d e"}],
        "gsm8k.jsonl": [{"question": "1 + 1?", "answer": "one and one\n#### 2"}],
        "blimp.jsonl": [{"UID": "u", "pairID": "0", "sentence_good": "a b", "sentence_bad": "b a"}],
    }
    for name, rows in write.items():
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "SVAMP.json").write_text('[{"ID": "s1", "Body": "Two and two.", "Question": "How many?", "Answer": 4}]')
    head = "Question,Best Answer,Correct Answers,Category"
    (folder / "TruthfulQA.csv").write_text(f"{head}\nWho?,Ada,Ada L; Ada B,people\n")
    (folder / "facts.csv").write_text("statement,label\na,1\nb,0\n")
    (folder / "places.csv").write_text("name,latitude,state\na,1.5,x\nb,2.5,y\n")
    states = np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32)
    save_file({"run0": states}, folder / "states.safetensors")
    save_file({"weight": np.ones((20, 8), np.float32)}, folder / "head.safetensors")
    said = phaselens.generate(model, ["a b c"], max_new_tokens=6)
    phaselens.write_trace(phaselens.observe(model, said), folder / "DIR" / "traces", "UNIT")
    phaselens.write_trace(phaselens.observe(model, said), folder, "UNIT")
    return folder, model, said, states


def namespace(place):
    """Names that a page takes for granted, such as `model` or `array`."""
    _, model, said, states = place
    ids = torch.tensor([[1, 4, 5]])
    return {
        "phaselens": phaselens,
        "model": model,
        "said": said,
        "prompts": ["a b c"],
        "ids": [3, 4, 5, 6],
        "array": states,
        "array1": states,
        "array2": states,
        "W": np.ones((20, 8), np.float32),
        "g": np.ones(8, np.float32),
        "tl_cache": {f"blocks.{i}.hook_resid_post": torch.randn(1, 9, model.d_model) for i in range(model.n_layers)},
        "my_transformers_model": model.network,
        "my_tokenizer": model.tokenizer,
        "inputs": {"input_ids": ids, "attention_mask": torch.ones_like(ids)},
        "mean": torch.zeros(model.d_model),
    }


@pytest.mark.parametrize("text", of("python"))
def test_python(text, place, monkeypatch, request):
    monkeypatch.chdir(place[0])
    names = namespace(place)
    if '"role"' in text:
        monkeypatch.setattr(place[1].tokenizer, "chat_template", "{% for m in messages %}{{ m.content }} {% endfor %}")
    if "openai" in text:
        compile(text, "page", "exec")
        pytest.skip("needs a server; the same calls are made in tests/watch/test_watch.py")
    if "trackio" in text:
        logged = follow_trackio(place[0] / "DIR", monkeypatch)
    if "card.json" in text:
        make_card(place[0] / "card.json")
        names["inputs"] = {"input_ids": torch.tensor([[1, 4, 5]])}
    if "to_xarray" in text:
        pytest.importorskip("xarray")
        pytest.importorskip("polars")
    exec(compile(text, "page", "exec"), names)  # noqa: S102  our own pages
    if "trackio" in text:
        assert logged == {"claim/G1/estimate": 0.5, "claim/G1/verdict": "open", "model/m/ratio_norm": 2.0}


def follow_trackio(folder, monkeypatch):
    """A tracker that keeps what it is told, and the two files that are sent to it."""
    logged = {}
    tracker = SimpleNamespace(init=lambda **settings: None, log=logged.update, finish=lambda: None)
    monkeypatch.setitem(sys.modules, "trackio", tracker)
    (folder / "results").mkdir(exist_ok=True)
    (folder / "claims.json").write_text('[{"id": "G1", "estimate": 0.5, "verdict": "open"}]')
    pq.write_table(pa.table({"model": ["m"], "ratio_norm": [2.0]}), folder / "results" / "regimes_models.parquet")
    return logged


@pytest.mark.parametrize("text", of("sql"))
def test_sql(text, place, monkeypatch):
    monkeypatch.chdir(place[0])
    units = [{"model": "m", "trace": "traces/UNIT", "calibration": False}]
    (place[0] / "DIR" / "units.json").write_text(json.dumps(units))
    rows = pytest.importorskip("duckdb").sql(text).fetchall()
    assert len(rows) > 1 and all(np.isfinite(row[-1]) for row in rows)


@pytest.mark.parametrize("text", of("json"))
def test_json_is_json(text):
    assert all(json.loads(line) for line in text.splitlines())


def test_every_block_is_of_a_kind_that_is_tried():
    """`text` is what was printed, or commands for machines that are not here: of those the words are checked."""
    kinds = {kind for _, kind, _ in blocks()}
    assert kinds <= {"python", "toml", "yaml", "sql", "json", "text", *SHELL}
    assert not [
        name for name, kind, text in blocks() if kind == "text" and re.search(r"^import |^from \w+ import", text)
    ]


def make_card(path):
    from phaselens.dynamics.alarms import Rule, Score
    from phaselens.monitor import Card
    from phaselens.monitor.threshold_card import write_card

    model = phaselens.load("organism:llama-512")
    rule = Rule(Score("instability", 4, "recent"), 9.0)
    write_card(Card("llama-512", model.fingerprint, rule, 0.1, {}, "entropy", False), path)


@pytest.mark.parametrize("text", of("toml"))
def test_toml(text):
    found = tomllib.loads(text)
    if "models" in found:
        _parse(text.replace('"./my-model", ', ""), "the page", None)
    elif "interventions" in found:
        _parse('name = "x"\nmodels = ["organism:llama-512"]\n' + text, "the page", None)
    elif all(isinstance(record, dict) and "tables" in record for record in found.values()):
        tables = [Table(name, **facts) for record in found.values() for name, facts in record["tables"].items()]
        assert tables and all(table.arrow([]).num_rows == 0 for table in tables)
    else:
        assert set(found) <= set(OVERRIDES)


def test_other_shell_lines_name_what_there_is():
    makes = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M))
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    seen = 0
    for name, kind, text in blocks():
        for line in text.splitlines() if kind in SHELL else ():
            words = line.split("#")[0].split()
            seen += bool(words) and words[0] in ("make", "pip", "python")
            if words[:1] == ["make"]:
                assert words[1] in makes, name
            if words[:1] == ["pip"] and "[" in line:
                assert re.search(r"\[([\w,]+)\]", line)[1] in extras, name
            if words[:1] == ["python"]:
                assert (ROOT / words[1]).exists(), name
    assert seen > 8


def parsed(words):
    """See that a command line is one: command, options and values, without carrying it out."""
    import typer

    from phaselens.cli import app

    context = typer.main.get_command(app).make_context("phaselens", list(words))
    command, rest = context.command, [*context._protected_args, *context.args]
    while rest and hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, rest)
        with command.make_context(name, list(rest), parent=context) as context:
            rest = [*getattr(context, "_protected_args", []), *context.args] if hasattr(command, "commands") else []


@pytest.mark.parametrize("words", [pytest.param(words, id=name) for name, words in commands(*SHELL, "text")])
def test_command_lines_are_command_lines(words):
    parsed(words)


@pytest.mark.parametrize("text", of("yaml"))
def test_yaml_is_yaml_and_what_it_starts_is_a_command(text):
    made = yaml.safe_load(text)
    assert {"apiVersion", "kind", "metadata", "spec"} <= set(made)
    lines = re.findall(r"phaselens (?:run|work) [^'\n]+", text)
    assert len(lines) == 1
    parsed(shlex.split(lines[0].replace("$JOB_COMPLETION_INDEX", "3"))[1:])


@pytest.mark.parametrize("text", [p for p in of("bash") if "SBATCH" in str(p.values)])
def test_scripts_of_a_queue_are_shell(text):
    assert subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True).stderr == ""
    assert text.startswith("#!/bin/bash\n#SBATCH ")


FILLED = {"DIR": "study", "demo": "study", "DIR2": "again", "my-study.toml": "mine.toml", "q.jsonl": "my-prompts.jsonl"}


@pytest.mark.slow
def test_commands_of_the_pages_are_carried_out(place, monkeypatch, capsys):
    monkeypatch.chdir(place[0])
    Path("mine.toml").write_text(
        (ROOT / "examples" / "mine.toml").read_text().replace("organism:default", "organism:llama-512")
    )
    assert call(["run", "organisms", "--quick", "--out", "study"]) == 0
    done = 0
    for name, words in commands(*SHELL):
        line = " ".join(words)
        if line.startswith(ELSEWHERE + LONG) or "PRESET" in line or not words:
            continue
        words = [f"out{done}" if word == "out" else FILLED.get(word, word) for word in words]
        assert call(words) in (0, 1 if line == "doctor" else 0), name
        done += 1
    assert done >= 6
