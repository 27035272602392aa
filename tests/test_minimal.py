"""With NumPy and SciPy alone the statistics work; with pyarrow and pydantic results are read and judged."""

import subprocess
import sys

import pytest

BLOCK = """
import importlib, pkgutil, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by the test)", name=name)

sys.meta_path.insert(0, Absent())
for package in {packages!r}:
    module = importlib.import_module(package)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), package + "."):
        importlib.import_module(found.name)
{then}
"""
MODELS = ("torch", "transformers", "tokenizers", "safetensors", "huggingface_hub")
HEAVY = (*MODELS, "sklearn", "pandas", "polars", "xarray", "statsmodels", "jinja2", "typer", "rich", "jaxtyping")
STATISTICS = """
import numpy as np
from phaselens.statistics.unit_effects import mean_effect
from phaselens.statistics.separation import separation
from phaselens.statistics.resampling import bootstrap_weights
assert mean_effect(np.array([1.0, 2.0, 3.0])).value == 2.0
assert bootstrap_weights(4, np.random.default_rng(0), n_boot=3).sum() == 12
"""
JUDGE = """
import phaselens.trace.schema, phaselens.trace.store, phaselens.trace.transcripts
from phaselens import read_trace
from phaselens.claims import REGISTER, lock
from phaselens.claims.explain import explain
assert len(lock(REGISTER)) == 64 and all(explain(c, REGISTER) for c in REGISTER)
"""


def run(absent, packages, then):
    code = BLOCK.format(absent=absent, packages=packages, then=then)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("absent", "packages", "then"),
    [
        ((*HEAVY, "pyarrow", "pydantic", "yaml"), ("phaselens.statistics",), STATISTICS),
        (HEAVY, ("phaselens.claims",), JUDGE),
    ],
    ids=["statistics", "claims and the store"],
)
def test_floors_need_no_more_than_they_say(absent, packages, then):
    done = run(absent, packages, then)
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_block_blocks():
    assert run(("numpy",), ("phaselens.statistics",), "").returncode != 0
