"""`kill -9` at any moment: what is left is whole, and going on gives the bytes of a run that was never killed."""

import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from phaselens.report import render
from phaselens.studies import run_study
from phaselens.studies.declaration import read_study
from tiny_panel import save_study


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a study folder but the diary."""
    paths = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "log.jsonl")
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def finished_files(folder: Path) -> dict[str, bytes]:
    """The same without the lock and temporary files that a killed process leaves."""
    return {name: data for name, data in files(folder).items() if not Path(name).name.startswith(".")}


def carry_out(study: Path, out: Path) -> None:
    """What `phaselens run` does."""
    render(run_study(read_study(study), out).folder)


def forked(study: Path, out: Path) -> int:
    """Carry the study out in a copy of this process (which has the libraries already); return its process id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside the threads of the test runner
        pid = os.fork()
    if pid == 0:
        try:
            carry_out(study, out)
        finally:
            os._exit(0)
    return pid


def command(study: Path, out: Path) -> list[str]:
    return [sys.executable, "-c", "from phaselens.cli import main; main()", "run", str(study), "--out", str(out)]


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A study of one tiny model without a twin."""
    return save_study(tmp_path_factory.mktemp("kill"), families=("llama",), twins=False)


@pytest.fixture(scope="module")
def whole(study, tmp_path_factory) -> Path:
    """The folder of that study, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "out"
    carry_out(study, out)
    return out


@pytest.mark.parametrize("place", ["transcripts/*.jsonl", "traces/*.parquet"])
def test_killed_in_mid_run_it_goes_on_to_the_same_bytes(study, whole, tmp_path, place):
    out = tmp_path / "out"
    pid = forked(study, out)
    deadline = time.monotonic() + 60
    while len(list(out.glob(place))) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    left = finished_files(out)
    assert 2 <= len(list(out.glob(place))) < len(list(whole.glob(place)))
    assert all(files(whole)[name] == data for name, data in left.items())
    carry_out(study, out)
    assert files(out) == files(whole)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_a_killed_command_goes_on_to_the_same_bytes(study, whole, tmp_path, attempt):
    """The command itself, killed up to three times, each at a random moment between its first file and its end."""
    rng, out = random.Random(attempt), tmp_path / "out"
    for _ in range(rng.randint(1, 3)):
        process = subprocess.Popen(command(study, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / "study.toml").is_file():
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 2.5))
        process.kill()
        process.wait()
        left = finished_files(out)
        assert all(files(whole)[name] == data for name, data in left.items())
    done = subprocess.run(command(study, out), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert files(out) == files(whole)
