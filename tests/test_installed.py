"""What a user gets who installs the wheel: in fresh environments that hold what it declares to need, and no more.

The distributions come as links from the environment of the tests, so nothing is downloaded: `make test-wheel` installs
the wheel beside the core dependencies, `make test-minimal` runs the tests of `statistics` with NumPy, SciPy and pytest.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from phaselens import __version__

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "phaselens"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
LIMIT = 100e6  # bytes: what the package index takes
pytestmark = pytest.mark.slow

STUDY = """
name = "first"
models = ["organism:llama-512", "organism:gpt2-512"]
prompts_per_category = 2
calibration_prompts = 4
max_new_tokens = 12
bootstraps = 100
experiments = ["regimes"]
[[arms]]
temperature = 0.7
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    place = tmp_path_factory.mktemp("wheel")
    command = (*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(place), str(ROOT))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (built,) = place.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def minimal(wheel, tmp_path_factory):
    return fresh(tmp_path_factory.mktemp("minimal"), wheel, "numpy", "scipy", "pytest")


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    declared = [Requirement(line) for line in importlib.metadata.requires("phaselens")]
    core = [one.name for one in declared if one.marker is None or one.marker.evaluate({"extra": ""})]
    return fresh(tmp_path_factory.mktemp("installed"), wheel, *core)


def fresh(place: Path, wheel: Path, *wanted: str) -> Path:
    """A new environment with the wheel, the wanted distributions and what those require; return its scripts."""
    venv.create(place, with_pip=False)
    paths = sysconfig.get_paths("venv", {"base": str(place), "platbase": str(place)})
    site = Path(paths["purelib"])
    for name in closure(wanted):
        for file in importlib.metadata.distribution(name).files or ():
            top, target = file.parts[0], site / file.parts[0]
            if top not in ("..", "__pycache__") and not target.is_symlink():
                target.symlink_to(Path(file.locate()).parents[len(file.parts) - 1] / top)
    scripts = Path(paths["scripts"])
    command = (*PIP, "--python", str(scripts / "python"), "install", "--no-deps", "--no-index", str(wheel))
    subprocess.run(command, check=True)
    return scripts


def closure(wanted) -> set[str]:
    """The wanted distributions, and what they require on this machine without any extra."""
    found, left = set(), [Requirement(name) for name in wanted]
    while left:
        one = left.pop()
        if one.name.lower() in found:
            continue
        found.add(one.name.lower())
        for extra in ("", *one.extras):
            needs = [Requirement(line) for line in importlib.metadata.requires(one.name) or ()]
            left += [r for r in needs if r.marker is None or r.marker.evaluate({"extra": extra})]
    return found


def said(scripts: Path, *command: str, cwd: Path, code: int = 0) -> str:
    """What a command of the fresh environment prints; it must end with this exit code."""
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONHOME")}
    call = [str(scripts / command[0]), *command[1:]]
    done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=cwd, env=clean)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout if code == 0 else done.stderr


class TestMinimal:
    """Statistics with NumPy and SciPy alone."""

    def test_there_is_no_model_library(self, minimal, tmp_path):
        for name in ("torch", "transformers", "sklearn", "pyarrow", "pydantic", "hypothesis"):
            error = said(minimal, "python", "-c", f"import {name}", cwd=tmp_path, code=1)
            assert f"No module named '{name}'" in error

    def test_the_tests_of_statistics_pass(self, minimal, tmp_path):
        tests = sorted((ROOT / "tests" / "statistics").glob("test_*.py"))
        alone = [str(f) for f in tests if "sklearn" not in f.read_text()]  # scikit-learn is the oracle of two modules
        assert len(alone) >= len(tests) - 2
        options = ("--noconftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-m", "not slow")
        lines = said(minimal, "python", "-m", "pytest", *options, *alone, cwd=tmp_path)
        assert int(lines.split(" passed")[0].split()[-1]) >= 90, lines[-2000:]

    def test_everything_in_it_imports(self, minimal, tmp_path):
        script = (
            "import pkgutil, importlib, phaselens.statistics as s; "
            "print(len([importlib.import_module(m.name) for m in pkgutil.iter_modules(s.__path__, s.__name__ + '.')]))"
        )
        assert int(said(minimal, "python", "-c", script, cwd=tmp_path)) > 10


