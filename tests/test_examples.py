"""The examples run as they stand."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.capture.zoo import network

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


ON_A_MODEL = sorted(p.name for p in EXAMPLES.glob("*.py") if p.name != "cloze_battery.py")


@pytest.mark.parametrize("script", ON_A_MODEL)
def test_example(saved, script):
    arguments = [str(saved), str(saved / "said.jsonl")] if script.startswith("foreign") else [str(saved)]
    done = subprocess.run([sys.executable, str(EXAMPLES / script), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