class TestWheel:
    """The wheel beside the core dependencies: no extra, no tool of the developer."""

    def test_it_holds_the_package_with_its_weights_and_nothing_beside(self, wheel):
        inside = {i.filename for i in zipfile.ZipFile(wheel).infolist()}
        tracked = subprocess.run(
            ["git", "ls-files", "src/phaselens"], cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout.split()
        there = [f for f in SOURCE.rglob("*") if f.is_file() and "__pycache__" not in f.parts]
        wanted = [str(f.relative_to(SOURCE.parent)) for f in there if not tracked or f"src/{_under(f)}" in tracked]
        assert len(wanted) > 250 and set(wanted) <= inside
        assert sum(name.endswith("model.safetensors") for name in inside) >= 8
        assert {name.split("/")[0] for name in inside} == {"phaselens", f"phaselens-{__version__}.dist-info"}
        assert wheel.stat().st_size < LIMIT

    def test_it_names_its_extras(self, wheel):
        meta = zipfile.ZipFile(wheel).read(f"phaselens-{__version__}.dist-info/METADATA").decode()
        extras = {line.split(": ")[1] for line in meta.splitlines() if line.startswith("Provides-Extra: ")}
        assert {"probes", "report", "watch", "docs", "dev", "tables", "query", "stats"} <= extras

    def test_nothing_of_the_developer_is_there(self, installed, tmp_path):
        for name in ("pytest", "hypothesis", "polars", "statsmodels", "starlette", "resvg_py", "mkdocs"):
            assert "No module named" in said(installed, "python", "-c", f"import {name}", cwd=tmp_path, code=1)
        where = said(installed, "python", "-c", "import phaselens; print(phaselens.__file__)", cwd=tmp_path)
        assert str(ROOT) not in where

    def test_the_bare_command_says_what_to_do_next(self, installed, tmp_path):
        assert "phaselens run --quick --out demo" in said(installed, "phaselens", cwd=tmp_path)

    def test_the_bundled_models_are_there(self, installed, tmp_path):
        rows = json.loads(said(installed, "phaselens", "organisms", "list", "--json", cwd=tmp_path))
        assert "llama-512" in json.dumps(rows)
        found = json.loads(said(installed, "phaselens", "doctor", "--json", cwd=tmp_path))
        assert found["fine"], [c for c in found["checks"] if c["fine"] is False]

    def test_a_study_runs_and_every_missing_extra_is_named(self, installed, tmp_path):
        (tmp_path / "first.toml").write_text(STUDY)
        out = json.loads(said(installed, "phaselens", "run", "first.toml", "--out", "first", "--json", cwd=tmp_path))
        assert Path(tmp_path, out["report"]).stat().st_size > 100_000
        png = said(installed, "phaselens", "report", "first", "--png", cwd=tmp_path, code=2)
        assert "pip install 'phaselens[report]'" in png
        live = said(installed, "phaselens", "watch", "organism:llama-512", cwd=tmp_path, code=2)
        assert "pip install 'phaselens[watch]'" in live
        unit = next(Path(tmp_path, "first", "traces").glob("*.runs.parquet")).name.removesuffix(".runs.parquet")
        read = f"import phaselens; phaselens.read_trace('first/traces', '{unit}')"
        said(installed, "python", "-c", f"{read}.to_pandas('steps')", cwd=tmp_path)
        polars = said(installed, "python", "-c", f"{read}.to_polars('steps')", cwd=tmp_path, code=1)
        assert "pip install 'phaselens[tables]'" in polars


def _under(file: Path) -> str:
    """The path of a file of the package below `src`."""
    return file.relative_to(SOURCE.parent).as_posix()
